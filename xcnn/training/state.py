"""Where training stands, as one value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from xcnn.core.types import Weights
from xcnn.training.rows import Rows

HostArray: TypeAlias = np.ndarray[Any, Any]
Counts: TypeAlias = dict[str, Any]
"""What a metric has counted: host arrays by names."""


@dataclass(frozen=True)
class TrainingState:
    """Where training stands: all that a step changes, replaced as a whole, so that an interrupt finds it consistent.

    `epoch` counts finished epochs, and `rows` is their history; `batch` counts the batches done since, and `loss`,
    `right` and `seen` sum over those. So do `weight`, which `loss` is divided by, in samples: their number, unless
    samples or classes have weights, or labels are left out; `labels`, the places that count for the accuracy; and
    `counts`, one for each metric.
    """

    weights: Weights
    optimizer_state: Weights
    step: int = 0
    epoch: int = 0
    batch: int = 0
    loss: float = 0.0
    right: int = 0
    seen: int = 0
    weight: float = 0.0
    labels: int = 0
    counts: tuple[Counts, ...] = ()
    rows: Rows = field(default_factory=Rows)
    rate_offset: int = 0
    """What is added to the number of the optimizer's updates for its schedule's step: that may have begun later."""

    def but(self, **others: Any) -> TrainingState:
        """The same with other values of these fields: what `dataclasses.replace` gives, in a fourth of its time."""
        new = object.__new__(TrainingState)
        vars(new).update(vars(self), **others)
        return new

    def with_rows_of_its_own(self) -> TrainingState:
        """The same with copies of its rows, which callbacks may write into."""
        return self.but(rows=Rows(map(dict, self.rows)))

    def without_epoch(self) -> TrainingState:
        """The same at the begin of an epoch: what was done of this one does not count."""
        return self.but(batch=0, loss=0.0, right=0, seen=0, weight=0.0, labels=0, counts=())
