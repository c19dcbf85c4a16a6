"""Linear maps that take rows and columns each by itself: Y = A X B^T, dX = A^T dY B."""

from __future__ import annotations

from array_api_compat import device

from xcnn.core.arrays import full, namespace
from xcnn.core.likeness import check_dy, likeness
from xcnn.core.types import Array, Backward, Weights


def mapped(layer: object, x: Array, a: Array, b: Array) -> tuple[Array, Backward]:
    """Y = A X B^T of images (N, C, H, W), A being (H', H) and B (W', W), and its backward."""
    xp = namespace(x)
    y = a @ x @ xp.matrix_transpose(b)
    made = likeness(y)

    def backward(dy: Array) -> tuple[Array, Weights]:
        check_dy(layer, made, dy)
        return xp.matrix_transpose(a) @ dy @ b, {}

    return y, backward


def numbers(like: Array, count: int) -> Array:
    """0, 1, ..., in the type of `like` and where it is."""
    return namespace(like).arange(count, dtype=like.dtype, device=device(like))


def wholes(like: Array, count: int) -> Array:
    """0, 1, ..., as whole numbers."""
    xp = namespace(like)
    return xp.arange(count, dtype=xp.int64, device=device(like))


def lines(like: Array, places: Array, whole: float, cells: int) -> Array:
    """The matrix of linear interpolation: A[i, j] = max(0, 1 - |p[i] - j|), held between the first cell and the last.

    p[i] = places[i] / whole; where both are whole numbers, only the last division rounds.
    """
    xp = namespace(like)
    nothing, last = full(like, (), 0), full(like, (), whole * (cells - 1))
    held = xp.minimum(xp.maximum(places, nothing), last)
    distances = xp.abs(xp.expand_dims(held, axis=1) - whole * numbers(like, cells))
    return xp.maximum(whole - distances, nothing) / whole


def chosen(like: Array, places: Array, cells: int) -> Array:
    """The matrix that takes one cell each: A[i, j] = 1 where j is places[i], held between the first and the last."""
    xp = namespace(like)
    held = xp.minimum(xp.maximum(places, 0 * places), 0 * places + (cells - 1))
    return xp.astype(xp.expand_dims(held, axis=1) == wholes(like, cells), like.dtype)
