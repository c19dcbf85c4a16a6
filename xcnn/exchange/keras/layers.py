"""Keras's layers as xcnn's: the table of them, those without weights, and the order of features behind each.

Keras has channels last. So kernels are turned, and what Flatten made of an image lies in another order here: `order`
goes with every row of features, and tells the number that each has there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xcnn import layers
from xcnn.exchange.keras import kernels, norms
from xcnn.exchange.keras.activations import activated, prelu, relu, softmax
from xcnn.exchange.keras.given import Given, Order, Part, UnsupportedError
from xcnn.layers.layer import Layer


def pooling(cls: Callable[..., Layer]) -> Callable[[Given], list[Part]]:
    """A pooling of windows, side by side where it tells no strides."""

    def convert(given: Given) -> list[Part]:
        given.only(data_format="channels_last")
        stride = given.size("strides", None)
        return [Part(cls(given.size("pool_size", 2), stride, padding=given.option("padding", "valid")))]

    return convert


def global_pooling(cls: Callable[[], Layer]) -> Callable[[Given], list[Part]]:
    """A pooling of all cells, which may leave one."""

    def convert(given: Given) -> list[Part]:
        given.only(data_format="channels_last")
        kept = [Part(layers.Reshape((given.shape[0], *(1 for _ in given.shape[1:]))), suffix="cell")]
        return [Part(cls()), *(kept if given.option("keepdims", False) else [])]

    return convert


def reshape(given: Given) -> list[Part]:
    """From features to channels of one cell, or from an image to features: what keeps its order, or is a Flatten."""
    target = given.option("target_shape")
    if len(target) == 1:
        return [Part(layers.Flatten())]
    if len(given.shape) > 1 or given.order is not None or any(n != 1 for n in target[:-1]):
        raise UnsupportedError(f"target_shape={target}")
    return [Part(layers.Reshape((given.shape[0], *target[:-1])))]


def upsampling(given: Given) -> list[Part]:
    """UpSampling2D"""
    given.only(data_format="channels_last")
    return [Part(layers.UpSampling2D(given.size("size", 2), given.option("interpolation", "nearest")))]


def edges(cls: Callable[[Any], Layer], name: str) -> Callable[[Given], list[Part]]:
    """Cells around an image, or a signal, that are added or left out."""

    def convert(given: Given) -> list[Part]:
        given.only(data_format="channels_last")
        around = given.option(name, 1)
        return [Part(cls(tuple(map(_pair, around)) if isinstance(around, list) else around))]

    return convert


def _pair(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def plain(make: Callable[[Given], Layer]) -> Callable[[Given], list[Part]]:
    """A layer without weights."""
    return lambda given: [Part(make(given))]


def nothing(given: Given) -> list[Part]:
    """What changes nothing."""
    return []


def joined(cls: Callable[[], Layer]) -> Callable[[Given], list[Part]]:
    """A sum, a product or channels side by side, of several."""

    def convert(given: Given) -> list[Part]:
        if cls is layers.Concatenate:
            given.last_axis()
        elif len({None if order is None else order.tobytes() for order in given.orders}) > 1:
            raise UnsupportedError("features in different orders")
        return [Part(cls())]

    return convert


LAYERS: dict[str, Callable[[Given], list[Part]]] = {
    "Activation": activated,
    "ActivityRegularization": nothing,
    "Add": joined(layers.Add),
    "AveragePooling1D": pooling(layers.AveragePool1D),
    "AveragePooling2D": pooling(layers.AveragePool2D),
    "BatchNormalization": norms.batch_norm,
    "Concatenate": joined(layers.Concatenate),
    "Conv1D": kernels.conv1d,
    "Conv1DTranspose": kernels.transposed(layers.Conv1DTranspose),
    "Conv2D": kernels.conv2d,
    "Conv2DTranspose": kernels.transposed(layers.Conv2DTranspose),
    "Cropping1D": edges(layers.Cropping1D, "cropping"),
    "Cropping2D": edges(layers.Cropping2D, "cropping"),
    "Dense": kernels.dense,
    "DepthwiseConv2D": kernels.depthwise_conv2d,
    "Dropout": plain(lambda given: layers.Dropout(given.option("rate"))),
    "ELU": plain(lambda given: layers.ELU(given.option("alpha", 1.0))),
    "Flatten": plain(lambda given: layers.Flatten()),
    "GlobalAveragePooling1D": global_pooling(layers.GlobalAveragePool1D),
    "GlobalAveragePooling2D": global_pooling(layers.GlobalAveragePool2D),
    "GlobalMaxPooling1D": global_pooling(layers.GlobalMaxPool1D),
    "GlobalMaxPooling2D": global_pooling(layers.GlobalMaxPool2D),
    "GroupNormalization": norms.group_norm,
    "LayerNormalization": norms.layer_norm,
    "LeakyReLU": plain(lambda given: layers.LeakyReLU(given.option("negative_slope", 0.3))),
    "MaxPooling1D": pooling(layers.MaxPool1D),
    "MaxPooling2D": pooling(layers.MaxPool2D),
    "Multiply": joined(layers.Multiply),
    "Normalization": norms.normalization,
    "PReLU": prelu,
    "ReLU": relu,
    "Rescaling": norms.rescaling,
    "Reshape": reshape,
    "SeparableConv2D": kernels.separable_conv2d,
    "Softmax": softmax,
    "SpatialDropout2D": plain(lambda given: layers.SpatialDropout2D(given.option("rate"))),
    "UpSampling1D": plain(lambda given: layers.UpSampling1D(given.size("size", 2))),
    "UpSampling2D": upsampling,
    "ZeroPadding1D": edges(layers.ZeroPadding1D, "padding"),
    "ZeroPadding2D": edges(layers.ZeroPadding2D, "padding"),
}
"""From a class of Keras's to what makes layers of xcnn's of it."""


def order_after(kind: str, given: Given) -> Order:
    """The order of the features that a layer gives."""
    if kind in ("Flatten", "Reshape") and len(given.shape) > 1:
        channels, *places = given.shape
        numbered = np.arange(channels * int(np.prod(places))).reshape(*places, channels)
        return np.moveaxis(numbered, -1, 0).reshape(-1)
    if kind == "Concatenate" and len(given.shape) == 1 and any(order is not None for order in given.orders):
        starts = np.cumsum([0, *(shape[0] for shape in given.shapes)])[:-1]
        orders = [np.arange(n) if o is None else o for (n,), o in zip(given.shapes, given.orders, strict=True)]
        return np.concatenate([order + start for order, start in zip(orders, starts, strict=True)])
    if kind == "Dense" or kind.startswith("Global"):
        return None
    return given.order
