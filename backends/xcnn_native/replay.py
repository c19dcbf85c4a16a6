"""Recordings as the library replays them: the calls of a Recorder, for other arrays than those that it was given."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from math import inf
from typing import Any, TypeAlias

import numpy as np
from xcnn_host.buffers import SMALLEST

from xcnn.core.random import Key, fold
from xcnn.core.types import Array, Shape
from xcnn_native.library import SIGNATURES, Address, Held, address, library
from xcnn_native.recording import FIRST, Aside, Lying, Recorder, Within, Word, recordable
from xcnn_native.room import Piece, in_room, memory, side_by_side

MOST = 14
"""Arguments of a kernel at most, as in kernels/recording.c."""
PLAIN, DOUBLE, TABLE = range(FIRST)
"""Kinds of arguments, as there."""


class Value(ctypes.Union):
    _fields_ = [("whole", ctypes.c_ssize_t), ("number", ctypes.c_double)]


class Argument(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_ssize_t), ("count", ctypes.c_ssize_t), ("value", Value)]


class Call(ctypes.Structure):
    _fields_ = [("kernel", ctypes.c_ssize_t), ("arguments", Argument * MOST)]


@dataclass
class Lowering:
    """Calls as the library takes them.

    Attributes
    ----------
    room
        the base of pieces that have no other
    words
        the bases of words
    tables
        of addresses, which arguments refer to
    """

    room: int
    words: dict[int, int]
    tables: list[Any] = field(default_factory=list)

    def call(self, told: tuple[str, list[Any]] | Aside) -> Call:
        """One of them; of what is computed aside one that is never made, so that all have their numbers."""
        if isinstance(told, Aside):
            return Call()
        name, arguments = told
        return Call(recordable()[name], tuple(self.argument(each) for each in arguments))

    def argument(self, told: Any) -> Argument:
        """An argument, as it was told."""
        if isinstance(told, list):
            self.tables.append((Argument * len(told))(*map(self.argument, told)))
            return Argument(TABLE, len(told), Value(whole=ctypes.addressof(self.tables[-1])))
        if isinstance(told, float):
            return Argument(DOUBLE, 0, Value(number=told))
        if isinstance(told, Word):
            return Argument(FIRST + self.words[id(told)], 0, Value(whole=0))
        if not isinstance(told, Within):
            return Argument(PLAIN, 0, Value(whole=told))
        base = self.room if told.piece.base is None else told.piece.base
        return Argument(FIRST + base, 0, Value(whole=told.piece.at + told.distance))


@dataclass(frozen=True, eq=False)
class Result:
    """An array that a replay gives: its type, its shape, and how it lies behind its base, or one that it is given."""

    dtype: Any
    shape: Shape
    strides: Shape
    first: int
    base: int


@dataclass(frozen=True, eq=False)
class Pause:
    """What is computed aside, of arrays that lie so."""

    does: Callable[..., None]
    arrays: list[Result]
    numbers: tuple[int, ...]


Segment: TypeAlias = "tuple[int, int, Pause | None]"
"""Where calls lie, how many there are, and what is computed aside behind them."""


class Recording:
    """What a Recorder has noted, for arrays like those that it was given, of which it needs no cell.

    Parameters
    ----------
    apart
        which results have memory of their own, and do not keep all other alive

    Attributes
    ----------
    size, bytes
        of the memory for what lies between, and of that for the results
    """

    def __init__(self, recorder: Recorder, results: Sequence[Array], apart: Sequence[bool]) -> None:
        self.count = count = len(recorder.given)
        places = [result_piece(recorder, y) for y in results]
        alone = (piece for piece, own in zip(places, apart, strict=True) if own and piece.base is None)
        own = list({id(piece): piece for piece in alone}.values())
        self.bytes = side_by_side(own)
        for piece in own:
            piece.base = count
        for piece in places:  # whoever has a result may keep it
            piece.death = inf
        self.size = in_room(recorder.room.pieces)
        self.paths = [(word.path, word.which) for word in recorder.words]
        words = {id(word): count + 2 + n for n, word in enumerate(recorder.words)}
        lowering = Lowering(count + 1, words)
        self.calls = (Call * len(recorder.calls))(*map(lowering.call, recorder.calls))
        self.parts = [self.segments(recorder.calls, a, b) for a, b in pairwise([0, *recorder.ends])]
        self.results = [of_result(lies(y, piece), count + 1) for y, piece in zip(results, places, strict=True)]
        self.told, self.kept = recorder.calls, (recorder.kept, lowering.tables)
        self.replay = getattr(library(), f"replay_{recorder.kind}")
        self.idle: list[Replay] = []
        self.bases = ctypes.c_void_p * (count + 2 + len(words))

    def segments(self, told: Sequence[Any], first: int, end: int) -> list[Segment]:
        """The calls of a part, from one that is computed aside to the next."""
        start, size, found = ctypes.addressof(self.calls), ctypes.sizeof(Call), list[Segment]()
        for n in range(first, end):
            if isinstance(told[n], Aside):
                does, arrays, numbers = told[n]
                pause = Pause(does, [of_result(each, self.count + 1) for each in arrays], numbers)
                found.append((start + first * size, n - first, pause))
                first = n + 1
        return [*found, (start + first * size, end - first, None)]

    @cached_property
    def likeness(self) -> tuple[Any, ...]:
        """What two recordings have in common that call the same kernels on arrays that lie alike."""
        return tuple(
            (call.does, call.numbers, *(seen(Within(*each[:2]), Address) for each in call.arrays))
            if isinstance(call, Aside)
            else (call[0], *(seen(told, kind) for told, kind in zip(call[1], SIGNATURES[call[0]][2], strict=True)))
            for call in self.told
        )

    def begin(self, given: Sequence[Array], key: Key = (), run: Any = None) -> Replay:
        """One pass of it, in which this run is given to what is computed aside."""
        return Replay(self, given, key, run)

    def __call__(self, *given: Array) -> Any:
        """The first result."""
        try:
            replay = self.idle.pop()  # at once: no other thread gets it
        except IndexError:
            replay = Replay(self, given)
        else:
            replay.again(given)
        replay.run(0)
        y = replay.result(0)
        if self.size < SMALLEST:
            replay.given, replay.memories = (), (NOTHING, replay.memories[1])
            self.idle.append(replay)
        return y


NOTHING: tuple[Array, int] = (np.empty(0, np.uint8), 0)


class Replay:
    """A recording's calls made again, part by part, for other arrays."""

    def __init__(self, recording: Recording, given: Sequence[Array], key: Key = (), run: Any = None) -> None:
        self.recording, self.given, self.asked = recording, given, run
        (y, first), (between, second) = self.memories = memory(recording.bytes), memory(recording.size)
        words = [fold((*key, *path))[which] for path, which in recording.paths] if recording.paths else ()
        later = (recording.count - len(given)) * (None,)
        own = address(y) + first, address(between) + second
        self.bases = recording.bases(*map(address, given), *later, *own, *words)

    def again(self, given: Sequence[Array]) -> None:
        """Be of other arrays, with a result of its own."""
        y, first = made = memory(self.recording.bytes)
        self.given, self.memories = given, (made, self.memories[1])
        for n, array in enumerate(given):
            self.bases[n] = address(array)
        self.bases[self.recording.count] = address(y) + first

    def give(self, array: Array) -> None:
        """The last of what is given, which was not known at the beginning."""
        self.given = (*self.given, array)
        self.bases[self.recording.count - 1] = address(array)

    def run(self, part: int) -> None:
        """Make the calls of a part.

        Raises
        ------
        MemoryError
            Where a kernel has none for its lines.
        """
        recording = self.recording
        for first, count, pause in recording.parts[part]:
            if recording.replay(first, count, self.bases) < count:
                raise MemoryError("there is no memory for the lines that a kernel needs.")
            if pause is not None:
                pause.does(self.asked, *map(self.array, pause.arrays), *pause.numbers)

    def result(self, n: int) -> Array:
        """One of the results, good once the part that writes it was run."""
        return self.array(self.recording.results[n])

    def array(self, result: Result) -> Array:
        """What lies so, in this replay's memory or among what it is given."""
        if result.base < len(self.given):
            given = self.given[result.base]
            return given if given.shape == result.shape else given.reshape(result.shape)
        array, first = self.memories[result.base - self.recording.count]
        return np.ndarray(result.shape, result.dtype, array, first + result.first, result.strides)


