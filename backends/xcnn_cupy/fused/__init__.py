"""Runs of layers as few launches, behind the layers that they replace: each module knows one kind of run."""

from xcnn_cupy.fused import addition, average, convolution, dense, dropout, flatten, normalisation

FUSES = (convolution.fuse, dense.fuse, normalisation.fuse, dropout.fuse, flatten.fuse, average.fuse, addition.fuse)
"""What knows runs of layers, in the order in which they are asked."""
