"""What follows a convolution or a product: bias and activation, or the sum with a shortcut, in one pass over memory."""

from __future__ import annotations

from math import prod
from typing import Any

from xcnn.core.types import Array
from xcnn_cupy.channels import PASSING, SUMMING, SUMS, added_up, alike, walk
from xcnn_cupy.device import THREADS, Device, by_channel, is_channels_last
from xcnn_cupy.kernels import Kernel
from xcnn_cupy.layout import converted, type_name

ACTIVATIONS = {None: "Identity", "relu": "ReLU", "sigmoid": "Sigmoid", "tanh": "Tanh"}
"""Activations by their names, and those of channels.cu."""


def activate(device: Device, y: Array, bias: Array | None, activation: str | None) -> None:
    """Y = f(Y + B), in place.

    Parameters
    ----------
    y : (N, C, ...) or (N, C)
        dense, in either order of memory
    bias : (C,), or untied, (C, H, W)
        of any floating type
    activation
        one of ACTIVATIONS
    """
    if not y.size or (bias is None and activation is None):
        return
    sizes = alike(y)
    if bias is not None:
        sizes = channels_of(y, untied=bias.ndim > 1)
        bias = laid_out(device, bias, y, SUMS[type_name(y.dtype)])
    way = walk(device, sizes, y)
    kernel = Kernel("channels", "activate", type_name(y.dtype), way.pack, ACTIVATIONS[activation])
    device.launch(kernel, way.blocks, THREADS, y, bias, way.box)


def activation_backward(
    device: Device, dy: Array, y: Array, activation: str | None, wants_bias: str | None
) -> tuple[Array, Array | None]:
    """DZ = dY f'(Z), by what Y says of Z, and the gradient of the bias: the sum of dZ for each of its cells.

    Parameters
    ----------
    dy, y : (N, C, ...) or (N, C)
        dense, in the same order of memory, of the same type
    wants_bias
        None, "tied" for (C,), or "untied" for (C, H, W)

    Returns
    -------
    dz
        like dy; without an activation it is dy itself
    dbias
        float32, or float64 where y is; that of an untied bias lies in memory as a sample of dy does. None where it is
        not wanted
    """
    if wants_bias is None and (activation is None or not dy.size):
        return dy, None
    last, sizes = is_channels_last(dy), alike(dy)
    dz = dy if activation is None else device.empty(dy.shape, dy.dtype, last)
    if wants_bias is not None:
        sizes = channels_of(dy, wants_bias == "untied")
    way = walk(device, sizes, dy, y, dz, most=PASSING if wants_bias is None else SUMMING)
    parts = None if wants_bias is None else device.empty((way.splits, way.channels), SUMS[type_name(dy.dtype)])
    kernel = Kernel("channels", "activation_backward", type_name(dy.dtype), way.pack, ACTIVATIONS[activation])
    device.launch(kernel, way.blocks, THREADS, dy, y, way.box, dz, parts)
    if parts is None:
        return dz, None
    dbias = added_up(device, parts)
    if wants_bias == "tied":
        return dz, dbias
    c, h, w = dy.shape[1:]
    return dz, dbias.reshape(h, w, c).transpose(2, 0, 1) if last else dbias.reshape(c, h, w)


def add(device: Device, a: Array, b: Array, relu: bool) -> Array:
    """A + b, or relu(a + b), of arrays that are alike in shape, type and order of memory."""
    y = device.empty(a.shape, a.dtype, is_channels_last(a))
    if a.size:
        way = walk(device, alike(a), a, b, y)
        kernel = Kernel("channels", "add", type_name(a.dtype), way.pack, ACTIVATIONS["relu" if relu else None])
        device.launch(kernel, way.blocks, THREADS, a, b, way.box, y)
    return y


def relu_backward(device: Device, dy: Array, y: Array) -> Array:
    """The gradient before the ReLU that gave y; y is alike in shape, type and order of memory."""
    return activation_backward(device, dy, y, "relu", None)[0]


def channels_of(y: Array, untied: bool) -> tuple[int, int, int]:
    """(outer, channels, inner) of memory, where each cell of a sample is a channel of its own for an untied bias."""
    return (y.shape[0], prod(y.shape[1:]), 1) if untied else by_channel(y)


def laid_out(device: Device, bias: Array, y: Array, kind: Any) -> Array:
    """A bias in the type of sums, and if it is untied, in memory as a sample of y lies."""
    if bias.ndim == 1:
        return converted(device, bias, kind, False)
    return converted(device, bias.reshape(1, *bias.shape), kind, is_channels_last(y))[0]
