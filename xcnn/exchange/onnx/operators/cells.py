"""Operators cell by cell: activations, and sums and products of two values or with constants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from xcnn.exchange.onnx.file import Op
from xcnn.exchange.onnx.flow import Args, Building, Flow, Inexpressible, Known, fixed, flow
from xcnn.exchange.onnx.operators.table import reads
from xcnn.layers import (
    ELU,
    GELU,
    SELU,
    Add,
    ClippedReLU,
    Conv1D,
    Conv1DTranspose,
    Conv2D,
    Conv2DTranspose,
    Dense,
    DepthwiseConv2D,
    Dropout,
    GroupNorm,
    HardSigmoid,
    HardSwish,
    Layer,
    LayerNorm,
    LeakyReLU,
    LogSoftmax,
    Mish,
    Multiply,
    PReLU,
    ReLU,
    Scale,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Softsign,
    Tanh,
)

SINGLE: dict[str, Callable[[Op], Layer]] = {
    "Elu": lambda op: ELU(op.get("alpha", 1.0)),
    "Gelu": lambda op: GELU(approximate=op.get("approximate", "none") == "tanh"),
    "HardSwish": lambda op: HardSwish(),
    "LeakyRelu": lambda op: LeakyReLU(op.get("alpha", 0.01)),
    "Mish": lambda op: Mish(),
    "Relu": lambda op: ReLU(),
    "Sigmoid": lambda op: Sigmoid(),
    "Softplus": lambda op: Softplus(),
    "Softsign": lambda op: Softsign(),
    "Tanh": lambda op: Tanh(),
    "xcnn::SiLU": lambda op: SiLU(),
}
"""Activations with options that are attributes alone."""


@reads(*SINGLE)
def activation(op: Op, args: Args, net: Building) -> Flow:
    """A function of single cells, of whatever shape."""
    x = flow(args)
    return net.like(x, net.add(op.name, SINGLE[op.kind](op), {}, x))


@reads("Swish")
def swish(op: Op, args: Args, net: Building) -> Flow:
    """X sigmoid(x)"""
    if op.get("alpha", 1.0) != 1:
        raise Inexpressible(f"its alpha is {op.get('alpha'):g}")
    return net.like(flow(args), net.add(op.name, SiLU(), {}, flow(args)))


@reads("Selu")
def selu(op: Op, args: Args, net: Building) -> Flow:
    """With its own constants alone."""
    given = op.get("alpha", 1.6732632), op.get("gamma", 1.0507010)
    if not np.allclose(given, (1.6732632, 1.0507010), rtol=1e-6):
        raise Inexpressible(f"its constants are {given}")
    return net.like(flow(args), net.add(op.name, SELU(), {}, flow(args)))


@reads("HardSigmoid")
def hard_sigmoid(op: Op, args: Args, net: Building) -> Flow:
    """A line through 1/2."""
    if op.get("beta", 0.5) != 0.5:
        raise Inexpressible(f"its beta is {op.get('beta'):g}, not 1/2")
    slope = op.get("alpha", 0.2)
    slope = 1 / 6 if abs(slope - 1 / 6) < 1e-5 else slope
    return net.like(flow(args), net.add(op.name, HardSigmoid(slope), {}, flow(args)))


@reads("Clip")
def clip(op: Op, args: Args, net: Building) -> Flow:
    """Between 0 and a number, or above 0; other bounds are moved there and back."""
    least, most = fixed(args, 1, op.get("min", -np.inf)), fixed(args, 2, op.get("max", np.inf))
    least, most = float(np.reshape(least, ())), float(np.reshape(most, ()))
    x, above, below = flow(args), least > -1e30, most < 1e30
    if not least < most:
        raise Inexpressible(f"it holds its input between {least:g} and {most:g}")
    if not above:
        if not below:
            return x
        turned = scaled(f"{op.name}_turned", x, -1.0, most, net)
        return scaled(op.name, net.like(turned, net.add(op.name, ReLU(), {}, turned)), -1.0, most, net)
    moved = x if least == 0 else scaled(f"{op.name}_moved", x, 1.0, -least, net)
    layer: Layer = ClippedReLU(most - least) if below else ReLU()
    y = net.like(moved, net.add(op.name, layer, {}, moved))
    return y if least == 0 else scaled(f"{op.name}_back", y, 1.0, least, net)


@reads("PRelu")
def prelu(op: Op, args: Args, net: Building) -> Flow:
    """A slope for all cells, for those along one axis, or for each."""
    x, slope = flow(args), fixed(args, 1)
    axes = varying(slope, x) or [0]
    if len(axes) > 1:
        x = net.plain(x)
        each = np.broadcast_to(slope.reshape(slope.shape[max(slope.ndim - len(x.shape), 0) :]), x.shape)
        return net.add(op.name, PReLU(untied=True), {"negative_slope": each}, x)
    order = [axes[0], *(n for n in range(len(x.shape)) if n != axes[0])]
    turned = net.plain(net.turned(x, order, op.name))
    shared = slope.size == 1 and turned.shape[0] != 1
    y = net.add(op.name, PReLU(shared=shared), {"negative_slope": np.ravel(slope)}, turned)
    return net.turned(y, [order.index(n) for n in range(len(order))], op.name)


@reads("Softmax", "LogSoftmax")
def softmax(op: Op, args: Args, net: Building) -> Flow:
    """Along one axis; before opset 13 along all from one on, which differs where there are more."""
    x = net.plain(flow(args))
    rank = len(x.shape) + 1
    axis = op.get("axis", -1 if net.opset >= 13 else 1) % rank
    if net.opset < 13 and any(n != 1 for n in x.shape[axis:]):
        raise Inexpressible(f"it goes along all axes from {axis} on")
    if axis == 0:
        raise Inexpressible("it goes along the batch")
    return net.add(op.name, (Softmax if op.kind == "Softmax" else LogSoftmax)(axis), {}, x)


@reads("Dropout")
def dropout(op: Op, args: Args, net: Building) -> Flow:
    """Its rate is what training takes; outside of it nothing is dropped."""
    x = flow(args)
    if any(net.uses.get(name) for name in op.outputs[1:]):
        raise Inexpressible("its mask is taken")
    if np.any(fixed(args, 2, False)):
        raise Inexpressible("it drops outside of training too")
    rate = float(np.reshape(fixed(args, 1, op.get("ratio", 0.5)), ()))
    return net.like(x, net.add(op.name, Dropout(rate), {}, x))


@reads("Identity")
def identity(op: Op, args: Args, net: Building) -> Flow:
    """Nothing."""
    return flow(args)


@reads("Cast", "CastLike")
def cast(op: Op, args: Args, net: Building) -> Flow:
    """Between types of floating-point numbers: all is computed in the model's."""
    if op.kind == "Cast" and op.get("to") not in (1, 10, 11, 16):
        raise Inexpressible("it makes other than floating-point numbers")
    return flow(args)


