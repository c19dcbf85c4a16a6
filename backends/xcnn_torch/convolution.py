"""The three maps by PyTorch's own convolution and its two backward primitives, without autograd."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch.nn.functional import pad

from xcnn.core.reference import NO_PADDING
from xcnn.core.types import Array, Pads, Pair, Shape
from xcnn.core.windows import extent, output_size
from xcnn_torch.memory import HALVES, LONG, typed

aten = torch.ops.aten
FAR = 64
"""A stride from which on windows lie far apart."""


@dataclass(frozen=True)
class Window:
    """How kernels move over images, as PyTorch takes it: it pads both sides of an axis alike, and cuts nothing away.

    Parameters
    ----------
    padding
        of each axis, on both sides
    around
        what has to be padded, or with negative numbers cut away, beforehand
    """

    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int
    around: Pads

    @classmethod
    def of(cls, stride: Pair, padding: Pads, dilation: Pair, groups: int) -> Window:
        """The window of a primitive with these options."""
        (top, bottom), (left, right) = padding
        if (top, left) == (bottom, right) and min(top, left) >= 0:
            return cls(stride, (top, left), dilation, groups, NO_PADDING)
        return cls(stride, (0, 0), dilation, groups, padding)

    @property
    def arguments(self) -> tuple[Any, ...]:
        """What follows images, kernel and bias in PyTorch's signatures: it is no transposed convolution."""
        return self.stride, self.padding, self.dilation, False, (0, 0), self.groups

    def padded(self, x: Array) -> Array:
        """The images that the convolution is given."""
        return x if self.around == NO_PADDING else padded(x, self.around)

    def cropped(self, dx: Array) -> Array:
        """The gradient of the images before they were padded."""
        if self.around == NO_PADDING:
            return dx
        (top, bottom), (left, right) = self.around
        return padded(dx, ((-top, -bottom), (-left, -right)))

    def padded_shape(self, x_shape: Shape) -> Shape:
        """The shape of `padded`."""
        n, c, rows, columns = x_shape
        (top, bottom), (left, right) = self.around
        return n, c, rows + top + bottom, columns + left + right

    def output(self, x_shape: Shape, k_shape: Shape) -> Pair:
        """Height and width of Y, for images that are padded."""
        around = (self.padding[0],) * 2, (self.padding[1],) * 2
        return output_size(x_shape[2:], (k_shape[2], k_shape[3]), self.stride, around, self.dilation)


def padded(x: Array, around: Pads, value: float = 0.0) -> Array:
    """Images with cells of this value around them, or with cells cut away where numbers are negative."""
    (top, bottom), (left, right) = around
    return pad(x, (left, right, top, bottom), value=value)


@cache
def adds_widely(dtype: torch.dtype) -> bool:
    """Whether gradients of convolutions in this half type are oneDNN's on this CPU, which adds up in float32.

    PyTorch's own add images and taps in the type itself, where a sum of ones ends at 256 or 2048.
    """
    name = {torch.bfloat16: "_is_mkldnn_bf16_supported", torch.float16: "_is_mkldnn_fp16_supported"}[dtype]
    supported = getattr(torch.ops.mkldnn, name, None)
    return supported is not None and bool(supported())


def for_sums(x: Array) -> Array:
    """A tensor as the gradients of convolutions take it: in float32 where PyTorch would add up in half precision."""
    return x.float() if x.dtype in HALVES and x.is_cpu and not adds_widely(x.dtype) else x


