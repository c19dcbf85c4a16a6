"""Layers as functions of PyTorch: rows of a layer, a sample's shape, and a function of x and of the weights by name."""

from functools import partial

import numpy as np
import pytest

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
    Resize,
    Scale,
    Sequential,
    Sigmoid,
    SiLU,
    Slice,
    Softmax,
    Softplus,
    Softsign,
    StandardizedConv2D,
    Tanh,
    UpSampling1D,
    UpSampling2D,
    ZeroPadding1D,
    ZeroPadding2D,
)

torch = pytest.importorskip("torch", reason="PyTorch is the oracle of these tests")
F = torch.nn.functional


def around(padding):
    """((top, bottom), (left, right)) as torch.nn.functional.pad takes it."""
    (top, bottom), (left, right) = padding
    return left, right, top, bottom


def biased(y, w):
    """Y and its bias, tied or not."""
    if "bias" not in w:
        return y
    return y + (w["bias"] if w["bias"].ndim > 1 else w["bias"].reshape(-1, *[1] * (y.ndim - 2)))


def conv2d(padding=((0, 0), (0, 0)), **options):
    return lambda x, w: biased(F.conv2d(F.pad(x, around(padding)), w["kernel"], **options), w)


def conv1d(padding=(0, 0), **options):
    return lambda x, w: biased(F.conv1d(F.pad(x, padding), w["kernel"], **options), w)


def transposed(padding=((0, 0), (0, 0)), output_padding=(0, 0), **options):
    """PyTorch's own options where padding is symmetric; else its whole output with the edges cut off or filled up."""
    (top, bottom), (left, right) = padding
    if top == bottom and left == right:
        return lambda x, w: biased(
            F.conv_transpose2d(x, w["kernel"], padding=(top, left), output_padding=output_padding, **options),
            w,
        )
    edges = -left, output_padding[1] - right, -top, output_padding[0] - bottom
    added, cut = [max(n, 0) for n in edges], [min(n, 0) for n in edges]
    return lambda x, w: biased(F.pad(F.pad(F.conv_transpose2d(x, w["kernel"], **options), added), cut), w)


def max_pool(size, stride, padding=((0, 0), (0, 0))):
    return lambda x, w: F.max_pool2d(F.pad(x, around(padding), value=-torch.inf), size, stride)


def average_pool(size, stride, padding=((0, 0), (0, 0))):
    def mean(x, w):
        sums = F.avg_pool2d(F.pad(x, around(padding)), size, stride, divisor_override=1)
        cells = F.avg_pool2d(F.pad(torch.ones_like(x), around(padding)), size, stride, divisor_override=1)
        return sums / cells

    return mean


def upsample(size, mode):
    how = {"align_corners": False} if mode == "bilinear" else {}
    return lambda x, w: F.interpolate(x, scale_factor=size, mode=mode, **how)


def batch_norm(train, momentum=0.99, epsilon=1e-3):
    def f(x, w):
        w["running_steps"] += train
        return F.batch_norm(
            x, w["running_mean"], w["running_variance"], w["scale"], w["bias"], train, 1 - momentum, epsilon
        )

    return f


def layer_norm(moved=(), epsilon=1e-3):
    """Over the last axes, as many as the scale has, after a permutation of the axes and before its inverse."""

    def f(x, w):
        order = moved or tuple(range(x.ndim))
        y = F.layer_norm(x.permute(order), w["scale"].shape, w["scale"], w["bias"], epsilon)
        return y.permute(tuple(np.argsort(order)))

    return f


CEILED = [
    (2, 2, 0, (2, 5, 6)),
    (3, 2, 1, (2, 6, 7)),
    (2, 3, 0, (1, 6, 7)),
    ((3, 2), (2, 3), (1, 0), (2, 6, 8)),
    (3, 3, 1, (1, 5, 6)),
]
"""Windows, strides, padding and images, some with cells left over at an end, some with windows in the padding alone."""
RESAMPLING = (("nearest", False), ("nearest-exact", False), ("bilinear", False), ("bilinear", True))
"""Interpolations, and whether corners stay."""


def max_pool_ceil(k, s, p, x, w):
    return F.max_pool2d(x, k, s, p, ceil_mode=True)


def average_pool_as_asked(k, s, p, ceil, counts, x, w):
    return F.avg_pool2d(x, k, s, p, ceil, counts)


