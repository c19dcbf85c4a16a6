"""Convolution, bias, ReLU and max-pooling in one pass, image by image; and all their gradients in another."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from xcnn.core.checks import check_dy
from xcnn.core.types import Array, Shape, Weights
from xcnn.core.windows import output_size, pair
from xcnn.errors import inside
from xcnn.layers import Conv2D, MaxPool2D, ReLU, Sigmoid
from xcnn.layers.layer import Run
from xcnn_numpy.direct.algorithm import NOTHING, Direct, lanes
from xcnn_numpy.direct.layout import Layout, layout
from xcnn_numpy.direct.lines import NONE, RELU, SIGMOID
from xcnn_numpy.direct.maps import Ending

if TYPE_CHECKING:
    from xcnn_strided.fusion import FusedBackward, Named

    from xcnn_numpy.host import Host

NUMBERS: dict[type, int] = {ReLU: RELU, Sigmoid: SIGMOID}
"""The activations that end a pass."""


@dataclass(frozen=True)
class Convolution:
    """Y = pool(relu(B + X * K)), as far as there is a bias, a ReLU and a pooling."""

    backend: Host
    name: str
    layer: Conv2D
    ending: Ending
    known: dict[tuple[Shape, Shape, int], tuple[Direct, Layout] | None] = field(default_factory=dict)

    def fits(self, weights: Weights, x: Array) -> bool:
        mine = weights[self.name]
        kernel, groups = mine["kernel"], self.layer.groups
        return (
            type(x) is np.ndarray
            and x.ndim == 4
            and x.dtype == kernel.dtype
            and x.dtype.char in "fd"
            and x.shape[1] == kernel.shape[1] * groups
            and (found := self.way(x, kernel)) is not None
            and (self.ending.bias != 2 or mine["bias"].shape == (found[1].filters, found[1].rows, found[1].columns))
        )

    def way(self, x: Array, kernel: Array) -> tuple[Direct, Layout] | None:
        """How images of this shape are computed; None where another algorithm is better."""
        x_shape, k_shape, vector = x.shape, kernel.shape, lanes(x)
        key = x_shape[1:], k_shape, vector
        if key not in self.known:
            how = self.layer.window(x_shape[2:])
            sizes = output_size(x_shape[2:], (k_shape[2], k_shape[3]), **how)
            chosen = self.backend.chosen(x_shape, k_shape, **how, groups=self.layer.groups) if min(sizes) > 0 else None
            direct = isinstance(chosen, Direct) and not (self.ending.pool and min(sizes) < 2)
            way = layout(key[0], k_shape, **how, groups=self.layer.groups, lanes=vector) if direct else None
            self.known[key] = (chosen, way) if isinstance(chosen, Direct) and way else None
        return self.known[key]

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, FusedBackward]:
        mine = weights[self.name]
        kernel, bias = mine["kernel"], mine.get("bias", NOTHING)
        found = self.way(x, kernel)
        assert found is not None
        direct, way = found
        y, which = direct.forward(x, kernel, bias, way, self.ending)
        kept = y if self.ending.activation and not self.ending.pool else NOTHING

        def backward(dy: Array, grads: Weights) -> Array:
            with inside(self.name):
                check_dy(self.layer, y.shape, dy)
            dx, dk, db = direct.backward(x, kernel, dy, kept, which, way, self.ending, (run.wants_dx, True))
            grads[self.name] = {"kernel": dk.reshape(kernel.shape)}
            if self.ending.bias:
                grads[self.name]["bias"] = db.reshape(bias.shape)
            return dx if run.wants_dx else None

        return y, backward


def fuse(backend: Host, layers: Named, n: int) -> tuple[int, Convolution] | None:
    """Conv2D, and the activation after it; and after ReLU MaxPool2D(2)."""
    name, conv = layers[n]
    if type(conv) is not Conv2D:
        return None
    activation = NUMBERS.get(type(layers[n + 1][1]), NONE) if len(layers) > n + 1 else NONE
    bias = {True: 1, False: 0, "untied": 2}[conv.bias]
    pool = activation == RELU and bias < 2 and len(layers) > n + 2 and pools_by_two(layers[n + 2][1])
    return 1 + (activation != NONE) + pool, Convolution(backend, name, conv, Ending(bias, activation, pool))


def pools_by_two(layer: object) -> bool:
    """Whether a layer is max-pooling by windows of two by two, side by side, without padding."""
    if type(layer) is not MaxPool2D or pair("pool_size", layer.pool_size) != (2, 2):
        return False
    return layer.window((2, 2)) == {"stride": (2, 2), "padding": ((0, 0), (0, 0))} and layer.padding != "same"
