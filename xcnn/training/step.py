"""One training step as a value, which backends compile; and what it asks of a backend."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass, is_dataclass, replace
from itertools import pairwise
from typing import Any, Protocol, TypeAlias

from xcnn.core import random, tree
from xcnn.core.arrays import full, is_floating, namespace
from xcnn.core.likeness import likeness
from xcnn.core.primitives import HostPort, Primitives
from xcnn.core.pure import Impure, is_fixed, is_own, made_of
from xcnn.core.types import Array, Weights
from xcnn.layers.layer import Layer, Next, Run
from xcnn.layers.others import held
from xcnn.training.losses import Loss, ignored, weighted
from xcnn.training.optimizers import Composite, Optimizer
from xcnn.training.output_losses import check_one_mean


class Engine(Primitives, HostPort, Protocol):
    """What a step asks of a backend beside what layers do."""

    def loss_and_gradient(
        self, loss: Loss, threshold: float | None, y: Array, t: Array, loss_scale: Array | None = None
    ) -> tuple[Array, Array, Array | None]:
        """The loss's value and gradient, and for classifiers how many samples are right."""
        ...

    def update(
        self, optimizer: Optimizer, grads: Weights, state: Weights, weights: Weights
    ) -> tuple[Weights, Weights, Array, Array]:
        """New weights and state, the norm of the gradients, that of the new weights."""
        ...


@dataclass(frozen=True)
class StepResult:
    """What a step tells: its loss, the norms of gradients and of new weights, for classifiers how much was right.

    Where metrics ask for them, the net's outputs too.
    """

    loss: Array
    norm: Array
    weight_norm: Array
    right: Array | None
    outputs: Array | None = None

    @classmethod
    def of(cls, told: dict[str, Any]) -> StepResult:
        """That of all its fields, by their names: what the class gives, in a third of its time."""
        new = object.__new__(cls)
        vars(new).update(told)
        return new


Step: TypeAlias = Callable[..., tuple[Weights, Weights, StepResult]]
"""step(key, weights, optimizer state, x, t) -> (weights, optimizer state, result); with `shares`, those of the loss."""

Gradients: TypeAlias = tuple[Weights, Array, "Array | None", Array]
"""Of a batch: the gradients, the loss, how much is right, and the outputs."""


