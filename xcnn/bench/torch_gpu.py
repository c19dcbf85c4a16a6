"""PyTorch's side on a GPU: training steps, one by one and captured as CUDA graphs, and correlations, at their best.

The data set lies on the device, and each step gathers its batch there, as ours does. SGD is PyTorch's fused one, the
fastest on a GPU. No step reads its loss: only the last of a call does, which so waits for all of them. torch.compile is
not among the ways.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from xcnn.bench.cases import Call, CorrelationCase, StepCase
from xcnn.bench.torch_side import LAYOUTS, LOSSES, maps, torch, twin
from xcnn.core.types import Weights
from xcnn.errors import MissingDependency
from xcnn.training.state import HostArray

WARM_UP_STEPS = 3
"""Steps before a capture, as PyTorch's manual has it: allocators and cuDNN's choices have settled by then."""


def check_device(device: str) -> None:
    """Raise MissingDependency unless PyTorch sees the device, "cpu" or "cuda:0"."""
    if device != "cpu" and not torch.cuda.is_available():
        raise MissingDependency(
            "X601",
            f"the bench against PyTorch needs one that sees a GPU; PyTorch {torch.__version__} sees none.",
            hint="pip install a build of torch for this driver's CUDA",
        )


@dataclass(frozen=True)
class Way:
    """How PyTorch trains: `benchmark` lets it time cuDNN's plans, `graphed` captures whole steps as CUDA graphs."""

    layout: str
    benchmark: bool = False
    graphed: bool = False

    def __str__(self) -> str:
        kind = "graphed" if self.graphed else "eager"
        return f"{kind} {self.layout}{', benchmark' if self.benchmark else ''}"


WAYS = (
    Way("NCHW"),
    Way("channels_last", benchmark=True),
    Way("NCHW", benchmark=True, graphed=True),
    Way("channels_last", benchmark=True, graphed=True),
)


def ways(device: str) -> list[Way]:
    """Those that a device has: CUDA graphs need CUDA."""
    return [way for way in WAYS if device != "cpu" or not way.graphed]


# The switches.


@contextmanager
def switches(tf32: bool, benchmark: bool) -> Iterator[None]:
    """Whether products of float32 may be rounded to TF32, and whether cuDNN's plans are timed, within the block."""
    cudnn, product = torch.backends.cudnn, torch.backends.cuda.matmul
    places: list[tuple[Any, str, Any]] = [(cudnn, "benchmark", benchmark)]
    if hasattr(product, "fp32_precision"):
        places += [(place, "fp32_precision", "tf32" if tf32 else "ieee") for place in (product, cudnn.conv)]
    else:  # before PyTorch 2.9
        places += [(place, "allow_tf32", tf32) for place in (product, cudnn)]
    before = [getattr(place, name) for place, name, _ in places]
    try:
        for place, name, value in places:
            setattr(place, name, value)
        yield
    finally:
        for (place, name, _), value in zip(places, before, strict=True):
            setattr(place, name, value)


# Training.


