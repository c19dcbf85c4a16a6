"""What a planned net takes of memory for one sample, counted before anything of that size is made."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from xcnn.core.random import Planner
from xcnn.core.types import Shape
from xcnn.core.windows import pair
from xcnn.layers.conv1d import Conv1D
from xcnn.layers.conv2d import Conv2D
from xcnn.layers.conv2d_transpose import Conv2DTranspose
from xcnn.layers.depthwise_conv2d import DepthwiseConv2D
from xcnn.layers.layer import Layer
from xcnn.layers.pooling import Pool2D
from xcnn.layers.sequential import Sequential
from xcnn.layers.upsampling2d import UpSampling2D

VIEW = 64
"""Cells that a view of an array is worth: each tap of a pool takes one, however few cells it meets."""

LARGEST_BATCH = 256
"""Samples of a prediction at a time at most."""


class Counter(Planner):
    """Counts cells while a net is planned: those of its input, of each layer's output, and of what that needs beside.

    A training step keeps about as many of each sample.
    """

    cells: int

    def __init__(self, input_shape: Shape) -> None:
        super().__init__()
        self.cells = prod(input_shape)

    def note(self, layer: Layer, input_shape: Shape, output_shape: Shape) -> None:
        """Count what a layer makes of a sample."""
        if not isinstance(layer, Sequential):  # whose output is that of its last
            self.cells += prod(output_shape) + sum(beside(layer, input_shape, output_shape))


def at_once(net: Layer, input_shape: Shape, cells: int) -> int:
    """How many samples go together through a net, whose layers' outputs then have so many cells.

    More samples at a time take less time each, up to what fills a device, and the more memory. A layer of somebody's
    own that can't be planned makes it LARGEST_BATCH.
    """
    counter = Counter(input_shape)
    try:
        net.init(counter, input_shape)
    except Exception:  # one that writes into what it draws, which plans do not bear
        return LARGEST_BATCH
    return min(max(cells // max(counter.cells, 1), 1), LARGEST_BATCH)


def beside(layer: Layer, input_shape: Shape, output_shape: Shape) -> Iterator[int]:
    """Cells that a layer makes beside its output: copies with padding, what a pool's taps meet, interpolation."""
    if isinstance(layer, Conv1D):
        layer, input_shape = layer.conv2d(), (input_shape[0], 1, input_shape[1])
    elif isinstance(layer, DepthwiseConv2D):
        layer = layer.conv2d(input_shape[0])
    if isinstance(layer, Conv2D | Conv2DTranspose | Pool2D):
        channels, *sizes = output_shape if isinstance(layer, Conv2DTranspose) else input_shape
        around = layer.window(tuple(input_shape[1:]))["padding"]
        if any(map(any, around)):
            yield channels * prod(n + lo + hi for n, (lo, hi) in zip(sizes, around, strict=True))
    if isinstance(layer, Pool2D):
        yield prod(pair("pool_size", layer.pool_size)) * max(prod(output_shape), VIEW)
    if isinstance(layer, UpSampling2D) and layer.interpolation == "bilinear":
        for n, times in zip(input_shape[1:], pair("size", layer.size), strict=True):
            yield n * n * times
