"""Runs of layers as few launches, behind the layers that they replace: each module knows one kind of run."""

from xcnn_cupy.fused import addition, average, convolution, dense, dropout, flatten, groups, normalisation

FUSES = (
    convolution.fuse, dense.fuse, normalisation.fuse, *groups.FUSES,
    dropout.fuse, flatten.fuse, average.fuse, addition.fuse,
)  # fmt: skip
"""What knows runs of layers, in the order in which they are asked."""
