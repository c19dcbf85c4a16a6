"""What a classifier gets wrong: accuracy with an interval, what is taken for what, the samples that surprise it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from xcnn.core import html
from xcnn.core.files import check_path, write_whole
from xcnn.core.text import columns
from xcnn.data.source import Arrays, Source
from xcnn.errors import OptionError, counted, printable
from xcnn.model import report_page
from xcnn.model.feeding import Fed, known_targets, to_measure
from xcnn.model.held import numbered_names
from xcnn.training.loop import in_order

if TYPE_CHECKING:
    from xcnn.model.held import Held
    from xcnn.training.state import HostArray

CONFIDENCE = 1.959963984540054
"""How many standard deviations 95 % of a normal distribution lie within."""
SHOWN = 12
"""Classes beyond which no matrix is printed."""
BATCH = 256
"""Samples that are read at a time where labels come with them."""


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
class Report:
    """What `model.report(x, y)` gives: it prints itself, shows itself in a notebook, and writes itself as a page.

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

    def __str__(self) -> str:
        lines = [self.headline, "", *columns([report_page.TITLES, *self.rows()], words=1)]
        if len(self.classes) <= SHOWN:
            body = [(name, *map(str, row)) for name, row in zip(self.names, self.confusion.tolist(), strict=True)]
            lines += ["", *columns([("true \\ taken for", *self.names), *body], words=1)]
        if self.confused:
            lines += ["", "most confused:", *(f"  {self.pair(each)}" for each in self.confused[:5])]
        if self.surprises:
            lines += ["", "largest losses:", *(f"  {self.told(each)}" for each in self.surprises[:5])]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<div>{html.note(self.headline)}{report_page.sections(self)}</div>"

    def write(self, path: str | Path) -> None:
        """Write a page that needs no network, whole or not at all.

        Parameters
        ----------
        path
            such as "report.html"
        """
        path = Path(path)
        check_path(path)
        write_whole(path, report_page.page(self).encode())

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


def report(model: Held, x: Any, y: Any, probabilities: Callable[[HostArray], HostArray], worst: int) -> Report:
    """Look at all samples, as `Model.report` says."""
    if model.trainer.threshold is None or len(model.output_shape) != 1:
        told = f"a report is of a classifier of whole samples; this model's output is {model.output_shape}"
        raise OptionError("X104", f"{told}, its loss {model.loss!r}.", hint="model.evaluate(x, y) measures any.")
    data = to_measure(model, x, y)
    p = probabilities(x)
    labels = labels_of(targets_in(data), p.shape[1])
    own = p[np.arange(len(p)), labels]
    losses = -np.log(np.maximum(own, np.finfo(np.float64).tiny))
    taken = p.argmax(axis=1)
    confusion = np.zeros((p.shape[1],) * 2, np.int64)
    np.add.at(confusion, (labels, taken), 1)
    order = np.argsort(-losses, kind="stable")[:worst]
    surprises = tuple(Surprise(int(n), int(labels[n]), int(taken[n]), float(own[n]), float(losses[n])) for n in order)
    pictures = len(model.input_shape) == 3 and model.input_shape[0] in (1, 3) and len(order) > 0
    images = data.batch(order).x if pictures and isinstance(data, Arrays | Fed) and data.samples else None
    classes = tuple(numbered_names(model, p.shape[1]))
    return Report(classes, confusion, float(losses.mean()), surprises, images)


def targets_in(data: Source) -> HostArray:
    """The targets of all samples: where they are known without the samples, these are not read."""
    known = known_targets(data)
    if known is not None:
        return known
    with closing(in_order(data, BATCH, 0)) as batches:
        return np.concatenate([batch.t for batch in batches])


def labels_of(targets: HostArray, classes: int) -> HostArray:
    """Whole-number labels (samples,) of labels, one-hot rows or a column."""
    if targets.ndim == 1:
        labels: HostArray = (targets > 0.5).astype(np.int64) if classes == 2 else targets.astype(np.int64)
        return labels
    return (targets[:, 0] > 0.5).astype(np.int64) if targets.shape[1] == 1 else targets.argmax(axis=1)


def shares(some: HostArray, of: HostArray) -> HostArray:
    """Some / of, NaN where there is nothing."""
    divided: HostArray = np.divide(some, of, out=np.full(len(of), np.nan), where=of > 0)
    return divided


def percent(share: float) -> str:
    """As it is read; nothing where there is none."""
    return "" if np.isnan(share) else f"{share:.1%}"
