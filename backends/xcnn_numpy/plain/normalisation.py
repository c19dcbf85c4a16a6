"""Batch normalisation and the ReLU after it, a few channels at a time, which stay in cache from pass to pass."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from xcnn_host.buffers import empty

from xcnn.core.types import Array, Weights
from xcnn_numpy.plain import blas
from xcnn_numpy.runs import Normalised, fuse_norm

BLOCK = 2**16
"""Cells of a few channels."""
LONGEST = 2**12
"""Cells of a line whose products are summed in its own type: longer lines are cut, and these sums added as doubles."""
PER_CELL = 100
"""A cell takes about as long as so many multiplications within a product of matrices."""


class Normalisation(Normalised):
    """Its passes by NumPy."""

    takes_shares: ClassVar[bool] = False

    def forward(self, x: Array, mine: Weights, mean: Array, variance: Array, train: bool) -> tuple[Array, Array]:
        scale, bias = mine["scale"], mine["bias"]
        m, most = x.size // x.shape[1], at_once(x)
        inverse, y = np.empty_like(scale), empty(x.shape, x.dtype)

        def part(first: int, last: int) -> None:
            for a in range(first, last, most):
                some = slice(a, min(a + most, last))
                if train:
                    mean[some] = total(x[:, some]) / m
                centred = x[:, some] - mean[some, None]
                if train:
                    variance[some] = dot(centred, centred) / m
                inverse[some] = 1 / np.sqrt(variance[some] + self.layer.epsilon)
                centred *= (scale[some] * inverse[some])[:, None]
                if self.relu:
                    centred += bias[some, None]
                    np.maximum(centred, 0, out=y[:, some])
                else:
                    np.add(centred, bias[some, None], out=y[:, some])

        blas.share(part, x.shape[1], PER_CELL * x.size, self.backend.workers)
        return y, inverse

    def backward(
        self, x: Array, dy: Array, y: Array, mine: Weights, mean: Array, inverse: Array, train: bool
    ) -> tuple[Array, Array, Array]:
        scale, m, most = mine["scale"], x.size // x.shape[1], at_once(x)
        dx, dscale, dbias = empty(x.shape, x.dtype), np.empty_like(scale), np.empty_like(scale)

        def part(first: int, last: int) -> None:
            for a in range(first, last, most):
                some = slice(a, min(a + most, last))
                slope = np.where(y[:, some] <= 0, dy.dtype.type(0), dy[:, some]) if self.relu else dy[:, some].copy()
                x_hat = x[:, some] - mean[some, None]
                x_hat *= inverse[some, None]
                dbias[some], dscale[some] = total(slope), dot(slope, x_hat)
                if train:
                    x_hat *= (dscale[some] / m)[:, None]
                    slope -= x_hat
                    slope -= (dbias[some] / m)[:, None]
                np.multiply(slope, (scale[some] * inverse[some])[:, None], out=dx[:, some])

        blas.share(part, x.shape[1], PER_CELL * x.size, self.backend.workers)
        return dx, dscale, dbias


def at_once(x: Array) -> int:
    """How many channels of (N, C, cells) make a block."""
    return max(1, BLOCK // int(x.shape[0] * x.shape[2]))


def total(x: Array) -> Array:
    """The sum of each channel of (N, C, cells): pairwise along a line, as NumPy has it, and double over images."""
    return x.sum(axis=2).sum(axis=0, dtype=np.float64)


def dot(a: Array, b: Array) -> Array:
    """The sum of a b in each channel of (N, C, cells), likewise."""
    n, c, cells = a.shape
    whole = cells // LONGEST * LONGEST
    sums = np.vecdot(a[:, :, whole:], b[:, :, whole:]).sum(axis=0, dtype=np.float64)
    if whole:
        pieces = [x[:, :, :whole].reshape(n, c, -1, LONGEST) for x in (a, b)]
        sums += np.vecdot(*pieces).sum(axis=(0, 2), dtype=np.float64)
    return sums


fuse = fuse_norm(Normalisation)
"""BatchNorm, and the ReLU after it."""
