"""What is trained and how: a value, which makes the state after each step of the one before."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import isfinite
from typing import Any

from xcnn.core import tree
from xcnn.core.primitives import HostPort
from xcnn.core.types import Array, Weights
from xcnn.errors import DTypeError, host_memory, short
from xcnn.layers.layer import Layer, Run
from xcnn.training import loss_scaling
from xcnn.training.divergence import diverged, first_non_finite, lost_moment
from xcnn.training.losses import Loss
from xcnn.training.optimizers import Optimizer
from xcnn.training.state import HostArray, TrainingState
from xcnn.training.step import Span, Step


@dataclass(frozen=True, eq=False)
class Trainer:
    """All that stays while one state follows another."""

    net: Layer
    """As it runs: runs of layers fused, and casts around layers where they compute in another type."""
    layers: Layer
    """The same, layer by layer."""
    loss: Loss
    optimizer: Optimizer
    threshold: float | None
    """Where a classifier's single output changes its class; None where the loss is not a classifier's."""
    places: int
    """Predictions of one sample."""
    at_once: int
    """Samples of a prediction that are computed at a time unless somebody says how many."""
    seed: int
    dtype: str
    precision: str
    backend: Any
    """An Engine, under that precision."""
    step: Step
    """The step, compiled."""

    def look(self) -> None:
        """Let a compiled step see what callbacks and users have changed: before each epoch, and each single step."""
        look = getattr(self.step, "look", None)
        if look is not None:
            look()

    def forward(self, weights: Weights, x: HostArray) -> Array:
        """The output for one batch, an array of the backend."""
        with host_memory("this batch"), self.backend.active():
            y, _ = self.net(weights, self.backend.asarray(x, self.dtype), self.asking)
        return y

    @cached_property
    def asking(self) -> Run:
        """What a prediction runs on."""
        return Run(self.backend, wants_backward=False)

    def after_step(
        self, state: TrainingState, x: HostArray, t: HostArray, within_epoch: bool = True
    ) -> tuple[TrainingState, float]:
        """The state after a step on one batch, which counts in its epoch or stands alone, and the batch's loss.

        Where only the loss's scale made a gradient infinite, the weights stay, the scale is halved, and the batch
        counts.

        Raises
        ------
        DivergedError
            X501, naming the first layer whose output or gradient is not finite.
        """
        backend, samples, key = self.backend, len(x), (self.seed, state.step)
        x, t = backend.asarray(x), backend.asarray(t)
        with (
            host_memory("this batch"),
            backend.active(),
        ):  # in which nothing raises: what is not finite is looked for below
            weights, moments, result = self.step(key, state.weights, state.optimizer_state, x, t)
            loss, norm, size = (to_float(backend, each) for each in (result.loss, result.norm, result.weight_norm))
            skipped = (
                not isfinite(norm) and loss_scaling.loss_scale(backend, state.optimizer_state) > loss_scaling.LEAST
            )
            if not (isfinite(loss) and isfinite(size) and (isfinite(norm) or skipped)):
                moment = lost_moment(moments) if isfinite(loss) and isfinite(norm) else ""
                run = Run(backend, True, key)
                first = moment or first_non_finite(self.layers, self.loss, state.weights, run, x, t)
                lost = "optimizer's moments" if moment else "weights"
                raise diverged(state, self.optimizer, self.precision, loss, norm, first, lost)
        check_dtypes(state.weights, weights)
        changed: dict[str, Any] = {
            "weights": weights,
            "optimizer_state": {**moments, "step": state.optimizer_state["step"]} if skipped else moments,
            "step": state.step + 1,
        }
        if within_epoch:
            changed |= {
                "batch": state.batch + 1,
                "loss": state.loss + loss * samples,
                "right": state.right + (0 if result.right is None else int(to_float(backend, result.right))),
                "seen": state.seen + samples,
            }
        return replace(state, **changed), loss

    def after_span(
        self, state: TrainingState, x: HostArray, t: HostArray, order: HostArray, batch_size: int
    ) -> TrainingState | None:
        """The state after some of the epoch's next steps in one go; None where the compiled step can't do that now."""
        span: Span | None = getattr(self.step, "span", None)
        if span is None:
            return None
        with self.backend.active():
            return span(self.seed, state, x, t, order, batch_size)


def to_float(backend: HostPort, value: Any) -> float:
    """A scalar array, or a number, as a number."""
    return float(value) if isinstance(value, int | float) else backend.to_number(value)


def check_dtypes(before: Weights, after: Weights) -> None:
    """Raise X103 where a step changed the type of a weight: a loss or layer computed in another."""
    if [old.dtype for old in tree.leaves(before)] == [new.dtype for new in tree.leaves(after)]:
        return
    for (name, old), new in zip(tree.items(before), tree.leaves(after), strict=True):
        if old.dtype != new.dtype:
            raise DTypeError(
                "X103",
                f"the step would make {short(name)} {new.dtype}; it is {old.dtype}.",
                hint="a loss or layer of yours gives gradients of another type than x.",
            )
