"""What is asked of cublasLt: a product of two matrices that lie so and so in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from xcnn.errors import OptionError, ShapeError

DTYPES = ("float32", "float16", "bfloat16", "float64")
MATHS = ("float32", "tf32")
MOST = 2**31 - 1
"""Rows or columns of a matrix."""


@dataclass(frozen=True)
class Product:
    """C (rows, columns) = A (rows, inner) B (inner, columns), C without gaps in memory, row by row.

    Parameters
    ----------
    rows, inner, columns
        sizes, at least 1
    a_turned, b_turned
        whether a matrix lies in memory as its transpose would, row by row
    dtype
        of all three; halves are summed in float32
    math
        "float32", or "tf32" where products of float32 may be rounded to 10 bits
    deterministic
        whether equal inputs must give equal bits in every run
    workspace
        bytes that an algorithm may take beside the matrices
    alignment
        bytes that each address is a multiple of

    Raises
    ------
    OptionError
        X104
    ShapeError
        X101, for a size that no matrix has.
    """

    rows: int
    inner: int
    columns: int
    a_turned: bool = False
    b_turned: bool = False
    dtype: str = "float32"
    math: str = "float32"
    deterministic: bool = False
    workspace: int = 2**25
    alignment: int = 16
    key: str = field(init=False, repr=False, compare=False)
    """The product in one line, the same in every process: what files call it by."""

    @staticmethod
    @lru_cache(maxsize=4096)
    def of(*sizes: Any, **options: Any) -> Product:
        """The product, made once: every step asks for the same ones."""
        return Product(*sizes, **options)

    def __post_init__(self) -> None:
        for name, allowed in (("dtype", DTYPES), ("math", MATHS)):
            if getattr(self, name) not in allowed:
                told = ", ".join(map(repr, allowed))
                raise OptionError("X104", f"{name} must be one of {told}; got {getattr(self, name)!r}.")
        sizes = self.rows, self.inner, self.columns
        if not all(1 <= size <= MOST for size in sizes):
            raise ShapeError("X101", "these are not the sizes of matrices.", f"got rows, inner, columns {sizes}")
        object.__setattr__(self, "key", self._written())

    def __hash__(self) -> int:
        return hash(self.key)  # a string's hash is computed once

    @property
    def flop(self) -> int:
        """Multiplications and additions."""
        return 2 * self.rows * self.inner * self.columns

    def _written(self) -> str:
        a, b = (", turned" if turned else "" for turned in (self.a_turned, self.b_turned))
        return "; ".join(
            (
                f"product of {self.dtype} in {self.math}{', deterministic' if self.deterministic else ''}",
                f"a {self.rows},{self.inner}{a}",
                f"b {self.inner},{self.columns}{b}",
                f"workspace {self.workspace}",
                f"alignment {self.alignment}",
            )
        )
