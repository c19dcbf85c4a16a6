"""Image files as arrays. Pillow opens only the formats that are named here, and only up to a number of pixels."""

from __future__ import annotations

import io
import os
import stat
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xcnn.core.checks import check_whole
from xcnn.core.files import path_of
from xcnn.data.jpeg import DRAFT, MAX_PIECES, check_scans, jpeg_file, plain
from xcnn.data.pixels import STRIP, Meaning, meaning, on_white, orientation, turn_of, upright
from xcnn.errors import DataError, OptionError, short

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image, ImageFile

    from xcnn.data.jpeg import Plain

FORMATS = ("PNG", "JPEG", "BMP", "GIF")
DIGITS = ("mnist01", "mnist")
"""The sets whose pictures `xcnn.data.digits.mnist_like` prepares."""
FITS = ("stretch", "crop")
"""How a picture is brought to a size of another shape."""
MAX_PIXELS = 1 << 26
PIXELS_PER_BYTE = 8 * 1032
"""The most that a format above can pack into a byte: PNG's 1-bit pixels, deflated."""

BYTES_PER_PIXEL, SPARE_BYTES = 4, 1 << 24
AT_ONCE = 1 << 24
"""Bytes of a file that is read before it is looked at."""

SMALL = 256
"""A picture of a share so small of the room is not counted: threads are fewer."""

BYTES: Meaning = Meaning()
"""What the samples of a picture mean that has nothing but its bytes."""

REDUCING_GAP = 8
"""A large picture is averaged to no less than so many times the size that is asked for before it is resampled."""


def read_image(
    path: str | os.PathLike[str],
    size: tuple[int, int] | None = (28, 28),
    mode: str = "L",
    formats: Sequence[str] = FORMATS,
    max_pixels: int = MAX_PIXELS,
    fit: str = "stretch",
) -> NDArray[np.float32]:
    """An image file as an array (channels, height, width), float32 in 0..1.

    Turned as its EXIF data say, set on white where it is transparent, and brought to `size`. Of an animation, the
    first picture. 16 bits of grey are kept; real numbers must be in 0..1; colour profiles are not applied.

    Parameters
    ----------
    path
        "~" stands for the user's folder.
    size
        (height, width); None keeps the image's own.
    mode
        "L" for grey, one channel, or "RGB", three.
    formats
        the names of the formats that Pillow may open, such as ("PNG", "TIFF", "WEBP").
    max_pixels
        how many pixels a file may hold before it is decoded; it bounds the file's bytes (4 a pixel and 16 MiB) and a
        JPEG's scans (16 of so many pixels) too. Decoding takes about 4 bytes a pixel, a progressive JPEG up to 10.
    fit
        "stretch" brings the whole picture to `size`, whatever its shape; "crop" the largest part in its middle that has
        the shape of `size`.

    Raises
    ------
    OptionError
        X104: an option that is none, as a format that Pillow does not know.
    DataError
        X207: it is not an image in one of these formats, is damaged, is above the limit, or does not say what its
        samples mean, such as signed ones.
    """
    formats = check_image_options(size, mode, formats, max_pixels)
    check_fit(fit)
    return to_array(open_image(path_of(path), mode, formats, size, max_pixels, fit=fit), mode)


def check_fit(fit: object) -> str:
    """The option; raise X104 for another."""
    if not isinstance(fit, str) or fit not in FITS:
        raise OptionError("X104", f'fit must be "stretch" or "crop"; got {short(fit)}.')
    return fit


