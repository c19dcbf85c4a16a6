"""Batch normalisation, channel by channel: a channel stays in cache from the first pass over it to the last."""

from __future__ import annotations

from typing import Any

from xcnn_numpy.direct.lines import normal, normal_gradient, normal_sums, squares, total
from xcnn_numpy.direct.team import Shared


@Shared
def statistics(x: Any, mean: Any, variance: Any, images: int, cells: int, part: int, first: int, last: int) -> None:
    """Mean and variance of channels first to last - 1, in images of so many cells a channel. All arrays are flat."""
    pitch, m = mean.size * cells, images * cells
    for c in range(first, last):
        mean[c] = total(x, c * cells, pitch, images, cells) / m
        variance[c] = squares(x, c * cells, pitch, mean[c], images, cells) / m


@Shared
def forward(
    x: Any, y: Any, mean: Any, factor: Any, bias: Any, relu: bool, images: int, cells: int, part: int, first: int,
    last: int,
) -> None:  # fmt: skip
    """Y = f((X - mean) factor + bias) in channels first to last - 1."""
    for c in range(first, last):
        normal(y, x, c * cells, mean.size * cells, (mean[c], factor[c], bias[c]), relu, images, cells)


@Shared
def backward(
    x: Any, dy: Any, dx: Any, mean: Any, inverse: Any, factor: Any, bias: Any, dscale: Any, dbias: Any, train: bool,
    relu: bool, images: int, cells: int, part: int, first: int, last: int,
) -> None:  # fmt: skip
    """DX, dscale and dbias of channels first to last - 1; `train` says that mean and inverse are the batch's own."""
    pitch, m = mean.size * cells, images * cells
    for c in range(first, last):
        how = (mean[c], factor[c], bias[c])
        plain, product = normal_sums(x, dy, c * cells, pitch, how, relu, images, cells)
        dbias[c], dscale[c] = plain, product * inverse[c]
        less, slope = (plain / m, product * inverse[c] * inverse[c] / m) if train else (0.0, 0.0)
        normal_gradient(dx, x, dy, c * cells, pitch, (*how, less, slope), relu, images, cells)
