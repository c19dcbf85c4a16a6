"""Batch normalisation, channel by channel: a channel stays in cache from the first pass over it to the last."""

from __future__ import annotations

from typing import Any

import numpy as np

from xcnn_numpy.direct.lines import normal, normal_gradient, normal_sums, squares, total
from xcnn_numpy.direct.thread_pool import Shared


@Shared
def forward(
    x: Any, y: Any, mean: Any, variance: Any, inverse: Any, scale: Any, bias: Any, epsilon: float, train: bool,
    relu: bool, images: int, cells: int, part: int, first: int, last: int,
) -> None:  # fmt: skip
    """Y = f((X - mean) inverse scale + bias) in channels first to last - 1, inverse being 1 / sqrt(variance + epsilon).

    There are so many cells of a channel in an image; all arrays are flat. `train` says that mean and variance are to be
    the batch's own, and writes them.
    """
    pitch, m, number = mean.size * cells, images * cells, x.dtype.type
    for c in range(first, last):
        if train:
            mean[c] = total(x, c * cells, pitch, images, cells) / m
            variance[c] = squares(x, c * cells, pitch, mean[c], images, cells) / m
        inverse[c] = number(1) / np.sqrt(variance[c] + number(epsilon))
        normal(y, x, c * cells, pitch, (mean[c], scale[c] * inverse[c], bias[c]), relu, images, cells)


@Shared
def backward(
    x: Any, dy: Any, dx: Any, mean: Any, inverse: Any, scale: Any, bias: Any, dscale: Any, dbias: Any, train: bool,
    relu: bool, images: int, cells: int, part: int, first: int, last: int,
) -> None:  # fmt: skip
    """DX, dscale and dbias of channels first to last - 1; `train` says that mean and inverse are the batch's own."""
    pitch, m = mean.size * cells, images * cells
    for c in range(first, last):
        how = (mean[c], scale[c] * inverse[c], bias[c])
        plain, product = normal_sums(x, dy, c * cells, pitch, how, relu, images, cells)
        dbias[c], dscale[c] = plain, product * inverse[c]
        less, slope = (plain / m, product * inverse[c] * inverse[c] / m) if train else (0.0, 0.0)
        normal_gradient(dx, x, dy, c * cells, pitch, (*how, less, slope), relu, images, cells)
