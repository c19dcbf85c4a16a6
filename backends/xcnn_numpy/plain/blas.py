"""Work shared out among this package's threads, while BLAS keeps to the thread that calls it.

Its own threads would wait for each other at every small product, and then spin where ours want to run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

import numpy as np
from threadpoolctl import ThreadpoolController

from xcnn._typing import Array
from xcnn_numpy import threads

T = TypeVar("T")
LONGEST = 2**12
"""Terms that BLAS sums in one call: it may do so in one chain, and of more the sums are then added."""
LEAST = 2**24
"""Multiplications for which a second thread is worth waking."""
_lock = threading.Lock()
_users = 0
_before: list[int] = []


def product(a: Array, b: Array, out: Array) -> None:
    """Out = a b, LONGEST terms of its sums at a time."""
    np.matmul(a[:, :LONGEST], b[:LONGEST], out=out)
    for first in range(LONGEST, a.shape[1], LONGEST):
        out += a[:, first : first + LONGEST] @ b[first : first + LONGEST]


def share(work: Callable[[int, int], T], count: int, products: int, most_threads: int) -> list[T]:
    """[work(first, last), ...] over ranges of `count`, on one thread where there are few multiplications."""
    if products < LEAST or min(count, most_threads) < 2:
        return [work(0, count)]
    with single():
        return threads.share(work, count, most_threads)


@contextmanager
def single() -> Iterator[None]:
    """Let BLAS use one thread a call within the block; blocks may overlap, the last to end restores the number."""
    global _users, _before
    libraries = _libraries()
    with _lock:
        if _users == 0:
            _before = [library.get_num_threads() for library in libraries]
            for library in libraries:
                library.set_num_threads(1)
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                for library, number in zip(libraries, _before, strict=True):
                    library.set_num_threads(number)


@cache
def _libraries() -> tuple[Any, ...]:
    """The BLAS libraries of this process, NumPy's among them; looking for them takes milliseconds."""
    return tuple(ThreadpoolController().select(user_api="blas").lib_controllers)
