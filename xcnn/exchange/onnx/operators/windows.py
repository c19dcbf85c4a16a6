"""Poolings, of images and of signals."""

from __future__ import annotations

from math import prod
from typing import Any

from xcnn.exchange.onnx.constants import axes_of
from xcnn.exchange.onnx.file import Op
from xcnn.exchange.onnx.flow import Args, Building, Flow, Inexpressible, fixed, flow
from xcnn.exchange.onnx.operators.cells import scaled
from xcnn.exchange.onnx.operators.table import along_axes, numbers, one, padding_of, reads, shortest
from xcnn.layers import (
    AveragePool1D,
    AveragePool2D,
    GlobalAveragePool1D,
    GlobalAveragePool2D,
    GlobalMaxPool1D,
    GlobalMaxPool2D,
    MaxPool1D,
    MaxPool2D,
    ZeroPadding1D,
    ZeroPadding2D,
)

POOLS: dict[str, tuple[Any, Any]] = {"MaxPool": (MaxPool1D, MaxPool2D), "AveragePool": (AveragePool1D, AveragePool2D)}
WHOLE: dict[str, tuple[Any, Any]] = {
    "GlobalAveragePool": (GlobalAveragePool1D, GlobalAveragePool2D),
    "GlobalMaxPool": (GlobalMaxPool1D, GlobalMaxPool2D),
}
"""Layers of signals and of images."""


@reads("MaxPool", "AveragePool")
def pool(op: Op, args: Args, net: Building) -> Flow:
    """A pooling; a last window that ceil_mode adds reaches into padding, which counts for nothing."""
    x, rank = along_axes(op, flow(args), net)
    kernel = numbers(op, "kernel_shape", rank, 0)
    stride, dilation = (numbers(op, name, rank, 1) for name in ("strides", "dilations"))
    pads = padding_of(op, x.shape[1:], kernel, stride, dilation)
    if any(d != 1 and k != 1 for d, k in zip(dilation, kernel, strict=True)):
        raise Inexpressible("its windows are dilated")
    if len([name for name in op.outputs if name]) > 1 and net.uses.get(op.outputs[1]):
        raise Inexpressible("it gives the places of the maxima")
    counts = op.kind == "AveragePool" and op.get("count_include_pad", 0) and any(map(any, pads))
    asked = pads
    if op.get("ceil_mode", 0):
        pads = with_last(x.shape[1:], kernel, stride, pads)
    if counts:
        around, more = shortest(asked), [(0, hi - end) for (_, hi), (_, end) in zip(pads, asked, strict=True)]
        zeros = (ZeroPadding1D, ZeroPadding2D)[rank - 1](0 if around == "valid" else around)
        x, pads = net.add(f"{op.name}_padded", zeros, {}, x), more
    return net.add(op.name, POOLS[op.kind][rank - 1](one(kernel), one(stride), padding=shortest(pads)), {}, x)


def with_last(sizes: Any, kernel: Any, stride: Any, pads: Any) -> Any:
    """The padding with which the last windows fit that begin within the image or the padding before it."""
    found = []
    for n, k, s, (lo, hi) in zip(sizes, kernel, stride, pads, strict=True):
        count = -(-(n + lo + hi - k) // s) + 1
        count -= (count - 1) * s >= n + lo
        found.append((lo, max((count - 1) * s + k - n - lo, 0 if count else hi)))
    return found


@reads(*WHOLE)
def global_pool(op: Op, args: Args, net: Building) -> Flow:
    """The mean or the largest of each channel, seen with axes of size 1."""
    x, rank = along_axes(op, flow(args), net)
    y = net.add(op.name, WHOLE[op.kind][rank - 1](), {}, x)
    return net.seen(y, (y.shape[0], *(1 for _ in x.shape[1:])), op.name)


@reads("ReduceMean", "ReduceMax", "ReduceSum")
def reduce(op: Op, args: Args, net: Building) -> Flow:
    """The mean, the largest or the sum along some axes: the places of images whose channels are the other axes."""
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
    images = len(channels) == 1 and len(places) == 2
    shape = (channels[0], *places) if images else (prod(channels), prod(places))
    layer = WHOLE["GlobalMaxPool" if op.kind == "ReduceMax" else "GlobalAveragePool"][images]()
    y = net.add(op.name, layer, {}, net.plain(net.seen(turned, shape, op.name)))
    if op.kind == "ReduceSum":
        y = scaled(f"{op.name}_times", y, float(prod(places)), None, net)
    kept = [1 if n + 1 in axes else size for n, size in enumerate(x.shape)]
    return net.seen(y, kept if op.get("keepdims", 1) else channels, op.name)
