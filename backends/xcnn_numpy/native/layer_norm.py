"""Layer normalisation row by row: what is normalised lies side by side, or is laid so where it is the channels.

Of whole images the order of cells does not matter: scale and bias, which are far smaller, are laid out as X lies.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from xcnn_host.buffers import empty
from xcnn_native.library import call
from xcnn_native.recording import constant

from xcnn.core.types import Array, Weights
from xcnn.layers import LayerNorm
from xcnn.layers.layer import Run
from xcnn_numpy.native.copy import copy
from xcnn_numpy.native.layout import LAST, as_lying, holds, new

if TYPE_CHECKING:
    from xcnn_strided.fusion import FusedBackward, Named

    from xcnn_numpy.host import Host


@dataclass(frozen=True)
class Rows:
    """Y = scale X_hat + bias over the last axes, or over the channels of each place."""

    backend: Host
    name: str
    layer: LayerNorm

    def fits(self, weights: Weights, x: Array) -> bool:
        scale, bias = (weights[self.name][key] for key in ("scale", "bias"))
        if not (
            holds(x) and x.size and type(scale) is type(bias) is np.ndarray and scale.dtype == bias.dtype == x.dtype
        ):
            return False
        try:
            axes = self.layer.axes(x.ndim)
        except Exception:
            return False
        whole = axes == tuple(range(x.ndim - len(axes), x.ndim)) or self.last(x)
        return whole and scale.shape == bias.shape == tuple(x.shape[axis] for axis in axes)

    def last(self, x: Array) -> bool:
        """Whether channels are to be neighbours: they are what is normalised, or lie so in images that are, whole."""
        if x.ndim not in LAST:
            return False
        axes = self.layer.axes(x.ndim)
        return axes == (1,) or (len(axes) == x.ndim - 1 and x.transpose(LAST[x.ndim]).flags.c_contiguous)

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, FusedBackward]:
        mine, dtype, threads, last = weights[self.name], x.dtype, self.backend.workers, self.last(x)
        whole = last and mine["scale"].ndim == x.ndim - 1
        scale, bias = (constant(partial(laid, mine[key], whole, threads)) for key in ("scale", "bias"))
        x, y = as_lying(x, last, threads), new(x.shape, dtype, last)
        shape, cells = x.shape, scale.size
        rows = x.size // cells
        centres, inverses = empty((2, rows), dtype)
        call("layer_norm", dtype, x, rows, cells, self.layer.epsilon, scale, bias, y, centres, inverses, threads)

        def backward(dy: Array, grads: Weights) -> Array:
            dx, (dscale, dbias) = new(shape, dtype, last), empty((2, *scale.shape), dtype)
            dy = as_lying(dy, last, threads)
            call("layer_norm_back", dtype, x, dy, rows, cells, scale, centres, inverses, dx, dscale, dbias, threads)
            grads[self.name] = {"scale": put_back(dscale, whole, threads), "bias": put_back(dbias, whole, threads)}
            return dx

        return y, backward


def laid(weight: Array, last: bool, threads: int) -> Array:
    """The weight of an image, with its channels last or as it is indexed."""
    return in_order(np.moveaxis(weight, 0, -1) if last else weight, threads)


def in_order(x: Array, threads: int) -> Array:
    """X in C's order."""
    return x if x.flags.c_contiguous else copy(x, empty(x.shape, x.dtype), threads)


def put_back(gradient: Array, last: bool, threads: int) -> Array:
    """Its gradient, as the weight is indexed."""
    return in_order(np.moveaxis(gradient, -1, 0), threads) if last else gradient


def fuse(backend: Host, layers: Named, n: int) -> tuple[int, Rows] | None:
    """LayerNorm."""
    name, layer = layers[n]
    return (1, Rows(backend, name, layer)) if type(layer) is LayerNorm else None
