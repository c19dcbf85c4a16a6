"""What a net computes, recorded: the kernels that it calls, to be called again without Python in between.

While a thread records, it is noted which kernels it calls, and each array of the engine's is a piece of a room that the
recording lays out: where one was used for the last time, the next may lie. Every address that a kernel is given must
lie within what the net is given, within such a piece, or within an array that stays, as what `constant` made of weights
that stay. Any other is of something that NumPy has computed, and then there is no recording: unless it was computed
`aside`, by a function that a replay calls too, where its calls of the library stop for it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from threading import get_ident
from typing import Any, NamedTuple

from xcnn_host.buffers import elsewhere

from xcnn.core.random import Key, fold
from xcnn.core.types import Array, Shape
from xcnn_native.library import KINDS, SIGNATURES, Address, Held, address, library, listeners
from xcnn_native.room import Piece, Room

FIRST = 3
"""The kind of an argument that is told from the first base, as in kernels/recording.c."""


@cache
def recordable() -> dict[str, int]:
    """The kernels that can be recorded, with their numbers."""
    names = library().recordable_f32().decode().split()  # type: ignore[union-attr]
    return {name: n for n, name in enumerate(names)}


class Within(NamedTuple):
    """An address as a distance from where a piece begins."""

    piece: Piece
    distance: int


class Lying(NamedTuple):
    """An array as it lies within a piece."""

    piece: Piece
    distance: int
    shape: Shape
    strides: Shape
    dtype: Any


class Aside(NamedTuple):
    """What is no call of the library: does(run, *arrays, *numbers), run being that of the replay."""

    does: Callable[..., None]
    arrays: tuple[Lying, ...]
    numbers: tuple[int, ...]


class Word(int):
    """One of the two words that a key of randomness is folded into, which are others in the next step."""

    path: Key
    """The key behind that of the step."""
    which: int


class Recorder:
    """Notes what a thread calls while it computes with arrays that it is given.

    Parameters
    ----------
    given
        arrays in whose place there are others in a replay: samples, and weights that change
    weights
        arrays that are the same in each replay, if they are not given
    moving
        whether weights change, and are among what is given
    key
        of the randomness, which is another in a replay

    Attributes
    ----------
    why
        why there can't be a recording; empty if there can
    calls
        the kernels' names, and what each was given; and what was computed aside between them
    ends
        of each part how many calls there were at its end
    """

    def __init__(
        self, given: Sequence[Array], weights: Iterable[Array] = (), moving: bool = False, key: Key = ()
    ) -> None:
        self.why, self.kind, self.moving, self.key = "", KINDS[given[0].dtype.char], moving, key
        self.calls: list[tuple[str, list[Any]] | Aside] = []
        self.ends: list[int] = []
        self.room = Room()
        self.given: dict[int, Piece] = {}
        self.kept: list[Any] = []
        self.constants: dict[int, Piece] = {}
        self.words: list[Word] = []
        for array in weights:
            self.keep(array)
        for array in given:
            self.give(array)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """A block whose calls are noted: a part of the recording."""
        me = get_ident()
        before = listeners.get(me), elsewhere.get(me)
        try:
            listeners[me], elsewhere[me] = self, self.room.empty
            yield
        finally:
            listeners[me], elsewhere[me] = before  # stores alone, between which no Ctrl-C comes
            tidied(me)
        self.ends.append(len(self.calls))

    def give(self, array: Array) -> None:
        """An array in whose place there is another in a replay."""
        piece = Piece(address(array), array.nbytes, base=len(self.given))
        if piece.start in self.given or not piece.size:
            self.why = self.why or "it is given one array twice."
        self.given[piece.start] = piece

    def keep(self, array: Array) -> None:
        """An array that stays for as long as the recording."""
        self.kept.append(array)
        self.constants[address(array)] = Piece(address(array), array.nbytes)

    def note(self, name: str, kind: str, arguments: tuple[Any, ...]) -> None:
        """A call that is about to be made."""
        if name not in recordable() or kind not in (self.kind, "u32"):
            self.why = self.why or f"it calls {name}_{kind}."
            return
        self.calls.append((name, [self.told(*one) for one in zip(arguments, SIGNATURES[name][2], strict=True)]))

    def note_aside(self, does: Callable[..., None], arrays: Sequence[Array], numbers: tuple[int, ...]) -> None:
        """What is about to be computed aside."""
        self.calls.append(Aside(does, tuple(map(self.lying, arrays)), numbers))

    def lying(self, array: Array) -> Lying:
        """An array as a replay finds its own."""
        found = self.found(address(array))
        given = isinstance(found, Within) and found.piece.base is not None
        whole = array.flags.c_contiguous and isinstance(found, Within) and found.piece.size == array.nbytes
        if not isinstance(found, Within) or (given and not whole):
            self.why = self.why or "it computes aside with arrays that are no other's in a replay."
            found = Within(Piece(address(array), array.nbytes), 0)
        return Lying(*found, array.shape, array.strides, array.dtype)

    def told(self, given: Any, kind: Any) -> Any:
        """An argument as it is kept: a number, a Word, a Within, or a list of these."""
        if isinstance(given, Word) or kind is not Address or given is None:
            return given or 0
        if isinstance(given, ctypes.Array):
            return [self.told(each, Address) for each in given]
        return given if isinstance(given, Held) else self.found(given)

    def found(self, place: int) -> Within | int:
        """What an address lies in, that the next call is given."""
        piece = self.given.get(place) or self.room.piece(place) or held(self.given, place)
        if piece:
            piece.use(len(self.calls))
            return Within(piece, place - piece.start)
        if place not in self.constants and not held(self.constants, place):
            self.why = self.why or "it computes with NumPy in between."
        return place


def held(pieces: dict[int, Piece], place: int) -> Piece | None:
    """The piece that holds an address."""
    return next((piece for piece in pieces.values() if piece.holds(place)), None)


def tidied(me: int) -> None:
    """No entry for a thread that nobody listens to, or gives arrays: None says the same, and takes longer."""
    for table in (listeners, elsewhere):
        if table.get(me) is None:
            table.pop(me, None)


def listener() -> Recorder | None:
    """Who records what this thread does."""
    recorder = listeners.get(get_ident()) if listeners else None
    return recorder if isinstance(recorder, Recorder) else None


def constant(make: Callable[[], Array]) -> Array:
    """What a function computes of weights alone: where a thread records and they stay, it is not computed again."""
    recorder = listener()
    if recorder is None or recorder.moving:
        return make()
    with unheard():
        made = make()
    recorder.keep(made)
    return made


def aside(does: Callable[..., None], run: Any, arrays: Sequence[Array], *numbers: int) -> None:
    """Call does(run, *arrays, *numbers), which computes of these alone and writes its results into some of the arrays.

    Where a thread records, a replay calls it at the same place, with its own run and its own arrays. The numbers must
    follow from what recordings are kept by.
    """
    recorder = listener()
    if recorder is None:
        does(run, *arrays, *numbers)
        return
    recorder.note_aside(does, arrays, numbers)
    with unheard():
        does(run, *arrays, *numbers)


@contextmanager
def unheard() -> Iterator[None]:
    """A block of this thread that nobody listens to, and whose arrays come the usual way."""
    me = get_ident()
    before = listeners.pop(me, None), elsewhere.pop(me, None)
    try:
        yield
    finally:
        listeners[me], elsewhere[me] = before
        tidied(me)


def stays(array: Array) -> Array:
    """An array that is the same for ever, and told to who records."""
    recorder = listener()
    if recorder is not None:
        recorder.keep(array)
    return array


def folded(key: Key) -> tuple[int, int]:
    """The key as two words, as `fold` gives them: a replay has those of its own key."""
    words, recorder = fold(key), listener()
    if recorder is None:
        return words
    if key[: len(recorder.key)] != recorder.key:
        recorder.why = recorder.why or "it draws by a key of its own."
    made = Word(words[0]), Word(words[1])
    for which, word in enumerate(made):
        word.path, word.which = key[len(recorder.key) :], which
        recorder.words.append(word)
    return made
