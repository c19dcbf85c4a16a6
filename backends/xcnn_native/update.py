"""The optimizers' rules as the compiled library has them: an array in one call, with both sums of squares."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from math import sqrt

from xcnn.core.types import Array
from xcnn.training.optimizers import SGD, Adam, AdamW, Optimizer, RMSprop
from xcnn_native.changes import Change, Lines
from xcnn_native.library import KINDS, address, library

LARGE = 2**16
"""Cells of an array from which on threads share it."""
Old, New, Sums = ctypes.c_void_p * 4, ctypes.c_void_p * 3, ctypes.c_double * 2


def by_kernels(optimizer: Optimizer, rate: float, step: int, scale: float, threads: int) -> Change:
    """The optimizer's rule in the library, a large array's cells shared out among threads."""
    at = changes_at(optimizer, rate, step, scale, threads)

    def change(old: Lines, new: Lines) -> tuple[float, float]:
        return at(KINDS[old[0].dtype.char], old[0].size, list(map(address, old)), list(map(address, new)))

    return change


def changes_at(
    optimizer: Optimizer, rate: float, step: int, scale: float, threads: int
) -> Callable[[str, int, list[int], list[int]], tuple[float, float]]:
    """What changes so many cells of a type that lie at these addresses, as a Change does."""
    rule, *constants = rule_of(optimizer, rate, step)
    numbers = (ctypes.c_double * (1 + len(constants)))(scale, *constants)

    def change(kind: str, cells: int, old: list[int], new: list[int]) -> tuple[float, float]:
        sums = Sums()
        kernel = getattr(library(), f"update_{kind}")
        kernel(rule, cells, Old(*old), New(*new), numbers, sums, threads if cells >= LARGE else 1)
        return sums[0], sums[1]

    return change


def rule_of(optimizer: Optimizer, rate: float, step: int) -> tuple[int, *tuple[float, ...]]:
    """The library's number of an optimizer's rule, and its constants at this step."""
    if isinstance(optimizer, SGD):
        return 0, rate, optimizer.momentum, optimizer.nesterov, optimizer.weight_decay
    if isinstance(optimizer, RMSprop):
        return 2, rate, optimizer.rho, optimizer.momentum, optimizer.epsilon, optimizer.weight_decay
    assert isinstance(optimizer, Adam)
    beta1, beta2 = optimizer.beta1, optimizer.beta2
    kept = 1 - rate * optimizer.weight_decay if isinstance(optimizer, AdamW) else 1.0
    return 1, rate / (1 - beta1**step), beta1, beta2, 1 / sqrt(1 - beta2**step), optimizer.epsilon, kept


def sum_of_squares(array: Array) -> float:
    """Of all cells of a flat array, in double precision."""
    return float(getattr(library(), f"sum_of_squares_{KINDS[array.dtype.char]}")(array.size, address(array)))
