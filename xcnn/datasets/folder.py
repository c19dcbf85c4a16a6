"""Folders of images, one folder a class."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xcnn.checks import check_between, check_whole
from xcnn.datasets.dataset import Dataset, Samples
from xcnn.errors import DataError, counted
from xcnn.images import FORMATS, check_image_options, read_image
from xcnn.random import generator

if TYPE_CHECKING:
    from numpy.typing import NDArray

LAYOUT = "images stand in path/<class>, or in path/train/<class> and path/test/<class>."


def image_folder(
    path: str | os.PathLike[str],
    size: tuple[int, int] | None = (28, 28),
    mode: str = "L",
    formats: Sequence[str] = FORMATS,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> Dataset:
    """The images in path/<class>, or in path/train/<class> and path/test/<class>; labels count the sorted names.

    Without folders train and test, `test_fraction` of each class is drawn with `seed` to be tested on: at least one
    image, unless the class has only one. Samples keep the order of classes and file names. Hidden files and folders
    are skipped, as are files beside the folders of the classes; links may not lead out of `path`.

    Parameters
    ----------
    size, mode, formats
        as for `xcnn.images.read_image`: each image is stretched to (height, width); "L" is grey, "RGB" colour.

    Raises
    ------
    DataError
        X207: files that can't be read as images, all of them counted. X209: there is no class, a class without
        images, a folder within a class, a link that leads out, images of several sizes where size is None, or test
        has other classes than train.
    """
    check_image_options(size, mode)
    check_between("test_fraction", test_fraction, 0, 1)
    check_whole("seed", seed, 0)
    root = Path(path)
    if (root / "train").is_dir() and (root / "test").is_dir():
        train, test = _classes(root / "train", root), _classes(root / "test", root)
        if train.keys() != test.keys():
            names = ", ".join(sorted(train.keys() ^ test.keys()))
            raise DataError("X209", f"train and test in {root} have different classes.", f"in one only: {names}")
    else:
        train, test = _split(_classes(root, root), test_fraction, seed)
    files = [file for part in (train, test) for group in part.values() for file in group]
    x = _read(files, size, mode, formats)
    y = np.asarray([label for part in (train, test) for label, group in enumerate(part.values()) for _ in group])
    count = sum(map(len, train.values()))
    return Dataset(Samples(x[:count], y[:count]), Samples(x[count:], y[count:]), tuple(train))


def _split(
    classes: dict[str, list[Path]], test_fraction: float, seed: int
) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    train, test = {}, {}
    for label, (name, files) in enumerate(classes.items()):
        count = min(max(round(test_fraction * len(files)), test_fraction > 0), len(files) - 1)
        drawn = set(generator(seed, label).permutation(len(files))[:count].tolist())
        train[name] = [file for i, file in enumerate(files) if i not in drawn]
        test[name] = [file for i, file in enumerate(files) if i in drawn]
    return train, test


def _classes(folder: Path, root: Path) -> dict[str, list[Path]]:
    if not folder.is_dir():
        raise DataError("X209", f"{folder} is not a folder.")
    classes = {entry.name: _images(entry, root) for entry in _visible(folder) if entry.is_dir()}
    if not classes:
        raise DataError("X209", f"{folder} has no folder of images.", hint=LAYOUT)
    return classes


def _images(folder: Path, root: Path) -> list[Path]:
    files = _visible(folder)
    if not files:
        raise DataError("X209", f"{folder} has no images.", hint=LAYOUT)
    for entry in (folder, *files):
        if not Path(os.path.realpath(entry)).is_relative_to(os.path.realpath(root)):
            raise DataError("X209", f"{entry} is a link that leads out of {root}.", hint="copy what it leads to.")
        if entry is not folder and entry.is_dir():
            raise DataError("X209", f"{entry} is a folder within a class.", hint=LAYOUT)
    return files


def _visible(folder: Path) -> list[Path]:
    return sorted((entry for entry in folder.iterdir() if not entry.name.startswith(".")), key=lambda entry: entry.name)


def _read(files: list[Path], size: tuple[int, int] | None, mode: str, formats: Sequence[str]) -> NDArray[np.float32]:
    x: NDArray[np.float32] = np.empty((0,), np.float32)
    failures = []
    for index, file in enumerate(files):
        try:
            image = read_image(file, size, mode, formats)
        except DataError as error:
            failures.append(error)
            continue
        if x.size == 0:
            x, first = np.empty((len(files), *image.shape), np.float32), file
        if image.shape != x.shape[1:]:
            raise DataError(
                "X209",
                f"{file} is {image.shape[1]}x{image.shape[2]}, but {first} is {x.shape[2]}x{x.shape[3]}.",
                hint="pass size=(height, width).",
            )
        x[index] = image
    if failures:
        raise DataError(
            "X207",
            f"{len(failures)} of {counted(len(files), 'file')} can't be used: {failures[0].message}",
            *(error.message for error in failures[1:3]),
            hint=failures[0].hint,
        )
    return x
