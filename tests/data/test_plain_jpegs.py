"""JPEGs whose header is read here are Pillow's own reader's, bit for bit, and so is what is said of damaged ones."""

import io

import numpy as np
import pytest
from PIL import Image

from xcnn.data import images
from xcnn.data.images import FORMATS, open_image
from xcnn.errors import DataError

TURN = 0x0112


def drawn(rng):
    """The bytes of a JPEG of any size, quality, colours, subsampling, order of scans and turn."""
    height, width = rng.integers(1, 150, 2)
    grey = rng.random() < 0.3
    coarse = rng.integers(0, 256, (height // 16 + 1, width // 16 + 1, 3), dtype=np.uint8)
    pixels = np.kron(coarse, np.ones((16, 16, 1), np.uint8))[:height, :width]
    exif = Image.Exif()
    if turn := int(rng.integers(0, 9)):
        exif[TURN] = turn
    options = {"exif": exif} if turn else {}
    if not grey:
        options["subsampling"] = int(rng.integers(0, 3))
    if rng.random() < 0.3:
        options["comment"] = b"a comment"
    if rng.random() < 0.2:
        options["icc_profile"] = bytes(200)
    saved = io.BytesIO()
    Image.fromarray(pixels).convert("L" if grey else "RGB").save(
        saved, "JPEG", quality=int(rng.integers(20, 96)), progressive=bool(rng.random() < 0.3), **options
    )
    return saved.getvalue()


def outcome(content, mode, size):
    """The pixels, or what is said."""
    try:
        return np.asarray(open_image("it.jpg", mode, FORMATS, size, content=content)).tolist()
    except DataError as error:
        return str(error)


@pytest.mark.parametrize("damaged", [False, True])
def test_pictures_are_those_of_pillows_reader(damaged, rng, monkeypatch):
    taken = 0
    known = images.plain
    for _ in range(150):
        content, mode = drawn(rng), str(rng.choice(["RGB", "L"]))
        size = None if rng.random() < 0.2 else tuple(map(int, rng.integers(1, 80, 2)))
        if damaged:
            at = int(rng.integers(2, len(content)))
            cut = content[:at] if rng.random() < 0.5 else content[:at] + rng.bytes(3) + content[at + 3 :]
            content = cut
        taken += known(content) is not None
        mine = outcome(content, mode, size)
        monkeypatch.setattr(images, "plain", lambda content: None)
        assert mine == outcome(content, mode, size)
        monkeypatch.setattr(images, "plain", known)
    assert taken > (60 if damaged else 130)
