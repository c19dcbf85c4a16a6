"""What the rooms of this wing ask of a model: the seam below Model."""

from __future__ import annotations

from typing import Any, Protocol

from xcnn.backends.contract import Backend
from xcnn.core.process import Turn
from xcnn.core.types import Shape, Weights
from xcnn.layers.layer import Layer
from xcnn.training.history import History
from xcnn.training.losses import Loss
from xcnn.training.state import TrainingState
from xcnn.training.trainer import Trainer


class Held(Protocol):
    """A net that is built, and where its training stands."""

    dtype: str
    input_shape: Shape
    output_shape: Shape
    trainer: Trainer
    state: TrainingState
    plan: dict[str, Any]
    info: dict[str, Any]
    history: History
    turn: Turn

    @property
    def backend(self) -> Backend:
        """Where the weights are."""
        ...

    @property
    def net(self) -> Layer:
        """The layers."""
        ...

    @property
    def loss(self) -> Loss:
        """The loss."""
        ...

    @property
    def precision(self) -> str:
        """What the layers compute in."""
        ...

    @property
    def weights(self) -> Weights:
        """The tree of weights."""
        ...
