"""Correlation as products of matrices by BLAS, whose long sums are cut."""

from __future__ import annotations

from xcnn_strided import Gemm

from xcnn.core.types import Array
from xcnn_numpy.plain import blas


class BlasGemm(Gemm):
    """The three maps on NumPy's arrays."""

    def products(self, a: Array, b: Array, out: Array) -> Array:
        """Out[g] = a[g] b[g], a limited number of terms at a time."""
        for one, other, product in zip(a, b, out, strict=True):
            blas.product(one, other, product)
        return out
