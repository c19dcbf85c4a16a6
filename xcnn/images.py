"""Image files as arrays. Pillow opens only the formats that are named here, and only up to a number of pixels."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xcnn.checks import check_whole
from xcnn.errors import DataError, OptionError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

FORMATS = ("PNG", "JPEG", "BMP", "GIF")
MAX_PIXELS = 1 << 26
PIXELS_PER_BYTE = 8 * 1032
"""The most that a format above can pack into a byte: PNG's 1-bit pixels, deflated."""

GREY = (0.299, 0.587, 0.114)
SIDE, BOX, CENTRE = 28, 20, 14
"""MNIST's images are 28 pixels wide, their digits fit a box of 20, and their centre of mass is at pixel 14."""

BLANK = 0.05
LARGE = 1024


def read_image(
    path: str | os.PathLike[str],
    size: tuple[int, int] | None = (28, 28),
    mode: str = "L",
    formats: Sequence[str] = FORMATS,
) -> NDArray[np.float32]:
    """An image file as an array (channels, height, width), float32 in 0..1.

    Turned as its EXIF data say, set on white where it is transparent, and stretched to `size`. Of an animation, the
    first picture.

    Parameters
    ----------
    size
        (height, width); None keeps the image's own.
    mode
        "L" for grey, one channel, or "RGB", three.
    formats
        the names of the formats that Pillow may open.

    Raises
    ------
    DataError
        X207: it is not an image in one of these formats, is damaged, or has more than 2^26 pixels.
    """
    check_image_options(size, mode)
    return to_array(_open(Path(path), mode, formats, size))


def check_image_options(size: tuple[int, int] | None, mode: str) -> None:
    """Raise X104 unless these are a size and a mode that `read_image` takes."""
    if mode not in ("L", "RGB"):
        raise OptionError("X104", f'mode must be "L" (grey) or "RGB"; got {mode!r}.')
    if size is not None:
        if not isinstance(size, tuple | list) or len(size) != 2:
            raise OptionError("X104", f"size must be (height, width) or None; got {size!r}.")
        for name, side in zip(("height", "width"), size, strict=True):
            check_whole(name, side)


def to_array(image: Image.Image) -> NDArray[np.float32]:
    """A Pillow image of mode L or RGB as an array (channels, height, width), float32 in 0..1."""
    pixels = np.asarray(image)
    planes = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, 2, 0)
    y: NDArray[np.float32] = np.divide(planes, np.float32(255), dtype=np.float32, order="C")
    return y


def _open(path: Path, mode: str, formats: Sequence[str], size: tuple[int, int] | None) -> Image.Image:
    from PIL import Image, ImageOps, UnidentifiedImageError

    if not path.is_file():
        raise DataError("X207", f"{path} is {'not a file' if path.exists() else 'not there'}.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as damaged EXIF data, which the pixels do without
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=list(formats)) as image:
                limit = min(MAX_PIXELS, PIXELS_PER_BYTE * path.stat().st_size)
                if image.width * image.height > limit:
                    raise ValueError(f"it promises {image.width}x{image.height} pixels, more than {limit:,}")
                if size:
                    image.draft(None, (2 * max(size), 2 * max(size)))  # a JPEG can be decoded smaller
                ImageOps.exif_transpose(image, in_place=True)
                flat = _flatten(image, mode)
            return flat.resize((size[1], size[0]), Image.Resampling.BILINEAR) if size else flat
    except Exception as error:  # Pillow's decoders raise many kinds on damaged files
        reason = str(error).rstrip(".") or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            reason = "it has none of the formats that are allowed"
        raise DataError(
            "X207",
            f"{path} can't be read as an image: {reason}.",
            hint=f"the formats are {', '.join(formats)}; at most {MAX_PIXELS:,} pixels.",
        ) from error


def _flatten(image: Image.Image, mode: str) -> Image.Image:
    """The image on white paper, in this mode."""
    from PIL import Image

    if image.mode.startswith("I"):  # 16-bit grey
        image = Image.fromarray((np.asarray(image).clip(0, 0xFFFF) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)


def mnist_like(image: str | os.PathLike[str] | Image.Image | NDArray[Any]) -> tuple[NDArray[np.float32], str]:
    """Any picture of a digit, prepared as MNIST's were: (array (1, 28, 28), what was done to it).

    White ink on black, cut out, its larger side scaled to 20 pixels, its centre of mass put in the middle of 28x28
    (LeCun et al., "Gradient-based learning applied to document recognition", 1998). The background is the median of
    the border; what differs from it hardly more than the border itself varies is background too. The note gives
    sizes as height x width: "inverted, cropped to 312x240, scaled to 20x15, centred by mass".

    Parameters
    ----------
    image
        a file, a Pillow image, or an array: (height, width), (channels, height, width) or (height, width, channels)
        with 1, 3 or 4 channels; whole numbers, or real ones in 0..1 or 0..255. One that is 28x28 and light on a
        dark background already is taken as it is.

    Raises
    ------
    DataError
        X207: it can't be read as an image. X208: it is blank.
    """
    done: list[str] = []
    grey = _reduce(_grey(image), done)
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    background, low, high = (float(n) for n in (np.median(border), grey.min(), grey.max()))
    if high - low < BLANK:
        raise DataError("X208", "the image is blank.", hint="transparent parts count as white.")
    if grey.shape == (SIDE, SIDE) and background < 0.1 and high > 0.5:
        return grey[None], "as it is"
    ink = grey - background
    if background > (low + high) / 2:
        ink = -ink
        done.append("inverted")
    contrast = float(ink.max())
    noise = float(np.quantile(np.abs(border - background), 0.9)) / contrast
    ink /= contrast
    ink[ink < min(0.5, max(0.1, 4 * noise))] = 0
    ink = _crop(ink, done)
    ink = _scale(ink, done)
    return _centre(ink, done)[None], ", ".join(done)


def _grey(image: Any) -> NDArray[np.float32]:
    """The brightness (height, width) in 0..1, on white where the image is transparent."""
    from PIL import Image

    if isinstance(image, str | os.PathLike):
        image = _open(Path(image), "L", FORMATS, None)
    if isinstance(image, Image.Image):
        image = _flatten(image, "L")
    x = np.asarray(image)
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
    top = {"bool": 1, "uint8": 255, "uint16": 65535}.get(str(x.dtype)) or (1 if x.max() <= 1 else 255)
    if not (x.min() >= 0 and x.max() <= top):  # neither holds for NaN
        raise DataError("X207", "the image's values are not all in 0..1, or in 0..255.")
    x = np.divide(x, np.float32(top), dtype=np.float32)
    grey = np.tensordot(np.asarray(GREY, np.float32), x[:3], 1) if x.shape[0] > 1 else x[0]
    return np.asarray(grey * x[3] + (1 - x[3]) if x.shape[0] == 4 else grey, np.float32)


def _reduce(grey: NDArray[np.float32], done: list[str]) -> NDArray[np.float32]:
    from PIL import Image

    factor = max(grey.shape) // LARGE
    if factor < 2:
        return grey
    done.append(f"reduced {factor} times")
    return np.asarray(Image.fromarray(np.ascontiguousarray(grey)).reduce(factor))


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
