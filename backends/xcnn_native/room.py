"""Where the arrays of what is recorded lie: each is a piece of one room, at a place that nobody has while it is in use.

In use is a piece from the first call that is given it to the last, not for as long as Python keeps its array: what the
last layers keep for their gradients makes room for what the first layers give.
"""

from __future__ import annotations

import weakref
from bisect import insort
from collections.abc import Iterable
from dataclasses import dataclass
from math import inf, prod
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import DTypeLike
from xcnn_host.buffers import SMALLEST, recycler

from xcnn.core.types import Array, Shape
from xcnn_native.library import address

LINE = 64
"""Bytes of a cache line, with which pieces begin."""
APART = 9 * LINE
"""Bytes that part two pieces, so that those of a power of two do not begin alike within a page."""


@dataclass(slots=True, eq=False)
class Piece:
    """Memory of an array.

    Attributes
    ----------
    start, size
        where it begins while it is recorded, and its bytes
    birth, death
        how many calls came before the first that is given it, and before all is done with it
    base, at
        what it is told from in a replay, and how many bytes from there; without a base, from the room
    """

    start: int
    size: int
    birth: float = inf
    death: float = 0
    base: int | None = None
    at: int = 0

    def holds(self, place: int) -> bool:
        """Whether this address lies within it."""
        return self.start <= place < self.start + self.size

    def use(self, call: int) -> None:
        """A call, of this number, is given it."""
        self.birth, self.death = min(self.birth, call), max(self.death, call + 1)


def memory(size: int) -> tuple[Array, int]:
    """So many bytes, and which of them is the first of a line of the cache."""
    made = recycler.taken(size if size >= SMALLEST else size + LINE)  # large ones begin with one
    return made, -address(made) % LINE


class Room:
    """Gives arrays, and knows each for as long as somebody has it."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.live: dict[int, Piece] = {}  # by where their memory begins
        self.watching: dict[int, weakref.ref[Any]] = {}

    def empty(self, shape: Shape, dtype: DTypeLike) -> Array:
        """An array of any content."""
        kind = np.dtype(dtype)
        size = prod(shape) * kind.itemsize
        taken, first = memory(size)
        # an array of its own, which views keep alive: of a plain slice they would keep only what is below it
        own = np.frombuffer(memoryview(taken), np.uint8)
        start = address(own) + first
        piece = self.live[start] = Piece(start, size)
        self.pieces.append(piece)
        self.watching[start] = weakref.ref(own, lambda _: self.gone(start))
        return own[first : first + size].view(kind).reshape(shape)

    def gone(self, start: int) -> None:
        """Nobody has it any more."""
        self.live.pop(start, None)

    def piece(self, place: int) -> Piece | None:
        """The living piece that holds an address."""
        return self.live.get(place) or next((piece for piece in self.live.values() if piece.holds(place)), None)


def side_by_side(pieces: Iterable[Piece]) -> int:
    """Give each piece a place behind the one before; the bytes of all."""
    size = 0
    for piece in pieces:
        piece.at, size = size, -(-(size + piece.size) // LINE) * LINE
    return size


def laid_out(pieces: Iterable[Piece]) -> int:
    """Give each piece the lowest place that nobody has while it is in use, the largest first; the bytes of all."""
    placed: list[Piece] = []  # by their places
    for piece in sorted(pieces, key=lambda piece: -piece.size):
        piece.at = 0
        for other in placed:
            if other.death <= piece.birth or piece.death <= other.birth:
                continue
            if piece.at + piece.size + APART <= other.at:
                break
            piece.at = max(piece.at, -(-(other.at + other.size + APART) // LINE) * LINE)
        insort(placed, piece, key=attrgetter("at"))
    return max((piece.at + piece.size for piece in placed), default=0)


def in_room(pieces: Iterable[Piece]) -> int:
    """Lay out those that are used, and told from no other base; the bytes of all."""
    return laid_out(piece for piece in pieces if piece.base is None and piece.death)
