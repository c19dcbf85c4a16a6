"""The layers as operators of ONNX, one function each: what its nodes are for a batch of samples of a known shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import prod
from typing import Any, TypeVar

import numpy as np

from xcnn.core.random import Planner
from xcnn.core.types import Pads, Shape
from xcnn.core.windows import extent, pair
from xcnn.exchange.onnx.graph import Scope, Tensor
from xcnn.layers import (
    ELU,
    GELU,
    SELU,
    AdaptiveAveragePool2D,
    Add,
    AveragePool1D,
    AveragePool2D,
    BatchNorm,
    ClippedReLU,
    Concatenate,
    Conv1D,
    Conv1DTranspose,
    Conv2D,
    Conv2DTranspose,
    Cropping1D,
    Cropping2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePool1D,
    GlobalAveragePool2D,
    GlobalMaxPool1D,
    GlobalMaxPool2D,
    Graph,
    GroupNorm,
    HardSigmoid,
    HardSwish,
    InstanceNorm,
    Layer,
    LayerNorm,
    LeakyReLU,
    LocalResponseNorm,
    LogSoftmax,
    MaxPool1D,
    MaxPool2D,
    Mish,
    Multiply,
    Padding1D,
    Padding2D,
    Permute,
    PixelShuffle,
    PReLU,
    ReLU,
    Reshape,
    Residual,
    Resize,
    Scale,
    Sequential,
    Sigmoid,
    SiLU,
    Slice,
    Softmax,
    Softplus,
    Softsign,
    SpatialDropout2D,
    StandardizedConv2D,
    StochasticDepth,
    Tanh,
    UpSampling1D,
    UpSampling2D,
    ZeroPadding1D,
    ZeroPadding2D,
)
from xcnn.layers.adaptive_average_pool2d import means
from xcnn.layers.normalisation import standardise
from xcnn.layers.signals import OfSignals
from xcnn.layers.standardized_conv2d import AXES

Tree = Mapping[str, Any]
"""Weights as NumPy arrays."""
Writer = Callable[[Any, Tree, Any, Scope], Any]
"""From a layer, its weights, its input and its place to its output."""

LAYERS: dict[type, Writer] = {}
"""How each class of layers is written."""

Written = TypeVar("Written", bound=Writer)


def writes(*classes: type) -> Callable[[Written], Written]:
    """Enter a function into the table for these classes."""

    def enter(function: Written) -> Written:
        LAYERS.update(dict.fromkeys(classes, function))
        return function

    return enter


def write(layer: Layer, weights: Tree, x: Any, here: Scope) -> Any:
    """Add a layer's nodes, by the table or by its own `to_onnx`, and give its output; several are tuples."""
    writer = LAYERS.get(type(layer))
    return writer(layer, weights, x, here) if writer else layer.to_onnx(weights, x, here)  # type: ignore[attr-defined]


def after(layer: Layer, shape: Shape) -> Shape:
    """The shape of a sample behind a layer."""
    return tuple(layer.init(Planner(), shape)[1])


def flat(pads: Pads) -> list[int]:
    """(before, after) of each axis as ONNX lists them: what is before each, then what is after each."""
    return [lo for lo, _ in pads] + [hi for _, hi in pads]


# Containers.


