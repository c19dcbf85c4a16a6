"""Folders of images, one folder a class."""

from __future__ import annotations

import hashlib
import logging
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xcnn.core.checks import check_between, check_whole
from xcnn.core.files import path_of
from xcnn.core.process import side_by_side
from xcnn.data.dataset import Dataset, Samples, named
from xcnn.data.images import FORMATS, MAX_PIXELS, Room, check_image_options, open_image, to_array
from xcnn.data.strays import Strays
from xcnn.errors import DataError, counted, printable

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

log: logging.Logger = logging.getLogger("xcnn")
LAYOUT = "images stand in path/<class>, or in path/train/<class> and path/test/<class>."


def image_folder(
    path: str | os.PathLike[str],
    size: tuple[int, int] | None = (28, 28),
    mode: str = "L",
    formats: Sequence[str] = FORMATS,
    test_fraction: float = 0.2,
    seed: int = 0,
    max_pixels: int = MAX_PIXELS,
) -> Dataset:
    r"""The images in path/<class>, or in path/train/<class> and path/test/<class>; labels count the sorted names.

    Without folders train and test, the name of an image says whether it is one to test on: where SHA-256 of
    "seed/class/file" in UTF-8, its first 8 bytes divided by 2^64, is below `test_fraction`. That stays so on every
    machine and whatever other images come or go. Of n images about f n are drawn, within 2 sqrt(f (1 - f) n) in 19 of
    20 classes. A class of which none would be drawn gives its lowest, and one of which all would be keeps its highest;
    only there can another image change it. So every class of two is in both parts; a class of one is trained on.

    Samples keep the order of classes and file names. Hidden files and folders are skipped, as are files beside the
    folders of the classes. Files whose ending is not one of the formats', such as notes.txt, are left out, as are
    folders without pictures: a warning in the log counts them. Links may not lead out of `path`. Names are read as
    UTF-8 in Unicode's form NFC, whatever the system's locale; bytes that are not UTF-8 stand in a class's name as \xe9.
    The labels know the names of the classes, and a model that `fit(x, y)` trains on them keeps these.

    Parameters
    ----------
    path
        "~" stands for the user's folder.
    size
        (height, width), to which each image is stretched; None keeps the images' own, which must be one
    mode
        "L" for grey, one channel, "RGB" for colour, three
    formats
        the names of the formats that Pillow may open, such as ("PNG", "TIFF", "WEBP")
    max_pixels
        how many pixels a file may hold before it is decoded
    test_fraction, seed
        the share of test images, at least 0 and below 1, and which they are.

    Raises
    ------
    OptionError
        X104: an option that is none.
    DataError
        X207: files that can't be read as images, all of them counted. X209: there is no class with
        images, a folder within a class, a link that leads out, images of several sizes where size is None, two
        classes of one name, or test has other classes than train.

    Examples
    --------
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> for kind in ("cats", "dogs"):
    ...     Path("photos", kind).mkdir(parents=True)
    ...     for n in range(3):
    ...         Image.new("RGB", (40, 30)).save(f"photos/{kind}/{n}.png")
    >>> (x, y), (xt, yt) = data = xcnn.datasets.image_folder("photos", size=(28, 28), mode="RGB")
    >>> data.classes, len(x) + len(xt), x.shape[1:]
    (('cats', 'dogs'), 6, (3, 28, 28))
    """
    formats = check_image_options(size, mode, formats, max_pixels)
    check_between("test_fraction", test_fraction, 0, 1)
    check_whole("seed", seed, 0)
    strays = Strays(formats)
    train, test = parts_of(path_of(path), test_fraction, seed, strays)
    if strays:
        log.warning("%s: %s", printable(str(path)), strays)
    files = [file for part in (train, test) for group in part.values() for file in group]
    x = _read(files, size, mode, formats, max_pixels)
    y = np.asarray([label for part in (train, test) for label, group in enumerate(part.values()) for _ in group])
    y, count = named(y, tuple(train)), sum(map(len, train.values()))
    return Dataset(Samples(x[:count], y[:count]), Samples(x[count:], y[count:]), tuple(train))


def parts_of(
    root: Path, test_fraction: float, seed: int, strays: Strays | None = None
) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    """The files of each class to train on, and those to test on, as `image_folder` says.

    Raises
    ------
    DataError
        X209
    """
    if not is_parted(root):
        return _split(classes_of(root, strays), test_fraction, seed)
    strays = Strays() if strays is None else strays
    train, test = _classes(root / "train", root, strays), _classes(root / "test", root, strays)
    if train.keys() != test.keys():
        names = ", ".join(sorted(train.keys() ^ test.keys()))
        raise DataError("X209", f"train and test in {root} have different classes.", f"in one only: {names}")
    return train, test


