"""Metrics of classifiers, from how often each class was given, predicted, and both."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace
from typing import ClassVar, Self

import numpy as np

from xcnn.core.checks import check_whole
from xcnn.core.options import checked
from xcnn.core.types import AVERAGES, Average
from xcnn.errors import OptionError, ShapeError, short
from xcnn.training.metrics.metric import Metric, Result
from xcnn.training.state import Counts, HostArray


@dataclass(frozen=True)
class OfClasses(Metric):
    """What metrics of classes share: which class an output says, and which samples do not count."""

    _: KW_ONLY
    name: str | None = None
    threshold: float | None = None
    ignore_index: int | None = None

    def bound(self, threshold: float | None, ignore_index: int | None) -> Self:
        if threshold is None:
            raise OptionError(
                "X104",
                f"{type(self).__name__} tells classes apart, which this loss does not.",
                hint='the losses of classifiers are "cross_entropy" and the binary ones; numbers have MAE, RMSE, R2.',
            )
        mine = threshold if self.threshold is None else self.threshold
        ignored = ignore_index if self.ignore_index is None else self.ignore_index
        return replace(self, threshold=mine, ignore_index=ignored)

    def rows(self, y: HostArray, t: HostArray) -> tuple[HostArray, HostArray]:
        """The outputs as rows (M, outputs), one for each place, and the labels (M,), those left out that do not count.

        Targets that are distributions count as their most likely class; of a single output they are its 0 or 1.
        """
        outputs = y.shape[1]
        if t.shape == y.shape:
            t = t[:, 0] > 0.5 if outputs == 1 else t.argmax(axis=1)
        rows, labels = np.moveaxis(y, 1, -1).reshape(-1, outputs), t.reshape(-1).astype(np.int64)
        if self.ignore_index is None:
            return rows, labels
        kept = labels != self.ignore_index
        return rows[kept], labels[kept]

    def said(self, rows: HostArray) -> HostArray:
        """The classes that rows of outputs say."""
        if rows.shape[1] == 1:
            return (rows[:, 0] > (self.threshold or 0.0)).astype(np.int64)
        largest: HostArray = rows.argmax(axis=1)
        return largest


@checked
@dataclass(frozen=True)
class TopK(OfClasses):
    """The share of samples whose class is among the k largest outputs; of equal ones the first classes come first.

    Parameters
    ----------
    k
        how many, at least 1
    name
        of the column, "top5" by default
    threshold
        where a single output's class changes from 0 to 1; None is the loss's
    ignore_index
        the label of what does not count; None is the loss's

    Raises
    ------
    OptionError
        X104, for an option that it can't have.

    Examples
    --------
    >>> top2 = xcnn.metrics.TopK(2)
    >>> counts = top2.counts(np.asarray([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2]]), np.asarray([2, 2]))
    >>> top2.result(counts)
    0.5
    """

    k: int = 5
    higher_is_better: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_whole("k", self.k)

    def usual_name(self) -> str:
        return f"top{self.k}"

    def counts(self, y: HostArray, t: HostArray) -> Counts:
        rows, labels = self.rows(y, t)
        if rows.shape[1] == 1:
            right = self.said(rows) == labels if self.k == 1 else np.ones(len(labels), bool)
        else:
            known = (labels >= 0) & (labels < rows.shape[1])
            own = np.take_along_axis(rows, np.where(known, labels, 0)[:, None], axis=1)
            before = np.arange(rows.shape[1]) < labels[:, None]
            ahead = ((rows > own) | ((rows == own) & before)).sum(axis=1)
            right = known & (ahead < self.k)
        return {"right": np.asarray(right.sum(), np.float64), "seen": np.asarray(len(labels), np.float64)}

    def result(self, counts: Counts) -> Result:
        return float(counts["right"] / max(counts["seen"], 1))


@checked
@dataclass(frozen=True)
class ConfusionMatrix(OfClasses):
    """How many samples of each class (rows) were taken for each (columns): a list of lists of whole numbers.

    Parameters
    ----------
    name
        of the column, "confusion" by default
    threshold
        where a single output's class changes from 0 to 1; None is the loss's
    ignore_index
        the label of what does not count; None is the loss's

    Raises
    ------
    OptionError
        X104, for an option that it can't have.

    Examples
    --------
    >>> metric = xcnn.metrics.ConfusionMatrix()
    >>> metric.result(metric.counts(np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]]), np.array([0, 1, 1])))
    [[1, 0], [1, 1]]
    """

    def usual_name(self) -> str:
        return "confusion"

    def counts(self, y: HostArray, t: HostArray) -> Counts:
        rows, labels = self.rows(y, t)
        classes = max(rows.shape[1], 2)
        found = np.bincount(labels * classes + self.said(rows), minlength=classes * classes)
        return {"matrix": found.reshape(classes, classes).astype(np.float64)}

    def result(self, counts: Counts) -> Result:
        return [[int(count) for count in row] for row in counts["matrix"]]


@dataclass(frozen=True)
class OfPairs(OfClasses):
    """A metric of how often each class was predicted rightly, predicted, and given; averaged over the classes.

    Parameters
    ----------
    average
        "binary": that of the class 1. "macro": the mean of all classes that were given or predicted. "micro": of all
        together. "each": a list. None is "binary" for two classes, else "macro"
    multilabel
        whether each output is a class of its own, of which a sample may have several or none
    name
        of the column, by default that of the class, with the average behind it where one is given
    threshold
        where an output's class changes from no to yes; None is the loss's
    ignore_index
        the label of what does not count; None is the loss's
    """

    average: Average | None = None
    _: KW_ONLY
    multilabel: bool = False
    higher_is_better: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.average not in (None, *AVERAGES):
            whole = f"average must be one of {', '.join(AVERAGES)}, or None; got {short(self.average)}."
            raise OptionError("X104", whole, hint='"macro" is the mean of the classes, "micro" counts all together.')

    def usual_name(self) -> str:
        return "_".join([type(self).__name__.lower(), *([self.average] if self.average else [])])

    def parts(self, right: HostArray, predicted: HostArray, given: HostArray) -> tuple[HostArray, HostArray]:
        """The quotient's two parts, class by class."""
        raise NotImplementedError

    def counts(self, y: HostArray, t: HostArray) -> Counts:
        if self.multilabel:
            said, labels = self.several(y, t)
            right, predicted, given = (each.sum(axis=0) for each in (said & labels, said, labels))
        else:
            rows, classes = self.rows(y, t)
            chosen, many = self.said(rows), max(rows.shape[1], 2)
            hits = chosen[chosen == classes]
            right, predicted, given = (np.bincount(each, minlength=many) for each in (hits, chosen, classes))
        named = {"right": right, "predicted": predicted, "given": given}
        return {name: count.astype(np.float64) for name, count in named.items()}

    def several(self, y: HostArray, t: HostArray) -> tuple[HostArray, HostArray]:
        """Yes or no of each output, as it was predicted and given."""
        if t.shape != y.shape:
            raise ShapeError(
                "X202",
                f"{type(self).__name__}(multilabel=True) takes targets shaped like the outputs.",
                f"got targets {t.shape}, predictions {y.shape}",
                hint="give 0 or 1 for each class of a sample.",
            )
        said, labels = y > (self.threshold or 0.0), t > 0.5
        return tuple(np.moveaxis(each, 1, -1).reshape(-1, y.shape[1]) for each in (said, labels))  # type: ignore[return-value]

    def result(self, counts: Counts) -> Result:
        right, predicted, given = counts["right"], counts["predicted"], counts["given"]
        above, below = self.parts(right, predicted, given)
        average = self.average or self.usual_average(len(right))
        if average == "micro":
            return float(above.sum() / max(below.sum(), 1))
        each = above / np.maximum(below, 1)
        if average == "binary":
            return float(each[1])
        if average == "each":
            return [float(value) for value in each]
        there = (predicted > 0) | (given > 0) | self.multilabel
        return float(each[there].mean()) if there.any() else 0.0

    def usual_average(self, classes: int) -> str:
        """What None stands for."""
        return "binary" if classes == 2 and not self.multilabel else "macro"


