"""Windows of images as the columns of a matrix, by few and long copies.

A padded image of pitch Q (cells from one row to the next) is a long line: the window at row u, column v begins at cell
u Q + v, and a tap (i, j) lies i Q + j further on, whatever the window. So with stride one a tap meets the line shifted
by its offset, all of it in one copy; the Q - W' columns of the matrix between two rows of windows are of no meaning.
With another stride a tap's cells are gathered row by row, and there are no such columns.

Of images whose windows are many, a band of rows after the other is laid out: memory follows from the images, not from
the kernel's cells that meet each of theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod
from typing import Any

import numpy as np
from xcnn_host.buffers import empty

from xcnn.core.reference import NO_PADDING
from xcnn.core.types import Array, Pads, Pair, Shape
from xcnn.core.windows import output_size
from xcnn_numpy.plain.blas import product

WORKSPACE = 2**19
"""Cells of the matrix and of its product for a few images: they stay in a core's own cache."""

LARGEST = 2**20
"""Cells of the matrix and of its product for one image: where they are more, rows go by bands."""
PER_CELL = 32
"""A cell of the matrix takes about as long to copy as so many multiplications."""


@dataclass(frozen=True)
class Lowering:
    """How images (C, H, W) meet kernels (O, C / groups, h, w). All sizes are in cells."""

    image: Shape
    kernel: Shape
    stride: Pair
    padding: Pads
    dilation: Pair
    groups: int

    @cached_property
    def output(self) -> Pair:
        """Rows and columns of Y."""
        (_, rows, columns), (_, _, h, w) = self.image, self.kernel
        return output_size((rows, columns), (h, w), self.stride, self.padding, self.dilation)

    @cached_property
    def taps(self) -> int:
        """Of one filter: channels of a group times kernel cells; the rows of the matrix."""
        return prod(self.kernel[1:])

    @cached_property
    def in_place(self) -> bool:
        """Whether the image is its own padded line."""
        return self.padding == NO_PADDING

    @cached_property
    def pitch(self) -> int:
        """From one row of the padded image to the next: the cells between two rows are padding to both.

        Padded by more than the kernel spans on both sides, a row has more windows than that: they are to lie apart.
        """
        return max(self.image[2] + max(self.padding[1]), self.output[1])

    @cached_property
    def plane(self) -> int:
        """Of a channel's padded line."""
        (_, rows, columns), (vertical, horizontal) = self.image, self.padding
        return (rows + sum(vertical) - 1) * self.pitch + columns + sum(horizontal)

    @cached_property
    def output_pitch(self) -> int:
        """From one row of Y to the next within the matrix's columns."""
        return self.pitch if self.stride == (1, 1) else self.output[1]

    @cached_property
    def length(self) -> int:
        """Columns of the matrix for an image."""
        return self.span(self.output[0])

    def span(self, rows: int) -> int:
        """Columns of the matrix for some rows of Y."""
        return (rows - 1) * self.output_pitch + self.output[1]

    @cached_property
    def bands(self) -> tuple[tuple[int, int], ...]:
        """Rows of Y whose windows are laid out at a time: where they begin, and how many they are."""
        rows, each = self.output[0], self.output_pitch * (self.groups * self.taps + self.kernel[0])
        parts = min(-(-rows * each // LARGEST), rows)
        some = -(-rows // parts)
        return tuple((first, min(some, rows - first)) for first in range(0, rows, some))

    @cached_property
    def work(self) -> int:
        """Of an image, in multiplications within a product of matrices: its own, and what its copies are worth."""
        return (self.kernel[0] * self.taps + PER_CELL * self.groups * self.taps) * self.length

    def at_once(self, images: int) -> int:
        """How many of these images to treat together: the workspace's worth or, so that calls are few, up to two."""
        most = max(1, WORKSPACE // (self.length * (self.groups * self.taps + self.kernel[0])))
        return max(1, -(-images // max(1, images // most)))

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Where the taps of a channel find their cells, from the window's beginning; for stride one."""
        rows, columns = self.dilation
        return tuple(i * rows * self.pitch + j * columns for i in range(self.kernel[2]) for j in range(self.kernel[3]))

    def images(self, line: Array) -> Array:
        """The images (n, C, H, W) within their padded lines (n, C, plane), as a view."""
        (top, _), (left, _) = self.padding
        rows, columns = self.image[1:]
        return np.lib.stride_tricks.as_strided(
            line[:, :, top * self.pitch + left :],
            (*line.shape[:2], rows, columns),
            (*line.strides[:2], self.pitch * line.itemsize, line.itemsize),
        )

    def windows(self, line: Array, first: int, rows: int) -> Array:
        """The cells that taps meet in padded lines for some rows of Y: a view (groups, C / groups, h, w, n, ...)."""
        _, c, h, w = self.kernel
        plane, pitch, (down, across) = self.plane, self.pitch, self.stride
        shape: tuple[int, ...] = (self.groups, c, h, w, len(line))
        strides: tuple[int, ...] = (
            c * plane, plane, self.dilation[0] * pitch, self.dilation[1], self.groups * c * plane,
        )  # fmt: skip
        at = first * down * pitch
        if self.stride == (1, 1):
            return view(line, (*shape, self.span(rows)), (*strides, 1), at)
        return view(line, (*shape, rows, self.output[1]), (*strides, down * pitch, across), at)

    def cells(self, lines: Array) -> Array:
        """Y (n, O, H', W') within its lines (O, n, length), as a view."""
        o, n, length = lines.shape
        return view(lines, (n, o, *self.output), (length, n * length, self.output_pitch, 1))

    def by_tap(self, matrix: Array, rows: int) -> Array:
        """The matrix (groups, taps, n span) of some rows as a view of the same axes as the windows."""
        cells = (self.span(rows),) if self.stride == (1, 1) else (rows, self.output[1])
        return matrix.reshape(self.groups, *self.kernel[1:], -1, *cells)


class Workspace:
    """The arrays that a few images need on their way through a pass.

    Parameters
    ----------
    ones
        whether the matrix has one more row, of ones: the bias is the kernel's cell that meets them
    """

    def __init__(self, way: Lowering, n: int, dtype: Any, ones: bool) -> None:
        self.way, self.n = way, n
        self.line = self.padded = zeros((n, way.image[0], way.plane), dtype)
        self.matrix = empty((way.groups, way.taps + ones, n * way.span(way.bands[0][1])), dtype)
        self.matrix[:, way.taps :] = 1
        self.output = zeros((way.kernel[0], n, way.length), dtype)

    @cached_property
    def met(self) -> Array:
        """What each tap adds to dX, a kernel cell after the other: (groups, h w, C / groups, n, plane).

        A plane's last cells, which no window's first cell meets, stay zero.
        """
        way = self.way
        return zeros((way.groups, prod(way.kernel[2:]), way.kernel[1], self.n, way.plane), self.output.dtype)

    def take(self, x: Array) -> None:
        """Put images x (n, C, H, W) into their padded lines."""
        if self.way.in_place:
            self.padded = x.reshape(self.line.shape)
        else:
            np.copyto(self.way.images(self.line), x)

    def laid_out(self) -> Iterator[tuple[Array, Array]]:
        """Of each band the matrix of its windows, and what is in `output` for it (groups, O / groups, n span)."""
        way, lines = self.way, self.output.reshape(self.way.groups, -1, self.n * self.way.length)
        for first, rows in way.bands:
            matrix, at = self.matrix[:, :, : self.n * way.span(rows)], first * way.output_pitch
            np.copyto(way.by_tap(matrix[:, : way.taps], rows), way.windows(self.padded, first, rows))
            yield matrix, lines[:, :, at : at + matrix.shape[2]]

    def input_gradient(self, kernel: Array, dx: Array) -> None:
        """DX (n, C, H, W) of the gradient in `output`: each tap's products, added to the cells that it met.

        With stride one they lie so that a tap adds one long line to another, whatever the images and channels.
        """
        way, gradient = self.way, self.output.reshape(self.way.groups, -1, self.n, self.way.length)
        if way.stride != (1, 1) or len(way.bands) > 1:
            self.input_gradient_by_rows(kernel, dx)
            return
        line = dx if way.in_place and self.n == 1 else empty((way.image[0], self.n, way.plane), dx.dtype)
        line.fill(0)
        cells = line.reshape(way.groups, -1)
        for g in range(way.groups):
            met = self.met[g].reshape(way.taps, self.n, way.plane).swapaxes(0, 1)
            product(kernel[g], gradient[g].swapaxes(0, 1), met[:, :, : way.length])
            for tap, offset in enumerate(way.offsets):
                part = cells[g, offset:]
                np.add(part, self.met[g, tap].reshape(-1)[: len(part)], out=part)
        if line is not dx:
            np.copyto(dx, way.images(line.swapaxes(0, 1)))

    def input_gradient_by_rows(self, kernel: Array, dx: Array) -> None:
        """The same for any stride, a band of rows at a time."""
        way, gradient = self.way, self.output.reshape(self.way.groups, -1, self.n * self.way.length)
        _, c, h, w = way.kernel
        line = zeros((self.n, way.image[0], way.plane), dx.dtype)
        for first, rows in way.bands:
            span, at = self.n * way.span(rows), first * way.output_pitch
            products = empty((way.groups, way.taps, span), dx.dtype)
            for g in range(way.groups):
                product(kernel[g], gradient[g, :, at : at + span], products[g])
            met = way.windows(line, first, rows)
            products = products.reshape(way.groups, h, w, c, *met.shape[4:])
            for i in range(h):
                for j in range(w):
                    np.add(met[:, :, i, j], products[:, i, j], out=met[:, :, i, j])
        np.copyto(dx, way.images(line))


@lru_cache(maxsize=512)
def lowering(image: Shape, kernel: Shape, stride: Pair, padding: Pads, dilation: Pair, groups: int) -> Lowering:
    """The lowering for these shapes, its sizes computed once."""
    return Lowering(image, kernel, stride, padding, dilation, groups)


def view(array: Array, shape: Shape, strides: Shape, offset: int = 0) -> Array:
    """Cells of a C-contiguous array; strides and offset count cells."""
    size = array.itemsize
    return np.ndarray(shape, array.dtype, array, offset * size, tuple(stride * size for stride in strides))


def zeros(shape: Shape, dtype: Any) -> Array:
    """Zeros in memory that is used again."""
    array = empty(shape, dtype)
    array.fill(0)
    return array
