"""A GPU as this package's code sees it: memory, launches of its own kernels, cuDNN's convolutions, cublasLt's products.

What computes is written against this protocol, so that it runs on CUDA through CuPy (cuda.py), and in the tests on the
host: there the same kernels are compiled as C++, and the reference answers for cuDNN and cublasLt.

Images (N, C, H, W) lie in memory in one of two orders: as they are indexed, or with the channels last, (N, H, W, C),
which tensor cores want. Their shape is the same in both; their strides tell.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, Protocol

import numpy as np

from xcnn.core.types import Array, Shape
from xcnn_cupy.cublaslt.product import Product
from xcnn_cupy.cudnn.question import Question
from xcnn_cupy.kernels import Kernel

THREADS = 256
"""Of a block, where a kernel does not ask for another number."""
MOST_CELLS = 2**31 - 2**16
"""Of an array that kernels count with 32 bits."""
MOST_AXES = 4
"""Of an array whose strides kernels follow."""


class Device(Protocol):
    """Where kernels run. All work is put in line, on one stream; only `get` waits for it."""

    @property
    def processors(self) -> int:
        """How many blocks run truly at once, at least."""
        ...

    def empty(self, shape: Shape, dtype: Any, channels_last: bool = False) -> Array:
        """An array whose cells are not set."""
        ...

    def address(self, array: Array) -> int:
        """Where the first cell of an array lies."""
        ...

    def put(self, there: Array, here: np.ndarray[Any, Any], again: bool = False) -> None:
        """Fill a dense array of the device's with the host's of the same shape and type.

        `again` says that as much will be put there many times: memory of the host may be kept for it.
        """
        ...

    def get(self, there: Array) -> np.ndarray[Any, Any]:
        """A copy on the host. This alone waits for all work before it."""
        ...

    def launch(self, kernel: Kernel, blocks: int | Shape, threads: int | Shape, *arguments: Any) -> None:
        """Run a kernel: arrays are passed by address, numbers as the kernel's signature has them."""
        ...

    def has_plan(self, question: Question) -> bool:
        """Whether cuDNN answers a question."""
        ...

    def workspace(self, question: Question) -> int:
        """Bytes that the plan for a question takes beside the arrays."""
        ...

    def convolve(self, question: Question, x: Array, kernel: Array, y: Array, bias: Array | None = None) -> None:
        """Compute one of x, kernel and y, which the question tells, from the others, all as it describes them.

        Raises
        ------
        BackendError
            X305, where cuDNN has no plan.
        """
        ...

    def has_product(self, product: Product) -> bool:
        """Whether cublasLt computes a product."""
        ...

    def multiply(self, product: Product, a: Array, b: Array, c: Array) -> None:
        """C = A B, all as the product describes them.

        Raises
        ------
        BackendError
            X305, where cublasLt has no algorithm.
        """
        ...

    def prefers(self, product: Product, question: Question) -> bool:
        """Whether cublasLt rather than cuDNN computes what both can: as it was measured, or in any case."""
        ...

    def free_memory(self) -> int:
        """Bytes that could still be allocated."""
        ...

    def capture(self, work: Callable[[], None]) -> Graph:
        """Run work twice, so that all that it needs is compiled and chosen, then record what it puts in line."""
        ...


class Graph(Protocol):
    """Recorded work; the memory that it uses is kept as long as it is."""

    def launch(self) -> None:
        """Put it in line once more."""
        ...


def blocks_for(device: Device, cells: int, threads: int = THREADS) -> int:
    """How many blocks for kernels that go through `cells` in strides of the whole grid."""
    return max(1, min(-(-cells // threads), 16 * device.processors))


def is_channels_last(x: Array) -> bool:
    """Whether images lie (N, H, W, C) in memory, and not also as they are indexed."""
    return x.ndim == 4 and not is_in_order(x, range(4)) and is_in_order(x, (0, 2, 3, 1))


def is_dense(x: Array) -> bool:
    """Whether an array lies in memory without gaps, as it is indexed or with the channels last."""
    return is_in_order(x, range(x.ndim)) or is_channels_last(x)


def is_in_order(x: Array, axes: Any) -> bool:
    """Whether walking the axes in this order, the last one fastest, goes through memory cell by cell."""
    step = x.dtype.itemsize
    for axis in reversed(tuple(axes)):
        if x.shape[axis] != 1 and x.strides[axis] != step and x.size:
            return False
        step *= x.shape[axis]
    return True


def by_channel(x: Array) -> tuple[int, int, int]:
    """(outer, channels, inner): memory of a dense array as a box whose middle axis is that of the channels.

    Cell n of memory is of channel n // inner % channels, in both orders of images; (N, features) is (N, features, 1).
    """
    n, channels = x.shape[:2]
    cells = prod(x.shape[2:])
    return (n * cells, channels, 1) if is_channels_last(x) else (n, channels, cells)
