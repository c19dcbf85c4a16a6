"""Keras's layers as xcnn's: the table of them, those without weights, and the order of features behind each.

Keras has channels last. So kernels are turned, and what Flatten made of an image lies in another order here: `order`
goes with every row of features, and tells the number that each has there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any

import numpy as np

from xcnn import layers
from xcnn.core.types import Shape
from xcnn.exchange.keras import kernels, norms
from xcnn.exchange.keras.activations import activated, prelu, relu, softmax
from xcnn.exchange.keras.calls import AUGMENTATIONS
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


def flatten(given: Given) -> list[Part]:
    """All axes of a sample in one; `order_after` tells in which order."""
    given.only(data_format="channels_last")
    return [Part(layers.Flatten())]


def reshape(given: Given) -> list[Part]:
    """From features to channels of one cell, or from an image to features; else by Keras's order, channels last."""
    target = list(given.option("target_shape"))
    if len(target) == 1:
        return [Part(layers.Flatten())]
    if given.order is not None:
        raise UnsupportedError(f"target_shape={target} of what was flattened")
    if -1 in target:
        target[target.index(-1)] = prod(given.shape) // max(-prod(target), 1)
    if len(given.shape) == 1 and all(n == 1 for n in target[:-1]):
        return [Part(layers.Reshape((given.shape[0], *target[:-1])))]
    before = [Part(layers.Permute((*range(2, len(given.shape) + 1), 1)), suffix="last")] if len(given.shape) > 1 else []
    first = Part(layers.Permute((len(target), *range(1, len(target)))), suffix="first")
    return [*before, Part(layers.Reshape(tuple(target)), suffix="shape"), first]


def permute(given: Given) -> list[Part]:
    """Other axes, Keras's last one being our first."""
    dims = list(given.option("dims"))
    if sorted(dims) != [*range(1, len(given.shape) + 1)] or len(dims) == 1:
        raise UnsupportedError(f"dims={dims}")
    ours = [1 if axis == len(dims) else axis + 1 for axis in (dims[-1], *dims[:-1])]
    return [Part(layers.Permute(tuple(ours)))]


def resizing(given: Given) -> list[Part]:
    """Resizing to a height and a width."""
    given.only(data_format="channels_last", crop_to_aspect_ratio=False, pad_to_aspect_ratio=False, antialias=False)
    kinds = {"bilinear": "bilinear", "nearest": "nearest-exact"}
    interpolation = given.option("interpolation", "bilinear")
    if interpolation not in kinds:
        raise UnsupportedError(f"interpolation={interpolation!r}")
    size = given.option("height"), given.option("width")
    return [Part(layers.Resize(size, interpolation=kinds[interpolation]))]  # type: ignore[arg-type]


def adaptive(given: Given) -> list[Part]:
    """AdaptiveAveragePooling2D"""
    given.only(data_format="channels_last")
    return [Part(layers.AdaptiveAveragePool2D(given.size("output_size")))]


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
        else:
            in_one_order(given)
        return [Part(cls())]

    return convert


def in_one_order(given: Given) -> None:
    """Raise where cells of several values would meet others than in Keras."""
    if len({None if order is None else order.tobytes() for order in given.orders}) > 1:
        raise UnsupportedError("features in different orders")
    ranks = {len(shape) for shape in given.shapes}
    if len(ranks) > 1 and (min(ranks) > 1 or given.option("axes_from_the_last")):
        raise UnsupportedError(f"samples of {min(ranks)} and of {max(ranks)} axes")


def times(given: Given, factor: float, suffix: str, takes: int, shape: Shape) -> Part:
    """A value times a number."""
    scale = partial(np.full, shape[:1], factor, np.float32)
    return Part(layers.Scale(), {"scale": scale}, suffix, (takes,))


def average(given: Given) -> list[Part]:
    """The mean of several values."""
    in_one_order(given)
    count = len(given.shapes)
    whole = max(given.shapes, key=prod)
    return [Part(layers.Add(), suffix="sum"), times(given, 1 / count, "mean", count, whole)]


def subtract(given: Given) -> list[Part]:
    """The first without the second."""
    in_one_order(given)
    return [times(given, -1.0, "minus", 1, given.shapes[1]), Part(layers.Add(), takes=(0, 2))]


