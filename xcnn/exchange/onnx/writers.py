"""The table of how layers are written as operators of ONNX, and how one of it is called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from xcnn.exchange.onnx.graph import Scope
from xcnn.layers import Layer

Tree = Mapping[str, Any]
"""Weights as NumPy arrays."""
Writer = Callable[[Any, Tree, Any, Scope], Any]
"""From a layer, its weights, its input and its place to its output."""

LAYERS: dict[type, Writer] = {}
"""How each class of layers is written."""

Written = TypeVar("Written", bound=Writer)


def writes(*classes: type) -> Callable[[Written], Written]:
    """Enter a function into the table for these classes."""

    def enter(function: Written) -> Written:
        LAYERS.update(dict.fromkeys(classes, function))
        return function

    return enter


def write(layer: Layer, weights: Tree, x: Any, here: Scope) -> Any:
    """Add a layer's nodes, by the table or by its own `to_onnx`, and give its output; several are tuples."""
    writer = LAYERS.get(type(layer))
    return writer(layer, weights, x, here) if writer else layer.to_onnx(weights, x, here)  # type: ignore[attr-defined]
