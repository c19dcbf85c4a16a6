"""What every data set is: samples to train on, samples to test on, and the names of their classes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from xcnn.errors import counted, printable

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Samples(NamedTuple):
    """Images x (samples, channels, height, width), float32 in 0..1, and labels y (samples,), int64.

    Parameters
    ----------
    x
        (samples, channels, height, width), float32 in 0..1
    y
        (samples,), int64

    Examples
    --------
    >>> xcnn.datasets.mnist01().test.x.shape
    (2115, 1, 28, 28)
    """

    x: NDArray[np.float32]
    y: NDArray[np.int64]


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """(x, y), (xt, yt) = dataset.   dataset.train.x, dataset.test.y, dataset.classes[label]

    Parameters
    ----------
    train, test
        Samples to learn from, and others to measure with
    classes
        the names of labels 0, 1, 2, ...

    Examples
    --------
    >>> (x, y), (xt, yt) = xcnn.datasets.mnist01()
    >>> x.shape, str(x.dtype), y[:3].tolist()
    ((12665, 1, 28, 28), 'float32', [0, 1, 1])
    """

    train: Samples
    test: Samples
    classes: tuple[str, ...]

    def __iter__(self) -> Iterator[Samples]:
        return iter((self.train, self.test))

    def __repr__(self) -> str:
        sizes = f"{len(self.train.x):,} + {counted(len(self.test.x), 'sample')} of {self.train.x.shape[1:]}"
        names = printable(", ".join(self.classes))
        return f"<Dataset: {sizes}, {counted(len(self.classes), 'class', 'classes')}: {names}>"


class Labels(np.ndarray[Any, np.dtype[np.int64]]):
    """Labels of samples that stand for bytes, which know the names of their classes: an array as any other."""

    classes: tuple[str, ...]

    def __array_finalize__(self, other: object) -> None:
        self.classes = getattr(other, "classes", ())


def named(y: NDArray[np.int64], classes: tuple[str, ...]) -> Labels:
    """(samples,) labels with the names of classes 0, 1, 2, ..."""
    labels = y.view(Labels)
    labels.classes = classes
    return labels


def scale(x: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Bytes as float32 in 0..1, in one pass: y = x / 255."""
    y: NDArray[np.float32] = np.divide(x, np.float32(255), dtype=np.float32)
    return y
