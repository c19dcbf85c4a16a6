"""Layers that hold others, as nodes of the page: chains, branches, graphs, and a graph of several inputs or outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from xcnn import layers
from xcnn.core.several import each, shapes_of
from xcnn.core.types import Shape
from xcnn.layers.branches import Branches
from xcnn.layers.container import Container
from xcnn.layers.layer import Layer
from xcnn.layers.packed import Packed
from xcnn.model.trace import NET, Trace

Node: TypeAlias = dict[str, Any]
Described: TypeAlias = Callable[[Layer, Trace, str], Node]

HOLDING = (Container, Packed)
"""What holds layers, and has no weights beside theirs."""
JOINS: dict[type, str] = {
    layers.Add: "add",
    layers.Multiply: "multiply",
    layers.Concatenate: "concatenate",
}
"""How page/operations.js makes one value of several."""
CONTAINERS: tuple[type, ...] = (layers.Graph, layers.Residual, layers.Sequential, *JOINS)
"""Those that the page follows; of exactly these classes."""


def held(net: Container | Packed, trace: Trace, path: str, described: Described) -> Node | None:
    """The node of what holds layers, with theirs; None where the page can't follow it.

    Parameters
    ----------
    net
        it
    trace
        what it got and gave
    path
        its name in the trace; "" is the net itself
    described
        what gives the node of a layer in it
    """
    if isinstance(net, Packed):
        given = net.input_shapes if len(net.input_shapes) > 1 else None
        made = net.output_shapes() if len(net.graph.outputs) > 1 else None
        return {**_graph(net.graph, trace, path, described), "packed": {"inputs": given, "outputs": made}}
    if type(net) is layers.Graph:
        return _graph(net, trace, path, described)
    if type(net) in JOINS:
        return _joined(net, trace, path, described)  # type: ignore[arg-type]
    children = [described(layer, trace, within(path, name)) for name, layer in net.named]
    if type(net) is layers.Residual:
        *body, shortcut = children if net.shortcut else [*children, None]
        return {"op": "residual", "children": body, "shortcut": shortcut}
    if type(net) is layers.Sequential:
        return {"op": "sequential", "children": children} if children else {"op": "moved", "from": None}
    return None


def _graph(net: layers.Graph, trace: Trace, path: str, described: Described) -> Node:
    """A graph's nodes in the order in which they are done, each with the names of what it takes."""
    children = [
        {**described(layer, trace, within(path, name)), "name": name, "takes": taken}
        for (name, layer), taken in net.wired_nodes()
    ]
    return {"op": "graph", "children": children, "inputs": net.inputs, "outputs": net.outputs}


def _joined(net: Branches, trace: Trace, path: str, described: Described) -> Node:
    """Branches, or values that are given, and how they are made one."""
    children = [described(layer, trace, within(path, name)) for name, layer in net.named]
    given, whole = sizes(net, trace, path)
    parts = [child["output"] for child in children] if children else shapes_of(given)
    axes = [[n for n, size in enumerate(part) if size == whole[n]] for part in parts]
    how: Node = {"join": JOINS[type(net)], "view": whole, "axes": axes}
    return {"op": "branches", "children": children, **how} if children else {"op": "join", **how}


def sizes(net: Layer, trace: Trace, path: str) -> tuple[Any, Shape]:
    """The shapes of what a layer was given, one or several, and of what it gave; the net's own may have no name."""
    found: Any = trace[path or NET] if path or NET in trace else trace
    return each(lambda array: array.shape[1:], found.x), found.y.shape[1:]


def within(path: str, name: str) -> str:
    """The path of a layer in a container."""
    return f"{path}.{name}" if path else name
