"""A net as plain values that the page's arithmetic (page/operations.js) can follow: an operation for each layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, fields
from math import prod
from typing import Any

import numpy as np

from xcnn import layers
from xcnn.core.several import arrays_of
from xcnn.core.types import Shape, Weights
from xcnn.core.windows import pair
from xcnn.errors import OptionError
from xcnn.explainer.containers import HOLDING, Node, held, sizes
from xcnn.explainer.linear import both_sides, moved_from
from xcnn.layers.gelu import MILLS
from xcnn.layers.layer import Layer
from xcnn.model.trace import NET, Trace

ACTIVATIONS: dict[type, str] = {
    layers.ReLU: "relu",
    layers.LeakyReLU: "leaky_relu",
    layers.ELU: "elu",
    layers.GELU: "gelu",
    layers.SiLU: "silu",
    layers.Sigmoid: "sigmoid",
    layers.Tanh: "tanh",
    layers.Softplus: "softplus",
    layers.ClippedReLU: "clipped_relu",
    layers.SELU: "selu",
    layers.Mish: "mish",
    layers.HardSigmoid: "hard_sigmoid",
    layers.HardSwish: "hard_swish",
    layers.Softsign: "softsign",
}
SIGNALS: tuple[type, ...] = (
    layers.AveragePool1D,
    layers.Conv1D,
    layers.Conv1DTranspose,
    layers.Cropping1D,
    layers.GlobalAveragePool1D,
    layers.GlobalMaxPool1D,
    layers.MaxPool1D,
    layers.Padding1D,
    layers.UpSampling1D,
    layers.ZeroPadding1D,
)
MOVING: tuple[type, ...] = (
    layers.Cropping2D,
    layers.Dropout,
    layers.Flatten,
    layers.Padding2D,
    layers.Permute,
    layers.PixelShuffle,
    layers.Reshape,
    layers.Slice,
    layers.SpatialDropout2D,
    layers.StochasticDepth,
    layers.ZeroPadding2D,
)
"""Layers that give cells of X and zeros, in whatever order, in a prediction."""
TWO_SIDED: tuple[type, ...] = (
    layers.AdaptiveAveragePool2D,
    layers.AveragePool2D,
    layers.GlobalAveragePool2D,
    layers.Resize,
    layers.UpSampling2D,
)
"""Layers that give A X Bᵀ of each channel."""


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
    given, got = sizes(net, trace, path)
    common = {"path": path or NET, "kind": type(net).__name__, "input": given, "output": got}
    if isinstance(net, HOLDING):
        node = held(net, trace, path, described)
        if node is None:
            raise refused(net, path or NET)
        return {**node, **common, "told": ""}
    traced = trace[path or NET]
    make: Callable[[Any, Shape, Shape, Weights], Node] | None = OPERATIONS.get(type(net))
    if make is None:
        raise refused(net, traced.name)
    return {
        **make(net, given, got, traced.weights),
        **common,
        "told": _options(net),
        "weights": {name: f"{traced.name}/{name}" for name in traced.weights},
    }


def refused(layer: object, name: str) -> OptionError:
    """X104 for a layer that the page can't follow."""
    told = f"the page has no arithmetic for {type(layer).__name__} {name!r}."
    return OptionError("X104", told, hint="model.trace(x, y) gives the numbers of any layer.")


