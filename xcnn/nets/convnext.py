"""ConvNeXt-T: Liu et al. 2022. Names of layers, and so of weights, are torchvision's."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from xcnn.layers import (
    GELU,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Flatten,
    GlobalAveragePool2D,
    Layer,
    LayerNorm,
    Residual,
    Scale,
    Sequential,
    StochasticDepth,
)

STAGES = ((96, 3), (192, 3), (384, 9), (768, 3))
"""Channels and blocks."""
DEPTH = 0.1
"""How often the last block is left out in training; those before it less often, evenly."""


def convnext_tiny(classes: int = 1000) -> Sequential:
    """ConvNeXt-T: eighteen blocks with 7x7 depthwise convolutions, 28.6 million weights.

    Parameters
    ----------
    classes
        outputs, logits

    Examples
    --------
    >>> [*xcnn.nets.convnext_tiny(classes=3).layers]
    ['features', 'avgpool', 'classifier']
    """
    places, stages = count(), list[Layer]()
    for n, (channels, blocks) in enumerate(STAGES):
        patches = Conv2D(channels, 4, stride=4) if n == 0 else Conv2D(channels, 2, stride=2)
        stages.append(Sequential(*((patches, channel_norm()) if n == 0 else (channel_norm(), patches))))
        stages.append(Sequential(*(block(channels, rate) for rate in rates(places, blocks))))
    return Sequential(
        features=Sequential(*stages), avgpool=GlobalAveragePool2D(),
        classifier=Sequential(channel_norm(), Flatten(), Dense(classes)),
    )  # fmt: skip


def rates(places: Iterator[int], blocks: int) -> list[float]:
    """How often each of the next blocks is left out."""
    last = sum(blocks for _, blocks in STAGES) - 1
    return [DEPTH * next(places) / last for _ in range(blocks)]


def channel_norm() -> LayerNorm:
    """Layer normalisation of the channels at each place."""
    return LayerNorm(axis=1, epsilon=1e-6)


def block(channels: int, rate: float) -> Residual:
    """A 7x7 depthwise convolution, and two dense layers at each place: Linear between transposes, in PyTorch."""
    return Residual(
        block=Sequential(
            _0=DepthwiseConv2D(7, padding=3), _2=channel_norm(), linear_3=Conv2D(4 * channels, 1), _4=GELU(),
            linear_5=Conv2D(channels, 1),
        ),
        layer_scale=Scale(1e-6), stochastic_depth=StochasticDepth(rate),
    )  # fmt: skip
