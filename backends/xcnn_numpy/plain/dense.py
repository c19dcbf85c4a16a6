"""A fully connected layer and the activation after it; its products shared out among threads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from xcnn_host.buffers import empty

from xcnn.core.types import Array, Weights
from xcnn.layers import Dense
from xcnn.layers.layer import Run
from xcnn_numpy.plain import activations, blas
from xcnn_numpy.runs import holds

if TYPE_CHECKING:
    from xcnn_strided.fusion import FusedBackward, Named

    from xcnn_numpy.host import Host


@dataclass(frozen=True)
class FusedDense:
    """Y = f(X W + B)."""

    backend: Host
    name: str
    layer: Dense
    activation: type | None

    def fits(self, weights: Weights, x: Array) -> bool:
        kernel = weights[self.name]["kernel"]
        return holds(x, kernel) and x.ndim == 2 and x.shape[1] == kernel.shape[0]

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, FusedBackward]:
        mine, threads = weights[self.name], self.backend.workers
        kernel, bias = mine["kernel"], mine.get("bias")
        (samples, features), units = x.shape, kernel.shape[1]
        y, products = empty((samples, units), x.dtype), samples * features * units

        def forward(first: int, last: int) -> None:
            mine = y[first:last]
            blas.product(x[first:last], kernel, mine)
            if bias is not None:
                mine += bias
            activations.apply(self.activation, mine)

        blas.share(forward, samples, products, threads)

        def backward(dy: Array, grads: Weights) -> Array:
            if self.activation is not None:
                before = empty(y.shape, y.dtype)
                activations.slope(self.activation, dy, y, before)
                dy = before
            dw = empty(kernel.shape, kernel.dtype)
            dx = empty(x.shape, x.dtype) if run.wants_dx else None

            def part(first: int, last: int) -> None:
                if samples == 1:
                    np.multiply(x[:, first:last].T, dy, out=dw[first:last])  # BLAS takes four times as long
                else:
                    blas.product(x[:, first:last].T, dy, dw[first:last])
                if dx is not None:
                    blas.product(dy, kernel[first:last].T, dx[:, first:last])

            blas.share(part, features, 2 * products, threads)
            grads[self.name] = (
                {"kernel": dw}
                if bias is None
                else {"kernel": dw, "bias": dy.sum(axis=0, dtype=np.float64).astype(dy.dtype)}
            )
            return dx

        return y, backward


def fuse(backend: Host, layers: Named, n: int) -> tuple[int, FusedDense] | None:
    """Dense, and the activation after it."""
    name, dense = layers[n]
    if type(dense) is not Dense:
        return None
    following = [type(layer) for _, layer in layers[n + 1 : n + 2]]
    activation = following[0] if following and following[0] in activations.FUSED else None
    return 1 + (activation is not None), FusedDense(backend, name, dense, activation)
