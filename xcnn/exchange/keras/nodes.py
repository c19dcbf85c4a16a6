"""The graph of a Keras model as a list of nodes, each after what it takes: models within models are taken apart."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

DEEPEST = 16
MOST_NODES = 10_000
MODELS = ("Functional", "Model", "Sequential")
OPERATIONS = ("Add", "Maximum", "Minimum", "Multiply", "Subtract")
"""Those that are what the layers of these names are."""
FUNCTIONS = (
    "Elu",
    "Gelu",
    "Mish",
    "Relu",
    "Relu6",
    "Selu",
    "Sigmoid",
    "Silu",
    "Softmax",
    "Softplus",
    "Softsign",
    "Tanh",
)
"""Those that are activations, in small letters."""
HOMES = ("keras", "keras.layers", "keras.models", "keras.src.models")
"""Modules whose classes are Keras's own: others are somebody's."""


class GraphError(ValueError):
    """A configuration that no model of Keras's has."""


@dataclass(frozen=True)
class Node:
    """A layer of Keras's in its place.

    Parameters
    ----------
    name
        its own, with those of the models around it
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
    """

    name: str
    kind: str
    config: Mapping[str, Any]
    takes: tuple[str, ...]
    folder: str
    calls: int = 1


@dataclass(frozen=True)
class Graph:
    """Nodes in order, those that are the model's inputs, and those whose values it gives."""

    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def graph_of(model: Mapping[str, Any]) -> Graph:
    """The graph of a model's configuration.

    Raises
    ------
    GraphError
        where it is none. Keras writes each layer after those that it takes: another is in a circle, or takes nothing.
    """
    try:
        graph = _model(model, "", "", None, 0)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise GraphError(f"{type(error).__name__}: {str(error)[:100]}") from error
    if len({node.name for node in graph.nodes}) < len(graph.nodes):
        raise GraphError("two layers have one name")
    return graph


def _model(model: Mapping[str, Any], prefix: str, folder: str, given: tuple[str, ...] | None, depth: int) -> Graph:
    """The graph of a model; `given` are the nodes that stand for its inputs, where it is within another."""
    if depth > DEEPEST:
        raise GraphError(f"models are more than {DEEPEST} deep within each other")
    layers, config = model["config"]["layers"], model["config"]
    if not isinstance(layers, list) or len(layers) > MOST_NODES:
        raise GraphError("its layers are no list, or too many")
    chained = kind_of(model) == "Sequential"
    nodes: list[Node] = []
    stands: dict[str, tuple[str, ...]] = {}
    """What each layer's output is, by the layer's own name."""
    inputs: list[str] = []
    names = folders(layer for layer in layers if not (chained and kind_of(layer) == "InputLayer"))
    wanted = () if chained else references(config["input_layers"])
    last: tuple[str, ...] = given or ()
    for layer in layers:
        own, kind = str(layer["config"]["name"]), kind_of(layer)
        whole = f"{prefix}{own}"
        if kind == "InputLayer":
            if given is not None:
                stands[own] = last = (given[0 if chained else wanted.index(own)],)
                continue
            inputs.append(whole)
        place = f"{folder}layers/{names[id(layer)]}" if id(layer) in names else ""
        calls = layer.get("inbound_nodes") or []
        takes = last if chained else tuple(one for name in references(calls[:1]) for one in stands[name])
        if kind in MODELS and "layers" in layer["config"]:
            inner = _model(layer, f"{whole}.", f"{place}/", takes, depth + 1)
            nodes += inner.nodes
            stands[own] = last = inner.outputs
            continue
        kind, config_of = operation(layer, kind)
        nodes.append(Node(whole, kind, config_of, takes, place, max(len(calls), 1)))
        stands[own] = last = (whole,)
    if chained and given is None and not inputs:
        raise GraphError("a Sequential without an Input has not told its input's shape")
    outputs = last if chained else tuple(one for name in references(config["output_layers"]) for one in stands[name])
    return Graph(tuple(nodes), tuple(inputs), outputs)


def kind_of(layer: Mapping[str, Any]) -> str:
    """The class of a layer, with its module where it is not Keras's own."""
    module, name = str(layer.get("module")), str(layer["class_name"])
    own = module in HOMES or module.startswith("keras.src.models.")
    return name if own and layer.get("registered_name") in (None, name) else f"{layer.get('registered_name')}.{name}"


def operation(layer: Mapping[str, Any], kind: str) -> tuple[str, Mapping[str, Any]]:
    """The kind and the options of a node; `x + y` and `2 * x` are operations of Keras's, and stand for layers."""
    config: Mapping[str, Any] = layer["config"]
    if not str(layer.get("module")).startswith("keras.src.ops."):
        return kind, config
    name, call = str(layer["class_name"]), (layer.get("inbound_nodes") or [{}])[0]
    args = call.get("args") or []
    numbers, values = [each for each in args if isinstance(each, int | float)], references(args)
    if call.get("kwargs") or len(numbers) + len(values) != len(args):
        return f"the operation {name}", config
    if name in OPERATIONS and len(values) == 2 == len(args):
        return name, config
    if name in FUNCTIONS and len(values) == 1 == len(args) and options_are_defaults(config):
        return "Activation", {"activation": name.lower()}
    if len(values) == 1 and (scaling := linear(name, numbers, not args or args[0] in numbers)):
        return "Rescaling", scaling
    return f"the operation {name}", config


def options_are_defaults(config: Mapping[str, Any]) -> bool:
    """Whether an operation's configuration says nothing but its name, its type, and that its axis is the last."""
    return all(value in (None, -1) for name, value in config.items() if name not in ("name", "dtype", "trainable"))


def linear(name: str, numbers: Sequence[float], number_first: bool) -> Mapping[str, Any] | None:
    """The options of the Rescaling that an operation with a number, or none, is; None where it is no such."""
    if name == "Negative" and not numbers:
        return {"scale": -1.0}
    if len(numbers) != 1:
        return None
    (number,) = numbers
    match name:
        case "Add":
            return {"offset": number}
        case "Multiply":
            return {"scale": number}
        case "Subtract":
            return {"scale": -1.0, "offset": number} if number_first else {"offset": -number}
        case "Divide" | "TrueDivide" if not number_first and number:
            return {"scale": 1 / number}
    return None


def references(given: Any, depth: int = 0) -> list[str]:
    """The names of layers whose outputs are named in a call, in the order of its arguments."""
    if depth > 2 * DEEPEST:
        raise GraphError("a call's arguments are nested too deep")
    if isinstance(given, Mapping):
        if given.get("class_name") == "__keras_tensor__":
            return references(given["config"]["keras_history"], depth + 1)
        return [name for each in given.values() for name in references(each, depth + 1)]
    if isinstance(given, Sequence) and not isinstance(given, str):
        if len(given) == 3 and isinstance(given[0], str) and isinstance(given[1], int):
            if given[2] != 0:
                raise GraphError(f"{given[0]!r} gives several values")
            return [given[0]]
        return [name for each in given for name in references(each, depth + 1)]
    return []


def folders(layers: Iterator[Mapping[str, Any]]) -> dict[int, str]:
    """Where each layer's arrays stand: by class and count, conv2d, conv2d_1."""
    seen: Counter[str] = Counter()
    found = {}
    for layer in layers:
        name = snake_case(str(layer["class_name"]))
        found[id(layer)] = f"{name}_{seen[name]}" if seen[name] else name
        seen[name] += 1
    return found


def snake_case(name: str) -> str:
    """BatchNormalization -> batch_normalization, Conv2DTranspose -> conv2d_transpose."""
    parted = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", parted).lower()
