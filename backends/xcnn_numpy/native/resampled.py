"""Layers that map rows and columns each by itself, Y = A X B^T, by the compiled library, forward and back."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from xcnn_native.library import Held, address, call

from xcnn.core.types import Array, Shape, Weights
from xcnn.errors import XcnnError
from xcnn.layers import AdaptiveAveragePool2D, Resize, UpSampling2D
from xcnn_numpy.native.layout import lying, new
from xcnn_numpy.native.rearranged import Rearranged

if TYPE_CHECKING:
    from xcnn_strided.fusion import Named

    from xcnn_numpy.host import Host


class Lines(ctypes.Structure):
    """A matrix whose rows have few numbers, as in kernels/resample.c."""

    _fields_ = [
        *((name, ctypes.c_ssize_t) for name in ("rows", "columns", "most")),
        *((name, ctypes.c_void_p) for name in ("first", "count", "numbers")),
    ]


class Maps(ctypes.Structure):
    _fields_ = [("images", ctypes.c_ssize_t), ("channels", ctypes.c_ssize_t), ("down", Lines), ("across", Lines)]


def lines(matrix: Array) -> tuple[Lines, tuple[Array, ...]]:
    """A matrix by its rows, from the first number of each that is not 0 to the last; and the arrays that it lies in."""
    counts = matrix != 0
    first = np.where(counts.any(axis=1), counts.argmax(axis=1), 0)
    count = np.where(counts.any(axis=1), matrix.shape[1] - counts[:, ::-1].argmax(axis=1) - first, 0)
    most = max(1, int(count.max(initial=0)))
    places = np.minimum(first[:, None] + np.arange(most), matrix.shape[1] - 1)
    numbers = np.ascontiguousarray(np.take_along_axis(matrix, places, axis=1))
    arrays = np.ascontiguousarray(first, np.int64), np.ascontiguousarray(count, np.int64), numbers
    return Lines(*matrix.shape, most, *map(address, arrays)), arrays


@lru_cache(maxsize=256)
def maps(layer: Any, shape: Shape, last: bool, char: str, back: bool) -> Held:
    """What a layer does with images of this shape, or with their gradients."""
    n, c, *sizes = shape
    made = [lines(m.T if back else m) for m in layer.matrices(np.empty(0, char), *sizes)]
    images, channels = (n, c) if last else (n * c, 1)
    held = Maps(images, channels, *(one for one, _ in made))
    return Held(ctypes.addressof(held), (held, made))


@lru_cache(maxsize=256)
def output_size(layer: Any, h: int, w: int) -> tuple[int, ...]:
    """Of images of h x w cells."""
    return tuple(len(matrix) for matrix in layer.matrices(np.empty(0), h, w))


@lru_cache(maxsize=256)
def few(layer: Any, shape: Shape, char: str, back: bool) -> bool:
    """Whether no row of its matrices has too many numbers."""
    matrices = layer.matrices(np.empty(0, char), *shape[2:])
    return all(int((m != 0).sum(axis=0 if back else 1).max(initial=0)) <= MOST for m in matrices)


MOST = 128
"""Numbers in a row of a matrix at most, whose products are added one after another."""


class Mapped(Rearranged):
    """Y = A X B^T."""

    def fits(self, weights: Weights, x: Array) -> bool:
        if not super().fits(weights, x):
            return False
        try:
            return all(few(self.layer, x.shape, x.dtype.char, back) for back in (False, True))
        except XcnnError:  # the layer itself tells of it
            return False

    def moved(self, x: Array) -> Array:
        threads = self.backend.workers
        x, last = lying(x, threads)
        y = new((*x.shape[:2], *output_size(self.layer, *x.shape[2:])), x.dtype, last)
        call("resample", x.dtype, maps(self.layer, x.shape, last, x.dtype.char, False), x, y, threads)
        return y

    def back(self, dy: Array, x_shape: Shape) -> Array:
        threads = self.backend.workers
        dy, last = lying(dy, threads)
        dx = new(x_shape, dy.dtype, last)
        call("resample", dy.dtype, maps(self.layer, x_shape, last, dy.dtype.char, True), dy, dx, threads)
        return dx


def fuse(backend: Host, layers: Named, n: int) -> tuple[int, Mapped] | None:
    """A layer of which rows and columns are mapped each by itself."""
    name, layer = layers[n]
    repeats = type(layer) is UpSampling2D and layer.interpolation == "nearest"
    known = type(layer) in (AdaptiveAveragePool2D, Resize, UpSampling2D) and not repeats
    return (1, Mapped(backend, name, layer, n)) if known else None
