"""U-Net: Ronneberger et al. 2015, with batch normalisation. Names are those of mateuszbuda's, on PyTorch's hub."""

from __future__ import annotations

from typing import Any

from xcnn.core.checks import check_whole
from xcnn.layers import Concatenate, Conv2D, Conv2DTranspose, Graph, MaxPool2D, ReLU, Sequential
from xcnn.nets.blocks import conv, norm

DEPTH = 4


def unet(classes: int = 1, features: int = 32) -> Graph:
    """A U-Net of four poolings, for images whose sides are multiples of 16: (N, C, H, W) -> (N, classes, H, W).

    Parameters
    ----------
    classes
        outputs at each place, logits
    features
        channels of the first stage; each pooling doubles them

    Raises
    ------
    OptionError
        X104, for features that can't be.

    Examples
    --------
    >>> xcnn.nets.unet(2, features=4).init(np.random.default_rng(0), (3, 32, 32))[1]
    (2, 32, 32)
    """
    features = check_whole("features", features)
    nodes: dict[str, Any] = {}
    for n in range(1, DEPTH + 1):
        nodes[f"encoder{n}"] = twice(f"enc{n}", features * 2 ** (n - 1))
        nodes[f"pool{n}"] = MaxPool2D(2)
    nodes["bottleneck"] = twice("bottleneck", features * 2**DEPTH)
    for n in range(DEPTH, 0, -1):
        channels = features * 2 ** (n - 1)
        nodes[f"upconv{n}"] = Conv2DTranspose(channels, 2, stride=2)
        nodes[f"both{n}"] = (Concatenate(), f"upconv{n}", f"encoder{n}")
        nodes[f"decoder{n}"] = twice(f"dec{n}", channels)
    return Graph(**nodes, conv=Conv2D(classes, 1))


def twice(name: str, channels: int) -> Sequential:
    """Two 3x3 convolutions, each with its norm and a ReLU."""
    layers = {
        f"{name}{what}{n}": layer
        for n in (1, 2)
        for what, layer in (("conv", conv(channels, 3)), ("norm", norm()), ("relu", ReLU()))
    }
    return Sequential(**layers)
