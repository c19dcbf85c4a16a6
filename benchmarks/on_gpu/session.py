"""What the parts are given, and what a part is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xcnn
from xcnn.bench import gpu

NETS = ("lenet:64", "mnist-net:64", "resnet18:64", "lenet:128", "mnist-net:256", "small-resnet:64")
"""What must be known first: the time may not suffice for all."""
HALVES = ("bfloat16", "float16")
PRECISIONS = ("float32", "tf32", *HALVES)


@dataclass
class Session:
    """What the parts are given.

    Parameters
    ----------
    backend
        that is examined
    against
        what its nets are compared with
    seconds
        to time each of PyTorch's and our steps, beside what their warm-ups take
    nets
        whose steps are timed, as NAME:BATCH
    """

    backend: str | xcnn.Backend = "cupy"
    against: str | xcnn.Backend = "numpy"
    data_dir: Path | None = None
    seconds: float = 0.5
    nets: tuple[str, ...] = NETS
    ceilings: dict[str, dict[str, float]] = field(default_factory=dict)
    definitions: dict[str, Any] = field(default_factory=dict)

    def made(self, **options: Any) -> xcnn.Backend:
        """The backend with these options."""
        return xcnn.backend(self.backend, **options)

    def reference(self) -> xcnn.Backend:
        """What nets are compared with: products of matrices on the host, of which nothing is fused or compiled."""
        return xcnn.backend(self.against, algorithm="gemm", fuse=False)

    def ceiling(self, precision: str) -> dict[str, float]:
        """GFLOP/s of a large matrix product by both libraries, measured once."""
        if precision not in self.ceilings:
            self.ceilings[precision] = gpu.ceilings(self.made(), True, 0.1, precision)
        return self.ceilings[precision]


@dataclass(frozen=True)
class Task:
    """A piece of a part: its name, and what it finds, as plain values."""

    name: str
    find: Callable[[], Any]


Part = Callable[[Session], Iterator[Task]]
