"""What a report counts: accuracy with an interval, what is taken for what, the samples that surprise it; as text."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from xcnn.core.text import columns
from xcnn.errors import counted, printable

if TYPE_CHECKING:
    from xcnn.training.state import HostArray

CONFIDENCE = 1.959963984540054
"""How many standard deviations 95 % of a normal distribution lie within."""
SHOWN = 12
"""Classes beyond which no matrix is printed."""
TITLES = ("class", "samples", "precision", "recall", "F1")


class Confused(NamedTuple):
    """One class that was taken for another: their numbers, how often, and for what share of its samples."""

    true: int
    taken: int
    times: int
    share: float


class Surprise(NamedTuple):
    """One sample: its number, its class and what it was taken for, the probability of its class, and -log of that."""

    sample: int
    true: int
    taken: int
    probability: float
    loss: float


@dataclass(frozen=True, eq=False, repr=False)
class Counted:
    """What a report knows, in numbers and in words.

    Parameters
    ----------
    classes
        their names
    confusion
        (classes, classes), how many samples of each class, by rows, were taken for which, by columns
    loss
        the mean of -log p, p being the probability that a sample's own class was given
    surprises
        the samples with the largest -log p, the largest first
    images
        those samples themselves, (len(surprises), channels, height, width), or None where they are no images
    """

    classes: tuple[str, ...]
    confusion: HostArray
    loss: float
    surprises: tuple[Surprise, ...]
    images: HostArray | None

    @property
    def samples(self) -> int:
        """How many were looked at."""
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        """The share of samples that were taken for what they are."""
        return float(np.trace(self.confusion) / self.samples)

    @cached_property
    def interval(self) -> tuple[float, float]:
        """Where the accuracy on other samples of the same kind lies, with 95 % confidence: Wilson 1927."""
        n, p, z = self.samples, self.accuracy, CONFIDENCE
        middle, reach = p + z * z / (2 * n), z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
        low, high = (middle - reach) / (1 + z * z / n), (middle + reach) / (1 + z * z / n)
        return max(0.0, low), min(1.0, high)

    @property
    def support(self) -> HostArray:
        """(classes,), the samples of each."""
        counts: HostArray = self.confusion.sum(axis=1)
        return counts

    @property
    def recall(self) -> HostArray:
        """(classes,), the share of each class's samples that were found; NaN for a class without samples."""
        return shares(np.diag(self.confusion), self.support)

    @property
    def precision(self) -> HostArray:
        """(classes,), the share of what was taken for a class that it is; NaN where nothing was."""
        return shares(np.diag(self.confusion), self.confusion.sum(axis=0))

    @property
    def f1(self) -> HostArray:
        """(classes,), the harmonic mean of precision and recall."""
        return shares(2 * np.diag(self.confusion), self.support + self.confusion.sum(axis=0))

    @property
    def confused(self) -> tuple[Confused, ...]:
        """The pairs of classes that were taken for one another, the most frequent first."""
        wrong = self.confusion - np.diag(np.diag(self.confusion))
        order = np.argsort(-wrong, axis=None, kind="stable")[: np.count_nonzero(wrong)]
        pairs = (divmod(int(at), len(self.classes)) for at in order)
        return tuple(Confused(i, j, int(wrong[i, j]), float(wrong[i, j] / self.support[i])) for i, j in pairs)

    @property
    def text(self) -> str:
        """All of it, as it is printed."""
        lines = [self.headline, "", *columns([TITLES, *self.rows()], words=1)]
        if len(self.classes) <= SHOWN:
            body = [(name, *map(str, row)) for name, row in zip(self.names, self.confusion.tolist(), strict=True)]
            lines += ["", *columns([("true \\ taken for", *self.names), *body], words=1)]
        if self.confused:
            lines += ["", "most confused:", *(f"  {self.pair(each)}" for each in self.confused[:5])]
        if self.surprises:
            lines += ["", "largest losses:", *(f"  {self.told(each)}" for each in self.surprises[:5])]
        return "\n".join(lines)

    @property
    def names(self) -> list[str]:
        """Those of the classes, as they can be printed."""
        return [printable(name) for name in self.classes]

    @property
    def headline(self) -> str:
        """The accuracy, and where it may lie."""
        low, high = self.interval
        told = f"accuracy {self.accuracy:.2%} ({low:.2%} to {high:.2%} with 95 % confidence)"
        return f"{told}, loss {self.loss:.4f} on {counted(self.samples, 'sample')}"

    def rows(self) -> list[tuple[str, ...]]:
        """One for each class."""
        numbers = zip(self.names, self.support, self.precision, self.recall, self.f1, strict=True)
        return [(name, f"{count:,}", *map(percent, measured)) for name, count, *measured in numbers]

    def pair(self, pair: Confused) -> str:
        """A line of text."""
        times = f"{counted(pair.times, 'time')}, {pair.share:.1%} of its samples"
        return f"{self.names[pair.true]} taken for {self.names[pair.taken]}: {times}"

    def told(self, each: Surprise) -> str:
        """A line of text."""
        what = f"{self.names[each.true]} taken for {self.names[each.taken]}"
        what = self.names[each.true] if each.true == each.taken else what
        return f"sample {each.sample}: {what}, p = {each.probability:.2g}"


def shares(some: HostArray, of: HostArray) -> HostArray:
    """Some / of, NaN where there is nothing."""
    divided: HostArray = np.divide(some, of, out=np.full(len(of), np.nan), where=of > 0)
    return divided


def percent(share: float) -> str:
    """As it is read; nothing where there is none."""
    return "" if np.isnan(share) else f"{share:.1%}"
