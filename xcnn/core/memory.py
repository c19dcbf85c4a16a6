"""How much memory arrays on the host take while something runs, and how much there is."""

from __future__ import annotations

import os
import threading
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias

Request: TypeAlias = tuple[int, int]
"""A number, and the bytes of the array that was asked for by this number; -1 says that it was let go of."""


@dataclass(frozen=True)
class Round:
    """What a step takes: requests of memory that is used again, and bytes of other memory, at most.

    The arrays that a round leaves alive go at the end of the next. At the end of a trial all of its own go at once, and
    so does memory that is kept for later.
    """

    requests: Sequence[Request]
    beside: int = 0
    trial: bool = False


Held: TypeAlias = Callable[[Sequence[Round]], int]
"""held(rounds) -> the most bytes at a time, with those that a backend keeps of memory that it uses again."""


def nothing_kept(rounds: Sequence[Round]) -> int:
    """Of a backend that keeps no memory."""
    return max(each.beside for each in rounds)


class Replayed(Protocol):
    """What is known of passes that a backend records, to replay them in a memory that it lays out once.

    Attributes
    ----------
    sizes
        bytes of the arrays that lie in this memory
    copies
        bytes of the samples, and of the gradient, that a recording is tried out with, beside the batch's own
    """

    sizes: Sequence[int]
    copies: int

    def memories(self, sizes: Sequence[int]) -> Sequence[int]:
        """The bytes of a replay's memories, for arrays of these sizes; none where they are too large to be recorded."""
        ...


@dataclass
class Meter:
    """Counts, from one mark to the next, what is alive at a time, beyond what was there at the beginning.

    Parameters
    ----------
    read, reset
        bytes that are alive now, and at most since the last reset; and the reset
    held
        what says how much a backend would hold
    """

    read: Callable[[], tuple[int, int]]
    reset: Callable[[], None]
    held: Held = nothing_kept
    peaks: list[int] = field(default_factory=list)
    """The most that was alive up to each mark, without what `requests` counts."""
    requests: list[list[Request]] = field(default_factory=lambda: [[]])
    """Up to each mark, and after the last: what was asked of memory that is used again."""
    growths: dict[int, Callable[[float], float]] = field(default_factory=dict)
    """By the numbers of arrays that do not grow evenly: growth(times) -> how many times as large with so many times the
    samples."""
    passes: list[bool] = field(default_factory=list)
    """Up to each mark: whether the net computed, forward or back."""
    replayed: Replayed | None = None
    """Its passes as they are recorded, if they are."""
    left: int = 0
    """What was alive at the last mark, counted as in `peaks`."""

    def __post_init__(self) -> None:
        self.before: int = self.read()[0]
        self.reset()

    def mark(self, passes: bool = False) -> None:
        """Note what was alive since the last mark, while the net computed or something else did."""
        now, most = self.read()
        self.passes.append(passes)
        self.left = now - self.before
        self.peaks.append(most - self.before)
        self.requests.append([])
        self.reset()


class _Turns:
    """Who counts, one thread at a time."""

    def __init__(self) -> None:
        self.forget()
        if hasattr(os, "register_at_fork"):  # where processes can be forked
            os.register_at_fork(after_in_child=self.forget)

    def forget(self) -> None:
        """Nobody does."""
        self.lock = threading.RLock()


_turns = _Turns()


def alone() -> AbstractContextManager[object]:
    """A block in which no other thread counts: what counts belongs to the whole process."""
    return _turns.lock


@contextmanager
def traced() -> Iterator[None]:
    """A block, `alone`, in which tracemalloc counts what Python and NumPy allocate, in all threads.

    A trace of the user's goes on, but its peak begins anew.
    """
    with alone():
        mine = not tracemalloc.is_tracing()
        if mine:
            tracemalloc.start()
        try:
            yield
        finally:
            if mine:
                tracemalloc.stop()


@contextmanager
def metered() -> Iterator[Meter]:
    """A block in which the arrays of libraries that are made of NumPy's are counted."""
    with traced():
        yield Meter(tracemalloc.get_traced_memory, tracemalloc.reset_peak)


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
    return min((there, *left_to_group(Path("/sys/fs/cgroup"))))


def left_to_group(root: Path) -> Iterator[int]:
    """What a container's limit leaves, if it has one; there the process's control group is the root."""
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            yield max(int((root / limit).read_text()) - int((root / used).read_text()), 0)
        except (OSError, ValueError):  # no such group, or "max"
            continue
