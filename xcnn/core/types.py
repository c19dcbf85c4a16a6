"""The words that all of xcnn's signatures use."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np

Array: TypeAlias = Any
"""An array of any library that follows the Python array API standard."""

Shape: TypeAlias = tuple[int, ...]
"""Sizes of an array's axes. A layer's `input_shape` leaves the batch axis out."""

Weights: TypeAlias = dict[str, Any]
"""A tree: names lead to arrays or to further trees, e.g. {"conv1": {"kernel": array, "bias": array}}."""

Backward: TypeAlias = Callable[[Array], tuple[Array, Weights]]
"""backward(dy) -> (dx, grads): the gradient of a layer's input, and one gradient for each of its weights."""

Pair: TypeAlias = tuple[int, int]
Pads: TypeAlias = tuple[Pair, Pair]
"""Cells added (top, bottom) and (left, right)."""

Padding: TypeAlias = str | int | tuple[int, int] | tuple[Pair, Pair]
"""What a user may write: "valid", "same", "full", p, (p_height, p_width) or ((top, bottom), (left, right))."""

Rng: TypeAlias = "np.random.Generator"
"""The host's random generator, which draws initial weights."""
