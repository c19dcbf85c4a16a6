"""What `auto` does: cuDNN where it has a plan, products of matrices elsewhere."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from xcnn_strided import Algorithm

from xcnn.core.types import Array, Shape
from xcnn_cupy.convolutions import Convolutions

log = logging.getLogger("xcnn")


@dataclass(frozen=True)
class Auto:
    """The three maps, each by the algorithm that can."""

    convolutions: Convolutions
    products: Algorithm

    def correlate(self, x: Array, k: Array, **how: Any) -> Array:
        """Y = X * K."""
        return self.for_map("forward", x.shape, k.shape, x.dtype, how).correlate(x, k, **how)

    def correlate_input_adjoint(self, dy: Array, k: Array, x_shape: Shape, **how: Any) -> Array:
        """DX = dY full-convolved with K."""
        return self.for_map("input", x_shape, k.shape, dy.dtype, how).correlate_input_adjoint(dy, k, x_shape, **how)

    def correlate_kernel_adjoint(self, x: Array, dy: Array, k_shape: Shape, **how: Any) -> Array:
        """DK = X * dY."""
        return self.for_map("kernel", x.shape, k_shape, x.dtype, how).correlate_kernel_adjoint(x, dy, k_shape, **how)

    def for_map(self, kind: str, x_shape: Shape, k_shape: Shape, dtype: Any, how: dict[str, Any]) -> Algorithm:
        """CuDNN, if it has a plan for this map."""
        return self.convolutions if self.convolutions.answers(kind, x_shape, k_shape, dtype, how) else self.products
