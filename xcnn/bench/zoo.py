"""Nets that the bench knows by name: those of xcnn.nets, and one of each kind that is in use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from xcnn.core.types import LossName, Shape
from xcnn.layers import (
    GELU,
    AveragePool2D,
    BatchNorm,
    Concatenate,
    Conv2D,
    Conv2DTranspose,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePool2D,
    GroupNorm,
    LayerNorm,
    LeakyReLU,
    MaxPool2D,
    ReLU,
    Residual,
    Sequential,
    Sigmoid,
    SiLU,
)
from xcnn.layers.layer import Layer
from xcnn.nets import recipes as nets

# Paddings are numbers wherever a stride follows: PyTorch pads both sides alike, "same" may not.


def resnet18(classes: int = 1000) -> Sequential:
    """ResNet-18 for images of 224x224: He et al. 2016, table 1."""
    stages = ((64, 1), (128, 2), (256, 2), (512, 2))
    blocks = (block(filters, stride) for filters, first in stages for stride in (first, 1))
    return Sequential(
        Conv2D(64, 7, stride=2, padding=3, bias=False), BatchNorm(), ReLU(), MaxPool2D(3, stride=2, padding=1),
        *(layer for each in blocks for layer in (each, ReLU())),
        GlobalAveragePool2D(), Dense(classes),
    )  # fmt: skip


def block(filters: int, stride: int) -> Residual:
    """Two 3x3 convolutions beside a shortcut, images padded alike on both sides."""
    shortcut = Sequential(Conv2D(filters, 1, stride=stride, bias=False), BatchNorm()) if stride > 1 else None
    return Residual(
        Conv2D(filters, 3, stride=stride, padding=1, bias=False), BatchNorm(), ReLU(),
        Conv2D(filters, 3, padding=1, bias=False), BatchNorm(),
        shortcut=shortcut,
    )  # fmt: skip


def bottlenecks(classes: int, groups: int = 1, width: int = 1) -> Sequential:
    """Blocks of 1x1, 3x3, 1x1 in three stages, He et al. 2016; with groups ResNeXt's, Xie et al. 2017."""
    stages = ((64, 1), (128, 2), (256, 2))
    blocks = (bottleneck(filters, stride, groups, width) for filters, first in stages for stride in (first, 1))
    return Sequential(
        Conv2D(32, 3, padding=1, bias=False), BatchNorm(), ReLU(),
        *(layer for each in blocks for layer in (each, ReLU())),
        GlobalAveragePool2D(), Dense(classes),
    )  # fmt: skip


def bottleneck(filters: int, stride: int, groups: int, width: int) -> Residual:
    """To a quarter of the filters (times `width`) and back; the shortcut is a convolution where a stage may begin."""
    narrow = filters // 4 * width
    changes = stride > 1 or filters == 64
    shortcut = Sequential(Conv2D(filters, 1, stride=stride, bias=False), BatchNorm()) if changes else None
    return Residual(
        Conv2D(narrow, 1, bias=False), BatchNorm(), ReLU(),
        Conv2D(narrow, 3, stride=stride, padding=1, groups=groups, bias=False), BatchNorm(), ReLU(),
        Conv2D(filters, 1, bias=False), BatchNorm(),
        shortcut=shortcut,
    )  # fmt: skip


def vgg(classes: int) -> Sequential:
    """Pairs of 3x3 convolutions, each with a pooling: Simonyan and Zisserman 2015, for 32x32."""
    stages = (
        layer
        for filters in (64, 128, 256)
        for layer in (Conv2D(filters, 3, padding=1), ReLU(), Conv2D(filters, 3, padding=1), ReLU(), MaxPool2D(2))
    )
    return Sequential(*stages, Flatten(), Dense(256), ReLU(), Dropout(0.5), Dense(classes))


def alexnet(classes: int) -> Sequential:
    """Large kernels first, and poolings of 3x3 with stride 2: Krizhevsky et al. 2012, for 64x64."""
    return Sequential(
        Conv2D(48, 7, stride=2, padding=3), ReLU(), MaxPool2D(3, stride=2),
        Conv2D(128, 5, padding=2), ReLU(), MaxPool2D(3, stride=2),
        Conv2D(192, 3, padding=1), ReLU(), Conv2D(128, 3, padding=1), ReLU(), MaxPool2D(3, stride=2),
        Flatten(), Dense(512), ReLU(), Dropout(0.5), Dense(classes),
    )  # fmt: skip


def mobilenet(classes: int) -> Sequential:
    """Depthwise and 1x1 convolutions in turns: Howard et al. 2017."""
    stages = ((32, 1), (64, 2), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1))
    pairs = (
        layer
        for filters, stride in stages
        for layer in (
            DepthwiseConv2D(3, stride=stride, padding=1, bias=False), BatchNorm(), ReLU(),
            Conv2D(filters, 1, bias=False), BatchNorm(), ReLU(),
        )
    )  # fmt: skip
    first = Conv2D(32, 3, stride=2, padding=1, bias=False), BatchNorm(), ReLU()
    return Sequential(*first, *pairs, GlobalAveragePool2D(), Dense(classes))


