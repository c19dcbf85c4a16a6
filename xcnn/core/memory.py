"""How much memory arrays on the host take while something runs, and how much there is."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

Meter: TypeAlias = Callable[[], int]
"""Gives the most bytes that were alive at a time since it was last asked, beyond those at the beginning."""


@contextmanager
def traced() -> Iterator[Meter]:
    """A block in which what Python and NumPy allocate is counted, that of all threads.

    A trace of the user's goes on, but its peak begins anew.
    """
    mine = not tracemalloc.is_tracing()
    if mine:
        tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]

    def peak() -> int:
        most = tracemalloc.get_traced_memory()[1] - before
        tracemalloc.reset_peak()
        return most

    try:
        tracemalloc.reset_peak()
        yield peak
    finally:
        if mine:
            tracemalloc.stop()


def free() -> int | None:
    """Bytes that this process may still take of the host's memory; None where the system does not tell.

    On Linux what programs can get without swapping, and no more than the process's control group lets it have;
    elsewhere pages that nobody uses.
    """
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        there = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        try:
            return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (AttributeError, OSError, ValueError):  # Windows and macOS have no such number
            return None
    return min((there, *left_of_group(Path("/sys/fs/cgroup"))))


def left_of_group(root: Path) -> Iterator[int]:
    """What a container's limit leaves, if it has one: the limit of its own control group, which it sees as the root."""
    for limit, used in (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")):
        try:
            yield max(int((root / limit).read_text()) - int((root / used).read_text()), 0)
        except (OSError, ValueError):  # no such group, or "max"
            continue
