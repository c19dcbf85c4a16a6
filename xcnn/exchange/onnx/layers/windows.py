"""Poolings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from xcnn.core.types import Shape
from xcnn.core.windows import pair
from xcnn.exchange.onnx.graph import Scope, Tensor
from xcnn.exchange.onnx.layers.places import after, flat, planar
from xcnn.exchange.onnx.writers import Tree, writes
from xcnn.layers import (
    AdaptiveAveragePool2D,
    AveragePool1D,
    AveragePool2D,
    GlobalAveragePool1D,
    GlobalAveragePool2D,
    GlobalMaxPool1D,
    GlobalMaxPool2D,
    Layer,
    MaxPool1D,
    MaxPool2D,
)
from xcnn.layers.adaptive_average_pool2d import means


@writes(MaxPool1D, MaxPool2D)
def max_pool(layer: Any, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """The largest cell of each window."""
    image, sizes, rank = planar(layer, x)
    return here.node("MaxPool", x, shape=after(layer, x.shape), **pooled(image, sizes, rank))


@writes(AveragePool1D, AveragePool2D)
def average_pool(layer: Any, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """The mean of each window, without its padding, or with what was asked for as zeros.

    These are put there by a Pad that names its axes, which onnxruntime leaves alone: what it makes of a Pad without, or
    of `count_include_pad`, gave wrong means in releases from 1.20 to 1.23.
    """
    shape, (image, sizes, rank) = after(layer, x.shape), planar(layer, x)
    if image.count_include_pad:
        around = replace(image, ceil_mode=False).window(sizes)["padding"]
        whole = image.window(sizes)["padding"]
        if any(map(any, around)):
            pads, axes = here.constant("pads", flat(around[-rank:])), here.constant("axes", range(2, 2 + rank))
            sizes = tuple(n + lo + hi for n, (lo, hi) in zip(sizes, around, strict=True))
            shape_padded = (x.shape[0], *sizes[-rank:])
            x = here.node("Pad", x, pads, None, axes, shape=shape_padded, part="padded", opset=18, mode="constant")
        more: Any = tuple((0, end - hi) for (_, end), (_, hi) in zip(whole, around, strict=True))  # of ceil_mode
        image = replace(image, padding=more, count_include_pad=False, ceil_mode=False)
    return here.node("AveragePool", x, shape=shape, count_include_pad=0, **pooled(image, sizes, rank))


def pooled(image: Any, sizes: Shape, rank: int) -> dict[str, Any]:
    """A pooling's attributes, for the last `rank` axes of an image."""
    how = image.window(sizes)
    return {
        "kernel_shape": [*pair("pool_size", image.pool_size)[-rank:]],
        "strides": [*how["stride"][-rank:]],
        "pads": flat(how["padding"][-rank:]),
    }


@writes(GlobalAveragePool1D, GlobalMaxPool1D, GlobalAveragePool2D, GlobalMaxPool2D)
def global_pool(layer: Layer, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """The mean or the largest cell of each channel, and no more axes than these."""
    op = "GlobalAveragePool" if isinstance(layer, GlobalAveragePool1D | GlobalAveragePool2D) else "GlobalMaxPool"
    y = here.node(op, x, shape=(x.shape[0], *(1 for _ in x.shape[1:])))
    return here.node("Flatten", y, shape=x.shape[:1], part="flat", axis=1)


@writes(AdaptiveAveragePool2D)
def adaptive_average_pool2d(layer: AdaptiveAveragePool2D, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """The means of windows: one size of them, or rows and columns by a product with a matrix each."""
    shape = after(layer, x.shape)
    if shape[1:] == (1, 1):
        return here.node("GlobalAveragePool", x, shape=shape)
    if all(n % m == 0 for n, m in zip(x.shape[1:], shape[1:], strict=True)):
        return average_pool(AveragePool2D((x.shape[1] // shape[1], x.shape[2] // shape[2])), weights, x, here)
    rows, columns = (means(np.zeros(()), n, m) for n, m in zip(x.shape[1:], shape[1:], strict=True))
    wide = here.node("MatMul", x, here.constant("columns", columns.T), shape=(*x.shape[:2], shape[2]), part="across")
    return here.node("MatMul", here.constant("rows", rows), wide, shape=shape)
