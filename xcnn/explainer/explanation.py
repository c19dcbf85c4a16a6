"""`xcnn.explain`: a page with all that a net computes of one picture, forward and backward, beside NumPy's numbers."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xcnn.core import html, tree
from xcnn.core.arrays import unmasked
from xcnn.core.files import check_path, path_of, write_whole
from xcnn.core.options import explained
from xcnn.core.several import is_several
from xcnn.errors import DivergedError, MissingDependency, OptionError, ShapeError, counted, printable, short
from xcnn.explainer.description import described, multiply_adds, traced_arrays, weights_of
from xcnn.explainer.page import page
from xcnn.layers.container import Container
from xcnn.model.held import numbered_names
from xcnn.model.model import Model
from xcnn.model.trace import Trace
from xcnn.training.losses import loss_name, targets

if TYPE_CHECKING:
    from xcnn.core.figure import Figure

HostArray = np.ndarray[Any, Any]

MAX_WEIGHT_BYTES = 5_000_000
"""Of weights in their own type: as text they take a third more."""
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
RATE = 0.1
"""The learning rate that the page begins with."""


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """What `xcnn.explain` gives: it shows itself in a notebook, and saves itself as a page or a picture.

    Parameters
    ----------
    model
        the net, in float64 on NumPy
    trace
        what NumPy computed
    data
        all that the page is given, as plain values
    title
        of the page
    """

    model: Model
    trace: Trace
    data: Mapping[str, Any]
    title: str

    @property
    def html(self) -> str:
        """The page: it asks no network for anything, and needs no file beside it."""
        return page(self.title, self.data)

    def save(self, path: str | Path) -> None:
        """Write the page, or with the ending .png a picture of kernels, maps and gradients; whole or not at all.

        Parameters
        ----------
        path
            such as "why.html"

        Raises
        ------
        MissingDependency
            X601, for a picture without matplotlib.
        """
        path = path_of(path)
        check_path(path)
        png = path.suffix.lower() == ".png"
        write_whole(path, self.picture().rendered("png") if png else self.html.encode())

    def picture(self) -> Figure:
        """The same without a browser: the picture, the first maps and kernels, and all gradients, by matplotlib."""
        return self.model.show_gradients(self.trace.x, self.trace.t)

    def __repr__(self) -> str:
        size = len(self.html.encode())
        return f"<{printable(self.title)}: a page of {size:,} bytes; save('why.html') writes it>"

    def _repr_html_(self) -> str:
        title, inner = html.escape(self.title), html.escape(self.html)
        style = "width: 100%; height: 45em; border: 1px solid #888; border-radius: 4px"
        return f'<iframe title="{title}" sandbox="allow-scripts" style="{style}" srcdoc="{inner}"></iframe>'

    def _repr_png_(self) -> bytes | None:
        try:
            return self.picture().rendered("png")
        except MissingDependency:
            return None


@explained
def explain(model: Model, x: Any, y: Any = None, *, title: str = "") -> Explanation:
    """The equations of a convolutional net with one's own model's numbers: a page that computes forward and backward.

    Why the kernel is rotated on the way back; what one output is made of; each gradient beside its finite difference;
    the loss, and the chain from it to the first kernel. All of it is computed anew where a pixel, a weight or the
    target is changed. The page computes in float64, as a prediction does, and says how far it is from NumPy.

    Parameters
    ----------
    model
        of xcnn's own layers and losses, its weights up to 5 MB, its products up to 200 million for a sample
    x
        one sample, input_shape or (1, *input_shape)
    y
        its label or target; None is what a classifier takes it for
    title
        of the page

    Raises
    ------
    OptionError
        X104, for a model that is too large, or whose layers or loss are not xcnn's.
    DataError, ShapeError, DTypeError, LabelError
        X203, X101, X103, X201, for a sample or target that does not fit.
    DivergedError
        X501, where the net makes numbers of it that are not finite.

    Returns
    -------
    Explanation
        `.save("why.html")`, `.save("why.png")`; in a notebook it shows itself

    Examples
    --------
    >>> net = xcnn.Sequential(xcnn.Conv2D(2, 3), xcnn.ReLU(), xcnn.Flatten(), xcnn.Dense(2))
    >>> model = xcnn.Model(net, (1, 8, 8), backend="numpy")
    >>> "<!doctype html>" in xcnn.explain(model, np.ones((1, 8, 8), "float32"), 1).html
    True
    """
    if not isinstance(model, Model):
        raise OptionError("X104", f"explain takes a Model; got {short(model)}.", hint="xcnn.explain(model, x, y)")
    name = loss_name(model.loss)
    if name not in LOSSES:
        raise OptionError(
            "X104", f"the page has no arithmetic for the loss {short(model.loss)}.", hint="model.loss = ..."
        )
    if is_several(model.input_shape) or is_several(model.output_shape):
        raise OptionError("X104", "the page has no arithmetic for nets with several inputs or outputs.")
    loss_options(model)
    exact, x = in_float64(model), one_sample(model, x)
    if y is None:
        y = taken_for(exact, x)
    y = np.asarray(unmasked(y, "y"))
    y = y[None] if y.shape in ((), model.output_shape) and y.shape != (1, *model.output_shape) else y
    trace = exact.trace(x, y)
    if not np.isfinite(trace.loss):
        raise DivergedError("X501", f"the loss of this sample is {trace.loss}.", hint="model.trace(x, y) shows where.")
    data = page_data(model, exact, trace)
    return Explanation(exact, trace, data, printable(title) or titled(trace, data))


def in_float64(model: Model) -> Model:
    """The same net, weights and loss on NumPy, in float64."""
    there = tree.map(model.backend.to_numpy, model.state.weights)
    check_size(sum(leaf.nbytes for leaf in tree.leaves(there)))
    exact = Model(model.net, model.input_shape, loss=model.loss, optimizer="sgd", backend="numpy", dtype="float64")
    exact.weights = there
    exact.info = model.info
    return exact


def check_size(size: int) -> None:
    """Raise X104 for weights that a page can't carry."""
    if size > MAX_WEIGHT_BYTES:
        raise OptionError(
            "X104",
            f"the weights take {size:,} bytes; a page carries {MAX_WEIGHT_BYTES:,} at most.",
            hint="explain a smaller net, or look at model.trace(x, y).",
        )


