"""Normalisations."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from xcnn.core.types import Shape
from xcnn.exchange.onnx.file import Op
from xcnn.exchange.onnx.flow import Args, Building, Flow, Inexpressible, Row, fixed, flow
from xcnn.exchange.onnx.operators.shapes import reshape
from xcnn.exchange.onnx.operators.table import reads
from xcnn.layers import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, LocalResponseNorm
from xcnn.layers.batch_norm import SETTLED


@reads("BatchNormalization")
def batch_norm(op: Op, args: Args, net: Building) -> Flow:
    """With running statistics that have seen enough: they go on by momentum."""
    if op.get("training_mode", 0) or not op.get("spatial", 1):
        raise Inexpressible(
            "it takes the batch's own statistics" if op.get("spatial", 1) else "it has one for each cell"
        )
    scale, bias, mean, variance = (np.asarray(fixed(args, n), np.float32) for n in range(1, 5))
    layer = BatchNorm(momentum=min(max(float(op.get("momentum", 0.9)), 0.0), 1 - 1e-7), epsilon=op.get("epsilon", 1e-5))
    weights = {"scale": scale, "bias": bias, "running_mean": mean, "running_variance": variance}
    return net.add(op.name, layer, {**weights, "running_steps": np.full(1, SETTLED)}, net.plain(flow(args)))


@reads("InstanceNormalization")
def instance_norm(op: Op, args: Args, net: Building) -> Flow:
    """Each channel of each sample."""
    weights = {"scale": fixed(args, 1), "bias": fixed(args, 2)}
    return net.add(op.name, InstanceNorm(epsilon=op.get("epsilon", 1e-5)), weights, net.plain(flow(args)))


@reads("GroupNormalization")
def group_norm(op: Op, args: Args, net: Building) -> Flow:
    """Groups of channels; until opset 21 a group had one scale."""
    x, groups = net.plain(flow(args)), op.get("num_groups", 1)
    scale, bias = np.asarray(fixed(args, 1)), np.asarray(fixed(args, 2))
    if len(scale) == groups != x.shape[0]:
        scale, bias = (np.repeat(each, x.shape[0] // groups) for each in (scale, bias))
    return net.add(op.name, GroupNorm(groups, epsilon=op.get("epsilon", 1e-5)), {"scale": scale, "bias": bias}, x)


@reads("xcnn::GroupNorm")
def group_norm_of_groups(op: Op, args: Args, net: Building) -> Flow | Row:
    """One that an exporter wrote as an InstanceNormalization of its groups, without scales."""
    x, groups = net.plain(flow(args)), op.get("groups")
    if x.shape[0] % groups:
        x = net.plain(net.seen(x, (groups, prod(x.shape) // groups), op.name))
    weights = {"scale": np.ones(x.shape[0]), "bias": np.zeros(x.shape[0])}
    y = net.add(op.name, GroupNorm(groups, epsilon=op.get("epsilon")), weights, x)
    return reshape(Op(op.name, "Reshape", op.inputs, op.outputs, {}), [y, args[1]], net)


@reads("LRN")
def local_response_norm(op: Op, args: Args, net: Building) -> Flow:
    """Neighbouring channels, as many on both sides."""
    size = op.get("size")
    if size % 2 == 0:
        raise Inexpressible("its size is even, and has one channel more behind")
    layer = LocalResponseNorm(size, alpha=op.get("alpha", 1e-4), beta=op.get("beta", 0.75), k=op.get("bias", 1.0))
    return net.add(op.name, layer, {}, net.plain(flow(args)))


@reads("xcnn::LRN")
def local_response_norm_by_pooling(op: Op, args: Args, net: Building) -> Flow:
    """One that an exporter wrote as its formula; its size may be even."""
    x = net.plain(flow(args))
    if op.get("channels") > 0 and op.get("channels") != x.shape[0]:
        raise Inexpressible("its means are of other cells than neighbouring channels")
    layer = LocalResponseNorm(op.get("size"), alpha=op.get("alpha"), beta=op.get("beta"), k=op.get("k"))
    return net.add(op.name, layer, {}, x)


@reads("LayerNormalization")
def layer_norm(op: Op, args: Args, net: Building) -> Flow:
    """The last axes of a sample, from one on."""
    x = flow(args)
    rank = len(x.shape) + 1
    first = op.get("axis", -1) % rank
    if first == 0 or any(net.uses.get(name) for name in op.outputs[1:]):
        raise Inexpressible("it goes over the batch" if first == 0 else "its mean or deviation is taken")
    axes, shape = tuple(range(first, rank)), x.shape[first - 1 :]
    scale = np.broadcast_to(fixed(args, 1), shape)
    bias = np.broadcast_to(fixed(args, 2, np.float32(0)), shape)
    return over_axes(op, x, axes, op.get("epsilon", 1e-5), scale, bias, net)


def over_axes(op: Op, x: Flow, axes: tuple[int, ...], epsilon: float, scale: Any, bias: Any, net: Building) -> Flow:
    """A layer normalisation over some axes, in the order in which they are held."""
    held = x
    if x.order is not None and x.shape == x.turned:
        there = [x.order[axis - 1] + 1 for axis in axes]
        order = np.argsort(there)
        axes, held = tuple(sorted(there)), replace(x, shape=x.held, order=None)
        scale, bias = (np.transpose(each, order) for each in (scale, bias))
    else:
        x = held = net.plain(x)
    whole = len(axes) == len(x.shape)
    layer = LayerNorm(axis=None if whole else axes[0] if len(axes) == 1 else axes, epsilon=epsilon)
    return net.like(x, net.add(op.name, layer, {"scale": scale, "bias": bias}, held))


@reads("xcnn::LayerNorm")
def composed(op: Op, args: Args, net: Building) -> Flow:
    """A layer normalisation that an exporter wrote as its formula, of ones and zeros."""
    x = flow(args)
    rank = len(x.shape) + 1
    axes = tuple(sorted(axis % rank for axis in op.get("axes")))
    if op.get("parts") and not parts_of_one(op.get("parts"), axes, x.shape):
        raise Inexpressible("its variance is a mean of means of other cells")
    shape = tuple(x.shape[axis - 1] for axis in axes)
    scale, bias = (np.broadcast_to(np.float32(number), shape) for number in (1, 0))
    return over_axes(op, x, axes, op.get("epsilon"), scale, bias, net)


def parts_of_one(given: tuple[int, ...], axes: tuple[int, ...], shape: Shape) -> bool:
    """Whether means are of equal parts of one of some axes: the means' axis, then the sizes that the cells were in."""
    axis, *sizes = given
    if axis - 1 not in axes or axis >= len(sizes):
        return False
    return [*sizes[: axis - 1], sizes[axis - 1] * sizes[axis], *sizes[axis + 1 :]] == [0, *shape]
