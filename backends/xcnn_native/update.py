"""The optimizers' rules as the compiled library has them: all arrays in one call, with their sums of squares."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from math import sqrt
from typing import TypeAlias

from xcnn.core.types import Array
from xcnn.training.optimizers import SGD, Adam, AdamW, Optimizer, RMSprop
from xcnn_native.changes import Change, Lines
from xcnn_native.library import KINDS, address, kernel, library

LARGE = 2**17
"""Cells from which on threads share them."""
Leaf: TypeAlias = tuple[int, Sequence[int], Sequence[int]]
"""Cells of an array, and the addresses of weight, gradient and moments, and of those that replace them."""


def by_kernels(optimizer: Optimizer, rate: float, step: int, scale: float, threads: int) -> Change:
    """The optimizer's rule in the library, all arrays' cells shared out among threads."""
    at = changes_at(optimizer, rate, step, scale, threads)

    def change(olds: Sequence[Lines], news: Sequence[Lines]) -> Sequence[tuple[float, float]]:
        if not olds:
            return []
        there = [(old[0].size, [*map(address, old)], [*map(address, new)]) for old, new in zip(olds, news, strict=True)]
        return at(KINDS[olds[0][0].dtype.char], there)

    return change


def changes_at(
    optimizer: Optimizer, rate: float, step: int, scale: float, threads: int
) -> Callable[[str, Sequence[Leaf]], Sequence[tuple[float, float]]]:
    """What changes arrays of a type that lie at these addresses, as a Change does."""
    rule, *constants = rule_of(optimizer, rate, step)
    numbers = (ctypes.c_double * (1 + len(constants)))(scale, *constants)

    def change(kind: str, leaves: Sequence[Leaf]) -> Sequence[tuple[float, float]]:
        fields: list[int] = []
        for cells, old, new in leaves:
            fields += cells, *old, *(4 - len(old)) * (0,), *new, *(3 - len(new)) * (0,)
        sums = (ctypes.c_double * (2 * len(leaves)))()
        shared = sum(cells for cells, *_ in leaves) >= LARGE
        at = (ctypes.c_size_t * len(fields))(*fields)
        getattr(library(), f"update_{kind}")(rule, at, len(leaves), numbers, sums, threads if shared else 1)
        return list(zip(sums[::2], sums[1::2], strict=True))

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
    return float(kernel("sum_of_squares", array.dtype)(array.size, address(array)))
