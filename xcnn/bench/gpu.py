"""Steps and correlations on a GPU, ours and PyTorch's in turns: steps one by one, and captured as CUDA graphs.

A GPU works through what it was given while the host goes on. So a call here does as many steps, or correlations, as
take some milliseconds together, and ends when the device has done them all; what counts is its time divided by their
number. Whole steps are timed as `Model.fit` takes them: epochs over a data set, which lies on the device where steps
are captured.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from xcnn.backends.contract import Backend
from xcnn.backends.selector import backend as make_backend
from xcnn.bench.cases import MAPS, Call, CorrelationCase, StepCase, maps
from xcnn.bench.comparison import Result, computing, has_option
from xcnn.bench.timing import ON_GPU, Times, alternate
from xcnn.core import tree
from xcnn.core.types import Array, Shape
from xcnn.data.source import Arrays
from xcnn.model.model import Model
from xcnn.model.summary import count
from xcnn.training.loop import Way, epoch
from xcnn.training.precision import Precision
from xcnn.training.state import HostArray

DATA_BYTES = 2**27
"""Of a data set, about."""
FEWEST_STEPS, MOST_STEPS = 4, 256
"""Of its epochs."""
EAGER_STEPS = 32
"""Of its epochs where steps are taken one by one, which takes longer."""
REPEATS = 20
"""Correlations that a call does."""
SIDE, PRODUCTS, TILE = 8192, 4, 2**20
"""Rows and columns of the matrix product that is the ceiling, products of a call, and numbers that are drawn."""
LAYOUTS = ("NCHW", "channels_last")
STRICT = ("float32", "float64")
"""Precisions without tensor cores, for which images lie as they are indexed."""


def captures(backend: Backend) -> bool:
    """Whether a backend captures training steps as graphs on a GPU, and so is timed as this module does it."""
    by_graphs = {"torch": torch_device(backend).startswith("cuda"), "jaxlib": False}
    return has_option(backend, "compiles") and by_graphs.get(backend.library, True)


def torch_device(backend: Backend) -> str:
    """What PyTorch calls the device of a backend."""
    if backend.library == "torch":
        return backend.device or "cpu"
    return f"cuda:{backend.device or 0}" if backend.library == "cupy" else "cpu"


# What was measured.


@dataclass(frozen=True)
class Side:
    """One way to do the work: a call of so many steps, or other equal pieces, that ends when they are done.

    `not_captured` tells, when steps were taken, why they were not captured; it gives "" if they were.
    """

    call: Call
    pieces: int
    not_captured: Callable[[], str] = str


@dataclass(frozen=True)
class GpuResult(Result):
    """The fastest way of each side, which are named in `our_way` and `way`, and all ways.

    Parameters
    ----------
    ours_by_way, theirs_by_way
        the times of each, by its name
    failed
        why a way of PyTorch's could not be timed, by its name
    not_captured
        why our steps were not captured; empty if they were
    memory
        bytes of device memory that training took, the data set included, by "xcnn" and "torch"
    """

    our_way: str
    ours_by_way: Mapping[str, Times]
    theirs_by_way: Mapping[str, Times]
    failed: Mapping[str, str]
    not_captured: str = ""
    memory: Mapping[str, int] | None = None

    def ratio_to(self, kind: str) -> float | None:
        """The median of PyTorch's fastest "eager" or "graphed" way by that of our fastest way."""
        medians = [times.median for way, times in self.theirs_by_way.items() if way.startswith(kind)]
        return min(medians) / self.ours.median if medians else None

    def to_dict(self, ceiling: float) -> dict[str, Any]:
        sides = {"xcnn": self.ours_by_way, "torch": self.theirs_by_way}
        return {
            **super().to_dict(ceiling),
            "ours": {**self.ours.to_dict(), "way": self.our_way},
            "ratio_to_eager": self.ratio_to("eager"),
            "ratio_to_graphed": self.ratio_to("graphed"),
            "ways": {side: {way: times.to_dict() for way, times in ways.items()} for side, ways in sides.items()},
            "failed": dict(self.failed),
            "not_captured": self.not_captured,
            "memory_bytes": self.memory,
        }


def compare(
    ours: Mapping[str, Side], theirs: Mapping[str, Side], failed: Mapping[str, str], flop: int, seconds: float
) -> GpuResult:
    """Time all ways of both sides in turns, for about so many seconds in all."""
    sides = [*ours.values(), *theirs.values()]
    taken = alternate([side.call for side in sides], seconds, ON_GPU)
    each = [times.of_each(side.pieces) for side, times in zip(sides, taken, strict=True)]
    ours_by_way, theirs_by_way = dict(zip(ours, each, strict=False)), dict(zip(theirs, each[len(ours) :], strict=True))
    our_way, way = fastest(ours_by_way), fastest(theirs_by_way) if theirs else ""
    best = theirs_by_way.get(way)
    return GpuResult(ours_by_way[our_way], best, way, flop, our_way, ours_by_way, theirs_by_way, failed)


