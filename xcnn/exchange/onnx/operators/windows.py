"""Poolings, and what changes the size of images."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from xcnn.exchange.onnx.constants import axes_of
from xcnn.exchange.onnx.file import Op
from xcnn.exchange.onnx.flow import Args, Building, Flow, Inexpressible, Known, fixed, flow
from xcnn.exchange.onnx.operators.table import numbers, one, padding_of, reads, shortest
from xcnn.layers import (
    AveragePool2D,
    GlobalAveragePool2D,
    GlobalMaxPool2D,
    Layer,
    MaxPool2D,
    PixelShuffle,
    Resize,
    UpSampling2D,
    ZeroPadding2D,
)


def image(x: Flow, net: Building, by: str) -> Flow:
    """The value as images; a signal is one of height 1."""
    if len(x.shape) == 2:
        x = net.seen(x, (x.shape[0], 1, x.shape[1]), by)
    if len(x.shape) != 3:
        raise Inexpressible(f"it takes samples of shape {x.shape}, no images or signals")
    return net.plain(x)


@reads("MaxPool", "AveragePool")
def pool(op: Op, args: Args, net: Building) -> Flow:
    """A pooling; a last window that ceil_mode adds reaches into padding, which counts for nothing."""
    given = flow(args)
    rank = len(given.shape) - 1
    x = image(given, net, op.name)
    lacks = 2 - rank
    kernel = [1] * lacks + numbers(op, "kernel_shape", rank, 0)
    stride, dilation = ([1] * lacks + numbers(op, name, rank, 1) for name in ("strides", "dilations"))
    pads = [(0, 0)] * lacks + padding_of(op, x.shape[3 - rank :], kernel[lacks:], stride[lacks:], dilation[lacks:])
    if dilation != [1, 1]:
        raise Inexpressible("its windows are dilated")
    if len([name for name in op.outputs if name]) > 1 and net.uses.get(op.outputs[1]):
        raise Inexpressible("it gives the places of the maxima")
    counts = op.kind == "AveragePool" and op.get("count_include_pad", 0) and any(map(any, pads))
    asked = pads
    if op.get("ceil_mode", 0):
        pads = with_last(x.shape[1:], kernel, stride, pads)
    if counts:
        around, more = shortest(asked), [(0, hi - end) for (_, hi), (_, end) in zip(pads, asked, strict=True)]
        x, pads = net.add(f"{op.name}_padded", ZeroPadding2D(0 if around == "valid" else around), {}, x), more
    layer = (MaxPool2D if op.kind == "MaxPool" else AveragePool2D)(one(kernel), one(stride), padding=shortest(pads))
    y = net.add(op.name, layer, {}, x)
    return y if rank == 2 else net.seen(y, (y.shape[0], y.shape[2]), op.name)


def with_last(sizes: Any, kernel: Any, stride: Any, pads: Any) -> Any:
    """The padding with which the last windows fit that begin within the image or the padding before it."""
    found = []
    for n, k, s, (lo, hi) in zip(sizes, kernel, stride, pads, strict=True):
        count = -(-(n + lo + hi - k) // s) + 1
        count -= (count - 1) * s >= n + lo
        found.append((lo, max((count - 1) * s + k - n - lo, 0 if count else hi)))
    return found


@reads("GlobalAveragePool", "GlobalMaxPool")
def global_pool(op: Op, args: Args, net: Building) -> Flow:
    """The mean or the largest of each channel, seen with axes of size 1."""
    given = flow(args)
    layer = GlobalAveragePool2D() if op.kind == "GlobalAveragePool" else GlobalMaxPool2D()
    y = net.add(op.name, layer, {}, image(given, net, op.name))
    return net.seen(y, (y.shape[0], *(1 for _ in given.shape[1:])), op.name)


@reads("ReduceMean", "ReduceMax")
def reduce(op: Op, args: Args, net: Building) -> Flow:
    """The mean or the largest along some axes: the places of images whose channels are the other axes."""
    x = flow(args)
    rank = len(x.shape) + 1
    asked = axes_of(op, [None, fixed(args, 1)])
    if not asked and op.get("noop_with_empty_axes", 0):
        return x
    axes = sorted({axis % rank for axis in (asked or range(rank))})
    if axes[0] == 0:
        raise Inexpressible("it goes over the batch")
    others = [n for n in range(len(x.shape)) if n + 1 not in axes]
    order = [*others, *(axis - 1 for axis in axes)]
    channels, places = ([x.shape[n] for n in part] for part in (others, order[len(others) :]))
    turned = net.turned(x, order, op.name)
    image_shape = (
        (channels[0], *places) if len(channels) == 1 and len(places) == 2 else (prod(channels), 1, prod(places))
    )
    layer = GlobalAveragePool2D() if op.kind == "ReduceMean" else GlobalMaxPool2D()
    y = net.add(op.name, layer, {}, net.plain(net.seen(turned, image_shape, op.name)))
    kept = [1 if n + 1 in axes else size for n, size in enumerate(x.shape)]
    return net.seen(y, kept if op.get("keepdims", 1) else channels, op.name)


@reads("Pad")
def pad(op: Op, args: Args, net: Building) -> Flow:
    """Zeros around images or signals."""
    x = flow(args)
    rank = len(x.shape) + 1
    pads = [int(n) for n in fixed(args, 1, op.get("pads"))]
    value = fixed(args, 2, np.float32(op.get("value", 0.0)))
    axes = [int(n) % rank for n in fixed(args, 3, range(rank))]
    half = len(pads) // 2
    around = dict(zip(axes, zip(pads[:half], pads[half:], strict=True), strict=True))
    if not any(map(any, around.values())):
        return x
    if op.get("mode", "constant") != "constant" or np.any(value != 0):
        raise Inexpressible("it pads with other than zeros")
    if any(any(around.get(axis, (0, 0))) for axis in range(rank - len(x.shape[1:]))):
        raise Inexpressible("it pads samples or channels")
    spatial = [around.get(axis, (0, 0)) for axis in range(2, rank)]
    spatial = [(0, 0)] * (2 - len(spatial)) + spatial
    y = net.add(op.name, ZeroPadding2D(shortest(spatial)), {}, image(x, net, op.name))
    return y if rank == 4 else net.seen(y, (y.shape[0], y.shape[2]), op.name)


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
    sizes = scaled(op, args, x)
    times = [m // n for n, m in zip(x.shape, sizes, strict=True)]
    if len(x.shape) != 3 or sizes[0] != x.shape[0] or min(sizes) < 1:
        raise Inexpressible(f"it resizes {x.shape} to {tuple(sizes)}, more than height and width")
    whole = all(n * t == m for n, t, m in zip(x.shape, times, sizes, strict=True))
    mode, places = op.get("mode", "nearest"), op.get("coordinate_transformation_mode", "half_pixel")
    if op.kind == "Upsample" or net.opset < 11:
        places = "asymmetric"
    if sizes == [*x.shape]:
        return x
    rounded = op.get("nearest_mode", "round_prefer_floor")
    repeats = mode == "nearest" and (
        (places == "asymmetric" and (rounded == "floor" or op.kind == "Upsample" or net.opset < 11))
        or (places in ("half_pixel", "pytorch_half_pixel") and rounded.startswith("round"))
    )
    lines = mode == "linear" and (places == "half_pixel" or (places == "pytorch_half_pixel" and min(sizes[1:]) > 1))
    if whole and (repeats or lines) and not op.get("antialias", 0):
        layer: Layer = UpSampling2D(one(times[1:]), "nearest" if repeats else "bilinear")
    else:
        layer = resized(op, args, x, sizes, mode, places, rounded)
    return net.add(op.name, layer, {}, net.plain(x))


def resized(op: Op, args: Args, x: Flow, sizes: Any, mode: str, places: str, rounded: str) -> Resize:
    """A Resize to any size; by scales that are not those of the sizes only as these are."""
    by_scale = len(args) < 4 or args[3] is None
    exact = not by_scale or all(
        abs(n * float(s) - m) < 1e-6 * m
        for n, s, m in zip(x.shape[1:], fixed(args, 2, op.get("scales"))[-2:], sizes[1:], strict=True)
    )
    kinds: dict[tuple[str, str, str], Any] = {
        ("nearest", "asymmetric", "floor"): "nearest",
        ("nearest", "half_pixel", "round_prefer_ceil"): "nearest-exact",
        ("linear", "half_pixel", rounded): "bilinear",
        ("linear", "align_corners", rounded): "bilinear",
    }
    interpolation = kinds.get((mode, places, rounded))
    kept = op.get("keep_aspect_ratio_policy", "stretch") == "stretch"
    if interpolation is None or op.get("antialias", 0) or not kept:
        raise Inexpressible(f"it makes {tuple(sizes)} of {x.shape} by {mode}, {rounded}, at {places} places")
    if not exact and places != "align_corners":
        rows, columns = (float(f) for f in fixed(args, 2, op.get("scales"))[-2:])
        return Resize(factor=(rows, columns), interpolation=interpolation)
    return Resize(one(sizes[1:]), interpolation=interpolation, align_corners=places == "align_corners")


def scaled(op: Op, args: Args, x: Flow) -> list[int]:
    """The sizes of a sample behind a Resize."""
    rank = len(x.shape) + 1
    axes = [axis % rank for axis in (op.get("axes") or range(rank))]
    sizes = [*x.shape]
    if op.kind == "Upsample" or len(args) < 3:
        scales, target = op.get("scales") or (fixed(args, 1) if len(args) > 1 else None), None
    else:
        scales, target = fixed(args, 2), args[3] if len(args) > 3 else None
    if isinstance(target, Known) and target.values[0].size:
        ends: Any = target.values[0]
        if any(a != b for n, (a, b) in enumerate(zip(*target.values, strict=True)) if axes[n]):
            raise Inexpressible("its sizes follow from the number of samples")
        for axis, n in zip(axes, ends, strict=True):
            if axis:
                sizes[axis - 1] = int(n)
        return sizes
    if scales is None or not len(scales):
        raise Inexpressible("it has neither scales nor sizes")
    for axis, scale in zip(axes, scales, strict=True):
        if axis == 0 and scale != 1:
            raise Inexpressible("it resizes the batch")
        if axis:
            sizes[axis - 1] = int(np.floor(np.float64(x.shape[axis - 1]) * np.float64(scale)))
    return sizes