@checked
@dataclass(frozen=True)
class Precision(OfPairs):
    """Of the samples that were taken for a class, the share that is of it; 0 where none was.

    Parameters
    ----------
    average
        "binary": that of the class 1. "macro": the mean of all classes that were given or predicted. "micro": of all
        together. "each": a list. None is "binary" for two classes, else "macro"
    name
        of the column, "precision" by default, with the average behind it where one is given
    threshold
        where an output's class changes from no to yes; None is the loss's
    ignore_index
        the label of what does not count; None is the loss's
    multilabel
        whether each output is a class of its own, of which a sample may have several or none

    Raises
    ------
    OptionError
        X104, for an option that it can't have.

    Examples
    --------
    >>> metric = xcnn.metrics.Precision("macro")
    >>> metric.result(metric.counts(np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]]), np.array([0, 1, 1])))
    0.75
    """

    def parts(self, right: HostArray, predicted: HostArray, given: HostArray) -> tuple[HostArray, HostArray]:
        return right, predicted


@checked
@dataclass(frozen=True)
class Recall(OfPairs):
    """Of the samples of a class, the share that was taken for it; 0 where there is none.

    Parameters
    ----------
    average
        "binary": that of the class 1. "macro": the mean of all classes that were given or predicted. "micro": of all
        together. "each": a list. None is "binary" for two classes, else "macro"
    name
        of the column, "recall" by default, with the average behind it where one is given
    threshold
        where an output's class changes from no to yes; None is the loss's
    ignore_index
        the label of what does not count; None is the loss's
    multilabel
        whether each output is a class of its own, of which a sample may have several or none

    Raises
    ------
    OptionError
        X104, for an option that it can't have.

    Examples
    --------
    >>> metric = xcnn.metrics.Recall("macro")
    >>> metric.result(metric.counts(np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]]), np.array([0, 1, 1])))
    0.75
    """

    def parts(self, right: HostArray, predicted: HostArray, given: HostArray) -> tuple[HostArray, HostArray]:
        return right, given


