"""Batch normalisation, with the ReLU after it or without: three launches forward, three backward.

Forward reads x twice and writes y, backward reads x and dy twice and writes dx. What belongs to channels is (C,), of
type float32, or float64 where x is.
"""

from __future__ import annotations

from typing import Any

from xcnn.core.types import Array
from xcnn.layers.batch_norm import EARLY, SETTLED
from xcnn_cupy.channels import SUMMING, SUMS, added_up, walk, way_of
from xcnn_cupy.device import THREADS, Device, by_channel, is_channels_last
from xcnn_cupy.kernels import Kernel
from xcnn_cupy.layout import type_name


def statistics(
    device: Device, x: Array, running: list[Array], momentum: float, epsilon: float
) -> tuple[Array, Array, Array, Array, Array]:
    """Each channel's mean and 1 / sqrt(variance + epsilon), and the running mean, variance and steps after this batch.

    `x` is (N, C, ...) or (N, C), dense, in either order of memory, and not empty. Its mean may be much larger than what
    it deviates from it. A single cell a channel leaves the running values as they are.
    """
    kind, c = SUMS[type_name(x.dtype)], x.shape[1]
    way = walk(device, by_channel(x), x, most=SUMMING)
    parts = device.empty((way.splits, 3, c), kind)
    device.launch(Kernel("channels", "moments", type_name(x.dtype), way.pack), way.blocks, THREADS, x, way.box, parts)
    mean, inverse, next_mean, next_variance = (device.empty((c,), kind) for _ in range(4))
    next_steps = device.empty((1,), kind)
    end = way_of((way.splits, c, 1), int(parts.dtype.itemsize), 1, most=0)
    device.launch(
        Kernel("channels", "finish_moments", kind), end.blocks, THREADS,
        parts, end.box, *running, momentum, EARLY, SETTLED, epsilon,
        mean, inverse, next_mean, next_variance, next_steps,
    )  # fmt: skip
    return mean, inverse, next_mean, next_variance, next_steps


def inverses(device: Device, variance: Array, epsilon: float) -> Array:
    """1 / sqrt(variance + epsilon), as `statistics` gives it, of a running variance."""
    inverse = device.empty(variance.shape, variance.dtype)
    if variance.size:
        blocks = -(-variance.size // THREADS)
        kernel = Kernel("channels", "inverses", type_name(variance.dtype))
        device.launch(kernel, blocks, THREADS, variance, variance.size, epsilon, inverse)
    return inverse


def normalise(device: Device, x: Array, mean: Array, inverse: Array, scale: Array, bias: Array, relu: bool) -> Array:
    """Y = scale X_hat + bias, or its ReLU, with X_hat = (X - mean) inverse. x is as for `statistics`, or empty."""
    y = device.empty(x.shape, x.dtype, is_channels_last(x))
    if x.size:
        way = walk(device, by_channel(x), x, y)
        kernel = Kernel("channels", "normalise", type_name(x.dtype), way.pack)
        device.launch(kernel, way.blocks, THREADS, x, mean, inverse, scale, bias, relu, way.box, y)
    return y


def normalise_backward(
    device: Device, dy: Array, x: Array, mean: Array, inverse: Array, scale: Array, bias: Array, relu: bool, train: bool
) -> tuple[Array, Array, Array]:
    """The gradients of `normalise`.

    Parameters
    ----------
    dy, x
        alike in shape, type and order of memory
    mean, inverse, scale, bias, relu
        as `normalise` had them: where y was 0 follows from them
    train
        whether mean and inverse are those of x

    Returns
    -------
    dx
        like x
    dscale, dbias
        (C,)
    """
    kind, c, sizes = SUMS[type_name(x.dtype)], x.shape[1], by_channel(x)
    given: tuple[Any, ...] = dy, x, mean, inverse, scale, bias, relu
    way = walk(device, sizes, dy, x, most=SUMMING)
    parts = device.empty((way.splits, 2 * c), kind)
    kernel = Kernel("channels", "normalise_sums", type_name(x.dtype), way.pack)
    device.launch(kernel, way.blocks, THREADS, *given, way.box, parts)
    sums = added_up(device, parts)
    dbias, dscale = sums[:c], sums[c:]
    dx = device.empty(x.shape, x.dtype, is_channels_last(x))
    if x.size:
        way = walk(device, sizes, dy, x, dx)
        kernel = Kernel("channels", "normalise_backward", type_name(x.dtype), way.pack)
        through = (dbias, dscale) if train else (None, None)
        device.launch(kernel, way.blocks, THREADS, *given, *through, sizes[0] * sizes[2], way.box, dx)
    return dx, dscale, dbias
