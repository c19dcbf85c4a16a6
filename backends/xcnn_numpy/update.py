"""An optimizer's update of all weights in one pass: each array is read once, and both norms fall out by the way.

The rules stay in xcnn/training/optimizers.py. Here they run a few cells at a time, so that what lies between reading a
weight and writing it stays in cache: by the compiled library where it is there, else block by block.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import inf, isfinite
from typing import Any

import numpy as np
from xcnn_host.buffers import empty
from xcnn_native import update as kernels
from xcnn_native.changes import Change, Lines, MakeChange, SumOfSquares
from xcnn_native.library import library

from xcnn.core.types import Array, Weights
from xcnn.layers.layer import Next
from xcnn.training.optimizers import SGD, Adam, AdamW, Optimizer, RMSprop
from xcnn.training.schedules import learning_rate
from xcnn.training.squares import gradients_norm, weights_norm

RULES = (SGD, Adam, AdamW, RMSprop)
"""Whose `change` treats each cell by itself: that of a subclass may not."""
LARGEST = {np.dtype(kind): float(np.finfo(kind).max) for kind in (np.float32, np.float64)}
"""The largest number of each type that is computed in."""
BLOCK = 2**15
"""Cells at a time: with what a rule makes of them they fit into a core's own cache."""
FEW = 2**8
"""Cells whose squares are summed in their own type: in any order that BLAS takes, the sum has most of its digits."""


def update(
    optimizer: Optimizer, grads: Weights, state: Weights, weights: Weights, threads: int = 1
) -> tuple[Weights, Weights, float, float] | None:
    """What `Backend.update` gives, or None where the optimizer or an array is not of the kind that this is for."""
    if type(optimizer) not in RULES:
        return None
    leaves = flat(weights, grads, *(state[name] for name in optimizer.moments))
    olds = [arrays_of(*leaf) for leaf in leaves]
    if not olds or not all(olds):
        return None
    squares, taken, scale = implementation()[1], state["step"], 1.0
    slopes = [old[1] for old in olds if len(old) > 1]
    if optimizer.clip_norm is not None:
        norm = norm_of(sum(map(squares, slopes)), slopes)
        scale = optimizer.clip_norm / max(norm, optimizer.clip_norm)

    news = [[empty(old[0].shape, old[0].dtype) for _ in old[1:]] for old in olds]
    of_slopes, of_weights = zip(*update_lines(optimizer, taken, scale, olds, news, threads), strict=True)
    changed = [new or (leaf[1].value, *leaf[2:]) for leaf, new in zip(leaves, news, strict=True)]
    weights, *moments = (like(weights, iter(column)) for column in zip(*changed, strict=True))
    new_state = {"step": taken + 1, **dict(zip(optimizer.moments, moments, strict=True))}
    size = weights_norm(zip(of_weights, (LARGEST[old[0].dtype] for old in olds), strict=True))
    return weights, new_state, norm_of(sum(of_slopes), slopes), size


def update_lines(
    optimizer: Optimizer, taken: int, scale: float, olds: Sequence[Lines], news: Sequence[Lines], threads: int = 1
) -> list[tuple[float, float]]:
    """What a Change gives, of arrays of either type, after so many steps."""
    change = implementation()[0](optimizer, learning_rate(optimizer.learning_rate, taken), taken + 1, scale, threads)
    sums = [(0.0, 0.0)] * len(olds)
    for kind in LARGEST:
        mine = [n for n, old in enumerate(olds) if old[0].dtype == kind]
        for n, found in zip(mine, change([olds[n] for n in mine], [news[n] for n in mine]), strict=True):
            sums[n] = found
    return sums


def norm_of(squares: float, slopes: Sequence[Array]) -> float:
    """The gradients' norm from the sum of their squares, or where that overflowed from the gradients themselves."""
    return gradients_norm(
        squares,
        LARGEST[slopes[0].dtype] if slopes else inf,
        lambda: max(float(np.max(np.abs(g), initial=0)) for g in slopes),
        lambda largest: sum(sum_of_squares(g / largest) for g in slopes),
    )


def arrays_of(w: Array, g: Any, *moments: Array) -> Lines:
    """What is changed together: weight, gradient, moments, or just what replaces the weight; each in C's order.

    Nothing, unless all are NumPy's own arrays of one shape, and all float32 or all float64.
    """
    arrays = (g.value,) if isinstance(g, Next) else (w, g, *moments)
    shape, kind = arrays[0].shape, arrays[0].dtype
    for array in arrays:
        if type(array) is not np.ndarray or array.dtype != kind or array.shape != shape or kind not in LARGEST:
            return ()
    return [a if a.flags.c_contiguous and a.flags.aligned else np.require(a, None, ["C", "A"]) for a in arrays]


def flat(pattern: Weights, *others: Weights) -> list[Any]:
    """The leaves of a tree, each beside those of the others at its place."""
    leaves: list[Any] = []
    for name, leaf in pattern.items():
        inner = [tree[name] for tree in others]
        leaves += flat(leaf, *inner) if isinstance(leaf, dict) else [(leaf, *inner)]
    return leaves


def like(pattern: Weights, leaves: Iterator[Any]) -> Weights:
    """The tree with these leaves at the pattern's places."""
    return {name: like(leaf, leaves) if isinstance(leaf, dict) else next(leaves) for name, leaf in pattern.items()}


def implementation() -> tuple[MakeChange, SumOfSquares]:
    """The compiled library's where it is there."""
    if library() is None:
        return by_blocks, sum_of_squares
    return kernels.by_kernels, kernels.sum_of_squares


def by_blocks(optimizer: Optimizer, rate: float, step: int, scale: float, threads: int) -> Change:
    """The optimizer's own rule, applied to a block at a time."""

    def change(olds: Sequence[Lines], news: Sequence[Lines]) -> list[tuple[float, float]]:
        return [
            changed([a.ravel() for a in old], [a.ravel() for a in new]) for old, new in zip(olds, news, strict=True)
        ]

    def changed(old: Lines, new: Lines) -> tuple[float, float]:
        if len(old) == 1:
            return 0.0, sum_of_squares(old[0])
        of_grads = of_weights = 0.0
        for first in range(0, old[0].size, BLOCK):
            block = slice(first, first + BLOCK)
            w, g, *moments = (array[block] for array in old)
            results = optimizer.change(rate, step, w, g if scale == 1 else g * scale, *moments)
            for array, result in zip(new, results, strict=True):
                array[block] = result
            of_grads += sum_of_squares(g)
            of_weights += sum(0 * float(m.max()) for m in results[1:])  # NaN where one is not finite
            of_weights += sum_of_squares(results[0])
        return of_grads, of_weights

    return change


def sum_of_squares(array: Array) -> float:
    """Of all cells of an array: a few in its own type, their sums in double precision.

    So is a block whose sum is too large for the type.
    """
    total, array = 0.0, array.ravel()
    for first in range(0, array.size, BLOCK):
        block = array[first : first + BLOCK]
        whole = block.size // FEW * FEW
        lines, rest = block[:whole].reshape(-1, FEW), block[whole:]
        part = float(np.vecdot(lines, lines).sum(dtype=np.float64)) + float(np.dot(rest, rest))
        if not isfinite(part):
            wide = block.astype(np.float64)
            part = float(np.dot(wide, wide))
        total += part
    return total
