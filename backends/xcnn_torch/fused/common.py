"""What the runs share: the layer behind a Cast, the activation after it, and when a run fits its tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from xcnn.core.types import Array, Weights
from xcnn.layers import ReLU, Sigmoid, Tanh
from xcnn.layers.layer import Layer
from xcnn.training.precision import Cast, within
from xcnn_torch import memory
from xcnn_torch.memory import PLAIN, empty_like

if TYPE_CHECKING:
    from xcnn_strided.fusion import Named

aten = torch.ops.aten
FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def relu_slope(dy: Array, y: Array) -> Array:
    """The gradient before a ReLU."""
    if y.nbytes < memory.LARGE or dy.requires_grad:  # autograd takes no results that it is given
        return aten.threshold_backward(dy, y, 0)
    return aten.threshold_backward.grad_input(dy, y, 0, grad_input=empty_like(y))


SLOPES: dict[type | None, Callable[[Array, Array], Array]] = {
    None: lambda dy, y: dy,
    ReLU: relu_slope,
    Sigmoid: aten.sigmoid_backward,
    Tanh: aten.tanh_backward,
}
"""The activations that can end a run, or none: from dy and y to the gradient before them."""
IN_PLACE: dict[type | None, Callable[[Array], Array]] = {
    None: lambda y: y,
    ReLU: torch.relu_,
    Sigmoid: torch.sigmoid_,
    Tanh: torch.tanh_,
}
"""Each of them on a tensor that the run has just made."""
INTO: dict[type, Callable[..., Array]] = {
    ReLU: lambda z, out: torch.clamp_min(z, 0, out=out),
    Sigmoid: torch.sigmoid,
    Tanh: torch.tanh,
}
"""Each of them from one tensor into another, `out`."""


def slope(activation: type | None, dy: Array, y: Array) -> Array:
    """The gradient before the activation that gave y."""
    return SLOPES[activation](dy, y)


def computes_in(layer: Layer, dtype: torch.dtype) -> torch.dtype:
    """The type that a layer computes in: that of its weights or its x, or a Cast's."""
    return getattr(torch, layer.compute) if isinstance(layer, Cast) else dtype


def gives(layer: Layer, dtype: torch.dtype) -> torch.dtype:
    """The type of its output, if it computes in this one."""
    return getattr(torch, layer.result) if isinstance(layer, Cast) else dtype


def followed_by(layers: Named, n: int, *kinds: type) -> Layer | None:
    """The layer after the n-th, if it is of one of these classes, in a Cast or not, and computes in the same type."""
    if len(layers) <= n + 1 or type(within(layers[n + 1][1])) not in kinds:
        return None
    types = [layer.compute if isinstance(layer, Cast) else None for _, layer in layers[n : n + 2]]
    return layers[n + 1][1] if types[0] == types[1] else None


def activation_after(layers: Named, n: int) -> type | None:
    """The activation that follows layer n, as far as runs can end in it."""
    found = followed_by(layers, n, ReLU, Sigmoid, Tanh)
    return type(within(found)) if found else None


def holds(layer: Layer, x: Array, weights: Weights | None = None) -> bool:
    """Whether x is a tensor that a run takes, its weights beside it and of its type, unless a Cast sees to that.

    Where a tensor wants gradients of PyTorch's autograd, the layers are called, whose operations are recorded.
    """
    if type(x) not in PLAIN or x.dtype not in FLOATS or x.requires_grad or x.numel() == 0:
        return False
    cast = isinstance(layer, Cast)
    return all(
        type(w) in PLAIN and w.device == x.device and not w.requires_grad and (cast or w.dtype == x.dtype)
        for w in (weights or {}).values()
    )