def check_image_options(
    size: tuple[int, int] | None, mode: str, formats: Sequence[str] = FORMATS, max_pixels: int = MAX_PIXELS
) -> tuple[str, ...]:
    """The names of the formats as Pillow has them; raise X104 unless these are options that `read_image` takes."""
    if not isinstance(mode, str) or mode not in ("L", "RGB"):
        raise OptionError("X104", f'mode must be "L" (grey) or "RGB"; got {short(mode)}.')
    if size is not None:
        if not isinstance(size, tuple | list) or len(size) != 2:
            raise OptionError("X104", f"size must be (height, width) or None; got {short(size)}.")
        for name, side in zip(("height", "width"), size, strict=True):
            check_whole(name, side)
    check_whole("max_pixels", max_pixels)
    if formats is FORMATS or (isinstance(formats, tuple | list) and tuple(formats) == FORMATS):
        return FORMATS
    if isinstance(formats, str) or not isinstance(formats, Sequence) or not formats:
        raise OptionError(
            "X104",
            f"formats must be several names; got {short(formats)}.",
            hint=f'formats=["{formats.upper()}"]' if isinstance(formats, str) and formats else 'as formats=["PNG"]',
        )
    return tuple(_check_format(name) for name in formats)


def _check_format(name: object) -> str:
    from PIL import Image

    known = str(name).upper()
    Image.preinit()
    if known not in Image.OPEN:
        Image.init()
    if not isinstance(name, str) or known not in Image.OPEN:
        named = Image.registered_extensions().get(f".{known.lower().lstrip('.')}")
        raise OptionError(
            "X104",
            f"formats has {short(name)}, which is no format that Pillow can open here.",
            hint=f"{named} is its name." if named in Image.OPEN else "as PNG, JPEG, BMP, GIF, TIFF, WEBP or PPM.",
        )
    return known


