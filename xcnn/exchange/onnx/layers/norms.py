"""Norms as operators of ONNX, so written that they round least."""

from __future__ import annotations

from math import isqrt, prod
from typing import Any

import numpy as np

from xcnn.exchange.onnx.graph import Scope, Tensor
from xcnn.exchange.onnx.writers import Tree, writes
from xcnn.layers import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, LocalResponseNorm, Scale

MANY = 16
"""Cells whose sum is taken in parts: so many roundings are more than what else a norm rounds."""


@writes(BatchNorm)
def batch_norm(layer: BatchNorm, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """The running statistics' line for each channel."""
    names = ("scale", "bias", "running_mean", "running_variance")
    given = [here.constant(name, weights[name]) for name in names]
    return here.node("BatchNormalization", x, *given, shape=x.shape, epsilon=layer.epsilon)


@writes(GroupNorm)
def group_norm(layer: GroupNorm, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """Groups as the channels of an InstanceNormalization, then a line for each channel, as PyTorch writes it.

    ONNX's own GroupNormalization is defined by the difference of the squares' mean and the mean's square, which leaves
    nothing of a deviation that is small beside the mean.
    """
    c, groups = x.shape[0], layer.groups
    shape = (groups, prod(x.shape) // groups)
    grouped = here.node("Reshape", x, here.constant("groups", (0, groups, -1)), shape=shape, part="grouped")
    ones, zeros = here.constant("ones", np.ones(groups)), here.constant("zeros", np.zeros(groups))
    how: dict[str, Any] = {"shape": shape, "part": "normalised", "epsilon": layer.epsilon}
    x_hat = here.node("InstanceNormalization", grouped, ones, zeros, **how)
    x_hat = here.node("Reshape", x_hat, here.constant("shape", (0, *x.shape)), shape=x.shape, part="x_hat")
    wide = (c, *(1 for _ in x.shape[1:]))
    scale, bias = (here.constant(name, np.reshape(weights[name], wide)) for name in ("scale", "bias"))
    return here.node("Add", here.node("Mul", x_hat, scale, shape=x.shape, part="scaled"), bias, shape=x.shape)


@writes(InstanceNorm)
def instance_norm(layer: InstanceNorm, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """Each channel of each sample."""
    given = weights if layer.affine else {"scale": np.ones(x.shape[0]), "bias": np.zeros(x.shape[0])}
    scale, bias = (here.constant(name, given[name]) for name in ("scale", "bias"))
    return here.node("InstanceNormalization", x, scale, bias, shape=x.shape, epsilon=layer.epsilon)


@writes(LocalResponseNorm)
def local_response_norm(layer: LocalResponseNorm, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """The means of neighbouring channels by a pooling of one column; the rest of the formula follows.

    onnxruntime computes ONNX's LRN by adding and subtracting squares from channel to channel, whose roundings add up,
    and releases of it go wrong where a pooling counts zeros on some axes alone. So a Pad puts these there, with a
    Reshape between, since releases put a Pad into the pooling that follows it.
    """
    c, size = x.shape[0], layer.size
    pads = (0, size // 2, *(0 for _ in x.shape), (size - 1) // 2, *(0 for _ in x.shape[1:]))
    padded, line = (c + size - 1, *x.shape[1:]), (1, c, prod(x.shape) // c)
    square = here.node("Mul", x, x, shape=x.shape, part="square")
    square = here.node("Pad", square, here.constant("pads", pads), shape=padded, part="padded", mode="constant")
    wide = (1, padded[0], line[-1])
    square = here.node("Reshape", square, here.constant("line", (0, *wide[:2], -1)), shape=wide, part="squares")
    how: dict[str, Any] = {"kernel_shape": [size, 1], "strides": [1, 1]}
    mean = here.node("AveragePool", square, shape=line, part="means", **how)
    mean = here.node("Reshape", mean, here.constant("shape", (0, *x.shape)), shape=x.shape, part="mean")
    times = here.node("Mul", mean, here.constant("alpha", float(layer.alpha)), shape=x.shape, part="times")
    sums = here.node("Add", times, here.constant("k", float(layer.k)), shape=x.shape, part="sums")
    power = here.node("Pow", sums, here.constant("beta", float(layer.beta)), shape=x.shape, part="power")
    return here.node("Div", x, power, shape=x.shape)


@writes(LayerNorm)
def layer_norm(layer: LayerNorm, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """The last axes by ONNX's own operator, others by their formula, since nothing is transposed.

    The mean is taken twice: what is left of it behind the first time is its rounding, which all cells would have.
    """
    rank = len(x.shape) + 1
    axes = layer.axes(rank)
    if axes == tuple(range(axes[0], rank)):
        given = [here.constant(name, weights[name]) for name in ("scale", "bias")]
        return here.node("LayerNormalization", x, *given, shape=x.shape, axis=axes[0], epsilon=layer.epsilon)
    over = here.constant("axes", axes)
    shape = tuple(1 if axis in axes else x.shape[axis - 1] for axis in range(1, rank))
    wide = tuple(x.shape[axis - 1] if axis in axes else 1 for axis in range(1, rank))
    scale, bias = (here.constant(name, np.reshape(weights[name], wide)) for name in ("scale", "bias"))
    centred = x
    for _ in range(2):
        mean = here.node("ReduceMean", centred, over, shape=shape, part="mean", keepdims=1)
        centred = here.node("Sub", centred, mean, shape=x.shape, part="centred")
    square = in_parts(here.node("Mul", centred, centred, shape=x.shape, part="square"), axes, here)
    variance = here.node("ReduceMean", square, over, shape=shape, part="variance", keepdims=1)
    raised = here.node("Add", variance, here.constant("epsilon", float(layer.epsilon)), shape=shape, part="raised")
    deviation = here.node("Sqrt", raised, shape=shape, part="deviation")
    x_hat = here.node("Div", centred, deviation, shape=x.shape, part="x_hat")
    return here.node("Add", here.node("Mul", x_hat, scale, shape=x.shape, part="scaled"), bias, shape=x.shape)


def in_parts(square: Tensor, axes: tuple[int, ...], here: Scope) -> Tensor:
    """The means of equal parts of the longest of some axes, where they have divisors: as many parts as cells in each.

    onnxruntime adds the cells of an axis within one after another, whose roundings add up; the mean's own are taken off
    by taking it twice, and those of the squares would stay.
    """
    axis = max(axes, key=lambda each: square.shape[each - 1])
    n, (before, after) = square.shape[axis - 1], (square.shape[: axis - 1], square.shape[axis:])
    parts = max(d for d in range(1, isqrt(n) + 1) if n % d == 0)
    if n < MANY or parts == 1:
        return square
    shape = (*before, parts, n // parts, *after)
    split = here.node("Reshape", square, here.constant("parts", (0, *shape)), shape=shape, part="parts")
    along = here.constant("cells", (axis + 1,))
    return here.node("ReduceMean", split, along, shape=(*before, parts, *after), part="means", keepdims=0)


@writes(Scale)
def scale(layer: Scale, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """A factor, and a summand, for each channel."""
    wide = (-1, *(1 for _ in x.shape[1:]))
    factor = here.constant("scale", np.reshape(weights["scale"], wide))
    if not layer.bias:
        return here.node("Mul", x, factor, shape=x.shape)
    bias = here.constant("bias", np.reshape(weights["bias"], wide))
    return here.node("Add", here.node("Mul", x, factor, shape=x.shape, part="scaled"), bias, shape=x.shape)
