"""Time the NumPy backend's pooling and random bits against the reference's: python benchmarks/pooling.py."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import xcnn
from xcnn.bench.timing import alternate
from xcnn.checking.gradients import ReferenceBackend
from xcnn.core import random

SHAPES = (((64, 6, 28, 28), 2, 2), ((64, 64, 24, 24), 2, 2), ((16, 64, 56, 56), 3, 2))


def both(*sides: Callable[[], Any]) -> str:
    """The best times of each, in milliseconds, as cells of the table."""
    return " | ".join(f"{1e3 * taken.best:.2f}" for taken in alternate(sides, seconds=1.0))


def main() -> None:
    """Print a table in Markdown."""
    rng = np.random.default_rng(0)
    reference, numpy = ReferenceBackend(), xcnn.backend("numpy")
    print("| operation | shape, window, stride | reference, ms | NumPy backend, ms |")
    print("|---|---|---|---|")
    for shape, size, step in SHAPES:
        window, stride = (size, size), (step, step)
        x = rng.standard_normal(shape, dtype="float32")
        y, which = numpy.max_pool(x, window, stride=stride)
        dy = rng.standard_normal(y.shape, dtype="float32")
        calls: dict[str, Callable[[Any], Any]] = {
            "max_pool": lambda b, x=x, w=window, s=stride: b.max_pool(x, w, stride=s),
            "max_pool_adjoint": lambda b, d=dy, m=which, n=shape, w=window, s=stride: b.max_pool_adjoint(
                d, m, n, w, stride=s
            ),
            "sum_pool": lambda b, x=x, w=window, s=stride: b.sum_pool(x, w, stride=s),
            "sum_pool_adjoint": lambda b, d=dy, n=shape, w=window, s=stride: b.sum_pool_adjoint(d, n, w, stride=s),
        }
        for name, call in calls.items():
            times = both(*(partial(call, backend) for backend in (reference, numpy)))
            print(f"| {name} | {shape}, {size}x{size}, {step} | {times} |", flush=True)
    bits = (64, 32, 26, 26)
    times = both(lambda: random.bits(np, None, (1,), bits), lambda: numpy.random_bits((1,), bits))
    print(f"| random_bits | {bits} | {times} |")


if __name__ == "__main__":
    main()
