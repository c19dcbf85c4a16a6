"""A learning rate that goes down when a column of the history stops getting better."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace
from typing import Any

from xcnn.core.checks import check_between, check_rate, check_whole
from xcnn.core.options import checked
from xcnn.training.callbacks import Monitoring, Trained, check_mode, direction, is_better, value_of, way_of
from xcnn.training.history import History
from xcnn.training.schedules import Scaled, Schedule


@checked
@dataclass
class ReduceOnPlateau(Monitoring):
    """Multiplies the learning rate by `factor` when `monitor` has not got better for `patience` epochs.

    A schedule goes on under the factor. What was seen stands in `model.plan`, which checkpoints keep: a training that
    is resumed goes on with it, whether the checkpoint was written before this callback was called or behind it.

    Parameters
    ----------
    monitor
        a column of the history
    patience
        epochs without a better value, at least 1
    factor
        what the rate is multiplied by, from 0 to 1
    min_delta
        by how much a value must be better to count, in units of the column
    cooldown
        epochs after a reduction that are not counted
    min_rate
        the smallest rate
    mode
        "min" or "max", the better way; None takes it from the metric or the name

    Raises
    ------
    OptionError
        X104, for an option that it can't have.

    Examples
    --------
    >>> xcnn.ReduceOnPlateau("val_loss", patience=2, factor=0.5).factor
    0.5
    """

    monitor: str = "val_loss"
    patience: int = 3
    _: KW_ONLY
    factor: float = 0.1
    min_delta: float = 0.0
    cooldown: int = 0
    min_rate: float = 0.0
    mode: str | None = None

    def __post_init__(self) -> None:
        check_whole("patience", self.patience)
        check_whole("cooldown", self.cooldown, least=0)
        check_between("factor", self.factor, 0, 1)
        check_rate("min_delta", self.min_delta)
        check_rate("min_rate", self.min_rate)
        check_mode(self.mode)

    def __call__(self, model: Trained, history: History) -> None:
        """Look at the epochs that were not looked at yet, and reduce the rate if it is time to."""
        callbacks, name = model.plan.get("callbacks", {}), f"ReduceOnPlateau {self.monitor}"
        first = {"seen": max(len(history) - (model.state.epoch - model.plan.get("began", 0)), 0), "best": None}
        seen = {**first, "waited": 0, "resting": 0, **callbacks.get(name, {})}
        way, reductions = direction(self.monitor, way_of(model, self.monitor, self.mode)), 0
        for row in history.rows[seen["seen"] :]:
            reductions += self.looked_at(seen, value_of(row, self.monitor), way)
        model.plan = {**model.plan, "callbacks": {**callbacks, name: seen}}
        if reductions:
            model.learning_rate = self.reduced(model.optimizer.learning_rate, self.factor**reductions)

    def looked_at(self, seen: dict[str, Any], value: float | None, way: str) -> bool:
        """Enter an epoch's value; whether the rate is reduced behind it."""
        seen["seen"] += 1
        best = seen["best"]
        if value is not None and (best is None or is_better(way, value, best, self.min_delta)):
            seen["best"], seen["waited"] = value, 0
        else:
            seen["waited"] += 1
        if seen["resting"]:
            seen["resting"] -= 1
            seen["waited"] = 0
        if seen["waited"] < self.patience:
            return False
        seen["waited"], seen["resting"] = 0, self.cooldown
        return True

    def reduced(self, rate: float | Schedule, factor: float) -> float | Schedule:
        """The rate, or the schedule, by the factor, but not below the smallest."""
        if isinstance(rate, Scaled):
            return replace(rate, factor=rate.factor * factor, least=max(rate.least, self.min_rate))
        if isinstance(rate, Schedule):
            return Scaled(rate, factor, least=self.min_rate)
        return max(rate * factor, min(rate, self.min_rate))
