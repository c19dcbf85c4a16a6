"""Memory that the ranks of a machine share, through which long arrays are summed: each adds its part of a piece."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from math import prod
from mmap import mmap
from typing import Any, NamedTuple

import numpy as np

from xcnn.core.types import Shape
from xcnn.parallel.memory import shared_memory
from xcnn.parallel.parts import cuts
from xcnn.training.state import HostArray

PIECE = 2**19
"""Bytes of an array that are summed at a time: so many stay in a core's own cache."""
LINE = 64
"""Bytes at a multiple of which each part begins."""
SLOTS = 2


class Window:
    """Sums through shared memory: of each array a rank adds up its part, as all others have left theirs there.

    They wait for each other within MPI, which ends all where one of them ends, and after which all see what was written
    before.

    Parameters
    ----------
    comm
        a communicator of mpi4py's
    memory
        what its processes share, as `window` gives it

    Notes
    -----
    Parts are added in the order of ranks, by one of them: so the sums are the same bits on all ranks, and in each run.
    A piece of an array has some of each part. While a rank adds up its own of one, it leaves what the others add of the
    next and takes the sums of the one before: those lie in the other of two slots, or in a part that nobody else
    writes. So all wait once for each piece.
    """

    def __init__(self, comm: Any, memory: mmap) -> None:
        self.comm: Any = comm
        self.rank: int = comm.Get_rank()
        self.size: int = comm.Get_size()
        self.bytes: HostArray = np.frombuffer(memory, np.uint8).reshape(shape(self.size))
        """(ranks, slots, parts, bytes): in a rank's own part what that comes to, in others what it adds to them."""
        self.known: dict[Any, list[tuple[Turn, ...]]] = {}
        self.read: bool = False
        """Whether others may still read what this rank has left."""

    def total(self, arrays: Sequence[HostArray]) -> None:
        """Put sums over all ranks in the place of contiguous arrays of one axis."""
        self.summed(arrays, whole=True)

    def scatter(self, arrays: Sequence[HostArray]) -> None:
        """The same in this rank's part of each array alone, as `shares` has it; the rest stays as it is."""
        self.summed(arrays, whole=False)

    def summed(self, arrays: Sequence[HostArray], whole: bool) -> None:
        """Put sums in the place of this rank's parts, or of all."""
        if self.read:
            self.wait()
        pieces = self.pieces(arrays)
        before: tuple[Turn, HostArray] | None = None
        for turn, array in pieces[:1]:
            turn.leave(array)
        for (turn, array), after in zip_longest(pieces, pieces[1:]):
            self.wait()
            turn.add(array, whole)
            if after:
                after[0].leave(after[1])
            if before:
                before[0].take(before[1])
            before = (turn, array) if whole else None
        if before:
            self.wait()
            before[0].take(before[1])
        self.read = not whole

    def wait(self) -> None:
        """Until all are here."""
        self.comm.Barrier()
        self.read = False

    def pieces(self, arrays: Sequence[HostArray]) -> list[tuple[Turn, HostArray]]:
        """How each piece of arrays goes, the first by the first slot, and what it is a piece of."""
        turns = [(each, array) for array in arrays for each in self.turns(array.size, array.dtype)]
        return [(each[n % SLOTS], array) for n, (each, array) in enumerate(turns)]

    def turns(self, size: int, kind: Any) -> list[tuple[Turn, ...]]:
        """Of arrays of this size and type each piece, by either slot."""
        found = self.known.get((size, kind))
        if found is None:
            cells, parts = width(self.size) // kind.itemsize, shares(size, self.size, kind.itemsize)
            slots = [self.bytes[:, slot].view(kind) for slot in range(SLOTS)]
            found = self.known[size, kind] = []
            for first in range(0, max(end - begin for begin, end in parts), cells):
                here = [(min(begin + first, end), min(begin + first + cells, end)) for begin, end in parts]
                found.append(tuple(self.turn(slot, here) for slot in slots))
        return found

    def turn(self, slot: HostArray, parts: list[tuple[int, int]]) -> Turn:
        """By a slot, (ranks, parts, cells), of these cells of an array."""
        cells = [(slice(first, end), end - first) for first, end in parts]
        others = [(n, here, count) for n, (here, count) in enumerate(cells) if n != self.rank]
        here, count = cells[self.rank]
        return Turn(
            self.rank,
            here,
            [theirs[self.rank, :count] for theirs in slot],
            [(slot[self.rank, n, :count], here) for n, here, count in others],
            [(slot[n, n, :count], here) for n, here, count in others],
        )


class Turn(NamedTuple):
    """How a piece of an array goes through a slot: which cells they are, and where those lie in shared memory."""

    rank: int
    own: slice
    """Cells of this rank's part."""
    summands: list[HostArray]
    """Where each rank leaves its own for it, and this one the sum."""
    left: list[tuple[HostArray, slice]]
    """Where this rank leaves its own for the others."""
    sums: list[tuple[HostArray, slice]]
    """Where the others' sums are."""

    def leave(self, array: HostArray) -> None:
        """Write what the others add up."""
        for there, part in self.left:
            there[:] = array[part]

    def add(self, array: HostArray, tell: bool) -> None:
        """Add up this rank's part, in the order of ranks, and tell the others."""
        own = array[self.own]
        total = self.summands[self.rank] if tell or self.rank > 1 else own  # own is read before it is written
        first, second, *more = (own if n == self.rank else each for n, each in enumerate(self.summands))
        np.add(first, second, out=total)
        for each in more:
            total += each
        if total is not own:
            own[:] = total

    def take(self, array: HostArray) -> None:
        """Read what the others have added up."""
        for there, part in self.sums:
            array[part] = there


def shares(size: int, ranks: int, itemsize: int) -> list[tuple[int, int]]:
    """The first cell and the end of each rank's part of an array."""
    line = LINE // itemsize
    return [(min(first * line, size), min(end * line, size)) for first, end in cuts(-(-size // line), ranks)]


def width(ranks: int) -> int:
    """Bytes of a piece that are of one part, by how many ranks there are."""
    return -(-PIECE // (ranks * LINE)) * LINE


def shape(ranks: int) -> Shape:
    """(ranks, slots, parts, bytes) of what they share."""
    return ranks, SLOTS, ranks, width(ranks)


def window(comm: Any) -> Window | None:
    """One for these processes, which all ask; None where there is one of them, or no memory that they can share."""
    if comm.Get_size() == 1:
        return None
    memory = shared_memory(comm, prod(shape(comm.Get_size())))
    return None if memory is None else Window(comm, memory)
