"""What a page is given, as plain values: the net, its weights, the sample, the loss, and what NumPy made of them."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from xcnn.core.types import Shape
from xcnn.errors import OptionError, counted, printable, short
from xcnn.explainer.containers import HOLDING
from xcnn.explainer.description import described, multiply_adds, traced_arrays, weights_of
from xcnn.layers.packed import Packed
from xcnn.model.held import numbered_names
from xcnn.model.model import Model
from xcnn.model.trace import Trace
from xcnn.training.losses import loss_name, targets
from xcnn.training.output_losses import OutputLoss, OutputLosses

HostArray = np.ndarray[Any, Any]

MAX_MULTIPLY_ADDS = 200_000_000
"""Products of one way forward: a browser takes about a second for as many, there and back."""
COMPARED = 8192
"""Numbers of NumPy that a page carries to be compared by."""
EACH = 256
"""The most of one array."""
LOSSES: dict[str, tuple[str, ...]] = {
    "binary_cross_entropy": (),
    "binary_cross_entropy_with_logits": (),
    "cross_entropy": ("label_smoothing",),
    "huber": ("delta",),
    "mae": (),
    "mse": (),
}
"""Losses that page/losses.js has, with their options."""
SEVERAL = "several"
"""The page's name for the losses of several outputs."""
RATE = 0.1
"""The learning rate that the page begins with."""


def page_data(model: Model, exact: Model, trace: Trace) -> dict[str, Any]:
    """What the page is given."""
    node, weights = described(exact.net, trace), weights_of(trace)
    products = multiply_adds(node, weights)
    if products > MAX_MULTIPLY_ADDS:
        raise OptionError(
            "X104",
            f"one way forward takes {products:,} products; a page computes {MAX_MULTIPLY_ADDS:,} at most.",
            hint="build the net for smaller images.",
        )
    kinds = {path: np.dtype(model.dtype) for path in weights}
    return {
        "net": node,
        "weights": {path: packed(weight, kinds[path]) for path, weight in weights.items()},
        "x": packed(trace.x[0], np.dtype("float64")),
        "t": packed(targets(trace.y, trace.t)[0], np.dtype("float64")),
        "inputs": inputs_of(model),
        "loss": loss_data(model),
        "classes": class_labels(model),
        "labels": trace.t.ndim == 1 and trace.y.shape[1] > 1,
        "draw": model.input_shape == (1, 28, 28) and model.trainer.threshold is not None,
        "parameters": sum(weight.size for weight in weights.values()),
        "products": products,
        "rate": RATE,
        "numpy": np.__version__,
        "computed": {"dtype": model.dtype, "precision": model.precision, "backend": model.backend.spec},
        "reference": reference(trace),
    }


def loss_data(model: Model) -> dict[str, Any]:
    """The loss as page/losses.js takes it: its name and its options; of several outputs a part for each.

    Raises
    ------
    OptionError
        X104, for a loss or an option that the page has no arithmetic for.
    """
    if isinstance(model.loss, OutputLosses):
        return {"name": SEVERAL, "options": {"parts": [*map(part_data, model.loss.parts)]}}
    bound = model.loss.keywords if isinstance(model.loss, partial) else {}
    return one_loss(loss_name(model.loss), bound, model.output_shape, model.loss)


def part_data(part: OutputLoss) -> dict[str, Any]:
    """The loss of one output among several."""
    own = one_loss(part.loss if isinstance(part.loss, str) else "", dict(part.options), part.shape, part.loss)
    return {**own, "weight": part.weight, "cells": int(np.prod(part.shape)), "output": part.output}


def one_loss(name: str, bound: Mapping[str, Any], shape: Shape, loss: object) -> dict[str, Any]:
    """A loss by name, the keywords that it was bound with, and the places of an output with more than one."""
    if name not in LOSSES:
        hint = f"the page has {', '.join(LOSSES)}."
        raise OptionError("X104", f"the page has no arithmetic for the loss {short(loss)}.", hint=hint)
    given = {option: value for option, value in bound.items() if value is not None}
    for option in given:
        if option not in LOSSES[name]:
            told = f"the page has no arithmetic for a loss with {option}."
            raise OptionError("X104", told, hint="explain without it.")
    return {"name": name, "options": {**given, "places": int(np.prod(shape[1:]))}}


def class_labels(model: Model) -> list[str]:
    """The outputs' names: classes, or numbers, behind an output's own name where there are several."""
    if isinstance(model.loss, OutputLosses):
        parts = ((part.output, int(np.prod(part.shape))) for part in model.loss.parts)
        return [f"{printable(name)}[{n}]" for name, cells in parts for n in range(cells)]
    outputs = int(np.prod(model.output_shape))
    if model.trainer.threshold is None or len(model.output_shape) != 1 or outputs < 2:
        return [str(n) for n in range(outputs)]
    return [printable(name) for name in numbered_names(model, outputs)]


def inputs_of(model: Model) -> list[dict[str, Any]]:
    """The net's inputs, each with its name and shape."""
    if isinstance(model.net, Packed):
        pairs = zip(model.net.graph.inputs, model.net.input_shapes, strict=True)
        return [{"name": printable(name), "shape": shape} for name, shape in pairs]
    return [{"name": "", "shape": model.input_shape}]


def reference(trace: Trace) -> dict[str, Any]:
    """Of each array NumPy's cells, evenly spread and as many as fit, and the norm of all."""
    arrays = traced_arrays(trace)
    each = max(min(EACH, COMPARED // len(arrays)), 1)
    found = {"loss": {"cells": packed(np.array([trace.loss]), np.dtype("float64")), "norm": trace.loss}}
    for path, array in arrays.items():
        cells = array.reshape(-1)
        count = min(each, cells.size)
        chosen = cells[np.arange(count) * cells.size // count]
        found[path] = {"cells": packed(chosen, np.dtype("float64")), "norm": norm(cells)}
    return found


def norm(cells: HostArray) -> float:
    """The root of the sum of squares, of huge cells too."""
    most = float(np.abs(cells).max(initial=0))
    return most * float(np.linalg.norm(cells / most)) if most > 0 else 0.0


def packed(array: Any, kind: np.dtype[Any]) -> dict[str, Any]:
    """An array as the page's data have it."""
    cells = np.ascontiguousarray(array, kind.newbyteorder("<"))
    return {"type": kind.name, "shape": [*cells.shape], "data": base64.b64encode(cells.tobytes()).decode()}


def titled(trace: Trace, data: Mapping[str, Any]) -> str:
    """A title that tells the net."""
    layers = sum(not isinstance(each.layer, HOLDING) for each in trace.values())
    return f"Forward and backward, with numbers: {counted(layers, 'layer')}, {counted(data['parameters'], 'parameter')}"
