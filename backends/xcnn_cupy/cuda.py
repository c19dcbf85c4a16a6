"""One CUDA device through CuPy: the Device that all of this package's code runs on outside of the tests."""

from __future__ import annotations

import atexit
import logging
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import cache, cached_property
from typing import Any

import cupy
import numpy as np

from xcnn.core.types import Array, Shape
from xcnn.errors import BackendUnavailable
from xcnn_cupy import cublaslt
from xcnn_cupy.cublaslt import Algorithm, Algorithms, CublasLtError, Product
from xcnn_cupy.cublaslt.choices import read, written
from xcnn_cupy.cudnn import Handles, Plan, Plans, Present, Question, load
from xcnn_cupy.kernels import OPTIONS, Kernel, source
from xcnn_cupy.kernels.instances import instances
from xcnn_cupy.memory import Pinned, named, room
from xcnn_cupy.pools import Pools
from xcnn_cupy.timing import Timing

POOLS = Pools()
"""Of graphs that are gone."""
log = logging.getLogger("xcnn")


class Cuda:
    """A device by its number. Its calls are made while it is CuPy's current device.

    Parameters
    ----------
    tune
        whether cuDNN's plans are measured and the fastest is taken, else the first that cuDNN proposes
    choices
        the file of the plans that were chosen; what is chosen is added to it when the process ends
    """

    def __init__(self, number: int, tune: bool = False, choices: str | None = None) -> None:
        self.number, self.tune, self.choices = number, tune, choices

    @cached_property
    def processors(self) -> int:
        """Streaming multiprocessors."""
        return int(cupy.cuda.Device(self.number).attributes["MultiProcessorCount"])

    @cached_property
    def name(self) -> str:
        """What choices of plans are kept for: "NVIDIA H100 80GB HBM3, sm_90"."""
        properties = cupy.cuda.runtime.getDeviceProperties(self.number)
        return f"{properties['name'].decode()}, sm_{properties['major']}{properties['minor']}"

    @cached_property
    def timing(self) -> Timing:
        """What measures plans and algorithms."""
        return Timing(self)

    def empty(self, shape: Shape, dtype: Any, channels_last: bool = False) -> Array:
        """An array whose cells are not set.

        Raises
        ------
        DeviceMemoryError
            X304, where the device has no room for it.
        """
        if channels_last:
            n, c, h, w = shape
            return self.empty((n, h, w, c), dtype).transpose(0, 3, 1, 2)
        with room(f"an array {tuple(shape)} of {dtype}"):
            return cupy.empty(shape, named(dtype))

    def address(self, array: Array) -> int:
        """Where the first cell of an array lies."""
        return int(array.data.ptr)

    @cached_property
    def pinned(self) -> Pinned:
        """What is put on the device again and again goes through it."""
        return Pinned()

    def put(self, there: Array, here: np.ndarray[Any, Any], again: bool = False) -> None:
        """Fill a dense array with the host's of the same shape and type, which may be changed when this returns."""
        if again:
            self.pinned.put(there, here)
        else:
            there.set(here)

    def get(self, there: Array) -> np.ndarray[Any, Any]:
        """A copy on the host, when all work before it is done."""
        host: np.ndarray[Any, Any] = cupy.asnumpy(there)
        return host

    def launch(self, kernel: Kernel, blocks: int | Shape, threads: int | Shape, *arguments: Any) -> None:
        """Run a kernel on the current stream."""
        compiled(kernel)(three(blocks), three(threads), kernel.pack(arguments, self.address))

    # cuDNN.

    @cached_property
    def plans(self) -> Plans:
        """The plans of this device.

        Raises
        ------
        BackendUnavailable
            X302, where cuDNN is not installed.
        """
        timed = {"measure": self.timing.seconds, "glance": self.timing.glance} if self.tune else {}
        plans = Plans(load(), Present(self.name, self.handles), **timed, keeps_nan=self.timing.keeps_nan)
        if self.choices is not None:
            plans.load(self.choices)
            atexit.register(self.save, self.choices)
        return plans

    def save(self, path: str) -> None:
        """Write to a file which plans and algorithms were chosen."""
        found = vars(self).get("algorithms")
        self.plans.save(path, {} if found is None else written(found.library.version, found.chosen))

    @cached_property
    def handles(self) -> Handles:
        """CuDNN's handles, one for each host thread."""
        return Handles(load())

    @cached_property
    def has_cudnn(self) -> bool:
        """Whether cuDNN is installed; where it is not, this is logged once."""
        try:
            load()
        except BackendUnavailable as error:
            log.warning("convolutions run as products of matrices: %s %s", error.summary, error.hint)
            return False
        return True

    def has_plan(self, question: Question) -> bool:
        """Whether cuDNN answers a question."""
        return self.has_cudnn and self.plans.answers(question)

    def workspace(self, question: Question) -> int:
        """Bytes that its plan takes beside the arrays."""
        return self.plans.plan(question).workspace

    def convolve(self, question: Question, x: Array, kernel: Array, y: Array, bias: Array | None = None) -> None:
        """Let cuDNN compute one of the three from the others, on the current stream."""
        arrays = {"x": x, "kernel": kernel, "y": y} | ({} if bias is None else {"bias": bias})
        self.execute(self.plans.plan(question), arrays)

    def execute(self, plan: Plan, arrays: dict[str, Array]) -> None:
        """Run a plan, with a workspace that is given back at once: what follows on the stream may have it."""
        addresses = {role: self.address(array) for role, array in arrays.items()}
        scratch = self.empty((plan.workspace,), "uint8") if plan.workspace else None
        handle = self.handles.handle().on(cupy.cuda.get_current_stream().ptr)
        plan.execute(handle, addresses, 0 if scratch is None else self.address(scratch))

    # cublasLt.

    @cached_property
    def algorithms(self) -> Algorithms:
        """The algorithms of this device for products of matrices.

        Raises
        ------
        BackendUnavailable
            X302, where cublasLt is not installed.
        """
        timed = {"measure": self.timing.seconds, "glance": self.timing.glance} if self.tune else {}
        algorithms = Algorithms(cublaslt.Handle(cublaslt.load(release())), **timed)
        if self.choices is not None:
            algorithms.take(read(self.choices, algorithms.library.version, self.name))
        return algorithms

    @cached_property
    def has_cublaslt(self) -> bool:
        """Whether cublasLt is installed, and takes this device; where it does not, this is logged once."""
        try:
            self.algorithms  # noqa: B018 - it is made when it is asked for
        except (BackendUnavailable, CublasLtError) as error:
            log.warning("dense layers run as convolutions: %s %s", error.summary, error.hint)
            return False
        return True

    def has_product(self, product: Product) -> bool:
        """Whether cublasLt computes a product."""
        return self.has_cublaslt and self.algorithms.answers(product)

    def multiply(self, product: Product, a: Array, b: Array, c: Array) -> None:
        """Let cublasLt compute C = A B, on the current stream."""
        self.run(self.algorithms.answer(product), {"a": a, "b": b, "c": c})

    def prefers(self, product: Product, question: Question) -> bool:
        """Whether cublasLt is at least as fast as cuDNN's plan, where that is measured; else its guess is trusted."""
        if not self.tune:
            return True
        seconds = self.timing.seconds
        return self.algorithms.taken(product, lambda found: seconds(found) <= seconds(self.plans.plan(question)))

    def run(self, algorithm: Algorithm, arrays: dict[str, Array]) -> None:
        """Run an algorithm, with a workspace that is given back at once."""
        scratch = self.empty((algorithm.workspace,), "uint8") if algorithm.workspace else None
        addresses = {role: self.address(array) for role, array in arrays.items()}
        stream = cupy.cuda.get_current_stream().ptr
        algorithm.execute(stream, addresses, 0 if scratch is None else self.address(scratch))

    # Memory and graphs.

    def free_memory(self) -> int:
        """Bytes that could still be allocated."""
        free: int = cupy.cuda.runtime.memGetInfo()[0]
        return free + int(cupy.get_default_memory_pool().free_bytes())

    def capture(self, work: Callable[[], None]) -> Graph:
        """Run work twice, so that all that it needs is compiled and chosen, then record it instead of running it.

        What the recorded work allocates stays where it is as long as the graph lives. The runs before may make graphs
        of their own, to measure plans: what these took is free again as soon as they are dropped.
        """
        stream, pool = cupy.cuda.Stream(non_blocking=True), cupy.cuda.MemoryPool()
        cupy.cuda.get_current_stream().synchronize()
        try:
            with stream, cupy.cuda.using_allocator(pool.malloc):
                for _ in range(2):
                    work()
                stream.synchronize()
                with POOLS.held():
                    recorded = recording_of(work, stream)
        except BaseException:
            POOLS.give_back(pool)
            raise
        return Graph(recorded, stream, pool)


