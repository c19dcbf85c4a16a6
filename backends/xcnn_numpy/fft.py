"""Correlation as a product of Fourier transforms: its work does not grow with the kernel.

Each map is a circular correlation or convolution of arrays padded to one size; what wraps around falls on cells that
are not kept. Transforms run at the arrays' own precision, a few images at a time.

A transform mixes all cells: the error of each result follows the largest cell of all, however far away, and one cell
that is not finite makes NaN of all. No shape tells whether that does harm: this algorithm is taken only by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any, NamedTuple

import numpy as np
from xcnn_strided.lowering import padded, spread

from xcnn.core.reference import NO_PADDING
from xcnn.core.types import Array, Pads, Pair, Shape
from xcnn.core.windows import output_size

AXES = (-2, -1)
WORKSPACE = 2**21
"""Frequencies at a time, of all channels of a few images; those of a single image may be more."""
LARGEST = 2**23
"""Frequencies of the whole kernel from which this algorithm is no longer recommended: 64 MiB in float32."""


class Estimate(NamedTuple):
    """What time a map takes, in units of one multiplication within a matrix product."""

    products: int
    """By matrix products."""
    sums: float
    """By sums in registers: `native`."""
    transforms: int
    """By transforms."""
    kernel_frequencies: int
    """Frequencies of the whole kernel."""

    def other(self, compiled: bool) -> float:
        """By what there is beside transforms: `native` where it is `compiled`, else matrix products."""
        return self.sums if compiled else self.products

    def pays(self, compiled: bool) -> bool:
        """Whether transforms are worth being asked for."""
        return self.transforms < self.other(compiled) and self.kernel_frequencies <= LARGEST


def estimate(x_shape: Shape, k_shape: Shape, stride: Pair, padding: Pads, dilation: Pair, groups: int) -> Estimate:
    """What either way should take. The numbers were fitted to measured times: see docs/performance.md."""
    n, channels = x_shape[:2]
    o, c, h, w = k_shape
    positions = prod(output_size(x_shape[2:], (h, w), stride, padding, dilation))
    u, v = _size(x_shape, padding)
    frequencies = u * (v // 2 + 1)
    cells = n * channels * h * w * positions
    products, sums = cells * (10 + o // groups), cells * (2 + o // groups) / 5
    transforms = frequencies * (300 * (n * (channels + o) + c * o) + 10 * n * c * o)
    return Estimate(products, sums, transforms, frequencies * c * o)


def correlate(x: Array, k: Array, *, stride: Pair, padding: Pads, dilation: Pair, groups: int) -> Array:
    """F(Y) = F(X) conj(F(K)), summed over the channels of a group."""
    kernel, size = spread(np, k, dilation), _size(x.shape, padding)
    frequencies = _kernels(kernel, size, groups).swapaxes(-1, -2).conj()
    rows, columns = (
        (n + lo + hi - m) // s + 1
        for n, m, s, (lo, hi) in zip(x.shape[2:], kernel.shape[2:], stride, padding, strict=True)
    )
    y = np.empty((len(x), len(k), rows, columns), dtype=np.result_type(x, k))
    for images in _few(x, k.shape, size):
        full = _image(_images(padded(np, x[images], padding), size, groups) @ frequencies, size)
        y[images] = full[:, :, : rows * stride[0] : stride[0], : columns * stride[1] : stride[1]]
    return y


def correlate_input_adjoint(
    dy: Array, k: Array, x_shape: Shape, *, stride: Pair, padding: Pads, dilation: Pair, groups: int
) -> Array:
    """F(DX) = F(dY) F(K), summed over the filters of a group; the padding's own gradient is dropped."""
    size, ((top, _), (left, _)) = _size(x_shape, padding), padding
    frequencies = _kernels(spread(np, k, dilation), size, groups)
    dx = np.empty(x_shape, dtype=np.result_type(dy, k))
    for images in _few(dy, k.shape, size):
        full = _image(_images(spread(np, dy[images], stride), size, groups) @ frequencies, size)
        dx[images] = full[:, :, top : top + x_shape[2], left : left + x_shape[3]]
    return dx


