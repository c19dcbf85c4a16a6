"""Products of matrices by cublasLt: what is asked of it for the arrays at hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from xcnn.core.types import Array
from xcnn_cupy.convolutions import ALIGNMENT
from xcnn_cupy.cublaslt.product import DTYPES, MOST, Product
from xcnn_cupy.device import Device, is_in_order
from xcnn_cupy.layout import converted, copy

WORKSPACE = 2**25
"""Bytes that a product takes at most beside its matrices: more does not make it faster."""


@dataclass(frozen=True)
class Products:
    """What is multiplied by cublasLt.

    Parameters
    ----------
    tf32
        whether products of float32 may be rounded to 10 bits
    deterministic
        whether equal inputs must give equal bits in every run
    workspace
        bytes that a product may take beside its matrices
    """

    device: Device
    tf32: bool = False
    deterministic: bool = False
    workspace: int = 2**28

    def product(
        self, rows: int, inner: int, columns: int, dtype: Any, a_turned: bool = False, b_turned: bool = False
    ) -> Product | None:
        """What cublasLt is asked for matrices of these sizes, if it knows such."""
        if str(dtype) not in DTYPES or not all(1 <= size <= MOST for size in (rows, inner, columns)):
            return None
        return Product.of(
            rows, inner, columns, a_turned, b_turned, dtype=str(dtype),
            math="tf32" if self.tf32 and str(dtype) == "float32" else "float32", deterministic=self.deterministic,
            workspace=min(self.workspace, WORKSPACE), alignment=ALIGNMENT,
        )  # fmt: skip

    def answers(self, product: Product | None) -> bool:
        """Whether it computes this product."""
        return product is not None and self.device.has_product(product)

    def multiply(self, a: Array, b: Array, out: Array | None = None) -> Array | None:
        """A B, of matrices of one type, in `out` if it is given; None where cublasLt does not compute it.

        `out` lies in memory row by row, without gaps.
        """
        if a.dtype != b.dtype:
            return None
        (a, a_turned), (b, b_turned) = self.laid_out(a), self.laid_out(b)
        (rows, inner), columns = a.shape, b.shape[1]
        product = self.product(rows, inner, columns, a.dtype, a_turned, b_turned)
        if product is None or not self.device.has_product(product):
            return None
        fits = out is not None and self.device.address(out) % ALIGNMENT == 0
        c = out if fits else self.device.empty((rows, columns), a.dtype)
        self.device.multiply(product, a, b, c)
        if out is None or fits:
            return c
        out[...] = c
        return out

    def laid_out(self, x: Array) -> tuple[Array, bool]:
        """A matrix that lies as cublasLt takes it, and whether that is as its transpose would."""
        if is_in_order(x, (1, 0)) and not is_in_order(x, (0, 1)):
            return (x if self.fits(x) else copy(self.device, x.T).T), True
        x = converted(self.device, x, x.dtype, False)
        return (x if self.fits(x) else copy(self.device, x)), False

    def fits(self, x: Array) -> bool:
        """Whether it begins where cublasLt can read it."""
        return self.device.address(x) % ALIGNMENT == 0
