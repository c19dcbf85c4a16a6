"""One training step as a value, which backends compile; and what it asks of a backend."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass, is_dataclass
from functools import partial
from typing import Protocol, TypeAlias

from xcnn.core import random
from xcnn.core.likeness import likeness
from xcnn.core.primitives import HostPort, Primitives
from xcnn.core.pure import Impure, is_fixed, is_own, made_of
from xcnn.core.types import Array, Weights
from xcnn.layers.layer import Layer, Run
from xcnn.layers.others import held
from xcnn.training.losses import Loss
from xcnn.training.optimizers import Optimizer
from xcnn.training.state import HostArray, TrainingState


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


Step: TypeAlias = Callable[..., tuple[Weights, Weights, StepResult]]
"""step(key, weights, optimizer state, x, t) -> (weights, optimizer state, result); with `shares`, those of the loss."""
Span: TypeAlias = Callable[[int, TrainingState, HostArray, HostArray, HostArray, int], TrainingState | None]
"""span(seed, state, x, t, order, batch_size) -> the state after as many of the epoch's next steps as it sees fit.

A step that a backend compiled may have such a method. It gives None where the next step must be taken by itself, as one
whose loss or gradient is not finite.
"""


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

    def __call__(
        self, key: random.Key, weights: Weights, state: Weights, x: Array, t: Array, shares: Array | None = None
    ) -> tuple[Weights, Weights, StepResult]:
        """(weights, state, outcome) after the step."""
        return self.taken(Run(self.backend, train=True, key=key, wants_dx=False), weights, state, x, t, shares)

    def taken(
        self, run: Run, weights: Weights, state: Weights, x: Array, t: Array, shares: Array | None = None
    ) -> tuple[Weights, Weights, StepResult]:
        """The same in a run that somebody may look at."""
        y, backward = self.net(weights, x, run)
        if not is_own(type(self.net)):
            backward = held(self.net, weights, likeness(y), backward)
        loss = self.loss if shares is None else partial(self.loss, weights=shares)
        value, dy, right = self.backend.loss_and_gradient(loss, self.threshold, y, t, state.get("loss_scale"))
        _, grads = backward(dy)
        weights, state, norm, weight_norm = self.backend.update(self.optimizer, grads, state, weights)
        return weights, state, StepResult(value, norm, weight_norm, right, y if self.tells_outputs else None)


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
        parts = made_of((self.net_and_loss(), step.threshold, step.backend, step.tells_outputs))
        return parts, made_of(optimizer, ("learning_rate", *self.arguments))

    def net_and_loss(self) -> tuple[object, object]:
        """Both, as far as what is kept belongs to them."""
        return self.step.net, self.step.loss

    def forget(self) -> None:
        """Begin anew."""
        raise NotImplementedError
