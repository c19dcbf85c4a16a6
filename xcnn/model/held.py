"""What the rooms of this wing ask of a model: the seam below Model."""

from __future__ import annotations

from typing import Any, Protocol

from xcnn.backends.contract import Backend
from xcnn.core.process import Turn
from xcnn.core.types import DTypeName, Shape, Weights
from xcnn.layers.layer import Layer
from xcnn.model.taking import Taking
from xcnn.training.history import History
from xcnn.training.losses import Loss
from xcnn.training.state import TrainingState
from xcnn.training.trainer import Trainer


class Held(Protocol):
    """A net that is built, and where its training stands."""

    dtype: DTypeName
    input_shape: Shape
    output_shape: Shape
    trainer: Trainer
    state: TrainingState
    plan: dict[str, Any]
    info: dict[str, Any]
    history: History
    turn: Turn

    @property
    def taking(self) -> Taking:
        """What it makes of bytes and of the names of classes."""
        ...

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


def class_names(model: Held) -> list[str]:
    """The classes that the model was trained on; none where its `info`, which is its user's, does not tell them."""
    if not (names := model.info.get("classes")):
        return []
    told = [str(name) for name in names] if isinstance(names, list | tuple) else []
    return told if len(set(told)) == len(told) else []


def numbered_names(model: Held, count: int) -> list[str]:
    """The names of so many classes, or their numbers where the model's `info` does not tell as many."""
    names = class_names(model)
    return names if len(names) == count else [str(n) for n in range(count)]