def correlate_kernel_adjoint(
    x: Array, dy: Array, k_shape: Shape, *, stride: Pair, padding: Pads, dilation: Pair, groups: int
) -> Array:
    """F(DK) = F(X) conj(F(dY)), summed over the images."""
    size = _size(x.shape, padding)
    dk: Array = 0
    for images in _few(x, k_shape, size):
        seen = _images(padded(np, x[images], padding), size, groups)
        dk = dk + _images(spread(np, dy[images], stride), size, groups).swapaxes(-1, -2).conj() @ seen
    if len(x) == 0:
        return np.zeros(k_shape, dtype=np.result_type(x, dy))
    cells = scipy_fft().irfft2(dk.transpose(0, 3, 4, 1, 2), size, AXES).reshape(*k_shape[:2], *size)
    rows, columns = ((m - 1) * d + 1 for m, d in zip(k_shape[2:], dilation, strict=True))
    return np.ascontiguousarray(cells[:, :, : rows : dilation[0], : columns : dilation[1]])


def _few(x: Array, k_shape: Shape, size: Pair) -> Iterator[slice]:
    """A few images at a time, as many as the workspace holds."""
    n = at_once(x.shape[1], k_shape, size)
    for first in range(0, len(x), n):
        yield slice(first, first + n)


def at_once(channels: int, k_shape: Shape, size: Pair) -> int:
    """How many images' frequencies the workspace holds, at least one's."""
    return max(1, WORKSPACE // ((channels + k_shape[0]) * size[0] * (size[1] // 2 + 1)))


def workspace(x_shape: Shape, k_shape: Shape, padding: Pads) -> int:
    """Cells that a map holds beside its result: frequencies of the kernel and of a few images, of two cells each."""
    u, v = size = _size(x_shape, padding)
    n, o = min(x_shape[0], at_once(x_shape[1], k_shape, size)), k_shape[0]
    return 2 * u * (v // 2 + 1) * (n * (x_shape[1] + o) + k_shape[1] * o)


def _size(shape: Shape, padding: Pads = NO_PADDING) -> Pair:
    """A size that transforms fast and holds the padded image."""
    rows, columns = (n + lo + hi for n, (lo, hi) in zip(shape[2:], padding, strict=True))
    length = scipy_fft().next_fast_len
    return length(rows, real=True), length(columns, real=True)


def scipy_fft() -> Any:
    """The module, whose import takes as long as that of NumPy and all of xcnn, when it is asked for."""
    from scipy import fft

    return fft


def _images(x: Array, size: Pair, groups: int) -> Array:
    """(N, C, H, W) -> transforms (groups, u, v, N, C / groups): one matrix for each frequency."""
    n, c, *sizes = x.shape
    transforms = scipy_fft().rfft2(x.reshape(n, groups, c // groups, *sizes), size, AXES)
    return np.ascontiguousarray(transforms.transpose(1, 3, 4, 0, 2))


def _kernels(k: Array, size: Pair, groups: int) -> Array:
    """(O, C / groups, h, w) -> transforms (groups, u, v, O / groups, C / groups)."""
    o, *rest = k.shape
    transforms = scipy_fft().rfft2(k.reshape(groups, o // groups, *rest), size, AXES)
    return np.ascontiguousarray(transforms.transpose(0, 3, 4, 1, 2))


def _image(transforms: Array, size: Pair) -> Array:
    """Transforms (groups, u, v, N, C / groups) -> (N, C, H, W)."""
    groups, _, _, n, c = transforms.shape
    return scipy_fft().irfft2(transforms.transpose(3, 0, 4, 1, 2), size, AXES).reshape(n, groups * c, *size)
