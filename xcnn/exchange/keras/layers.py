"""Keras's layers as xcnn's: options by their names here, and arrays in their layouts.

Keras has channels last. So a kernel (height, width, in, out) becomes (out, in, height, width), and what Flatten made of
an image lies in another order here: `order` goes with every row of features, and tells the number that each has there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xcnn import layers
from xcnn.core.types import Shape
from xcnn.exchange.keras.files import Stored
from xcnn.layers.layer import Layer

Numbers: TypeAlias = NDArray[Any]
Order: TypeAlias = "Numbers | None"
"""Of each feature its number in Keras; None where it is its own."""


class UnsupportedError(ValueError):
    """A layer, or an option of one, that xcnn does not have."""


@dataclass(frozen=True)
class Part:
    """A layer of xcnn's, and the leaves of its weights: an array of the file's and what makes ours of it.

    Parameters
    ----------
    layer
        of xcnn
    weights
        by name: a function without arguments that brings the array
    suffix
        what its name has behind Keras's, where one of Keras's layers becomes several
    """

    layer: Layer
    weights: Mapping[str, Callable[[], Numbers]] = field(default_factory=dict)
    suffix: str = ""


@dataclass(frozen=True)
class Given:
    """A layer of Keras's with what it is given.

    Parameters
    ----------
    config
        its options
    shapes
        of its inputs, for a sample, as xcnn has them
    orders
        of their features
    arrays
        its own
    """

    config: Mapping[str, Any]
    shapes: Sequence[Shape]
    orders: Sequence[Order]
    arrays: Sequence[Stored]

    @property
    def shape(self) -> Shape:
        """Of its first input."""
        return self.shapes[0]

    @property
    def order(self) -> Order:
        """Of its first input."""
        return self.orders[0]

    def option(self, name: str, default: Any = None) -> Any:
        """An option of Keras's."""
        return self.config.get(name, default)

    def size(self, name: str, default: Any = 1) -> Any:
        """A whole number, or two in a list, as a number or a pair."""
        value = self.option(name, default)
        return tuple(value) if isinstance(value, list) else value

    def only(self, **expected: Any) -> None:
        """Raise unless these options are as expected, or not told."""
        for name, value in expected.items():
            if (found := self.option(name, value)) not in (value, None):
                raise UnsupportedError(f"{name}={found!r}")

    def array(self, n: int, change: Callable[[Numbers], Numbers] = lambda array: array) -> Callable[[], Numbers]:
        """What brings its n-th array, changed."""
        if n >= len(self.arrays):
            raise UnsupportedError(f"{len(self.arrays)} arrays in the file, where it has more")
        return lambda: change(self.arrays[n].read())

    def ordered(self, rows: Numbers) -> Numbers:
        """Features, or rows of a kernel that meets features, in our order."""
        return rows if self.order is None else rows[self.order]

    def last_axis(self, name: str = "axis") -> None:
        """Raise unless an option names the axis of the channels."""
        axis = self.option(name, -1)
        axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
        if axis not in (-1, len(self.shape)):
            raise UnsupportedError(f"{name}={axis!r}, which are not the channels")


def channels_first(array: Numbers) -> Numbers:
    """(..., channels) -> (channels, ...)"""
    return np.moveaxis(array, -1, 0)


def out_in(kernel: Numbers) -> Numbers:
    """(..., in, out) -> (out, in, ...)"""
    return np.ascontiguousarray(np.moveaxis(kernel, (-1, -2), (0, 1)))


# Activations.

ACTIVATIONS: dict[str, Callable[[], Layer]] = {
    "elu": layers.ELU, "gelu": layers.GELU, "hard_sigmoid": layers.HardSigmoid, "hard_silu": layers.HardSwish,
    "hard_swish": layers.HardSwish, "leaky_relu": lambda: layers.LeakyReLU(0.2), "log_softmax": layers.LogSoftmax,
    "mish": layers.Mish, "relu": layers.ReLU, "relu6": lambda: layers.ClippedReLU(6.0), "selu": layers.SELU,
    "sigmoid": layers.Sigmoid, "silu": layers.SiLU, "softmax": layers.Softmax, "softplus": layers.Softplus,
    "softsign": layers.Softsign, "swish": layers.SiLU, "tanh": layers.Tanh,
}  # fmt: skip


def activated(given: Given, *parts: Part) -> list[Part]:
    """The parts, and the activation that is an option of theirs."""
    name = given.option("activation")
    if name in (None, "linear"):
        return [*parts]
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise UnsupportedError(f"activation={str(name)[:60]!r}")
    return [*parts, Part(ACTIVATIONS[name](), suffix="activation")]


