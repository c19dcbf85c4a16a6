"""A source whose samples are read once, and kept in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from xcnn.data.source import Batch, Numbered, Numbers

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Kept(Numbered):
    """Another source's samples, each read when it is first asked for.

    Parameters
    ----------
    source
        the other; its samples are of one shape, and it leaves none out
    """

    def __init__(self, source: Numbered) -> None:
        self.source = source
        self.classes: tuple[str, ...] = source.classes
        self.of_bytes: bool | None = source.of_bytes
        self.labels: Any = source.labels
        first = source.batch(np.zeros(1, np.int64)).x
        self.x: NDArray[Any] = np.empty((len(source), *first.shape[1:]), first.dtype)
        self.there: NDArray[np.bool_] = np.zeros(len(source), np.bool_)

    def __len__(self) -> int:
        return len(self.source)

    def batch(self, numbers: Numbers) -> Batch:
        """These samples; two threads that want the same at once both read it, and write the same."""
        missing = numbers[~self.there[numbers]]
        if len(missing):
            self.x[missing] = self.source.batch(missing).x
            self.there[missing] = True
        return Batch(self.x[numbers], self.labels[numbers], numbers)

    @property
    def travels(self) -> bool:  # type: ignore[override]
        """Whether the source does."""
        return self.source.travels

    def part(self, numbers: Numbers) -> Numbered:
        """That of the source: what was read stays here."""
        return self.source.part(numbers)

    def told(self, number: int) -> str:
        """As the source tells it."""
        return self.source.told(number)

    def fingerprint(self) -> str:
        """That of the source."""
        return self.source.fingerprint()
