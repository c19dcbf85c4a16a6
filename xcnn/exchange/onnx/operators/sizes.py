"""What changes the size of images and signals: cells around them, more cells or fewer, channels as pixels."""

from __future__ import annotations

from typing import Any

import numpy as np

from xcnn.exchange.onnx.file import Op
from xcnn.exchange.onnx.flow import Args, Building, Flow, Inexpressible, Known, fixed, flow
from xcnn.exchange.onnx.operators.cells import scaled
from xcnn.exchange.onnx.operators.table import along_axes, one, reads, shortest
from xcnn.layers import (
    Cropping1D,
    Cropping2D,
    Padding1D,
    Padding2D,
    PixelShuffle,
    Resize,
    UpSampling1D,
    UpSampling2D,
    ZeroPadding1D,
    ZeroPadding2D,
)

MOST_PADDED = 1e3
"""Of a number around images, which is taken off before and added behind: a larger one would round what is between."""


@reads("Pad")
def pad(op: Op, args: Args, net: Building) -> Flow:
    """Cells around images or signals: zeros, another number, or copies; cells are taken away by negative numbers."""
    x = flow(args)
    batch, *around = around_of(op, args, len(x.shape) + 1)
    if any(batch):
        raise Inexpressible("it pads the batch")
    if not any(map(any, around)):
        return x
    order = [*range(len(around))]
    if any(around[0]):  # an axis that is left alone comes first for the while
        still = next((n for n, both in enumerate(around) if not any(both)), 0)
        order = [still, *(n for n in order if n != still)]
        if not still:
            raise Inexpressible("it pads all axes of its samples")
    y = padded(op, args, net.turned(x, order, op.name), [around[n] for n in order[1:]], net)
    return net.turned(y, [order.index(n) for n in range(len(order))], op.name)


def padded(op: Op, args: Args, x: Flow, pads: list[tuple[int, int]], net: Building) -> Flow:
    """Images or signals with cells around them, or without their edges."""
    x, rank = along_axes(op, x, net)
    mode = op.get("mode", "constant")
    less = [(max(-lo, 0), max(-hi, 0)) for lo, hi in pads]
    more = [(max(lo, 0), max(hi, 0)) for lo, hi in pads]
    if any(map(any, less)):
        if mode != "constant":
            raise Inexpressible("it takes cells away and adds copies")
        x = net.add(f"{op.name}_less", (Cropping1D, Cropping2D)[rank - 1](shortest(less)), {}, x)
    if not any(map(any, more)):
        return x
    if mode != "constant":
        return net.add(op.name, (Padding1D, Padding2D)[rank - 1](shortest(more), mode), {}, x)
    value = float(np.reshape(fixed(args, 2, op.get("value", 0.0)), ()))
    if not abs(value) < MOST_PADDED:
        raise Inexpressible(f"it pads with {value:g}")
    zeros = (ZeroPadding1D, ZeroPadding2D)[rank - 1](shortest(more))
    if not value:
        return net.add(op.name, zeros, {}, x)
    y = net.add(op.name, zeros, {}, scaled(f"{op.name}_moved", x, 1.0, -value, net))
    return scaled(f"{op.name}_back", y, 1.0, value, net)


def around_of(op: Op, args: Args, rank: int) -> list[tuple[int, int]]:
    """Cells before and after each axis."""
    pads = [int(n) for n in np.ravel(fixed(args, 1, op.get("pads")))]
    axes = [int(n) % rank for n in np.ravel(fixed(args, 3, range(rank)))]
    half = len(pads) // 2
    found = dict(zip(axes, zip(pads[:half], pads[half:], strict=True), strict=True))
    return [found.get(axis, (0, 0)) for axis in range(rank)]


@reads("DepthToSpace")
def depth_to_space(op: Op, args: Args, net: Building) -> Flow:
    """Channels as pixels; in the order in which a channel's pixels lie together."""
    if op.get("mode", "DCR") != "CRD":
        raise Inexpressible("its pixels come before its channels")
    return net.add(op.name, PixelShuffle(op.get("blocksize")), {}, net.plain(flow(args)))