def weights_of(trace: Trace) -> dict[str, Any]:
    """All layers' weights by path, as `described` names them."""
    return {
        f"{traced.name}/{name}": weight
        for traced in trace.values()
        if not isinstance(traced.layer, HOLDING)
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


def _standardized(layer: layers.StandardizedConv2D, given: Shape, got: Shape, weights: Weights) -> Node:
    return {**_conv2d(layer, given, got, weights), "op": "standardised_correlate", "epsilon": layer.epsilon}


def _depthwise(layer: layers.DepthwiseConv2D, given: Shape, got: Shape, weights: Weights) -> Node:
    return _conv2d(layer.conv2d(given[0]), given, got, weights)


def _signal(layer: Any, given: Shape, got: Shape, weights: Weights) -> Node:
    """A layer of signals: that of its twin, on images of height 1."""
    twin = layer.conv2d() if isinstance(layer, layers.Conv1D) else layer.twin()
    seen = (got[0], 1, *got[1:]) if len(got) > 1 else got
    return OPERATIONS[type(twin)](twin, (given[0], 1, *given[1:]), seen, weights)


def _transpose(layer: layers.Conv2DTranspose, given: Shape, got: Shape, weights: Weights) -> Node:
    """The correlation that it is the way back of: from its output to its input."""
    size = pair("kernel_size", layer.kernel_size)
    how = layer.window(given[1:])
    return {
        "op": "transpose",
        "geometry": _geometry(layer.filters, given[0], layer.groups, got[1:], given[1:], size, how),
    }


def _max_pool(layer: layers.MaxPool2D, given: Shape, got: Shape, weights: Weights) -> Node:
    size, how = pair("pool_size", layer.pool_size), layer.window(given[1:])
    return {"op": "max_pool", "geometry": _geometry(given[0], given[0], given[0], given[1:], got[1:], size, how)}


def _global_max(layer: layers.GlobalMaxPool2D, given: Shape, got: Shape, weights: Weights) -> Node:
    how = {"stride": (1, 1), "padding": ((0, 0), (0, 0))}
    return {"op": "max_pool", "geometry": _geometry(given[0], given[0], given[0], given[1:], (1, 1), given[1:], how)}


def _moving(layer: Layer, given: Shape, got: Shape, weights: Weights) -> Node:
    return {"op": "moved", "from": moved_from(layer, given)}


def _two_sided(layer: Layer, given: Shape, got: Shape, weights: Weights) -> Node:
    rows, columns = both_sides(layer, given[1:])
    return {"op": "two_sided", "view": given, "rows": rows.tolist(), "columns": columns.tolist()}


def _softmax(layer: layers.Softmax | layers.LogSoftmax, given: Shape, got: Shape, weights: Weights) -> Node:
    axis = layer.axis % (len(given) + 1) - 1
    return {"op": "softmax", "axis": axis, "logarithm": isinstance(layer, layers.LogSoftmax)}


def _by_channel(op: str) -> Callable[[Any, Shape, Shape, Weights], Node]:
    return lambda layer, given, got, weights: {"op": op}


def _activation(layer: Any, given: Shape, got: Shape, weights: Weights) -> Node:
    options = {**asdict(layer), **({"mills": MILLS} if isinstance(layer, layers.GELU) else {})}
    return {"op": "activation", "f": ACTIVATIONS[type(layer)], "options": options}


def _local_response(layer: layers.LocalResponseNorm, given: Shape, got: Shape, weights: Weights) -> Node:
    options = {"alpha": layer.alpha, "beta": layer.beta, "k": layer.k}
    return {"op": "local_response", "size": layer.size, **options}


def _layer_norm(layer: layers.LayerNorm, given: Shape, got: Shape, weights: Weights) -> Node:
    axes = [axis - 1 for axis in layer.axes(len(given) + 1)]
    return {"op": "standardise", "view": given, "axes": axes, "scale_axes": axes, "epsilon": layer.epsilon}


def _group_norm(layer: layers.GroupNorm, given: Shape, got: Shape, weights: Weights) -> Node:
    view = (layer.groups, given[0] // layer.groups, prod(given[1:]))
    return {"op": "standardise", "view": view, "axes": [1, 2], "scale_axes": [0, 1], "epsilon": layer.epsilon}


def _instance_norm(layer: layers.InstanceNorm, given: Shape, got: Shape, weights: Weights) -> Node:
    view = (given[0], prod(given[1:]))
    return {"op": "standardise", "view": view, "axes": [1], "scale_axes": [0], "epsilon": layer.epsilon}


OPERATIONS: dict[type, Callable[[Any, Shape, Shape, Weights], Node]] = {
    layers.Conv2D: _conv2d,
    layers.StandardizedConv2D: _standardized,
    layers.DepthwiseConv2D: _depthwise,
    layers.Conv2DTranspose: _transpose,
    layers.Dense: lambda layer, given, got, weights: {"op": "dense"},
    layers.MaxPool2D: _max_pool,
    layers.GlobalMaxPool2D: _global_max,
    layers.Softmax: _softmax,
    layers.LogSoftmax: _softmax,
    layers.Scale: _by_channel("scale"),
    layers.PReLU: _by_channel("prelu"),
    layers.BatchNorm: lambda layer, given, got, weights: {"op": "batch_norm", "epsilon": layer.epsilon},
    layers.LayerNorm: _layer_norm,
    layers.LocalResponseNorm: _local_response,
    layers.GroupNorm: _group_norm,
    layers.InstanceNorm: _instance_norm,
    **dict.fromkeys(SIGNALS, _signal),
    **dict.fromkeys(MOVING, _moving),
    **dict.fromkeys(TWO_SIDED, _two_sided),
    **dict.fromkeys(ACTIVATIONS, _activation),
}
"""What gives the node of a layer of exactly this class: one derived from it may compute something else."""


def traced_arrays(trace: Trace) -> dict[str, Any]:
    """The arrays that a page is compared by, of one sample: each layer's output and dX, and each weight's gradient."""
    found: dict[str, Any] = {}
    for traced in trace.values():
        dx = [each[0].reshape(-1) for each in arrays_of(traced.dx)]
        found |= {f"{traced.name}/y": traced.y[0], f"{traced.name}/dx": np.concatenate(dx)}
        if not isinstance(traced.layer, HOLDING):
            found |= {f"{traced.name}/d{name}": grad for name, grad in traced.grads.items()}
    return {**found, "y": trace.y[0], "dy": trace.dy[0], "dx": trace.dx[0]}