@checked
@dataclass(frozen=True)
class F1(OfPairs):
    """The harmonic mean of precision and recall, 2 right / (predicted + given). Van Rijsbergen 1979.

    Parameters
    ----------
    average
        "binary": that of the class 1. "macro": the mean of all classes that were given or predicted. "micro": of all
        together. "each": a list. None is "binary" for two classes, else "macro"
    name
        of the column, "f1" by default, with the average behind it where one is given
    threshold
        where an output's class changes from no to yes; None is the loss's
    ignore_index
        the label of what does not count; None is the loss's
    multilabel
        whether each output is a class of its own, of which a sample may have several or none

    Raises
    ------
    OptionError
        X104, for an option that it can't have.

    Examples
    --------
    >>> metric = xcnn.metrics.F1("macro")
    >>> metric.result(metric.counts(np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]]), np.array([0, 1, 1])))
    0.6666666666666666
    """

    def parts(self, right: HostArray, predicted: HostArray, given: HostArray) -> tuple[HostArray, HostArray]:
        return 2 * right, predicted + given


@checked
@dataclass(frozen=True)
class IoU(OfPairs):
    """Intersection over union, right / (predicted + given - right): Jaccard 1912. None averages over the classes.

    Parameters
    ----------
    average
        "binary": that of the class 1. "macro": the mean of all classes that were given or predicted. "micro": of all
        together. "each": a list. None is "macro"
    name
        of the column, "iou" by default, with the average behind it where one is given
    threshold
        where an output's class changes from no to yes; None is the loss's
    ignore_index
        the label of what does not count; None is the loss's
    multilabel
        whether each output is a class of its own, of which a sample may have several or none

    Raises
    ------
    OptionError
        X104, for an option that it can't have.

    Examples
    --------
    >>> metric = xcnn.metrics.IoU("macro")
    >>> metric.result(metric.counts(np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]]), np.array([0, 1, 1])))
    0.5
    """

    def parts(self, right: HostArray, predicted: HostArray, given: HostArray) -> tuple[HostArray, HostArray]:
        return right, predicted + given - right

    def usual_average(self, classes: int) -> str:
        return "macro"
