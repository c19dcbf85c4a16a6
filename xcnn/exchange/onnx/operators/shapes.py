"""Operators that compute nothing: other shapes, other orders of axes, parts, and parts joined."""

from __future__ import annotations

from itertools import accumulate, pairwise
from math import prod
from typing import Any

import numpy as np

from xcnn.exchange.onnx.constants import SAMPLES, axes_of, slices
from xcnn.exchange.onnx.file import Op
from xcnn.exchange.onnx.flow import Args, Building, Flow, Inexpressible, Known, Row, fixed, flow
from xcnn.exchange.onnx.operators.table import reads
from xcnn.layers import Concatenate, Slice

MOST_RUNS = 64
"""Of places side by side that one Gather takes."""


@reads("Flatten")
def flatten(op: Op, args: Args, net: Building) -> Flow:
    """All axes of a sample in one."""
    x = flow(args)
    if op.get("axis", 1) % (len(x.shape) + 1) != 1:
        raise Inexpressible("it joins axes of samples with the batch's")
    return net.seen(x, (prod(x.shape),), op.name)


@reads("Reshape")
def reshape(op: Op, args: Args, net: Building) -> Flow | Row:
    """Other axes of each sample: the first of those asked for is the batch's, whatever number it has."""
    x = flow(args)
    asked = args[1] if len(args) > 1 else Known((np.asarray(op.get("shape")),) * 2)
    if not isinstance(asked, Known):
        raise Inexpressible("its shape follows from the input")
    if asked.values[0].tolist() == asked.values[1].tolist() == [-1]:
        return Row(x)
    sizes = asked.values[0].ravel().tolist()[1:]
    if sizes != asked.values[1].ravel().tolist()[1:]:
        raise Inexpressible("it mixes samples, or its shape follows from their number")
    if not op.get("allowzero", 0):
        if any(n == 0 and at >= len(x.shape) for at, n in enumerate(sizes)):
            raise Inexpressible(f"it makes {sizes} of {x.shape}")
        sizes = [x.shape[at] if n == 0 else n for at, n in enumerate(sizes)]
    given = prod(n for n in sizes if n != -1)
    if -1 in sizes:
        batch, other = (int(value.ravel()[0]) for value in asked.values)
        theirs = batch == other == 1 and net.batch is None  # an exporter's only sample
        if not theirs and (batch or op.get("allowzero", 0)):
            net.of_samples(batch, other)
        sizes[sizes.index(-1)] = prod(x.shape) // max(given, 1)
    return net.seen(x, sizes, op.name)


@reads("Squeeze", "Unsqueeze")
def squeeze(op: Op, args: Args, net: Building) -> Flow:
    """Without axes of size 1, or with more of them."""
    x = flow(args)
    axes, shape = axes_of(op, [None, fixed(args, 1)]), [-1, *x.shape]
    if op.kind == "Squeeze" and axes is None and net.batch in (None, 1):
        raise Inexpressible("it has no axes, and takes the batch's away of one sample")
    if op.kind == "Unsqueeze":
        rank = len(shape) + len(axes or ())
        for axis in sorted(axis % rank for axis in axes or ()):
            shape.insert(axis, 1)
    else:
        gone = [n for n, size in enumerate(shape) if size == 1] if axes is None else [a % len(shape) for a in axes]
        if any(shape[axis] != 1 for axis in gone):
            raise Inexpressible("it takes an axis away that has more than one cell, or is the batch's")
        shape = [size for axis, size in enumerate(shape) if axis not in gone]
    if not shape or shape[0] != -1:
        raise Inexpressible("it puts an axis before the batch's")
    return net.seen(x, shape[1:], op.name)


@reads("Transpose")
def transpose(op: Op, args: Args, net: Building) -> Flow:
    """The axes of a sample in another order, which goes into what comes next where it can."""
    x = flow(args)
    order = op.get("perm") or [*range(len(x.shape), -1, -1)]
    if sorted(order) != [*range(len(x.shape) + 1)] or order[0] != 0:
        raise Inexpressible("it moves the batch's axis")
    return net.turned(x, [axis - 1 for axis in order[1:]], op.name)


@reads("Concat")
def concat(op: Op, args: Args, net: Building) -> Flow:
    """Values joined along their channels; along another axis, that comes first for the while."""
    xs = [flow(args, n) for n in range(len(args))]
    rank = len(xs[0].shape) + 1
    axis = op.get("axis", 1) % rank
    if axis == 0 or any(len(x.shape) + 1 != rank for x in xs):
        raise Inexpressible("it joins samples")
    if len(xs) == 1:
        return xs[0]
    return along(op, xs, axis - 1, net)


