"""Correlation without the columns of a matrix, in registers, by functions that Numba compiles (the extra `fast`)."""

from xcnn_numpy import flatten
from xcnn_numpy.direct import average, convolution, dense
from xcnn_numpy.direct.algorithm import Direct
from xcnn_numpy.plain import addition, dropout, normalisation

FUSES = (convolution.fuse, dense.fuse, normalisation.fuse, dropout.fuse, addition.fuse, average.fuse, flatten.fuse)
"""What knows runs of layers to fuse, in the order in which they are asked."""

__all__ = ["FUSES", "Direct"]