def fastest(ways: Mapping[str, Times]) -> str:
    """The way with the least median."""
    return min(ways, key=lambda way: ways[way].median)


def tried(makers: Mapping[str, Callable[[], Side]]) -> tuple[dict[str, Side], dict[str, str]]:
    """PyTorch's ways that do their first call, and why the others do not: one that fails must not end the bench."""
    sides, failed = {}, {}
    for name, make in makers.items():
        try:
            side = make()
            side.call()
            sides[name] = side
        except Exception as error:
            failed[name] = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return sides, failed


# Steps.


def compare_steps(
    case: StepCase, backend: Backend, against_torch: bool, seconds: float, precision: str | None = None
) -> tuple[GpuResult, int]:
    """Time training steps; the result, and how many parameters the net has."""
    model = case.model(backend, precision)
    data = data_set(case, model)
    ours = our_ways(case, backend, precision, *data)
    theirs = rivals(case, model, backend, *data) if against_torch else {}
    result = timed_steps(ours, theirs, case.flop, seconds)
    return replace(result, memory=memory(backend, ours, theirs, result)), count(model.weights)


def our_ways(
    case: StepCase, backend: Backend, precision: str | None, x: HostArray, t: HostArray
) -> dict[str, Callable[[], Side]]:
    """Makers of our ways, by their names."""
    ways: dict[str, Callable[[], Side]] = {"captured": partial(epochs, case, backend, precision, x, t)}
    for name, tuned in tuned_too(backend).items():
        ways[f"captured, {name}"] = partial(epochs, case, tuned, precision, x, t)
    one_by_one = make_backend(backend, compiles=False)
    return ways | {"eager": partial(epochs, case, one_by_one, precision, *first(case, x, t))}


def tuned_too(backend: Backend) -> dict[str, Backend]:
    """The backend with plans that are chosen by time, as PyTorch's benchmark has it, where that is an option."""
    return {"tuned": make_backend(backend, tune=True)} if has_option(backend, "tune") else {}


def timed_steps(
    ours: Mapping[str, Callable[[], Side]], theirs: Mapping[str, Callable[[], Side]], flop: int, seconds: float
) -> GpuResult:
    """Make all ways of both sides, time them, and let them go."""
    made = {way: make() for way, make in ours.items()}
    result = compare(made, *tried(theirs), flop, seconds)
    return replace(result, not_captured=made["captured"].not_captured())