# Two values, or one and a constant.

BIASED = (Conv1D, Conv1DTranspose, Conv2D, Conv2DTranspose, DepthwiseConv2D, Dense)
"""Layers that may have a bias."""


def channels(constant: Any, x: Flow) -> Any:
    """A constant as one number for each channel that is held of x; None where it is no such."""
    c, rank, axis = x.held[0], len(x.shape) + 1, 1 if x.order is None else x.order.index(0) + 1
    if constant.ndim > rank:
        return None
    wide = (1,) * (rank - constant.ndim) + constant.shape
    if any(size != 1 for at, size in enumerate(wide) if at != axis):
        return None
    return np.broadcast_to(np.reshape(constant, (-1,)), (c,)) if wide[axis] in (1, c) else None


@reads("Add", "Sub", "Sum")
def add(op: Op, args: Args, net: Building) -> Flow:
    """A sum, or what is left; constants go into the bias of the layer before, or into a Scale."""
    constants = [n for n, arg in enumerate(args) if isinstance(arg, Known)]
    if not constants:
        if op.kind == "Sub":
            x, y = flow(args), flow(args, 1)
            args = [x, net.like(y, scaled(f"{op.name}_minus", y, -1.0, None, net))]
        return joined(op, args, Add(), net)
    if len(args) != 2:
        raise Inexpressible("it adds several constants")
    at = constants[0]
    x, constant = flow(args, 1 - at), np.asarray(fixed(args, at), np.float32)
    if op.kind == "Sub":
        return scaled(op.name, x, 1.0, -constant, net) if at else scaled(op.name, x, -1.0, constant, net)
    return biased(op, x, constant, 1 - at, net) or scaled(op.name, x, 1.0, constant, net)


