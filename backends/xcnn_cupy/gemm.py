"""Correlation as products of matrices on CUDA: cublasLt's; windows are laid out and added up again by a launch each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from xcnn_strided import Gemm

from xcnn.core.types import Array, Pads, Pair, Shape
from xcnn_cupy.device import MOST_CELLS, Device
from xcnn_cupy.lowering import columns, folded
from xcnn_cupy.products import Products


@dataclass(frozen=True)
class CudaGemm(Gemm):
    """The three maps."""

    device: Device
    matrices: Products

    def columns(
        self, x: Array, kernel: Pair, output: Pair, stride: Pair, padding: Pads, dilation: Pair, at_once: int
    ) -> Iterator[tuple[slice, Array]]:
        cells = at_once * x.shape[1] * kernel[0] * kernel[1] * output[0] * output[1]
        if "float" not in str(x.dtype) or max(cells, x.size) > MOST_CELLS:
            yield from super().columns(x, kernel, output, stride, padding, dilation, at_once)
            return
        for first in range(0, x.shape[0], at_once):
            images = slice(first, min(first + at_once, x.shape[0]))
            yield images, columns(self.device, x[images], kernel, output, stride, padding, dilation)

    def added(
        self, met: Array, x_shape: Shape, kernel: Pair, output: Pair, stride: Pair, padding: Pads, dilation: Pair
    ) -> Array:
        if "float" not in str(met.dtype) or met.size > MOST_CELLS:
            return super().added(met, x_shape, kernel, output, stride, padding, dilation)
        return folded(self.device, met, x_shape, kernel, output, stride, padding, dilation)

    def products(self, a: Array, b: Array, out: Array) -> Array:
        for g in range(a.shape[0]):
            if self.matrices.multiply(a[g], b[g], out[g]) is None:
                super().products(a[g : g + 1], b[g : g + 1], out[g : g + 1])
        return out