def convnext(classes: int) -> Sequential:
    """7x7 depthwise convolutions, LayerNorm over channels, GELU: Liu et al. 2022, with two stages."""

    def mixing(channels: int) -> Residual:
        return Residual(
            DepthwiseConv2D(7, padding=3), LayerNorm(axis=1), Conv2D(4 * channels, 1), GELU(), Conv2D(channels, 1)
        )

    return Sequential(
        Conv2D(48, 4, stride=4), LayerNorm(axis=1), mixing(48), mixing(48),
        LayerNorm(axis=1), Conv2D(96, 2, stride=2), mixing(96), mixing(96),
        GlobalAveragePool2D(), LayerNorm(), Dense(classes),
    )  # fmt: skip


def unet(classes: int) -> Sequential:
    """Down by poolings and up by transposed convolutions, joined at each size: Ronneberger et al. 2015."""

    def twice(filters: int) -> tuple[Layer, ...]:
        return Conv2D(filters, 3, padding=1), ReLU(), Conv2D(filters, 3, padding=1), ReLU()

    inner: tuple[Layer, ...] = twice(128)
    for filters in (64, 32, 16):
        below = Sequential(MaxPool2D(2), *inner, Conv2DTranspose(filters, 2, stride=2))
        inner = (*twice(filters), Concatenate(Sequential(), below), *twice(filters))
    return Sequential(*inner, Conv2D(classes, 1))


def autoencoder(channels: int) -> Sequential:
    """Down by strides and up by transposed convolutions, to an image like the first."""
    down = (layer for filters in (32, 64, 128) for layer in (Conv2D(filters, 3, stride=2, padding=1), ReLU()))
    up = (layer for filters in (64, 32) for layer in (Conv2DTranspose(filters, 4, stride=2, padding=1), ReLU()))
    return Sequential(*down, *up, Conv2DTranspose(channels, 4, stride=2, padding=1), Sigmoid())


def mlp(classes: int) -> Sequential:
    """Three dense layers."""
    return Sequential(Flatten(), Dense(512), ReLU(), Dense(512), ReLU(), Dense(classes))


def plain(
    classes: int, after: Callable[[], tuple[Layer, ...]], pool: Layer | None = None, **options: Any
) -> Sequential:
    """Three 3x3 convolutions, each followed by the layers that are asked for, with poolings between them."""
    pools = () if options.get("stride", 1) > 1 else (pool or MaxPool2D(2),)
    convolutions = (
        layer
        for filters in (32, 64, 128)
        for layer in (Conv2D(filters, 3, padding=options.get("dilation", 1), **options), *after(), *pools)
    )
    return Sequential(*convolutions, GlobalAveragePool2D(), Dense(classes))


@dataclass(frozen=True)
class Known:
    """A net's maker and loss, how many classes it tells apart here or channels it gives, its images, usual batches."""

    net: Callable[[int], Sequential]
    loss: LossName = "cross_entropy"
    classes: int = 10
    input_shape: Shape = (1, 28, 28)
    batches: tuple[int, ...] = (32,)


RGB, LARGE = (3, 32, 32), (3, 64, 64)
NETS = {
    "article": Known(nets.article, "binary_cross_entropy", classes=2, batches=(1, 32)),
    "lenet": Known(nets.lenet, batches=(64, 256)),
    "mnist-net": Known(nets.mnist_net, batches=(64, 256)),
    "small-resnet": Known(nets.small_resnet, input_shape=RGB, batches=(64,)),
    "resnet18": Known(resnet18, classes=1000, input_shape=(3, 224, 224), batches=(8,)),
    "resnet18-64": Known(resnet18, classes=200, input_shape=LARGE, batches=(8, 32)),
    "bottleneck": Known(bottlenecks, input_shape=RGB),
    "resnext": Known(partial(bottlenecks, groups=8, width=2), input_shape=RGB),
    "vgg": Known(vgg, input_shape=RGB, batches=(1, 64)),
    "alexnet": Known(alexnet, input_shape=LARGE),
    "mobilenet": Known(mobilenet, input_shape=LARGE),
    "convnext": Known(convnext, input_shape=LARGE, batches=(16,)),
    "unet": Known(unet, classes=4, input_shape=(3, 128, 128), batches=(8,)),
    "unet-256": Known(unet, classes=4, input_shape=(3, 256, 256), batches=(2,)),
    "autoencoder": Known(autoencoder, "mse", classes=3, input_shape=LARGE),
    "mlp": Known(mlp, batches=(128,)),
    "batchnorm": Known(partial(plain, after=lambda: (BatchNorm(), ReLU())), input_shape=RGB, batches=(64,)),
    "groupnorm": Known(partial(plain, after=lambda: (GroupNorm(8), ReLU())), input_shape=RGB, batches=(64,)),
    "layernorm": Known(partial(plain, after=lambda: (LayerNorm(), ReLU())), input_shape=RGB, batches=(64,)),
    "silu": Known(partial(plain, after=lambda: (SiLU(),)), input_shape=RGB, batches=(64,)),
    "gelu": Known(partial(plain, after=lambda: (GELU(),)), input_shape=RGB, batches=(64,)),
    "leaky-relu": Known(partial(plain, after=lambda: (LeakyReLU(0.01),)), input_shape=RGB, batches=(64,)),
    "average-pool": Known(partial(plain, after=lambda: (ReLU(),), pool=AveragePool2D(2)), input_shape=RGB),
    "dilated": Known(partial(plain, after=lambda: (ReLU(),), dilation=2), input_shape=RGB),
    "strided": Known(partial(plain, after=lambda: (ReLU(),), stride=2), input_shape=LARGE),
}
ZOO = tuple(f"{name}:{batch}" for name, known in NETS.items() for batch in known.batches)