@reads("Mul", "Div")
def multiply(op: Op, args: Args, net: Building) -> Flow:
    """A product; constants become a Scale."""
    at = next((n for n, arg in enumerate(args) if isinstance(arg, Known)), None)
    if at is None:
        if op.kind == "Div":
            raise Inexpressible("it divides by what follows from the input")
        return joined(op, args, Multiply(), net)
    x, constant = flow(args, 1 - at), np.asarray(fixed(args, at), np.float32)
    if op.kind == "Div":
        if at == 0:
            raise Inexpressible("it divides by what follows from the input")
        constant = (1 / constant.astype(np.float64)).astype(np.float32)
    return factored(op, x, constant, 1 - at, net) or scaled(op.name, x, constant, None, net)


def scaled(name: str, x: Flow, factor: Any, summand: Any, net: Building) -> Flow:
    """A factor and a summand: numbers for all cells, for those along one axis, or summands for each cell."""
    given = [None if each is None else np.asarray(each, np.float32) for each in (factor, summand)]
    for each in given:
        narrow(each, x)
    if not x.shape:
        return net.seen(scaled(name, net.seen(x, (1,), name), factor, summand, net), (), name)
    if all(each is None or each.size == 1 for each in given) and 0 < len(x.held) <= 3:
        held = replace(x, shape=x.held, order=None)
        return net.like(x, with_scale(name, held, flat(given[0]), flat(given[1]), net))
    axes = {axis for each in given if each is not None for axis in varying(each, x)}
    if len(axes) <= 1:
        axis = next(iter(axes), 0)
        order = [axis, *(n for n in range(len(x.shape)) if n != axis)]
        turned = net.plain(net.turned(x, order, name))
        y = with_scale(name, turned, flat(given[0]), flat(given[1]), net)
        return net.turned(y, [order.index(n) for n in range(len(order))], name)
    if given[0] is None or given[0].size != 1 or given[1] is None or len(x.shape) not in (2, 3):
        shape = next(each.shape for each in given if each is not None and each.size > 1)
        raise Inexpressible(f"a constant of shape {shape} meets samples of shape {x.shape}")
    x, c = net.plain(x), x.shape[0]
    layer: Layer = (
        Conv1D(c, 1, groups=c, bias="untied") if len(x.shape) == 2 else DepthwiseConv2D(1, bias="untied")
    )  # of single cells: a bias for each
    bias = np.broadcast_to(given[1].reshape(given[1].shape[given[1].ndim - len(x.shape) :]), x.shape)
    kernel = np.broadcast_to(given[0].ravel()[0], (c, *(1 for _ in x.shape)))
    return net.add(name, layer, {"kernel": kernel, "bias": bias}, x)


def narrow(constant: Any, x: Flow) -> None:
    """Raise where a constant has more axes than the value that it meets, which would get them too."""
    if constant is not None and np.ndim(constant) > len(x.shape) + 1:
        raise Inexpressible(f"a constant of {np.ndim(constant)} axes meets values of {len(x.shape) + 1}")


def flat(each: Any) -> Any:
    """Numbers in a row, if there are any."""
    return None if each is None else each.ravel()


def with_scale(name: str, x: Flow, factor: Any, summand: Any, net: Building) -> Flow:
    """A Scale of a value as it is held."""
    c = x.held[:1]
    weights = {"scale": np.broadcast_to(factor, c)}
    if summand is not None:
        weights["bias"] = np.broadcast_to(summand, c)
    return net.add(name, Scale(bias=summand is not None), weights, x)


