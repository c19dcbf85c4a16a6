"""Correlation in registers, by the compiled library, and runs of layers in one pass."""

from xcnn_numpy.native import convolution, dense
from xcnn_numpy.native.algorithm import Native
from xcnn_numpy.plain import addition, dropout, normalisation

FUSES = (convolution.fuse, dense.fuse, normalisation.fuse, dropout.fuse, addition.fuse)
"""What knows runs of layers to fuse, in the order in which they are asked."""

__all__ = ["FUSES", "Native"]