def result_piece(recorder: Recorder, y: Array) -> Piece:
    """What a result lies in; raises Unrecorded where that is nothing that a replay has."""
    piece = recorder.room.piece(address(y)) if y.size else None
    if piece is None:
        piece = recorder.given.get(address(y))
        if piece is None or piece.size != y.nbytes or not y.flags.c_contiguous:
            raise Unrecorded("its result is no array of the engine's.")
    return piece


class Unrecorded(Exception):
    """There can be no recording; says why."""


def lies(y: Array, piece: Piece) -> Lying:
    """An array, as it lies within this piece."""
    return Lying(piece, address(y) - piece.start, y.shape, y.strides, y.dtype)


def of_result(y: Lying, room: int) -> Result:
    """What lies so; without a base, in the room, whose base this is."""
    base = room if y.piece.base is None else y.piece.base
    return Result(y.dtype, y.shape, y.strides, y.piece.at + y.distance, base)


def made(recorder: Recorder, results: Sequence[Array], apart: Sequence[bool]) -> Recording | None:
    """The recording of what gave these results; None where there is none."""
    if not recorder.why:
        try:
            return Recording(recorder, results, apart)
        except Unrecorded as why:
            recorder.why = str(why)
    return None


def seen(told: Any, kind: Any) -> Any:
    """An argument without the address of what stays, in which that of other weights differs."""
    if isinstance(told, list):
        return tuple(seen(each, Address) for each in told)
    if isinstance(told, Word):
        return told.path, told.which
    if isinstance(told, Within):
        return told.piece.base, told.piece.at, told.distance
    return "constant" if kind is Address and told and not isinstance(told, Held) else told
