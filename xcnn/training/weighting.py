"""What samples, or each of their places, weigh in a loss, and labels that do not count in it.

The loss of samples with weights is their weighted mean, sum(w e) / sum(w): it is divided by the sum of the weights, as
PyTorch divides by those of the classes. So only their ratios matter, and weights that are all 1 change nothing. A place
whose label does not count has the weight 0. Where all are 0 the mean is taken as 0.
"""

from __future__ import annotations

from math import prod

from xcnn.core.arrays import full, namespace, zeros
from xcnn.core.types import Array
from xcnn.errors import ShapeError


def without(y: Array, t: Array, ignore_index: int | None) -> tuple[Array, Array | None]:
    """Labels with class 0 in the place of those that do not count, and 1 where they do; None where all do.

    Targets shaped like the predictions have no such labels.
    """
    if ignore_index is None or tuple(t.shape) == tuple(y.shape):
        return t, None
    xp = namespace(y, t)
    counts = t != ignore_index
    return xp.where(counts, t, full(t, (), 0)), xp.astype(counts, y.dtype)


def portions(y: Array, weights: Array | None, counts: Array | None = None, outputs: bool = True) -> Array | None:
    """The portion of each cell in the mean, in a shape that goes with y's; None where all count alike.

    Parameters
    ----------
    y : (N, outputs, ...)
        predictions
    weights : (N,) or (N, ...)
        of each sample, or of each of its places
    counts : (N, ...)
        1 for the places that count, else 0
    outputs
        whether the mean is over outputs too, and not of one number a place

    Raises
    ------
    ShapeError
        X202, for weights of another shape.
    """
    if weights is None and counts is None:
        return None
    xp = namespace(y)
    places = (y.shape[0], *y.shape[2:])
    whole = full(y, (), 1.0)
    for factor in (weights, counts):
        if factor is not None:
            if tuple(factor.shape) not in ((y.shape[0],), places):
                raise ShapeError(
                    "X202",
                    "the weights of samples do not fit the predictions.",
                    f"got weights {tuple(factor.shape)}, predictions {tuple(y.shape)}",
                    hint="give one for each sample.",
                )
            whole = whole * xp.reshape(xp.astype(factor, y.dtype), _beside(y, factor))
    each = y.shape[1] if outputs and y.ndim > 1 else 1
    total = xp.sum(whole) * (each * prod(places) / max(prod(whole.shape), 1))
    return whole / xp.where(total > 0, total, full(y, (), 1.0))


def parts(portion: Array, terms: Array) -> Array:
    """Portions of terms, 0 where the portion is, also of an infinite term."""
    xp = namespace(terms)
    return xp.where(portion == 0, zeros(terms, ()), portion * terms)


def _beside(y: Array, factor: Array) -> tuple[int, ...]:
    """The shape in which weights go with y."""
    places = factor.shape[1:] if factor.ndim > 1 else (1,) * (y.ndim - 2)
    return (factor.shape[0], *((1,) if y.ndim > 1 else ()), *places)
