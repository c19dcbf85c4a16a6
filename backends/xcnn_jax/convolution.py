"""The three maps by one convolution of lax, whose axes are brought into the order that XLA computes in.

That order is (N, H, W, C) for images and (H, W, in, out) for kernels. XLA's CPU compiler brings other orders into it,
but not within a loop, where it then computes cell by cell, up to fifty times slower. Elsewhere the order costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from xcnn.core.types import Array, Pads, Shape
from xcnn.core.windows import extent, output_size
from xcnn_jax import shifts
from xcnn_jax.how import How


@partial(jax.jit, static_argnums=2)
def correlate(x: Array, k: Array, how: How) -> Array:
    """Y = X * K."""
    y_size = output_size(x.shape[2:], k.shape[2:], how.stride, how.padding, how.dilation)
    if shifts.fits(x, k, y_size, how):
        return shifts.correlate(x, k, y_size, how)
    if shifts.fits_columns(x, k.shape, how):
        return shifts.by_columns(shifts.padded(x, how.padding), k, how)
    y = lax.conv_general_dilated(
        x.transpose(0, 2, 3, 1),
        k.transpose(2, 3, 1, 0),
        how.stride,
        how.padding,
        rhs_dilation=how.dilation,
        feature_group_count=how.groups,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=how.products,
    )
    return y.transpose(0, 3, 1, 2)


@partial(jax.jit, static_argnums=(2, 3))
def correlate_input_adjoint(dy: Array, k: Array, x_shape: Shape, how: How) -> Array:
    """DX = dY, spread by the stride, correlated in full with K rotated by 180 degrees."""
    if shifts.fits_adjoints(dy, k.shape, how):
        return shifts.correlate_input_adjoint(dy, k, x_shape, how)
    o, c, h, w = k.shape
    around = []
    for axis, size, d, s, (lo, _) in zip((2, 3), (h, w), how.dilation, how.stride, how.padding, strict=True):
        reach = extent(size, d) - 1
        dy, edges = cropped(dy, axis, reach - lo, x_shape[axis] + reach, s)
        around.append(edges)
    if shifts.fits_columns(dy, k.shape, how):
        spread = shifts.padded(dy, (around[0], around[1]), how.stride)
        return shifts.by_columns(spread, jnp.flip(k, axis=(2, 3)).swapaxes(0, 1), how._replace(stride=(1, 1)))
    turned = jnp.flip(k, axis=(2, 3)).reshape(how.groups, o // how.groups, c, h, w)
    dx = lax.conv_general_dilated(
        dy.transpose(0, 2, 3, 1),
        turned.transpose(3, 4, 1, 0, 2).reshape(h, w, o // how.groups, how.groups * c),
        (1, 1),
        around,
        lhs_dilation=how.stride,
        rhs_dilation=how.dilation,
        feature_group_count=how.groups,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=how.products,
    )
    return dx.transpose(0, 3, 1, 2)


@partial(jax.jit, static_argnums=(2, 3))
def correlate_kernel_adjoint(x: Array, dy: Array, k_shape: Shape, how: How) -> Array:
    """DK = X correlated, valid, with dY: channels stand where images did, and images are summed over."""
    if shifts.fits_adjoints(dy, k_shape, how):
        return shifts.correlate_kernel_adjoint(x, dy, k_shape, how)
    if shifts.fits_products(x, k_shape, how):
        return shifts.kernel_products(x, dy, k_shape, how)
    around = []
    for axis, s, d, (lo, _) in zip((2, 3), how.stride, how.dilation, how.padding, strict=True):
        x, edges = cropped(x, axis, lo, (k_shape[axis] - 1) * d + (dy.shape[axis] - 1) * s + 1)
        around.append(edges)
    dk = lax.conv_general_dilated(
        x.transpose(1, 2, 3, 0),
        dy.transpose(2, 3, 0, 1),
        how.dilation,
        around,
        rhs_dilation=how.stride,
        batch_group_count=how.groups,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=how.products,
    )
    return dk.transpose(3, 0, 1, 2)


def cropped(x: Array, axis: int, before: int, length: int, step: int = 1) -> tuple[Array, tuple[int, int]]:
    """What a window of this length sees of an axis, and the zeros before and behind that.

    The axis is spread by `step` and begins `before` cells behind the window's start, or before it, where that is
    negative. Padding that is negative, as XLA has it, would say the same, but there its CPU library reads other memory.
    """
    first = -(min(before, 0) // step)
    stop = min(x.shape[axis], (length - before - 1) // step + 1)
    if first >= stop:
        return lax.slice_in_dim(x, 0, 0, axis=axis), (0, length)
    low = before + first * step
    return lax.slice_in_dim(x, first, stop, axis=axis), (low, length - low - (stop - first - 1) * step - 1)


@partial(jax.jit, static_argnums=(0, 3, 4))
def plane(function: Callable[..., Array], x: Array, k: Array, mode: str, products: str) -> Array:
    """One of the reference's functions of a plane and a kernel, by `correlate`."""

    def by(x: Array, k: Array, padding: Pads) -> Array:
        y: Array = correlate(x, k, How((1, 1), padding, (1, 1), 1, products))
        return y

    return function(x, k, mode, by)
