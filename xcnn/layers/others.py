"""Layers of others, which may look at nothing: what they get and give on the way back is looked at here."""

from __future__ import annotations

from xcnn.core.likeness import Likeness, check_dy, likeness, refuse
from xcnn.core.types import Array, Backward, Weights
from xcnn.errors import OptionError, short
from xcnn.layers.layer import Layer, Next


def held(layer: Layer, weights: Weights, y: Likeness, backward: Backward) -> Backward:
    """The backward of another's layer with these weights, for a dy that is like y."""

    def checked(dy: Array) -> tuple[Array, Weights]:
        check_dy(layer, y, dy)
        dx, grads = backward(dy)
        check_gradients(layer, weights, grads)
        return dx, grads

    return checked


def check_gradients(layer: Layer, weights: Weights, grads: Weights, path: str = "") -> None:
    """Raise unless there is a gradient for each weight, or what replaces it, and each is like its weight.

    Parameters
    ----------
    layer
        who made them
    weights, grads
        trees of arrays, those of `grads` also within Next
    path
        of both, "conv1/"

    Raises
    ------
    OptionError
        X104, where one is missing, or is no weight's.
    BackendError, ShapeError, DTypeError
        X301, X101, X103, as `check_dy`.
    """
    if not isinstance(grads, dict) or weights.keys() != grads.keys():
        grads = grads if isinstance(grads, dict) else {}
        missing = [f"{path}{name}" for name in weights if name not in grads]
        what = f"there is no gradient for {missing[0]!r}" if missing else "there are gradients for no weights"
        raise OptionError(
            "X104",
            f"must give dX and a tree of gradients shaped like its weights; {what}.",
            f"got {path or 'the names '}{short([*grads])}, the weights are {short([*weights])}",
            layer=layer,
        )
    for name, weight in weights.items():
        gradient = grads[name]
        if isinstance(weight, dict):
            if not isinstance(gradient, dict):
                gradient = {}
            check_gradients(layer, weight, gradient, f"{path}{name}/")
            continue
        given = gradient.value if type(gradient) is Next else gradient
        if type(given) is not type(weight) or likeness(given) != likeness(weight):
            refuse(layer, likeness(weight), given, f"a gradient for {path + name!r}", "that weight")