def correlate(
    x: Array,
    k: Array,
    *,
    stride: Pair = (1, 1),
    padding: Pads = NO_PADDING,
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Array:
    """Y = X * K."""
    window = Window.of(stride, padding, dilation, groups)
    return aten.convolution(window.padded(x), k, None, *window.arguments)


def correlate_input_adjoint(
    dy: Array,
    k: Array,
    x_shape: Shape,
    *,
    stride: Pair = (1, 1),
    padding: Pads = NO_PADDING,
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Array:
    """DX: PyTorch asks for x only to know its shape."""
    window = Window.of(stride, padding, dilation, groups)
    dtype, dy, k = dy.dtype, for_sums(dy), for_sums(k)
    like = dy.new_empty(1).expand(window.padded_shape(x_shape))
    wanted = True, False, False
    dx = gradients(dy, like, k, window, wanted)[0]
    return typed(window.cropped(dx), dtype)


def correlate_kernel_adjoint(
    x: Array,
    dy: Array,
    k_shape: Shape,
    *,
    stride: Pair = (1, 1),
    padding: Pads = NO_PADDING,
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Array:
    """DK: PyTorch asks for k only to know its shape."""
    window = Window.of(stride, padding, dilation, groups)
    dtype, dy, x = dy.dtype, for_sums(dy), for_sums(x)
    like, wanted = dy.new_empty(1).expand(k_shape), (False, True, False)
    return typed(gradients(dy, window.padded(x), like, window, wanted)[1], dtype)


def gradients(dy: Array, x: Array, k: Array, window: Window, wanted: tuple[bool, bool, bool]) -> tuple[Any, Any, Any]:
    """DX, dK and dB of a convolution, those that are wanted, x being padded.

    On a CPU libraries add the terms of dK and dB one after another. So sums of more than LONG are made of shorter ones.
    """
    if wanted[0] and dy.is_cpu and max(window.stride) > FAR:
        return input_gradient(dy, x, k, window), *gradients(dy, x, k, window, (False, *wanted[1:]))[1:]
    places = dy.shape[0] * dy.shape[2] * dy.shape[3]
    if places <= LONG or not dy.is_cpu or dy.dtype == torch.float64:
        whole: tuple[Any, Any, Any] = aten.convolution_backward(dy, x, k, k.shape[:1], *window.arguments, wanted)
        return whole
    dx = dk = db = None
    if wanted[0]:
        dx = aten.convolution_backward(dy, x, k, None, *window.arguments, (True, False, False))[0]
    if wanted[1]:
        parts: Iterator[Array] = (part.float() for part in kernel_gradients(dy, x, k, window))
        dk = sum(parts, start=next(parts)).to(dy.dtype)
    if wanted[2]:
        db = dy.sum((0, 2, 3))
    return dx, dk, db


def input_gradient(dy: Array, x: Array, k: Array, window: Window) -> Array:
    """DX for windows that lie far apart: what each adds is computed side by side, and set into zeros.

    oneDNN goes through the cells between windows as often as there are, so that a stride of 512 takes seconds.
    """
    spans = [extent(n, d) for n, d in zip(k.shape[2:], window.dilation, strict=True)]
    counts = [1 if s <= span else m for m, s, span in zip(dy.shape[2:], window.stride, spans, strict=True)]
    near: Any = tuple(map(min, window.stride, spans))
    sizes = [(m - 1) * s + span for m, s, span in zip(dy.shape[2:], near, spans, strict=True)]
    like = dy.new_empty(1).expand(*x.shape[:2], *sizes)
    beside = replace(window, stride=near, padding=(0, 0))
    met = aten.convolution_backward(dy, like, k, None, *beside.arguments, (True, False, False))[0]
    met = met.unflatten(3, (counts[1], -1)).unflatten(2, (counts[0], -1))
    (n, c, a, rows, b, columns), (down, across) = met.shape, window.stride
    dx = met.new_zeros(n, c, a, down if a > 1 else rows, b, across if b > 1 else columns)
    dx[:, :, :, :rows, :, :columns] = met
    dx = dx.flatten(4).flatten(2, 3)
    (top, left), (high, wide) = window.padding, x.shape[2:]
    return padded(dx, ((-top, high + top - dx.shape[2]), (-left, wide + left - dx.shape[3])))


def kernel_gradients(dy: Array, x: Array, k: Array, window: Window) -> Iterator[Array]:
    """DK of some rows of some images after another: together they are the whole."""
    (down, _), (top, left), rows = window.stride, window.padding, dy.shape[2]
    here = replace(window, padding=(0, 0))
    images = max(1, LONG // (rows * dy.shape[3]))
    some = max(1, LONG // dy.shape[3]) if images == 1 else rows
    x = x if (top, left) == (0, 0) else padded(x, ((top, top), (left, left)))
    for n in range(0, len(dy), images):
        for row in range(0, rows, some):
            part = dy[n : n + images, :, row : row + some]
            high = (part.shape[2] - 1) * down + extent(k.shape[2], window.dilation[0])
            met = x[n : n + images, :, row * down : row * down + high]
            yield aten.convolution_backward(part, met, k, None, *here.arguments, (False, True, False))[1]
