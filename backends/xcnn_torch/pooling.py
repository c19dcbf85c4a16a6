"""Max-pooling and sums of windows by PyTorch's own poolings, without autograd.

PyTorch pads both sides of an axis alike and by no more than half a window; elsewhere images are padded beforehand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from xcnn.core import reference
from xcnn.core.arrays import rounded_once
from xcnn.core.reference import NO_PADDING
from xcnn.core.types import Array, Pads, Pair, Shape
from xcnn.core.windows import output_size
from xcnn_torch.convolution import Window, padded
from xcnn_torch.memory import HALVES
from xcnn_torch.recording import at_once

aten = torch.ops.aten


@dataclass(frozen=True)
class MaxPool:
    """Max-pooling whose windows PyTorch can place itself. It tells of each largest cell its place in the image."""

    size: Pair
    stride: Pair
    padding: Pair

    @classmethod
    def of(cls, size: Pair, stride: Pair, padding: Pads) -> MaxPool | None:
        """The pooling with these options; None where images have to be padded beforehand."""
        (top, bottom), (left, right) = padding
        if (top, left) != (bottom, right) or not (0 <= 2 * top <= size[0] and 0 <= 2 * left <= size[1]):
            return None
        return cls(size, stride, (top, left))

    def output(self, sizes: Shape) -> Pair:
        """Height and width of Y."""
        return output_size(sizes, self.size, self.stride, ((self.padding[0],) * 2, (self.padding[1],) * 2))

    def __call__(self, x: Array) -> tuple[Array, Array]:
        """Y, and where each of its cells stood in the image, counted row by row."""
        y, places = aten.max_pool2d_with_indices(x, self.size, self.stride, self.padding)
        return y, places

    def into(self, x: Array, y: Array, places: Array) -> None:
        """The same, written to these tensors."""
        aten.max_pool2d_with_indices.out(x, self.size, self.stride, self.padding, out=y, indices=places)

    def backward(self, dy: Array, dx: Array, places: Array) -> Array:
        """DX, written into a tensor of its shape, or a new one where PyTorch's autograd looks on.

        Where windows overlap PyTorch adds dY in its own type, and so it is given float32 for half precision.
        """
        how = self.size, self.stride, self.padding, (1, 1), False
        if dy.dtype in HALVES and (self.stride[0] < self.size[0] or self.stride[1] < self.size[1]):
            return aten.max_pool2d_with_indices_backward(dy.float(), dx.float(), *how, places).to(dy.dtype)
        if dy.requires_grad:
            return aten.max_pool2d_with_indices_backward(dy, dx, *how, places)
        return aten.max_pool2d_with_indices_backward.grad_input(dy, dx, *how, places, grad_input=dx)


@at_once
def of_first_nan(
    places: Array,
    y: Array,
    x: Array,
    size: Pair,
    stride: Pair,
    padding: Pair,
    made: tuple[Any, ...] = (),
    bias: Array | None = None,
) -> Array:
    """The places of largest cells, of several NaN in a window the first: PyTorch tells the last.

    What is pooled is x, or where there are further arguments for it, the convolution of x, and an untied bias.
    A sum of y tells whether there may be a NaN. On a GPU, where nobody can look while a step is captured, it is the
    last.
    """
    if not y.is_cpu or not y.sum().isnan():
        return places.view_as(places)
    z = aten.convolution(x, *made) if made else x
    z = z if bias is None else z + bias
    firsts = aten.max_pool2d_with_indices(z.isnan().float(), size, stride, padding)[1]
    return torch.where(y.isnan(), firsts, places)


@at_once
def max_pool(x: Array, size: Pair, *, stride: Pair, padding: Pads = NO_PADDING) -> tuple[Array, Array]:
    """The largest cell of each window, and the number of its tap.

    Of several NaN PyTorch tells the last: the first is that of the largest cells of a mask. On a GPU nobody can ask
    whether there are any while a step is captured.
    """
    if not x.dtype.is_floating_point:
        return reference.max_pool(x, size, stride=stride, padding=padding)
    pool, wide = MaxPool(size, stride, (0, 0)), padded(x, padding, -float("inf"))
    y, places = pool(wide)
    if x.device.type != "cpu" or y.isnan().any():
        places = torch.where(y.isnan(), pool(wide.isnan().to(x.dtype))[1], places)
    which = taps(places, pool, wide)
    if padding != NO_PADDING:
        first = (  # counted where x is: a copy from the host could not be captured
            (before - step * torch.arange(count, device=x.device)).clamp(min=0)
            for (before, _), step, count in zip(padding, stride, y.shape[2:], strict=True)
        )
        rows, columns = (tap * (tap < k) for tap, k in zip(first, size, strict=True))
        which = torch.where(y == -float("inf"), rows[:, None] * size[1] + columns, which)
    return y, which


def max_pool_adjoint(
    dy: Array, which: Array, x_shape: Shape, size: Pair, *, stride: Pair, padding: Pads = NO_PADDING
) -> Array:
    """Each dY goes to the cell that was largest."""
    window, pool = Window(stride, (0, 0), (1, 1), 1, padding), MaxPool(size, stride, (0, 0))
    dx = dy.new_empty(window.padded_shape(x_shape))
    down, along = firsts(pool, dx)
    width = dx.shape[3]
    places = (down + which // size[1]) * width + along + which % size[1]
    return window.cropped(pool.backward(dy, dx, places))


def firsts(pool: MaxPool, x: Array) -> tuple[Array, Array]:
    """The row and the column where each window begins, (H', 1) and (W',)."""
    rows, columns = (
        torch.arange(count, device=x.device) * step
        for count, step in zip(pool.output(x.shape[2:]), pool.stride, strict=True)
    )
    return rows[:, None], columns


def taps(places: Array, pool: MaxPool, x: Array) -> Array:
    """Places in the image as numbers of taps, counted row by row within the window."""
    (down, along), width = firsts(pool, x), x.shape[3]
    return (places // width - down) * pool.size[1] + places % width - along


def sum_pool(x: Array, size: Pair, *, stride: Pair, padding: Pads = NO_PADDING) -> Array:
    """The sum of each window."""
    return aten.avg_pool2d(padded(x, padding), size, stride, (0, 0), False, True, 1)


@rounded_once
def sum_pool_adjoint(dy: Array, x_shape: Shape, size: Pair, *, stride: Pair, padding: Pads = NO_PADDING) -> Array:
    """Each dY goes to every cell of its window."""
    window = Window(stride, (0, 0), (1, 1), 1, padding)
    like = dy.new_empty(1).expand(window.padded_shape(x_shape))
    return window.cropped(aten.avg_pool2d_backward(dy, like, size, stride, (0, 0), False, True, 1))