def relu(given: Given) -> list[Part]:
    """ReLU, with a leak or a largest value."""
    given.only(threshold=0.0)
    most, leak = given.option("max_value"), given.option("negative_slope", 0.0)
    if most is not None and leak:
        raise UnsupportedError("max_value and negative_slope together")
    return [Part(layers.ClippedReLU(float(most)) if most else layers.LeakyReLU(leak) if leak else layers.ReLU())]


def prelu(given: Given) -> list[Part]:
    """A slope for each channel."""
    if len(given.shape) > 1 and given.option("shared_axes") != [*range(1, len(given.shape))]:
        raise UnsupportedError("shared_axes that are not all but the channels")
    return [Part(layers.PReLU(), {"negative_slope": given.array(0, lambda a: given.ordered(a.reshape(-1)))})]


def softmax(given: Given) -> list[Part]:
    """Along the channels."""
    given.last_axis()
    return [Part(layers.Softmax())]


# Convolutions, and what else has kernels.


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


def conv1d(given: Given) -> list[Part]:
    """Conv1D, whose "causal" padding is all in front."""
    how = {name: value[0] if isinstance(value, tuple) else value for name, value in windows(given).items()}
    (cells,) = given.size("kernel_size")
    if how["padding"] == "causal":
        how["padding"] = ((cells - 1) * how["dilation"], 0)
    layer = layers.Conv1D(given.option("filters"), cells, groups=given.option("groups", 1), **how)
    return activated(given, Part(layer, {"kernel": given.array(0, out_in), **biased(given, 1)}))


def depthwise(given: Given, **how: Any) -> Part:
    """A kernel for each channel."""
    layer = layers.DepthwiseConv2D(
        given.size("kernel_size"), given.option("depth_multiplier", 1), **{**windows(given), **how}
    )

    def ours(kernel: Numbers) -> Numbers:
        return np.moveaxis(kernel, (2, 3), (0, 1)).reshape(-1, 1, *kernel.shape[:2])

    return Part(layer, {"kernel": given.array(0, ours), **(biased(given, 1) if layer.bias else {})})


def depthwise_conv2d(given: Given) -> list[Part]:
    """DepthwiseConv2D"""
    return activated(given, depthwise(given))


def separable_conv2d(given: Given) -> list[Part]:
    """A depthwise convolution, and one of 1x1."""
    first = depthwise(given, bias=False)
    second = layers.Conv2D(given.option("filters"), 1, bias=bool(given.option("use_bias", True)))
    return activated(
        given, Part(first.layer, first.weights, "depthwise"),
        Part(second, {"kernel": given.array(1, out_in), **biased(given, 2)}, "pointwise"),
    )  # fmt: skip


def conv2d_transpose(given: Given) -> list[Part]:
    """Conv2DTranspose: without padding as large as its strides at least."""
    given.only(output_padding=None, dilation_rate=[1, 1], groups=1)
    how = {name: value for name, value in windows(given).items() if name != "dilation"}
    sizes, strides = given.size("kernel_size"), given.size("strides")
    extra = tuple(max(s - k, 0) for k, s in zip(sizes, strides, strict=True))
    if how["padding"] == "valid" and any(extra):
        how["output_padding"] = extra
    layer = layers.Conv2DTranspose(given.option("filters"), sizes, **how)
    return activated(given, Part(layer, {"kernel": given.array(0, out_in), **biased(given, 1)}))


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


# Norms.


def scale_and_bias(given: Given, change: Callable[[Numbers], Numbers]) -> tuple[dict[str, Callable[[], Numbers]], int]:
    """Gamma and beta, ones and zeros where there are none; and the number of the array behind them."""
    found: dict[str, Callable[[], Numbers]] = {}
    n = 0
    for name, option, default in (("scale", "scale", np.ones), ("bias", "center", np.zeros)):
        if given.option(option, True):
            found[name], n = given.array(n, change), n + 1
        else:
            found[name] = partial(default, given.shape[:1], np.float32)
    return found, n


def batch_norm(given: Given) -> list[Part]:
    """BatchNormalization of the channels."""
    given.last_axis()
    given.only(renorm=False)
    weights, n = scale_and_bias(given, given.ordered)
    weights |= {"running_mean": given.array(n, given.ordered), "running_variance": given.array(n + 1, given.ordered)}
    layer = layers.BatchNorm(momentum=given.option("momentum", 0.99), epsilon=given.option("epsilon", 1e-3))
    return [Part(layer, weights)]


