"""A folder of pictures, one folder a class, read as they are needed."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from xcnn.core.checks import check_between, check_choice, check_whole
from xcnn.core.files import path_of
from xcnn.data.folder import classes_of, is_parted, parts_of
from xcnn.data.images import FORMATS, MAX_PIXELS, Room, check_fit, check_image_options, open_image, size_of, to_array
from xcnn.data.source import Batch, Numbered, Numbers, digest
from xcnn.data.strays import Strays
from xcnn.errors import DataError, counted, printable

log: logging.Logger = logging.getLogger("xcnn")

LEAST, MOST = 28, 64
"""Sides of the images that are made of pictures where nobody says how large."""
LOOKED_AT = 200
"""Files of which the size and colour are looked at, evenly spaced."""
ALIKE = 1.2
"""How much the shapes of pictures, width by height, may differ that are stretched all alike."""
GREYS = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "F")


def folder(
    path: str | os.PathLike[str],
    size: tuple[int, int] | None = None,
    mode: str | None = None,
    *,
    part: str | None = None,
    bad: str = "raise",
    formats: Sequence[str] = FORMATS,
    test_fraction: float = 0.2,
    seed: int = 0,
    max_pixels: int = MAX_PIXELS,
    fit: str | None = "stretch",
) -> Folder:
    """The images in path/<class>, read as they are needed: a source for `fit`, `evaluate` and `predict`.

    What is a class, and which images are those of the part "test", is as in `xcnn.data.image_folder`, and each image is
    made as it makes it: turned as its EXIF data say, on white where it is transparent, from any mode and depth. The
    files' names are read at once, the files when a batch wants them.

    Parameters
    ----------
    path
        "~" stands for the user's folder.
    size
        (height, width) of the images; None takes a square, of the median of the pictures' shorter sides, but 28 to 64;
        pictures of both parts are looked at
    mode
        "L" for grey, one channel, "RGB" for colour; None takes grey where all pictures that are looked at are so
    part
        "train" or "test": those in path/train and path/test, or as image_folder's hash tells them apart; None for all
    bad
        what becomes of a file that can't be read: "raise" ends with an error that names it; "skip" leaves it out of its
        batch, with a warning, and counts it in `skipped`
    formats
        the names of the formats that Pillow may open, such as ("PNG", "TIFF", "WEBP")
    max_pixels
        how many pixels a file may hold before it is decoded
    test_fraction, seed
        the share of images to test on, and which they are
    fit
        "stretch" or "crop", as for `xcnn.data.images.read_image`; None crops where the pictures that are looked at
        differ in shape, which stretching would distort in as many ways

    Returns
    -------
    Folder

    Raises
    ------
    OptionError
        X104: an option that is none.
    DataError
        X209, as `image_folder`; X207, when a batch wants a file that can't be read.

    Examples
    --------
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> for kind in ("cats", "dogs"):
    ...     Path("photos", kind).mkdir(parents=True)
    ...     for n in range(3):
    ...         Image.new("RGB", (40, 30)).save(f"photos/{kind}/{n}.png")
    >>> source = xcnn.data.folder("photos")
    >>> source.classes, len(source), source.batch(np.array([0])).x.shape
    (('cats', 'dogs'), 6, (1, 3, 30, 30))
    """
    formats = check_image_options(size, mode or "L", formats, max_pixels)
    check_between("test_fraction", test_fraction, 0, 1)
    check_whole("seed", seed, 0)
    check_choice("part", part, (None, "train", "test"))
    root = path_of(path)
    check_choice("bad", bad, ("raise", "skip"))
    if part is None and is_parted(root):
        hint = 'part="train" or part="test".'
        raise DataError("X209", f"{root} has folders train and test, and nothing says which is meant.", hint=hint)
    strays = Strays(formats)
    parts = (classes_of(root, strays),) if part is None else parts_of(root, test_fraction, seed, strays)
    found = survey([file for classes in parts for files in classes.values() for file in files], formats)
    classes = parts[part == "test"]
    fit = found.fit if fit is None else check_fit(fit)
    reading = Reading(size or found.size, mode or found.mode, formats, max_pixels, bad, fit)
    return Folder(root, classes, reading, replace(found, strays=strays))


@dataclass(frozen=True)
class Reading:
    """How pictures are made images: see `folder`."""

    size: tuple[int, int]
    mode: str
    formats: Sequence[str] = FORMATS
    max_pixels: int = MAX_PIXELS
    bad: str = "raise"
    fit: str = "stretch"

    def images(self, pictures: Iterable[tuple[Any, bytes | None]], count: int, room: Room, skipped: Skipped) -> Any:
        """Pictures, files or bytes with a name, as (samples, channels, height, width), and which of them they are."""
        x, kept = np.empty((count, len(self.mode), *self.size), np.float32), list[int]()
        for place, (path, content) in enumerate(pictures):
            try:
                image = open_image(path, self.mode, self.formats, self.size, self.max_pixels, room, content, self.fit)
            except DataError as error:
                if self.bad == "raise":
                    raise
                skipped.add(str(path), error)
                continue
            to_array(image, self.mode, x[len(kept)])
            kept.append(place)
        return x[: len(kept)], np.array(kept, np.int64)


class Skipped(dict[str, str]):
    """The pictures that were left out, and why: told of once each."""

    def add(self, name: str, error: DataError) -> None:
        """One more, or one of them again."""
        if name not in self:
            self[name] = error.message
            log.warning("left out: %s", printable(error.message))


class Folder(Numbered):
    """Pictures in folders: what `folder` gives.

    Parameters
    ----------
    root
        the folder
    classes
        the files of each class, by its name
    reading
        how they are made images
    found
        what their sizes and colours are

    Raises
    ------
    DataError
        X207, from `batch`, for a file that can't be read
    """

    of_bytes: bool | None = True
    travels: bool = True

    def __init__(self, root: Path, classes: dict[str, list[Path]], reading: Reading, found: Survey) -> None:
        self.root: Path = root
        self.reading: Reading = reading
        self.found: Survey = found
        self.classes: tuple[str, ...] = tuple(classes)
        self.files: list[str] = [os.path.relpath(file, root) for files in classes.values() for file in files]
        self.labels: Any = np.repeat(np.arange(len(classes)), [len(files) for files in classes.values()])
        self.skipped: Skipped = Skipped()
        self.room: Room = Room(reading.max_pixels)

    def __repr__(self) -> str:
        classes = f"{counted(len(self.classes), 'class', 'classes')}: {printable(', '.join(self.classes))}"
        return f"<Folder: {counted(len(self), 'picture')} as {'x'.join(map(str, self.shape))}, {classes}>"

    def __len__(self) -> int:
        return len(self.files)

    @property
    def samples(self) -> int | None:  # type: ignore[override]
        """As many as there are files, unless some may be left out."""
        return None if self.reading.bad == "skip" else len(self)

    @property
    def expected(self) -> int:
        """As many as there are files."""
        return len(self)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of an image: the model's input_shape."""
        return len(self.reading.mode), *self.reading.size

    @property
    def bytes_in_all(self) -> int:
        """What all images take in memory."""
        return 4 * len(self) * prod(self.shape)

    def told(self, number: int) -> str:
        """The file."""
        return os.path.join(self.root, self.files[number])

    def batch(self, numbers: Numbers) -> Batch:
        """These pictures, read and decoded."""
        pictures = ((self.told(number), None) for number in numbers)
        x, kept = self.reading.images(pictures, len(numbers), self.room, self.skipped)
        return Batch(x, self.labels[numbers[kept]], numbers[kept])

    def part(self, numbers: Numbers) -> Folder:
        """Some of the pictures: a folder that knows of no others."""
        made = copy(self)
        made.files, made.labels = [self.files[number] for number in numbers], self.labels[numbers]
        return made

    def fingerprint(self) -> str:
        """A checksum of how they are read, and of the names, classes and sizes of all files."""
        paths = [self.root / file for file in self.files]  # one that is gone by now is told when it is read
        sizes = np.array([path.stat().st_size if path.is_file() else -1 for path in paths], np.int64)
        how = f"{self.reading.size} {self.reading.mode}" + (" crop" if self.reading.fit == "crop" else "")
        return digest(how, "\0".join(self.files), self.labels.astype(np.int64), sizes)


