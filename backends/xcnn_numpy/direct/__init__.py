"""Correlation without the columns of a matrix, in registers, by functions that Numba compiles (the extra `fast`)."""

from xcnn_numpy.direct import convolution, dense
from xcnn_numpy.direct.algorithm import Direct

FUSES = (convolution.fuse, dense.fuse)
"""What knows runs of layers to fuse, in the order in which they are asked."""

__all__ = ["FUSES", "Direct"]
