"""Layers and half precision: which compute in it, and how the others are called with it.

A type of 16 bits has 11 (float16) or 8 (bfloat16) binary digits: it counts to 2048 or 256, and a sum of ones stays
there. So a layer computes in half precision only where its author says that it may, by `@computes_in_half`; any other,
a new one or a user's own, is given the weights' type by a model with precision="bfloat16" or "float16" (precision.py).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from xcnn.core import tree
from xcnn.core.arrays import check_array, is_half, namespace, widened
from xcnn.core.likeness import check_dy, likeness
from xcnn.core.types import Array, Backward, Weights
from xcnn.layers.layer import Next, Run

Class = TypeVar("Class", bound=type)
Call = TypeVar("Call", bound=Callable[..., tuple[Array, Backward]])
MARK = "_computes_in_half"


def computes_in_half(layer_class: Class) -> Class:
    """For the class of a layer: 16 bits do for what it computes.

    It may say so if it works cell by cell, or if what it adds up is added in float32 and rounded once, as the products
    of matrices and the primitives do it. It is said of this class alone: one that is derived from it says so again.
    """
    setattr(layer_class, MARK, True)
    return layer_class


def may_compute_in_half(layer: object) -> bool:
    """Whether the layer's class says so."""
    return MARK in vars(type(layer))


def wide(call: Call) -> Call:
    """For the call of another layer: arrays of a half type are computed with in float32, the results rounded once."""

    @wraps(call)
    def widely(self: Any, weights: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        if not isinstance(getattr(x, "shape", None), tuple):
            check_array(x)
        if not is_half(x) or any(w.dtype != x.dtype for w in weights.values()):  # these are told by the layer
            return call(self, weights, x, run)
        xp, dtype = namespace(x), x.dtype
        wide_y, inner_backward = call(self, tree.map(widened, weights), widened(x), run)
        y = xp.astype(wide_y, dtype)
        made = likeness(y)
        del wide_y

        def rounded(leaf: Any) -> Any:
            return Next(xp.astype(leaf.value, dtype)) if isinstance(leaf, Next) else xp.astype(leaf, dtype)

        def backward(dy: Array) -> tuple[Array, Weights]:
            check_dy(self, made, dy)
            dx, grads = inner_backward(widened(dy))
            return None if dx is None else rounded(dx), tree.map(rounded, grads)

        return y, backward

    return widely  # type: ignore[return-value]


def wide_call(layer_class: Class) -> Class:
    """For the class of a layer whose call is inherited: `wide` for that."""
    layer_class.__call__ = wide(layer_class.__call__)  # type: ignore[method-assign]
    return layer_class


__all__ = ["computes_in_half", "may_compute_in_half", "wide", "wide_call"]
