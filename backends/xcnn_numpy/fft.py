"""Correlation as a product of Fourier transforms: its work does not grow with the kernel.

Each map is a circular correlation or convolution of arrays padded to one size; what wraps around falls on cells that
are not kept. Transforms run at the arrays' own precision.
"""

from __future__ import annotations

from math import prod

import numpy as np
from scipy import fft

from xcnn._arrays import dilate, pad
from xcnn._typing import Array, Pads, Pair, Shape

AXES = (-2, -1)
LARGE = 400
"""Kernel cells from which `auto` takes this algorithm: see docs/performance.md."""


def pays(x_shape: Shape, k_shape: Shape) -> bool:
    """Whether transforms beat matrix products for these shapes."""
    return prod(k_shape[2:]) >= LARGE


def correlate(x: Array, k: Array, *, stride: Pair, padding: Pads, dilation: Pair, groups: int) -> Array:
    """F(Y) = F(X) conj(F(K)), summed over the channels of a group."""
    padded, kernel = pad(x, padding), dilate(k, dilation)
    size = _size(padded.shape)
    y = _image(_images(padded, size, groups) @ _transposed(np.conj(_kernels(kernel, size, groups))), size)
    rows, columns = (n - m + 1 for n, m in zip(padded.shape[2:], kernel.shape[2:], strict=True))
    return np.ascontiguousarray(y[:, :, : rows : stride[0], : columns : stride[1]])


def correlate_input_adjoint(
    dy: Array, k: Array, x_shape: Shape, *, stride: Pair, padding: Pads, dilation: Pair, groups: int
) -> Array:
    """F(DX) = F(dY) F(K), summed over the filters of a group; the padding's own gradient is dropped."""
    spread, kernel = dilate(dy, stride), dilate(k, dilation)
    size = _size(x_shape, padding)
    dx = _image(_images(spread, size, groups) @ _kernels(kernel, size, groups), size)
    (top, _), (left, _) = padding
    return np.ascontiguousarray(dx[:, :, top : top + x_shape[2], left : left + x_shape[3]])


def correlate_kernel_adjoint(
    x: Array, dy: Array, k_shape: Shape, *, stride: Pair, padding: Pads, dilation: Pair, groups: int
) -> Array:
    """F(DK) = F(X) conj(F(dY)), summed over the images."""
    padded, spread = pad(x, padding), dilate(dy, stride)
    size = _size(padded.shape)
    dk = _transposed(np.conj(_images(spread, size, groups))) @ _images(padded, size, groups)
    cells = fft.irfft2(dk.transpose(0, 3, 4, 1, 2), size, AXES).reshape(*k_shape[:2], *size)
    rows, columns = ((m - 1) * d + 1 for m, d in zip(k_shape[2:], dilation, strict=True))
    return np.ascontiguousarray(cells[:, :, : rows : dilation[0], : columns : dilation[1]])


def _size(shape: Shape, padding: Pads = ((0, 0), (0, 0))) -> Pair:
    """A size that transforms fast and holds the padded image."""
    rows, columns = (n + lo + hi for n, (lo, hi) in zip(shape[2:], padding, strict=True))
    return fft.next_fast_len(rows, real=True), fft.next_fast_len(columns, real=True)


def _images(x: Array, size: Pair, groups: int) -> Array:
    """(N, C, H, W) -> transforms (groups, u, v, N, C / groups): one matrix for each frequency."""
    n, c, *sizes = x.shape
    return np.ascontiguousarray(
        fft.rfft2(x.reshape(n, groups, c // groups, *sizes), size, AXES).transpose(1, 3, 4, 0, 2)
    )


def _kernels(k: Array, size: Pair, groups: int) -> Array:
    """(O, C / groups, h, w) -> transforms (groups, u, v, O / groups, C / groups)."""
    o, *rest = k.shape
    return np.ascontiguousarray(fft.rfft2(k.reshape(groups, o // groups, *rest), size, AXES).transpose(0, 3, 4, 1, 2))


def _image(transforms: Array, size: Pair) -> Array:
    """Transforms (groups, u, v, N, C / groups) -> (N, C, H, W)."""
    groups, _, _, n, c = transforms.shape
    return fft.irfft2(transforms.transpose(3, 0, 4, 1, 2), size, AXES).reshape(n, groups * c, *size)


def _transposed(matrices: Array) -> Array:
    return matrices.swapaxes(-1, -2)