def recording_of(work: Callable[[], None], stream: Any) -> Any:
    """CuPy's graph of what work puts in line on its current stream."""
    stream.begin_capture()
    try:
        work()
    except BaseException:
        with suppress(Exception):  # of which there is one more, since the recording is not whole
            stream.end_capture()
        raise
    return stream.end_capture()


class Graph:
    """Recorded work, to be done again as often as wanted, one after the other. Its memory goes with it."""

    def __init__(self, recorded: Any, stream: Any, pool: Any) -> None:
        self.recorded, self.stream, self.pool = recorded, stream, pool
        weakref.finalize(self, POOLS.give_back, pool).atexit = False

    def launch(self) -> None:
        """Do the work, in line with what was given to this graph and to the current stream before."""
        self.recorded.launch(cupy.cuda.get_current_stream())


@cache
def compiled(kernel: Kernel) -> Any:
    """A kernel ready to be launched, on any device."""
    return module(kernel.file).get_function(kernel.expression)


@cache
def module(file: str) -> Any:
    """The compiled kernels of a file; CuPy keeps what it compiled for the next process."""
    expressions = tuple(kernel.expression for kernel in instances(file))
    return cupy.RawModule(code=source(file), options=OPTIONS, name_expressions=expressions)


def three(size: int | Shape) -> tuple[int, ...]:
    """A size of a grid or block as CuPy takes it."""
    return size if isinstance(size, tuple) else (size,)


@cache
def release() -> int:
    """The CUDA that CuPy was built for, 12 or 13."""
    return int(cupy.cuda.runtime.runtimeGetVersion()) // 1000
