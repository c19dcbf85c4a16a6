"""Correlation in registers, by the compiled library; and runs of layers in one pass, and other layers."""

from xcnn_numpy.native import convolution, dense
from xcnn_numpy.native.algorithm import Native

FUSES = (convolution.fuse, dense.fuse)
"""What knows runs of layers with products to fuse, in the order in which they are asked."""

__all__ = ["FUSES", "Native"]
