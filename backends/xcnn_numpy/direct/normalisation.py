"""Batch normalisation and the ReLU after it as one."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from xcnn._typing import Array, Weights
from xcnn.checks import check_dy
from xcnn.errors import inside
from xcnn.layers import BatchNorm, ReLU
from xcnn.layers.layer import Next, Run
from xcnn_numpy.buffers import empty
from xcnn_numpy.direct import channels
from xcnn_numpy.direct.algorithm import Direct, flat
from xcnn_numpy.fusion import holds

if TYPE_CHECKING:
    from xcnn_numpy.backend import NumpyBackend
    from xcnn_numpy.fusion import FusedBackward, Named


@dataclass(frozen=True)
class Normalisation:
    """Y = relu(scale X_hat + bias), with or without the ReLU."""

    direct: Direct
    name: str
    layer: BatchNorm
    relu: bool

    def fits(self, weights: Weights, x: Array) -> bool:
        scale = weights[self.name]["scale"]
        return holds(x, scale) and x.ndim in (3, 4) and x.size > 0 and x.shape[1:2] == scale.shape

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, FusedBackward]:
        mine, train, relu = weights[self.name], run.train, self.relu
        running = {name: mine[name] for name in ("running_mean", "running_variance")}
        images, count = x.shape[:2]
        cells = prod(x.shape[2:])
        m, x_shape, x = images * cells, x.shape, flat(x)
        work = 8 * x.size  # a cell takes about as long as so many multiplications within a product
        mean, variance = map(flat, running.values())
        following = {name: Next(value) for name, value in running.items()}
        if train:
            mean, variance = np.empty_like(mean), np.empty_like(variance)
        scale, bias, inverse, y = flat(mine["scale"]), flat(mine["bias"]), np.empty_like(mean), empty(x.shape, x.dtype)
        self.direct.share(
            channels.forward, count, work, x, y, mean, variance, inverse, scale, bias, self.layer.epsilon, train, relu,
            images, cells,
        )  # fmt: skip
        if train and m > 1:
            moved = mean, variance * (m / (m - 1))
            following = {
                name: self.layer.moved(running[name], value) for name, value in zip(running, moved, strict=True)
            }

        def backward(dy: Array, grads: Weights) -> Array:
            with inside(self.name):
                check_dy(self.layer, x_shape, dy)
            dy, dx, dscale, dbias = flat(dy), empty(x.shape, x.dtype), np.empty_like(mean), np.empty_like(mean)
            self.direct.share(
                channels.backward, count, work, x, dy, dx, mean, inverse, scale, bias, dscale, dbias, train, relu,
                images, cells,
            )  # fmt: skip
            grads[self.name] = {"scale": dscale, "bias": dbias, **following}
            return dx.reshape(x_shape)

        return y.reshape(x_shape), backward


def fuse(backend: NumpyBackend, layers: Named, n: int) -> tuple[int, Normalisation] | None:
    """BatchNorm, and the ReLU after it."""
    name, norm = layers[n]
    if type(norm) is not BatchNorm:
        return None
    relu = len(layers) > n + 1 and type(layers[n + 1][1]) is ReLU
    return 1 + relu, Normalisation(backend.direct, name, norm, relu)
