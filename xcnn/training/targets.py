"""Targets put beside predictions, and means over both: what losses share."""

from __future__ import annotations

from math import prod
from typing import Any

from array_api_compat import device

from xcnn.core.arrays import check_array, full, is_floating, is_real, namespace, together, widened, zeros
from xcnn.core.types import Array, Shape
from xcnn.errors import DTypeError, ShapeError, counted
from xcnn.training.weighting import parts, portions


def mean_of(
    y: Array, terms: Array, slopes: Array, weights: Array | None, counts: Array | None = None, outputs: bool = True
) -> tuple[Array, Array]:
    """The mean of terms like y, each sample by its weight, and its gradient from their own; see `portions`.

    Without `outputs` it is the mean over samples, or places, of sums over the outputs.
    """
    xp, portion = namespace(terms), portions(y, weights, counts, outputs)
    if portion is not None:
        return xp.sum(parts(portion, terms)), portion * slopes
    size = at_least_one(prod(y.shape) if outputs else prod(y.shape) // max(y.shape[1], 1))
    return xp.sum(terms) / size, slopes / size


def share(t: Array, x: Array) -> Array:
    """T x, and 0 where t is 0, also of an infinite x."""
    xp = namespace(t, x)
    return xp.where(t == 0, zeros(x, ()), t * x)


def targets(y: Array, t: Array) -> Array:
    """Targets shaped and typed like y: t itself, its one-hot rows, or for a single unit its column.

    Raises
    ------
    ShapeError
        X202
    """
    xp = check_floating(y, t)
    if y.ndim > 1 and y.shape[1] == 0:
        raise ShapeError("X202", "there are no outputs to compare with targets.", f"got predictions {tuple(y.shape)}")
    check_target_shape(y.shape, t.shape, labels=True)
    if tuple(t.shape) == tuple(y.shape):
        return xp.astype(t, y.dtype)
    labels = xp.expand_dims(widened(t) if is_floating(t) else xp.astype(t, xp.int64), axis=1)
    counted = xp.arange(max(y.shape[1], 2), dtype=labels.dtype, device=device(y))
    hot = labels == xp.reshape(counted, (1, -1, *(1 for _ in y.shape[2:])))
    known = xp.any(hot, axis=1, keepdims=True)
    one_hot = xp.astype(hot[:, -y.shape[1] :, ...], y.dtype)
    return xp.where(known, one_hot, full(y, (), float("nan")))


def check_target_shape(y: Shape, t: Shape, labels: bool, role: str = "") -> None:
    """Raise X202 unless targets of this shape fit predictions of that: shaped alike, or where they may be, labels."""
    y, t = tuple(y), tuple(t)
    if t != y and not (labels and len(y) > 1 and t == (y[0], *y[2:])):
        raise ShapeError(
            "X202",
            f"the {role}targets do not fit the predictions.",
            f"got targets {t}, predictions {y} = ({', '.join(('batch', 'outputs', 'height', 'width')[: len(y)])})",
            hint=_target_hint(y, t, labels),
        )


def _target_hint(y: Shape, t: Shape, labels: bool) -> str:
    if t == (*y[:1], 1, *y[2:]) and labels:
        return "labels have no axis of outputs: y[:, 0]."
    if y[1:] == (1,) and t == y[:1]:
        return "a single output has an axis of its own: y[:, None]."
    if len(t) == len(y) and t[2:] == y[2:] and len(y) > 1 and t[1]:
        return f"let the last layer have {counted(t[1], 'output')}, as the targets have."
    if prod(y) == prod(t):
        return f"give targets shaped like the net's output: y.reshape(-1, {', '.join(map(str, y[1:]))})."
    return "give targets shaped like the net's output" + (", or one whole number a sample." if labels else ".")


def same_shape(y: Array, t: Array) -> Array:
    """Targets in the type of y, if they are shaped like it; else raise X202."""
    xp = check_floating(y, t)
    check_target_shape(y.shape, t.shape, labels=False)
    return xp.astype(t, y.dtype)


def check_floating(y: Array, t: Array) -> Any:
    """The namespace of both, if they are arrays and the predictions floating-point numbers; else raise X103."""
    for name, array in (("y", y), ("t", t)):
        if not isinstance(getattr(array, "shape", None), tuple):
            check_array(array, name)
    if not is_floating(y):
        raise DTypeError("X103", f"a loss takes floating-point predictions; got {y.dtype}.", hint="convert them.")
    if not is_real(t):
        raise DTypeError("X103", f"a loss takes targets of real numbers; got {t.dtype}.", hint="convert them.")
    return together(y, t)


def at_least_one(size: int) -> int:
    """The mean over nothing is taken as 0."""
    return max(size, 1)
