"""What the samples of a picture mean: every mode and depth of Pillow's as light in 0..1, on white paper.

Colour profiles (ICC, gamma) are not applied: numbers are taken as sRGB, as the readers of PyTorch and TensorFlow do.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

PLAIN = ("1", "L", "P", "PA", "LA", "La", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV")
"""The modes whose samples are bytes, and which Pillow itself turns into RGB."""

STRIP = 1 << 20
"""Pixels that are converted at a time, so that a large picture does not stand in memory in several modes at once."""

SIXTEEN_BITS = ("PNG", "PPM", "JPEG2000")
"""The formats of whose deep samples Pillow makes 0..65535."""

BITS, PHOTOMETRIC, ORIENTATION, SAMPLE_FORMAT = 258, 262, 274, 339
"""Tags of TIFF, of which EXIF data are made too."""

SIGNED, LONG = 2, 4
"""A sample's format, and the type of a tag's value."""

TURNS = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM",
         5: "TRANSPOSE", 6: "ROTATE_270", 7: "TRANSVERSE", 8: "ROTATE_90"}  # fmt: skip


@dataclass(frozen=True)
class Meaning:
    """What samples stand for: `white` and `black` of deep ones (None where nothing says so), and the clear colour."""

    white: int | None = None
    black: int = 0
    clear: int | tuple[int, ...] | None = None


def is_deep(image: Image.Image) -> bool:
    """Whether its samples are no bytes: 16 or 32 bits, or real numbers."""
    return image.mode[0] in "IF"


def meaning(image: Image.Image) -> Meaning:
    """What the samples of a picture stand for, asked before it is decoded.

    Raises
    ------
    ValueError
        where the file does not say it, or Pillow's decoders lose it.
    """
    clear = image.info.get("transparency")
    if isinstance(clear, bytes) or image.mode in ("P", "PA"):
        clear = None  # it stands in the palette
    depth = _depth(image)
    if depth == 16 and image.mode == "RGB" and clear is not None:
        raise ValueError("a transparent colour of 16 bits can't be told from its neighbours; save it with 8 bits")
    if image.mode == "L" and depth in (2, 4) and isinstance(clear, int):
        clear = clear * 255 // (2**depth - 1)
    tags: Any = getattr(image, "tag_v2", {}) if image.format == "TIFF" else {}
    if SIGNED in tags.get(SAMPLE_FORMAT, ()):
        raise ValueError("its samples are signed, so nothing says what is black; save it as unsigned ones")
    if not is_deep(image):
        return Meaning(clear=clear)
    white = None
    if image.mode == "F":
        white = 1
    elif image.format == "TIFF":
        white = 2 ** tags.get(BITS, (1,))[0] - 1
    elif image.format in SIXTEEN_BITS or (image.format is None and image.mode != "I"):
        white = 0xFFFF
    if white is None:
        raise ValueError(f"nothing says what is white in {image.format or 'a picture'} of mode {image.mode}")
    return Meaning(0, white, clear) if tags.get(PHOTOMETRIC) == 0 else Meaning(white, 0, clear)


def _depth(image: Image.Image) -> int | None:
    """The bits of a PNG's samples, while it is not decoded."""
    tiles = getattr(image, "tile", ()) if image.format == "PNG" else ()
    found = re.fullmatch(r"\w+;(\d+)B?", str(tiles[0][3])) if tiles else None
    return int(found[1]) if found else None


