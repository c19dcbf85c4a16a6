"""Correlations of few channels, from the images moved by each cell of the kernel: depthwise ones, and a net's first.

Y[c, m] = sum over u, v of K[c m, u, v] X[c], moved by (u, v)

XLA's CPU compiler makes one loop of such a sum, over all lanes and threads; its own depthwise convolutions go cell by
cell. Where all filters see the same few channels the sum is a product of matrices, filters by moved images, with the
pixels of all images in a row: XLA's own has the filters there, which are few. Depthwise gradients are sums too: DX of
dY, spread by the stride, DK of one product for each cell of the kernel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from itertools import product
from math import prod
from operator import add

import jax.numpy as jnp
from jax import lax

from xcnn.core.reference import NO_PADDING
from xcnn.core.types import Array, Pads, Pair, Shape
from xcnn.core.windows import output_size
from xcnn_jax.how import How

MOST = 64
"""Terms of a sum: the compiler takes longer for more of them."""
FEW = 32
"""Terms of a product: with more, XLA's own is as fast."""
MANY = 16
"""Channels of a product for each cell."""
LARGEST = 2**26
"""Bytes of the moved images of a product."""
TYPES = ("float32", "float64")
"""Of sums that lose nothing of what their terms have: XLA adds up convolutions of shorter numbers in longer ones."""


def fits(x: Array, k: Array, y_size: Pair, how: How) -> bool:
    """Whether Y comes from moved images: as sums, or as a product of such a size."""
    if how.groups > 1:
        return sums(k.shape, how) and str(x.dtype) in TYPES
    terms = prod(k.shape[1:])
    nbytes = terms * len(x) * prod(y_size) * x.dtype.itemsize
    few = terms <= FEW and k.shape[1] < MANY
    return how.on_processor and few and nbytes <= LARGEST and str(x.dtype) in TYPES


def fits_columns(x: Array, k_shape: Shape, how: How) -> bool:
    """Whether images are smaller than the kernel, with which XLA then changes their places: cell by cell again."""
    return how.on_processor and how.groups == 1 and prod(x.shape[2:]) < prod(k_shape[2:]) <= MOST


def fits_adjoints(dy: Array, k_shape: Shape, how: How) -> bool:
    """Whether DX and DK are sums."""
    return sums(k_shape, how) and str(dy.dtype) in TYPES


def fits_products(x: Array, k_shape: Shape, how: How) -> bool:
    """Whether DK is a product of matrices for each cell of the kernel: of 1x1 kernels, and where windows step."""
    steps = prod(k_shape[2:]) == 1 or min(how.stride) > 1
    return how.on_processor and how.groups == 1 and k_shape[1] >= MANY and steps and prod(k_shape[2:]) <= FEW


def sums(k_shape: Shape, how: How) -> bool:
    """Whether each filter sees one channel, few see the same, and there are no more terms than a sum should have."""
    return how.on_processor and how.groups > 1 and k_shape[1] == 1 and prod(k_shape) <= MOST * how.groups


def correlate(x: Array, k: Array, y_size: Pair, how: How) -> Array:
    """Y (N, filters, height, width)"""
    o, _, *taps = k.shape
    x = padded(x, how.padding)
    if how.groups == 1:
        moved = jnp.stack([part for _, part in windows(x.transpose(1, 0, 2, 3), taps, y_size, how)], axis=1)
        y = jnp.matmul(k.reshape(o, -1), moved.reshape(k[0].size, -1), precision=how.products)
        return y.reshape(o, len(x), *y_size).transpose(1, 0, 2, 3)
    each = k.reshape(how.groups, o // how.groups, *taps, 1, 1)
    terms = (each[:, :, u, v] * part for (u, v), part in windows(x[:, :, None], taps, y_size, how))
    return reduce(add, terms).reshape(len(x), o, *y_size)


def by_columns(x: Array, k: Array, how: How) -> Array:
    """Y (N, filters, height, width) of X with its padding, as one product: what each pixel meets by the kernels."""
    o, _, *taps = k.shape
    y_size = output_size(x.shape[2:], k.shape[2:], how.stride, NO_PADDING, how.dilation)
    parts = [part.transpose(0, 2, 3, 1) for _, part in windows(x, taps, y_size, how)]
    met = jnp.concatenate(parts, axis=-1).reshape(-1, k[0].size)
    y = jnp.matmul(met, k.transpose(2, 3, 1, 0).reshape(-1, o), precision=how.products)
    return y.reshape(len(x), *y_size, o).transpose(0, 3, 1, 2)


def correlate_input_adjoint(dy: Array, k: Array, x_shape: Shape, how: How) -> Array:
    """DX (N, channels, height, width)"""
    c, taps = how.groups, k.shape[2:]
    each = jnp.flip(k, axis=(2, 3)).reshape(c, len(k) // c, *taps, 1, 1)
    around = []
    for axis, (low, _) in zip((2, 3), how.padding, strict=True):
        reach = (taps[axis - 2] - 1) * how.dilation[axis - 2]
        spread = (dy.shape[axis] - 1) * how.stride[axis - 2] + 1
        around.append((reach - low, x_shape[axis] + low - spread))
    dy = padded(dy, (around[0], around[1]), how.stride)
    dy = dy.reshape(len(dy), c, len(k) // c, *dy.shape[2:])
    parts = windows(dy, taps, x_shape[2:], how._replace(stride=(1, 1)))
    return reduce(add, (each[:, m, u, v] * part[:, :, m] for (u, v), part in parts for m in range(dy.shape[2])))


def correlate_kernel_adjoint(x: Array, dy: Array, k_shape: Shape, how: How) -> Array:
    """DK (filters, 1, height, width)"""
    dy = dy.reshape(len(dy), how.groups, k_shape[0] // how.groups, *dy.shape[2:])
    x = padded(x, how.padding)[:, :, None]
    cells = [jnp.sum(part * dy, axis=(0, 3, 4)) for _, part in windows(x, k_shape[2:], dy.shape[3:], how)]
    return jnp.stack(cells, axis=-1).reshape(k_shape)


def kernel_products(x: Array, dy: Array, k_shape: Shape, how: How) -> Array:
    """DK (filters, channels, height, width), whose sums run over the pixels of all images."""
    o, c, *taps = k_shape
    parts = windows(padded(x, how.padding), taps, dy.shape[2:], how)
    moved = (part.transpose(0, 2, 3, 1).reshape(-1, c) for _, part in parts)
    dy = dy.transpose(0, 2, 3, 1).reshape(-1, o)
    cells = [lax.dot_general(part, dy, (((0,), (0,)), ((), ())), precision=how.products) for part in moved]
    return jnp.stack(cells).reshape(*taps, c, o).transpose(3, 2, 0, 1)


def padded(x: Array, around: Pads, spread: Pair = (1, 1)) -> Array:
    """With zeros around and between the cells; where there are fewer than none, without the cells there."""
    edges = ((low, high, step - 1) for (low, high), step in zip(around, spread, strict=True))
    return lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), (0, 0, 0), *edges))


def windows(x: Array, taps: Sequence[int], size: Sequence[int], how: How) -> Iterator[tuple[Pair, Array]]:
    """What each cell (u, v) of a kernel meets, as that is moved over the last two axes."""
    for u, v in product(*map(range, taps)):
        rows, columns = (
            slice(first * d, first * d + (count - 1) * s + 1, s)
            for first, count, d, s in zip((u, v), size, how.dilation, how.stride, strict=True)
        )
        yield (u, v), x[..., rows, columns]
