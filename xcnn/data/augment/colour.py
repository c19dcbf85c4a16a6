"""Augmentations of brightness and colour, for cells of 0 to 1, which they stay within."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np
from array_api_compat import is_numpy_array

from xcnn.core.arrays import full, namespace
from xcnn.core.checks import check_rate
from xcnn.core.options import checked
from xcnn.core.types import Array
from xcnn.data.augment.checks import check_images
from xcnn.data.augment.draws import Draws
from xcnn.data.augment.resampling import in_turn, like
from xcnn.errors import OptionError, ShapeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

GREY = (0.2989, 0.587, 0.114)
"""How bright red, green and blue are: ITU-R BT.601."""

AT_ONCE = 2**17
"""Cells that are changed together: as many as a processor's cache holds a few times."""


@checked
@dataclass(frozen=True)
class ColorJitter:
    """Change brightness, contrast, saturation and hue, in this order, each by a factor or a turn of its own.

    Brightness multiplies; contrast blends with the image's mean grey, saturation with the image in grey: a factor of 0
    leaves nothing else, one above 1 goes the other way. All is cut to 0..1.

    Parameters
    ----------
    brightness, contrast, saturation
        b for factors of max(0, 1 - b) to 1 + b
    hue
        how far around the circle of colours at most, either way, 0 to 0.5

    Raises
    ------
    OptionError
        X104, for an option that it can't have.
    ShapeError
        X101, for images that are neither grey nor red, green and blue.

    Examples
    --------
    >>> images = np.arange(9.0).reshape(1, 1, 3, 3) / 9
    >>> xcnn.augment.ColorJitter(brightness=0.4)(images, xcnn.augment.Draws((0, 0), np.arange(1))).shape
    (1, 1, 3, 3)
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation"):
            check_rate(name, getattr(self, name))
        if not 0 <= self.hue <= 0.5:
            raise OptionError("X104", f"hue must be a number of 0 to 0.5; got {self.hue}.")

    def __call__(self, x: Array, draws: Draws) -> Array:
        check_images(self, x, draws)
        check_colours(self, x)
        u, at_once = draws.uniform(4), max(1, AT_ONCE // prod(x.shape[1:]))
        parts = (slice(n, min(n + at_once, len(u))) for n in range(0, len(u), at_once))
        return in_turn(x, (self.changed(x[part, ...], u[part]) for part in parts))

    def changed(self, x: Array, u: NDArray[np.float64]) -> Array:
        """Some images, by four numbers each."""
        if self.brightness:
            x = brightened(x, factors(u[:, 0], self.brightness))
        if self.contrast:
            x = contrasted(x, factors(u[:, 1], self.contrast))
        if self.saturation:
            x = saturated(x, factors(u[:, 2], self.saturation))
        if self.hue and x.shape[1] == 3:
            x = turned(x, self.hue * (2 * u[:, 3] - 1))
        return x


def check_colours(augmentation: object, x: Array) -> None:
    """Raise X101 unless images are grey, or red, green and blue."""
    if x.shape[1] not in (1, 3):
        told = f"takes images that are grey, or red, green and blue; these have {x.shape[1]} channels."
        raise ShapeError("X101", told, layer=augmentation)


def factors(u: NDArray[np.float64], most: float) -> NDArray[np.float64]:
    """Numbers of max(0, 1 - most) to 1 + most from those of [0, 1)."""
    low = max(0.0, 1 - most)
    return low + (1 + most - low) * u


def brightened(x: Array, by: NDArray[np.float64]) -> Array:
    """Each image times its factor."""
    return cut_in_place(x * for_each(x, by))


def contrasted(x: Array, by: NDArray[np.float64]) -> Array:
    """Each image blended with its mean grey."""
    return blended(x, grey(means(x)), by)


def means(x: Array) -> Array:
    """(N, C, 1, 1), of each channel's cells: the same bits in every library, as libraries' own sums are not.

    Halves are added, and the halves of their sum, in an order that is the same everywhere; of an odd number the last
    waits. Halves of precision are summed in float32.
    """
    xp, (images, channels, height, width) = namespace(x), x.shape
    sums, odd = xp.reshape(x, (images * channels, height * width)), []
    if xp.finfo(x.dtype).bits < 32:
        sums = xp.astype(sums, xp.float32)
    while (cells := sums.shape[1]) > 1:
        half = cells // 2
        if cells % 2:
            odd.append(sums[:, -1:])
        sums = sums[:, :half] + sums[:, half : 2 * half]
    for last in odd:
        sums = sums + last
    return xp.reshape(xp.astype(sums * (1 / (height * width)), x.dtype, copy=False), (images, channels, 1, 1))


def saturated(x: Array, by: NDArray[np.float64]) -> Array:
    """Each image blended with itself in grey, which a grey one is."""
    return x if x.shape[1] == 1 else blended(x, grey(x), by)


def blended(x: Array, other: Array, by: NDArray[np.float64]) -> Array:
    """Factor X + (1 - factor) other."""
    share = for_each(x, by)
    made = share * x
    made += (1 - share) * other
    return cut_in_place(made)


def grey(x: Array) -> Array:
    """(N, 1, H, W), how bright each cell is."""
    if x.shape[1] == 1:
        return x
    red, green, blue = (share * x[:, n : n + 1, ...] for n, share in enumerate(GREY))
    return red + green + blue


def turned(x: Array, by: NDArray[np.float64]) -> Array:
    """Colours turned by shares of their circle: value and saturation stay, in the cone of hue, saturation and value."""
    xp = namespace(x)
    value, least = xp.max(x, axis=1, keepdims=True), xp.min(x, axis=1, keepdims=True)
    chroma = value - least
    some = xp.where(chroma == 0, xp.ones_like(chroma), chroma)
    red, green, blue = (x[:, n : n + 1, ...] for n in range(3))
    hue = xp.where(
        value == red, (green - blue) / some, xp.where(value == green, 2 + (blue - red) / some, 4 + (red - green) / some)
    )
    hue = hue + 6 * for_each(x, by)
    channels = []
    for first in (5, 3, 1):  # red, green and blue fall from value to least around these sixths of the circle
        sixth = first + hue
        sixth = sixth - 6 * xp.floor(sixth / everywhere(sixth, 6))
        ramp = xp.minimum(sixth, 4 - sixth)
        channels.append(value - chroma * cut_in_place(ramp))
    return xp.concat(channels, axis=1)


def for_each(x: Array, numbers: NDArray[np.float64]) -> Array:
    """One number for each image, beside x."""
    return like(x, numbers.reshape(-1, 1, 1, 1))


def everywhere(x: Array, divisor: Array | float) -> Array:
    """What X is to be divided by, in its shape: XLA multiplies by the inverse of what it sees to be one number."""
    xp = namespace(x)
    return xp.broadcast_to(full(x, (), divisor) if isinstance(divisor, int | float) else divisor, x.shape)


def cut(x: Array) -> Array:
    """Cells within 0..1."""
    return x.clip(0.0, 1.0) if is_numpy_array(x) else namespace(x).clip(x, 0.0, 1.0)


def cut_in_place(x: Array) -> Array:
    """The same in memory of x, which is used up, where a library can do so."""
    return x.clip(0.0, 1.0, out=x) if is_numpy_array(x) else cut(x)
