"""MobileNetV2: Sandler et al. 2018. Names of layers, and so of weights, are torchvision's."""

from __future__ import annotations

from xcnn.layers import ClippedReLU, Dense, Dropout, GlobalAveragePool2D, Layer, Residual, Sequential
from xcnn.nets.blocks import conv, conv_norm, depthwise_norm, norm, widened

STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""How many times wider a block is within, its channels, the blocks, and the first one's stride."""


def mobilenet_v2(classes: int = 1000) -> Sequential:
    """MobileNetV2: seventeen inverted residuals, 3.5 million weights.

    Parameters
    ----------
    classes
        outputs, logits

    Examples
    --------
    >>> [*xcnn.nets.mobilenet_v2(classes=3).layers]
    ['features', 'avgpool', 'classifier']
    """
    layers: list[Layer] = [conv_norm(widened(32), 3, 2, ClippedReLU(6.0))]
    before = widened(32)
    for expansion, channels, blocks, first in STAGES:
        for n in range(blocks):
            layers.append(inverted_residual(before, widened(channels), first if n == 0 else 1, expansion))
            before = widened(channels)
    layers.append(conv_norm(1280, 1, 1, ClippedReLU(6.0)))
    return Sequential(
        features=Sequential(*layers), avgpool=GlobalAveragePool2D(), classifier=Sequential(Dropout(0.2), Dense(classes))
    )


def inverted_residual(before: int, channels: int, stride: int, expansion: int) -> Layer:
    """A 1x1 convolution to more channels, a depthwise one, and a 1x1 one to few, without activation."""
    wider = [conv_norm(before * expansion, 1, 1, ClippedReLU(6.0))] if expansion > 1 else []
    body = Sequential(*wider, depthwise_norm(3, stride, ClippedReLU(6.0)), conv(channels, 1), norm())
    return Residual(conv=body) if stride == 1 and before == channels else Sequential(conv=body)