def layer_norm(given: Given) -> list[Part]:
    """LayerNormalization of the channels at each place, or of all."""
    given.only(rms_scaling=False)
    axis: int | None = 1
    change: Callable[[Numbers], Numbers] = given.ordered
    if given.option("axis") == [*range(1, len(given.shape) + 1)] and len(given.shape) > 1:
        axis, change = None, channels_first
        if not (given.option("center", True) and given.option("scale", True)):
            raise UnsupportedError("all axes without scale or center")
    else:
        given.last_axis()
    weights, _ = scale_and_bias(given, change)
    return [Part(layers.LayerNorm(axis=axis, epsilon=given.option("epsilon", 1e-3)), weights)]


def group_norm(given: Given) -> list[Part]:
    """GroupNormalization of the channels; -1 is a group for each."""
    given.last_axis()
    groups = given.option("groups", 32)
    weights, _ = scale_and_bias(given, given.ordered)
    layer = layers.GroupNorm(given.shape[0] if groups == -1 else groups, epsilon=given.option("epsilon", 1e-3))
    if given.order is not None:
        raise UnsupportedError("groups of what was flattened")
    return [Part(layer, weights)]


def rescaling(given: Given) -> list[Part]:
    """A factor and a summand."""
    factor, summand = given.option("scale", 1.0), given.option("offset", 0.0)
    if given.order is not None and (isinstance(factor, list) or isinstance(summand, list)):
        raise UnsupportedError("a factor for each of what was flattened")

    def each(number: Any) -> Callable[[], Numbers]:
        return lambda: np.array(np.broadcast_to(np.asarray(number, np.float32), given.shape[:1]))

    return [Part(layers.Scale(bias=True), {"scale": each(factor), "bias": each(summand)})]


def normalization(given: Given) -> list[Part]:
    """(X - mean) / sqrt(variance) of each channel, with numbers that were measured."""
    given.last_axis()
    given.only(invert=False)
    if given.order is not None or len(given.arrays) < 2:
        raise UnsupportedError("numbers of its own" if given.order is None else "what was flattened")

    def inverse() -> Numbers:
        deviation: Numbers = np.maximum(np.sqrt(given.arrays[1].read().reshape(-1)), 1e-7)
        return 1 / deviation

    return [
        Part(layers.Scale(bias=True), {"scale": inverse, "bias": given.array(0, lambda a: -a.reshape(-1) * inverse())})
    ]


# Poolings, and what has no weights.


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
        kept = [Part(layers.Reshape((given.shape[0], 1, 1)), suffix="cell")] if given.option("keepdims", False) else []
        return [Part(cls()), *kept]

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


def zero_padding(given: Given) -> list[Part]:
    """ZeroPadding2D"""
    given.only(data_format="channels_last")
    around = given.option("padding", 1)
    return [Part(layers.ZeroPadding2D(tuple(map(_pair, around)) if isinstance(around, list) else around))]


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
    "AveragePooling2D": pooling(layers.AveragePool2D),
    "BatchNormalization": batch_norm,
    "Concatenate": joined(layers.Concatenate),
    "Conv1D": conv1d,
    "Conv2D": conv2d,
    "Conv2DTranspose": conv2d_transpose,
    "Dense": dense,
    "DepthwiseConv2D": depthwise_conv2d,
    "Dropout": plain(lambda given: layers.Dropout(given.option("rate"))),
    "ELU": plain(lambda given: layers.ELU(given.option("alpha", 1.0))),
    "Flatten": plain(lambda given: layers.Flatten()),
    "GlobalAveragePooling2D": global_pooling(layers.GlobalAveragePool2D),
    "GlobalMaxPooling2D": global_pooling(layers.GlobalMaxPool2D),
    "GroupNormalization": group_norm,
    "LayerNormalization": layer_norm,
    "LeakyReLU": plain(lambda given: layers.LeakyReLU(given.option("negative_slope", 0.3))),
    "MaxPooling2D": pooling(layers.MaxPool2D),
    "Multiply": joined(layers.Multiply),
    "Normalization": normalization,
    "PReLU": prelu,
    "ReLU": relu,
    "Rescaling": rescaling,
    "Reshape": reshape,
    "SeparableConv2D": separable_conv2d,
    "Softmax": softmax,
    "SpatialDropout2D": plain(lambda given: layers.SpatialDropout2D(given.option("rate"))),
    "UpSampling2D": upsampling,
    "ZeroPadding2D": zero_padding,
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
    if kind in ("Dense", "GlobalAveragePooling2D", "GlobalMaxPooling2D"):
        return None
    return given.order
