"""Memory that the ranks of a machine share: without a name in any file system, so that nothing of it outlives them."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from contextlib import suppress
from mmap import mmap
from pathlib import Path
from typing import Any

import numpy as np

from xcnn.training.state import HostArray

Told = tuple[str, tuple[int, int]]
"""Where memory can be opened, and what the system numbers it by."""


def shared_memory(comm: Any, size: int) -> mmap | None:
    """So many bytes, zeros at first, which all processes of a communicator share, who all ask.

    None where they are on several machines or do not see each other's files in /proc, where the system has no memory
    without a name (`memfd_create`), or not so much of it: it is taken at once, since who writes to memory that then is
    not there is killed.

    Parameters
    ----------
    comm
        a communicator of mpi4py's
    size
        above 0
    """
    file, told = made(size) if comm.Get_rank() == 0 else (None, None)
    try:
        found = mapped(comm.bcast(told), size)
        return found if all(comm.allgather(found is not None)) else None
    finally:
        if file is not None:
            os.close(file)


def made(size: int) -> tuple[int | None, Told | None]:
    """A file of memory, open here, and how others find it."""
    create = getattr(os, "memfd_create", None)
    if create is None:
        return None, None
    try:
        file = create("xcnn")
    except OSError:
        return None, None
    try:
        os.posix_fallocate(file, 0, size)
    except OSError:
        os.close(file)
        return None, None
    return file, (f"/proc/{os.getpid()}/fd/{file}", number(file))


def mapped(told: Told | None, size: int) -> mmap | None:
    """The memory that was told of, unless what is found there is another file."""
    if told is None:
        return None
    path, expected = told
    with suppress(OSError, ValueError):
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            return mmap(file, size) if number(file) == expected else None
        finally:
            os.close(file)
    return None


def unname(comm: Any) -> None:
    """Take the name from memory that MPICH shares among a machine's processes, which outlived a job that was killed.

    All ask, and by then all have it: none opens it once more. At its end MPICH finds no such file, and says nothing.
    """
    comm.Barrier()
    for path in named():
        with suppress(OSError):  # another rank was first
            os.unlink(path)


def named() -> list[str]:
    """The files of MPICH's own shared memory that this process has, by Linux's account of it."""
    try:
        fields = [line.split(maxsplit=5) for line in Path("/proc/self/maps").read_text().splitlines()]
    except OSError:
        return []
    paths = {each[5] for each in fields if len(each) > 5}
    return sorted(path for path in paths if path.startswith(MPICH) and Path(path).exists())


MPICH = "/dev/shm/mpich_shm_"


def number(file: int) -> tuple[int, int]:
    """What the system numbers an open file by."""
    found = os.fstat(file)
    return found.st_dev, found.st_ino


class Blocks:
    """Memory of one size, block after block: one that nobody holds any more, on any rank, is used again.

    Parameters
    ----------
    comm
        a communicator of mpi4py's, whose processes share the blocks

    Notes
    -----
    Arrays on a block keep it as their base: so a state of a training stays what it is for as long as somebody has it,
    as one on memory of its own does. Each rank tells which blocks are `free` there, and all take the same.
    """

    def __init__(self, comm: Any) -> None:
        self.comm: Any = comm
        self.begin(0)

    def begin(self, size: int) -> None:
        """From now on blocks have so many bytes."""
        self.size: int = size
        self.blocks: list[tuple[mmap, Callable[[], object]]] = []
        self.refused: bool = False
        """Whether there was no memory for another."""

    def free(self) -> int:
        """A bit for each block that nobody holds here."""
        return sum(1 << n for n, (_, held) in enumerate(self.blocks) if held() is None)

    def taken(self, size: int, free: int) -> HostArray | None:
        """The bytes of a block that is free on all ranks, who all ask and tell the same; None where there is none."""
        if size != self.size:
            self.begin(size)
            free = 0
        number = (free & -free).bit_length() - 1 if free else len(self.blocks)
        if number == len(self.blocks):
            memory = None if self.refused or number == MOST else shared_memory(self.comm, size)
            if memory is None:
                self.refused = True
                return None
            self.blocks.append((memory, nobody))
        memory, _ = self.blocks[number]
        array = np.frombuffer(memory, np.uint8)
        self.blocks[number] = memory, weakref.ref(array)
        return array


def nobody() -> None:
    """Who holds a new block."""


MOST = 50
"""Blocks at most: the bits of so many are exact in a double."""
