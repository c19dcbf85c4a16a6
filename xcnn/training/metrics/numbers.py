"""Metrics of numbers: how far outputs are from targets of their shape, all outputs together."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from math import sqrt
from typing import ClassVar

import numpy as np

from xcnn.core.options import checked
from xcnn.errors import ShapeError
from xcnn.training.metrics.metric import Metric, Result
from xcnn.training.state import Counts, HostArray


@dataclass(frozen=True)
class OfNumbers(Metric):
    """What metrics of numbers share: the errors, in float64.

    Parameters
    ----------
    name
        of the column, by default that of the class in small letters
    """

    _: KW_ONLY
    name: str | None = None
    higher_is_better: ClassVar[bool] = False

    def both(self, y: HostArray, t: HostArray) -> tuple[HostArray, HostArray]:
        """Outputs and targets in float64, if they are shaped alike."""
        if y.shape != t.shape:
            raise ShapeError(
                "X202",
                f"{type(self).__name__} takes targets shaped like the outputs.",
                f"got targets {t.shape}, predictions {y.shape}",
                hint="labels have Precision, Recall, F1, IoU and TopK.",
            )
        return y.astype(np.float64), t.astype(np.float64)

    def summed(self, errors: HostArray) -> Counts:
        """The sum of errors, and how many there are."""
        return {"sum": np.asarray(errors.sum()), "count": np.asarray(errors.size, np.float64)}

    def result(self, counts: Counts) -> Result:
        return float(counts["sum"] / max(counts["count"], 1))


@checked
@dataclass(frozen=True)
class MAE(OfNumbers):
    """The mean absolute error, mean |y - t|.

    Parameters
    ----------
    name
        of the column, "mae" by default

    Raises
    ------
    OptionError
        X104, for an option that it can't have.

    Examples
    --------
    >>> metric = xcnn.metrics.MAE()
    >>> metric.result(metric.counts(np.array([[1.0], [4.0]]), np.array([[2.0], [4.0]])))
    0.5
    """

    def counts(self, y: HostArray, t: HostArray) -> Counts:
        y, t = self.both(y, t)
        return self.summed(np.abs(y - t))


@checked
@dataclass(frozen=True)
class MSE(OfNumbers):
    """The mean squared error, mean (y - t)².

    Parameters
    ----------
    name
        of the column, "mse" by default

    Raises
    ------
    OptionError
        X104, for an option that it can't have.

    Examples
    --------
    >>> metric = xcnn.metrics.MSE()
    >>> metric.result(metric.counts(np.array([[1.0], [4.0]]), np.array([[2.0], [4.0]])))
    0.5
    """

    def counts(self, y: HostArray, t: HostArray) -> Counts:
        y, t = self.both(y, t)
        return self.summed((y - t) ** 2)


@checked
@dataclass(frozen=True)
class RMSE(MSE):
    """The root of the mean squared error, in units of the targets.

    Parameters
    ----------
    name
        of the column, "rmse" by default

    Raises
    ------
    OptionError
        X104, for an option that it can't have.

    Examples
    --------
    >>> metric = xcnn.metrics.RMSE()
    >>> metric.result(metric.counts(np.array([[1.0], [4.0]]), np.array([[2.0], [4.0]])))
    0.7071067811865476
    """

    def result(self, counts: Counts) -> Result:
        return sqrt(float(counts["sum"] / max(counts["count"], 1)))


@checked
@dataclass(frozen=True)
class R2(OfNumbers):
    """1 - sum (y - t)² / sum (t - mean t)², each output by itself, then their mean: 1 is perfect, 0 is the mean's.

    An output whose targets are all the same counts 1 where it is right and else 0. The sums of squares about the mean
    are merged as Chan, Golub and LeVeque 1979 do, so that nothing cancels.

    Parameters
    ----------
    name
        of the column, "r2" by default

    Raises
    ------
    OptionError
        X104, for an option that it can't have.

    Examples
    --------
    >>> metric = xcnn.metrics.R2()
    >>> metric.result(metric.counts(np.array([[1.0], [4.0]]), np.array([[2.0], [4.0]])))
    0.5
    """

    higher_is_better: ClassVar[bool] = True

    def counts(self, y: HostArray, t: HostArray) -> Counts:
        y, t = (each.reshape(len(each), -1) for each in self.both(y, t))
        mean = t.mean(axis=0)
        about = ((t - mean) ** 2).sum(axis=0)
        return {"errors": ((y - t) ** 2).sum(axis=0), "mean": mean, "about": about, "count": np.asarray(float(len(t)))}

    def merged(self, before: Counts, more: Counts) -> Counts:
        n, m = before["count"], more["count"]
        apart, whole = more["mean"] - before["mean"], n + m
        return {
            "errors": before["errors"] + more["errors"],
            "mean": before["mean"] + apart * (m / whole),
            "about": before["about"] + more["about"] + apart**2 * (n * m / whole),
            "count": whole,
        }

    def result(self, counts: Counts) -> Result:
        errors, about = counts["errors"], counts["about"]
        alike = about == 0
        shares = np.where(alike, errors > 0, errors / np.where(alike, 1, about))
        return float(1 - shares.mean())
