"""A fully connected layer and the activation after it as one; all its gradients in one pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from xcnn_host.buffers import empty

from xcnn.core.checks import check_dy
from xcnn.core.types import Array, Weights
from xcnn.errors import inside
from xcnn.layers import Dense
from xcnn.layers.layer import Run
from xcnn_numpy.direct import products
from xcnn_numpy.direct.algorithm import LEAST, Direct, flat
from xcnn_numpy.direct.convolution import NUMBERS
from xcnn_numpy.direct.layout import SLACK
from xcnn_numpy.direct.lines import NONE
from xcnn_numpy.runs import holds

if TYPE_CHECKING:
    from xcnn_strided.fusion import FusedBackward, Named

    from xcnn_numpy.host import Host


@dataclass(frozen=True)
class FusedDense:
    """Y = f(X W + B)."""

    direct: Direct
    name: str
    layer: Dense
    activation: int

    def fits(self, weights: Weights, x: Array) -> bool:
        kernel = weights[self.name]["kernel"]
        return holds(x, kernel) and x.ndim == 2 and x.shape[1] == kernel.shape[0]

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, FusedBackward]:
        mine = weights[self.name]
        kernel, bias = mine["kernel"], mine.get("bias")
        (samples, features), units, activation = x.shape, kernel.shape[1], self.activation
        y = np.empty((samples, units), dtype=x.dtype)
        x_, w_, y_ = flat(x), flat(kernel), y.reshape(-1)
        b_ = np.empty(0, x.dtype) if bias is None else flat(bias)
        work = samples * features * units

        if samples < self.direct.threads and work >= LEAST:  # a thread takes features, whose weights it has updated
            sums = np.empty((self.direct.threads, samples * products.pitched(y_, units) + SLACK), dtype=x.dtype)
            parts = self.direct.share(products.partial, features, work, x_, w_, sums, samples, features, units)
            products.whole(sums, parts, b_, y_, samples, units, activation)
        else:
            self.direct.share(products.forward, samples, work, x_, w_, b_, y_, features, units, activation)

        def backward(dy: Array, grads: Weights) -> Array:
            with inside(self.name):
                check_dy(self.layer, y.shape, dy)
            dx = empty(x.shape if run.wants_dx else (0,), x.dtype)
            dw, db = empty(kernel.shape, x.dtype), np.empty(b_.size, dtype=x.dtype)
            dy_, dx_, dw_ = flat(dy), dx.reshape(-1), dw.reshape(-1)
            self.direct.share(
                products.backward, features, work, x_, dy_, y_, w_, dx_, dw_, db, features, units, activation
            )
            grads[self.name] = {"kernel": dw} if bias is None else {"kernel": dw, "bias": db}
            return dx if run.wants_dx else None

        return y, backward


def fuse(backend: Host, layers: Named, n: int) -> tuple[int, FusedDense] | None:
    """Dense, and the activation after it."""
    name, dense = layers[n]
    if type(dense) is not Dense:
        return None
    activation = NUMBERS.get(type(layers[n + 1][1]), NONE) if len(layers) > n + 1 else NONE
    return 1 + (activation != NONE), FusedDense(backend.direct, name, dense, activation)
