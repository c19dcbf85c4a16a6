"""Images mirrored: left to right, and upside down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from array_api_compat import is_numpy_array

from xcnn.core.arrays import namespace
from xcnn.core.options import checked
from xcnn.core.types import Array
from xcnn.data.augment.checks import check_images, check_share
from xcnn.data.augment.draws import Draws
from xcnn.data.augment.resampling import each, in_turn

if TYPE_CHECKING:
    from numpy.typing import NDArray

WORD = 8
"""Bytes that NumPy copies backwards, and turns over, as fast as a single one."""
CACHED = 2**14
"""Cells of an image beyond which that is worth more calls."""


@checked
@dataclass(frozen=True)
class Flip:
    """Mirror images, each with these chances: left to right, and upside down.

    Parameters
    ----------
    horizontal, vertical
        the shares of images that are mirrored, 0 to 1

    Raises
    ------
    OptionError
        X104, for an option that it can't have.

    Examples
    --------
    >>> import numpy as np, xcnn
    >>> flip = xcnn.data.augment.Flip(horizontal=1)
    >>> flip(np.array([[[[1.0, 2.0, 3.0]]]]), xcnn.data.augment.Draws((0, 0), np.arange(1)))
    array([[[[3., 2., 1.]]]])
    """

    horizontal: float = 0.5
    vertical: float = 0.0

    def __post_init__(self) -> None:
        check_share("horizontal", self.horizontal)
        check_share("vertical", self.vertical)

    def __call__(self, x: Array, draws: Draws) -> Array:
        check_images(self, x, draws)
        turned = draws.uniform(2) < (self.vertical, self.horizontal)
        if not turned.any():
            return x
        ways = turned.tolist()
        if is_numpy_array(x) and fits_words(x):
            return by_words(x, ways)
        return in_turn(x, (mirrored(image, *way)[None, ...] for image, way in zip(each(x), ways, strict=True)))


def mirrored(image: Array, upside_down: bool, sideways: bool) -> Array:
    """An image (C, H, W), so turned."""
    axes = [1] * upside_down + [2] * sideways
    return namespace(image).flip(image, axis=axes) if axes else image


def fits_words(x: NDArray[Any]) -> bool:
    """Whether a batch's images are large, and each row of them some words of several cells that lie side by side."""
    size = x.dtype.itemsize
    large = x.shape[1] * x.shape[2] * x.shape[3] > CACHED
    return large and x.strides[3] == size and x.dtype.kind in "fiu" and size < WORD and x.shape[3] * size % WORD == 0


def by_words(x: NDArray[Any], ways: list[list[bool]]) -> NDArray[Any]:
    """A batch whose images are turned by these ways, upside down and sideways.

    Rows are copied backwards in words, and that copy turns over all bytes of a word, those of each cell having been
    turned over before: NumPy makes fewer copies than there are cells, and the former without going backwards.
    """
    cell, word = f"u{x.dtype.itemsize}", f"u{WORD}"
    made, turned = np.empty(x.shape, x.dtype), np.empty(x.shape[2:], f">{cell}")
    for place, image, (upside_down, sideways) in zip(made, x, ways, strict=True):
        if not sideways:
            place[...] = mirrored(image, upside_down, sideways)
            continue
        rows = slice(None, None, -1 if upside_down else 1)
        for to, channel in zip(place.view(f"<{word}"), image.view(f"<{cell}"), strict=True):
            turned[...] = channel[rows]
            to[...] = turned.view(f">{word}")[:, ::-1]
    return made
