"""One CUDA device through CuPy: the Device that all of this package's code runs on outside of the tests."""

from __future__ import annotations

import atexit
import logging
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, cached_property
from statistics import median
from typing import Any

import cupy
import numpy as np

from xcnn.core.types import Array, Shape
from xcnn.errors import BackendUnavailable, DeviceMemoryError
from xcnn_cupy.cudnn import Handles, Plan, Plans, Present, Question, load
from xcnn_cupy.kernels import OPTIONS, Kernel, source
from xcnn_cupy.kernels.instances import instances
from xcnn_cupy.pools import Pools

GIB = 2**30
RUNS, LAUNCHES = 10, 5
"""Executions of a plan that is timed, in one captured graph, so that the host is not measured; and of that graph."""
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

    def put(self, there: Array, here: np.ndarray[Any, Any]) -> None:
        """Fill a dense array with the host's of the same shape and type."""
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
        properties, library = cupy.cuda.runtime.getDeviceProperties(self.number), load()
        name = f"{properties['name'].decode()}, sm_{properties['major']}{properties['minor']}"
        timed = {"measure": self.seconds, "glance": self.glance} if self.tune else {}
        plans = Plans(library, Present(name, self.handles), **timed)
        if self.choices is not None:
            plans.load(self.choices)
            atexit.register(plans.save, self.choices)
        return plans

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

    def seconds(self, plan: Plan) -> float:
        """The median time of a plan, on arrays of its own, many of them running in a row."""
        with apart():
            arrays = self.noise(plan.question)

            def runs() -> None:
                for _ in range(RUNS):
                    self.execute(plan, arrays)

            graph = self.capture(runs)
            middle: float = median(elapsed(graph.launch) for _ in range(LAUNCHES))
        return middle / RUNS

    def glance(self, plan: Plan) -> float:
        """The time of one run of a plan, after one that loads it; of a small one, that of the host."""
        with apart():
            arrays = self.noise(plan.question)
            self.execute(plan, arrays)
            return elapsed(lambda: self.execute(plan, arrays))

    def noise(self, question: Question) -> dict[str, Array]:
        """Arrays that a question describes, by role.

        Raises
        ------
        DeviceMemoryError
            X304
        """
        shapes = {role: getattr(question, role).shape for role in ("x", "kernel", "y")}
        if question.bias:
            shapes["bias"] = (question.kernel.shape[0],)
        last = question.x.strides[1] == 1
        with room("the arrays on which cuDNN's plans are timed"):
            drawn = {role: cupy.random.standard_normal(shape, cupy.float32) for role, shape in shapes.items()}
            return {role: self.like(x, question.dtype, last) for role, x in drawn.items()}

    def like(self, x: Array, dtype: str, channels_last: bool) -> Array:
        """A copy in this type and order of memory."""
        made = self.empty(x.shape, dtype, channels_last and x.ndim == 4)
        made[...] = x
        return made

    # Memory and graphs.

    def free_memory(self) -> int:
        """Bytes that could still be allocated."""
        free: int = cupy.cuda.runtime.memGetInfo()[0]
        return free + int(cupy.get_default_memory_pool().free_bytes())

    def capture(self, work: Callable[[], None]) -> Graph:
        """Run work twice, so that all that it needs is compiled and chosen, then record it instead of running it.

        What the recorded work allocates stays where it is as long as the graph lives.
        """
        stream, pool = cupy.cuda.Stream(non_blocking=True), cupy.cuda.MemoryPool()
        cupy.cuda.get_current_stream().synchronize()
        with POOLS.held(), stream, cupy.cuda.using_allocator(pool.malloc):
            for _ in range(2):
                work()
            stream.synchronize()
            stream.begin_capture()
            try:
                work()
            except BaseException:
                with suppress(Exception):  # of which there is one more, since the recording is not whole
                    stream.end_capture()
                POOLS.give_back(pool)
                raise
            recorded = stream.end_capture()
        return Graph(recorded, stream, pool)


class Graph:
    """Recorded work, to be done again as often as wanted, one after the other. Its memory goes with it."""

    def __init__(self, recorded: Any, stream: Any, pool: Any) -> None:
        self.recorded, self.stream, self.pool = recorded, stream, pool
        weakref.finalize(self, POOLS.give_back, pool).atexit = False

    def launch(self) -> None:
        """Do the work, in line with what was given to this graph and to the current stream before."""
        self.recorded.launch(cupy.cuda.get_current_stream())


@contextmanager
def apart() -> Iterator[None]:
    """Take memory from CuPy's own pool: that of a graph which is about to be captured would keep it."""
    with cupy.cuda.using_allocator(cupy.get_default_memory_pool().malloc):
        yield


def elapsed(work: Callable[[], object]) -> float:
    """Seconds of work on the current stream, between two events."""
    start, end = cupy.cuda.Event(), cupy.cuda.Event()
    start.record()
    work()
    end.record()
    end.synchronize()
    seconds: float = cupy.cuda.get_elapsed_time(start, end) / 1e3
    return seconds


@cache
def compiled(kernel: Kernel) -> Any:
    """A kernel ready to be launched, on any device."""
    return module(kernel.file).get_function(kernel.expression)


@cache
def module(file: str) -> Any:
    """The compiled kernels of a file; CuPy keeps what it compiled for the next process."""
    expressions = tuple(kernel.expression for kernel in instances(file))
    return cupy.RawModule(code=source(file), options=OPTIONS, name_expressions=expressions)


@contextmanager
def room(what: str) -> Iterator[None]:
    """Say what asked for how much where memory runs out in this block."""
    try:
        yield
    except cupy.cuda.memory.OutOfMemoryError as error:
        raise out_of_memory(what, error) from error


def out_of_memory(what: str, error: BaseException) -> DeviceMemoryError:
    """The error for memory that is not there."""
    free, total = cupy.cuda.runtime.memGetInfo()
    pool = cupy.get_default_memory_pool()
    return DeviceMemoryError(
        "X304",
        f"the device has no memory left for {what}.",
        " ".join(str(error).split()),
        f"{pool.used_bytes() / GIB:.2f} GiB are in use by arrays, {free / GIB:.2f} of {total / GIB:.2f} GiB are free",
        hint='try a smaller batch_size, or precision="bfloat16", which halves the memory of a step.',
    )


@cache
def named(dtype: Any) -> Any:
    """A data type by its name, bfloat16 too, which NumPy has from ml_dtypes."""
    if str(dtype) != "bfloat16":
        return np.dtype(dtype)
    import ml_dtypes

    return np.dtype(ml_dtypes.bfloat16)


def three(size: int | Shape) -> tuple[int, ...]:
    """A size of a grid or block as CuPy takes it."""
    return size if isinstance(size, tuple) else (size,)
