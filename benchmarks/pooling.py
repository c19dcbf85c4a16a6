"""Time the NumPy backend's pooling and random bits against the reference's: python benchmarks/pooling.py."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

import xcnn
from xcnn.checking.gradients import ReferenceBackend
from xcnn.core import random

SHAPES = (((64, 6, 28, 28), 2, 2), ((64, 64, 24, 24), 2, 2), ((16, 64, 56, 56), 3, 2))


def best(run: Callable[[], Any], seconds: float = 0.5) -> float:
    """Milliseconds, the best of as many rounds as fit."""
    taken = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(taken) < 3:
        start = time.perf_counter()
        run()
        taken.append(1e3 * (time.perf_counter() - start))
    return min(taken)


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
            times = [best(lambda b=b, call=call: call(b)) for b in (reference, numpy)]
            print(f"| {name} | {shape}, {size}x{size}, {step} | {times[0]:.2f} | {times[1]:.2f} |", flush=True)
    bits = (64, 32, 26, 26)
    times = [best(lambda: random.bits(np, None, (1,), bits)), best(lambda: numpy.random_bits((1,), bits))]
    print(f"| random_bits | {bits} | {times[0]:.2f} | {times[1]:.2f} |")


if __name__ == "__main__":
    main()
