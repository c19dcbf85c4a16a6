"""A picture of a digit, prepared as MNIST's were: its ink found, cut out, scaled and centred."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from xcnn.core.files import path_of
from xcnn.data.images import FORMATS, MAX_PIXELS, check_image_options, open_image
from xcnn.data.ink import check_one, find_ink, widened
from xcnn.data.pixels import meaning, on_white
from xcnn.errors import DataError, told_by

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

GREY = (0.299, 0.587, 0.114)
SIDE, BOX, CENTRE = 28, 20, 14
"""MNIST's images are 28 pixels wide, their digits fit a box of 20, and their centre of mass is at pixel 14."""

BLANK = 0.05
LARGE = 1024
EVEN = 0.04
"""How much of the ink's contrast the border of an evenly lit picture varies by, at most."""
ROOM = 64
"""Pixels of the shorter side below which nothing is looked for locally."""
PEN = 2.0
"""The width of MNIST's strokes, in its pixels, at least."""


def mnist_like(
    image: str | os.PathLike[str] | Image.Image | NDArray[Any],
    max_pixels: int = MAX_PIXELS,
    formats: Sequence[str] = FORMATS,
) -> tuple[NDArray[np.float32], str]:
    """Any picture of a digit, prepared as MNIST's were: (array (1, 28, 28), what was done to it).

    White ink on black, cut out, its larger side scaled to 20 pixels, its centre of mass put in the middle of 28x28
    (LeCun et al., "Gradient-based learning applied to document recognition", 1998). Of an evenly lit picture the
    background is the median of the border; what differs from it hardly more than the border itself varies is background
    too. Where the border is no even paper, in a shadow, squared or grainy, the ink is looked for locally
    (`xcnn.data.ink`), and thin strokes are widened to a usual pen's. The note gives sizes as height x width: "inverted,
    cropped to 312x240, scaled to 20x15, centred by mass".

    Parameters
    ----------
    image
        a file, a Pillow image, or an array: (height, width), (channels, height, width) or (height, width, channels)
        with 1, 3 or 4 channels; whole numbers, or real ones in 0..1 or 0..255 (uint16: 0..65535). One that is 28x28
        and light on a dark background already is taken as it is.
    max_pixels, formats
        of a file, as for `read_image`.

    Raises
    ------
    DataError
        X207: it can't be read as an image. X208: it is blank, there is no digit on it, or there are several.
    """
    done: list[str] = []
    grey = _grey(image, max_pixels, formats, done)
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    background, low, high = (float(n) for n in (np.median(border), grey.min(), grey.max()))
    if high - low < BLANK:
        raise DataError("X208", "the image is blank.", hint="transparent parts count as white.")
    if grey.shape == (SIDE, SIDE) and background < 0.1 and high > 0.5:
        return grey[None], "as it is"
    ink = grey - background
    inverted = background > (low + high) / 2
    ink = -ink if inverted else ink
    contrast = float(ink.max())
    noise = float(np.quantile(np.abs(border - background), 0.9)) / contrast
    if noise > EVEN and min(grey.shape) >= ROOM:
        ink = _local(grey, done)
    else:
        done += ["inverted"] if inverted else []
        ink /= contrast
        ink[ink < min(0.5, max(0.1, 4 * noise))] = 0
        check_one(ink)
        ink = _crop(ink, done)
    ink = _scale(ink, done)
    return _centre(ink, done)[None], ", ".join(done)


def _local(grey: NDArray[np.float32], done: list[str]) -> NDArray[np.float32]:
    """The strokes of the digit on a photo, cut out, as wide at least as MNIST's are."""
    found = find_ink(grey)
    top, bottom, left, right = found.box
    strokes = found.strokes[top:bottom, left:right]
    done.append("ink found locally" + (", the paper's lines taken away" if found.lines else ""))
    done.append(f"cropped to {found.factor * (bottom - top)}x{found.factor * (right - left)}")
    strokes = strokes / np.float32(np.quantile(strokes[strokes > 0], 0.75))
    return widened(strokes.clip(0, 1), PEN * max(strokes.shape) / BOX)


