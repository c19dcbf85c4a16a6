"""How a correlation is computed."""

from __future__ import annotations

from typing import NamedTuple

from xcnn.core.types import Pads, Pair


class How(NamedTuple):
    """The options of a correlation, and how exactly float32 numbers are multiplied."""

    stride: Pair
    padding: Pads
    dilation: Pair
    groups: int
    products: str
    on_processor: bool = False
    """Whether XLA compiles for the host's processor, whose convolutions of few channels are slow."""
