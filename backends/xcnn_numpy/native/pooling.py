"""Poolings by the compiled library: the backend's primitives, and the layers as one pass forward and one back."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from xcnn_native.library import Held, call

from xcnn.core.reference import NO_PADDING
from xcnn.core.types import Array, Pads, Pair, Shape, Weights
from xcnn.core.windows import output_size, pair
from xcnn.layers import AveragePool2D, GlobalAveragePool2D, GlobalMaxPool2D, MaxPool2D
from xcnn.layers.layer import Run
from xcnn_numpy.native.layout import as_lying, holds, lying, new

if TYPE_CHECKING:
    from xcnn_strided.fusion import FusedBackward, Named

    from xcnn_numpy.host import Host

LARGEST = (MaxPool2D, GlobalMaxPool2D)
GLOBAL = (GlobalAveragePool2D, GlobalMaxPool2D)
LAYERS = (MaxPool2D, AveragePool2D, *GLOBAL)


class Window(ctypes.Structure):
    """As in kernels/pooling.c: images as the kernels see them, and windows."""

    _fields_ = [
        (name, ctypes.c_ssize_t)
        for name in (
            "images", "height", "width", "channels", "rows", "columns", "window_rows", "window_columns", "down",
            "across", "top", "left", "means", "bytes",
        )
    ]  # fmt: skip


@dataclass(frozen=True)
class Pooling:
    """The windows of images of one shape, on so many threads.

    Parameters
    ----------
    last
        whether the channels of a pixel are neighbours
    means
        whether sums are divided by how many cells they are of
    """

    x_shape: Shape
    last: bool
    size: Pair
    stride: Pair
    padding: Pads
    means: bool
    threads: int

    def __post_init__(self) -> None:
        n, c, h, w = self.x_shape
        y_shape = (n, c, *output_size((h, w), self.size, self.stride, self.padding))
        images = (n, h, w, c) if self.last else (n * c, h, w, 1)
        places = self.size[0] * self.size[1]
        (top, _), (left, _) = self.padding
        window = Window(
            *images, *y_shape[2:], *self.size, *self.stride, top, left, self.means, 1 if places <= 256 else 4
        )
        at, kind = Held(ctypes.addressof(window), window), np.dtype(np.uint8 if places <= 256 else np.uint32)
        vars(self).update(y_shape=y_shape, at=at, kind=kind)

    def run(self, name: str, source: Array, result: Array, which: Array | None = None) -> Array:
        """Call a kernel, and give what it wrote."""
        call(name, source.dtype, self.at, source, result, which, self.threads)  # type: ignore[attr-defined]
        return result

    def largest(self, x: Array) -> tuple[Array, Array]:
        """Y and each window's tap."""
        y, which = new(self.y_shape, x.dtype, self.last), new(self.y_shape, self.kind, self.last)  # type: ignore[attr-defined]
        return self.run("max_pool", x, y, which), which

    def largest_back(self, dy: Array, which: Array) -> Array:
        """DX of `largest`."""
        dx = new(self.x_shape, dy.dtype, self.last)
        return self.run("max_pool_adjoint", as_lying(dy, self.last), dx, as_lying(which, self.last))

    def sums(self, x: Array) -> Array:
        """The sum, or mean, of each window."""
        return self.run("sum_pool", x, new(self.y_shape, x.dtype, self.last))  # type: ignore[attr-defined]

    def sums_back(self, dy: Array) -> Array:
        """DX of `sums`."""
        return self.run("sum_pool_adjoint", as_lying(dy, self.last), new(self.x_shape, dy.dtype, self.last))


pooling = lru_cache(maxsize=512)(Pooling)
"""The same, made once."""


def windows(x_shape: Shape, last: bool, size: Pair, stride: Pair, padding: Pads, threads: int) -> Pooling:
    """For a primitive, whose options may be lists."""
    (top, bottom), (left, right) = padding
    around = (top, bottom), (left, right)
    return pooling(tuple(x_shape), last, (size[0], size[1]), (stride[0], stride[1]), around, False, threads)


def max_pool(x: Array, size: Pair, stride: Pair, padding: Pads, threads: int) -> tuple[Array, Array]:
    """The primitive, as core/reference.py defines it."""
    x, last = lying(x)
    return windows(x.shape, last, size, stride, padding, threads).largest(x)


def max_pool_adjoint(
    dy: Array, which: Array, x_shape: Shape, size: Pair, stride: Pair, padding: Pads, threads: int
) -> Array:
    """The primitive, as core/reference.py defines it."""
    dy, last = lying(dy)
    return windows(x_shape, last, size, stride, padding, threads).largest_back(dy, which)


def sum_pool(x: Array, size: Pair, stride: Pair, padding: Pads, threads: int) -> Array:
    """The primitive, as core/reference.py defines it."""
    x, last = lying(x)
    return windows(x.shape, last, size, stride, padding, threads).sums(x)


def sum_pool_adjoint(dy: Array, x_shape: Shape, size: Pair, stride: Pair, padding: Pads, threads: int) -> Array:
    """The primitive, as core/reference.py defines it."""
    dy, last = lying(dy)
    return windows(x_shape, last, size, stride, padding, threads).sums_back(dy)


@lru_cache(maxsize=512)
def seen(layer: Any, x_shape: Shape, last: bool, threads: int) -> Pooling | None:
    """A layer's windows; None where there are none."""
    sizes, means = (x_shape[2], x_shape[3]), type(layer) not in LARGEST
    if type(layer) in GLOBAL:
        return Pooling(x_shape, last, sizes, (1, 1), NO_PADDING, means, threads)
    made = Pooling(
        x_shape,
        last,
        pair("pool_size", layer.pool_size),
        **layer.window(sizes),
        means=means,
        threads=threads,
    )
    return made if min(made.y_shape) > 0 else None  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Pooled:
    """Y = the largest cells of windows or of planes, or their means."""

    backend: Host
    name: str
    layer: Any

    def fits(self, weights: Weights, x: Array) -> bool:
        return holds(x) and x.ndim == 4 and x.size > 0 and bool(seen(self.layer, x.shape, False, 1))

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, FusedBackward]:
        x, last = lying(x, self.backend.workers)
        windows = seen(self.layer, x.shape, last, self.backend.workers)
        assert windows is not None  # it fits
        y, which = windows.largest(x) if type(self.layer) in LARGEST else (windows.sums(x), None)
        y_shape = shape = y.shape
        if type(self.layer) in GLOBAL:
            y_shape = shape[:2]

        def backward(dy: Array, grads: Weights) -> Array:
            dy = dy.reshape(shape)
            return windows.sums_back(dy) if which is None else windows.largest_back(dy, which)

        return y.reshape(y_shape), backward


def fuse(backend: Host, layers: Named, n: int) -> tuple[int, Pooled] | None:
    """A pooling."""
    name, layer = layers[n]
    counts = type(layer) is AveragePool2D and layer.count_include_pad  # cells that the kernel does not count
    return (1, Pooled(backend, name, layer)) if type(layer) in LAYERS and not counts else None
