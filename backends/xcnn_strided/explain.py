"""What the algorithms `gemm` and `literal` allocate."""

from __future__ import annotations

from math import prod

from xcnn.core.reference import NO_PADDING
from xcnn.core.types import Pads, Pair, Shape
from xcnn.core.windows import output_size
from xcnn_strided.gemm import Gemm


def gemm_workspace(
    gemm: Gemm, x_shape: Shape, k_shape: Shape, stride: Pair, padding: Pads, dilation: Pair, groups: int
) -> int:
    """Cells that `correlate` holds beside y: a few images padded, their windows, their products."""
    (n, channels, *_), (o, _, h, w) = x_shape, k_shape
    output = output_size(x_shape[2:], (h, w), stride, padding, dilation)
    at_once, positions = gemm.at_once(k_shape, output, groups), prod(output)
    plain = at_once == 1 and (h, w) == stride == (1, 1) and padding == NO_PADDING
    windows = 0 if plain else channels * h * w * positions
    products = o * positions if at_once > 1 else 0
    return min(n, at_once) * (channels * padded_plane(x_shape, padding) + windows + products)


def literal_workspace(x_shape: Shape, k_shape: Shape, padding: Pads, dilation: Pair) -> int:
    """Cells that scipy.signal's correlations hold beside y: the padded images, and one plane of products."""
    whole = output_size(x_shape[2:], (k_shape[2], k_shape[3]), (1, 1), padding, dilation)
    return x_shape[0] * x_shape[1] * padded_plane(x_shape, padding) + prod(whole)


def padded_plane(x_shape: Shape, padding: Pads) -> int:
    """Cells of the copy of one channel that padding makes."""
    if padding == NO_PADDING:
        return 0
    return prod(size + lo + hi for size, (lo, hi) in zip(x_shape[2:], padding, strict=True))
