"""Time the NumPy backend's algorithms against each other: python benchmarks/algorithms.py [--json FILE] [--quick].

For each shape, the forward map and its two adjoints together, in float32, the best of several rounds in turn, threads
as they start. docs/performance.md holds a table of it, and the rule that `auto` follows.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

import xcnn
from xcnn import Backend
from xcnn.core.files import write_whole

KERNELS = (3, 5, 7, 9, 11, 15, 21, 31)
CHANNELS = ((1, 1), (1, 16), (3, 16), (16, 16), (64, 64))
SIZES = (28, 64, 128)
BATCHES = (1, 8, 32)
PRODUCTS = 3e10
"""Largest number of multiplications in one map: more would take too long."""


def shapes() -> Iterator[tuple[int, int, int, int, int]]:
    """Batch, channels, filters, image and kernel size."""
    for (c, o), size, n, k in itertools.product(CHANNELS, SIZES, BATCHES, KERNELS):
        if k <= size and n * c * o * (size * k) ** 2 <= PRODUCTS:
            yield n, c, o, size, k


def step(backend: Backend, n: int, c: int, o: int, size: int, k: int) -> Callable[[], None]:
    """All three maps of a "same" convolution."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, c, size, size), dtype="float32")
    kernel = rng.standard_normal((o, c, k, k), dtype="float32")
    dy = rng.standard_normal((n, o, size, size), dtype="float32")
    padding = ((k // 2, k // 2), (k // 2, k // 2))

    def run() -> None:
        backend.correlate(x, kernel, padding=padding)
        backend.correlate_input_adjoint(dy, kernel, x.shape, padding=padding)
        backend.correlate_kernel_adjoint(x, dy, kernel.shape, padding=padding)

    return run


def best(steps: list[Callable[[], None]], seconds: float, clock: Callable[[], float]) -> list[float]:
    """Milliseconds of each, the best of as many rounds as fit, two at least."""
    times: list[list[float]] = [[] for _ in steps]
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[0]) < 2:
        for taken, run in zip(times, steps, strict=True):
            start = clock()
            run()
            taken.append(1e3 * (clock() - start))
    return [min(taken) for taken in times]


def main() -> None:
    """Print a table, and write the numbers as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--algorithms", nargs="+", default=["gemm", "fft", "auto"])
    parser.add_argument("--seconds", type=float, default=0.2, help="for each shape")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="every seventh shape")
    parser.add_argument(
        "--processor", action="store_true", help="processor time: right on a busy machine, of one thread"
    )
    options = parser.parse_args()
    backends = [xcnn.backend("numpy", algorithm=name) for name in options.algorithms]
    clock = time.process_time if options.processor else time.perf_counter
    rows = []
    print("| batch | channels | filters | image | kernel |", " | ".join(options.algorithms), "|")
    print("|---" * (5 + len(backends)) + "|")
    for shape in itertools.islice(shapes(), 0, None, 7 if options.quick else 1):
        times = best([step(backend, *shape) for backend in backends], options.seconds, clock)
        rows.append([*shape, *times])
        print("|", " | ".join([*map(str, shape), *(f"{ms:.3g}" for ms in times)]), "|", flush=True)
    if options.json:
        report = {"columns": ["n", "c", "o", "size", "k", *options.algorithms], "rows": rows}
        write_whole(options.json, json.dumps(report).encode())
        print(options.json, file=sys.stderr)


if __name__ == "__main__":
    main()
