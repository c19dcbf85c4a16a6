"""Runs of layers in one pass by NumPy alone, without the compiled library: a few images at a time, in cache."""

from xcnn_numpy.plain import addition, cells, convolution, dense, dropout, normalisation, samples

FUSES = (
    convolution.fuse, dense.fuse, normalisation.fuse, samples.fuse, dropout.fuse, addition.fuse, cells.fuse,
)  # fmt: skip
"""What knows runs of layers to fuse, in the order in which they are asked."""

__all__ = ["FUSES"]