def on_white(image: Image.Image, mode: str, meant: Meaning, factors: tuple[int, int] = (1, 1)) -> Image.Image:
    """The decoded picture on white paper, in mode L or RGB; a deep one in mode F, 0..1.

    With factors (of width, height) each block of so many pixels becomes its mean.
    """
    from PIL import Image

    if image.width * image.height <= STRIP:
        flat = _on_white(image, mode, meant)
        return flat.reduce(factors) if max(factors) > 1 else flat
    across, down = factors
    y = Image.new("F" if is_deep(image) else mode, (-(-image.width // across), -(-image.height // down)))
    rows = down * max(1, STRIP // (image.width * down))
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        strip = _on_white(strip, mode, meant)
        y.paste(strip.reduce(factors) if max(factors) > 1 else strip, (0, top // down))
    return y


def _on_white(image: Image.Image, mode: str, meant: Meaning) -> Image.Image:
    from PIL import Image

    if is_deep(image):
        return Image.fromarray(_light(np.asarray(image), meant))
    if image.mode not in PLAIN:
        raise ValueError(f"its mode is {image.mode}; save it in RGB or grey")
    if meant.clear is not None and image.mode in ("1", "L", "RGB"):
        pixels = np.array(image.convert("L") if image.mode == "1" else image)
        is_clear = pixels == np.asarray(meant.clear)
        pixels[is_clear.all(axis=2) if pixels.ndim == 3 else is_clear] = 255
        return Image.fromarray(pixels).convert(mode)
    if image.mode == "La":
        image = image.convert("LA")
    if image.has_transparency_data and image.mode not in ("1", "L", "RGB"):
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode not in ("L", mode):
        image = image.convert("RGB")
    return image if image.mode == mode else image.convert(mode)


def _light(samples: NDArray[Any], meant: Meaning) -> NDArray[np.float32]:
    """Deep samples as light in 0..1."""
    low, high = sorted((meant.black, meant.white or 0))
    if high > 0x7FFFFFFF:
        samples = samples.view(np.uint32)  # Pillow's are signed
    if not (samples.min() >= low and samples.max() <= high):  # neither holds for NaN
        raise ValueError(f"its values are not all in {low}..{high}, black to white; scale them before")
    y = np.divide(samples, high, dtype=np.float64)
    if meant.black:
        y = 1 - y
    if meant.clear is not None:
        y[samples == meant.clear] = 1
    return np.asarray(y, np.float32)


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """The picture turned or mirrored as EXIF's orientation, 1 to 8, asks for."""
    from PIL import Image

    turn = TURNS.get(orientation)
    return image.transpose(Image.Transpose[turn]) if turn else image


def orientation(image: Image.Image) -> int:
    """The orientation that a decoded picture's EXIF or XMP data ask for, 1 where they are damaged or say nothing.

    Read here, because Pillow warns of damaged data, and warnings can't be held back in one thread alone.
    """
    if image.format == "TIFF":
        return 1  # turned when it was decoded
    exif = image.info.get("exif") or b""
    profile = image.info.get("Raw profile type exif")  # as ImageMagick writes it: "\nexif\n  count\n" and digits
    if not exif and isinstance(profile, str):
        digits = "".join(profile.split("\n")[3:])
        exif = bytes.fromhex(digits) if re.fullmatch(r"([0-9a-f]{2})*", digits) else b""
    if turn := turn_of(exif if isinstance(exif, bytes) else b""):
        return turn
    for key in ("XML:com.adobe.xmp", "xmp"):
        xmp = image.info.get(key) or b""
        found = re.search(rb'tiff:Orientation(?:="|>)([1-8])', xmp.encode() if isinstance(xmp, str) else xmp)
        if found:
            return int(found[1])
    return 1


def turn_of(exif: bytes) -> int:
    """The first orientation that EXIF data hold, 0 where they hold none."""
    return next(_oriented(exif), 0)


def _oriented(exif: bytes) -> Iterator[int]:
    """The orientations in the first directory: byte order, 42, offset; a count; (tag, type, count, value) each."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None or len(exif) < 8:
        return
    (start,) = struct.unpack_from(order + "I", exif, 4)
    entries = exif[start + 2 :]
    count = int.from_bytes(exif[start : start + 2], "little" if order == "<" else "big")
    whole = min(count, len(entries) // 12)
    for tag, kind, _, *value in struct.iter_unpack(order + "HHIHH", entries[: 12 * whole]):
        turn = value[kind == LONG and order == ">"]
        if tag == ORIENTATION and turn in range(1, 9):
            yield turn
