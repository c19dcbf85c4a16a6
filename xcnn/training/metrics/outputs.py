"""What is measured of each output of a net that has several: its own loss, and of classifiers the accuracy."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from xcnn.training.metrics.metric import Metric, Result
from xcnn.training.output_losses import OutputLoss
from xcnn.training.state import Counts, HostArray


@dataclass(frozen=True)
class OfOutput(Metric):
    """One number of an output, as a mean over samples, or places.

    Parameters
    ----------
    part
        the output and its loss
    start
        where its cells begin among those of all outputs
    """

    part: OutputLoss
    start: int

    def counts(self, y: HostArray, t: HostArray) -> Counts:
        stop = self.start + prod(self.part.shape)
        mine, target = (a[:, self.start : stop].reshape(len(a), *self.part.shape).astype("float64") for a in (y, t))
        total, count = self.measured(mine, target)
        return {"total": np.asarray(float(total)), "count": np.asarray(float(count))}

    def measured(self, y: HostArray, t: HostArray) -> tuple[float, int]:
        """The sum of the numbers of a batch, and of how many it is."""
        raise NotImplementedError

    def result(self, counts: Counts) -> Result:
        return float(counts["total"] / max(counts["count"], 1.0))


@dataclass(frozen=True)
class LossOf(OfOutput):
    """The loss of an output, without its weight: "digit_loss".

    Parameters
    ----------
    part
        the output and its loss
    start
        where its cells begin among those of all outputs
    """

    higher_is_better = False

    def usual_name(self) -> str:
        return f"{self.part.output}_loss"

    def measured(self, y: HostArray, t: HostArray) -> tuple[float, int]:
        with np.errstate(all="ignore"):
            value, _ = self.part(y, t)
        count = len(y) if self.part.ignore_index is None else int((t[:, 0] >= 0).sum())
        return float(value) * count, count


@dataclass(frozen=True)
class AccuracyOf(OfOutput):
    """The accuracy of an output: "digit_accuracy".

    Parameters
    ----------
    part
        the output and its loss
    start
        where its cells begin among those of all outputs
    """

    higher_is_better = True

    def usual_name(self) -> str:
        return f"{self.part.output}_accuracy"

    def measured(self, y: HostArray, t: HostArray) -> tuple[float, int]:
        if y.shape[1] == 1:
            right = ((y > (self.part.threshold or 0.0)) == (t > 0.5))[:, 0]
        else:
            right = y.argmax(axis=1) == t.argmax(axis=1)
        counts = np.ones_like(right) if self.part.ignore_index is None else t[:, 0] >= 0
        return int((right & counts).sum()), int(counts.sum())
