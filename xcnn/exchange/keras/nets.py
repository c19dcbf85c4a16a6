"""A net of xcnn's from a graph of Keras's layers, with the file's weights; what it can't express is told at once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from xcnn.core.random import Planner
from xcnn.core.types import Shape, Weights
from xcnn.core.windows import is_whole
from xcnn.errors import ExchangeError, OptionError, XcnnError, short
from xcnn.exchange.archives import refuse
from xcnn.exchange.keras.calls import GraphError
from xcnn.exchange.keras.files import Arrays, reading
from xcnn.exchange.keras.given import Given, Order, Part, UnsupportedError
from xcnn.exchange.keras.layers import LAYERS, order_after
from xcnn.exchange.keras.nodes import Graph, Node, graph_of
from xcnn.layers import Graph as GraphLayer
from xcnn.layers import Sequential, Sigmoid, Softmax
from xcnn.layers.layer import Layer

ODD = (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError)
"""What options that no Keras writes make of a converter."""


@dataclass(frozen=True)
class Built:
    """What a file holds.

    Parameters
    ----------
    net
        its layers
    input_shape
        of a sample; of several inputs by name
    outputs
        by name: the shape of what the net gives, and whether it is probabilities, of a Softmax or a Sigmoid
    weights
        their tree, on the host
    """

    net: Layer
    input_shape: Shape | dict[str, Shape]
    outputs: dict[str, tuple[Shape, bool]]
    weights: Weights


def load(path: str | Path, input_shape: Shape | Mapping[str, Shape] | None) -> Built:
    """The net of a .keras file.

    Parameters
    ----------
    path
        of the file
    input_shape
        of a sample, (channels, height, width), where the file leaves sizes open; of several inputs by name

    Raises
    ------
    ExchangeError
        X416, for what can't be read; X418, for layers that xcnn does not have, all of them.
    OptionError
        X104, where the file leaves sizes open and none are given.
    MissingDependency
        X601, without h5py.
    """
    with reading(path) as (config, arrays):
        try:
            graph = graph_of(config)
        except (GraphError, RecursionError) as error:
            refuse(path, f"its net is no graph of layers: {error}.", cause=error)
        return Builder(path, arrays, graph).built(input_shape)


class Builder:
    """Goes through the nodes in order, and knows of each value its shape, its features' order, and its name here."""

    def __init__(self, path: str | Path, arrays: Arrays, graph: Graph) -> None:
        self.path: str | Path = path
        self.arrays: Arrays = arrays
        self.graph: Graph = graph
        self.shapes: dict[str, Shape] = {}
        self.orders: dict[str, Order] = {}
        self.called: dict[str, str] = {}
        self.layers: dict[str, tuple[Layer, tuple[str, ...]]] = {}
        self.weights: Weights = {}
        self.missing: dict[str, str] = {}
        self.names: set[str] = set()
        self.seen: Counter[str] = Counter()

    def built(self, given: Shape | Mapping[str, Shape] | None) -> Built:
        """The net, if all of it can be built."""
        graph = self.graph
        shapes = dict(given) if isinstance(given, Mapping) else dict.fromkeys(graph.inputs[:1], given)
        if (isinstance(given, tuple) and len(graph.inputs) > 1) or not {*shapes} <= {*graph.inputs}:
            told = f"{Path(self.path).name} has the inputs {', '.join(map(repr, graph.inputs))}; got {short(given)}."
            raise OptionError("X104", told, hint="input_shape={name: shape}, for those that are left open.")
        for node in graph.nodes:
            if node.kind == "InputLayer":
                self.enter_input(node, shapes.get(node.name))
            else:
                self.enter(node)
        for name in graph.outputs:
            if self.orders.get(name) is not None:
                self.missing[name] = "its outputs would be in another order, as nothing follows its Flatten"
        if len({*graph.outputs}) < len(graph.outputs) or {*graph.outputs} & {*graph.inputs}:
            self.missing["the model"] = "an output that is an input, or that it gives twice"
        if self.missing:
            raise not_expressed(self.path, self.missing)
        found = {self.called[name]: self.shapes[name] for name in graph.inputs}
        outputs = {self.called[name]: (self.shapes[name], self.is_probable(name)) for name in graph.outputs}
        net = self.net([*found], [*outputs])
        return Built(net, found if len(found) > 1 else next(iter(found.values())), outputs, self.weights)

    def is_probable(self, name: str) -> bool:
        """Whether a Softmax or a Sigmoid gives this value."""
        layer, _ = self.layers.get(self.called[name], (None, ()))
        return isinstance(layer, Softmax | Sigmoid)

    def net(self, inputs: list[str], outputs: list[str]) -> Layer:
        """Layers one after another where they are, else those that take each other's values."""
        chained = len(inputs) == len(outputs) == 1 and all(
            taken == (before,)
            for (_, taken), before in zip(self.layers.values(), [*inputs, *self.layers], strict=False)
        )
        if chained:
            return Sequential(**{name: layer for name, (layer, _) in self.layers.items()})
        nodes: dict[str, Any] = {name: (layer, *taken) for name, (layer, taken) in self.layers.items()}
        return GraphLayer(**nodes, inputs=inputs, outputs=outputs)

    def enter_input(self, node: Node, given: Shape | None) -> None:
        """The shape of an input, channels first."""
        told = node.config.get("batch_shape") or node.config.get("batch_input_shape") or ()
        if len(told) > 4:
            raise not_expressed(self.path, {node.name: f"samples of {len(told) - 1} axes, and images have three"})
        *places, channels = told[1:] or (None,)
        shape = (channels, *places) if given is None else given
        if not all(is_whole(n) and 0 < n < 2**31 for n in shape) or len(shape) > 3:
            more = len(self.graph.inputs) > 1
            raise OptionError(
                "X104", f"{Path(self.path).name} leaves its input's sizes open: {told}.",
                hint="give them: input_shape=" + (f"{{{node.name!r}: (3, 224, 224)}}" if more else "(3, 224, 224)")
                + ", channels first.",
            )  # fmt: skip
        self.shapes[node.name], self.orders[node.name] = tuple(shape), None
        self.called[node.name] = self.name(node.name)

    def enter(self, node: Node) -> None:
        """One of Keras's layers."""
        if node.kind not in LAYERS:
            self.missing[node.layer] = f"{node.kind}, which xcnn has no layer for"
            return
        if node.beside:
            self.missing[node.layer] = f"{node.kind} that is called with {node.beside}"
            return
        if node.calls > 1 and self.arrays(node.folder):
            self.missing[node.layer] = f"{node.kind} that is called {node.calls} times, and shares its weights"
            return
        if not all(name in self.shapes for name in node.takes) or not node.takes:
            if not node.takes:
                self.missing[node.layer] = f"{node.kind} without an input"
            return  # where what it takes is missing, that alone is told
        given = Given(
            node.config, [self.shapes[name] for name in node.takes], [self.orders[name] for name in node.takes],
            self.arrays(node.folder),
        )  # fmt: skip
        try:
            self.enter_parts(node, LAYERS[node.kind](given))
            self.orders[node.name] = order_after(node.kind, given)
        except UnsupportedError as error:
            self.missing[node.layer] = f"{node.kind} with {error}"
        except ExchangeError:
            raise
        except XcnnError as error:
            self.missing[node.layer] = f"{node.kind}: {error.summary}"
        except ODD as error:
            self.missing[node.layer] = f"{node.kind} with options that can't be ({type(error).__name__})"

    def enter_parts(self, node: Node, parts: list[Part]) -> None:
        """The layers that one of Keras's becomes, one after another where they do not say what they take."""
        values = [(self.called[name], self.shapes[name]) for name in node.takes]
        last, several = [*range(len(values))], len(self.graph.outputs) > 1 and node.name in self.graph.outputs
        for part in parts:
            taken = [values[n] for n in (last if part.takes is None else part.takes)]
            suffix = part.suffix if len(parts) > 1 else ""
            if several:  # Keras's name is that of the output
                suffix = "" if part is parts[-1] else part.suffix or "scores"
            name = self.name(f"{node.name}_{suffix}" if suffix else node.name)
            given: Any = tuple(shape for _, shape in taken) if len(taken) > 1 else taken[0][1]
            planned, shape = part.layer.init(Planner(), given)
            if planned:
                self.weights[name] = self.leaves(node, part, planned)
            self.layers[name] = (part.layer, tuple(each for each, _ in taken))
            last = [len(values)]
            values.append((name, shape))
        if not parts and len(values) > 1:
            raise UnsupportedError("several inputs")
        self.called[node.name], self.shapes[node.name] = values[-1]

    def leaves(self, node: Node, part: Part, planned: Mapping[str, Any]) -> dict[str, Any]:
        """The arrays of a layer, in the net's shapes."""
        found = {name: np.asarray(part.weights[name]()) for name in planned if name in part.weights}
        for name, array in found.items():
            if array.shape != np.shape(planned[name]):
                expected = np.shape(planned[name])
                refuse(self.path, f"{node.name!r} has {name} {array.shape}, where its options ask for {expected}.")
        return found

    def name(self, wanted: str) -> str:
        """A name for a layer that no other has."""
        name = re.sub(r"\W", "_", wanted, flags=re.ASCII).strip("_") or "layer"
        name = f"layer_{name}" if name[0].isdigit() or name in ("inputs", "outputs", "takes", "self") else name
        n = next(n for n in count(self.seen[name]) if (f"{name}_{n}" if n else name) not in self.names)
        found = f"{name}_{n}" if n else name
        self.seen[name] = n + 1
        self.names.add(found)
        return found


def not_expressed(path: str | Path, missing: Mapping[str, str]) -> ExchangeError:
    """X418, with all of them in an attribute of the error, and as many in its lines as fit."""
    told = [f"{name!r}: {why}" for name, why in missing.items()]
    lines = told if len(told) <= 8 else [*told[:7], f"and {len(told) - 7} more: error.missing has all"]
    hint = "nothing of a file is executed: what a Lambda or a layer of somebody's own computes is written in xcnn anew."
    error = ExchangeError("X418", f"{Path(path).name} has what xcnn can't express.", *lines, hint=hint)
    error.missing = dict(missing)  # type: ignore[attr-defined]
    return error
