"""How long plans of cuDNN's and algorithms of cublasLt's take, and whether NaN passes through them: they are run."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any, Protocol

import cupy

from xcnn.core.types import Array, Shape
from xcnn_cupy.cublaslt import Algorithm, Product
from xcnn_cupy.cudnn import Plan, Question
from xcnn_cupy.cudnn.question import cells_that_meet
from xcnn_cupy.device import Graph
from xcnn_cupy.memory import apart, room

RUNS, LAUNCHES = 10, 5
"""Executions of what is timed, in one captured graph, so that the host is not measured; and of that graph."""
WHAT = "the arrays on which plans are tried"


class Runner(Protocol):
    """The device, as far as it is needed here."""

    def empty(self, shape: Shape, dtype: Any, channels_last: bool = False) -> Array:
        """An array whose cells are not set."""
        ...

    def execute(self, plan: Plan, arrays: dict[str, Array]) -> None:
        """Run a plan."""
        ...

    def run(self, algorithm: Algorithm, arrays: dict[str, Array]) -> None:
        """Run an algorithm."""
        ...

    def capture(self, work: Callable[[], None]) -> Graph:
        """Record work."""
        ...


class Timing:
    """What measures on a device. Memory comes from CuPy's own pool, and goes back to it."""

    def __init__(self, device: Runner) -> None:
        self.device = device

    def seconds(self, one: Plan | Algorithm) -> float:
        """The median time, many executions running in a row.

        Raises
        ------
        DeviceMemoryError
            X304
        """
        with apart(), room(WHAT):
            work = self.work(one)

            def runs() -> None:
                for _ in range(RUNS):
                    work()

            graph = self.device.capture(runs)
            middle: float = median(elapsed(graph.launch) for _ in range(LAUNCHES))
        return middle / RUNS

    def glance(self, one: Plan | Algorithm) -> float:
        """The time of one run, after one that loads it; of a small one, that of the host."""
        with apart(), room(WHAT):
            work = self.work(one)
            work()
            return elapsed(work)

    def keeps_nan(self, plan: Plan) -> bool:
        """Whether every cell of y is NaN that NaN went into."""
        with apart(), room(WHAT):
            numbers = {"x": float("nan"), "y": 0.0, "kernel": 1.0, "bias": 1.0}
            arrays = self.images(plan.question, lambda role, shape: cupy.full(shape, numbers[role], cupy.float32))
            self.device.execute(plan, arrays)
            y = arrays["y"].astype(cupy.float32)
            return int(cupy.isnan(y).sum()) >= cells_that_meet(plan.question)

    def work(self, one: Plan | Algorithm) -> Callable[[], None]:
        """What runs it, on noise."""
        if isinstance(one, Algorithm):
            matrices = self.matrices(one.matrices.product)
            return lambda: self.device.run(one, matrices)
        images = self.images(one.question, lambda role, shape: noise(shape))
        return lambda: self.device.execute(one, images)

    def images(self, question: Question, fill: Callable[[str, Shape], Array]) -> dict[str, Array]:
        """Arrays that a question describes, by role; `fill(role, shape)` gives their numbers as float32."""
        shapes = {role: getattr(question, role).shape for role in ("x", "kernel", "y")}
        if question.bias:
            shapes["bias"] = (question.kernel.shape[0],)
        last = question.x.strides[1] == 1
        return {
            role: self.like(fill(role, shape), question.dtype, last and len(shape) == 4)
            for role, shape in shapes.items()
        }

    def matrices(self, product: Product) -> dict[str, Array]:
        """Matrices that a product describes, as they lie in memory."""
        m, k, n = product.rows, product.inner, product.columns
        shapes = {"a": (k, m) if product.a_turned else (m, k), "b": (n, k) if product.b_turned else (k, n), "c": (m, n)}
        return {role: self.like(noise(shape), product.dtype) for role, shape in shapes.items()}

    def like(self, x: Array, dtype: str, channels_last: bool = False) -> Array:
        """A copy in this type and order of memory."""
        made = self.device.empty(x.shape, dtype, channels_last)
        made[...] = x
        return made


def noise(shape: Shape) -> Array:
    """Normal numbers."""
    return cupy.random.standard_normal(shape, cupy.float32)


def elapsed(work: Callable[[], object]) -> float:
    """Seconds of work on the current stream, between two events."""
    start, end = cupy.cuda.Event(), cupy.cuda.Event()
    start.record()
    work()
    end.record()
    end.synchronize()
    seconds: float = cupy.cuda.get_elapsed_time(start, end) / 1e3
    return seconds
