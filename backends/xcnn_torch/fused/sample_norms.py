"""Group and layer normalisation by PyTorch's own operations, which keep the mean and 1 / deviation of each sample.

Their sums of squares, and the gradient's two terms of X, cancel where a mean is many deviations from 0. A look at what
they kept tells: from FAR deviations on, what they are given has its mean taken away first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import torch

from xcnn.core.types import Array, Shape, Weights
from xcnn.layers import GroupNorm, LayerNorm
from xcnn.layers.layer import Layer, Run
from xcnn.training.precision import within
from xcnn_torch.fused.common import aten, computes_in, gives, holds
from xcnn_torch.memory import arranged, is_last, typed
from xcnn_torch.recording import at_once

if TYPE_CHECKING:
    from xcnn_strided.fusion import FusedBackward, Named

    from xcnn_torch.host import Host

FAR = 4.0
"""Deviations: so many times themselves are the digits that cancel."""
Three = tuple[Array, Array, Array]
"""Y, mean and 1 / deviation; or dX, dscale and dbias."""


def is_far(mean: Array, inverse: Array) -> bool:
    """Whether a mean is far from 0. On a GPU nobody can look while a step is captured: there PyTorch's way is taken."""
    return mean.is_cpu and not bool((mean * inverse).abs().max() <= FAR)


def standardised(x: Array, mean: Array, inverse: Array) -> Array:
    """(X - mean) inverse."""
    return (x - mean).mul_(inverse)


@at_once
def layer_forward(x: Array, shape: Shape, scale: Array, bias: Array, epsilon: float) -> Three:
    """Y, mean and 1 / deviation over the last axes, which have this shape."""
    y, mean, inverse = aten.native_layer_norm(x, shape, scale, bias, epsilon)
    return y, mean, inverse


@at_once
def layer_backward(dy: Array, x: Array, shape: Shape, mean: Array, inverse: Array, scale: Array, bias: Array) -> Three:
    """DX, dscale and dbias."""
    wanted = True, True, True
    if not is_far(mean, inverse):
        dx, dscale, dbias = aten.native_layer_norm_backward(dy, x, shape, mean, inverse, scale, bias, wanted)
        return dx, dscale, dbias
    x_hat, none, one = standardised(x, mean, inverse), torch.zeros_like(mean), torch.ones_like(inverse)
    dx, dscale, dbias = aten.native_layer_norm_backward(dy, x_hat, shape, none, one, scale, bias, wanted)
    return dx.mul_(inverse), dscale, dbias


@at_once
def group_forward(x: Array, groups: int, scale: Array, bias: Array, epsilon: float) -> Three:
    """Y, mean and 1 / deviation of each group (N, groups)."""
    how = scale, bias, *sizes(x), groups, epsilon
    y, mean, inverse = aten.native_group_norm(x, *how)
    if is_far(mean, inverse):  # with the channels last its variance is the mean of the squares less that of x, squared
        y, mean, inverse = aten.native_group_norm(x.contiguous(), *how)
        y = arranged(y, is_last(x))
    return y, mean, inverse


@at_once
def group_backward(dy: Array, x: Array, groups: int, mean: Array, inverse: Array, scale: Array) -> Three:
    """DX, dscale and dbias."""
    how = scale, *sizes(x), groups, (True, True, True)
    if not is_far(mean, inverse):
        dx, dscale, dbias = aten.native_group_norm_backward(dy, x, mean, inverse, *how)
        return dx, dscale, dbias
    means, inverses = (across(value, x) for value in (mean, inverse))
    x_hat = standardised(x, means, inverses)
    dx, dscale, dbias = aten.native_group_norm_backward(
        dy, x_hat, torch.zeros_like(mean), torch.ones_like(inverse), *how
    )
    return dx.mul_(inverses), dscale, dbias


def sizes(x: Array) -> tuple[int, int, int]:
    """Samples, channels, cells of a channel."""
    return x.shape[0], x.shape[1], prod(x.shape[2:])


