"""`xcnn.explain`: a page with all that a net computes of one picture, forward and backward, beside NumPy's numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xcnn.core import html, tree
from xcnn.core.files import check_path, path_of, write_whole
from xcnn.core.options import explained
from xcnn.errors import DivergedError, MissingDependency, OptionError, printable, short
from xcnn.explainer.description import traced_arrays
from xcnn.explainer.page import page
from xcnn.explainer.page_data import loss_data, page_data, titled
from xcnn.explainer.sample import one_sample, one_target
from xcnn.model.model import Model
from xcnn.model.pictures import show_gradients
from xcnn.model.trace import Trace
from xcnn.model.trace import trace as traced

if TYPE_CHECKING:
    from xcnn.core.figure import Figure

MAX_WEIGHT_BYTES = 5_000_000
"""Of weights in their own type: as text they take a third more."""
PICTURE = ".png"
ENDINGS = ("", ".html", ".htm", PICTURE)
"""Of the files that a page is saved in."""


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
        OptionError
            X104, for an ending that is neither a page's nor .png.
        """
        path = check_page_path(path)
        write_whole(path, self._png() if path.suffix.lower() == PICTURE else self.html.encode())

    def picture(self) -> Figure:
        """The same without a browser: the picture, the first maps and kernels, and all gradients, by matplotlib."""
        return show_gradients(self.trace, None)

    def _png(self) -> bytes:
        figure = self.picture()
        figure.shown = True  # it was asked for as a file: a notebook shows the page, and not this beneath
        return figure.rendered("png")

    def __repr__(self) -> str:
        size = len(self.html.encode())
        return f"<{printable(self.title)}: a page of {size:,} bytes; save('why.html') writes it>"

    def _repr_html_(self) -> str:
        title, inner = html.escape(self.title), html.escape(self.html)
        style = "box-sizing: border-box; width: 100%; height: 45em; border: 1px solid #888; border-radius: 4px"
        return f'<iframe title="{title}" sandbox="allow-scripts" style="{style}" srcdoc="{inner}"></iframe>'

    def _repr_png_(self) -> bytes | None:
        try:
            return self._png()
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
        one sample, input_shape or (1, *input_shape); of several inputs a dict by their names, or a tuple
    y
        its label or target; None is what a classifier takes it for. Of several outputs a dict, or a tuple
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
    if not isinstance(title, str):
        raise OptionError("X104", f"title is a text; got {short(title)}.")
    loss_data(model)  # tells of a loss that the page can't follow before anything is computed
    exact = in_float64(model)
    x = one_sample(exact, x)
    y = one_target(exact, x, y)
    trace = traced(exact, x, y)
    check_finite(trace)
    data = page_data(model, exact, trace)
    return Explanation(exact, trace, data, printable(title) or titled(trace, data))


def check_page_path(path: str | Path) -> Path:
    """Where a page, or its picture, can be written.

    Raises
    ------
    OptionError
        X104, for the ending of something else, such as a model's.
    OSError
        where no file can be written.
    """
    path = path_of(path)
    if path.suffix.lower() not in ENDINGS:
        told = f"a page is saved as .html, a picture of it as .png; got {short(path.name)}."
        raise OptionError("X104", told, hint=f"{path.stem}.html")
    check_path(path)
    return path


def in_float64(model: Model) -> Model:
    """The same net, weights and loss on NumPy, in float64."""
    there = tree.map(model.backend.to_numpy, model.state.weights)
    check_size(sum(leaf.nbytes for leaf in tree.leaves(there)))
    exact = Model(model.net, model.input_shape, loss=model.loss, optimizer="sgd", backend="numpy", dtype="float64")
    exact.weights = there
    exact.info = model.info
    return exact


def check_finite(trace: Trace) -> None:
    """Raise X501 where the sample's loss, or a number on the way there or back, is not finite."""
    arrays = traced_arrays(trace)
    forward_first = sorted(arrays, key=lambda path: not path.endswith("/y"))
    found = (path for path in forward_first if not np.isfinite(arrays[path]).all())
    path = next(found, None if np.isfinite(trace.loss) else "it")
    if path is not None:
        told = f"the loss of this sample is {trace.loss:.4g}; {printable(path)} has numbers that are not finite."
        raise DivergedError("X501", told, hint="model.trace(x, y) has all numbers.")


def check_size(size: int) -> None:
    """Raise X104 for weights that a page can't carry."""
    if size > MAX_WEIGHT_BYTES:
        raise OptionError(
            "X104",
            f"the weights take {size:,} bytes; a page carries {MAX_WEIGHT_BYTES:,} at most.",
            hint="explain a smaller net, or look at model.trace(x, y).",
        )