def along(op: Op, xs: list[Flow], axis: int, net: Building) -> Flow:
    """Values joined along an axis of a sample, counted from 0."""
    rank = len(xs[0].shape)
    order = [axis, *(n for n in range(rank) if n != axis)]
    turned = [net.plain(net.turned(x, order, op.name)) for x in xs]
    y = net.add(op.name, Concatenate(), {}, *turned)
    return net.turned(y, [order.index(n) for n in range(rank)], op.name)


@reads("Split")
def split(op: Op, args: Args, net: Building) -> list[Flow]:
    """The parts of an axis."""
    x = net.plain(flow(args))
    axis = op.get("axis", 0) % (len(x.shape) + 1)
    if axis == 0:
        raise Inexpressible("it parts samples from each other")
    size = x.shape[axis - 1]
    asked = fixed(args, 1, op.get("split"))
    if asked is None:
        count = op.get("num_outputs", len(op.outputs))
        part = -(-size // count)
        asked = [min(part, size - n * part) for n in range(count)]
    edges = [0, *accumulate(int(n) for n in asked)]
    if edges[-1] != size or len(edges) != len(op.outputs) + 1:
        raise Inexpressible(f"it parts {size} cells into {[*map(int, asked)]}")
    return [
        net.add(f"{op.name}_{n}", Slice(start, stop, axis=axis), {}, x) if net.uses.get(op.outputs[n]) else x
        for n, (start, stop) in enumerate(pairwise(edges))
    ]


@reads("Slice")
def cut(op: Op, args: Args, net: Building) -> Flow:
    """A part of one axis or of several."""
    x = net.plain(flow(args))
    given: list[Any] = [None, *(fixed(args, n) for n in range(1, len(args)))]
    batch, *cuts = slices(op, given, len(x.shape) + 1)
    if batch.start not in (None, 0) or (batch.stop is not None and batch.stop < 1 << 30) or batch.step not in (None, 1):
        raise Inexpressible("it takes some samples alone")
    for n, (size, each) in enumerate(zip(x.shape, cuts, strict=True)):
        start, stop, step = each.indices(size)
        if step < 1:
            raise Inexpressible("it turns an axis round")
        if (start, stop, step) != (0, size, 1):
            x = net.add(op.name, Slice(start, stop if stop < size else None, axis=n + 1, step=step), {}, x)
    return x


@reads("Gather")
def gather(op: Op, args: Args, net: Building) -> Flow:
    """One place of an axis, or several, in runs of those that are side by side."""
    if isinstance(args[0], Row):
        return in_rows(op, args[0].of, args[1], net)
    x, places = net.plain(flow(args)), fixed(args, 1)
    axis = op.get("axis", 0) % (len(x.shape) + 1)
    if axis == 0:
        raise Inexpressible("it takes some samples alone")
    size = x.shape[axis - 1]
    wanted = [int(n) + size * (n < 0) for n in np.ravel(places)]
    if places.ndim > 1 or not wanted or not all(0 <= n < size for n in wanted):
        raise Inexpressible(f"it takes places of the shape {places.shape}, or such as there are not")
    starts = [0, *(n for n in range(1, len(wanted)) if wanted[n] != wanted[n - 1] + 1), len(wanted)]
    if len(starts) - 1 > MOST_RUNS:
        raise Inexpressible(f"it takes places of more than {MOST_RUNS} runs")
    runs = [(wanted[a], wanted[b - 1] + 1) for a, b in pairwise(starts)]
    parts = [x if run == (0, size) else net.add(op.name, Slice(*run, axis=axis), {}, x) for run in runs]
    y = parts[0] if len(parts) == 1 else along(op, parts, axis - 1, net)
    return y if places.ndim else net.seen(y, [n for at, n in enumerate(y.shape) if at != axis - 1], op.name)


def in_rows(op: Op, x: Flow, places: Any, net: Building) -> Flow:
    """All cells of all samples as they lie, looked up by numbers, which is how PyTorch's exporter writes a view."""
    if not isinstance(places, Known):
        raise Inexpressible("it looks cells up that follow from the input")
    for n, numbers in zip(SAMPLES, places.values, strict=True):
        if numbers.shape[:1] != (n,) or not np.array_equal(numbers.ravel(), np.arange(n * prod(x.shape))):
            raise Inexpressible("it looks cells of several samples up, in an order of its own")
    return net.seen(x, places.values[0].shape[1:], op.name)
