"""The optimizers' rules as loops that Numba compiles: a cell at a time, with both sums of squares in the same pass.

Each loop has the operations of its rule in xcnn/optimizers.py, in their order and in the arrays' type, so that it
rounds as the rule does. Arrays that are None are not there: Numba compiles the loop without them.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit

from xcnn.core.types import Array
from xcnn.training.optimizers import SGD, Adam, AdamW, Optimizer, RMSprop
from xcnn_numpy.caching import keep
from xcnn_numpy.changes import Change, Lines
from xcnn_numpy.direct.thread_pool import Shared

LARGE = 2**16
"""Cells of an array from which on threads share it."""
Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(*freedoms: str) -> Callable[[Function], Function]:
    """Compile a function at its first call for each type of arrays, and keep that on disk; LLVM may take freedoms."""

    def compile_it(function: Function) -> Function:
        made = njit(nogil=True, error_model="numpy", fastmath=set(freedoms))(function)
        return cast("Function", keep(made))

    return compile_it


@compiled("reassoc", "nsz", "contract")
def add_square(total: float, x: float) -> float:
    """Total + x², in double precision. The order of such sums is free, so that several can go on side by side."""
    wide = np.float64(x)
    return total + wide * wide


@compiled("reassoc", "nsz", "contract")
def add_nothing(total: float, x: float, zero: float) -> float:
    """Total + 0 x, in the type of all three: NaN from the first x on that is not finite."""
    return total + zero * x


@compiled()
def sum_of_squares(array: Array) -> float:
    """Of all cells of a flat array."""
    total = 0.0
    for n in range(array.size):
        total = add_square(total, array[n])
    return total


def by_loops(optimizer: Optimizer, rate: float, step: int, scale: float, threads: int) -> Change:
    """The optimizer's loop, a large array's cells shared out among threads."""
    loop, moments, constants = loop_of(optimizer, rate, step)

    def change(old: Lines, new: Lines) -> tuple[float, float]:
        absent = (None,) * (moments + 2 - len(old))
        count = old[0].size
        parts = threads if count >= LARGE else 1
        sums = np.empty((parts, 2))
        arguments = (*old, *absent, *new, *absent, scale, *constants, sums)
        if parts == 1:
            loop.kernel(*arguments, 0, 0, count)
        else:
            loop(parts, count, *arguments)
        of_grads, of_weights = sums.sum(axis=0).tolist() if parts > 1 else sums[0].tolist()
        return of_grads, of_weights

    return change


def loop_of(optimizer: Optimizer, rate: float, step: int) -> tuple[Shared, int, tuple[float, ...]]:
    """The loop of an optimizer's rule, how many moments it may have, and its constants at this step."""
    if isinstance(optimizer, SGD):
        return sgd_part, 1, (rate, optimizer.momentum, optimizer.nesterov, optimizer.weight_decay)
    if isinstance(optimizer, RMSprop):
        return rmsprop_part, 2, (rate, optimizer.rho, optimizer.momentum, optimizer.epsilon, optimizer.weight_decay)
    assert isinstance(optimizer, Adam)
    beta1, beta2 = optimizer.beta1, optimizer.beta2
    kept = 1 - rate * optimizer.weight_decay if isinstance(optimizer, AdamW) else 1.0
    unbiased, spread = rate / (1 - beta1**step), 1 / sqrt(1 - beta2**step)
    return adam_part, 2, (unbiased, beta1, beta2, spread, optimizer.epsilon, kept)


@compiled()
def cells(array: Array, first: int, last: int) -> Array:
    """A range of an array that may be None."""
    if array is None:
        return None
    return array[first:last]


@compiled()
def sgd(
    w: Array, g: Array, v: Array, new_w: Array, new_v: Array,
    scale: float, rate: float, momentum: float, nesterov: bool, weight_decay: float,
) -> tuple[float, float]:  # fmt: skip
    """SGD's rule; the sums of squares of the gradient and of the new weight."""
    number = w.dtype.type
    scale, rate, momentum, weight_decay = number(scale), number(rate), number(momentum), number(weight_decay)
    of_grads = of_weights = 0.0
    for n in range(w.size):
        slope = scale * g[n] + weight_decay * w[n]
        if v is None:
            new_w[n] = w[n] - rate * slope
        else:
            new_v[n] = momentum * v[n] + slope
            new_w[n] = w[n] - rate * (slope + momentum * new_v[n] if nesterov else new_v[n])
        of_grads = add_square(of_grads, g[n])
        of_weights = add_square(of_weights, new_w[n])
    return of_grads, of_weights


