"""EfficientNet-B0: Tan and Le 2019. Names of layers, and so of weights, are torchvision's."""

from __future__ import annotations

from xcnn.layers import (
    Conv2D,
    Dense,
    Dropout,
    GlobalAveragePool2D,
    Layer,
    Multiply,
    Reshape,
    Residual,
    Sequential,
    Sigmoid,
    SiLU,
    StochasticDepth,
)
from xcnn.nets.blocks import conv_norm, depthwise_norm

STAGES = (
    (1, 3, 16, 1, 1), (6, 3, 24, 2, 2), (6, 5, 40, 2, 2), (6, 3, 80, 3, 2), (6, 5, 112, 3, 1), (6, 5, 192, 4, 2),
    (6, 3, 320, 1, 1),
)  # fmt: skip
"""How many times wider a block is within, its kernel, its channels, the blocks, and the first one's stride."""
DEPTH = 0.2
"""How often the last block is left out in training; those before it less often, evenly."""


def efficientnet_b0(classes: int = 1000) -> Sequential:
    """EfficientNet-B0: sixteen inverted residuals with squeeze-and-excitation, 5.3 million weights.

    Parameters
    ----------
    classes
        outputs, logits

    Examples
    --------
    >>> [*xcnn.nets.efficientnet_b0(classes=3).layers]
    ['features', 'avgpool', 'classifier']
    """
    stages: list[Layer] = [conv_norm(32, 3, 2, SiLU())]
    before, place, total = 32, 0, sum(blocks for *_, blocks, _ in STAGES)
    for expansion, kernel_size, channels, blocks, first in STAGES:
        stage = []
        for n in range(blocks):
            stride = first if n == 0 else 1
            stage.append(mbconv(before, channels, kernel_size, stride, expansion, DEPTH * place / total))
            before, place = channels, place + 1
        stages.append(Sequential(*stage))
    stages.append(conv_norm(1280, 1, 1, SiLU()))
    return Sequential(
        features=Sequential(*stages), avgpool=GlobalAveragePool2D(), classifier=Sequential(Dropout(0.2), Dense(classes))
    )


def mbconv(before: int, channels: int, kernel_size: int, stride: int, expansion: int, rate: float) -> Layer:
    """An inverted residual whose channels are weighed before they become few, and which may be left out."""
    wide = before * expansion
    wider = [conv_norm(wide, 1, 1, SiLU())] if expansion > 1 else []
    block = Sequential(
        *wider,
        depthwise_norm(kernel_size, stride, SiLU()),
        squeeze_excitation(wide, before // 4),
        conv_norm(channels, 1),
    )
    if stride == 1 and before == channels:
        return Residual(block=block, stochastic_depth=StochasticDepth(rate))
    return Sequential(block=block)


def squeeze_excitation(channels: int, squeezed: int) -> Sequential:
    """X times a factor for each channel, which follows from the means of all: Hu et al. 2018."""
    gate = Sequential(
        avgpool=GlobalAveragePool2D(), cell=Reshape((channels, 1, 1)),
        fc1=Conv2D(squeezed, 1), activation=SiLU(), fc2=Conv2D(channels, 1), scale_activation=Sigmoid(),
    )  # fmt: skip
    return Sequential(_=Multiply(x=Sequential(), _=gate))
