"""Other sizes, other axes, parts of axes."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from xcnn.core.windows import pair
from xcnn.exchange.onnx.graph import Scope, Tensor
from xcnn.exchange.onnx.layers.places import after, flat, planar
from xcnn.exchange.onnx.writers import Tree, writes
from xcnn.layers import (
    Cropping1D,
    Cropping2D,
    Flatten,
    Padding1D,
    Padding2D,
    Permute,
    PixelShuffle,
    Reshape,
    Resize,
    Slice,
    UpSampling1D,
    UpSampling2D,
    ZeroPadding1D,
    ZeroPadding2D,
)


@writes(Cropping1D, Cropping2D)
def cropping(layer: Any, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """Rows and columns from the first that stays to the last."""
    image, sizes, rank = planar(layer, x)
    edges = image.edges()[-rank:]
    starts, stops = [lo for lo, _ in edges], [n - hi for n, (_, hi) in zip(sizes[-rank:], edges, strict=True)]
    values = (("start", starts), ("stop", stops), ("axes", [*range(2, 2 + rank)]))
    given = [here.constant(name, value) for name, value in values]
    return here.node("Slice", x, *given, shape=after(layer, x.shape))


@writes(PixelShuffle)
def pixel_shuffle(layer: PixelShuffle, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """Channels as pixels."""
    return here.node("DepthToSpace", x, shape=after(layer, x.shape), blocksize=layer.factor, mode="CRD")


@writes(Resize)
def resize(layer: Resize, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """To a size, or by factors, which say themselves where new cells lie."""
    places = "align_corners" if layer.align_corners else "half_pixel"
    how: dict[str, dict[str, Any]] = {
        "nearest": {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        "nearest-exact": {"mode": "nearest", "nearest_mode": "round_prefer_ceil"},
        "bilinear": {"mode": "linear", "coordinate_transformation_mode": places},
    }
    shape, factors = after(layer, x.shape), layer.factors()
    by_size = factors[0] is None or layer.align_corners
    placed = zip(x.shape[1:], shape[1:], layer.ratios(*x.shape[1:]), strict=True)
    ratios = [m / n if ratio is None else ratio for n, m, ratio in placed]
    scales = None if by_size else here.constant("scales", np.array(ratios, np.float32))
    sizes = [here.constant("sizes", shape[1:])] if by_size else []
    return here.node("Resize", x, None, scales, *sizes, shape=shape, axes=[2, 3], **how[layer.interpolation])


@writes(Flatten)
def flatten(layer: Flatten, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """All axes of a sample in one."""
    return here.node("Flatten", x, shape=(prod(x.shape),), axis=1)


@writes(Reshape)
def reshape(layer: Reshape, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """Other axes; 0 leaves the batch's as it is."""
    shape = layer.resolved(x.shape)
    return here.node("Reshape", x, here.constant("shape", (0, *shape)), shape=shape)


@writes(Permute)
def permute(layer: Permute, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """The one layer that is a Transpose itself."""
    return here.node("Transpose", x, shape=after(layer, x.shape), perm=[0, *layer.axes])


@writes(Slice)
def slices(layer: Slice, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """A part of an axis."""
    axis, cells = layer.cells(x.shape)
    values = (("start", cells.start), ("stop", cells.stop), ("axis", axis), ("step", cells.step))
    given = [here.constant(name, [value]) for name, value in values]
    return here.node("Slice", x, *given, shape=after(layer, x.shape))


@writes(ZeroPadding1D, ZeroPadding2D, Padding1D, Padding2D)
def padding(layer: Any, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """Zeros around each channel, or copies of its cells."""
    image, _, rank = planar(layer, x)
    pads = here.constant("pads", flat(((0, 0), (0, 0), *image.around()[-rank:])))
    mode = image.mode if isinstance(image, Padding2D) else "constant"
    return here.node("Pad", x, pads, shape=after(layer, x.shape), mode=mode)


@writes(UpSampling1D, UpSampling2D)
def upsampling(layer: Any, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """Each cell repeated, or straight lines between the cells' middles."""
    image, _, rank = planar(layer, x)
    how: dict[str, dict[str, Any]] = {
        "nearest": {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        "bilinear": {"mode": "linear", "coordinate_transformation_mode": "half_pixel"},
    }
    scales = here.constant("scales", np.array((1, 1, *pair("size", image.size)[-rank:]), "float32"))
    return here.node("Resize", x, None, scales, shape=after(layer, x.shape), **how[layer.interpolation])
