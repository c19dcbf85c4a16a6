"""A graph of ONNX while it is written: nodes and constants with names, and the opset that they need."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xcnn.core.types import Shape

OPSET = 20
"""What a graph is written in where nothing asks for more."""


@dataclass(frozen=True)
class Tensor:
    """What flows between nodes.

    Parameters
    ----------
    name
        unique in the graph
    shape
        of one sample, or of a constant
    """

    name: str
    shape: Shape = ()


@dataclass
class Node:
    """An operator of a graph: of its inputs' and its output's names the empty one stands for what is left out."""

    op: str
    name: str
    inputs: list[str]
    output: str
    attributes: dict[str, Any]


@dataclass
class Graph:
    """Nodes in order, and constants by name."""

    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)
    opset: int = OPSET
    taken: set[str] = field(default_factory=set)
    """The names of tensors."""
    called: set[str] = field(default_factory=set)
    """The names of nodes."""

    def fresh(self, name: str) -> str:
        """A name for a tensor: this, or where it is taken, one like it."""
        return fresh(name, self.taken)


def fresh(name: str, taken: set[str]) -> str:
    """The name, or where it is taken, one like it; it is taken then."""
    found, n = name, 1
    while found in taken:
        n += 1
        found = f"{name}_{n}"
    taken.add(found)
    return found


@dataclass(frozen=True)
class Scope:
    """Where the nodes of a layer go: its graph, and the layer's path in the net.

    Parameters
    ----------
    graph
        that is written
    path
        the names of the containers around, and the layer's own
    """

    graph: Graph
    path: tuple[str, ...] = ()

    def child(self, name: str) -> Scope:
        """The place of a layer inside."""
        return Scope(self.graph, (*self.path, name))

    def node(
        self, op: str, *inputs: Tensor | None, shape: Shape, part: str = "", opset: int = OPSET, **attributes: Any
    ) -> Tensor:
        """Add an operator, and give its output.

        Parameters
        ----------
        op
            its type in ONNX
        *inputs
            tensors, None for one that is left out
        shape
            of a sample of the output
        part
            what the node is called behind the layer's name, where a layer has several; the main one has its name alone
        opset
            the first version of ONNX that has the operator as it is meant
        **attributes
            numbers, texts, and lists of them
        """
        name = fresh("/".join((*self.path, part) if part else self.path) or op, self.graph.called)
        output = self.graph.fresh(f"{name}/y")
        self.graph.nodes.append(Node(op, name, [x.name if x else "" for x in inputs], output, attributes))
        self.graph.opset = max(self.graph.opset, opset)
        return Tensor(output, tuple(shape))

    def constant(self, name: str, value: Any) -> Tensor:
        """Add an array, floating-point numbers as float32 and whole ones as int64; its name stands behind the path."""
        array = np.asarray(value)
        array = np.asarray(array, np.float32 if array.dtype.kind == "f" else np.int64, order="C")
        full = self.graph.fresh("/".join((*self.path, name)))
        self.graph.constants[full] = array
        return Tensor(full, array.shape)
