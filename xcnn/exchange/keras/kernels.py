"""Keras's layers with kernels: (height, width, in, out) becomes (out, in, height, width)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xcnn import layers
from xcnn.exchange.keras.activations import activated
from xcnn.exchange.keras.given import Given, Numbers, Part, UnsupportedError, out_in
from xcnn.layers.layer import Layer


def biased(given: Given, n: int) -> dict[str, Callable[[], Numbers]]:
    """The bias, which is the n-th array, if there is one."""
    return {"bias": given.array(n)} if given.option("use_bias", True) else {}


def windows(given: Given) -> dict[str, Any]:
    """Stride, padding, dilation and bias."""
    given.only(data_format="channels_last")
    return {
        "stride": given.size("strides"), "padding": given.option("padding", "valid"),
        "dilation": given.size("dilation_rate"), "bias": bool(given.option("use_bias", True)),
    }  # fmt: skip


def conv2d(given: Given) -> list[Part]:
    """Conv2D"""
    layer = layers.Conv2D(
        given.option("filters"), given.size("kernel_size"), groups=given.option("groups", 1), **windows(given)
    )
    return activated(given, Part(layer, {"kernel": given.array(0, out_in), **biased(given, 1)}))


def windows1d(given: Given) -> dict[str, Any]:
    """As of images; "causal" padding is all in front."""
    how = windows(given)
    if how["padding"] == "causal":
        how["padding"] = ((given.size("kernel_size") - 1) * how["dilation"], 0)
    return how


def conv1d(given: Given) -> list[Part]:
    """Conv1D"""
    layer = layers.Conv1D(
        given.option("filters"), given.size("kernel_size"), groups=given.option("groups", 1), **windows1d(given)
    )
    return activated(given, Part(layer, {"kernel": given.array(0, out_in), **biased(given, 1)}))


def depthwise(given: Given, **how: Any) -> Part:
    """A kernel for each channel."""
    layer = layers.DepthwiseConv2D(
        given.size("kernel_size"), depth_multiplier=given.option("depth_multiplier", 1), **{**windows(given), **how}
    )

    def ours(kernel: Numbers) -> Numbers:
        return np.moveaxis(kernel, (2, 3), (0, 1)).reshape(-1, 1, *kernel.shape[:2])

    return Part(layer, {"kernel": given.array(0, ours), **(biased(given, 1) if layer.bias else {})})


def depthwise_conv2d(given: Given) -> list[Part]:
    """DepthwiseConv2D"""
    return activated(given, depthwise(given))


def separable_conv2d(given: Given) -> list[Part]:
    """A depthwise convolution, and one of 1x1."""
    return separable(given, depthwise(given, bias=False), layers.Conv2D)


def depthwise1d(given: Given, bias: bool) -> Part:
    """A kernel for each channel of a signal: as many groups as it has channels."""
    channels, times = given.shape[0], given.option("depth_multiplier", 1)
    layer = layers.Conv1D(
        channels * times, given.size("kernel_size"), groups=channels, **{**windows1d(given), "bias": bias}
    )

    def ours(kernel: Numbers) -> Numbers:
        return np.moveaxis(kernel, (1, 2), (0, 1)).reshape(-1, 1, kernel.shape[0])

    return Part(layer, {"kernel": given.array(0, ours), **(biased(given, 1) if bias else {})})


def depthwise_conv1d(given: Given) -> list[Part]:
    """DepthwiseConv1D"""
    return activated(given, depthwise1d(given, bool(given.option("use_bias", True))))


def separable_conv1d(given: Given) -> list[Part]:
    """A depthwise convolution of signals, and one of single cells."""
    return separable(given, depthwise1d(given, bias=False), layers.Conv1D)


def separable(given: Given, first: Part, pointwise: Callable[..., Layer]) -> list[Part]:
    """A depthwise convolution, and one of single cells behind it."""
    second = pointwise(given.option("filters"), 1, bias=bool(given.option("use_bias", True)))
    return activated(
        given, Part(first.layer, first.weights, "depthwise"),
        Part(second, {"kernel": given.array(1, out_in), **biased(given, 2)}, "pointwise"),
    )  # fmt: skip


def transposed(cls: Callable[..., Layer]) -> Callable[[Given], list[Part]]:
    """A transposed convolution, whose output without padding is as large as its strides at least."""

    def convert(given: Given) -> list[Part]:
        given.only(output_padding=None, groups=1)
        how = windows(given)
        if how["dilation"] not in (1, (1, 1)):
            raise UnsupportedError(f"dilation_rate={how['dilation']}")
        sizes, strides = given.size("kernel_size"), given.size("strides")
        extra = np.maximum(np.subtract(strides, sizes), 0).tolist()
        if how["padding"] == "valid" and np.any(extra):
            how["output_padding"] = tuple(extra) if isinstance(extra, list) else extra
        layer = cls(given.option("filters"), sizes, **how)
        return activated(given, Part(layer, {"kernel": given.array(0, out_in), **biased(given, 1)}))

    return convert


def dense(given: Given) -> list[Part]:
    """Dense, at each place where there are places."""
    units, bias = given.option("units"), bool(given.option("use_bias", True))
    if len(given.shape) == 1:
        weights = {"kernel": given.array(0, given.ordered), **biased(given, 1)}
        return activated(given, Part(layers.Dense(units, bias=bias), weights))
    places = len(given.shape) - 1
    layer = layers.Conv1D(units, 1, bias=bias) if places == 1 else layers.Conv2D(units, 1, bias=bias)
    kernel = given.array(0, lambda a: out_in(a).reshape(*a.shape[::-1], *(1,) * places))
    return activated(given, Part(layer, {"kernel": kernel, **biased(given, 1)}))
