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
from xcnn.training.losses import Loss, ignored
from xcnn.training.metrics import Metric, counts_of, merged
from xcnn.training.optimizers import Optimizer
from xcnn.training.spans import Laid, Span, Spanned
from xcnn.training.state import HostArray, TrainingState
from xcnn.training.step import Step, TrainingStep


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
    metrics: tuple[Metric, ...] = ()
    """What is measured beside the loss."""
    accumulate: int = 1
    """Parts that a batch is computed in."""

    @property
    def plain_step(self) -> TrainingStep:
        """The step, not compiled."""
        how = bool(self.metrics), self.accumulate
        return TrainingStep(self.net, self.loss, self.optimizer, self.threshold, self.backend, *how)

    def accumulating(self, parts: int) -> Trainer:
        """The same, whose batches are computed in so many parts."""
        if parts == self.accumulate:
            return self
        other = replace(self, accumulate=parts)
        return replace(other, step=self.backend.compile(other.plain_step))

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

    def asked(self, state: TrainingState) -> Weights:
        """The weights that predictions are made with: those that are trained, or their average."""
        return self.optimizer.asked(state.weights, state.optimizer_state)

    @cached_property
    def asking(self) -> Run:
        """What a prediction runs on."""
        return Run(self.backend, wants_backward=False)

    @property
    def ignore_index(self) -> int | None:
        """The label of what the loss leaves out."""
        return ignored(self.loss)

    def after_step(
        self,
        state: TrainingState,
        x: HostArray,
        t: HostArray,
        within_epoch: bool = True,
        shares: HostArray | None = None,
    ) -> tuple[TrainingState, float]:
        """The state after a step on one batch, which counts in its epoch or stands alone, and the batch's loss.

        Where only the loss's scale made a gradient infinite, the weights stay, the scale is halved, and the batch
        counts. `shares` are weights of the samples, or of each of their places, in the loss.

        Raises
        ------
        DivergedError
            X501, naming the first layer whose output or gradient is not finite.
        """
        backend, key = self.backend, (self.seed, state.step)
        given = (t, shares)
        x, t, *weighting = map(backend.asarray, (x, t) if shares is None else (x, t, shares))
        with (
            host_memory("this batch"),
            backend.active(),
        ):  # in which nothing raises: what is not finite is looked for below
            step = self.step if within_epoch else getattr(self.step, "uncounted", self.step)
            weights, moments, result = step(key, state.weights, state.optimizer_state, x, t, *weighting)
            loss, norm = to_float(backend, result.loss), to_float(backend, result.norm)
            size = to_float(backend, result.weight_norm)
            skipped = (
                not isfinite(norm) and loss_scaling.loss_scale(backend, state.optimizer_state) > loss_scaling.LEAST
            )
            if not (isfinite(loss) and isfinite(size) and (isfinite(norm) or skipped)):
                moment = lost_moment(moments) if isfinite(loss) and isfinite(norm) else ""
                first = moment or self.first_non_finite(state, x, t)
                lost = "optimizer's moments" if moment else "weights"
                raise diverged(state, self.optimizer, self.precision, loss, norm, first, lost)
        check_dtypes(state.weights, weights)
        changed: dict[str, Any] = {
            "weights": weights,
            "optimizer_state": {**moments, "step": state.optimizer_state["step"]} if skipped else moments,
            "step": state.step + 1,
        }
        if within_epoch:
            state = self.with_sums(
                state, self.of_all(self.sums(loss, result.right, given, self.on_host(result.outputs)))
            )
            changed["batch"] = state.batch + 1
        return state.but(**changed), loss

    def first_non_finite(self, state: TrainingState, x: Array, t: Array) -> str:
        """Where the first value of a step stands that is not finite."""
        run = Run(self.backend, True, (self.seed, state.step))
        return first_non_finite(self.layers, self.loss, state.weights, run, x, t)

    def on_host(self, outputs: Array | None) -> HostArray | None:
        """Outputs that metrics ask for."""
        return None if outputs is None else self.backend.to_numpy(outputs)

    def sums(
        self, loss: float, right: Array | None, given: tuple[HostArray, HostArray | None], y: HostArray | None
    ) -> TrainingState:
        """What a batch adds to the sums of an epoch, as a state: of its mean loss, targets, shares and outputs."""
        weight, labels = self.weight_of(*given)
        return TrainingState(
            {},
            {},
            loss=loss * weight,
            weight=weight,
            labels=labels,
            right=0 if right is None else int(to_float(self.backend, right)),
            seen=len(given[0]),
            counts=() if y is None else counts_of(self.metrics, y, given[0]),
        )

    def with_sums(self, state: TrainingState, more: TrainingState) -> TrainingState:
        """The state with the sums of more batches."""
        here, there = vars(state), vars(more)
        added = {name: here[name] + there[name] for name in SUMS}
        return state.but(**added, counts=merged(self.metrics, state.counts, more.counts))

    # Where several processes train one model, each has a part of what follows.

    def of_all(self, sums: TrainingState) -> TrainingState:
        """The sums of all who have a part of a batch, or of the data; here they are those of one process."""
        return sums

    def in_all(self, samples: int) -> int:
        """The samples of a batch that all have together."""
        return samples

    def part_of(self, batches: int | None) -> slice:
        """Which of so many batches this process measures; None is that nobody knows how many there are."""
        return slice(None)

    def weight_of(self, t: HostArray, shares: HostArray | None = None) -> tuple[float, int]:
        """What a batch's loss is the mean of, in samples, and how many of its places have labels that count."""
        labels = len(t) * self.places
        if self.ignore_index is not None and t.size == labels:
            labels = int((t != self.ignore_index).sum())
        if shares is not None:  # which are 0 where a label does not count
            return float(shares.sum(dtype="float64")) * len(t) / max(shares.size, 1), labels
        return labels / self.places, labels

    @property
    def spans(self) -> bool:
        """Whether the compiled step can take many steps in one go."""
        return hasattr(self.step, "span")

    def after_span(self, state: TrainingState, data: Laid, batch_size: int) -> TrainingState | None:
        """The state after some of the epoch's next steps in one go; None where the compiled step can't do that now."""
        span: Span = self.step.span  # type: ignore[attr-defined]
        with self.backend.active():
            done = span(self.seed, state, data, batch_size)
        return None if done is None else self.entered(state, done, data)

    def entered(self, before: TrainingState, done: Spanned, data: Laid) -> TrainingState:
        """The state after a span, each of its steps counted as one that was taken by itself."""
        state, steps = replace(done.state, seen=before.seen), len(done.losses)
        count, looks = (done.state.seen - before.seen) // steps, bool(self.metrics) or self.ignore_index is not None
        for n, loss in enumerate(done.losses.tolist()):
            rows = data.order[before.seen + n * count :][:count]
            t = data.t[rows] if looks else data.t[:count]  # of which nothing but the size is looked at
            shares = None if data.shares is None else data.shares[rows]
            y = None if done.outputs is None else done.outputs[n]
            state = self.with_sums(state, self.sums(loss, None, (t, shares), y))
        return state


SUMS = ("loss", "weight", "labels", "right", "seen")
"""What a state sums up over the batches of an epoch, beside what metrics count."""


NUMBERS = (int, float)
"""Python's own."""


def to_float(backend: HostPort, value: Any) -> float:
    """A scalar array, or a number, as a number."""
    return float(value) if isinstance(value, NUMBERS) else backend.to_number(value)


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