def to_array(image: Image.Image, mode: str, y: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """A Pillow image of mode L or RGB, or of mode F in 0..1, as an array (channels, height, width), float32 in 0..1.

    It is written into y, where that is given.
    """
    if y is None:
        y = np.empty((len(mode), image.height, image.width), np.float32)  # "L" is one channel, "RGB" are three
    if image.mode == "F":
        y[...] = np.asarray(image)
        return y
    samples = image.tobytes("raw", "RGB;L" if image.mode == "RGB" else "L")  # the bands of a row one behind the other
    y[...] = np.frombuffer(samples, np.uint8).reshape(image.height, -1, image.width).transpose(1, 0, 2)
    y /= np.float32(255)  # converted first: in one pass with the division NumPy takes five times as long
    return y


class Room:
    """Pixels that several threads may decode at once: one that wants more than are left waits for the others."""

    pixels: int
    left: int
    changed: threading.Condition

    def __init__(self, pixels: int = MAX_PIXELS) -> None:
        self.pixels = self.left = pixels
        self.changed = threading.Condition()

    def __reduce__(self) -> tuple[type[Room], tuple[int]]:
        """A copy, as another process gets it, has room of its own."""
        return Room, (self.pixels,)

    def taken(self, pixels: int) -> AbstractContextManager[None]:
        """A block that decodes so many; of a picture that is larger than all, alone."""
        return nullcontext() if pixels * SMALL <= self.pixels else self._counted(pixels)

    @contextmanager
    def _counted(self, pixels: int) -> Iterator[None]:
        pixels = min(pixels, self.pixels)
        with self.changed:
            self.changed.wait_for(lambda: self.left >= pixels)
            self.left -= pixels
        try:
            yield
        finally:
            with self.changed:
                self.left += pixels
                self.changed.notify_all()


class _Counted:
    """What is read in a bounded number of pieces."""

    left: int = MAX_PIECES

    def read(self, size: int | None = -1) -> bytes:
        self.left -= 1
        if self.left < 0:
            raise ValueError(f"it is cut into more than {MAX_PIECES:,} pieces")
        found: bytes = super().read(size)  # type: ignore[misc]
        return found


class _Pieces(_Counted, io.BufferedReader):
    """A file, read so."""


class _Bytes(_Counted, io.BytesIO):
    """The bytes of a file, read so: they are not copied."""


def open_image(
    path: str | os.PathLike[str],
    mode: str,
    formats: Sequence[str],
    size: tuple[int, int] | None,
    max_pixels: int = MAX_PIXELS,
    room: Room | None = None,
    content: bytes | None = None,
    fit: str = "stretch",
) -> Image.Image:
    """An image file as a Pillow image of mode L or RGB, or of mode F in 0..1; with `room`, decoded when there is some.

    With `content` these are the file's bytes, and the path is what errors call it.

    Raises
    ------
    DataError
        X207
    """
    try:
        with _file(path) if content is None else _in_memory(content) as file:
            count = os.fstat(file.fileno()).st_size if isinstance(file, _Pieces) else len(file.getvalue())
            return _decoded(file, count, mode, formats, size, max_pixels, room, fit)
    except _NoFileError as error:
        raise DataError("X207", f"{path} is {error}.") from None
    except Exception as error:  # Pillow's decoders raise many kinds on damaged files
        reason = str(error).rstrip(".") or type(error).__name__
        raise DataError(
            "X207",
            f"{path} can't be read as an image: {reason}.",
            hint=f"the formats are {', '.join(formats)}; at most {max_pixels:,} pixels.",
        ) from error


class _NoFileError(Exception):
    """There is none, or something else."""


FLAGS: int = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
"""A named pipe is opened without waiting for who writes to it, and found to be no file."""


def _file(path: str | os.PathLike[str]) -> _Pieces | io.BytesIO:
    """A file, whose bytes are read at once unless they are many."""
    try:
        raw = os.open(path, FLAGS)  # fewer calls of the system than io.FileIO makes
    except OSError:
        if not os.path.isfile(path):
            raise _NoFileError("not a file" if os.path.exists(path) else "not there") from None
        raise
    kept = False
    try:
        found = os.fstat(raw)
        if not stat.S_ISREG(found.st_mode):
            raise _NoFileError("not a file")
        if kept := found.st_size > AT_ONCE:
            return _Pieces(io.FileIO(raw))
        return _in_memory(os.read(raw, found.st_size))
    finally:
        if not kept:
            os.close(raw)


def _in_memory(content: bytes) -> io.BytesIO:
    """The bytes of a file: a JPEG too short to be cut into too many pieces need not be counted."""
    few = len(content) <= MAX_PIECES // 2 and content.startswith(b"\xff\xd8")
    return io.BytesIO(content) if few else _Bytes(content)


def _decoded(
    file: _Pieces | io.BytesIO,
    count: int,
    mode: str,
    formats: Sequence[str],
    size: tuple[int, int] | None,
    max_pixels: int,
    room: Room | None,
    fit: str,
) -> Image.Image:
    """The picture in a file of so many bytes."""
    if count > BYTES_PER_PIXEL * max_pixels + SPARE_BYTES:
        raise ValueError(f"it has {count:,} bytes, too many for so few pixels")
    content = _short_jpeg(file, formats)
    if (header := plain(content)) is not None:
        pixels = _check_pixels(header.width, header.height, min(max_pixels, PIXELS_PER_BYTE * count))
        check_scans(file, count, pixels, max_pixels)
        if (made := _made_of(header, content, mode, size, room, fit)) is not None:
            return made
    image: Image.Image = _recognise(file, formats)
    limit = min(max_pixels, PIXELS_PER_BYTE * count) if image.format in FORMATS else max_pixels
    pixels = _check_pixels(image.width, image.height, limit)
    meant = meaning(image)
    if image.format == "JPEG":
        check_scans(file, count, pixels, max_pixels)
        if size:
            image.draft(None, (DRAFT * max(size) // 2,) * 2)  # decoded smaller
    tile = getattr(image, "tile", None)
    covered = tile[0][1] if image.format == "GIF" and tile else None
    with room.taken(image.width * image.height) if room else nullcontext():
        image.load()
        turn = orientation(image)
        whole = image if covered in (None, (0, 0, *image.size)) else _on_canvas(image, covered)
        return upright(_fitted(whole, mode, meant, size[::-1] if size and turn > 4 else size, fit), turn)


def _check_pixels(width: int, height: int, limit: int) -> int:
    """How many pixels a picture has; raise where they are more than are allowed."""
    if width * height > limit:
        raise ValueError(f"it promises {width}x{height} pixels, more than {limit:,}")
    return width * height


def _short_jpeg(file: _Pieces | io.BytesIO, formats: Sequence[str]) -> bytes:
    """The bytes of a short JPEG, whose header takes Pillow's reader longer than need be; b"" for other files."""
    first = formats == FORMATS or formats[0] == "JPEG"  # no other format has its bytes
    return file.getvalue() if first and type(file) is io.BytesIO else b""


def _made_of(
    header: Plain, content: bytes, mode: str, size: tuple[int, int] | None, room: Room | None, fit: str
) -> Image.Image | None:
    """The picture in a plain JPEG; None where it is damaged, of which Pillow's own reader tells more."""
    part = header.part(size)
    with room.taken(prod(header.reduced(part))) if room else nullcontext():
        image = header.decoded(content, part)
        if image is None:
            return None
        turn = turn_of(header.exif) or 1
        return upright(_fitted(image, mode, BYTES, size[::-1] if size and turn > 4 else size, fit), turn)


def size_of(path: Path, formats: Sequence[str]) -> tuple[int, int, str] | None:
    """The height, width and mode that an image's header tells, as it is to be seen; None where none can be read."""
    if not path.is_file():  # to open a named pipe would wait for who writes to it
        return None
    try:
        with _Pieces(io.FileIO(path)) as file:
            image = _recognise(file, formats)
            turned = image.format == "JPEG" and orientation(image) > 4
            height, width = (image.width, image.height) if turned else (image.height, image.width)
            return height, width, image.mode
    except Exception:
        return None


def _recognise(file: _Pieces | io.BytesIO, formats: Sequence[str]) -> ImageFile.ImageFile:
    """The image, not decoded yet. As Pillow's own open does it, but for the limit on pixels, which there is global."""
    from PIL import Image

    Image.preinit()
    start, reasons = file.read(16), []
    for name in formats:
        factory, accepts = Image.OPEN[name]
        accepted = accepts is None or accepts(start)
        if not accepted or isinstance(accepted, str):
            continue
        file.seek(0)
        try:
            return (jpeg_file() if name == "JPEG" else factory)(file, "")
        except (SyntaxError, IndexError, TypeError, struct.error) as error:
            reasons.append(f"as {name}, {error}")
    raise ValueError("; ".join(reasons) or "it has none of the formats that are allowed")


def _on_canvas(image: Image.Image, covered: tuple[int, int, int, int]) -> Image.Image:
    """A GIF whose first picture covers a part of its canvas; the rest is clear, as browsers show it."""
    from PIL import Image

    canvas = Image.new("RGBA", image.size, (255, 255, 255, 0))
    canvas.paste(image.crop(covered).convert("RGBA"), covered[:2])
    return canvas


def _fitted(image: Image.Image, mode: str, meant: Meaning, size: tuple[int, int] | None, fit: str) -> Image.Image:
    """The decoded image on white paper, brought to (height, width)."""
    from PIL import Image

    if size is None:
        return on_white(image, mode, meant)
    width, height, large = image.width, image.height, image.width * image.height > STRIP
    across, down = (max(1, n // (REDUCING_GAP * m)) if large else 1 for n, m in ((width, size[1]), (height, size[0])))
    y = on_white(image, mode, meant, (across, down))
    left, top, right, bottom = middle(width, height, size) if fit == "crop" else (0.0, 0.0, width, height)
    box = left / across, top / down, right / across, bottom / down
    return y.resize((size[1], size[0]), Image.Resampling.BILINEAR, box)


def middle(width: int, height: int, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the largest part of a picture, in its middle, that has the shape of a size."""
    if width * size[0] > height * size[1]:  # all of one side, and of the other no more than there is, however rounded
        wide, high = size[1] * height / size[0], float(height)
    else:
        wide, high = float(width), size[0] * width / size[1]
    left, top = (width - wide) / 2, (height - high) / 2
    return left, top, width - left, height - top
