"""Residual nets: He et al. 2016. Names of layers, and so of weights, are torchvision's."""

from __future__ import annotations

from collections.abc import Callable

from xcnn.layers import Dense, GlobalAveragePool2D, MaxPool2D, ReLU, Residual, Sequential
from xcnn.nets.blocks import conv, conv_norm, norm

Block = Callable[[int, int, bool], Sequential]
"""From the channels, the stride, and whether the channels change, to a block."""


def resnet18(classes: int = 1000) -> Sequential:
    """ResNet-18: eight blocks of two 3x3 convolutions, 11.7 million weights. He et al. 2016, table 1.

    Parameters
    ----------
    classes
        outputs, logits

    Examples
    --------
    >>> xcnn.nets.resnet18(classes=3)["fc"].units
    3
    """
    return resnet(basic_block, (2, 2, 2, 2), 1, classes)


def resnet34(classes: int = 1000) -> Sequential:
    """ResNet-34: sixteen blocks of two 3x3 convolutions, 21.8 million weights. He et al. 2016, table 1.

    Parameters
    ----------
    classes
        outputs, logits

    Examples
    --------
    >>> xcnn.nets.resnet34(classes=3)["fc"].units
    3
    """
    return resnet(basic_block, (3, 4, 6, 3), 1, classes)


def resnet50(classes: int = 1000) -> Sequential:
    """ResNet-50: sixteen bottlenecks, 25.6 million weights; as torchvision's, with strides in the 3x3 convolutions.

    Parameters
    ----------
    classes
        outputs, logits

    Examples
    --------
    >>> xcnn.nets.resnet50(classes=3)["fc"].units
    3
    """
    return resnet(bottleneck, (3, 4, 6, 3), 4, classes)


def resnet(block: Block, blocks: tuple[int, ...], expansion: int, classes: int) -> Sequential:
    """Four stages of so many blocks, of 64, 128, 256 and 512 channels, which a block gives `expansion` times."""
    stages = {}
    for n, count in enumerate(blocks):
        channels, stride = 64 * 2**n, 1 if n == 0 else 2
        first = block(channels, stride, stride > 1 or expansion > 1)
        stages[f"layer{n + 1}"] = Sequential(first, *(block(channels, 1, False) for _ in range(count - 1)))
    return Sequential(
        conv1=conv(64, 7, 2), bn1=norm(), relu=ReLU(), maxpool=MaxPool2D(3, stride=2, padding=1),
        **stages, avgpool=GlobalAveragePool2D(), fc=Dense(classes),
    )  # fmt: skip


def basic_block(channels: int, stride: int, changes: bool) -> Sequential:
    """Two 3x3 convolutions beside a shortcut, and a ReLU of the sum."""
    body = Residual(
        conv1=conv(channels, 3, stride), bn1=norm(), relu=ReLU(), conv2=conv(channels, 3), bn2=norm(),
        shortcut=conv_norm(channels, 1, stride) if changes else None,
    )  # fmt: skip
    return Sequential(_=body, relu=ReLU())


def bottleneck(channels: int, stride: int, changes: bool) -> Sequential:
    """1x1, 3x3 and 1x1 convolutions beside a shortcut, and a ReLU of the sum: four times the channels come out."""
    body = Residual(
        conv1=conv(channels, 1), bn1=norm(), relu1=ReLU(), conv2=conv(channels, 3, stride), bn2=norm(), relu2=ReLU(),
        conv3=conv(4 * channels, 1), bn3=norm(),
        shortcut=conv_norm(4 * channels, 1, stride) if changes else None,
    )  # fmt: skip
    return Sequential(_=body, relu=ReLU())