@dataclass(frozen=True)
class TrainingStep:
    """One training step. A value like its parts, so that a backend can tell that it has compiled an equal one."""

    net: Layer
    loss: Loss
    optimizer: Optimizer
    threshold: float | None
    backend: Engine
    tells_outputs: bool = False
    """Whether the result has the net's outputs."""
    accumulate: int = 1
    """Parts that a batch is computed in, one after another, whose gradients are added up."""

    def __call__(
        self, key: random.Key, weights: Weights, state: Weights, x: Array, t: Array, shares: Array | None = None
    ) -> tuple[Weights, Weights, StepResult]:
        """(weights, state, outcome) after the step."""
        return self.taken(Run(self.backend, train=True, key=key, wants_dx=False), weights, state, x, t, shares)

    def taken(
        self, run: Run, weights: Weights, state: Weights, x: Array, t: Array, shares: Array | None = None
    ) -> tuple[Weights, Weights, StepResult]:
        """The same in a run that somebody may look at."""
        sums = self.gradients if self.accumulate == 1 else self.accumulated
        grads, value, right, y = sums(run, weights, state.get("loss_scale"), x, t, shares)
        weights, state, norm, weight_norm = self.backend.update(self.optimizer, grads, state, weights)
        return weights, state, StepResult(value, norm, weight_norm, right, y if self.tells_outputs else None)

    def gradients(
        self, run: Run, weights: Weights, loss_scale: Array | None, x: Array, t: Array, shares: Array | None
    ) -> Gradients:
        """Those of a batch, its loss, how much of it is right, and the outputs."""
        y, backward = self.net(weights, x, run)
        if not is_own(type(self.net)):
            backward = held(self.net, weights, likeness(y), backward)
        loss = weighted(self.loss, shares)
        value, dy, right = self.backend.loss_and_gradient(loss, self.threshold, y, t, loss_scale)
        _, grads = backward(dy)
        return grads, value, right, y

    def accumulated(
        self, run: Run, weights: Weights, loss_scale: Array | None, x: Array, t: Array, shares: Array | None
    ) -> Gradients:
        """The same, part by part: each counts by its share in the mean, as if the batch were computed in one go.

        What follows from the statistics of a batch, as BatchNorm's, follows from those of each part.
        """
        whole: Gradients | None = None
        cuts = [x.shape[0] * n // self.accumulate for n in range(self.accumulate + 1)]
        total = portion_of(self.loss, t, shares)
        for first, end in pairwise(cuts):
            if first == end:
                continue
            here = slice(first, end)
            mine = None if shares is None else shares[here, ...]
            inner = replace(run, key=(*run.key, first))
            part = self.gradients(inner, weights, loss_scale, x[here, ...], t[here, ...], mine)
            weights = tree.map(lambda w, g: g.value if isinstance(g, Next) else w, weights, part[0])
            whole = joined(whole, part, portion_of(self.loss, t[here, ...], mine) / total)
        if whole is None:  # a batch of no samples
            return self.gradients(run, weights, loss_scale, x, t, shares)
        return whole


def portion_of(loss: Loss, t: Array, shares: Array | None) -> Any:
    """What the mean of a batch's loss is divided by, but for a factor that all of its parts share; above 0."""
    check_one_mean(loss, "parts of a batch")
    left_out = ignored(loss)
    if shares is None and (left_out is None or is_floating(t)):
        return t.shape[0]
    xp = namespace(t if shares is None else shares)
    count = xp.sum(xp.astype(t != left_out, xp.float64)) if shares is None else xp.sum(shares)
    return xp.maximum(count, full(count, (), 1e-30))


def joined(whole: Gradients | None, part: Gradients, portion: Any) -> Gradients:
    """The sums with one more part, which is this portion of the batch."""

    def weighed(g: Any) -> Any:
        return g if isinstance(g, Next) else g * (portion if isinstance(portion, float) else as_type(portion, g))

    grads, value, right, y = part
    grads, value = tree.map(weighed, grads), weighed(value)
    if whole is None:
        return grads, value, right, y
    before, sum_of_losses, so_far, outputs = whole
    added = tree.map(lambda a, b: b if isinstance(b, Next) else a + b, before, grads)
    xp = namespace(y)
    count = None if right is None or so_far is None else so_far + right
    return added, sum_of_losses + value, count, xp.concat([outputs, y], axis=0)


def as_type(number: Array, like: Array) -> Array:
    """A number in an array's type."""
    return namespace(number).astype(number, like.dtype, copy=False)


class Kept:
    """What recorded, compiled and captured steps share: they keep what pure code did, and call all other code.

    `reason` says why steps run operation by operation, if they do.

    Parameters
    ----------
    compiles
        whether the backend wants them to be kept
    """

    arguments: Collection[str] = ()
    """Options of the optimizer that are arguments of what is kept, beside its rate."""

    step: TrainingStep
    compiles: bool
    fixed: bool
    unkept: str
    """Why nothing is kept; "" where it is."""
    reason: str
    """Why steps run operation by operation; "" where they do not."""

    def __init__(self, step: TrainingStep, compiles: bool) -> None:
        self.step, self.compiles = step, compiles
        self.made_of: Hashable = None
        self.fixed = False
        self.look()
        self.fixed = self.made_of is not None and is_fixed((step.net, step.loss, step.backend, step.optimizer))

    def look(self) -> None:
        """See what the step is made of, before an epoch or a single step; begin anew if that is something else now."""
        if self.fixed:
            return
        before, self.unkept = self.made_of, ""
        try:
            self.made_of = self.of_step() if self.compiles else None
        except Impure as why:
            self.made_of, self.unkept = None, str(why)
        if not self.compiles:
            self.unkept = "the backend was made with compiles=False."
        if self.made_of != before or self.made_of is None:
            self.reason = self.unkept
            self.forget()

    def of_step(self) -> Hashable:
        """What the step is made of, but for what its calls are given."""
        step, optimizer = self.step, self.step.optimizer
        if not is_dataclass(optimizer):
            raise Impure(f"{type(optimizer).__name__} is no dataclass.")
        parts = made_of((self.net_and_loss(), step.threshold, step.backend, step.tells_outputs, step.accumulate))
        if isinstance(optimizer, Composite):  # whose rate is that of another
            return parts, made_of(optimizer.with_rate(0.0), self.arguments)
        return parts, made_of(optimizer, ("learning_rate", *self.arguments))

    def net_and_loss(self) -> tuple[object, object]:
        """Both, as far as what is kept belongs to them."""
        return self.step.net, self.step.loss

    def forget(self) -> None:
        """Begin anew."""
        raise NotImplementedError