class Training:
    """A net's twin, its optimizer and a data set on a device, trained in one of the ways.

    Parameters
    ----------
    weights
        a tree of host arrays, as the twin begins
    x, t
        host arrays of whole batches, in the weights' type
    device
        "cpu", or "cuda:0"
    precision
        "float32", "tf32", "bfloat16", "float16" or "float64"
    """

    case: StepCase
    device: Any
    precision: str
    way: Way
    twin: Any
    images: Any
    targets: Any
    sgd: Any
    scaler: Any
    rows: Any
    at: Any

    def __init__(
        self, case: StepCase, weights: Weights, x: HostArray, t: HostArray, device: str, precision: str, way: Way
    ) -> None:
        self.case, self.device, self.precision, self.way = case, torch.device(device), precision, way
        self.twin = twin(case.net, weights).to(self.device, memory_format=LAYOUTS[way.layout])
        self.images, self.targets = torch.tensor(x, device=self.device), torch.tensor(t, device=self.device)
        if way.layout == "channels_last":  # so that an image is gathered as one row of memory
            self.images = self.images.permute(0, 2, 3, 1).contiguous()
        rates = {"lr": case.optimizer.learning_rate, "momentum": case.optimizer.momentum}
        self.sgd = torch.optim.SGD(self.twin.parameters(), **rates, fused=True)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision == "float16")
        self.rows = torch.arange(len(x), device=self.device).view(-1, case.batch)
        self.at = torch.zeros(1, dtype=torch.int64, device=self.device)
        self.loss: Any = None
        self.replay: Call | None = self.captured() if way.graphed else None

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return len(self.rows)

    def epoch(self) -> float:
        """A step for each batch, in random order; the last one's loss, when all are done."""
        with switches(self.precision == "tf32", self.way.benchmark):
            self.rows.copy_(self.shuffled().view_as(self.rows))
            if self.replay is None:
                for rows in self.rows:
                    self.step(rows)
            else:
                self.at.zero_()
                for _ in range(self.steps):
                    self.replay()
            return float(self.loss.item())

    def shuffled(self) -> Any:
        """The order of an epoch's samples."""
        return torch.randperm(self.rows.numel(), device=self.device)

    def step(self, rows: Any) -> None:
        """Train on the samples of these numbers."""
        images, targets = self.images.index_select(0, rows), self.targets.index_select(0, rows)
        if self.way.layout == "channels_last":
            images = images.permute(0, 3, 1, 2)
        self.sgd.zero_grad(set_to_none=True)
        halves = {"float16": torch.float16, "bfloat16": torch.bfloat16}
        # No weight is used twice in a step, so there is nothing to gain from a cache of their casts.
        how = {"dtype": halves.get(self.precision), "enabled": self.precision in halves, "cache_enabled": False}
        with torch.autocast(self.device.type, **how):
            y = self.twin(images)
        self.loss = LOSSES[self.case.loss](y.to(self.images.dtype), targets)
        self.scaler.scale(self.loss).backward()
        self.scaler.step(self.sgd)
        self.scaler.update()

    def captured(self) -> Call:
        """A call that replays the next step of the epoch."""

        def next_step() -> None:
            rows = self.rows.index_select(0, self.at).view(-1)
            self.at.add_(1)
            self.step(rows)

        with torch.cuda.device(self.device), switches(self.precision == "tf32", self.way.benchmark):
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(WARM_UP_STEPS):
                    self.at.zero_()
                    next_step()
            torch.cuda.current_stream().wait_stream(stream)
            self.sgd.zero_grad(set_to_none=True)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                next_step()
        replay: Call = graph.replay
        return replay


# Correlations.


def correlations(case: CorrelationCase, device: str, precision: str, layout: str, repeats: int) -> dict[str, Call]:
    """Each of the three maps by its name in MAPS: calls that do it so many times, and end when that is done."""
    dtype = torch.float32 if precision == "tf32" else getattr(torch, precision)
    x, k, dy = (
        torch.tensor(array, dtype=dtype, device=device).to(memory_format=LAYOUTS[layout]) for array in case.data()
    )
    return {name: repeated(compute, device, precision, repeats) for name, compute in maps(case, x, k, dy).items()}


def matrix_product(a: HostArray, b: HostArray, device: str, precision: str, repeats: int) -> Call:
    """A call of so many torch.mm."""
    dtype = torch.float32 if precision == "tf32" else getattr(torch, precision)
    first, second = (torch.tensor(array, dtype=dtype, device=device) for array in (a, b))
    return repeated(lambda: torch.mm(first, second), device, precision, repeats)


def repeated(compute: Callable[[], Any], device: str, precision: str, repeats: int) -> Call:
    """A call that computes so many times, and ends when the device has done it."""

    def call() -> None:
        with switches(precision == "tf32", benchmark=True):
            for _ in range(repeats):
                compute()
            if device != "cpu":
                torch.cuda.synchronize(device)

    return call


# Memory.


def release() -> None:
    """Give back what PyTorch's allocator keeps for later, and begin to count its peak anew."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_allocated() -> int:
    """The most bytes of device memory that tensors have held since `release`."""
    return int(torch.cuda.max_memory_allocated())