@compiled()
def adam(
    w: Array, g: Array, first: Array, second: Array, new_w: Array, new_first: Array, new_second: Array,
    scale: float, rate: float, beta1: float, beta2: float, spread: float, epsilon: float, kept: float,
) -> tuple[float, float]:  # fmt: skip
    """Adam's rule and AdamW's, which keeps only so much of the weight; the sums of squares as in `sgd`.

    That of the weights is NaN where a second moment is not finite.
    """
    number = w.dtype.type
    scale, rate, spread, epsilon, kept = number(scale), number(rate), number(spread), number(epsilon), number(kept)
    rest1, rest2 = number(1 - beta1), number(1 - beta2)
    beta1, beta2 = number(beta1), number(beta2)
    of_grads = of_weights = 0.0
    of_moments = zero = number(0)
    for n in range(w.size):
        slope = scale * g[n]
        new_first[n] = beta1 * first[n] + rest1 * slope
        new_second[n] = beta2 * second[n] + rest2 * slope * slope
        new_w[n] = kept * w[n] - rate * (new_first[n] / (np.sqrt(new_second[n]) * spread + epsilon))
        of_grads = add_square(of_grads, g[n])
        of_weights = add_square(of_weights, new_w[n])
        of_moments = add_nothing(of_moments, new_second[n], zero)
    return of_grads, of_weights + of_moments


@compiled()
def rmsprop(
    w: Array, g: Array, square: Array, v: Array, new_w: Array, new_square: Array, new_v: Array,
    scale: float, rate: float, rho: float, momentum: float, epsilon: float, weight_decay: float,
) -> tuple[float, float]:  # fmt: skip
    """RMSprop's rule; the sums of squares as in `adam`."""
    number = w.dtype.type
    scale, rate, epsilon, weight_decay = number(scale), number(rate), number(epsilon), number(weight_decay)
    rest, rho, momentum = number(1 - rho), number(rho), number(momentum)
    of_grads = of_weights = 0.0
    of_moments = zero = number(0)
    for n in range(w.size):
        slope = scale * g[n] + weight_decay * w[n]
        new_square[n] = rho * square[n] + rest * slope * slope
        step = slope / (np.sqrt(new_square[n]) + epsilon)
        if v is not None:
            step = momentum * v[n] + step
            new_v[n] = step
        new_w[n] = w[n] - rate * step
        of_grads = add_square(of_grads, g[n])
        of_weights = add_square(of_weights, new_w[n])
        of_moments = add_nothing(of_moments, new_square[n], zero)
    return of_grads, of_weights + of_moments


@Shared
def sgd_part(
    w: Array, g: Array, v: Array, new_w: Array, new_v: Array, scale: float, rate: float, momentum: float,
    nesterov: bool, weight_decay: float, sums: Array, part: int, first: int, last: int,
) -> None:  # fmt: skip
    """`sgd` on some cells."""
    sums[part, 0], sums[part, 1] = sgd(
        w[first:last], g[first:last], cells(v, first, last), new_w[first:last], cells(new_v, first, last), scale, rate,
        momentum, nesterov, weight_decay,
    )  # fmt: skip


@Shared
def adam_part(
    w: Array, g: Array, m: Array, v: Array, new_w: Array, new_m: Array, new_v: Array, scale: float, rate: float,
    beta1: float, beta2: float, spread: float, epsilon: float, kept: float, sums: Array, part: int, first: int,
    last: int,
) -> None:  # fmt: skip
    """`adam` on some cells."""
    sums[part, 0], sums[part, 1] = adam(
        w[first:last], g[first:last], m[first:last], v[first:last], new_w[first:last], new_m[first:last],
        new_v[first:last], scale, rate, beta1, beta2, spread, epsilon, kept,
    )  # fmt: skip


@Shared
def rmsprop_part(
    w: Array, g: Array, square: Array, v: Array, new_w: Array, new_square: Array, new_v: Array, scale: float,
    rate: float, rho: float, momentum: float, epsilon: float, weight_decay: float, sums: Array, part: int, first: int,
    last: int,
) -> None:  # fmt: skip
    """`rmsprop` on some cells."""
    sums[part, 0], sums[part, 1] = rmsprop(
        w[first:last], g[first:last], square[first:last], cells(v, first, last), new_w[first:last],
        new_square[first:last], cells(new_v, first, last), scale, rate, rho, momentum, epsilon, weight_decay,
    )  # fmt: skip
