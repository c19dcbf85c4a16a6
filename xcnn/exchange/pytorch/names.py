"""What PyTorch calls the weights of a net, and how it lays them out.

A container whose layers are all named by class and count is a torch.nn.Sequential, and its layers are called by their
places: "0.weight". Any other is a module with attributes, and its layers keep the names that they have. Three names are
others, so that a net of xcnn's can be one of PyTorch's: `_3` is called "3", `_` adds nothing, as a container that
PyTorch does not have, and a shortcut is a "downsample", as torchvision has it.

A 1x1 convolution whose name begins with "linear" is a torch.nn.Linear of the channels at each place, which is how nets
with their channels last have it; `linear_3` is called "3". A Scale without bias is a parameter of the module around it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from xcnn.core import tree
from xcnn.core.types import Shape, Weights
from xcnn.exchange.pytorch.tensors import Numbers
from xcnn.layers import Dense, Scale
from xcnn.layers.container import Container, counted
from xcnn.layers.layer import Layer
from xcnn.layers.packed import Packed

LEAVES = {
    "kernel": "weight", "scale": "weight", "negative_slope": "weight", "running_variance": "running_var",
}  # fmt: skip
"""Weights that have other names there."""
LINEAR, NUMBERED = "linear", re.compile(r"^(?:linear)?_(\d*)$")
STEPS = "running_steps"
"""What batch normalisation counts here, and PyTorch in another way (num_batches_tracked): it is no weight of a file."""


@dataclass(frozen=True)
class Twin:
    """A weight as PyTorch has it.

    Parameters
    ----------
    name
        its name in a state dict
    shape
        its sizes there
    transposed
        whether its two axes are exchanged, as those of a Dense's kernel are
    """

    name: str
    shape: Shape
    transposed: bool = False

    def turned(self, array: Numbers) -> Numbers:
        """From PyTorch's layout to ours, or back, but for axes of one cell."""
        return array.T if self.transposed else array


def twins(net: Layer, weights: Weights) -> dict[str, Twin]:
    """The twin of each weight by its path, but for batch normalisation's steps.

    Parameters
    ----------
    net
        a layer
    weights
        its tree of arrays, of which only shapes are looked at
    """
    return dict(_walk(net, weights, "", ()))


def _walk(layer: Layer, weights: Weights, path: str, parts: tuple[str, ...]) -> Iterator[tuple[str, Twin]]:
    if isinstance(layer, Packed):
        layer = layer.graph
    if not isinstance(layer, Container):
        for name, leaf in tree.items(weights):
            if name != STEPS:
                yield f"{path}{name}", twin_of(layer, name, tuple(np.shape(leaf)), parts, path.split("/")[-2:-1])
        return
    for (name, child), part in zip(layer.named, parts_of(layer), strict=True):
        if name in weights:
            yield from _walk(child, weights[name], f"{path}{name}/", (*parts, part) if part else parts)


def twin_of(layer: Layer, name: str, shape: Shape, parts: tuple[str, ...], called: list[str]) -> Twin:
    """The twin of one weight of a layer, which its container calls so."""
    if isinstance(layer, Scale) and not layer.bias:
        return Twin(".".join(parts) or "weight", (*shape, 1, 1))
    whole = ".".join([*parts, LEAVES.get(name, name.replace("/", "."))])
    if isinstance(layer, Dense) and name == "kernel":
        return Twin(whole, shape[::-1], transposed=True)
    is_linear = called and called[0].startswith(LINEAR) and shape[2:] == (1, 1)
    return Twin(whole, shape[:2] if is_linear else shape)


def parts_of(container: Container) -> list[str]:
    """What PyTorch calls the layers of a container."""
    names = [name for name, _ in container.named if name != "shortcut"]
    by_place = names == counted([layer for name, layer in container.named if name != "shortcut"])
    places = iter(range(len(names)))
    return [
        "downsample" if name == "shortcut" else str(next(places)) if by_place else NUMBERED.sub(r"\1", name)
        for name, _ in container.named
    ]
