"""Images at other places than their own cells: linear interpolation, in the array API standard."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from array_api_compat import is_numpy_array, is_writeable_array

from xcnn.core.arrays import full, namespace, zeros
from xcnn.core.types import Array

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOGETHER = 2**16
"""Cells of a channel that are looked up at once: of one small image each call of NumPy takes longer than its work."""


def like(x: Array, numbers: Any) -> Array:
    """A host array beside x: on its device, and in its type where it is of floats."""
    xp = namespace(x)
    numbers = np.asarray(numbers)
    dtype = {"i": xp.int64, "b": xp.bool}.get(numbers.dtype.kind, x.dtype)
    return xp.asarray(numbers, dtype=dtype, device=x.device)


def each(x: Array) -> list[Array]:
    """The images of a batch, as they lie there."""
    return [x[n, ...] for n in range(x.shape[0])]


def batch_of(x: Array, images: Iterable[Array]) -> Array:
    """A batch like X of images, made one after the other as they are needed; a single one is not copied."""
    if x.shape[0] == 1:
        return next(iter(images))[None, ...]
    return in_turn(x, (image[None, ...] for image in images))


def in_turn(x: Array, parts: Iterable[Array]) -> Array:
    """A batch like X of smaller ones: each is written where it goes, if that can be, and let go of before the next."""
    if not x.shape[0]:
        return x
    xp, first = namespace(x), 0
    made = xp.empty(x.shape, dtype=x.dtype, device=x.device)
    if not is_writeable_array(made):
        return xp.concat(list(parts), axis=0)
    for part in parts:
        made[first : first + part.shape[0], ...] = part
        first += part.shape[0]
    return made


def in_places(x: Array, groups: Sequence[tuple[NDArray[np.int64], Array]]) -> Array:
    """A batch like X of groups of images, each with the places of its images: written where they go, if that can be."""
    xp = namespace(x)
    made = xp.empty(x.shape, dtype=x.dtype, device=x.device)
    if not is_writeable_array(made):
        order = np.argsort(np.concatenate([places for places, _ in groups]), kind="stable")
        return xp.take(xp.concat([images for _, images in groups], axis=0), like(x, order), axis=0)
    for places, images in groups:
        for n, place in enumerate(places.tolist()):
            made[place, ...] = images[n, ...]
    return made


def side_by_side(x: Array, images: Iterable[Sequence[Array]]) -> Array:
    """A batch like X of images that are given in parts, from left to right: written where they go, if that can be."""
    xp = namespace(x)
    made = xp.empty(x.shape, dtype=x.dtype, device=x.device)
    if not is_writeable_array(made):
        return xp.stack([xp.concat(parts, axis=2) if len(parts) > 1 else parts[0] for parts in images])
    for n, parts in enumerate(images):
        first = 0
        for part in parts:
            made[n, :, :, first : first + part.shape[2]] = part
            first += part.shape[2]
    return made


def shifted(image: Array, right: int, down: int, fill: float) -> Array:
    """An image (C, H, W) moved by whole cells, fewer than it has; what comes in is `fill`."""
    xp = namespace(image)
    for axis, by in ((1, down), (2, right)):
        if by:
            stays = [slice(None)] * 3
            stays[axis] = slice(max(-by, 0), image.shape[axis] - max(by, 0))
            came = full(image, (*image.shape[:axis], abs(by), *image.shape[axis + 1 :]), fill)
            parts = (came, image[tuple(stays)]) if by > 0 else (image[tuple(stays)], came)
            image = xp.concat(parts, axis=axis)
    return image


def in_groups(x: Array, change: Callable[[Array, slice], Array]) -> Array:
    """A batch like X by a function of some of its images, and of which they are: of small ones, many at once."""
    at_once = max(1, TOGETHER // max(1, x.shape[2] * x.shape[3]))
    groups = [slice(first, min(first + at_once, x.shape[0])) for first in range(0, x.shape[0], at_once)]
    if len(groups) == 1:
        return change(x, groups[0])
    return in_turn(x, (change(x[those, ...], those) for those in groups))


def channels_first(x: Array) -> Array:
    """Images (N, C, H, W) as (C, N, H, W), and the other way round: each channel's cells of all of them in one row."""
    return namespace(x).permute_dims(x, (1, 0, 2, 3))


