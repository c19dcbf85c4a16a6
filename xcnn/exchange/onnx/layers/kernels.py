"""Sums with kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

from xcnn.core.windows import extent, pair
from xcnn.exchange.onnx.graph import Scope, Tensor
from xcnn.exchange.onnx.layers.places import after, flat, planar
from xcnn.exchange.onnx.writers import Tree, writes
from xcnn.layers import Conv1D, Conv1DTranspose, Conv2D, Conv2DTranspose, Dense, DepthwiseConv2D, StandardizedConv2D
from xcnn.layers.normalisation import standardise
from xcnn.layers.standardized_conv2d import AXES


@writes(Conv2D)
def conv2d(layer: Conv2D, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """A convolution; an untied bias is added by a node of its own."""
    how, shape = layer.window(x.shape[1:]), after(layer, x.shape)
    tied = [here.constant("bias", weights["bias"])] if layer.bias is True else []
    y = here.node(
        "Conv", x, here.constant("kernel", weights["kernel"]), *tied, shape=shape,
        kernel_shape=list(pair("kernel_size", layer.kernel_size)), strides=list(how["stride"]),
        pads=flat(how["padding"]), dilations=list(how["dilation"]), group=layer.groups,
    )  # fmt: skip
    return untied(layer, weights, y, here)


def untied(layer: Any, weights: Tree, y: Tensor, here: Scope) -> Tensor:
    """The output with its untied bias, where it has one."""
    if layer.bias != "untied":
        return y
    return here.node("Add", y, here.constant("bias", weights["bias"]), shape=y.shape, part="bias_added")


@writes(StandardizedConv2D)
def standardized_conv2d(layer: StandardizedConv2D, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """A convolution by the kernel that it comes to."""
    kernel, _ = standardise(np, np.asarray(weights["kernel"], np.float64), AXES, layer.epsilon)
    return conv2d(layer, {**weights, "kernel": kernel}, x, here)


@writes(DepthwiseConv2D)
def depthwise_conv2d(layer: DepthwiseConv2D, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """A convolution with a group for each channel."""
    return conv2d(layer.conv2d(x.shape[0]), weights, x, here)


@writes(Conv1D)
def conv1d(layer: Conv1D, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """A convolution along one axis."""
    how, shape = layer.conv2d().window((1, x.shape[1])), after(layer, x.shape)
    tied = [here.constant("bias", weights["bias"])] if layer.bias is True else []
    y = here.node(
        "Conv", x, here.constant("kernel", weights["kernel"]), *tied, shape=shape, kernel_shape=[layer.kernel_size],
        strides=[how["stride"][1]], pads=list(how["padding"][1]), dilations=[layer.dilation], group=layer.groups,
    )  # fmt: skip
    return untied(layer, weights, y, here)


@writes(Conv1DTranspose, Conv2DTranspose)
def conv_transpose(layer: Any, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """A transposed convolution; what "same" has beyond the windows' reach is output_padding."""
    image, sizes, rank = planar(layer, x)
    how, shape, kernel = image.window(sizes), after(layer, x.shape), pair("kernel_size", image.kernel_size)
    reach = [
        (n - 1) * s + extent(k, d) - lo - hi for n, k, s, (lo, hi), d in zip(sizes, kernel, *how.values(), strict=True)
    ]
    tied = [here.constant("bias", weights["bias"])] if layer.bias is True else []
    y = here.node(
        "ConvTranspose", x, here.constant("kernel", weights["kernel"]), *tied, shape=shape,
        kernel_shape=[*kernel[-rank:]], strides=[*how["stride"][-rank:]], pads=flat(how["padding"][-rank:]),
        dilations=[*how["dilation"][-rank:]], group=layer.groups,
        output_padding=[n - m for n, m in zip(shape[1:], reach[-rank:], strict=True)],
    )  # fmt: skip
    return untied(layer, weights, y, here)


@writes(Dense)
def dense(layer: Dense, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """A product of matrices, its kernel as it lies."""
    given = [here.constant(name, weights[name]) for name in ("kernel", "bias")[: 1 + layer.bias]]
    return here.node("Gemm", x, *given, shape=(layer.units,))