def _grey(image: Any, max_pixels: int, formats: Sequence[str], done: list[str]) -> NDArray[np.float32]:
    """The brightness (height, width) in 0..1, on white where the image is transparent, reduced if it is large."""
    from PIL import Image

    if isinstance(image, str | os.PathLike):
        image = open_image(path_of(image), "L", check_image_options(None, "L", formats, max_pixels), None, max_pixels)
    elif isinstance(image, Image.Image) and (image.format or image.mode not in ("I", "F")):
        image = _flat(image)
    try:
        x = np.asarray(_reduce(image, done) if isinstance(image, Image.Image) else image)
    except Exception as error:  # of what is no array, any
        raise DataError("X207", f"a {type(image).__name__} is not an image: {told_by(error)}") from error
    if x.ndim == 2:
        x = x[None]
    elif x.ndim == 3 and x.shape[0] not in (1, 3, 4):
        x = np.moveaxis(x, 2, 0)
    if x.ndim != 3 or x.shape[0] not in (1, 3, 4) or x.size == 0 or x.dtype.kind not in "buif":
        raise DataError(
            "X207",
            f"an array of {x.dtype} with shape {np.shape(image)} is not an image.",
            hint="(height, width), (channels, height, width) or (height, width, channels), 1, 3 or 4 channels.",
        )
    top = {"bool": 1, "uint8": 255, "uint16": 65535}.get(x.dtype.name) or (1 if x.max() <= 1 else 255)
    if not (x.min() >= 0 and x.max() <= top):  # neither holds for NaN
        raise DataError("X207", "the image's values are not all in 0..1, or in 0..255.")
    x = np.divide(x, np.float32(top), dtype=np.float32)
    grey = np.tensordot(np.asarray(GREY, np.float32), x[:3], 1) if x.shape[0] > 1 else x[0]
    grey = np.ascontiguousarray(grey * x[3] + (1 - x[3]) if x.shape[0] == 4 else grey, np.float32)
    return grey if max(grey.shape) < 2 * LARGE else np.asarray(_reduce(Image.fromarray(grey), done))


def _flat(image: Image.Image) -> Image.Image:
    """A picture that is at hand, grey on white paper."""
    try:
        meant = meaning(image)
        image.load()
        return on_white(image, "L", meant)
    except Exception as error:
        raise DataError("X207", f"the picture can't be read: {str(error).rstrip('.')}.") from error


def _reduce(image: Image.Image, done: list[str]) -> Image.Image:
    factor = max(image.size) // LARGE
    if factor < 2:
        return image
    done.append(f"reduced {factor} times")
    return image.reduce(factor)


def _crop(ink: NDArray[np.float32], done: list[str]) -> NDArray[np.float32]:
    rows, columns = (np.flatnonzero(ink.any(axis)) for axis in (1, 0))
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    done.append(f"cropped to {ink.shape[0]}x{ink.shape[1]}")
    return ink


def _scale(ink: NDArray[np.float32], done: list[str]) -> NDArray[np.float32]:
    from PIL import Image

    height, width = (max(1, round(n * BOX / max(ink.shape))) for n in ink.shape)
    small = Image.fromarray(np.ascontiguousarray(ink)).resize((width, height), Image.Resampling.HAMMING)
    done.append(f"scaled to {height}x{width}")
    pixels = np.asarray(small)
    return np.asarray(pixels.clip(0, None) / pixels.max(), np.float32)


def _centre(ink: NDArray[np.float32], done: list[str]) -> NDArray[np.float32]:
    y = np.zeros((SIDE, SIDE), np.float32)
    corner = []
    for axis, size in enumerate(ink.shape):
        mass = ink.sum(axis=1 - axis)
        mean = float(mass @ np.arange(size)) / float(mass.sum())
        corner.append(min(max(round(CENTRE - mean), 0), SIDE - size))
    y[corner[0] : corner[0] + ink.shape[0], corner[1] : corner[1] + ink.shape[1]] = ink
    done.append("centred by mass")
    return y
