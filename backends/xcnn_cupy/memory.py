"""CuPy's memory: data types by their names, whose pool an array is of, and what is told when there is no more."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import cupy
import numpy as np

from xcnn.core.types import Array
from xcnn.errors import DeviceMemoryError

GIB = 2**30


@contextmanager
def apart() -> Iterator[None]:
    """Take memory from CuPy's own pool: that of a graph which is about to be captured would keep it."""
    with cupy.cuda.using_allocator(cupy.get_default_memory_pool().malloc):
        yield


class Pinned:
    """A buffer on the host that the device reads by itself, so that a copy from it is quick and is not waited for."""

    def __init__(self) -> None:
        self.memory: Any = None
        self.read: Any = None
        """The event of the last copy: until it is done, the buffer must stay as it is."""
        self.lock = threading.Lock()

    def put(self, there: Array, here: np.ndarray[Any, Any]) -> None:
        """Fill a dense array with the host's of the same shape and type, in line on the current stream."""
        with self.lock:
            buffer = self.buffer(here.nbytes)
            if buffer is None:
                there.set(here)
                return
            staged = buffer.view(here.dtype).reshape(here.shape)
            np.copyto(staged, here)
            there.set(staged)
            self.read = cupy.cuda.get_current_stream().record()

    def buffer(self, size: int) -> np.ndarray[Any, Any] | None:
        """So many bytes that nobody reads any more; None where the host can't pin as many."""
        if self.read is not None:
            self.read.synchronize()
        if self.memory is None or self.memory.size() < size:
            self.memory = None
            try:
                self.memory = cupy.cuda.alloc_pinned_memory(size)
            except cupy.cuda.runtime.CUDARuntimeError:
                return None
        return np.frombuffer(self.memory, np.uint8, size)


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
