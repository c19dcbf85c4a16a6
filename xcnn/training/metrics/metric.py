"""What a metric is: numbers that add up over batches, and what they come to when the epoch is over.

A metric is a value, as an optimizer is. `counts(y, t)` are its sums over one batch, `merged` puts those of two batches
together, `result` is the metric of all that was counted. So it is that of the whole epoch, and not a mean of batches;
and what was counted lies in the training's state, from which an epoch goes on exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from xcnn.training.state import Counts, HostArray

Result: TypeAlias = float | list[Any]
"""A number, or for several classes a list of them."""


class Metric:
    """A subclass gives `counts` and `result`, and says in `higher_is_better` which way is better.

    Its name is the column of the history, with "val_" before it for validation data. On every backend it is computed on
    the host, from the net's outputs y (N, *output_shape) and the targets t as `fit` was given them, NumPy arrays both.

    Examples
    --------
    >>> isinstance(xcnn.metrics.TopK(2), xcnn.metrics.Metric), xcnn.metrics.TopK(2).higher_is_better
    (True, True)
    """

    if TYPE_CHECKING:  # which a subclass may give in its class, as a dataclass's field, or in each object

        @property
        def higher_is_better(self) -> bool | None:
            """Which way is better; None where neither is: it can't be monitored then."""

    else:
        higher_is_better = None

    @property
    def column(self) -> str:
        """The name of its column: that which it was given, else one that follows from its class and options."""
        return str(getattr(self, "name", None) or self.usual_name())

    def usual_name(self) -> str:
        """The column of one that has no name of its own."""
        return type(self).__name__.lower()

    def counts(self, y: HostArray, t: HostArray) -> Counts:
        """What a batch adds: arrays of float64 by names."""
        raise NotImplementedError

    def merged(self, before: Counts, more: Counts) -> Counts:
        """What two parts come to together: by default the sums."""
        return {name: before[name] + more[name] for name in before}

    def result(self, counts: Counts) -> Result:
        """The metric of all that was counted."""
        raise NotImplementedError

    def bound(self, threshold: float | None, ignore_index: int | None) -> Metric:
        """The same for a loss with this threshold of classes, and these labels left out; by default itself."""
        return self

    def arrays(self, counts: Counts) -> Counts:
        """The counts as a checkpoint keeps them, each one array."""
        return counts

    def restored(self, arrays: Counts) -> Counts:
        """The counts that a checkpoint kept."""
        return arrays


def counts_of(metrics: tuple[Metric, ...], y: HostArray, t: HostArray) -> tuple[Counts, ...]:
    """What all metrics count of a batch; of one without samples, as a share of one may be, nothing."""
    return tuple(metric.counts(y, t) for metric in metrics) if len(y) else ()


def merged(metrics: tuple[Metric, ...], before: tuple[Counts, ...], more: tuple[Counts, ...]) -> tuple[Counts, ...]:
    """The counts of all metrics, of two parts together; of nothing there are none."""
    if not (before and more):
        return before or more
    return tuple(m.merged(*pair) for m, *pair in zip(metrics, before, more, strict=True))


def results(metrics: tuple[Metric, ...], counts: tuple[Counts, ...]) -> dict[str, Result]:
    """The columns."""
    return {metric.column: metric.result(each) for metric, each in zip(metrics, counts, strict=True)}


def directions(metrics: tuple[Metric, ...]) -> Mapping[str, str]:
    """Which way each column is better, "max" or "min", of those that know it."""
    ways = {True: "max", False: "min"}
    known = {metric.column: ways[metric.higher_is_better] for metric in metrics if metric.higher_is_better is not None}
    return known | {f"val_{name}": way for name, way in known.items()}