@dataclass(frozen=True)
class Survey:
    """Sizes and colours of pictures, as far as they were looked at.

    Parameters
    ----------
    size, mode
        what images are made of them where nobody says otherwise
    smallest, largest
        (height, width) of those with the fewest and the most pixels
    alike
        whether all have nearly one shape
    strays
        files that are left out, as no pictures in these formats
    """

    size: tuple[int, int]
    mode: str
    smallest: tuple[int, int] = (0, 0)
    largest: tuple[int, int] = (0, 0)
    alike: bool = True
    strays: Strays = field(default_factory=Strays)

    @property
    def fit(self) -> str:
        """How they are brought to one size where nobody says it."""
        return "stretch" if self.alike else "crop"

    def __str__(self) -> str:
        sizes = " to ".join(dict.fromkeys(f"{height}x{width}" for height, width in (self.smallest, self.largest)))
        return f"pictures of {sizes}, {'grey' if self.mode == 'L' else 'in colour'}"


def survey(files: Sequence[Path], formats: Sequence[str]) -> Survey:
    """Look at the headers of some files, evenly spaced from first to last; those that have none are passed by."""
    chosen = np.unique(np.linspace(0, len(files) - 1, LOOKED_AT).astype(np.int64))
    seen = [found for number in chosen if (found := size_of(files[number], formats)) is not None]
    if not seen:
        return Survey((LEAST, LEAST), "L")
    side = round(min(max(median(min(height, width) for height, width, _ in seen), LEAST), MOST))
    sizes = sorted(((height, width) for height, width, _ in seen), key=lambda size: (size[0] * size[1], size))
    mode = "L" if all(colours in GREYS for _, _, colours in seen) else "RGB"
    shapes = [width / height for height, width in sizes]
    return Survey((side, side), mode, sizes[0], sizes[-1], max(shapes) <= ALIKE * min(shapes))
