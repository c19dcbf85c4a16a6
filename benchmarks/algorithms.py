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
from collections.abc import Iterator
from pathlib import Path

import xcnn
from xcnn import Backend
from xcnn.bench.cases import Call, CorrelationCase, correlation_calls
from xcnn.bench.timing import Pace, alternate
from xcnn.core.files import write_whole

KERNELS = (3, 5, 7, 9, 11, 15, 21, 31)
CHANNELS = ((1, 1), (1, 16), (3, 16), (16, 16), (64, 64))
SIZES = (28, 64, 128)
BATCHES = (1, 8, 32)
PRODUCTS = 3e10
"""Largest number of multiplications in one map: more would take too long."""
SHORT = Pace(warm_up=0.01, turn=0.02, settle=0.0)
"""There are many shapes."""


def shapes() -> Iterator[CorrelationCase]:
    """Convolutions that keep the image's size."""
    for (c, o), size, n, k in itertools.product(CHANNELS, SIZES, BATCHES, KERNELS):
        if k <= size and n * c * o * (size * k) ** 2 <= PRODUCTS:
            yield CorrelationCase(n, c, size, o, k, padding=k // 2)


def step(backend: Backend, case: CorrelationCase) -> Call:
    """All three maps."""
    calls = correlation_calls(case, backend).values()
    return lambda: [call() for call in calls]


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
    for case in itertools.islice(shapes(), 0, None, 7 if options.quick else 1):
        times = alternate([step(backend, case) for backend in backends], options.seconds, SHORT, clock)
        shape = case.batch, case.channels, case.filters, case.size, case.kernel
        rows.append([*shape, *(1e3 * taken.best for taken in times)])
        print("|", " | ".join([*map(str, shape), *(f"{1e3 * taken.best:.3g}" for taken in times)]), "|", flush=True)
    if options.json:
        text = json.dumps({"columns": ["n", "c", "o", "size", "k", *options.algorithms], "rows": rows})
        write_whole(options.json, text.encode())
        print(options.json, file=sys.stderr)


if __name__ == "__main__":
    main()
