"""A net written as an ONNX file: checked, held to onnxruntime where that is installed, and whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xcnn.core import tree
from xcnn.core.files import check_path, write_whole
from xcnn.core.several import is_several, shapes_of
from xcnn.core.types import Weights
from xcnn.core.version import __version__
from xcnn.errors import ExchangeError, counted
from xcnn.exchange.onnx import layers  # noqa: F401 - they fill the table
from xcnn.exchange.onnx.folding import fold_batch_norms
from xcnn.exchange.onnx.graph import Graph, Node, Scope, Tensor
from xcnn.exchange.onnx.package import onnx_package
from xcnn.exchange.onnx.verify import verify
from xcnn.exchange.onnx.writers import LAYERS, write
from xcnn.layers import Graph as NetGraph
from xcnn.layers import Layer
from xcnn.layers.container import Container

LARGEST = (1 << 31) - 1
"""Bytes of a file of protocol buffers."""
INPUT, OUTPUT, BATCH = "input", "output", "N"
"""The names of what goes in and comes out, and of the batch's size."""


@dataclass(frozen=True)
class Net:
    """A net to be written.

    Parameters
    ----------
    layer
        the net
    weights
        its tree, NumPy arrays
    input_shape
        of one sample, or of several inputs a tuple of them
    info
        what stands in the file beside the graph: texts, or what JSON has
    """

    layer: Layer
    weights: Weights
    input_shape: Any
    info: Mapping[str, Any]


def write_onnx(net: Net, path: str | Path, *, fold: bool, check: bool | None) -> None:
    """Write a net as an ONNX file.

    Parameters
    ----------
    net
        what is written
    path
        of the file
    fold
        whether batch normalisations are folded into what is before them
    check
        whether onnxruntime must give the net's outputs; None asks it where it is installed

    Raises
    ------
    ExchangeError
        X411 for layers that can't be written; X412 where onnxruntime gives other numbers. No file is left then.
    MissingDependency
        X601
    """
    onnx = onnx_package("to_onnx")
    check_path(path)
    check_layers(net.layer)
    graph, *ends = graph_of(net)
    if fold:
        fold_batch_norms(graph)
    size = sum(array.nbytes for array in graph.constants.values())
    if size > LARGEST - (1 << 20):
        raise ExchangeError("X411", f"the net's weights have {size:,} bytes; an ONNX file has at most {LARGEST:,}.")
    model = model_of(onnx, net.info, graph, *ends)
    onnx.checker.check_model(model, full_check=True)
    contents = model.SerializeToString()
    verify(contents, net, check)
    write_whole(path, contents)


def check_layers(net: Layer) -> None:
    """Raise X411 for the layers that are in no table and have no `to_onnx` of their own, all at once."""
    strange = [name for name, layer in leaves(net) if type(layer) not in LAYERS and not hasattr(layer, "to_onnx")]
    if strange:
        raise ExchangeError(
            "X411",
            f"{counted(len(strange), 'layer')} can't be written as ONNX: {', '.join(strange)}.",
            hint="give its class a method to_onnx(self, weights, x, here), which adds nodes by here.node(...).",
        )


def leaves(layer: Layer, name: str = "") -> Iterator[tuple[str, Layer]]:
    """Layers that are not written by their parts, named with their classes."""
    yield f"{type(layer).__name__} {name!r}" if name else type(layer).__name__, layer
    if isinstance(layer, Container):
        for own, inner in layer.named:
            yield from leaves(inner, f"{name}.{own}" if name else own)


def graph_of(net: Net) -> tuple[Graph, list[Tensor], list[Tensor]]:
    """The graph of a net, its inputs and its outputs."""
    names = net.layer.inputs if isinstance(net.layer, NetGraph) else (INPUT,)
    several = is_several(net.input_shape)
    inputs = [Tensor(name, tuple(shape)) for name, shape in zip(names, shapes_of(net.input_shape), strict=True)]
    graph = Graph(taken={*names})
    here = Scope(graph, () if isinstance(net.layer, Container) else (type(net.layer).__name__.lower(),))
    y = write(net.layer, tree.map(np.asarray, dict(net.weights)), tuple(inputs) if several else inputs[0], here)
    outputs = [*y] if isinstance(y, tuple) else [y]
    told = net.layer.outputs if len(outputs) > 1 else (OUTPUT,)  # type: ignore[attr-defined]
    ends = [here.node("Identity", one, shape=one.shape) if one in inputs else one for one in outputs]
    renamed = {one.name: graph.fresh(name) for one, name in zip(ends, told, strict=True)}
    for node in graph.nodes:
        node.inputs = [renamed.get(name, name) for name in node.inputs]
        node.output = renamed.get(node.output, node.output)
    return graph, inputs, [Tensor(renamed[one.name], one.shape) for one in ends]


def typed(onnx: Any, node: Node, opset: int) -> dict[str, Any]:
    """A node's attributes, whole numbers as floating-point ones where the operator has these."""
    known = onnx.defs.get_schema(node.op, opset).attributes
    real = {name for name, each in known.items() if each.type == onnx.defs.OpSchema.AttrType.FLOAT}
    return {name: float(value) if name in real else value for name, value in node.attributes.items()}


def model_of(onnx: Any, info: Mapping[str, Any], graph: Graph, inputs: list[Tensor], outputs: list[Tensor]) -> Any:
    """The file's message."""
    make = onnx.helper
    nodes = [
        make.make_node(n.op, n.inputs, [n.output], name=n.name, **typed(onnx, n, graph.opset)) for n in graph.nodes
    ]
    first, last = (
        [make.make_tensor_value_info(end.name, onnx.TensorProto.FLOAT, [BATCH, *end.shape]) for end in ends]
        for ends in (inputs, outputs)
    )
    constants = [onnx.numpy_helper.from_array(array, name) for name, array in graph.constants.items()]
    whole = make.make_graph(nodes, "xcnn", first, last, constants)
    opset = make.make_opsetid("", graph.opset)
    model = make.make_model(whole, opset_imports=[opset], ir_version=make.find_min_ir_version_for([opset]))
    model.producer_name, model.producer_version = "xcnn", __version__
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in info.items()}
    make.set_model_props(model, texts)
    return model
