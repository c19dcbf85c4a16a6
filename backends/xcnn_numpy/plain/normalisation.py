"""Batch normalisation and the ReLU after it, a few channels at a time, which stay in cache from pass to pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from xcnn._typing import Array, Weights
from xcnn.checks import check_dy
from xcnn.errors import inside
from xcnn.layers import BatchNorm, ReLU
from xcnn.layers.layer import Next, Run
from xcnn_numpy.buffers import empty
from xcnn_numpy.fusion import holds
from xcnn_numpy.plain import blas
from xcnn_numpy.threads import available

if TYPE_CHECKING:
    from xcnn_numpy.backend import NumpyBackend
    from xcnn_numpy.fusion import FusedBackward, Named

BLOCK = 2**16
"""Cells of a few channels."""
PER_CELL = 100
"""A cell takes about as long as so many multiplications within a product of matrices."""


@dataclass(frozen=True)
class Normalisation:
    """Y = relu(scale X_hat + bias), with or without the ReLU."""

    backend: NumpyBackend
    name: str
    layer: BatchNorm
    relu: bool

    def fits(self, weights: Weights, x: Array) -> bool:
        scale = weights[self.name]["scale"]
        return holds(x, scale) and x.ndim in (3, 4) and x.size > 0 and x.shape[1:2] == scale.shape

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, FusedBackward]:
        mine, train, x_shape = weights[self.name], run.train, x.shape
        scale, bias = mine["scale"], mine["bias"]
        running = {name: mine[name] for name in ("running_mean", "running_variance")}
        x = np.ascontiguousarray(x).reshape(*x.shape[:2], -1)
        images, count, cells = x.shape
        m, most, threads = images * cells, max(1, BLOCK // (images * cells)), self.backend.threads or available()
        mean, variance = (np.empty_like(value) if train else value for value in running.values())
        inverse, y = np.empty_like(scale), empty(x.shape, x.dtype)

        def forward(first: int, last: int) -> None:
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

        blas.share(forward, count, PER_CELL * x.size, threads)
        following = {name: Next(value) for name, value in running.items()}
        if train and m > 1:
            moved = mean, variance * (m / (m - 1))
            following = {
                name: self.layer.moved(running[name], value) for name, value in zip(running, moved, strict=True)
            }

        def backward(dy: Array, grads: Weights) -> Array:
            with inside(self.name):
                check_dy(self.layer, x_shape, dy)
            dy, dx = dy.reshape(x.shape), empty(x.shape, x.dtype)
            dscale, dbias = np.empty_like(scale), np.empty_like(scale)

            def part(first: int, last: int) -> None:
                for a in range(first, last, most):
                    some = slice(a, min(a + most, last))
                    slope = dy[:, some] * (y[:, some] > 0) if self.relu else dy[:, some].copy()
                    x_hat = x[:, some] - mean[some, None]
                    x_hat *= inverse[some, None]
                    dbias[some], dscale[some] = total(slope), dot(slope, x_hat)
                    if train:
                        x_hat *= (dscale[some] / m)[:, None]
                        slope -= x_hat
                        slope -= (dbias[some] / m)[:, None]
                    np.multiply(slope, (scale[some] * inverse[some])[:, None], out=dx[:, some])

            blas.share(part, count, PER_CELL * x.size, threads)
            grads[self.name] = {"scale": dscale, "bias": dbias, **following}
            return dx.reshape(x_shape)

        return y.reshape(x_shape), backward


def total(x: Array) -> Array:
    """The sum of each channel of (N, C, cells)."""
    return x.sum(axis=2).sum(axis=0)


def dot(a: Array, b: Array) -> Array:
    """The sum of a b in each channel of (N, C, cells)."""
    return np.vecdot(a, b).sum(axis=0)


def fuse(backend: NumpyBackend, layers: Named, n: int) -> tuple[int, Normalisation] | None:
    """BatchNorm, and the ReLU after it."""
    name, norm = layers[n]
    if type(norm) is not BatchNorm:
        return None
    relu = len(layers) > n + 1 and type(layers[n + 1][1]) is ReLU
    return 1 + relu, Normalisation(backend, name, norm, relu)
