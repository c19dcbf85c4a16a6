"""The three maps by cuDNN: what is asked of it for the arrays at hand, and in which order of memory.

Tensor cores want the channels last in memory; strict float32 does best with images as they are indexed. Arrays that
lie otherwise are brought into that order first, by one launch each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from xcnn.core.types import Array, Pads, Pair, Shape
from xcnn.core.windows import output_size
from xcnn_cupy.cudnn.question import Question
from xcnn_cupy.device import Device
from xcnn_cupy.kernels.instances import FLOATS
from xcnn_cupy.layout import converted, copy

HALVES = ("float16", "bfloat16")
MAPS = ("forward", "input", "kernel")
ALIGNMENT = 16
"""Bytes that an array's address has to be a multiple of: a slice may begin in between."""


@dataclass(frozen=True)
class Convolutions:
    """An algorithm of the backend, and what fused runs call.

    Parameters
    ----------
    tf32
        whether products of float32 may be rounded to 10 bits
    deterministic
        whether equal inputs must give equal bits in every run
    workspace
        bytes that a plan may take beside its arrays
    """

    device: Device
    tf32: bool = False
    deterministic: bool = False
    workspace: int = 2**28

    def channels_last(self, dtype: Any) -> bool:
        """Whether images and kernels of this type lie with the channels last."""
        return str(dtype) in HALVES or (self.tf32 and str(dtype) == "float32")

    def answers(self, kind: str, x_shape: Shape, k_shape: Shape, dtype: Any, how: dict[str, Any]) -> bool:
        """Whether cuDNN has a plan for this map."""
        if str(dtype) not in FLOATS or 0 in (*x_shape, *k_shape):
            return False
        return self.device.has_plan(self.question(kind, x_shape, k_shape, dtype, how))

    def answers_all(self, x_shape: Shape, k_shape: Shape, dtype: Any, how: dict[str, Any]) -> bool:
        """Whether it has plans for all three."""
        return all(self.answers(kind, x_shape, k_shape, dtype, how) for kind in MAPS)

    def correlate(self, x: Array, k: Array, **how: Any) -> Array:
        """Y = X * K."""
        return self.forward(x, k, how)

    def forward(
        self, x: Array, k: Array, how: dict[str, Any], bias: Array | None = None, activation: str | None = None
    ) -> Array:
        """Y = f(X * K + B) in one plan; B has a number for each filter."""
        x, k = self.laid_out(x), self.laid_out(k)
        y_shape = (x.shape[0], k.shape[0], *output_size(x.shape[2:], k.shape[2:], *window(how)))
        y = self.device.empty(y_shape, x.dtype, self.channels_last(x.dtype))
        if not y.size:
            return y
        question = self.question("forward", x.shape, k.shape, x.dtype, how, bias is not None, activation)
        self.device.convolve(question, x, k, y, bias)
        return y

    def correlate_input_adjoint(self, dy: Array, k: Array, x_shape: Shape, **how: Any) -> Array:
        """DX = dY full-convolved with K."""
        dy, k = self.laid_out(dy), self.laid_out(k)
        dx = self.device.empty(tuple(x_shape), dy.dtype, self.channels_last(dy.dtype))
        if dx.size:
            self.device.convolve(self.question("input", dx.shape, k.shape, dy.dtype, how), dx, k, dy)
        return dx

    def correlate_kernel_adjoint(self, x: Array, dy: Array, k_shape: Shape, **how: Any) -> Array:
        """DK = X * dY."""
        x, dy = self.laid_out(x), self.laid_out(dy)
        dk = self.device.empty(tuple(k_shape), x.dtype, self.channels_last(x.dtype))
        if x.size:
            self.device.convolve(self.question("kernel", x.shape, dk.shape, x.dtype, how), x, dk, dy)
        else:  # the sum over no images
            dk[...] = 0
        return dk

    def laid_out(self, x: Array) -> Array:
        """An image or kernel in the order that plans take, and beginning where they can read it."""
        x = converted(self.device, x, x.dtype, self.channels_last(x.dtype))
        return copy(self.device, x) if self.device.address(x) % ALIGNMENT else x

    def question(
        self,
        kind: str,
        x_shape: Shape,
        k_shape: Shape,
        dtype: Any,
        how: dict[str, Any],
        bias: bool = False,
        activation: str | None = None,
    ) -> Question:
        """What cuDNN is asked for arrays of these shapes, all dense and in this type's order."""
        stride, padding, dilation = window(how)
        return Question.dense(
            kind, tuple(x_shape), tuple(k_shape), self.channels_last(dtype), dtype=str(dtype),
            math="tf32" if self.tf32 and str(dtype) == "float32" else "float32", deterministic=self.deterministic,
            padding=padding, stride=stride, dilation=dilation, bias=bias, activation=activation,
            workspace=self.workspace, alignment=ALIGNMENT,
        )  # fmt: skip


def window(how: dict[str, Any]) -> tuple[Pair, Pads, Pair]:
    """Stride, padding and dilation as tuples."""
    (top, bottom), (left, right) = how["padding"]
    (down, across), (rows, columns) = how["stride"], how["dilation"]
    return (down, across), ((top, bottom), (left, right)), (rows, columns)