@writes(Sequential)
def sequential(net: Sequential, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """Layers one after another."""
    for name, layer in net.named:
        x = write(layer, weights.get(name, {}), x, here.child(name))
    return x


@writes(Residual)
def residual(net: Residual, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """The sum of the layers and the shortcut."""
    y, beside = sequential(net.body, weights, x, here), x
    if net.shortcut is not None:
        beside = write(net.shortcut, weights.get("shortcut", {}), x, here.child("shortcut"))
    return here.node("Add", y, beside, shape=y.shape)


@writes(Graph)
def graph(net: Graph, weights: Tree, x: Any, here: Scope) -> Any:
    """Nodes by name; several inputs or outputs are tuples."""
    values = dict(zip(net.inputs, x if isinstance(x, tuple) else (x,), strict=True))
    for (name, layer), taken in net.wired_nodes():
        given = tuple(values[one] for one in taken)
        values[name] = write(layer, weights.get(name, {}), given if len(given) > 1 else given[0], here.child(name))
    y = tuple(values[name] for name in net.outputs)
    return y if len(y) > 1 else y[0]


def branches(net: Any, weights: Tree, x: Any, here: Scope) -> list[Tensor]:
    """The outputs of a container's branches, or the values that it is given."""
    if not net.named:
        return list(x)
    return [write(layer, weights.get(name, {}), x, here.child(name)) for name, layer in net.named]


@writes(Concatenate)
def concatenate(net: Concatenate, weights: Tree, x: Any, here: Scope) -> Tensor:
    """Channels, joined."""
    ys = branches(net, weights, x, here)
    return here.node("Concat", *ys, shape=(sum(y.shape[0] for y in ys), *ys[0].shape[1:]), axis=1)


@writes(Add, Multiply)
def joined(net: Add | Multiply, weights: Tree, x: Any, here: Scope) -> Tensor:
    """A sum or a product; one number for a channel is given axes of size 1 behind it."""
    ys = branches(net, weights, x, here)
    rank = max(len(y.shape) for y in ys)
    first, *others = [lengthened(y, rank, here) for y in ys]
    if not others:
        return first
    op = "Add" if isinstance(net, Add) else "Mul"
    for n, y in enumerate(others, 1):
        shape = tuple(map(max, first.shape, y.shape))
        first = here.node(op, first, y, shape=shape, part="" if n == len(others) else f"part{n}")
    return first


def lengthened(x: Tensor, rank: int, here: Scope) -> Tensor:
    """A tensor with so many axes."""
    if len(x.shape) == rank:
        return x
    shape = (*x.shape, *(1 for _ in range(rank - len(x.shape))))
    return here.node("Reshape", x, here.constant("shape", (0, *shape)), shape=shape, part="lengthened")


# Sums with kernels.


@writes(Conv2D)
def conv2d(layer: Conv2D, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """A convolution; an untied bias is added by a node of its own."""
    how, shape = layer.window(x.shape[1:]), after(layer, x.shape)
    tied = [here.constant("bias", weights["bias"])] if layer.bias is True else []
    y = here.node(
        "Conv", x, here.constant("kernel", weights["kernel"]), *tied, shape=shape,
        kernel_shape=list(pair("kernel_size", layer.kernel_size)), strides=list(how["stride"]),
        pads=flat(how["padding"]), dilations=list(how["dilation"]), group=layer.groups,
    )  # fmt: skip
    return untied(layer, weights, y, here)


def untied(layer: Any, weights: Tree, y: Tensor, here: Scope) -> Tensor:
    """The output with its untied bias, where it has one."""
    if layer.bias != "untied":
        return y
    return here.node("Add", y, here.constant("bias", weights["bias"]), shape=y.shape, part="bias_added")


@writes(StandardizedConv2D)
def standardized_conv2d(layer: StandardizedConv2D, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """A convolution by the kernel that it comes to."""
    kernel, _ = standardise(np, np.asarray(weights["kernel"], np.float64), AXES, layer.epsilon)
    return conv2d(layer, {**weights, "kernel": kernel}, x, here)


@writes(DepthwiseConv2D)
def depthwise_conv2d(layer: DepthwiseConv2D, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """A convolution with a group for each channel."""
    return conv2d(layer.conv2d(x.shape[0]), weights, x, here)


@writes(Conv1D)
def conv1d(layer: Conv1D, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """A convolution along one axis."""
    how, shape = layer.conv2d().window((1, x.shape[1])), after(layer, x.shape)
    tied = [here.constant("bias", weights["bias"])] if layer.bias is True else []
    y = here.node(
        "Conv", x, here.constant("kernel", weights["kernel"]), *tied, shape=shape, kernel_shape=[layer.kernel_size],
        strides=[how["stride"][1]], pads=list(how["padding"][1]), dilations=[layer.dilation], group=layer.groups,
    )  # fmt: skip
    return untied(layer, weights, y, here)


def planar(layer: Any, x: Tensor) -> tuple[Any, Shape, int]:
    """The layer as one of images, these images' sizes, and how many axes a sample has behind its channels."""
    if isinstance(layer, OfSignals):
        return layer.twin(), (1, *x.shape[1:]), 1
    return layer, x.shape[1:], 2


@writes(Conv1DTranspose, Conv2DTranspose)
def conv_transpose(layer: Any, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """A transposed convolution; what "same" has beyond the windows' reach is output_padding."""
    image, sizes, rank = planar(layer, x)
    how, shape, kernel = image.window(sizes), after(layer, x.shape), pair("kernel_size", image.kernel_size)
    reach = [
        (n - 1) * s + extent(k, d) - lo - hi for n, k, s, (lo, hi), d in zip(sizes, kernel, *how.values(), strict=True)
    ]
    tied = [here.constant("bias", weights["bias"])] if layer.bias is True else []
    y = here.node(
        "ConvTranspose", x, here.constant("kernel", weights["kernel"]), *tied, shape=shape,
        kernel_shape=[*kernel[-rank:]], strides=[*how["stride"][-rank:]], pads=flat(how["padding"][-rank:]),
        dilations=[*how["dilation"][-rank:]], group=layer.groups,
        output_padding=[n - m for n, m in zip(shape[1:], reach[-rank:], strict=True)],
    )  # fmt: skip
    return untied(layer, weights, y, here)


@writes(Dense)
def dense(layer: Dense, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """A product of matrices, its kernel as it lies."""
    given = [here.constant(name, weights[name]) for name in ("kernel", "bias")[: 1 + layer.bias]]
    return here.node("Gemm", x, *given, shape=(layer.units,))


# Windows and sizes.


@writes(MaxPool1D, MaxPool2D)
def max_pool(layer: Any, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """The largest cell of each window."""
    image, sizes, rank = planar(layer, x)
    return here.node("MaxPool", x, shape=after(layer, x.shape), **pooled(image, sizes, rank))


@writes(AveragePool1D, AveragePool2D)
def average_pool(layer: Any, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """The mean of each window, without its padding, or with what was asked for as zeros."""
    shape, (image, sizes, rank) = after(layer, x.shape), planar(layer, x)
    if image.count_include_pad:
        around = replace(image, ceil_mode=False).window(sizes)["padding"]
        whole = image.window(sizes)["padding"]
        if any(map(any, around)):
            pads = here.constant("pads", flat(((0, 0), (0, 0), *around[-rank:])))
            sizes = tuple(n + lo + hi for n, (lo, hi) in zip(sizes, around, strict=True))
            x = here.node("Pad", x, pads, shape=(x.shape[0], *sizes[-rank:]), part="padded", mode="constant")
        more: Any = tuple((0, end - hi) for (_, end), (_, hi) in zip(whole, around, strict=True))  # of ceil_mode
        image = replace(image, padding=more, count_include_pad=False, ceil_mode=False)
    return here.node("AveragePool", x, shape=shape, count_include_pad=0, **pooled(image, sizes, rank))


def pooled(image: Any, sizes: Shape, rank: int) -> dict[str, Any]:
    """A pooling's attributes, for the last `rank` axes of an image."""
    how = image.window(sizes)
    return {
        "kernel_shape": [*pair("pool_size", image.pool_size)[-rank:]],
        "strides": [*how["stride"][-rank:]],
        "pads": flat(how["padding"][-rank:]),
    }


@writes(GlobalAveragePool1D, GlobalMaxPool1D, GlobalAveragePool2D, GlobalMaxPool2D)
def global_pool(layer: Layer, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """The mean or the largest cell of each channel, and no more axes than these."""
    op = "GlobalAveragePool" if isinstance(layer, GlobalAveragePool1D | GlobalAveragePool2D) else "GlobalMaxPool"
    y = here.node(op, x, shape=(x.shape[0], *(1 for _ in x.shape[1:])))
    return here.node("Flatten", y, shape=x.shape[:1], part="flat", axis=1)


@writes(AdaptiveAveragePool2D)
def adaptive_average_pool2d(layer: AdaptiveAveragePool2D, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """The means of windows: one size of them, or rows and columns by a product with a matrix each."""
    shape = after(layer, x.shape)
    if shape[1:] == (1, 1):
        return here.node("GlobalAveragePool", x, shape=shape)
    if all(n % m == 0 for n, m in zip(x.shape[1:], shape[1:], strict=True)):
        return average_pool(AveragePool2D((x.shape[1] // shape[1], x.shape[2] // shape[2])), weights, x, here)
    rows, columns = (means(np.zeros(()), n, m) for n, m in zip(x.shape[1:], shape[1:], strict=True))
    wide = here.node("MatMul", x, here.constant("columns", columns.T), shape=(*x.shape[:2], shape[2]), part="across")
    return here.node("MatMul", here.constant("rows", rows), wide, shape=shape)


@writes(Cropping1D, Cropping2D)
def cropping(layer: Any, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """Rows and columns from the first that stays to the last."""
    image, sizes, rank = planar(layer, x)
    edges = image.edges()[-rank:]
    starts, stops = [lo for lo, _ in edges], [n - hi for n, (_, hi) in zip(sizes[-rank:], edges, strict=True)]
    values = (("start", starts), ("stop", stops), ("axes", [*range(2, 2 + rank)]))
    given = [here.constant(name, value) for name, value in values]
    return here.node("Slice", x, *given, shape=after(layer, x.shape))


@writes(PixelShuffle)
def pixel_shuffle(layer: PixelShuffle, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """Channels as pixels."""
    return here.node("DepthToSpace", x, shape=after(layer, x.shape), blocksize=layer.factor, mode="CRD")


@writes(Resize)
def resize(layer: Resize, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """To a size, or by factors, which say themselves where new cells lie."""
    places = "align_corners" if layer.align_corners else "half_pixel"
    how: dict[str, dict[str, Any]] = {
        "nearest": {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        "nearest-exact": {"mode": "nearest", "nearest_mode": "round_prefer_ceil"},
        "bilinear": {"mode": "linear", "coordinate_transformation_mode": places},
    }
    shape, factors = after(layer, x.shape), layer.factors()
    by_size = factors[0] is None or layer.align_corners
    scales = None if by_size else here.constant("scales", np.array(factors, np.float32))
    sizes = [here.constant("sizes", shape[1:])] if by_size else []
    return here.node("Resize", x, None, scales, *sizes, shape=shape, axes=[2, 3], **how[layer.interpolation])


@writes(Flatten)
def flatten(layer: Flatten, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """All axes of a sample in one."""
    return here.node("Flatten", x, shape=(prod(x.shape),), axis=1)


@writes(Reshape)
def reshape(layer: Reshape, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """Other axes; 0 leaves the batch's as it is."""
    shape = layer.resolved(x.shape)
    return here.node("Reshape", x, here.constant("shape", (0, *shape)), shape=shape)


@writes(Permute)
def permute(layer: Permute, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """The one layer that is a Transpose itself."""
    return here.node("Transpose", x, shape=after(layer, x.shape), perm=[0, *layer.axes])


@writes(Slice)
def slices(layer: Slice, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """A part of an axis."""
    axis, cells = layer.cells(x.shape)
    values = (("start", cells.start), ("stop", cells.stop), ("axis", axis), ("step", cells.step))
    given = [here.constant(name, [value]) for name, value in values]
    return here.node("Slice", x, *given, shape=after(layer, x.shape))


@writes(ZeroPadding1D, ZeroPadding2D, Padding1D, Padding2D)
def padding(layer: Any, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """Zeros around each channel, or copies of its cells."""
    image, _, rank = planar(layer, x)
    pads = here.constant("pads", flat(((0, 0), (0, 0), *image.around()[-rank:])))
    mode = image.mode if isinstance(image, Padding2D) else "constant"
    return here.node("Pad", x, pads, shape=after(layer, x.shape), mode=mode)


@writes(UpSampling1D, UpSampling2D)
def upsampling(layer: Any, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """Each cell repeated, or straight lines between the cells' middles."""
    image, _, rank = planar(layer, x)
    how: dict[str, dict[str, Any]] = {
        "nearest": {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        "bilinear": {"mode": "linear", "coordinate_transformation_mode": "half_pixel"},
    }
    scales = here.constant("scales", np.array((1, 1, *pair("size", image.size)[-rank:]), "float32"))
    return here.node("Resize", x, None, scales, shape=after(layer, x.shape), **how[layer.interpolation])


# Normalisation.


@writes(BatchNorm)
def batch_norm(layer: BatchNorm, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """The running statistics' line for each channel."""
    names = ("scale", "bias", "running_mean", "running_variance")
    given = [here.constant(name, weights[name]) for name in names]
    return here.node("BatchNormalization", x, *given, shape=x.shape, epsilon=layer.epsilon)


@writes(GroupNorm)
def group_norm(layer: GroupNorm, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """Groups as the channels of an InstanceNormalization, then a line for each channel, as PyTorch writes it.

    ONNX's own GroupNormalization is defined by the difference of the squares' mean and the mean's square, which leaves
    nothing of a deviation that is small beside the mean.
    """
    c, groups = x.shape[0], layer.groups
    shape = (groups, prod(x.shape) // groups)
    grouped = here.node("Reshape", x, here.constant("groups", (0, groups, -1)), shape=shape, part="grouped")
    ones, zeros = here.constant("ones", np.ones(groups)), here.constant("zeros", np.zeros(groups))
    how: dict[str, Any] = {"shape": shape, "part": "normalised", "epsilon": layer.epsilon}
    x_hat = here.node("InstanceNormalization", grouped, ones, zeros, **how)
    x_hat = here.node("Reshape", x_hat, here.constant("shape", (0, *x.shape)), shape=x.shape, part="x_hat")
    wide = (c, *(1 for _ in x.shape[1:]))
    scale, bias = (here.constant(name, np.reshape(weights[name], wide)) for name in ("scale", "bias"))
    return here.node("Add", here.node("Mul", x_hat, scale, shape=x.shape, part="scaled"), bias, shape=x.shape)


@writes(InstanceNorm)
def instance_norm(layer: InstanceNorm, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """Each channel of each sample."""
    given = weights if layer.affine else {"scale": np.ones(x.shape[0]), "bias": np.zeros(x.shape[0])}
    scale, bias = (here.constant(name, given[name]) for name in ("scale", "bias"))
    return here.node("InstanceNormalization", x, scale, bias, shape=x.shape, epsilon=layer.epsilon)


@writes(LocalResponseNorm)
def local_response_norm(layer: LocalResponseNorm, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """The means of neighbouring channels by a pooling of one column; the rest of the formula follows.

    onnxruntime computes ONNX's LRN by adding and subtracting squares from channel to channel, whose roundings add up.
    """
    c, size = x.shape[0], layer.size
    line, pads = (1, c, prod(x.shape) // c), [size // 2, 0, (size - 1) // 2, 0]
    square = here.node("Mul", x, x, shape=x.shape, part="square")
    square = here.node("Reshape", square, here.constant("line", (0, 1, c, -1)), shape=line, part="squares")
    how: dict[str, Any] = {"kernel_shape": [size, 1], "strides": [1, 1], "pads": pads, "count_include_pad": 1}
    mean = here.node("AveragePool", square, shape=line, part="means", **how)
    mean = here.node("Reshape", mean, here.constant("shape", (0, *x.shape)), shape=x.shape, part="mean")
    times = here.node("Mul", mean, here.constant("alpha", float(layer.alpha)), shape=x.shape, part="times")
    sums = here.node("Add", times, here.constant("k", float(layer.k)), shape=x.shape, part="sums")
    power = here.node("Pow", sums, here.constant("beta", float(layer.beta)), shape=x.shape, part="power")
    return here.node("Div", x, power, shape=x.shape)


@writes(LayerNorm)
def layer_norm(layer: LayerNorm, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """The last axes by ONNX's own operator, others by their formula, since nothing is transposed.

    The mean is taken twice: what is left of it behind the first time is its rounding, which all cells would have.
    """
    rank = len(x.shape) + 1
    axes = layer.axes(rank)
    if axes == tuple(range(axes[0], rank)):
        given = [here.constant(name, weights[name]) for name in ("scale", "bias")]
        return here.node("LayerNormalization", x, *given, shape=x.shape, axis=axes[0], epsilon=layer.epsilon)
    over = here.constant("axes", axes)
    shape = tuple(1 if axis in axes else x.shape[axis - 1] for axis in range(1, rank))
    wide = tuple(x.shape[axis - 1] if axis in axes else 1 for axis in range(1, rank))
    scale, bias = (here.constant(name, np.reshape(weights[name], wide)) for name in ("scale", "bias"))
    centred = x
    for _ in range(2):
        mean = here.node("ReduceMean", centred, over, shape=shape, part="mean", keepdims=1)
        centred = here.node("Sub", centred, mean, shape=x.shape, part="centred")
    square = here.node("Mul", centred, centred, shape=x.shape, part="square")
    variance = here.node("ReduceMean", square, over, shape=shape, part="variance", keepdims=1)
    raised = here.node("Add", variance, here.constant("epsilon", float(layer.epsilon)), shape=shape, part="raised")
    deviation = here.node("Sqrt", raised, shape=shape, part="deviation")
    x_hat = here.node("Div", centred, deviation, shape=x.shape, part="x_hat")
    return here.node("Add", here.node("Mul", x_hat, scale, shape=x.shape, part="scaled"), bias, shape=x.shape)


@writes(Scale)
def scale(layer: Scale, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """A factor, and a summand, for each channel."""
    wide = (-1, *(1 for _ in x.shape[1:]))
    factor = here.constant("scale", np.reshape(weights["scale"], wide))
    if not layer.bias:
        return here.node("Mul", x, factor, shape=x.shape)
    bias = here.constant("bias", np.reshape(weights["bias"], wide))
    return here.node("Add", here.node("Mul", x, factor, shape=x.shape, part="scaled"), bias, shape=x.shape)


# Cell by cell.


@writes(ReLU, Sigmoid, Tanh, Softplus, Mish, HardSwish, Softsign, SELU)
def by_name(layer: Layer, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """Activations that ONNX has without options."""
    op = {"ReLU": "Relu", "SELU": "Selu"}.get(type(layer).__name__, type(layer).__name__)
    return here.node(op, x, shape=x.shape)


@writes(ClippedReLU)
def clipped_relu(layer: ClippedReLU, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """A line between two levels."""
    least, most = here.constant("least", 0.0), here.constant("most", float(layer.max_value))
    return here.node("Clip", x, least, most, shape=x.shape)


@writes(HardSigmoid)
def hard_sigmoid(layer: HardSigmoid, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """A line between 0 and 1."""
    return here.node("HardSigmoid", x, shape=x.shape, alpha=layer.slope, beta=0.5)


@writes(PReLU)
def prelu(layer: PReLU, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """Two lines for each channel, or for each cell."""
    wide = x.shape if layer.untied else (-1, *(1 for _ in x.shape[1:]))
    return here.node("PRelu", x, here.constant("slope", np.reshape(weights["negative_slope"], wide)), shape=x.shape)


@writes(LeakyReLU)
def leaky_relu(layer: LeakyReLU, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """Two lines."""
    return here.node("LeakyRelu", x, shape=x.shape, alpha=layer.negative_slope)


@writes(ELU)
def elu(layer: ELU, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """A line and an exponential."""
    return here.node("Elu", x, shape=x.shape, alpha=layer.alpha)


@writes(GELU)
def gelu(layer: GELU, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """The normal distribution's, or its form with tanh."""
    return here.node("Gelu", x, shape=x.shape, approximate="tanh" if layer.approximate else "none")


@writes(SiLU)
def silu(layer: SiLU, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """The product of x and its sigmoid."""
    return here.node("Mul", x, here.node("Sigmoid", x, shape=x.shape, part="sigmoid"), shape=x.shape)


@writes(Softmax, LogSoftmax)
def softmax(layer: Softmax | LogSoftmax, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """Along one axis."""
    return here.node(type(layer).__name__, x, shape=x.shape, axis=layer.axis)


@writes(Dropout)
def dropout(layer: Dropout, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """Nothing, outside of training; the rate stays told."""
    return here.node("Dropout", x, here.constant("rate", np.array(layer.rate, "float32")), shape=x.shape)


@writes(SpatialDropout2D, StochasticDepth)
def dropped_whole(layer: Layer, weights: Tree, x: Tensor, here: Scope) -> Tensor:
    """Nothing: ONNX has no dropout of whole channels or samples."""
    return here.node("Identity", x, shape=x.shape)
