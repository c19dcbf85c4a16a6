"""One training step as a value, which backends compile; and what it asks of a backend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from xcnn.core import random
from xcnn.core.primitives import HostPort, Primitives
from xcnn.core.types import Array, Weights
from xcnn.layers.layer import Layer, Run
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
    """What a step tells: its loss, the norms of gradients and of new weights, for classifiers how much was right."""

    loss: Array
    norm: Array
    weight_norm: Array
    right: Array | None


Step: TypeAlias = Callable[[random.Key, Weights, Weights, Array, Array], tuple[Weights, Weights, StepResult]]
"""step(key, weights, optimizer state, x, t) -> (weights, optimizer state, result)."""
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

    def __call__(
        self, key: random.Key, weights: Weights, state: Weights, x: Array, t: Array
    ) -> tuple[Weights, Weights, StepResult]:
        """(weights, state, outcome) after the step."""
        y, backward = self.net(weights, x, Run(self.backend, train=True, key=key, wants_dx=False))
        value, dy, right = self.backend.loss_and_gradient(self.loss, self.threshold, y, t, state.get("loss_scale"))
        _, grads = backward(dy)
        weights, state, norm, weight_norm = self.backend.update(self.optimizer, grads, state, weights)
        return weights, state, StepResult(value, norm, weight_norm, right)
