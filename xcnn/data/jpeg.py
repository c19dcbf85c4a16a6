"""What the segments of a JPEG tell without decoding it: size, colours, a turn, and how many scans go over it."""

from __future__ import annotations

import io
import re
import struct
from functools import cache
from typing import IO, TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from PIL import Image

MAX_PIECES = 1 << 18
"""Pieces that a file may be read in: PNG's chunks, JPEG's segments, BMP's runs. Each costs microseconds."""

MAX_SCANS = 16
"""Scans of a JPEG that has as many pixels as are allowed; a smaller one may have more of them. Usual are 1 to 12."""

DRAFT = 3
"""A JPEG is decoded at a half, a quarter or an eighth of its size, to no less than so many halves of the larger side
that is asked for."""

MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
SOI, EOI, SOS, TEM = 0xD8, 0xD9, 0xDA, 0x01
SCAN = 10
"""Bytes that a scan takes at least: its marker, its length, and what it says of one component."""

SEGMENT = struct.Struct(">HH")
"""A marker and its segment's length, which counts itself."""
FRAME = struct.Struct(">BHHB")
"""Bits of a sample, height, width, components."""
APP1, DQT, SCANS = 0xFFE1, 0xFFDB, 0xFFDA
FRAMES = (0xFFC0, 0xFFC1, 0xFFC2)
PASSED_BY = frozenset((0xFFC4, 0xFFDD, 0xFFFE))
"""Huffman tables, restart intervals and comments."""
UNREAD = {0xFFE0: 9, 0xFFE2: 16, 0xFFEE: 9}
"""Lengths from which on Pillow finds nothing amiss in JFIF's, ICC's and Adobe's segments."""
TABLE = 65
"""Bytes of a quantization table of 8 bits with its number."""
MODES = {1: "L", 3: "RGB"}


class Plain(NamedTuple):
    """What the header of a plain JPEG tells: one of usual segments alone, of 8 bits, grey or in colour.

    Parameters
    ----------
    width, height, mode
        of the picture as it is stored
    exif
        its EXIF data, b"" where there are none
    """

    width: int
    height: int
    mode: str
    exif: bytes

    def reduced(self, part: int) -> tuple[int, int]:
        """Width and height, divided."""
        return -(-self.width // part), -(-self.height // part)

    def decoded(self, content: bytes, part: int) -> Image.Image | None:
        """The picture with its sides divided, by 1, 2, 4 or 8; None where it is damaged."""
        from PIL import Image

        reduced = self.reduced(part)
        try:
            return Image.frombytes(self.mode, reduced, content, "jpeg", self.mode, "", part, 0)
        except (ValueError, OSError, TypeError):  # the last where a decoder takes other arguments
            return None

    def part(self, size: tuple[int, int] | None) -> int:
        """8, 4, 2 or 1: what the picture's sides are divided by when it is decoded."""
        if not size:
            return 1
        side = DRAFT * max(size) // 2
        most = min(self.width // side, self.height // side)
        return 8 if most >= 8 else 4 if most >= 4 else 2 if most >= 2 else 1


def plain(content: bytes) -> Plain | None:
    """What a file's header tells, where it is a plain JPEG; None for all that only Pillow's own reader should judge."""
    at, last, frame, exif = 2, len(content) - SEGMENT.size, None, b""
    while at <= last:
        marker, count = SEGMENT.unpack_from(content, at)
        first, at = at + SEGMENT.size, at + 2 + count
        if marker == SCANS and frame and count >= 2 and at <= len(content):
            return Plain(*frame, exif)
        if marker in PASSED_BY and count >= 2:
            continue
        if marker == DQT and (count - 2) % TABLE == 0 and count > 2:
            if any(number > 15 for number in content[first:at:TABLE]):
                return None  # of 16 bits
        elif marker in FRAMES and not frame:
            if (frame := _frame(content[first:at])) is None:
                return None
        elif marker == APP1 and not exif and content.startswith(b"Exif\0\0", first) and count >= 8:
            exif = content[first:at]
        elif count < UNREAD.get(marker, 1 << 16):
            return None
    return None


def _frame(segment: bytes) -> tuple[int, int, str] | None:
    """Width, height and mode."""
    if len(segment) < FRAME.size:
        return None
    bits, height, width, components = FRAME.unpack_from(segment)
    if bits != 8 or components not in MODES or len(segment) != FRAME.size + 3 * components or not width * height:
        return None
    return width, height, MODES[components]


@cache
def jpeg_file() -> Any:
    """Pillow's JPEG, but for looking into EXIF data for the resolution, which warns where they are damaged."""
    from PIL import Image, JpegImagePlugin

    class JpegFile(JpegImagePlugin.JpegImageFile):
        def getexif(self) -> Image.Exif:
            return Image.Exif()

    return JpegFile


def check_scans(file: IO[bytes], count: int, pixels: int, max_pixels: int) -> None:
    """Raise for a JPEG of `count` bytes whose scans, each of which goes over all pixels, are too many."""
    at_a_scan = max(pixels, 1 << 16)
    if count // SCAN * at_a_scan <= MAX_SCANS * max_pixels and count // 2 <= MAX_PIECES:
        return  # it is too short for so many
    if isinstance(file, io.BytesIO):
        content = file.getvalue()  # the bytes that it was given
    else:
        before = file.tell()
        file.seek(0)
        content = file.read()
        file.seek(before)
    at = scans = markers = 0
    while (found := MARKER.search(content, at)) and found[1][0] != EOI:
        at, markers = found.end(), markers + 1
        if found[1][0] not in (SOI, TEM):
            at += max(2, int.from_bytes(content[at : at + 2]))
        scans += found[1][0] == SOS
        if scans * at_a_scan > MAX_SCANS * max_pixels or markers > MAX_PIECES:
            raise ValueError(f"it goes over its {pixels:,} pixels in {scans} scans or more")
