"""What is no convolution, as passes over memory by the compiled library."""

from xcnn_numpy.native import activations, dropout, layer_norm, normalisation, pooling, shortcut

PASSES = (
    normalisation.fuse, layer_norm.fuse, shortcut.fuse, pooling.fuse, dropout.fuse, activations.fuse,
)  # fmt: skip
"""What knows such runs of layers, in the order in which they are asked."""
