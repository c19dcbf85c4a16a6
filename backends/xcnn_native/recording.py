"""Predictions recorded: the kernels that one calls, made again for other samples by a single call of the library.

While a thread records, it is noted which kernels it calls, and each array of the engine's is a piece of a room that the
recording lays out: where one is gone, the next may lie. Every address that a kernel is given must lie
within the samples, within such a piece, or within an array that stays: a weight, or what `constant` made of weights
alone. Any other is of something that NumPy has computed, and then there is no recording.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from math import prod
from threading import get_ident
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike
from xcnn_host.buffers import elsewhere, empty

from xcnn.core.types import Array, Shape
from xcnn_native.library import KINDS, SIGNATURES, Address, Held, address, library, listeners

MOST = 12
"""Arguments of a kernel at most, as in kernels/recording.c."""
PLAIN, DOUBLE, TABLE, FIRST = range(4)
"""Kinds of arguments, as there."""
X, Y, ROOM = range(FIRST, FIRST + 3)
"""The bases that addresses are told from."""
LINE = 64
"""Bytes of a cache line, with which pieces begin."""
APART = 9 * LINE
"""Bytes that part two pieces, so that those of a power of two do not begin alike within a page."""


class Value(ctypes.Union):
    _fields_ = [("whole", ctypes.c_ssize_t), ("number", ctypes.c_double)]


class Argument(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_ssize_t), ("count", ctypes.c_ssize_t), ("value", Value)]


class Call(ctypes.Structure):
    _fields_ = [("kernel", ctypes.c_ssize_t), ("arguments", Argument * MOST)]


@cache
def recordable() -> dict[str, int]:
    """The kernels that can be recorded, with their numbers."""
    names = library().recordable_f32().decode().split()  # type: ignore[union-attr]
    return {name: n for n, name in enumerate(names)}


class Piece(NamedTuple):
    """Memory of an array: where it begins, its bytes, and where it lies in the room."""

    start: int
    size: int
    at: int

    def holds(self, place: int) -> bool:
        """Whether this address lies within it."""
        return self.start <= place < self.start + self.size


class Room:
    """Where pieces lie, each at the lowest place that nobody has while it lives."""

    def __init__(self) -> None:
        self.size = 0
        self.live: dict[int, Piece] = {}  # by where their memory begins
        self.watching: dict[int, weakref.ref[Any]] = {}

    def empty(self, shape: Shape, dtype: DTypeLike) -> Array:
        """An array of any content, whose piece is free again when it is gone."""
        kind = np.dtype(dtype)
        size = prod(shape) * kind.itemsize
        memory = np.empty(size + LINE, np.uint8)
        first = -address(memory) % LINE
        start = address(memory) + first
        self.live[start] = Piece(start, size, self.place(size))
        self.watching[start] = weakref.ref(memory, lambda _: self.live.pop(start, None))
        return memory[first : first + size].view(kind).reshape(shape)

    def place(self, size: int) -> int:
        """The lowest place for so many bytes."""
        at = 0
        for piece in sorted(self.live.values(), key=lambda piece: piece.at):
            if at + size + APART <= piece.at:
                break
            at = -(-(piece.at + piece.size + APART) // LINE) * LINE
        self.size = max(self.size, at + size)
        return at

    def piece(self, place: int) -> Piece | None:
        """The piece that holds an address."""
        return self.live.get(place) or next((piece for piece in self.live.values() if piece.holds(place)), None)


@dataclass(frozen=True)
class Within:
    """An address as a distance from where a piece begins; or from where the samples begin, which are no piece."""

    piece: Piece | None
    distance: int


class Recorder:
    """Notes what a thread calls while it computes y of x with weights that stay.

    Attributes
    ----------
    why
        why there can't be a recording; empty if there can
    """

    def __init__(self, x: Array, weights: Iterable[Array]) -> None:
        self.x, self.room, self.why, self.kind = x, Room(), "", KINDS[x.dtype.char]
        self.samples = Piece(address(x), x.nbytes, 0)
        self.calls: list[tuple[str, list[Any]]] = []
        self.kept: list[Any] = []
        self.constants: dict[int, Piece] = {}
        for weight in weights:
            self.keep(weight)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """A block whose calls are noted."""
        me = get_ident()
        before = listeners.get(me), elsewhere.get(me)
        listeners[me], elsewhere[me] = self, self.room.empty
        try:
            yield
        finally:
            put_back(me, *before)

    def keep(self, array: Array) -> None:
        """An array that stays for as long as the recording."""
        self.kept.append(array)
        self.constants[address(array)] = Piece(address(array), array.nbytes, 0)

    def note(self, name: str, kind: str, arguments: tuple[Any, ...]) -> None:
        """A call that is about to be made."""
        if name not in recordable() or kind != self.kind:
            self.why = self.why or f"it calls {name}_{kind}."
            return
        self.calls.append((name, [self.told(*one) for one in zip(arguments, SIGNATURES[name][2], strict=True)]))

    def told(self, given: Any, kind: Any) -> Any:
        """An argument as it is kept: a number, a Within, or a list of these."""
        if kind is not Address or given is None:
            return given or 0
        if isinstance(given, ctypes.Array):
            return [self.told(each, Address) for each in given]
        return given if isinstance(given, Held) else self.found(given)

    def found(self, place: int) -> Within | int:
        """What an address lies in."""
        if self.samples.holds(place):
            return Within(None, place - self.samples.start)
        if piece := self.room.piece(place):
            return Within(piece, place - piece.start)
        if place not in self.constants and not any(piece.holds(place) for piece in self.constants.values()):
            self.why = self.why or "it computes with NumPy in between."
        return place

    def made(self, y: Array) -> Recording | None:
        """The recording of what gave y; None where there is none."""
        piece = self.room.piece(address(y)) if y.size else None
        if piece is None:
            self.why = self.why or "its result is no array of the engine's."
        return None if piece is None or self.why else Recording(self, y, piece)


def put_back(me: int, listener: Any, give: Any) -> None:
    """Who listens to a thread, and who gives it arrays: as it was."""
    for table, value in ((listeners, listener), (elsewhere, give)):
        if value is None:
            table.pop(me, None)
        else:
            table[me] = value


def constant(make: Callable[[], Array]) -> Array:
    """What a function computes of weights alone: where a thread records, that is kept, and not computed again."""
    if not listeners:
        return make()
    me = get_ident()
    recorder, give = listeners.pop(me, None), elsewhere.pop(me, None)
    try:
        made = make()
    finally:
        put_back(me, recorder, give)
    if isinstance(recorder, Recorder):
        recorder.keep(made)
    return made


@dataclass(frozen=True, eq=False)
class Layout:
    """A result: its type, its shape, and how it lies in its memory."""

    dtype: Any
    shape: Shape
    strides: Shape
    first: int
    size: int


@dataclass
class Lowering:
    """Calls as the library takes them.

    Attributes
    ----------
    tables
        of addresses, which arguments refer to
    """

    result: Piece
    tables: list[Any] = field(default_factory=list)

    def call(self, name: str, arguments: list[Any]) -> Call:
        """One of them."""
        return Call(recordable()[name], tuple(self.argument(each) for each in arguments))

    def argument(self, told: Any) -> Argument:
        """An argument, as it was told."""
        if isinstance(told, list):
            self.tables.append((Argument * len(told))(*map(self.argument, told)))
            return Argument(TABLE, len(told), Value(whole=ctypes.addressof(self.tables[-1])))
        if isinstance(told, float):
            return Argument(DOUBLE, 0, Value(number=told))
        if not isinstance(told, Within):
            return Argument(PLAIN, 0, Value(whole=told))
        if told.piece is None:
            return Argument(X, 0, Value(whole=told.distance))
        if told.piece is self.result:
            return Argument(Y, 0, Value(whole=told.distance))
        return Argument(ROOM, 0, Value(whole=told.piece.at + told.distance))


class Recording:
    """What a Recorder has noted, for samples like those that it saw, of which it needs no cell.

    Attributes
    ----------
    likeness
        what two recordings have in common that call the same kernels on arrays that lie alike
    """

    def __init__(self, recorder: Recorder, y: Array, result: Piece) -> None:
        lowering = Lowering(result)
        self.calls = (Call * len(recorder.calls))(*(lowering.call(*call) for call in recorder.calls))
        self.size = recorder.room.size + LINE
        self.result = Layout(y.dtype, y.shape, y.strides, address(y) - result.start, result.size)
        self.kept = recorder.kept, recorder.calls, lowering.tables
        self.at, self.count = ctypes.addressof(self.calls), len(self.calls)
        self.replay = getattr(library(), f"replay_{recorder.kind}")
        self.bases = ctypes.c_void_p * 3
        self.likeness = alike(recorder)

    def __call__(self, x: Array) -> Array:
        """Y."""
        y, room, result = empty((self.result.size,), np.uint8), empty((self.size,), np.uint8), self.result
        start = address(room)
        if self.replay(self.at, self.count, self.bases(address(x), address(y), start + -start % LINE)) < self.count:
            raise MemoryError("there is no memory for the lines that a kernel needs.")
        return np.ndarray(result.shape, result.dtype, y, result.first, result.strides)


def alike(recorder: Recorder) -> tuple[Any, ...]:
    """A recorder's calls without the addresses of what stays, in which those of other weights differ."""

    def seen(told: Any, kind: Any) -> Any:
        if isinstance(told, list):
            return tuple(seen(each, Address) for each in told)
        if isinstance(told, Within):
            return told.piece and told.piece.at, told.distance
        return "constant" if kind is Address and told and not isinstance(told, Held) else told

    return tuple(
        (name, *(seen(told, kind) for told, kind in zip(arguments, SIGNATURES[name][2], strict=True)))
        for name, arguments in recorder.calls
    )
