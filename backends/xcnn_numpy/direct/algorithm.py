"""The three maps on arrays: shared out among threads, image by image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from xcnn_host.buffers import empty
from xcnn_strided import Algorithm

from xcnn.core.types import Array, Pads, Pair, Shape
from xcnn_numpy.direct import maps
from xcnn_numpy.direct.blocks import VECTOR_BYTES
from xcnn_numpy.direct.layout import Layout, layout
from xcnn_numpy.direct.lines import NONE
from xcnn_numpy.direct.maps import Ending
from xcnn_numpy.direct.thread_pool import Shared

PLAIN = Ending(0, NONE, False)
NOTHING = np.empty(0, dtype=np.uint8)
WIDE = np.dtype(np.float64)
"""The type of sums over many images."""
LEAST = 200_000
"""Multiplications for which a second thread is worth waking."""


@dataclass(frozen=True)
class Direct:
    """The three maps, on so many threads; another algorithm for types that vectors do not hold."""

    threads: int
    otherwise: Algorithm

    def correlate(self, x: Array, k: Array, *, stride: Pair, padding: Pads, dilation: Pair, groups: int) -> Array:
        if not held(x, k):
            return self.otherwise.correlate(x, k, stride=stride, padding=padding, dilation=dilation, groups=groups)
        x, k = alike(x, k)
        return self.forward(
            x, k, NOTHING, layout(x.shape[1:], k.shape, stride, padding, dilation, groups, lanes(x)), PLAIN
        )[0]

    def correlate_input_adjoint(
        self, dy: Array, k: Array, x_shape: Shape, *, stride: Pair, padding: Pads, dilation: Pair, groups: int
    ) -> Array:
        if not held(dy, k):
            return self.otherwise.correlate_input_adjoint(
                dy, k, x_shape, stride=stride, padding=padding, dilation=dilation, groups=groups
            )
        dy, k = alike(dy, k)
        way = layout(tuple(x_shape[1:]), k.shape, stride, padding, dilation, groups, lanes(k))
        return self.backward(dy, k, dy, dy, NOTHING, way, PLAIN, (True, False))[0]

    def correlate_kernel_adjoint(
        self, x: Array, dy: Array, k_shape: Shape, *, stride: Pair, padding: Pads, dilation: Pair, groups: int
    ) -> Array:
        if not held(x, dy):
            return self.otherwise.correlate_kernel_adjoint(
                x, dy, k_shape, stride=stride, padding=padding, dilation=dilation, groups=groups
            )
        x, dy = alike(x, dy)
        way = layout(x.shape[1:], tuple(k_shape), stride, padding, dilation, groups, lanes(x))
        return self.backward(x, NOTHING.astype(x.dtype), dy, dy, NOTHING, way, PLAIN, (False, True))[1].reshape(k_shape)

    def forward(self, x: Array, k: Array, bias: Array, way: Layout, ending: Ending) -> tuple[Array, Array]:
        """Y (N, O, H', W'), pooled to (N, O, H' / 2, W' / 2) where the ending does, and the taps of the pooling."""
        n, halved = len(x), 2 if ending.pool else 1
        y = empty((n, way.filters, way.rows // halved, way.columns // halved), x.dtype)
        which = empty((y.size if ending.pool else 0,), np.dtype(np.uint8))
        x, k, bias, out = flat(x), flat(k), flat(bias.astype(x.dtype, copy=False)), y.reshape(-1)
        self.share_images(maps.forward, n, way, x, maps.pack(k, way), bias, out, which, way, ending)
        return y, which

    def backward(
        self, x: Array, k: Array, dy: Array, y: Array, which: Array, way: Layout, ending: Ending,
        wanted: tuple[bool, bool],
    ) -> tuple[Array, Array, Array]:  # fmt: skip
        """DX (N, C, H, W), dK and dB in lines; dX and dK as far as they are wanted."""
        n = len(dy)
        dx = empty((n if wanted[0] else 0, way.channels, way.height, way.width), dy.dtype)
        if len(way.parts) < way.stride_rows * way.stride_columns:
            dx.fill(0)  # its other phases meet no tap
        x, k, dy, y, out = flat(x), flat(k), flat(dy), flat(y), dx.reshape(-1)
        panels = maps.pack_adjoint(k, way) if wanted[0] else k
        biases = way.rows * way.columns if ending.bias == 2 else ending.bias
        dks = empty((self.threads, way.filters * len(way.offsets) if wanted[1] else 0), WIDE)
        dbs = empty((self.threads, way.filters * biases), WIDE)
        dk, db = empty(dks.shape[1:], dy.dtype), empty(dbs.shape[1:], dy.dtype)
        parts = self.share_images(maps.backward, n, way, x, dy, y, which, panels, out, dks, dbs, way, ending, n, False)
        # a cell that is not finite has met zeros too: let each meet what it meets
        if not maps.whole(dks, dbs, parts, dk, db):
            self.share_images(maps.backward, n, way, x, dy, y, which, panels, out[:0], dks, dbs, way, ending, n, True)
            maps.whole(dks, dbs, parts, dk, db)
        return dx, dk, db

    def share_images(self, work: Shared, n: int, way: Layout, *arguments: Any) -> int:
        """Work on ranges of n images; how many ranges."""
        products = way.rows * way.columns * way.filters * len(way.offsets)
        return self.share(work, n, n * products, *arguments)

    def share(self, work: Shared, count: int, products: int, *arguments: Any) -> int:
        """Work on ranges of `count`, one where so few multiplications are not worth more; how many ranges."""
        parts = min(self.threads, count) if products >= LEAST else 1
        if parts < 2:
            work.kernel(*arguments, 0, 0, count)
            return 1
        work(parts, count, *arguments)
        return parts


def lanes(x: Array) -> int:
    """How many of its cells make a vector."""
    return VECTOR_BYTES // int(x.dtype.itemsize)


def held(a: Array, b: Array) -> bool:
    """Whether results of these arrays are float32 or float64, which vectors hold."""
    return np.result_type(a, b).char in "fd"


def alike(a: Array, b: Array) -> tuple[Array, Array]:
    """Both arrays in the type of their results."""
    dtype = np.result_type(a, b)
    return a.astype(dtype, copy=False), b.astype(dtype, copy=False)


def flat(x: Array) -> Array:
    """The cells in one line, in memory that compiled functions take."""
    return (x if x.flags.carray else np.array(x, order="C")).reshape(-1)
