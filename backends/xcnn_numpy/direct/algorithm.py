"""The three maps on arrays: shared out among threads, image by image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from xcnn._typing import Array, Pads, Pair, Shape
from xcnn_numpy import threads
from xcnn_numpy.direct import maps
from xcnn_numpy.direct.layout import Layout, layout
from xcnn_numpy.direct.lines import NONE
from xcnn_numpy.direct.maps import Ending

PLAIN = Ending(0, NONE, False)
NOTHING = np.empty(0, dtype=np.uint8)
LEAST = 1_000_000
"""Multiplications for which a second thread is worth waking."""


@dataclass(frozen=True)
class Direct:
    """The three maps, on so many threads."""

    threads: int

    def correlate(self, x: Array, k: Array, *, stride: Pair, padding: Pads, dilation: Pair, groups: int) -> Array:
        x, k = alike(x, k)
        return self.forward(x, k, NOTHING, layout(x.shape[1:], k.shape, stride, padding, dilation, groups), PLAIN)[0]

    def correlate_input_adjoint(
        self, dy: Array, k: Array, x_shape: Shape, *, stride: Pair, padding: Pads, dilation: Pair, groups: int
    ) -> Array:
        dy, k = alike(dy, k)
        way = layout(tuple(x_shape[1:]), k.shape, stride, padding, dilation, groups)
        return self.backward(dy, k, dy, dy, NOTHING, way, PLAIN, (True, False))[0]

    def correlate_kernel_adjoint(
        self, x: Array, dy: Array, k_shape: Shape, *, stride: Pair, padding: Pads, dilation: Pair, groups: int
    ) -> Array:
        x, dy = alike(x, dy)
        way = layout(x.shape[1:], tuple(k_shape), stride, padding, dilation, groups)
        return self.backward(x, NOTHING.astype(x.dtype), dy, dy, NOTHING, way, PLAIN, (False, True))[1].reshape(k_shape)

    def forward(
        self, x: Array, k: Array, bias: Array, way: Layout, ending: Ending
    ) -> tuple[Array, Array]:
        """Y (N, O, H', W'), pooled to (N, O, H' / 2, W' / 2) where the ending does, and the taps of the pooling."""
        n, halved = len(x), 2 if ending.pool else 1
        y = np.empty((n, way.filters, way.rows // halved, way.columns // halved), dtype=x.dtype)
        which = np.empty(y.size if ending.pool else 0, dtype=np.uint8)
        x, k, bias, out = flat(x), flat(k), flat(bias.astype(x.dtype, copy=False)), y.reshape(-1)
        panels = maps.pack(k, way)
        self.share_images(lambda a, b: maps.forward(x, panels, bias, out, which, way, ending, a, b), n, way)
        return y, which

    def backward(
        self, x: Array, k: Array, dy: Array, y: Array, which: Array, way: Layout, ending: Ending,
        wanted: tuple[bool, bool],
    ) -> tuple[Array, Array, Array]:  # fmt: skip
        """DX (N, C, H, W), dK and dB in lines; dX and dK as far as they are wanted."""
        n = len(dy)
        dx = np.empty((n if wanted[0] else 0, way.channels, way.height, way.width), dtype=dy.dtype)
        x, k, dy, y, out = flat(x), flat(k), flat(dy), flat(y), dx.reshape(-1)
        panels = maps.pack_adjoint(k, way) if wanted[0] else k
        parts = self.share_images(
            lambda a, b: maps.backward(x, dy, y, which, panels, out, way, ending, wanted, a, b), n, way
        )
        dk, db = parts[0]
        for more_dk, more_db in parts[1:]:
            dk += more_dk
            db += more_db
        return dx, dk, db

    def share_images(self, work: Callable[[int, int], Any], n: int, way: Layout) -> list[Any]:
        """Work on ranges of n images, each of whole stacks."""
        stack, products = way.stack, way.rows * way.columns * way.filters * len(way.offsets)
        return self.share(lambda a, b: work(a * stack, min(b * stack, n)), -(-n // stack), n * products)

    def share(self, work: Callable[[int, int], Any], count: int, products: int) -> list[Any]:
        """Work on ranges of `count`, on one thread where so few multiplications are not worth waking another."""
        if products < LEAST or self.threads == 1:
            return [work(0, count)]
        return threads.share(work, count, self.threads)


def alike(a: Array, b: Array) -> tuple[Array, Array]:
    """Both arrays in one type that vectors hold: float32, or float64."""
    dtype = np.result_type(a, b, np.float32)
    return a.astype(dtype, copy=False), b.astype(dtype, copy=False)


def flat(x: Array) -> Array:
    """The cells in one line, in memory that compiled functions take."""
    return (x if x.flags.carray else np.array(x, order="C")).reshape(-1)