def one_sample(model: Model, x: Any) -> HostArray:
    """A batch of the one sample."""
    given = unmasked(x, "x")
    shape = tuple(getattr(given, "shape", np.shape(given)))
    if shape == model.input_shape:
        return np.asarray(given)[None]
    if shape[1:] == model.input_shape and shape[0] != 1:
        raise ShapeError("X101", f"a page explains one sample; got {shape[0]}.", hint="x[:1] is the first of them.")
    return np.asarray(given)


def taken_for(model: Model, x: HostArray) -> HostArray:
    """The class that a classifier takes a sample for, as a label."""
    if model.trainer.threshold is None or len(model.output_shape) != 1:
        raise OptionError(
            "X104", "y is needed: this model is no classifier of whole samples.", hint="explain(model, x, y)"
        )
    labels: HostArray = model.probabilities(x).argmax(axis=1)
    return labels


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
        "loss": {"name": loss_name(model.loss), "options": loss_options(model)},
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


def loss_options(model: Model) -> dict[str, Any]:
    """The keywords that the loss was bound with, and the places of an output with more than one."""
    bound = model.loss.keywords if isinstance(model.loss, partial) else {}
    odd = [
        option for option, value in bound.items() if option not in LOSSES[loss_name(model.loss)] and value is not None
    ]
    if odd:
        raise OptionError("X104", f"the page has no arithmetic for a loss with {odd[0]}.", hint="explain without it.")
    given = {option: value for option, value in bound.items() if value is not None}
    return {**given, "places": int(np.prod(model.output_shape[1:]))}


def class_labels(model: Model) -> list[str]:
    """The outputs' names: classes, or numbers."""
    outputs = int(np.prod(model.output_shape))
    if model.trainer.threshold is None or len(model.output_shape) != 1 or outputs < 2:
        return [str(n) for n in range(outputs)]
    return [printable(name) for name in numbered_names(model, outputs)]


def reference(trace: Trace) -> dict[str, Any]:
    """Of each array NumPy's cells, evenly spread and as many as fit, and the norm of all."""
    arrays = traced_arrays(trace)
    each = max(min(EACH, COMPARED // len(arrays)), 1)
    found = {"loss": {"cells": packed(np.array([trace.loss]), np.dtype("float64")), "norm": trace.loss}}
    for path, array in arrays.items():
        cells = array.reshape(-1)
        count = min(each, cells.size)
        chosen = cells[np.arange(count) * cells.size // count]
        found[path] = {"cells": packed(chosen, np.dtype("float64")), "norm": float(np.linalg.norm(cells))}
    return found


def packed(array: Any, kind: np.dtype[Any]) -> dict[str, Any]:
    """An array as the page's data have it."""
    cells = np.ascontiguousarray(array, kind.newbyteorder("<"))
    return {"type": kind.name, "shape": [*cells.shape], "data": base64.b64encode(cells.tobytes()).decode()}


def titled(trace: Trace, data: Mapping[str, Any]) -> str:
    """A title that tells the net."""
    layers = sum(not isinstance(each.layer, Container) for each in trace.values())
    return f"Forward and backward, with numbers: {counted(layers, 'layer')}, {counted(data['parameters'], 'parameter')}"
