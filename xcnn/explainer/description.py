"""A net as plain values that the page's arithmetic (page/operations.js) can follow: an operation for each layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, fields
from math import prod
from typing import Any

import numpy as np

from xcnn import layers
from xcnn.core.types import Shape, Weights
from xcnn.core.windows import pair
from xcnn.errors import OptionError
from xcnn.layers.container import Container
from xcnn.layers.gelu import MILLS
from xcnn.layers.layer import Layer
from xcnn.layers.upsampling2d import tents
from xcnn.model.trace import NET, Trace

Node = dict[str, Any]

ACTIVATIONS: dict[type, str] = {
    layers.ReLU: "relu",
    layers.LeakyReLU: "leaky_relu",
    layers.ELU: "elu",
    layers.GELU: "gelu",
    layers.SiLU: "silu",
    layers.Sigmoid: "sigmoid",
    layers.Tanh: "tanh",
    layers.Softplus: "softplus",
}
SAME: tuple[type, ...] = (layers.Flatten, layers.Reshape, layers.Dropout, layers.SpatialDropout2D)
"""Layers that give what they get, in a prediction, in whatever shape."""


def described(net: Layer, trace: Trace, path: str = "") -> Node:
    """The node of a layer and of those within, as the page takes it.

    Parameters
    ----------
    net
        the layer
    trace
        what it got and gave
    path
        its name in the trace; "" is the net itself

    Raises
    ------
    OptionError
        X104, for a layer that the page has no arithmetic for.
    """
    if isinstance(net, Container):
        return {**_container(net, trace, path), "path": path or NET, "kind": type(net).__name__, "told": ""}
    traced = trace[path or NET]
    make: Callable[[Any, Shape, Shape, Weights], Node] | None = OPERATIONS.get(type(net))
    if make is None or getattr(net, "count_include_pad", False):  # the page's means are of an image's own cells
        raise OptionError(
            "X104",
            f"the page has no arithmetic for {type(net).__name__} {traced.name!r}.",
            hint="model.trace(x, y) gives the numbers of any layer.",
        )
    given, got = traced.x.shape[1:], traced.y.shape[1:]
    return {
        **make(net, given, got, traced.weights),
        "path": traced.name,
        "kind": traced.kind,
        "told": _options(net),
        "input": given,
        "output": got,
        "weights": {name: f"{traced.name}/{name}" for name in traced.weights},
    }


def _container(net: Container, trace: Trace, path: str) -> Node:
    """The node of a container: it and what it holds."""
    children = [described(layer, trace, f"{path}.{name}".lstrip(".")) for name, layer in net.named]
    match net:
        case layers.Sequential():
            return {"op": "sequential", "children": children}
        case layers.Residual():
            *body, shortcut = children if net.shortcut else [*children, None]
            return {"op": "residual", "children": body, "shortcut": shortcut}
        case layers.Concatenate():
            return {"op": "concatenate", "children": children}
    raise OptionError("X104", f"the page has no arithmetic for {type(net).__name__} {path or NET!r}.")


def weights_of(trace: Trace) -> dict[str, Any]:
    """All layers' weights by path, as `described` names them."""
    return {
        f"{traced.name}/{name}": weight
        for traced in trace.values()
        if not isinstance(traced.layer, Container)
        for name, weight in traced.weights.items()
    }


def multiply_adds(node: Node, weights: Mapping[str, Any]) -> int:
    """Products of one way forward, which a page takes its time for."""
    within = [*node.get("children", ()), *([node["shortcut"]] if node.get("shortcut") else [])]
    own = 0
    if kernel := node.get("weights", {}).get("kernel"):
        places = prod(node["geometry"]["output"]) if "geometry" in node else 1
        own = prod(weights[kernel].shape) * places
    return own + sum(multiply_adds(child, weights) for child in within)


def _options(layer: Layer) -> str:
    """A layer's options as its class takes them, those that are its defaults left out."""
    given = [(each, getattr(layer, each.name)) for each in fields(layer) if each.repr]  # type: ignore[arg-type]
    return ", ".join(
        repr(value) if not each.kw_only and each.default is MISSING else f"{each.name}={value!r}"
        for each, value in given
        if value != each.default
    )


# A geometry is what page/correlation.js says.


def _geometry(channels: int, filters: int, groups: int, sizes: Shape, output: Shape, kernel: Shape, how: Node) -> Node:
    return {
        "channels": channels, "filters": filters, "groups": groups, "size": sizes, "kernel": kernel, "output": output,
        "stride": how["stride"], "padding": how["padding"], "dilation": how.get("dilation", (1, 1)),
    }  # fmt: skip


def _conv2d(layer: layers.Conv2D, given: Shape, got: Shape, weights: Weights) -> Node:
    size = pair("kernel_size", layer.kernel_size)
    how = layer.window(given[1:])
    geometry = _geometry(given[0], layer.filters, layer.groups, given[1:], got[1:], size, how)
    return {"op": "correlate", "geometry": geometry}


def _depthwise(layer: layers.DepthwiseConv2D, given: Shape, got: Shape, weights: Weights) -> Node:
    return _conv2d(layer.conv2d(given[0]), given, got, weights)


def _conv1d(layer: layers.Conv1D, given: Shape, got: Shape, weights: Weights) -> Node:
    return _conv2d(layer.conv2d(), (given[0], 1, given[1]), (got[0], 1, got[1]), weights)


