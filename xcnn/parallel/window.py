"""Memory that the ranks of a machine share, through which long arrays are summed: each adds its part of a piece."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from itertools import zip_longest
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xcnn.parallel.parts import cuts
from xcnn.training.state import HostArray

PIECE = 2**19
"""Bytes of an array that are summed at a time: so many stay in a core's own cache."""
LINE = 64
"""Bytes at a multiple of which each part begins."""
SHARED_MEMORY = Path("/dev/shm")
"""Where Linux has the memory that processes share, of which a container may give little."""


class Window:
    """Sums through shared memory: of each piece a rank adds up its part, as all others have left theirs there.

    They wait for each other within MPI, which ends all where one of them ends.

    Parameters
    ----------
    comm
        a communicator of mpi4py's, whose processes are on one machine

    Notes
    -----
    Parts are added in the order of ranks, by one of them: so the sums are the same bits on all ranks, and in each run.
    While a rank adds up one piece, it leaves its parts of the next and takes the sums of the one before: those lie in
    the other of two slots, or in a part that nobody else writes. So all wait once for each piece.
    """

    def __init__(self, comm: Any) -> None:
        from mpi4py import MPI

        shape = 2, comm.Get_size(), width(comm.Get_size())
        self.comm: Any = comm
        self.rank: int = comm.Get_rank()
        self.size: int = comm.Get_size()
        self.memory: Any = MPI.Win.Allocate_shared(prod(shape), 1, comm=comm)
        self.memory.Lock_all()
        there: list[Any] = [self.memory.Shared_query(rank)[0] for rank in range(self.size)]
        self.bytes: list[HostArray] = [np.frombuffer(each, np.uint8, prod(shape)).reshape(shape) for each in there]
        """(2, parts, bytes) of each rank: in its own part what that comes to, in the others what it adds to them."""
        self.known: dict[Any, tuple[Turn, Turn]] = {}

    def total(self, pieces: Sequence[HostArray]) -> None:
        """Put sums over all ranks in the place of arrays of one axis, of PIECE bytes at most."""
        turns = [(self.turns(piece)[n % 2], piece) for n, piece in enumerate(pieces)]
        before: tuple[Turn, HostArray] | None = None
        for turn, piece in turns[:1]:
            turn.leave(piece)
        for (turn, piece), after in zip_longest(turns, turns[1:]):
            self.wait()
            turn.add(piece)
            if after:
                after[0].leave(after[1])
            if before:
                before[0].take(before[1])
            before = turn, piece
        if before:
            self.wait()
            before[0].take(before[1])

    def wait(self) -> None:
        """Until all are here, and see what they have written."""
        self.memory.Sync()
        self.comm.Barrier()
        self.memory.Sync()

    def turns(self, piece: HostArray) -> tuple[Turn, Turn]:
        """How pieces of this size and type go, by either slot."""
        found = self.known.get((piece.size, piece.dtype))
        if found is None:
            parts = cuts(piece.size, self.size)
            first, second = (self.turn([slots[n].view(piece.dtype) for slots in self.bytes], parts) for n in range(2))
            found = self.known[piece.size, piece.dtype] = first, second
        return found

    def turn(self, slots: list[HostArray], parts: list[tuple[int, int]]) -> Turn:
        """By the slot of each rank, (parts, cells)."""
        cells = [(slice(first, end), end - first) for first, end in parts]
        others = [(n, here, count) for n, (here, count) in enumerate(cells) if n != self.rank]
        here, count = cells[self.rank]
        return Turn(
            self.rank,
            here,
            [slot[self.rank, :count] for slot in slots],
            [(slots[self.rank][n, :count], here) for n, here, count in others],
            [(slots[n][n, :count], here) for n, here, count in others],
        )


class Turn(NamedTuple):
    """How a piece goes through a slot: where its parts lie in it and in shared memory."""

    rank: int
    own: slice
    """This rank's part of a piece."""
    summands: list[HostArray]
    """Where each rank leaves its own for it, and this one the sum."""
    left: list[tuple[HostArray, slice]]
    """Where this rank leaves its own for the others."""
    sums: list[tuple[HostArray, slice]]
    """Where the others' sums are."""

    def leave(self, piece: HostArray) -> None:
        """Write what the others add up."""
        for there, part in self.left:
            there[:] = piece[part]

    def add(self, piece: HostArray) -> None:
        """Add up this rank's part, in the order of ranks."""
        own, total = piece[self.own], self.summands[self.rank]
        first, second, *more = (own if n == self.rank else each for n, each in enumerate(self.summands))
        np.add(first, second, out=total)
        for each in more:
            total += each
        own[:] = total

    def take(self, piece: HostArray) -> None:
        """Read what the others have added up."""
        for there, part in self.sums:
            piece[part] = there


def width(size: int) -> int:
    """Bytes of a part of a piece, by how many ranks there are."""
    return (-(-PIECE // (size * LINE)) + 1) * LINE


def window(comm: Any) -> Window | None:
    """One for these processes, which all ask; None where they are on several machines, or have no room for it."""
    from mpi4py import MPI

    here = comm.Split_type(MPI.COMM_TYPE_SHARED)
    size = here.Get_size()
    here.Free()
    if not all(comm.allgather(size == comm.Get_size() > 1 and has_room(2 * size * size * width(size)))):
        return None
    try:
        made = Window(comm)
    except MPI.Exception:
        made = None
    return made if all(comm.allgather(made is not None)) else None


def has_room(size: int) -> bool:
    """Whether so many bytes may be shared: where there are fewer, who writes there is killed."""
    return not SHARED_MEMORY.is_dir() or shutil.disk_usage(SHARED_MEMORY).free > 2 * size
