"""Operators that are several layers here: absolute values, powers, the larger of two values."""

from __future__ import annotations

from typing import Any

import numpy as np

from xcnn.exchange.onnx.file import Op
from xcnn.exchange.onnx.flow import Args, Building, Flow, Inexpressible, Known, fixed, flow
from xcnn.exchange.onnx.operators.cells import clip, joined, narrow, scaled
from xcnn.exchange.onnx.operators.table import reads
from xcnn.layers import ELU, Add, Layer, Multiply, ReLU, Softplus

MOST_POWER = 4


def of_cells(name: str, layer: Layer, x: Flow, net: Building) -> Flow:
    """A layer of single cells."""
    return net.like(x, net.add(name, layer, {}, x))


@reads("Neg")
def neg(op: Op, args: Args, net: Building) -> Flow:
    """-x"""
    return scaled(op.name, flow(args), -1.0, None, net)


@reads("Abs")
def absolute(op: Op, args: Args, net: Building) -> Flow:
    """What is positive, and what is negative turned round."""
    x = flow(args)
    positive = of_cells(f"{op.name}_positive", ReLU(), x, net)
    negative = of_cells(f"{op.name}_negative", ReLU(), scaled(f"{op.name}_turned", x, -1.0, None, net), net)
    return net.like(x, net.add(op.name, Add(), {}, positive, negative))


@reads("Pow")
def power(op: Op, args: Args, net: Building) -> Flow:
    """A product of a value with itself."""
    x, exponent = flow(args), fixed(args, 1)
    narrow(exponent, x)
    times = float(np.ravel(exponent)[0]) if exponent.size == 1 else 0.0
    if times not in range(1, MOST_POWER + 1):
        raise Inexpressible(f"its exponent is {times:g}" if times else "its exponents differ")
    return x if times == 1 else net.like(x, net.add(op.name, Multiply(), {}, *[x] * int(times)))


@reads("Max", "Min")
def extreme(op: Op, args: Args, net: Building) -> Flow:
    """The larger: y and what x has more. The smaller: x without it. Beside a number a Clip."""
    largest = op.kind == "Max"
    if len(args) == 1:
        return flow(args)
    known = [n for n, arg in enumerate(args) if isinstance(arg, Known)]
    if len(args) == 2 and len(known) == 1 and fixed(args, known[0]).size == 1:
        number: Any = args[known[0]]
        narrow(number.fixed, flow(args, 1 - known[0]))
        return clip(op, [flow(args, 1 - known[0]), *((number, None) if largest else (None, number))], net)
    if known:
        raise Inexpressible("it takes the larger or the smaller of a value and several numbers")
    y = flow(args)
    for n in range(1, len(args)):
        part = f"{op.name}_{n}" if n < len(args) - 1 else op.name
        x, y = (flow(args, n), y) if largest else (y, flow(args, n))
        minus = scaled(f"{part}_minus", y, -1.0, None, net)
        more = of_cells(f"{part}_more", ReLU(), joined(named(op, f"{part}_apart"), [x, minus], Add(), net), net)
        rest = [y, more] if largest else [x, scaled(f"{part}_less", more, -1.0, None, net)]
        y = joined(named(op, part), rest, Add(), net)
    return y


def named(op: Op, name: str) -> Op:
    """The operator by another name."""
    return Op(name, op.kind, op.inputs, op.outputs, op.attributes)


@reads("xcnn::LogSigmoid")
def log_sigmoid(op: Op, args: Args, net: Building) -> Flow:
    """-softplus(-x)"""
    turned = scaled(f"{op.name}_turned", flow(args), -1.0, None, net)
    return scaled(op.name, of_cells(f"{op.name}_softplus", Softplus(), turned, net), -1.0, None, net)


@reads("Celu")
def celu(op: Op, args: Args, net: Building) -> Flow:
    """An ELU of what is measured in alphas."""
    x, alpha = flow(args), op.get("alpha", 1.0)
    if alpha == 1:
        return of_cells(op.name, ELU(1.0), x, net)
    if not alpha > 0:
        raise Inexpressible(f"its alpha is {alpha:g}")
    inner = of_cells(f"{op.name}_elu", ELU(1.0), scaled(f"{op.name}_by", x, 1 / alpha, None, net), net)
    return scaled(op.name, inner, alpha, None, net)