def across(of_groups: Array, x: Array) -> Array:
    """One number a group, as it goes with x."""
    of_channels = of_groups.repeat_interleave(x.shape[1] // of_groups.shape[1], dim=1)
    return of_channels.reshape(*of_channels.shape, *(1 for _ in x.shape[2:]))


@dataclass(frozen=True)
class SampleNorm:
    """Y = scale X_hat + bias, each sample, or each group of its channels, by itself."""

    name: str
    outer: Layer
    """The layer, or a Cast around it."""

    @property
    def layer(self) -> GroupNorm | LayerNorm:
        """The layer itself."""
        return within(self.outer)  # type: ignore[return-value]

    def fits(self, weights: Weights, x: Array) -> bool:
        layer, mine = self.layer, weights[self.name]
        if not holds(self.outer, x, mine):
            return False
        if isinstance(layer, GroupNorm):
            return x.ndim in (2, 3, 4) and x.shape[1] == len(mine["scale"]) and x.shape[1] % layer.groups == 0
        return self.order(x) is not None and tuple(x.shape[axis] for axis in self.axes(x)) == mine["scale"].shape

    def axes(self, x: Array) -> Shape:
        """Of a LayerNorm."""
        layer = self.layer
        assert isinstance(layer, LayerNorm)
        return layer.axes(x.ndim)

    def order(self, x: Array) -> Shape | None:
        """The axes of x such that those of a LayerNorm are the last, as they lie in memory; None where they can't."""
        last = x.ndim == 4 and (is_last(x) or self.axes(x) == (1,))
        order = (0, 2, 3, 1) if last else tuple(range(x.ndim))
        axes = self.axes(x)
        return order if set(order[-len(axes) :]) == set(axes) else None

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, FusedBackward]:
        layer, mine, x_type = self.layer, weights[self.name], x.dtype
        dtype = computes_in(self.outer, mine["scale"].dtype)
        x, scale, bias = typed(x, dtype), typed(mine["scale"], dtype), typed(mine["bias"], dtype)
        both = self.by_groups if isinstance(layer, GroupNorm) else self.by_layer
        y, before = both(x, scale, bias)

        def backward(dy: Array, grads: Weights) -> Array:
            dx, dscale, dbias = before(typed(dy, dtype))
            grads[self.name] = {"scale": typed(dscale, mine["scale"].dtype), "bias": typed(dbias, mine["bias"].dtype)}
            return typed(dx, x_type)

        return typed(y, gives(self.outer, dtype)), backward

    def by_groups(self, x: Array, scale: Array, bias: Array) -> tuple[Array, Callable[[Array], Three]]:
        """Y, and the function from dY to the gradients, of a GroupNorm."""
        layer = self.layer
        assert isinstance(layer, GroupNorm)
        last = is_last(x)
        x = arranged(x, last)
        y, mean, inverse = group_forward(x, layer.groups, scale, bias, layer.epsilon)
        return y, lambda dy: group_backward(arranged(dy, last), x, layer.groups, mean, inverse, scale)

    def by_layer(self, x: Array, scale: Array, bias: Array) -> tuple[Array, Callable[[Array], Three]]:
        """Y, and the function from dY to the gradients, of a LayerNorm: on views whose last axes it normalises."""
        order, axes = self.order(x), self.axes(x)
        assert order is not None
        lies = [axes.index(axis) for axis in order[-len(axes) :]]
        back, back_lies = inverse_of(order), inverse_of(lies)
        x, scale, bias = x.permute(order), scale.permute(lies).contiguous(), bias.permute(lies).contiguous()
        shape = tuple(scale.shape)
        y, mean, inverse = layer_forward(x, shape, scale, bias, self.layer.epsilon)

        def before(dy: Array) -> Three:
            dx, dscale, dbias = layer_backward(dy.permute(order), x, shape, mean, inverse, scale, bias)
            return dx.permute(back), dscale.permute(back_lies), dbias.permute(back_lies)

        return y.permute(back), before


def inverse_of(order: Any) -> list[int]:
    """The order that undoes an order of axes."""
    return sorted(range(len(order)), key=lambda n: order[n])


def fuse(backend: Host, layers: Named, n: int) -> tuple[int, SampleNorm] | None:
    """GroupNorm or LayerNorm by itself."""
    name, outer = layers[n]
    return (1, SampleNorm(name, outer)) if type(within(outer)) in (GroupNorm, LayerNorm) else None
