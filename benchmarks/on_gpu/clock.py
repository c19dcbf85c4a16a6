"""Microseconds of work on the device: many pieces of it in one captured graph, so that the host is not measured."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

PIECES, LAUNCHES = 20, 5


def microseconds(backend: Any, work: Callable[[int], object], pieces: int = PIECES) -> float:
    """Of `work(n)` for the n-th of so many pieces: the median of launches of their graph, by their number."""

    def all_of_it() -> None:
        for n in range(pieces):
            work(n)

    with backend.active():
        graph = backend.gpu.capture(all_of_it)
        taken = []
        for _ in range(1 + LAUNCHES):
            backend.synchronize()
            begun = time.perf_counter()
            graph.launch()
            backend.synchronize()
            taken.append(time.perf_counter() - begun)
    return 1e6 * median(taken[1:]) / pieces


def torch_microseconds(torch: Any, work: Callable[[], object]) -> float:
    """The same of PyTorch's work."""
    beside = torch.cuda.Stream()
    with torch.cuda.stream(beside):
        work()
    beside.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="relaxed"):
        for _ in range(PIECES):
            work()
    taken = []
    for _ in range(1 + LAUNCHES):
        torch.cuda.synchronize()
        begun = time.perf_counter()
        graph.replay()
        torch.cuda.synchronize()
        taken.append(time.perf_counter() - begun)
    return 1e6 * median(taken[1:]) / PIECES
