"""Work shared out among this package's threads, while BLAS keeps to the thread that calls it.

Its own threads would wait for each other at every small product, and then spin where ours want to run.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TypeVar

import numpy as np
from xcnn_host import threads

from xcnn.core import blas
from xcnn.core.types import Array

T = TypeVar("T")
LONGEST = 2**10
"""Terms that BLAS sums in one call: in one chain, where a product is small. Of more terms the sums are then added."""
LEAST = 2**24
"""Multiplications for which a second thread is worth waking."""


def product(a: Array, b: Array, out: Array) -> None:
    """Out = a b, LONGEST terms of its sums at a time; b and out may be many matrices."""
    np.matmul(a[:, :LONGEST], b[..., :LONGEST, :], out=out)
    for first in range(LONGEST, a.shape[1], LONGEST):
        out += a[:, first : first + LONGEST] @ b[..., first : first + LONGEST, :]


def share(work: Callable[[int, int], T], count: int, products: int, most_threads: int) -> list[T]:
    """[work(first, last), ...] over ranges of `count`, on one thread where there are few multiplications."""
    if products < LEAST or min(count, most_threads) < 2:
        return [work(0, count)]
    with blas.alone():
        return threads.share(alone(work) if blas.libraries()[1] else work, count, most_threads)


def alone(work: Callable[[int, int], T]) -> Callable[[int, int], T]:
    """The work with BLAS on one thread in whatever thread it is done: some libraries have a number for each."""

    @wraps(work)
    def done(first: int, last: int) -> T:
        with blas.own_alone():
            return work(first, last)

    return done