def is_parted(root: Path) -> bool:
    """Whether a folder has folders train and test."""
    return (root / "train").is_dir() and (root / "test").is_dir()


def classes_of(root: Path, strays: Strays | None = None) -> dict[str, list[Path]]:
    """The files of each class of a folder that is not parted; X209 where it is not laid out so."""
    return _classes(root, root, Strays() if strays is None else strays)


def _split(
    classes: dict[str, list[Path]], test_fraction: float, seed: int
) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    train, test = {}, {}
    for name, files in classes.items():
        places = {file: _place(f"{name}/{_named(file.name)}", seed) for file in files}
        drawn = {file for file in files if places[file] < test_fraction}
        if not drawn and test_fraction:
            drawn = {min(files, key=places.__getitem__)}
        if len(drawn) == len(files):
            drawn.remove(max(files, key=places.__getitem__))
        train[name] = [file for file in files if file not in drawn]
        test[name] = [file for file in files if file in drawn]
    return train, test


def _place(name: str, seed: int) -> float:
    """Where in 0..1 the name "class/file" stands; below `test_fraction` it is to be tested on."""
    digest = hashlib.sha256(f"{seed}/{name}".encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8]) / 2**64


def _named(name: str) -> str:
    """A file's name as UTF-8 reads its bytes, in form NFC: the same under every locale and on every system."""
    return unicodedata.normalize("NFC", os.fsencode(name).decode("utf-8", "surrogateescape"))


def _classes(folder: Path, root: Path, strays: Strays) -> dict[str, list[Path]]:
    if not folder.is_dir():
        raise DataError("X209", f"{folder} is not a folder.")
    classes: dict[str, list[Path]] = {}
    for entry in _visible(folder):
        if not entry.is_dir():
            continue
        name = _named(entry.name).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        if name in classes:
            raise DataError("X209", f"{folder} has two classes of the name {name}.", hint="rename one of them.")
        classes[name] = _images(entry, root, strays)
    if not any(classes.values()):
        raise DataError("X209", f"{folder} has no folder of images.", *filter(None, [str(strays)]), hint=LAYOUT)
    strays.classes += [name for name, files in classes.items() if not files and name not in strays.classes]
    return {name: files for name, files in classes.items() if files}


def _images(folder: Path, root: Path, strays: Strays) -> list[Path]:
    files = strays.pictures(_visible(folder))
    for entry in (folder, *files):
        if not Path(os.path.realpath(entry)).is_relative_to(os.path.realpath(root)):
            raise DataError("X209", f"{entry} is a link that leads out of {root}.", hint="copy what it leads to.")
        if entry is not folder and entry.is_dir():
            raise DataError("X209", f"{entry} is a folder within a class.", hint=LAYOUT)
    return files


def _visible(folder: Path) -> list[Path]:
    entries = (entry for entry in folder.iterdir() if not entry.name.startswith("."))
    return sorted(entries, key=lambda entry: (_named(entry.name), entry.name))


def _read(
    files: list[Path], size: tuple[int, int] | None, mode: str, formats: Sequence[str], max_pixels: int
) -> NDArray[np.float32]:
    """The images, decoded by as many threads as there are processors, each into its place."""
    room, failures = Room(), []

    def read(file: Path) -> Image.Image | DataError:
        try:
            return open_image(file, mode, formats, size, max_pixels, room)
        except DataError as error:
            return error

    def read_into(index: int) -> DataError | None:
        image = read(files[index])
        if isinstance(image, DataError):
            return image
        to_array(image, mode, x[index])
        return None

    if size is not None:
        x = np.empty((len(files), len(mode), *size), np.float32)
        failures = [error for error in side_by_side(read_into, range(len(files))) if error]
    else:
        x, first = np.empty((0,), np.float32), files[0]
        for index, image in enumerate(side_by_side(read, files)):
            if isinstance(image, DataError):
                failures.append(image)
                continue
            shape = len(mode), image.height, image.width
            if x.size == 0:
                x, first = np.empty((len(files), *shape), np.float32), files[index]
            if shape != x.shape[1:]:
                raise DataError(
                    "X209",
                    f"{files[index]} is {shape[1]}x{shape[2]}, but {first} is {x.shape[2]}x{x.shape[3]}.",
                    hint="pass size=(height, width).",
                )
            to_array(image, mode, x[index])
    if failures:
        raise DataError(
            "X207",
            f"{len(failures)} of {counted(len(files), 'file')} can't be used: {failures[0].message}",
            *(error.message for error in failures[1:3]),
            hint=failures[0].hint,
        )
    return x
