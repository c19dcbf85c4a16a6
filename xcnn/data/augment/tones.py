"""What may be done to the tones of images of 0..1, one amount for each image: Pillow's operations, on any arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from array_api_compat import is_numpy_array

from xcnn.core.arrays import namespace
from xcnn.core.types import Array
from xcnn.data.augment.colour import blended, cut, everywhere, for_each

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEVELS = 255
"""The largest of a byte: tones are counted in these steps."""


def sharpened(x: Array, by: NDArray[np.float64]) -> Array:
    """Each image blended with a smooth one, means of 3x3 cells of which the middle counts five times; edges stay."""
    if min(x.shape[2:]) < 3:
        return x
    xp = namespace(x)
    three = x[:, :, :-2, :] + x[:, :, 1:-1, :]
    three += x[:, :, 2:, :]
    inner = three[:, :, :, :-2] + three[:, :, :, 1:-1]
    inner += three[:, :, :, 2:]
    inner += 4 * x[:, :, 1:-1, 1:-1]
    inner /= everywhere(inner, 13)
    rows = xp.concat([x[:, :, 1:-1, :1], inner, x[:, :, 1:-1, -1:]], axis=3)
    return blended(x, xp.concat([x[:, :, :1, :], rows, x[:, :, -1:, :]], axis=2), by)


def posterized(x: Array, bits: NDArray[np.float64]) -> Array:
    """The first `bits` bits of each cell's byte, the others being 0."""
    made, step = tones(x), for_each(x, 2.0 ** (8 - bits))
    made /= everywhere(made, step)
    made = namespace(x).floor(made)
    made *= step
    made /= everywhere(made, LEVELS)
    return made


def solarized(x: Array, threshold: NDArray[np.float64]) -> Array:
    """1 - X where X is at least the image's threshold."""
    return namespace(x).where(x >= for_each(x, threshold), 1 - x, x)


def stretched(x: Array) -> Array:
    """Each channel's least cell made 0, and its largest 1; a channel of one tone stays."""
    xp = namespace(x)
    least, most = (extreme(x, axis=(2, 3), keepdims=True) for extreme in (xp.min, xp.max))
    span = most - least
    flat = span <= 0
    made = x - xp.where(flat, xp.zeros_like(least), least)
    made /= everywhere(made, xp.where(flat, xp.ones_like(span), span))
    return made


def equalized(x: Array) -> Array:
    """Each channel's tones spread so that as many cells have each, as bytes; a channel of few tones stays.

    A cell becomes the number of those darker than it, in steps of the cells that are not of the lightest tone / 255.
    """
    if 0 in x.shape:
        return x
    xp, (_, _, height, width) = namespace(x), x.shape
    levels = xp.reshape(xp.astype(tones(x), xp.uint8), (-1, height * width))
    made = xp.stack([spread(levels[n, :], x.dtype) for n in range(levels.shape[0])])
    return xp.reshape(made, x.shape)


def spread(levels: Array, dtype: Any) -> Array:
    """The cells of one channel, (cells,) of bytes, equalized, in 0..1: each tone has a new one."""
    xp = namespace(levels)
    darker, lightest = counted(levels)
    step = lightest // LEVELS
    bytes_ = xp.arange(LEVELS + 1, dtype=darker.dtype, device=levels.device)
    table = xp.clip((step // 2 + darker) // xp.where(step > 0, step, xp.ones_like(step)), max=LEVELS)
    table = xp.astype(xp.where(step > 0, table, bytes_), dtype)
    table /= everywhere(table, LEVELS)
    return xp.take(table, levels if is_numpy_array(levels) else xp.astype(levels, xp.int64))


def counted(levels: Array) -> tuple[Array, Array]:
    """How many cells, (cells,) of bytes, are darker than each byte, (256,), and than the lightest of them, (1,).

    NumPy counts each byte's in a tenth of the time of sorting them all, which any library can.
    """
    xp = namespace(levels)
    if is_numpy_array(levels):
        each = np.bincount(levels, minlength=LEVELS + 1)
        darker = np.cumsum(each) - each
        return darker, darker[np.flatnonzero(each)[-1:]]
    order = xp.sort(levels)
    bytes_ = xp.arange(LEVELS + 1, dtype=levels.dtype, device=levels.device)
    return xp.astype(xp.searchsorted(order, bytes_), xp.int64), xp.astype(xp.searchsorted(order, order[-1:]), xp.int64)


def tones(x: Array) -> Array:
    """The nearest bytes, as floating-point numbers."""
    made = cut(x)
    made *= LEVELS
    return namespace(x).round(made)