def resized(size, factor, mode, corners, x, w):
    return F.interpolate(x, size, factor, mode, corners if mode == "bilinear" else None)


def standardised(kernel, epsilon):
    variance, mean = torch.var_mean(kernel, (1, 2, 3), correction=0, keepdim=True)
    return (kernel - mean) / torch.sqrt(variance + epsilon)


def graph_by_hand(x, w):
    a = F.conv2d(x, w["a/kernel"])
    return torch.cat([F.relu(a) * F.conv2d(a, w["c/kernel"]) * a, a], 1).flatten(1)


ORACLES = [
    (Conv2D(4, 3), (2, 6, 7), conv2d()),
    (
        Conv2D(6, (2, 3), stride=(2, 1), groups=3, dilation=(1, 2)),
        (3, 7, 8),
        conv2d(stride=(2, 1), groups=3, dilation=(1, 2)),
    ),
    (Conv2D(2, (4, 3), stride=2, padding="same"), (2, 7, 6), conv2d(((1, 2), (0, 1)), stride=2)),
    (Conv2D(2, 3, padding="full", bias="untied"), (2, 4, 5), conv2d(((2, 2), (2, 2)))),
    (Conv2D(2, 3, padding=((0, 2), (3, 1)), bias=False), (1, 5, 4), conv2d(((0, 2), (3, 1)))),
    (Conv2D(2, 2, stride=2**40), (2, 8, 8), conv2d(stride=8)),  # the first window alone
    (Conv2D(2, 3, stride=(2**40, 2), padding="same"), (1, 1, 5), conv2d(((1, 1), (1, 1)), stride=(3, 2))),
    (Conv2DTranspose(3, 2, stride=2**40, padding=((0, 0), (1, 0))), (2, 1, 1), transposed(((0, 0), (1, 0)))),
    (Conv2DTranspose(3, 3), (2, 4, 5), transposed()),
    (
        Conv2DTranspose(3, (3, 4), stride=2, padding=1, output_padding=1, bias=False),
        (2, 4, 5),
        transposed(((1, 1), (1, 1)), (1, 1), stride=2),
    ),
    (
        Conv2DTranspose(4, (4, 3), stride=(2, 3), padding="same", groups=2),
        (2, 3, 4),
        transposed(((1, 1), (0, 0)), stride=(2, 3), groups=2),
    ),
    (Conv2DTranspose(2, 4, stride=3, padding="same"), (2, 3, 4), transposed(((0, 1), (0, 1)), stride=3)),
    (Conv2DTranspose(2, 2, stride=3, padding="same"), (2, 3, 4), transposed(((0, -1), (0, -1)), stride=3)),
    (Conv2DTranspose(2, 2, dilation=(2, 3), bias="untied"), (2, 3, 4), transposed(dilation=(2, 3))),
    (
        Conv2DTranspose(4, 3, stride=(3, 2), padding=((0, 1), (2, 1)), output_padding=(2, 0), groups=2),
        (4, 3, 4),
        transposed(((0, 1), (2, 1)), (2, 0), stride=(3, 2), groups=2),
    ),
    (DepthwiseConv2D((3, 2), depth_multiplier=2), (3, 5, 6), conv2d(groups=3)),
    (
        DepthwiseConv2D(3, depth_multiplier=1, stride=2, padding="same", bias=False),
        (2, 6, 5),
        conv2d(((0, 1), (1, 1)), stride=2, groups=2),
    ),
    (Conv1D(4, 3), (2, 8), conv1d()),
    (
        Conv1D(4, 2, stride=2, padding=(0, 3), dilation=3, groups=2),
        (2, 9),
        conv1d((0, 3), stride=2, dilation=3, groups=2),
    ),
    (Conv1D(2, 3, stride=2**40), (2, 8), conv1d(stride=8)),
    (DepthwiseConv2D(2, stride=2**40), (3, 5, 6), conv2d(stride=6, groups=3)),
    (Conv1D(3, 4, padding="same", bias="untied"), (2, 7), conv1d((1, 2))),
    (Conv1D(3, 3, padding=2, bias=False), (2, 4), conv1d((2, 2))),
    (Dense(5), (4,), lambda x, w: x @ w["kernel"] + w["bias"]),
    (Dense(5, bias=False), (4,), lambda x, w: F.linear(x, w["kernel"].T)),
    (MaxPool2D(), (2, 6, 7), max_pool(2, 2)),
    (MaxPool2D(3, 2, padding=1), (2, 6, 7), lambda x, w: F.max_pool2d(x, 3, 2, 1)),
    (MaxPool2D((3, 2), (1, 2), padding="same"), (2, 5, 7), max_pool((3, 2), (1, 2), ((1, 1), (0, 1)))),
    (MaxPool2D((1, 3), 1, padding=((0, 0), (0, 2))), (2, 1, 1), max_pool((1, 3), 1, ((0, 0), (0, 2)))),
    (MaxPool2D(3, 2**40, padding=1), (2, 6, 7), max_pool(3, 9, ((1, 1), (1, 1)))),
    (AveragePool2D(2, 2**40), (2, 6, 7), average_pool(2, 7)),
    (AveragePool2D(), (2, 6, 7), lambda x, w: F.avg_pool2d(x, 2)),
    (AveragePool2D(3, 2, padding=1), (2, 6, 7), lambda x, w: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)),
    (AveragePool2D((3, 2), (1, 2), padding="same"), (2, 5, 7), average_pool((3, 2), (1, 2), ((1, 1), (0, 1)))),
    (GlobalAveragePool2D(), (2, 3, 4), lambda x, w: F.adaptive_avg_pool2d(x, 1).flatten(1)),
    (GlobalMaxPool2D(), (2, 3, 4), lambda x, w: F.adaptive_max_pool2d(x, 1).flatten(1)),
    (Flatten(), (2, 3, 4), lambda x, w: x.flatten(1)),
    (Reshape((4, -1)), (2, 3, 4), lambda x, w: x.reshape(-1, 4, 6)),
    (Permute((3, 1, 2)), (2, 3, 4), lambda x, w: x.permute(0, 3, 1, 2)),
    (Slice(1, -1, axis=2, step=2), (2, 7, 3), lambda x, w: x[:, :, 1:-1:2]),
    (ZeroPadding2D(((1, 2), (0, 3))), (2, 3, 4), lambda x, w: F.pad(x, (0, 3, 1, 2))),
    (Padding2D(((1, 2), (0, 3))), (2, 3, 4), lambda x, w: F.pad(x, (0, 3, 1, 2), "reflect")),
    (Padding2D(((3, 2), (0, 5)), "edge"), (2, 3, 4), lambda x, w: F.pad(x, (0, 5, 3, 2), "replicate")),
    (Padding2D(((3, 2), (0, 4)), "wrap"), (2, 3, 4), lambda x, w: F.pad(x, (0, 4, 3, 2), "circular")),
    (Padding1D((1, 3)), (2, 4), lambda x, w: F.pad(x, (1, 3), "reflect")),
    (UpSampling2D((2, 3)), (2, 3, 4), upsample((2, 3), "nearest")),
    (UpSampling2D((2, 3), "bilinear"), (2, 3, 4), upsample((2, 3), "bilinear")),
    (UpSampling2D((5, 4), "bilinear"), (2, 1, 2), upsample((5, 4), "bilinear")),
    (BatchNorm(), (3, 4, 5), batch_norm(True)),
    (BatchNorm(momentum=0.7, epsilon=1e-5), (3, 5), batch_norm(True, 0.7, 1e-5)),
    (BatchNorm(), (4,), batch_norm(True)),
    (LayerNorm(), (2, 3, 4), layer_norm()),
    (LayerNorm(axis=-1, epsilon=1e-5), (3, 4), layer_norm(epsilon=1e-5)),
    (LayerNorm(axis=1), (4, 3, 2), layer_norm((0, 2, 3, 1))),
    (LayerNorm(axis=(1, 3)), (4, 3, 2), layer_norm((0, 2, 1, 3))),
    (GroupNorm(2), (4, 3, 5), lambda x, w: F.group_norm(x, 2, w["scale"], w["bias"], 1e-3)),
    (GroupNorm(3, epsilon=1e-5), (3, 5), lambda x, w: F.group_norm(x, 3, w["scale"], w["bias"], 1e-5)),
    (GroupNorm(1), (6,), lambda x, w: F.group_norm(x, 1, w["scale"], w["bias"], 1e-3)),
    (ReLU(), (3, 4), lambda x, w: F.relu(x)),
    (LeakyReLU(), (3, 4), lambda x, w: F.leaky_relu(x, 0.3)),
    (ELU(0.5), (3, 4), lambda x, w: F.elu(x, 0.5)),
    (GELU(), (3, 4), lambda x, w: F.gelu(x)),
    (GELU(approximate=True), (3, 4), lambda x, w: F.gelu(x, approximate="tanh")),
    (SiLU(), (3, 4), lambda x, w: F.silu(x)),
    (Sigmoid(), (3, 4), lambda x, w: torch.sigmoid(x)),
    (Tanh(), (3, 4), lambda x, w: torch.tanh(x)),
    (Softplus(), (3, 4), lambda x, w: F.softplus(x, threshold=40)),
    (
        StandardizedConv2D(4, 3, padding=1, groups=2),
        (2, 5, 6),
        lambda x, w: F.conv2d(x, standardised(w["kernel"], 1e-6), w["bias"], padding=1, groups=2),
    ),
    (
        Conv1DTranspose(4, 3, stride=2, padding=1, output_padding=1, groups=2),
        (2, 5),
        lambda x, w: F.conv_transpose1d(x, w["kernel"], w["bias"], 2, 1, 1, 2),
    ),
    *((MaxPool2D(k, s, padding=p, ceil_mode=True), size, partial(max_pool_ceil, k, s, p)) for k, s, p, size in CEILED),
    *(
        (
            AveragePool2D(k, s, padding=p, ceil_mode=ceil, count_include_pad=counts),
            size,
            partial(average_pool_as_asked, k, s, p, ceil, counts),
        )
        for k, s, p, size in CEILED
        for ceil in (False, True)
        for counts in (False, True)
    ),
    (MaxPool1D(3, 2, padding=1, ceil_mode=True), (2, 8), lambda x, w: F.max_pool1d(x, 3, 2, 1, ceil_mode=True)),
    (MaxPool1D(), (2, 7), lambda x, w: F.max_pool1d(x, 2)),
    (AveragePool1D(3, 2, padding=1), (2, 8), lambda x, w: F.avg_pool1d(x, 3, 2, 1, count_include_pad=False)),
    (AveragePool1D(3, 2, padding=1, count_include_pad=True), (2, 8), lambda x, w: F.avg_pool1d(x, 3, 2, 1)),
    (GlobalAveragePool1D(), (3, 5), lambda x, w: x.mean(2)),
    (GlobalMaxPool1D(), (3, 5), lambda x, w: x.amax(2)),
    (AdaptiveAveragePool2D(1), (3, 4, 5), lambda x, w: F.adaptive_avg_pool2d(x, 1)),
    (AdaptiveAveragePool2D((3, 2)), (3, 7, 5), lambda x, w: F.adaptive_avg_pool2d(x, (3, 2))),
    (AdaptiveAveragePool2D((7, 6)), (3, 5, 4), lambda x, w: F.adaptive_avg_pool2d(x, (7, 6))),
    (Cropping2D(((1, 0), (0, 2))), (2, 3, 4), lambda x, w: x[:, :, 1:, :-2]),
    (Cropping1D((1, 2)), (2, 5), lambda x, w: x[:, :, 1:-2]),
    (ZeroPadding1D((1, 2)), (2, 5), lambda x, w: F.pad(x, (1, 2))),
    (PixelShuffle(3), (18, 2, 3), lambda x, w: F.pixel_shuffle(x, 3)),
    (UpSampling1D(3), (2, 5), lambda x, w: F.interpolate(x, scale_factor=3)),
    (UpSampling1D(4, "bilinear"), (2, 5), lambda x, w: F.interpolate(x, scale_factor=4, mode="linear")),
    *(
        (
            Resize(size, interpolation=how, align_corners=corners),
            (2, 5, 6),
            partial(resized, size, None, how, corners),
        )
        for size in ((3, 11), (10, 4), (5, 6), (1, 1))
        for how, corners in RESAMPLING
    ),
    *(
        (
            Resize(factor=factor, interpolation=how, align_corners=corners),
            (2, 5, 6),
            partial(resized, None, factor, how, corners),
        )
        for factor in (2, 0.5, 0.4, 1.7, (2.5, 0.75), (1.1, 1.7), (2.1, 1.05))  # 5 rows stay 5, or are 10
        for how, corners in RESAMPLING
    ),
    *(  # (i + 1/2) / 1.1 is a whole number for some rows: PyTorch computes them in float32
        (Resize(factor=1.1, interpolation=how), (1, 20, 17), partial(resized, None, 1.1, how, None))
        for how in ("nearest", "nearest-exact")
    ),
    (InstanceNorm(), (3, 4, 5), lambda x, w: F.instance_norm(x, None, None, w["scale"], w["bias"], eps=1e-3)),
    (InstanceNorm(affine=False, epsilon=1e-5), (3, 6), lambda x, w: F.instance_norm(x)),
    (
        LocalResponseNorm(5, alpha=0.3, beta=0.6, k=2.0),
        (7, 3, 2),
        lambda x, w: F.local_response_norm(x, 5, 0.3, 0.6, 2.0),
    ),
    (LocalResponseNorm(4, alpha=0.7), (6, 5), lambda x, w: F.local_response_norm(x, 4, 0.7, 0.75, 1.0)),
    (LocalResponseNorm(9, alpha=0.7), (3, 5), lambda x, w: F.local_response_norm(x, 9, 0.7, 0.75, 1.0)),
    (ClippedReLU(), (3, 4), lambda x, w: F.relu6(x)),
    (ClippedReLU(0.5), (3, 4), lambda x, w: F.hardtanh(x, 0.0, 0.5)),
    (SELU(), (3, 4), lambda x, w: F.selu(x)),
    (Mish(), (3, 4), lambda x, w: F.mish(x)),
    (HardSigmoid(), (3, 4), lambda x, w: F.relu6(x + 3) / 6),  # F.hardsigmoid has 1 / 6 in float32
    (HardSigmoid(2.5), (3, 4), lambda x, w: torch.clamp(2.5 * x + 0.5, 0, 1)),
    (HardSwish(), (3, 4), lambda x, w: F.hardswish(x)),
    (Softsign(), (3, 4), lambda x, w: F.softsign(x)),
    (PReLU(), (3, 2, 4), lambda x, w: F.prelu(x, w["negative_slope"])),
    (PReLU(untied=True), (2, 3, 4), lambda x, w: torch.where(x > 0, x, x * w["negative_slope"])),
    (PReLU(shared=True), (3, 4), lambda x, w: F.prelu(x, w["negative_slope"])),
    (Scale(bias=True), (3, 2, 4), lambda x, w: x * w["scale"].reshape(-1, 1, 1) + w["bias"].reshape(-1, 1, 1)),
    (LogSoftmax(), (3, 4), lambda x, w: F.log_softmax(x, 1)),
    (LogSoftmax(-1), (3, 4, 2), lambda x, w: F.log_softmax(x, -1)),
    (
        Add(Conv2D(3, 1, bias=False), gate=GlobalAveragePool2D()),
        (3, 4, 5),
        lambda x, w: F.conv2d(x, w["conv1/kernel"]) + x.mean((2, 3), keepdim=True),
    ),
    (
        Multiply(Sequential(), Conv2D(3, 1, bias=False), gate=GlobalAveragePool2D()),
        (3, 4, 5),
        lambda x, w: x * F.conv2d(x, w["conv1/kernel"]) * x.mean((2, 3), keepdim=True),
    ),
    (
        Graph(
            a=Conv2D(2, 3, bias=False),
            b=(ReLU(), "a"),
            c=(Conv2D(2, 1, bias=False), "a"),
            d=(Multiply(), "b", "c", "a"),
            e=(Concatenate(), "d", "a"),
            f=Flatten(),
        ),
        (2, 4, 5),
        lambda x, w: graph_by_hand(x, w),
    ),
    (Softmax(), (3, 4), lambda x, w: torch.softmax(x, 1)),
    (Softmax(-1), (3, 4, 2), lambda x, w: torch.softmax(x, -1)),
    (
        Sequential(Conv2D(3, 3, bias=False), BatchNorm(), ReLU(), MaxPool2D(), Flatten(), Dense(2)),
        (2, 6, 7),
        lambda x, w: (
            F.max_pool2d(
                F.relu(
                    batch_norm(True)(
                        F.conv2d(x, w["conv1/kernel"]),
                        {name.removeprefix("batchnorm1/"): v for name, v in w.items()},
                    )
                ),
                2,
            ).flatten(1)
            @ w["dense1/kernel"]
            + w["dense1/bias"]
        ),
    ),
]