@reads("Resize", "Upsample")
def resize(op: Op, args: Args, net: Building) -> Flow:
    """Cells repeated, or straight lines between their middles; or to any size."""
    x = flow(args)
    sizes = sizes_after(op, args, x, net)
    scales = [scales_of(op, args, len(x.shape) + 1).get(axis, 1.0) for axis in range(1, len(x.shape) + 1)]
    exact = by_size(args) or all(abs(n * s - m) < 1e-6 * m for n, s, m in zip(x.shape, scales, sizes, strict=True))
    if sizes == [*x.shape]:
        if not exact:
            raise Inexpressible("its scales leave the sizes, of which definition and runtimes make two things")
        return x
    if len(x.shape) not in (2, 3) or sizes[0] != x.shape[0] or min(sizes) < 1:
        raise Inexpressible(f"it resizes {x.shape} to {tuple(sizes)}, more than height and width")
    times = [m // n for n, m in zip(x.shape, sizes, strict=True)]
    whole = exact and all(n * t == m for n, t, m in zip(x.shape, times, sizes, strict=True))
    mode, places = op.get("mode", "nearest"), op.get("coordinate_transformation_mode", "half_pixel")
    if op.kind == "Upsample" or net.opset < 11:
        places = "asymmetric"
    rounded = op.get("nearest_mode", "round_prefer_floor")
    repeats = mode == "nearest" and (
        (places == "asymmetric" and (rounded == "floor" or op.kind == "Upsample" or net.opset < 11))
        or (places in ("half_pixel", "pytorch_half_pixel") and rounded.startswith("round"))
    )
    lines = mode == "linear" and (places == "half_pixel" or (places == "pytorch_half_pixel" and min(sizes[1:]) > 1))
    if whole and (repeats or lines) and not op.get("antialias", 0):
        layer: Any = UpSampling1D if len(x.shape) == 2 else UpSampling2D
        return net.add(op.name, layer(one(times[1:]), "nearest" if repeats else "bilinear"), {}, net.plain(x))
    signal = len(x.shape) == 2
    image = net.seen(x, (x.shape[0], 1, x.shape[1]), op.name) if signal else x
    factors = None if exact else (1.0 if signal else scales[1], scales[-1])
    layer = resized(op, image, (1 if signal else sizes[1], sizes[-1]), factors, (mode, places, rounded))
    return net.seen(net.add(op.name, layer, {}, net.plain(image)), sizes, op.name)


def resized(op: Op, x: Flow, sizes: Any, factors: Any, how: tuple[str, str, str]) -> Resize:
    """A Resize of images to any height and width; by factors where these are not what the sizes are to each other."""
    (mode, places, rounded), exact = how, factors is None
    kinds: dict[tuple[str, str, str], Any] = {
        ("nearest", "asymmetric", "floor"): "nearest",
        ("nearest", "half_pixel", "round_prefer_ceil"): "nearest-exact",
        ("linear", "half_pixel", rounded): "bilinear",
        ("linear", "align_corners", rounded): "bilinear",
    }
    interpolation = kinds.get((mode, places, rounded))
    if interpolation is None or op.get("antialias", 0):
        raise Inexpressible(f"it makes {tuple(sizes)} of {tuple(x.shape[1:])} by {mode}, {rounded}, at {places} places")
    if not exact and places == "align_corners":
        raise Inexpressible("its scales give no whole sizes, and of these its corners have two meanings")
    if not exact:
        layer = Resize(factor=factors, interpolation=interpolation)
        if any(layer.stays(n, m) and n * f != m for n, m, f in zip(x.shape[1:], sizes, factors, strict=True)):
            raise Inexpressible("its scales leave the sizes, of which definition and runtimes make two things")
        return layer
    return Resize(one(sizes), interpolation=interpolation, align_corners=places == "align_corners")


def by_size(args: Args) -> bool:
    """Whether the sizes are told, and no scales."""
    return len(args) > 3 and isinstance(args[3], Known) and args[3].values[0].size > 0


def scales_of(op: Op, args: Args, rank: int) -> dict[int, float]:
    """The scale of each axis that has one."""
    axes = [axis % rank for axis in (op.get("axes") or range(rank))]
    told = 1 if op.kind == "Upsample" or len(args) < 3 else 2
    scales = op.get("scales") if told == 1 else None
    scales = scales if scales is not None else fixed(args, told)
    if by_size(args) or scales is None or not len(scales):
        return {}
    return dict(zip(axes, map(float, scales), strict=True))


def sizes_after(op: Op, args: Args, x: Flow, net: Building) -> list[int]:
    """The sizes of a sample behind a Resize."""
    rank, sizes = len(x.shape) + 1, [*x.shape]
    if by_size(args):
        axes = [axis % rank for axis in (op.get("axes") or range(rank))]
        for axis, n, other in zip(axes, *args[3].values, strict=True):
            if not axis:
                net.of_samples(int(n), int(other))
            elif n != other:
                raise Inexpressible("its sizes follow from the number of samples")
            else:
                sizes[axis - 1] = int(n)
        if op.get("keep_aspect_ratio_policy", "stretch") != "stretch":
            raise Inexpressible("its sizes are bounds, and the ratio of height and width is kept")
        return sizes
    scales = scales_of(op, args, rank)
    if not scales:
        raise Inexpressible("it has neither scales nor sizes")
    for axis, scale in scales.items():
        if axis == 0 and scale != 1:
            raise Inexpressible("it resizes the batch")
        if axis:
            sizes[axis - 1] = int(np.floor(np.float64(x.shape[axis - 1]) * np.float64(scale)))
    return sizes
