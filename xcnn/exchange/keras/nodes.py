"""The graph of a Keras model as a list of nodes, each after what it takes: models within models are taken apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any, TypeAlias

from xcnn.exchange.keras.calls import GraphError, Value, arguments, beside, flattened, references, taken
from xcnn.exchange.keras.folders import folders
from xcnn.exchange.keras.operations import is_operation, operation

DEEPEST = 16
MOST_NODES = 10_000
MODELS = ("Functional", "Model", "Sequential")
Call: TypeAlias = tuple[str, int]
"""A layer's name, and which of its calls."""
HOMES = ("keras", "keras.layers", "keras.models", "keras.src.models")
"""Modules whose classes are Keras's own: others are somebody's."""


@dataclass(frozen=True)
class Node:
    """A call of one of Keras's layers in its place.

    Parameters
    ----------
    name
        its own, with those of the models around it; a second call's is another
    layer
        that of the layer, whichever call
    kind
        its class, with its module where that is not Keras's
    config
        its options
    takes
        names of nodes, whose outputs it is given
    folder
        where its arrays stand
    calls
        how often the model calls it
    beside
        what it is called with, beside values
    """

    name: str
    layer: str
    kind: str
    config: Mapping[str, Any]
    takes: tuple[str, ...]
    folder: str
    calls: int = 1
    beside: str = ""


@dataclass(frozen=True)
class Graph:
    """Nodes in order, those that are the model's inputs, and those whose values it gives."""

    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Place:
    """Where a model stands: what is before the names in it and before its folders, and how it is called."""

    name: str = ""
    layer: str = ""
    folder: str = ""
    depth: int = 0
    calls: int = 1
    beside: str = ""
    given: tuple[str, ...] | None = None
    """Nodes that stand for its inputs; None where it is the whole."""


