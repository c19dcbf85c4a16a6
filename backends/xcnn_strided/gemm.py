"""Correlation as products of matrices, two-dimensional ones, a few images at a time, so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from xcnn.core.arrays import namespace
from xcnn.core.reference import NO_PADDING
from xcnn.core.types import Array, Pads, Pair, Shape
from xcnn.core.windows import extent, output_size
from xcnn_strided.lowering import added, columns

WIDER = {"bfloat16": "float32", "float16": "float32", "float32": "float64"}
"""The type of sums over many images, of each product's type."""


@dataclass(frozen=True)
class Gemm:
    """The three maps.

    Parameters
    ----------
    workspace
        cells that the windows and products of a few images may take together; those of a single one may take more
    """

    workspace: int

    def correlate(self, x: Array, k: Array, *, stride: Pair, padding: Pads, dilation: Pair, groups: int) -> Array:
        """Y = K (O, C h w) times the windows of X (C h w, N H' W'), group by group."""
        xp = namespace(x, k)
        n, (o, c, h, w) = x.shape[0], k.shape
        output = output_size(x.shape[2:], (h, w), stride, padding, dilation)
        kernel = k.reshape(groups, o // groups, c * h * w)
        y = xp.empty((n, o, *output), dtype=xp.result_type(x, k))
        parts = self.parts(k.shape, output, groups)
        for number, ins, outs in parts:
            y[:, outs] = self.correlate(
                x[:, ins], k[outs], stride=stride, padding=padding, dilation=dilation, groups=number
            )
        if parts:
            return y
        at_once = self.at_once(k.shape, output, groups)
        for images, met in self.columns(x, (h, w), output, stride, padding, dilation, at_once):
            seen = met.reshape(groups, c * h * w, -1)
            if at_once == 1:
                self.products(kernel, seen, y[images].reshape(groups, o // groups, -1))
            else:
                product = self.products(kernel, seen, xp.empty((groups, o // groups, seen.shape[2]), dtype=y.dtype))
                y[images] = product.reshape(o, -1, *output).swapaxes(0, 1)
        return y

    def correlate_input_adjoint(
        self, dy: Array, k: Array, x_shape: Shape, *, stride: Pair, padding: Pads, dilation: Pair, groups: int
    ) -> Array:
        """DX = dY correlated in full with the rotated kernel, its channels exchanged.

        With a stride that would multiply mostly zeros, and with more filters than channels lay out more windows than
        the forward map did: `overlap_add` then does less.
        """
        o, c, h, w = k.shape
        if tuple(stride) != (1, 1) or o // groups > c:
            return self.overlap_add(dy, k, x_shape, stride, padding, dilation, groups)
        reach = extent(h, dilation[0]) - 1, extent(w, dilation[1]) - 1
        (top, _), (left, _) = padding
        around = (
            (reach[0] - top, x_shape[2] + top - dy.shape[2]),
            (reach[1] - left, x_shape[3] + left - dy.shape[3]),
        )
        rotated = k[:, :, ::-1, ::-1].reshape(groups, o // groups, c, h, w)
        turned = rotated.swapaxes(1, 2).reshape(groups * c, o // groups, h, w)
        return self.correlate(dy, turned, stride=stride, padding=around, dilation=dilation, groups=groups)

    def overlap_add(
        self, dy: Array, k: Array, x_shape: Shape, stride: Pair, padding: Pads, dilation: Pair, groups: int
    ) -> Array:
        """DX = Kᵀ (C h w, O) times dY (O, N H' W'), each kernel cell's row added to the cells of X that it met."""
        xp = namespace(dy, k)
        (o, c, h, w), output = k.shape, (dy.shape[2], dy.shape[3])
        kernel = k.reshape(groups, o // groups, c * h * w).swapaxes(1, 2)
        dtype = xp.result_type(dy, k)
        dx = xp.empty(x_shape, dtype=dtype)
        parts = self.parts(k.shape, output, groups)
        for number, ins, outs in parts:
            shape = (x_shape[0], ins.stop - ins.start, *x_shape[2:])
            dx[:, ins] = self.overlap_add(dy[:, outs], k[outs], shape, stride, padding, dilation, number)
        if parts:
            return dx
        at_once = self.at_once(k.shape, output, groups)
        for images, gradient in self.columns(dy, (1, 1), output, (1, 1), NO_PADDING, (1, 1), at_once):
            parts = gradient.reshape(groups, o // groups, -1)
            met = self.products(kernel, parts, xp.empty((groups, c * h * w, parts.shape[2]), dtype=dtype))
            some = (images.stop - images.start, *x_shape[1:])
            met = met.reshape(groups * c * h * w, -1)
            dx[images] = self.added(met, some, (h, w), output, stride, padding, dilation)
        return dx

    def correlate_kernel_adjoint(
        self, x: Array, dy: Array, k_shape: Shape, *, stride: Pair, padding: Pads, dilation: Pair, groups: int
    ) -> Array:
        """DK = dY (O, N H' W') times the windows of X, transposed, summed over a few images at a time."""
        xp = namespace(x, dy)
        (o, c, h, w), output = k_shape, (dy.shape[2], dy.shape[3])
        dtype = xp.result_type(x, dy)
        of_parts = [
            self.correlate_kernel_adjoint(
                x[:, ins], dy[:, outs], (outs.stop - outs.start, c, h, w),
                stride=stride, padding=padding, dilation=dilation, groups=number,
            )
            for number, ins, outs in self.parts(k_shape, output, groups)
        ]  # fmt: skip
        if of_parts:
            return xp.concat(of_parts, axis=0)
        part = xp.empty((groups, o // groups, c * h * w), dtype=dtype)
        dk = xp.zeros(part.shape, dtype=WIDER.get(dtype.name, dtype))
        at_once = self.at_once(k_shape, output, groups)
        for images, met in self.columns(x, (h, w), output, stride, padding, dilation, at_once):
            gradient = dy[images].swapaxes(0, 1).reshape(groups, o // groups, -1)
            dk += self.products(gradient, met.reshape(groups, c * h * w, -1).swapaxes(1, 2), part)
        return dk.astype(dtype, copy=False).reshape(k_shape)

    def columns(
        self, x: Array, kernel: Pair, output: Pair, stride: Pair, padding: Pads, dilation: Pair, at_once: int
    ) -> Iterator[tuple[slice, Array]]:
        """`at_once` images at a time: which they are, and their windows as a matrix (C h w, images H' W')."""
        return columns(namespace(x), x, kernel, output, stride, padding, dilation, at_once)

    def added(
        self, met: Array, x_shape: Shape, kernel: Pair, output: Pair, stride: Pair, padding: Pads, dilation: Pair
    ) -> Array:
        """The adjoint of windows laid out: each cell of (C h w, N H' W') added to the one of x that it came from."""
        return added(namespace(met), met, x_shape, kernel, output, stride, padding, dilation)

    def products(self, a: Array, b: Array, out: Array) -> Array:
        """Out[g] = a[g] b[g], one product of matrices for each group."""
        xp = namespace(a, b)
        for g in range(a.shape[0]):
            xp.dot(a[g], b[g], out=out[g])
        return out

    def parts(self, k_shape: Shape, output: Pair, groups: int) -> list[tuple[int, slice, slice]]:
        """As many groups at a time as the workspace holds one image's windows of, with their channels and filters.

        A single group may take more. Empty where the workspace holds those of all.
        """
        o, c, h, w = k_shape
        each = (c * h * w + o // max(groups, 1)) * output[0] * output[1]
        most = max(1, self.workspace // max(1, each))
        if most >= groups:
            return []
        ranges = [(first, min(first + most, groups)) for first in range(0, groups, most)]
        return [(b - a, slice(a * c, b * c), slice(a * o // groups, b * o // groups)) for a, b in ranges]

    def at_once(self, k_shape: Shape, output: Pair, groups: int) -> int:
        """How many images' windows and products the workspace holds, at least one."""
        o, c, h, w = k_shape
        return max(1, self.workspace // max(1, (groups * c * h * w + o) * output[0] * output[1]))
