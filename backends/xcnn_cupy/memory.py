"""CuPy's memory: data types by their names, whose pool an array is of, and what is told when there is no more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import cupy
import numpy as np

from xcnn.errors import DeviceMemoryError

GIB = 2**30


@contextmanager
def apart() -> Iterator[None]:
    """Take memory from CuPy's own pool: that of a graph which is about to be captured would keep it."""
    with cupy.cuda.using_allocator(cupy.get_default_memory_pool().malloc):
        yield


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
