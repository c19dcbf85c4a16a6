"""Correlation in registers, by the compiled library."""

from xcnn_numpy.native.algorithm import Native

__all__ = ["Native"]
