"""Containers: what is in them, and what joins values."""

from __future__ import annotations

from typing import Any

from xcnn.exchange.onnx.graph import Scope, Tensor
from xcnn.exchange.onnx.writers import Tree, write, writes
from xcnn.layers import Add, Concatenate, Graph, Multiply, Residual, Sequential


@writes(Sequential)
def sequential(net: Sequential, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """Layers one after another."""
    for name, layer in net.named:
        x = write(layer, weights.get(name, {}), x, here.child(name))
    return x


@writes(Residual)
def residual(net: Residual, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """The sum of the layers and the shortcut."""
    y, beside = sequential(net.body, weights, x, here), x
    if net.shortcut is not None:
        beside = write(net.shortcut, weights.get("shortcut", {}), x, here.child("shortcut"))
    return here.node("Add", y, beside, shape=y.shape)


@writes(Graph)
def graph(net: Graph, weights: Tree, x: Any, here: Scope) -> Any:
    """Nodes by name; several inputs or outputs are tuples."""
    values = dict(zip(net.inputs, x if isinstance(x, tuple) else (x,), strict=True))
    for (name, layer), taken in net.wired_nodes():
        given = tuple(values[one] for one in taken)
        values[name] = write(layer, weights.get(name, {}), given if len(given) > 1 else given[0], here.child(name))
    y = tuple(values[name] for name in net.outputs)
    return y if len(y) > 1 else y[0]


def branches(net: Any, weights: Tree, x: Any, here: Scope) -> list[Tensor]:
    """The outputs of a container's branches, or the values that it is given."""
    if not net.named:
        return list(x)
    return [write(layer, weights.get(name, {}), x, here.child(name)) for name, layer in net.named]


@writes(Concatenate)
def concatenate(net: Concatenate, weights: Tree, x: Any, here: Scope) -> Tensor:
    """Channels, joined."""
    ys = branches(net, weights, x, here)
    return here.node("Concat", *ys, shape=(sum(y.shape[0] for y in ys), *ys[0].shape[1:]), axis=1)


@writes(Add, Multiply)
def joined(net: Add | Multiply, weights: Tree, x: Any, here: Scope) -> Tensor:
    """A sum or a product; one number for a channel is given axes of size 1 behind it."""
    ys = branches(net, weights, x, here)
    rank = max(len(y.shape) for y in ys)
    first, *others = [lengthened(y, rank, here) for y in ys]
    if not others:
        return first
    op = "Add" if isinstance(net, Add) else "Mul"
    for n, y in enumerate(others, 1):
        shape = tuple(map(max, first.shape, y.shape))
        first = here.node(op, first, y, shape=shape, part="" if n == len(others) else f"part{n}")
    return first


def lengthened(x: Tensor, rank: int, here: Scope) -> Tensor:
    """A tensor with so many axes."""
    if len(x.shape) == rank:
        return x
    shape = (*x.shape, *(1 for _ in range(rank - len(x.shape))))
    return here.node("Reshape", x, here.constant("shape", (0, *shape)), shape=shape, part="lengthened")
