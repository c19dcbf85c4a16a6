"""The rows of all epochs as a value that is made longer without a copy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, overload

if TYPE_CHECKING:
    from xcnn.training.history import Row


class Rows(Sequence["Row"]):
    """A sequence of rows that stays as long as it is. With one row more it shares all of its rows with a longer one.

    Both look at one dict from places to rows, into which rows are only ever entered: each sees those below its length.

    Parameters
    ----------
    rows
        the rows, oldest first

    Examples
    --------
    >>> short = Rows([{"epoch": 1}])
    >>> short.and_one({"epoch": 2}), short
    (({'epoch': 1}, {'epoch': 2}), ({'epoch': 1},))
    """

    __slots__ = ("_length", "_shared")

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self._shared = dict(enumerate(rows))
        self._length = len(self._shared)

    def and_one(self, row: Row) -> Rows:
        """These and another: a copy only where a longer sequence has gone on from here already, with another row."""
        if self._shared.setdefault(self._length, row) is not row:  # in one call: threads find one row there
            return Rows((*self, row))
        longer = Rows()
        longer._shared, longer._length = self._shared, self._length + 1
        return longer

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, place: int) -> Row: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Row, ...]: ...
    def __getitem__(self, place: int | slice) -> Row | tuple[Row, ...]:
        places = range(self._length)[place]  # which counts from the end, and raises, as any sequence
        return self._shared[places] if isinstance(places, int) else tuple(map(self._shared.__getitem__, places))

    def __iter__(self) -> Iterator[Row]:
        return map(self._shared.__getitem__, range(self._length))

    def __eq__(self, other: object) -> bool:
        return tuple(self) == tuple(other) if isinstance(other, Rows | tuple) else NotImplemented

    __hash__: ClassVar[None]  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(tuple(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return Rows, (tuple(self),)  # without the rows of those that are longer
