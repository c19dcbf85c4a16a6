"""VGG's nets: Simonyan and Zisserman 2015, on images from 32x32 on. Names of layers and weights are torchvision's."""

from __future__ import annotations

from xcnn.layers import (
    AdaptiveAveragePool2D,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Layer,
    MaxPool2D,
    ReLU,
    Sequential,
)
from xcnn.nets.blocks import norm

ELEVEN = ((64,), (128,), (256, 256), (512, 512), (512, 512))
"""Filters of the convolutions before each pooling, eight; three dense layers come behind."""
SIXTEEN = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


def vgg11(classes: int = 1000) -> Sequential:
    """VGG-11: eight 3x3 convolutions and three dense layers, 133 million weights.

    Parameters
    ----------
    classes
        outputs, logits

    Examples
    --------
    >>> [*xcnn.nets.vgg11(classes=3).layers]
    ['features', 'avgpool', 'flatten', 'classifier']
    """
    return vgg(ELEVEN, classes, normalised=False)


def vgg11_bn(classes: int = 1000) -> Sequential:
    """VGG-11 with batch normalisation behind each convolution.

    Parameters
    ----------
    classes
        outputs, logits

    Examples
    --------
    >>> [*xcnn.nets.vgg11_bn(classes=3).layers]
    ['features', 'avgpool', 'flatten', 'classifier']
    """
    return vgg(ELEVEN, classes, normalised=True)


def vgg16(classes: int = 1000) -> Sequential:
    """VGG-16: thirteen 3x3 convolutions and three dense layers, 138 million weights.

    Parameters
    ----------
    classes
        outputs, logits

    Examples
    --------
    >>> [*xcnn.nets.vgg16(classes=3).layers]
    ['features', 'avgpool', 'flatten', 'classifier']
    """
    return vgg(SIXTEEN, classes, normalised=False)


def vgg16_bn(classes: int = 1000) -> Sequential:
    """VGG-16 with batch normalisation behind each convolution.

    Parameters
    ----------
    classes
        outputs, logits

    Examples
    --------
    >>> [*xcnn.nets.vgg16_bn(classes=3).layers]
    ['features', 'avgpool', 'flatten', 'classifier']
    """
    return vgg(SIXTEEN, classes, normalised=True)


def vgg(stages: tuple[tuple[int, ...], ...], classes: int, normalised: bool) -> Sequential:
    """Convolutions and a pooling for each stage, and dense layers on 7x7 cells, whatever the image's size."""
    layers: list[Layer] = []
    for stage in stages:
        for filters in stage:
            layers += [Conv2D(filters, 3, padding=1, kernel_initializer="he_normal"), *([norm()] * normalised), ReLU()]
        layers.append(MaxPool2D(2))
    return Sequential(
        features=Sequential(*layers), avgpool=AdaptiveAveragePool2D(7), flatten=Flatten(),
        classifier=Sequential(
            Dense(4096), ReLU(), Dropout(0.5), Dense(4096), ReLU(), Dropout(0.5), Dense(classes),
        ),
    )  # fmt: skip
