"""`xcnn predict --show`: each picture beside what the net sees of it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from xcnn.core.files import check_path, write_whole
from xcnn.data.images import FORMATS, MAX_PIXELS, check_image_options, open_image
from xcnn.errors import OptionError, printable

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIDE, GAP, MOST = 224, 8, 64
"""Pixels of a picture's side and between pictures; pictures that are drawn at most."""


class Sight(NamedTuple):
    """A picture's file, (channels, height, width) that the net gets of it, and what it says."""

    path: Path
    x: NDArray[Any]
    said: str


def draw(sights: Sequence[Sight], path: Path, limits: dict[str, Any]) -> None:
    """Write a PNG with a row for each picture: the picture, what the net sees, and its answer.

    Raises
    ------
    OptionError
        X104, for a path that is no PNG's.
    """
    from PIL import Image, ImageDraw

    if path.suffix.lower() != ".png":
        raise OptionError("X104", f"--show writes a PNG file; got {path.name}.", hint="--show seen.png")
    check_path(path)
    shown = sights[:MOST]
    sheet = Image.new("RGB", (2 * SIDE + 3 * GAP, len(shown) * (SIDE + 3 * GAP)), "white")
    pen = ImageDraw.Draw(sheet)
    formats = check_image_options(None, "RGB", limits.get("formats", FORMATS))
    for row, sight in enumerate(shown):
        top = row * (SIDE + 3 * GAP) + 2 * GAP
        size = (2 * SIDE, 2 * SIDE)
        photo = open_image(sight.path, "RGB", formats, None, limits.get("max_pixels", MAX_PIXELS))
        photo = photo.point(lambda light: 255 * light).convert("RGB") if photo.mode == "F" else photo
        photo.thumbnail((SIDE, SIDE)) if max(photo.size) > SIDE else None
        sheet.paste(photo, (GAP, top))
        cells = np.rint(np.clip(sight.x, 0, 1) * 255).astype(np.uint8)
        seen = Image.fromarray(cells[0] if len(cells) == 1 else cells.transpose(1, 2, 0)).convert("RGB")
        seen.thumbnail(size)
        sheet.paste(seen.resize((SIDE, SIDE), Image.Resampling.NEAREST), (SIDE + 2 * GAP, top))
        pen.text((GAP, top - 14), ascii(printable(f"{sight.path.name}: {sight.said}"))[1:-1], fill="black")
    file = io.BytesIO()
    sheet.save(file, "PNG")
    write_whole(path, file.getvalue())