def varying(constant: Any, x: Flow) -> list[int]:
    """The axes of a sample, from 0, along which a constant is not one number."""
    rank = len(x.shape) + 1
    wide = (1,) * (rank - constant.ndim) + constant.shape
    fits = len(wide) == rank and all(n in (1, m) for n, m in zip(wide, (1, *x.shape), strict=True))
    if not fits:
        raise Inexpressible(f"a constant of shape {constant.shape} meets samples of shape {x.shape}")
    return [axis - 1 for axis in range(1, rank) if wide[axis] != 1]


def biased(op: Op, x: Flow, constant: Any, n: int, net: Building) -> Flow | None:
    """The sum as the bias of the layer that gave x, where that has none and nobody else takes x."""
    step = net.alone(op, n, x)
    if step is None:
        return None
    layer = step.layer
    if isinstance(layer, BIASED) and layer.bias is False:
        along = channels(constant, x)
        if along is not None:
            net.steps[x.step] = replace(step, layer=replace(layer, bias=True), weights={**step.weights, "bias": along})
            return x
        whole = constant.shape[1:] if constant.ndim > len(x.shape) else constant.shape
        if not isinstance(layer, Dense) and x.order is None and whole == x.shape and constant.size == np.prod(whole):
            weights = {**step.weights, "bias": np.reshape(constant, whole)}
            net.steps[x.step] = replace(step, layer=replace(layer, bias="untied"), weights=weights)
            return x
    if (
        x.order is None
        and isinstance(layer, LayerNorm | GroupNorm | Scale)
        and not np.any(step.weights.get("bias", np.zeros(1)))
    ):
        bias = fitted(constant, step.weights["scale"], layer, x)
        if bias is not None:
            changed = replace(layer, bias=True) if isinstance(layer, Scale) else layer
            net.steps[x.step] = replace(step, layer=changed, weights={**step.weights, "bias": bias})
            return x
    return None


def factored(op: Op, x: Flow, constant: Any, n: int, net: Building) -> Flow | None:
    """The product as the scale of the normalisation that gave x, which is all ones."""
    step = net.alone(op, n, x)
    if step is None or x.order is not None or not isinstance(step.layer, LayerNorm | GroupNorm):
        return None
    scale = fitted(constant, step.weights["scale"], step.layer, x)
    if scale is None or np.any(step.weights["scale"] != 1) or np.any(step.weights["bias"]):
        return None
    net.steps[x.step] = replace(step, weights={**step.weights, "scale": scale})
    return x


def fitted(constant: Any, weight: Any, layer: Any, x: Flow) -> Any:
    """A constant in the shape of a weight of a norm or a Scale; None where it is along other axes."""
    if isinstance(layer, Scale | GroupNorm):
        return channels(constant, x)
    rank = len(x.shape) + 1
    axes, wide = layer.axes(rank), (1,) * (rank - constant.ndim) + constant.shape
    if len(wide) > rank or any(wide[axis] != 1 for axis in range(rank) if axis not in axes):
        return None
    return np.broadcast_to(np.reshape(constant, tuple(wide[axis] for axis in axes)), weight.shape)


def joined(op: Op, args: Args, layer: Layer, net: Building) -> Flow:
    """A sum or a product of values, seen alike, or one with a number for each channel."""
    xs = [flow(args, n) for n in range(len(args))]
    if len(xs) == 1:
        return xs[0]
    first = xs[0]
    if all((x.held, x.shape, x.order) == (first.held, first.shape, first.order) for x in xs):
        return net.like(first, net.add(op.name, layer, {}, *xs))
    rank = max(len(x.shape) for x in xs)
    if any(len(x.shape) != rank for x in xs):
        raise Inexpressible(f"it meets samples of the shapes {', '.join(str(x.shape) for x in xs)}")
    return net.add(op.name, layer, {}, *(narrowest(x, net) for x in xs))


def narrowest(x: Flow, net: Building) -> Flow:
    """The value as it is held, where that lacks axes of size 1 at its end alone."""
    if x.order is None and (*x.held, *(1 for _ in x.shape[len(x.held) :])) == x.shape:
        return replace(x, shape=x.held)
    return net.plain(x)
