"""Layers and runs of layers by the compiled library: convolutions in registers, and all else as passes over memory."""

from xcnn_numpy.native import (
    activations,
    convolution,
    dense,
    dropout,
    flatten,
    folded,
    layer_norm,
    normalisation,
    pooling,
    rearranged,
    resampled,
    shortcut,
)
from xcnn_numpy.native.algorithm import Native

PASSES = (
    normalisation.fuse, layer_norm.fuse, shortcut.fuse, pooling.fuse, dropout.fuse, activations.fuse,
    flatten.fuse, rearranged.fuse, resampled.fuse,
)  # fmt: skip
"""What knows runs of layers that are passes over memory, in the order in which they are asked."""
FUSES = (folded.fuse, convolution.fuse, dense.fuse, *PASSES)
"""With those that begin with a product."""

__all__ = ["FUSES", "PASSES", "Native"]