def data_set(case: StepCase, model: Model) -> tuple[HostArray, HostArray]:
    """Noise for an epoch of some milliseconds."""
    batch_bytes = case.batch * int(np.prod(case.input_shape)) * np.dtype(model.dtype).itemsize
    steps = min(max(DATA_BYTES // batch_bytes, FEWEST_STEPS), MOST_STEPS)
    return case.data(*model.output_shape, batches=steps, dtype=model.dtype)


def first(case: StepCase, x: HostArray, t: HostArray) -> tuple[HostArray, HostArray]:
    """As much of a data set as steps that are taken one by one are timed on."""
    samples = EAGER_STEPS * case.batch
    return x[:samples], t[:samples]


def epochs(case: StepCase, backend: Backend, precision: str | None, x: HostArray, t: HostArray) -> Side:
    """What `Model.fit` does for an epoch."""
    model = case.model(backend, precision)

    def call() -> None:
        for state in epoch(model.trainer, model.state, Arrays(x, t), Way(case.batch), None):
            model.state = state

    return Side(call, len(x) // case.batch, lambda: getattr(model.compiled_step, "reason", ""))


def rivals(case: StepCase, model: Model, backend: Backend, x: HostArray, t: HostArray) -> dict[str, Callable[[], Side]]:
    """Makers of PyTorch's ways, by their names."""
    from xcnn.bench import torch_gpu

    device, weights = torch_device(backend), tree.map(backend.to_numpy, model.weights)
    torch_gpu.check_device(device)

    def make(way: torch_gpu.Way) -> Side:
        data = (x, t) if way.graphed else first(case, x, t)
        trained = torch_gpu.Training(case, weights, *data, device, model.precision, way)
        return Side(trained.epoch, trained.steps)

    return {str(way): partial(make, way) for way in torch_gpu.ways(device)}


# Correlations.


def compare_correlations(
    case: CorrelationCase, backend: Backend, against_torch: bool, seconds: float, precision: str | None = None
) -> dict[str, GpuResult]:
    """Time the three maps, by their names in MAPS, for about so many seconds in all.

    Our arrays lie in memory as nets hand them from layer to layer, PyTorch's in either order.
    """
    under, policy = computing(backend, precision)
    layout = "NCHW" if policy.name in STRICT else "channels_last"
    ours = {layout: our_correlations(case, under, policy, layout)}
    for name, tuned in tuned_too(under).items():
        ours[f"{layout}, {name}"] = our_correlations(case, tuned, policy, layout)
    theirs: dict[str, Mapping[str, Call]] = {}
    if against_torch:
        from xcnn.bench import torch_gpu

        device = torch_device(backend)
        torch_gpu.check_device(device)
        theirs = {way: torch_gpu.correlations(case, device, policy.name, way, REPEATS) for way in LAYOUTS}

    def of(name: str, ways: Mapping[str, Mapping[str, Call]]) -> dict[str, Side]:
        return {way: Side(calls[name], REPEATS) for way, calls in ways.items()}

    return {name: compare(of(name, ours), of(name, theirs), {}, case.flop, seconds / len(MAPS)) for name in MAPS}


def our_correlations(case: CorrelationCase, backend: Backend, policy: Precision, layout: str) -> dict[str, Call]:
    """Each of the three maps by its name in MAPS: calls that do it REPEATS times."""
    x, k, dy = (laid_out(backend, array, policy.compute, layout) for array in case.data())
    return {name: repeated(backend, compute, REPEATS) for name, compute in maps(case, backend, x, k, dy).items()}


def laid_out(backend: Backend, array: HostArray, dtype: str, layout: str) -> Array:
    """A host array on the device, in the type that is computed in, its cells in this order of memory."""
    with backend.active():
        if layout == "NCHW":
            return backend.astype(backend.asarray(array), dtype)
        rows = backend.asarray(np.ascontiguousarray(array.transpose(0, 2, 3, 1)))
        return backend.astype(backend.xp.permute_dims(rows, (0, 3, 1, 2)), dtype)


def repeated(backend: Backend, compute: Call, repeats: int) -> Call:
    """A call that computes so many times, and ends when the device has done it."""

    def call() -> None:
        with backend.active():
            for _ in range(repeats):
                compute()
        backend.synchronize()

    return call


# The ceiling.


def ceilings(backend: Backend, against_torch: bool, seconds: float, precision: str | None = None) -> dict[str, float]:
    """GFLOP/s of a large matrix product in this precision, the best call of each, by library.

    Ours is a convolution of images of one cell, which is a matrix product, by the library that does all others.
    """
    under, policy = computing(backend, precision)
    case = CorrelationCase(SIDE, SIDE, 1, SIDE, 1)
    x, k = tiled_noise(case.x_shape), tiled_noise(case.k_shape)
    there = (laid_out(under, array, policy.compute, "NCHW") for array in (x, k))
    sides = {backend.library or backend.name: repeated(under, partial(under.correlate, *there), PRODUCTS)}
    if against_torch:
        from xcnn.bench import torch_gpu

        device = torch_device(backend)
        torch_gpu.check_device(device)
        sides["torch"] = torch_gpu.matrix_product(x[:, :, 0, 0], k[:, :, 0, 0].T, device, policy.name, PRODUCTS)
    taken = alternate(list(sides.values()), seconds, ON_GPU)
    return {name: PRODUCTS * case.flop / times.best / 1e9 for name, times in zip(sides, taken, strict=True)}


def tiled_noise(shape: Shape) -> HostArray:
    """Noise that repeats itself: to draw as much as a large matrix holds takes longer than what it is timed for."""
    return np.resize(np.random.default_rng(0).standard_normal(TILE, dtype="float32"), shape)


# Memory.


def memory(
    backend: Backend,
    ours: Mapping[str, Callable[[], Side]],
    theirs: Mapping[str, Callable[[], Side]],
    result: GpuResult,
) -> dict[str, int] | None:
    """Bytes that the fastest way of each side takes of the device, the data set included; None off CUDA.

    Each is made anew, when kernels and plans that either side keeps have been loaded, so that only its arrays and what
    its allocator keeps count. PyTorch's tensors alone are told too: its allocator may keep what the choice of plans
    took.
    """
    if backend.library != "cupy":
        return None
    found = {"xcnn": taken_by(backend, ours[result.our_way])}
    if result.way:
        from xcnn.bench import torch_gpu

        found["torch"] = taken_by(backend, theirs[result.way])
        found["torch_tensors"] = torch_gpu.peak_allocated()
    return found


def release(backend: Backend) -> None:
    """Let the allocators of both sides give back what they keep for later."""
    gc.collect()
    backend.synchronize()
    import_module("cupy").get_default_memory_pool().free_all_blocks()
    if "xcnn.bench.torch_gpu" in sys.modules:
        sys.modules["xcnn.bench.torch_gpu"].release()


def taken_by(backend: Backend, make: Callable[[], Side]) -> int:
    """Bytes that the device has less when a side was made and has run twice, by when allocators keep nothing."""
    runtime = import_module("cupy").cuda.runtime
    with backend.active():
        release(backend)
        before, _ = runtime.memGetInfo()
        side = make()
        side.call()
        side.call()
        backend.synchronize()
        after, _ = runtime.memGetInfo()
    return int(before - after)
