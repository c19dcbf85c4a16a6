"""What is asked of a layer, and of its place, to write it."""

from __future__ import annotations

from typing import Any

from xcnn.core.random import Planner
from xcnn.core.types import Pads, Shape
from xcnn.exchange.onnx.graph import Tensor
from xcnn.layers import Layer
from xcnn.layers.signals import OfSignals


def after(layer: Layer, shape: Shape) -> Shape:
    """The shape of a sample behind a layer."""
    return tuple(layer.init(Planner(), shape)[1])


def flat(pads: Pads) -> list[int]:
    """(before, after) of each axis as ONNX lists them: what is before each, then what is after each."""
    return [lo for lo, _ in pads] + [hi for _, hi in pads]


def planar(layer: Any, x: Tensor) -> tuple[Any, Shape, int]:
    """The layer as one of images, these images' sizes, and how many axes a sample has behind its channels."""
    if isinstance(layer, OfSignals):
        return layer.twin(), (1, *x.shape[1:]), 1
    return layer, x.shape[1:], 2
