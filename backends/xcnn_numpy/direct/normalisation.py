"""Batch normalisation and the ReLU after it as one, compiled, channel by channel."""

from __future__ import annotations

import numpy as np
from xcnn_host.buffers import empty

from xcnn.core.types import Array, Weights
from xcnn_numpy.direct import channels
from xcnn_numpy.direct.algorithm import flat
from xcnn_numpy.runs import Normalised, fuse_norm

PER_CELL = 8
"""A cell takes about as long as so many multiplications within a product."""


class Normalisation(Normalised):
    """Its passes by compiled loops."""

    def forward(self, x: Array, mine: Weights, mean: Array, variance: Array, train: bool) -> tuple[Array, Array]:
        images, count, cells = x.shape
        scale, bias, inverse, y = flat(mine["scale"]), flat(mine["bias"]), np.empty_like(mean), empty(x.shape, x.dtype)
        self.backend.direct.share(
            channels.forward, count, PER_CELL * x.size, flat(x), y.reshape(-1), flat(mean), flat(variance), inverse,
            scale, bias, self.layer.epsilon, train, self.relu, images, cells,
        )  # fmt: skip
        return y, inverse

    def backward(
        self, x: Array, dy: Array, y: Array, mine: Weights, mean: Array, inverse: Array, train: bool
    ) -> tuple[Array, Array, Array]:
        images, count, cells = x.shape
        scale, bias = flat(mine["scale"]), flat(mine["bias"])
        dx, dscale, dbias = empty(x.shape, x.dtype), np.empty_like(mean), np.empty_like(mean)
        self.backend.direct.share(
            channels.backward, count, PER_CELL * x.size, flat(x), flat(dy), dx.reshape(-1), flat(mean), inverse, scale,
            bias, dscale, dbias, train, self.relu, images, cells,
        )  # fmt: skip
        return dx, dscale, dbias


fuse = fuse_norm(Normalisation)
"""BatchNorm, and the ReLU after it."""
