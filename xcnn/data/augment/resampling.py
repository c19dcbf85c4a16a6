"""Images at other places than their own cells: linear interpolation, in the array API standard."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from array_api_compat import is_numpy_array, is_writeable_array

from xcnn.core.arrays import full, namespace, zeros
from xcnn.core.types import Array

if TYPE_CHECKING:
    from numpy.typing import NDArray


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


def along(x: Array, at: NDArray[np.float64], axis: int) -> Array:
    """X between its cells along an axis, at places from the first cell on; those outside are the outermost cell's."""
    last = x.shape[axis] - 1
    at = np.clip(at, 0, last)
    low = np.minimum(at.astype(np.int64), max(last - 1, 0))
    share = like(x, (at - low).reshape(tuple(-1 if n == axis % x.ndim else 1 for n in range(x.ndim))))
    first, second = (found_at(x, like(x, np.minimum(low + n, last)), axis) for n in (0, 1))
    return between(first, second, share)


def centres(first: float, size: float, cells: int) -> NDArray[np.float64]:
    """Where the centres of so many cells lie that share an interval of `size` cells from cell `first` on."""
    return np.asarray((np.arange(cells) + 0.5) * (size / cells) + (first - 0.5), np.float64)


def sampled(x: Array, rows: NDArray[np.float64], columns: NDArray[np.float64], fill: float) -> Array:
    """An image (C, H, W) at any places (h, w) of its rows and columns: bilinear, all beyond its edges being `fill`.

    It is taken from the image with cells around it, one before and two behind, which a place beyond them is moved to.
    Where all places lie on rows, or on columns, as a shear leaves them, there is nothing to blend across these.
    """
    xp, (channels, height, width) = namespace(x), x.shape
    padded = xp.reshape(around(x - fill if fill else x), (channels, -1))
    (top, down), (left, across) = ((whole(at, size)) for at, size in ((rows, height), (columns, width)))
    top *= width + 3
    top += left
    top += width + 4
    at = like(x, top.astype(np.int64).reshape(-1))
    share_down, share_across = (like(x, share.reshape(1, -1)) for share in (down, across))

    def blend(first: int) -> Array:
        """Each place's two cells of a row, from this cell on."""
        here = found_at(padded[:, first:], at, 1)
        return between(here, found_at(padded[:, first + 1 :], at, 1), share_across) if across.any() else here

    found = between(blend(0), blend(width + 3), share_down) if down.any() else blend(0)
    return xp.reshape(found + fill if fill else found, (channels, *rows.shape))


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
    """An image (C, H, W) with one row and column of zeros before it, and two behind it."""
    xp, (channels, height, _) = namespace(x), x.shape
    x = xp.concat([zeros(x, (channels, height, 1)), x, zeros(x, (channels, height, 2))], axis=2)
    return xp.concat([zeros(x, (channels, n, x.shape[2])) if n else x for n in (1, 0, 2)], axis=1)