def _transpose(layer: layers.Conv2DTranspose, given: Shape, got: Shape, weights: Weights) -> Node:
    """The correlation that it is the way back of: from its output to its input."""
    size = pair("kernel_size", layer.kernel_size)
    how = layer.window(given[1:])
    return {
        "op": "transpose",
        "geometry": _geometry(layer.filters, given[0], layer.groups, got[1:], given[1:], size, how),
    }


def _pool(op: str) -> Callable[[Any, Shape, Shape, Weights], Node]:
    def node(layer: Any, given: Shape, got: Shape, weights: Weights) -> Node:
        size = pair("pool_size", layer.pool_size)
        how = layer.window(given[1:])
        return {"op": op, "geometry": _geometry(given[0], given[0], given[0], given[1:], got[1:], size, how)}

    return node


def _global_pool(op: str) -> Callable[[Any, Shape, Shape, Weights], Node]:
    def node(layer: Any, given: Shape, got: Shape, weights: Weights) -> Node:
        how = {"stride": (1, 1), "padding": ((0, 0), (0, 0))}
        return {"op": op, "geometry": _geometry(given[0], given[0], given[0], given[1:], (1, 1), given[1:], how)}

    return node


def _activation(layer: Any, given: Shape, got: Shape, weights: Weights) -> Node:
    options = {**asdict(layer), **({"mills": MILLS} if isinstance(layer, layers.GELU) else {})}
    return {"op": "activation", "f": ACTIVATIONS[type(layer)], "options": options}


def _layer_norm(layer: layers.LayerNorm, given: Shape, got: Shape, weights: Weights) -> Node:
    axes = [axis - 1 for axis in layer.axes(len(given) + 1)]
    return {"op": "standardise", "view": given, "axes": axes, "scale_axes": axes, "epsilon": layer.epsilon}


def _group_norm(layer: layers.GroupNorm, given: Shape, got: Shape, weights: Weights) -> Node:
    view = (layer.groups, given[0] // layer.groups, prod(given[1:]))
    return {"op": "standardise", "view": view, "axes": [1, 2], "scale_axes": [0, 1], "epsilon": layer.epsilon}


def _resample(layer: layers.UpSampling2D, given: Shape, got: Shape, weights: Weights) -> Node:
    """The matrices of rows and of columns."""
    matrices = []
    for cells, size in zip(given[1:], pair("size", layer.size), strict=True):
        nearest = np.repeat(np.eye(cells), size, axis=0)
        matrix = nearest if layer.interpolation == "nearest" else tents(np.zeros(1), cells, size)
        matrices.append(matrix.tolist())
    return {"op": "resample", "rows": matrices[0], "columns": matrices[1]}


OPERATIONS: dict[type, Callable[[Any, Shape, Shape, Weights], Node]] = {
    layers.Conv2D: _conv2d,
    layers.DepthwiseConv2D: _depthwise,
    layers.Conv1D: _conv1d,
    layers.Conv2DTranspose: _transpose,
    layers.Dense: lambda layer, given, got, weights: {"op": "dense"},
    layers.MaxPool2D: _pool("max_pool"),
    layers.AveragePool2D: _pool("average_pool"),
    layers.GlobalMaxPool2D: _global_pool("max_pool"),
    layers.GlobalAveragePool2D: _global_pool("average_pool"),
    layers.ZeroPadding2D: lambda layer, given, got, weights: {"op": "pad", "padding": layer.around()},
    layers.UpSampling2D: _resample,
    layers.Softmax: lambda layer, given, got, weights: {
        "op": "softmax",
        "axis": (layer.axis or 0) % (len(given) + 1) - 1,
    },
    layers.BatchNorm: lambda layer, given, got, weights: {"op": "batch_norm", "epsilon": layer.epsilon},
    layers.LayerNorm: _layer_norm,
    layers.GroupNorm: _group_norm,
    **dict.fromkeys(SAME, lambda layer, given, got, weights: {"op": "same"}),
    **dict.fromkeys(ACTIVATIONS, _activation),
}
"""What gives the node of a layer of exactly this class: one derived from it may compute something else."""

NOT_TOLD: tuple[type, ...] = (
    layers.AdaptiveAveragePool2D, layers.Add, layers.AveragePool1D, layers.ClippedReLU, layers.Conv1DTranspose,
    layers.Cropping1D, layers.Cropping2D, layers.GlobalAveragePool1D, layers.GlobalMaxPool1D, layers.Graph,
    layers.HardSigmoid, layers.HardSwish, layers.InstanceNorm, layers.LocalResponseNorm, layers.LogSoftmax,
    layers.MaxPool1D, layers.Mish, layers.Multiply, layers.PReLU, layers.Permute, layers.PixelShuffle, layers.Resize,
    layers.SELU, layers.Scale, layers.Slice, layers.Softsign, layers.StandardizedConv2D, layers.UpSampling1D,
    layers.ZeroPadding1D,
)  # fmt: skip
"""Layers that the page has no arithmetic for, and says so."""


def traced_arrays(trace: Trace) -> dict[str, Any]:
    """The arrays that a page is compared by, of one sample: each layer's output and dX, and each weight's gradient."""
    found: dict[str, Any] = {"y": trace.y[0], "dy": trace.dy[0], "dx": trace.dx[0]}
    for traced in trace.values():
        found |= {f"{traced.name}/y": traced.y[0], f"{traced.name}/dx": traced.dx[0]}
        if not isinstance(traced.layer, Container):
            found |= {f"{traced.name}/d{name}": grad for name, grad in traced.grads.items()}
    return found
