"""The three maps on arrays, by the compiled library."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from xcnn_host.buffers import empty
from xcnn_strided import Algorithm

from xcnn.core.types import Array, Pads, Pair, Shape
from xcnn_numpy.native.maps import images, plain, table, way


@dataclass(frozen=True)
class Native:
    """The three maps, on so many threads; another algorithm for types that vectors do not hold."""

    threads: int
    otherwise: Algorithm

    def correlate(self, x: Array, k: Array, *, stride: Pair, padding: Pads, dilation: Pair, groups: int) -> Array:
        if not held(x, k):
            return self.otherwise.correlate(x, k, stride=stride, padding=padding, dilation=dilation, groups=groups)
        x, k = alike(x, k)
        how = way(x.shape, k.shape, stride, padding, dilation, groups)
        y = images(how.y_shape, x.dtype, how.y_last)
        if how.nothing:
            y.fill(0)
            return y
        maps = table("forward", how, x.strides, k.strides, y.strides, x.dtype.char, self.threads)
        maps(x, maps.pack(k), y)
        return y

    def correlate_input_adjoint(
        self, dy: Array, k: Array, x_shape: Shape, *, stride: Pair, padding: Pads, dilation: Pair, groups: int
    ) -> Array:
        if not held(dy, k):
            return self.otherwise.correlate_input_adjoint(
                dy, k, x_shape, stride=stride, padding=padding, dilation=dilation, groups=groups
            )
        dy, k = alike(dy, k)
        how = way(tuple(x_shape), k.shape, stride, padding, dilation, groups)
        dx = images(tuple(x_shape), dy.dtype, how.x_last)
        if how.nothing or not how.covers:
            dx.fill(0)
        if not how.nothing:
            maps = table("adjoint", how, dx.strides, k.strides, dy.strides, dy.dtype.char, self.threads)
            maps(dy, maps.pack(k), dx)
        return dx

    def correlate_kernel_adjoint(
        self, x: Array, dy: Array, k_shape: Shape, *, stride: Pair, padding: Pads, dilation: Pair, groups: int
    ) -> Array:
        if not held(x, dy):
            return self.otherwise.correlate_kernel_adjoint(
                x, dy, k_shape, stride=stride, padding=padding, dilation=dilation, groups=groups
            )
        x, dy = alike(x, dy)
        how = way(x.shape, tuple(k_shape), stride, padding, dilation, groups)
        dk = empty(tuple(k_shape), x.dtype)
        if how.nothing:
            dk.fill(0)
            return dk
        table("gradient", how, x.strides, dk.strides, dy.strides, x.dtype.char, self.threads)(x, dy, dk, None)
        return dk


def held(a: Array, b: Array) -> bool:
    """Whether results of these arrays are float32 or float64, which vectors hold."""
    return np.result_type(a, b).char in "fd"


def alike(a: Array, b: Array) -> tuple[Array, Array]:
    """Both arrays in the type of their results, in memory that the library reads."""
    dtype = np.result_type(a, b)
    return plain(a.astype(dtype, copy=False)), plain(b.astype(dtype, copy=False))