def neighbours(at: NDArray[np.float64], last: int | NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The two cells (2, ...) that places lie between, and the second's share; outside, the outermost cell."""
    at = np.clip(at, 0, last)
    low = np.minimum(at.astype(np.int64), np.maximum(np.asarray(last) - 1, 0))
    return np.stack([low, np.minimum(low + 1, last)]), at - low


def centres(first: float, size: Any, cells: int) -> NDArray[np.float64]:
    """Where the centres of so many cells lie that share an interval of `size` cells from cell `first` on."""
    return np.asarray((np.arange(cells) + 0.5) * (size / cells) + (first - 0.5), np.float64)


def enlarged(x: Array, parts: NDArray[np.int64]) -> Array:
    """Parts of images (N, C, H, W), as large as they; parts (N, 4): first row and column, height and width."""
    (count, channels, height, width), xp = x.shape, namespace(x)
    if count == 1:
        return enlarged_alone(x, *parts[0].tolist())
    top, left, high, wide = (parts[:, n, None] for n in range(4))
    rows, down = neighbours(centres(0, high, height), high - 1)
    columns, across = neighbours(centres(0, wide, width), wide - 1)
    rows += top + height * np.arange(count)[:, None]
    columns += left
    lines = xp.reshape(channels_first(x), (channels, count * height, width))
    first, second = (found_at(lines, like(x, at.reshape(-1)), 1) for at in rows)
    found = between(first, second, like(x, down.reshape(1, -1, 1)))
    begin = width * np.arange(count * height).reshape(count, height, 1)
    cells = xp.reshape(found, (channels, -1))
    first, second = (found_at(cells, like(x, (begin + at[:, None, :]).reshape(-1)), 1) for at in columns)
    shape = (channels, count, height, width)
    found = between(xp.reshape(first, shape), xp.reshape(second, shape), like(x, across[None, :, None, :]))
    return channels_first(found)


def enlarged_alone(x: Array, top: int, left: int, high: int, wide: int) -> Array:
    """The same of one image (1, C, H, W), which may be large: nothing but the part is read."""
    part = x[:, :, top : top + high, left : left + wide]
    return along(along(part, centres(0, high, x.shape[2]), 2), centres(0, wide, x.shape[3]), 3)


def along(x: Array, at: NDArray[np.float64], axis: int) -> Array:
    """X between its cells along an axis, at places from the first cell on; those outside are the outermost cell's."""
    cells, share = neighbours(at, x.shape[axis] - 1)
    first, second = (found_at(x, like(x, each), axis) for each in cells)
    return between(first, second, like(x, share.reshape(tuple(-1 if n == axis else 1 for n in range(x.ndim)))))


def sampled(x: Array, rows: NDArray[np.float64], columns: NDArray[np.float64], fill: float) -> Array:
    """Images (N, C, H, W) at places (N, h, w) of their rows and columns: bilinear, all beyond their edges being `fill`.

    They are taken from images with cells around them, one before and two behind, which a place beyond is moved to.
    Where all places of an image lie on rows, or on columns, as a shear leaves them, nothing is blended across these.
    """
    xp, (count, channels, height, width) = namespace(x), x.shape
    (top, down), (left, across) = ((whole(at, size)) for at, size in ((rows, height), (columns, width)))
    blended = [share.any(axis=(1, 2)) for share in (down, across)]
    if any(those.any() and not those.all() for those in blended):
        alone = (slice(n, n + 1) for n in range(count))
        return in_turn(x, (sampled(x[n, ...], rows[n], columns[n], fill) for n in alone))
    padded = xp.reshape(around(channels_first(x - fill if fill else x)), (channels, -1))
    top *= width + 3
    top += left
    top += width + 4 + (height + 3) * (width + 3) * np.arange(count)[:, None, None]
    at = like(x, top.astype(np.int64).reshape(-1))
    share_down, share_across = (like(x, share.reshape(1, -1)) for share in (down, across))

    def blend(first: int) -> Array:
        """Each place's two cells of a row, from this cell on."""
        here = found_at(padded[:, first:], at, 1)
        return between(here, found_at(padded[:, first + 1 :], at, 1), share_across) if blended[1].any() else here

    found = between(blend(0), blend(width + 3), share_down) if blended[0].any() else blend(0)
    return channels_first(xp.reshape(found + fill if fill else found, (channels, *rows.shape)))


def found_at(x: Array, at: Array, axis: int) -> Array:
    """X at places along an axis, of which it has each: looking for others takes NumPy nearly half of its time."""
    return np.take(x, at, axis=axis, mode="wrap") if is_numpy_array(x) else namespace(x).take(x, at, axis=axis)


def between(first: Array, second: Array, share: Array) -> Array:
    """First + share (second - first), in memory of the second, which is used up."""
    second -= first
    second *= share
    second += first
    return second


def whole(at: NDArray[np.float64], size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The cell before each place along an axis, -1 to size, and how far behind its centre the place is, 0 to 1."""
    at = np.clip(at, -1, size)
    cell = np.floor(at)
    at -= cell
    return cell, at


def around(x: Array) -> Array:
    """Images (..., H, W) with one row and column of zeros before them, and two behind them."""
    xp, (*others, height, _) = namespace(x), x.shape
    x = xp.concat([zeros(x, (*others, height, 1)), x, zeros(x, (*others, height, 2))], axis=-1)
    return xp.concat([zeros(x, (*others, n, x.shape[-1])) if n else x for n in (1, 0, 2)], axis=-2)
