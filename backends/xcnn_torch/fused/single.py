"""Layers without weights that PyTorch computes in one operation each way: activations, poolings, and Flatten.

GELU is PyTorch's to 6e-8 of x in float32, not to all digits of a value near 0 as the layer's own formula is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from xcnn.core.types import Array, Weights
from xcnn.core.windows import pair
from xcnn.layers import (
    ELU,
    GELU,
    AveragePool2D,
    Flatten,
    GlobalAveragePool2D,
    LeakyReLU,
    MaxPool2D,
    ReLU,
    Sigmoid,
    SiLU,
    Softplus,
    Tanh,
    UpSampling2D,
)
from xcnn.layers.layer import Layer, Run
from xcnn.training.precision import within
from xcnn_torch.fused.common import aten, computes_in, gives, holds, slope
from xcnn_torch.memory import empty_like, typed
from xcnn_torch.pooling import MaxPool, of_first_nan

if TYPE_CHECKING:
    from xcnn_strided.fusion import FusedBackward, Named

    from xcnn_torch.host import Host

Both = tuple[Array, Callable[[Array], Array]]
"""Y, and the function from dY to dX."""


def relu(layer: ReLU, x: Array) -> Both:
    """Y = the larger of X and 0."""
    y = torch.relu(x)
    return y, lambda dy: slope(ReLU, dy, y)


def sigmoid(layer: Sigmoid, x: Array) -> Both:
    """Y = 1 / (1 + exp(-X))."""
    y = torch.sigmoid(x)
    return y, lambda dy: slope(Sigmoid, dy, y)


def tanh(layer: Tanh, x: Array) -> Both:
    """Y = the hyperbolic tangent."""
    y = torch.tanh(x)
    return y, lambda dy: slope(Tanh, dy, y)


def silu(layer: SiLU, x: Array) -> Both:
    """Y = X sigmoid(X)."""
    return aten.silu(x), lambda dy: aten.silu_backward(dy, x)


def gelu(layer: GELU, x: Array) -> Both:
    """Y = X Phi(X)."""
    form = "tanh" if layer.approximate else "none"
    return aten.gelu(x, approximate=form), lambda dy: aten.gelu_backward(dy, x, approximate=form)


def leaky_relu(layer: LeakyReLU, x: Array) -> Both:
    """Y = X where X > 0, else its share."""
    share = layer.negative_slope
    return aten.leaky_relu(x, share), lambda dy: aten.leaky_relu_backward(dy, x, share, False)


def elu(layer: ELU, x: Array) -> Both:
    """Y = X where X > 0, else alpha (exp(X) - 1)."""
    alpha = layer.alpha
    return aten.elu(x, alpha), lambda dy: aten.elu_backward(dy, alpha, 1, 1, False, x)


def softplus(layer: Softplus, x: Array) -> Both:
    """Y = log(1 + exp(X)), which from 40 on is X to the last digit."""
    return aten.softplus(x, 1, 40), lambda dy: aten.softplus_backward(dy, x, 1, 40)


def flatten(layer: Flatten, x: Array) -> Both:
    """Y = X, with all axes of a sample in one."""
    return x.reshape(len(x), -1), lambda dy: dy.reshape(x.shape)


def mean(layer: GlobalAveragePool2D, x: Array) -> Both:
    """Y = the mean of each channel."""
    cells = x.shape[2] * x.shape[3]
    return x.mean((2, 3)), lambda dy: (dy / cells)[:, :, None, None].expand(x.shape)


def max_pool(layer: MaxPool2D, x: Array) -> Both:
    """Y = the largest cell of each window."""
    pool = pool_of(layer, x)
    assert pool is not None
    y, places = pool(x)

    def backward(dy: Array) -> Array:
        return pool.backward(dy, empty_like(x), of_first_nan(places, y, x, pool.size, pool.stride, pool.padding))

    return y, backward


def average_pool(layer: AveragePool2D, x: Array) -> Both:
    """Y = the mean of each window, of its cells within the image."""
    pool = pool_of(layer, x)
    assert pool is not None
    how = pool.size, pool.stride, pool.padding, False, False, None
    return aten.avg_pool2d(x, *how), lambda dy: aten.avg_pool2d_backward(dy, x, *how)


def up_sampling(layer: UpSampling2D, x: Array) -> Both:
    """Y = each cell repeated, or lines between the cells."""
    sizes = [n * s for n, s in zip(x.shape[2:], pair("size", layer.size), strict=True)]
    if layer.interpolation == "nearest":
        return aten.upsample_nearest2d(x, sizes), lambda dy: aten.upsample_nearest2d_backward(dy, sizes, x.shape)
    y = aten.upsample_bilinear2d(x, sizes, False)
    return y, lambda dy: aten.upsample_bilinear2d_backward(dy, sizes, x.shape, False)


def is_placed(layer: UpSampling2D) -> bool:
    """Whether PyTorch finds the cells, whose places it counts in float32, without rounding."""
    return all(s & (s - 1) == 0 for s in pair("size", layer.size))


def pool_of(layer: MaxPool2D | AveragePool2D, x: Array) -> MaxPool | None:
    """The pooling of these images, if PyTorch can place its windows."""
    if x.ndim != 4:
        return None
    pool = MaxPool.of(pair("pool_size", layer.pool_size), **layer.window(x.shape[2:]))
    return pool if pool is not None and min(pool.output(x.shape[2:])) > 0 else None


FUNCTIONS: dict[type, Callable[..., Both]] = {
    ReLU: relu,
    Sigmoid: sigmoid,
    Tanh: tanh,
    Flatten: flatten,
    SiLU: silu,
    GELU: gelu,
    LeakyReLU: leaky_relu,
    ELU: elu,
    Softplus: softplus,
    GlobalAveragePool2D: mean,
    AveragePool2D: average_pool,
    UpSampling2D: up_sampling,
    MaxPool2D: max_pool,
}


@dataclass(frozen=True)
class Single:
    """One of these layers."""

    name: str
    outer: Layer
    """The layer, or a Cast around it."""

    def fits(self, weights: Weights, x: Array) -> bool:
        layer = within(self.outer)
        if not holds(self.outer, x) or (type(layer) in (GlobalAveragePool2D, UpSampling2D) and x.ndim != 4):
            return False
        if isinstance(layer, UpSampling2D):
            return is_placed(layer)
        if isinstance(layer, AveragePool2D) and layer.count_include_pad:
            return False
        return not isinstance(layer, MaxPool2D | AveragePool2D) or pool_of(layer, x) is not None

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, FusedBackward]:
        layer, x_type, dtype = within(self.outer), x.dtype, computes_in(self.outer, x.dtype)
        y, before = FUNCTIONS[type(layer)](layer, typed(x, dtype))

        def backward(dy: Array, grads: Weights) -> Array:
            return typed(before(typed(dy, dtype)), x_type)

        return typed(y, gives(self.outer, dtype)), backward


def fuse(backend: Host, layers: Named, n: int) -> tuple[int, Single] | None:
    """Each of them by itself."""
    name, outer = layers[n]
    return (1, Single(name, outer)) if type(within(outer)) in FUNCTIONS else None
