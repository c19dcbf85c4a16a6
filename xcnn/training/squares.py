"""Norms of arrays from sums of their squares in doubles, which hold what the arrays' own type may not."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf, isfinite, sqrt


def gradients_norm(
    squares: float, most: float, largest: Callable[[], float], scaled: Callable[[float], float]
) -> float:
    """The norm of gradients from the sum of their squares; infinite above `most`, which is all that their type holds.

    Where the sum overflowed it comes from the largest cell, and from `scaled`, the sum of the squares of all over that.
    """
    norm = sqrt(squares)
    if not isfinite(norm) and isfinite(cell := largest()):
        norm = cell * sqrt(scaled(cell))
    return norm if norm <= most else inf


def weights_norm(squares: Iterable[tuple[float, float]]) -> float:
    """The norm of new weights from the sum of each one's squares, beside the most that its type holds.

    Weights whose squares leave the type's range are lost, though a double holds the sum: then it is infinite.
    """
    return sqrt(sum(each if each <= most else inf for each, most in squares))
