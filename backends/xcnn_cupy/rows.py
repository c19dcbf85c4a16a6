"""The three products of a dense layer, by cublasLt or as cuDNN's convolutions of images of one cell.

W (features, units) as it lies in memory is a bank of `features` filters over `units` channels. A convolution with it
takes (N, units) to (N, features): that is dY Wᵀ. Its input's adjoint is X W, and its kernel's Xᵀ dY. A CUDA graph can
hold the calls of both libraries, and neither wants a transpose in memory. cuDNN sums each cell of a product at one
place; cublasLt may share a long sum out among processors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from xcnn.core.types import Array, Shape
from xcnn_cupy.convolutions import MAPS, Convolutions
from xcnn_cupy.cublaslt.product import Product
from xcnn_cupy.products import Products

ONE_CELL: dict[str, Any] = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}


@dataclass(frozen=True)
class Rows:
    """Products of rows of features.

    Parameters
    ----------
    products, convolutions
        cublasLt and cuDNN, as far as they may be asked
    """

    products: Products | None
    convolutions: Convolutions | None

    def answers(self, count: int, kernel_shape: Shape, dtype: Any) -> bool:
        """Whether all three products of so many samples can be had."""
        return all(self.way(kind, count, kernel_shape, dtype) is not None for kind in MAPS)

    def forward(self, x: Array, kernel: Array) -> Array:
        """X W"""

        def convolved(convolutions: Convolutions) -> Array:
            return convolutions.correlate_input_adjoint(
                cells(x), cells(kernel), image(len(x), kernel.shape[1]), **ONE_CELL
            )

        return self.computed("input", len(x), kernel.shape, (x, kernel), convolved)

    def input_adjoint(self, dy: Array, kernel: Array) -> Array:
        """DY Wᵀ"""
        return self.computed(
            "forward", len(dy), kernel.shape, (dy, kernel.T),
            lambda convolutions: convolutions.correlate(cells(dy), cells(kernel), **ONE_CELL),
        )  # fmt: skip

    def kernel_adjoint(self, x: Array, dy: Array) -> Array:
        """Xᵀ dY"""
        shape = (x.shape[1], dy.shape[1])

        def convolved(convolutions: Convolutions) -> Array:
            return convolutions.correlate_kernel_adjoint(cells(dy), cells(x), (*shape, 1, 1), **ONE_CELL)

        return self.computed("kernel", len(x), shape, (x.T, dy), convolved)

    def computed(
        self,
        kind: str,
        count: int,
        kernel_shape: Shape,
        matrices: tuple[Array, Array],
        convolved: Callable[[Convolutions], Array],
    ) -> Array:
        """One of the maps, by the library that is to be asked; it is one that `answers`."""
        way = self.way(kind, count, kernel_shape, matrices[0].dtype)
        if isinstance(way, Products):
            found = way.multiply(*matrices)
            if found is not None:
                return found
        assert self.convolutions is not None
        y = convolved(self.convolutions)
        return y.reshape(y.shape[:2])

    def way(self, kind: str, count: int, kernel_shape: Shape, dtype: Any) -> Products | Convolutions | None:
        """Who computes this map."""
        features, units = kernel_shape
        product, images = self.product(kind, count, features, units, dtype), image(count, units)
        multiplies = self.products is not None and self.products.answers(product)
        convolves = self.convolutions is not None and self.convolutions.answers(
            kind, images, (features, units, 1, 1), dtype, ONE_CELL
        )
        if multiplies and convolves:
            assert self.convolutions is not None
            assert product is not None
            question = self.convolutions.question(kind, images, (features, units, 1, 1), dtype, ONE_CELL)
            convolves = not self.convolutions.device.prefers(product, question)
        return self.convolutions if convolves else self.products if multiplies else None

    def product(self, kind: str, count: int, features: int, units: int, dtype: Any) -> Product | None:
        """What cublasLt is asked: cuDNN's names of the maps are those of the convolution with W."""
        if self.products is None:
            return None
        match kind:
            case "input":
                return self.products.product(count, features, units, dtype)
            case "forward":
                return self.products.product(count, units, features, dtype, b_turned=True)
        return self.products.product(features, count, units, dtype, a_turned=True)


def cells(x: Array) -> Array:
    """(N, features) as images of one cell."""
    return x.reshape(*x.shape, 1, 1)


def image(count: int, features: int) -> tuple[int, int, int, int]:
    """The shape of such images."""
    return count, features, 1, 1
