"""A backend that chooses among algorithms for its three maps, and pools in place."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

from xcnn.backends.contract import Backend
from xcnn.core.reference import NO_PADDING
from xcnn.core.types import Array, Pads, Pair, Shape
from xcnn_strided import pooling


class Algorithm(Protocol):
    """A way to compute the three maps: a module or an object with these functions."""

    def correlate(self, x: Array, k: Array, *, stride: Pair, padding: Pads, dilation: Pair, groups: int) -> Array: ...

    def correlate_input_adjoint(
        self, dy: Array, k: Array, x_shape: Shape, *, stride: Pair, padding: Pads, dilation: Pair, groups: int
    ) -> Array: ...

    def correlate_kernel_adjoint(
        self, x: Array, dy: Array, k_shape: Shape, *, stride: Pair, padding: Pads, dilation: Pair, groups: int
    ) -> Array: ...


@dataclass(frozen=True, repr=False)
class StridedBackend(Backend):
    """What the backends of NumPy and CuPy have in common."""

    def chosen(
        self, x_shape: Shape, k_shape: Shape, stride: Pair, padding: Pads, dilation: Pair, groups: int
    ) -> Algorithm:
        """The algorithm for images and kernels of these shapes, and these options."""
        raise NotImplementedError

    def beside(self, x: Array) -> AbstractContextManager[object]:
        """For a `with` block: compute on the device of this array."""
        return nullcontext()

    def correlate(
        self,
        x: Array,
        k: Array,
        *,
        stride: Pair = (1, 1),
        padding: Pads = NO_PADDING,
        dilation: Pair = (1, 1),
        groups: int = 1,
    ) -> Array:
        way = self.chosen(x.shape, k.shape, stride, padding, dilation, groups)
        with self.beside(x):
            return way.correlate(x, k, stride=stride, padding=padding, dilation=dilation, groups=groups)

    def correlate_input_adjoint(
        self,
        dy: Array,
        k: Array,
        x_shape: Shape,
        *,
        stride: Pair = (1, 1),
        padding: Pads = NO_PADDING,
        dilation: Pair = (1, 1),
        groups: int = 1,
    ) -> Array:
        way = self.chosen(x_shape, k.shape, stride, padding, dilation, groups)
        with self.beside(dy):
            return way.correlate_input_adjoint(
                dy, k, x_shape, stride=stride, padding=padding, dilation=dilation, groups=groups
            )

    def correlate_kernel_adjoint(
        self,
        x: Array,
        dy: Array,
        k_shape: Shape,
        *,
        stride: Pair = (1, 1),
        padding: Pads = NO_PADDING,
        dilation: Pair = (1, 1),
        groups: int = 1,
    ) -> Array:
        way = self.chosen(x.shape, k_shape, stride, padding, dilation, groups)
        with self.beside(x):
            return way.correlate_kernel_adjoint(
                x, dy, k_shape, stride=stride, padding=padding, dilation=dilation, groups=groups
            )

    def max_pool(self, x: Array, size: Pair, *, stride: Pair, padding: Pads = NO_PADDING) -> tuple[Array, Array]:
        with self.beside(x):
            return pooling.max_pool(x, size, stride=stride, padding=padding)

    def max_pool_adjoint(
        self, dy: Array, which: Array, x_shape: Shape, size: Pair, *, stride: Pair, padding: Pads = NO_PADDING
    ) -> Array:
        with self.beside(dy):
            return pooling.max_pool_adjoint(dy, which, x_shape, size, stride=stride, padding=padding)

    def sum_pool(self, x: Array, size: Pair, *, stride: Pair, padding: Pads = NO_PADDING) -> Array:
        with self.beside(x):
            return pooling.sum_pool(x, size, stride=stride, padding=padding)

    def sum_pool_adjoint(
        self, dy: Array, x_shape: Shape, size: Pair, *, stride: Pair, padding: Pads = NO_PADDING
    ) -> Array:
        with self.beside(dy):
            return pooling.sum_pool_adjoint(dy, x_shape, size, stride=stride, padding=padding)