def extreme(largest: bool) -> Callable[[Given], list[Part]]:
    """The larger of values: y, and what x has more. The smaller: x without that."""

    def convert(given: Given) -> list[Part]:
        in_one_order(given)
        found, y, count = list[Part](), 0, len(given.shapes)
        for n in range(1, count):
            x, last = (n, y) if largest else (y, n)
            at = count + len(found)
            found += [
                times(given, -1.0, f"minus{n}", last, given.shape),
                Part(layers.Add(), suffix=f"apart{n}", takes=(x, at)),
                Part(layers.ReLU(), suffix=f"more{n}", takes=(at + 1,)),
            ]
            rest: tuple[int, ...] = (last, at + 2)
            if not largest:
                found.append(times(given, -1.0, f"less{n}", at + 2, given.shape))
                rest = (x, at + 3)
            found.append(Part(layers.Add(), suffix="" if n == count - 1 else f"part{n}", takes=rest))
            y = count + len(found) - 1
        return found

    return convert


LAYERS: dict[str, Callable[[Given], list[Part]]] = {
    "Activation": activated,
    "ActivityRegularization": nothing,
    "Add": joined(layers.Add),
    "AdaptiveAveragePooling2D": adaptive,
    "Average": average,
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
    "DepthwiseConv1D": kernels.depthwise_conv1d,
    "DepthwiseConv2D": kernels.depthwise_conv2d,
    "Dropout": plain(lambda given: layers.Dropout(given.option("rate"))),
    "ELU": plain(lambda given: layers.ELU(given.option("alpha", 1.0))),
    "Flatten": flatten,
    "GlobalAveragePooling1D": global_pooling(layers.GlobalAveragePool1D),
    "GlobalAveragePooling2D": global_pooling(layers.GlobalAveragePool2D),
    "GlobalMaxPooling1D": global_pooling(layers.GlobalMaxPool1D),
    "GlobalMaxPooling2D": global_pooling(layers.GlobalMaxPool2D),
    "GroupNormalization": norms.group_norm,
    "Identity": nothing,
    "LayerNormalization": norms.layer_norm,
    "LeakyReLU": plain(lambda given: layers.LeakyReLU(given.option("negative_slope", 0.3))),
    "Maximum": extreme(largest=True),
    "MaxPooling1D": pooling(layers.MaxPool1D),
    "MaxPooling2D": pooling(layers.MaxPool2D),
    "Minimum": extreme(largest=False),
    "Multiply": joined(layers.Multiply),
    "Normalization": norms.normalization,
    "PReLU": prelu,
    "Permute": permute,
    **dict.fromkeys(AUGMENTATIONS, nothing),
    "ReLU": relu,
    "Rescaling": norms.rescaling,
    "Reshape": reshape,
    "Resizing": resizing,
    "SeparableConv1D": kernels.separable_conv1d,
    "SeparableConv2D": kernels.separable_conv2d,
    "Softmax": softmax,
    "SpatialDropout2D": plain(lambda given: layers.SpatialDropout2D(given.option("rate"))),
    "Subtract": subtract,
    "UpSampling1D": plain(lambda given: layers.UpSampling1D(given.size("size", 2))),
    "UpSampling2D": upsampling,
    "ZeroPadding1D": edges(layers.ZeroPadding1D, "padding"),
    "ZeroPadding2D": edges(layers.ZeroPadding2D, "padding"),
}
"""From a class of Keras's to what makes layers of xcnn's of it."""


MOST_FEATURES = 1 << 22
"""Of an image that is flattened: their order here is a list, of which the file has nothing."""


def order_after(kind: str, given: Given) -> Order:
    """The order of the features that a layer gives."""
    if kind == "Flatten" or (kind == "Reshape" and len(given.option("target_shape")) == 1):
        if len(given.shape) == 1:
            return given.order
        channels, *places = given.shape
        if channels == 1 or all(n == 1 for n in places):
            return None
        if channels * prod(places) > MOST_FEATURES:
            raise UnsupportedError(f"more than {MOST_FEATURES:,} features")
        numbered = np.arange(channels * prod(places), dtype=np.int32).reshape(*places, channels)
        return np.moveaxis(numbered, -1, 0).reshape(-1)
    if kind == "Concatenate" and len(given.shape) == 1 and any(order is not None for order in given.orders):
        starts = np.cumsum([0, *(shape[0] for shape in given.shapes)])[:-1]
        orders = [np.arange(n) if o is None else o for (n,), o in zip(given.shapes, given.orders, strict=True)]
        return np.concatenate([order + start for order, start in zip(orders, starts, strict=True)])
    if kind == "Dense" or kind.startswith("Global"):
        return None
    return given.order