def graph_of(model: Mapping[str, Any]) -> Graph:
    """The graph of a model's configuration.

    Raises
    ------
    GraphError
        where it is none: layers that take each other's values in a circle, or what nobody gives.
    """
    try:
        made = Unfolding()
        outputs = made.model(model, Place())
    except (KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise GraphError(f"{type(error).__name__}: {str(error)[:100]}") from error
    if len({node.name for node in made.nodes}) < len(made.nodes):
        raise GraphError("two layers have one name")
    return Graph(tuple(needed(made.nodes, outputs)), tuple(made.inputs), outputs)


def needed(nodes: Sequence[Node], outputs: Iterable[str]) -> list[Node]:
    """The inputs, and the nodes that an output follows from: of a model within, not all that it gives may be taken."""
    wanted, kept = {*outputs}, []
    for node in reversed(nodes):
        if node.name in wanted or node.kind == "InputLayer":
            wanted.update(node.takes)
            kept.append(node)
    return kept[::-1]


@dataclass
class Unfolding:
    """Goes through a model, and through those in it as often as they are called."""

    nodes: list[Node] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    steps: int = 0

    def model(self, model: Mapping[str, Any], place: Place) -> tuple[str, ...]:
        """Adds a model's nodes; the names of its outputs."""
        if place.depth > DEEPEST:
            raise GraphError(f"models are more than {DEEPEST} deep within each other")
        if not isinstance(model["config"]["layers"], list):
            raise GraphError("its layers are no list")
        if kind_of(model) == "Sequential":
            return self.chain(model["config"]["layers"], place)
        return self.functional(model["config"], place)

    def chain(self, layers: list[Any], place: Place) -> tuple[str, ...]:
        """A Sequential: each layer takes what the one before it gives."""
        names = folders(layer for layer in layers if kind_of(layer) != "InputLayer")
        last: tuple[str, ...] = place.given or ()
        for layer in layers:
            if kind_of(layer) != "InputLayer":
                last = self.call(layer, 0, 1, last, f"layers/{names[id(layer)]}", {}, place)
            elif place.given is None:
                last = (self.input(layer, place),)
        if place.given is None and not self.inputs:
            raise GraphError("a Sequential without an Input has not told its input's shape")
        return last

    def functional(self, config: Mapping[str, Any], place: Place) -> tuple[str, ...]:
        """A functional model: a layer's call comes once all that it takes is there."""
        layers = config["layers"]
        names = folders(iter(layers))
        gives: dict[tuple[str, int], tuple[str, ...]] = {}
        wanted = [value.layer for value in flattened(config["input_layers"])]
        if place.given is not None and len(place.given) != len(wanted):
            raise GraphError(f"a model of {len(wanted)} inputs is given {len(place.given)}")
        calls: list[tuple[Any, int, int, Any, list[Value]]] = []
        for layer in layers:
            if kind_of(layer) == "InputLayer":
                own = own_name(layer)
                given = place.given and place.given[wanted.index(own)]
                gives[own, 0] = (given or self.input(layer, place),)
                continue
            listed = layer.get("inbound_nodes") or [{}]
            calls += [(layer, n, len(listed), call, values_of(layer, call)) for n, call in enumerate(listed)]
        needs = [[(value.layer, value.call) for value in values] for *_, values in calls]
        for n in in_order(needs, [(own_name(layer), number) for layer, number, *_ in calls], gives):
            layer, number, count, call, values = calls[n]
            takes = tuple(one_of(gives, value) for value in values)
            folder = f"layers/{names[id(layer)]}"
            gives[own_name(layer), number] = self.call(layer, number, count, takes, folder, call, place)
        nested = {own_name(layer) for layer in layers if kind_of(layer) in ("Functional", "Model")}
        ends = flattened(config["output_layers"])  # which count the calls of models from 1
        return tuple(one_of(gives, end._replace(call=end.call - (end.layer in nested))) for end in ends)

    def input(self, layer: Mapping[str, Any], place: Place) -> str:
        """Adds an input of the whole model."""
        self.count()
        name = f"{place.name}{own_name(layer)}"
        self.inputs.append(name)
        self.nodes.append(Node(name, name, "InputLayer", layer["config"], (), ""))
        return name

    def call(
        self, layer: Any, number: int, count: int, takes: tuple[str, ...], folder: str, call: Any, place: Place
    ) -> tuple[str, ...]:
        """Adds one call of a layer, or the nodes of the model that it is; the names of what it gives."""
        self.count()
        kind, own = kind_of(layer), own_name(layer)
        name = f"{place.name}{own}" + (f":{number}" if number else "")
        whole, folder, calls = f"{place.layer}{own}", place.folder + folder, place.calls * count
        if kind in MODELS and "layers" in layer["config"]:
            odd = place.beside or beside(call, kind)
            inner = Place(f"{name}.", f"{whole}.", f"{folder}/", place.depth + 1, calls, odd, takes)
            return self.model(layer, inner)
        config, odd = layer["config"], place.beside or beside(call, kind)
        if is_operation(layer):
            (kind, config), odd = operation(layer, call), ""
        self.nodes.append(Node(name, whole, kind, config, takes, folder, calls, odd))
        return (name,)

    def count(self) -> None:
        """Raise where there are more calls than any net has."""
        self.steps += 1
        if self.steps > MOST_NODES:
            raise GraphError(f"it has more than {MOST_NODES:,} layers, counted as often as they are called")


def own_name(layer: Mapping[str, Any]) -> str:
    """A layer's name, within its model."""
    return str(layer["config"]["name"])


def one_of(gives: Mapping[tuple[str, int], tuple[str, ...]], value: Value) -> str:
    """The node that gives a value."""
    found = gives[value.layer, value.call]
    if not 0 <= value.number < len(found):
        raise GraphError(f"{value.layer!r} gives several values")
    return found[value.number]


def values_of(layer: Mapping[str, Any], call: Any) -> list[Value]:
    """The values that a call takes."""
    if is_operation(layer):
        return references(arguments(call))
    return taken(call, layer["config"].get("input_layers") if kind_of(layer) in MODELS else None)


def in_order(needs: Sequence[Sequence[Call]], gives: Sequence[Call], there: Iterable[Call]) -> Iterator[int]:
    """Numbers of calls, each after those that give what it needs, else as they are listed.

    Raises
    ------
    GraphError
        once none of those that are left can come next.
    """
    known, waiting = {*there}, defaultdict[Call, list[int]](list)
    missing = [len({*need} - known) for need in needs]
    for n, need in enumerate(needs):
        for one in {*need} - known:
            waiting[one].append(n)
    ready, done = [n for n, count in enumerate(missing) if not count], 0
    while ready:
        n = heappop(ready)
        yield n
        done += 1
        for other in waiting.pop(gives[n], ()):
            missing[other] -= 1
            if not missing[other]:
                heappush(ready, other)
    if done < len(needs):
        raise GraphError(f"{len(needs) - done} layers take each other's values, or what nobody gives")


def kind_of(layer: Mapping[str, Any]) -> str:
    """The class of a layer, with its module where it is not Keras's own."""
    module, name = str(layer.get("module")), str(layer["class_name"])
    own = module in HOMES or module.startswith("keras.src.models.")
    return name if own and layer.get("registered_name") in (None, name) else f"{layer.get('registered_name')}.{name}"
