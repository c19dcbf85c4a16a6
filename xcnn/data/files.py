"""Files of samples that people have, known by their contents: .npz, CSV, CIFAR's binary batches, pairs of IDX files.

Nothing is run: pickles, which can run any program when they are read, are refused.
"""

from __future__ import annotations

import csv
import os
import zipfile
from collections.abc import Iterable, Mapping
from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xcnn.core.files import path_of
from xcnn.data.dataset import Dataset, Samples, scale
from xcnn.data.idx import load_idx
from xcnn.data.split import split
from xcnn.errors import DataError, counted, printable, short, told_by

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAMES = (
    ("x_train", "y_train", "x_test", "y_test"),
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("X_train", "y_train", "X_test", "y_test"),
    ("train_x", "train_y", "test_x", "test_y"),
    ("x", "y", "", ""),
    ("X", "y", "", ""),
    ("images", "labels", "", ""),
    ("data", "labels", "", ""),
    ("data", "target", "", ""),
)
"""What a file's arrays are called: images and labels to train on, those to test on; Keras's, MedMNIST's, others'."""
LABELS = ("label", "labels", "class", "target", "y", "digit")
"""Titles of the column of labels."""
CIFAR = {3073: ("CIFAR-10", 1, 10), 3074: ("CIFAR-100", 2, 100)}
"""Bytes of a sample in CIFAR's binary batches: its name, how many of them are labels, and its classes."""
PICKLE = "is a pickle, which can run any program when it is read"


def load_files(path: str | os.PathLike[str], share: float = 0.2) -> tuple[Dataset, str]:
    """The samples of a file, or of a folder of IDX files or of CIFAR's batches, and what was found, in words.

    Parameters
    ----------
    path
        "~" stands for the user's folder
    share
        of the samples that are tested on, where the file does not say which, of each class alike; 0 for none

    Raises
    ------
    DataError
        X205, for what is none of these, and for pickles; X203, X204, for samples that do not go together
    """
    path = path_of(path)
    if path.is_dir():
        return of_folder(path, share)
    with open(path, "rb") as file:
        start, size = file.read(64), os.fstat(file.fileno()).st_size
    if zipfile.is_zipfile(path):
        return of_arrays(path, share)
    if (start[:1] == b"\x80" and start[1:2] in (b"\2", b"\3", b"\4", b"\5")) or path.suffix in (".pkl", ".pickle"):
        hint = 'write arrays: numpy.savez("data.npz", x_train=x, y_train=y, x_test=..., y_test=...).'
        raise DataError("X205", f"{path} {PICKLE}.", hint=hint)
    if is_idx(start):
        hint = f"give the folder of images and labels: {path.parent}"
        raise DataError("X205", f"{path} is one IDX file, of images or of labels.", hint=hint)
    if path.suffix == ".bin" and (kind := cifar_kind(size)):
        return finished(cifar([path], kind), None, share, f"{CIFAR[kind][0]}'s binary batch", CIFAR[kind][2])
    if is_text(start):
        return of_table(path, share)
    raise DataError("X205", f"{path} holds no samples that are known.", hint="give .npz, .csv, CIFAR's .bin or IDX.")


def is_idx(start: bytes) -> bool:
    """Whether a file that begins so is an IDX file, or one compressed with gzip, as far as its first bytes tell."""
    return start[:3] == b"\0\0\x08" or start[:2] == b"\x1f\x8b"


def is_text(start: bytes) -> bool:
    """Whether these bytes are lines with commas."""
    return b"\0" not in start and (b"," in start or b";" in start)


def of_folder(path: Path, share: float) -> tuple[Dataset, str]:
    """CIFAR's batches, or pairs of IDX files, of any names."""
    files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    batches = [file for file in files if file.suffix == ".bin" and cifar_kind(file.stat().st_size)]
    if batches:
        kind = cifar_kind(batches[0].stat().st_size)
        test = [file for file in batches if "test" in file.name]
        train = cifar([file for file in batches if file not in test], kind)
        told = f"{CIFAR[kind][0]}'s binary batches, {counted(len(batches), 'file')}"
        return finished(train, cifar(test, kind) if test else None, share, told, CIFAR[kind][2])
    arrays = {file: load_idx(file) for file in files if starts_as_idx(file)}
    images = sorted((f for f, a in arrays.items() if a.ndim > 1), key=lambda f: -len(arrays[f]))
    labels = {f: a for f, a in arrays.items() if a.ndim == 1}
    pairs = []
    for file in images:
        fitting = [f for f, a in labels.items() if len(a) == len(arrays[file])]
        fitting.sort(key=lambda f: -likeness(f.name, file.name))
        if fitting:
            pairs.append((arrays[file], labels.pop(fitting[0]), file))
    if not pairs:
        raise DataError("X205", f"{path} has no pair of IDX files, of images and as many labels.")
    pairs.sort(key=lambda pair: ("test" in pair[2].name or "t10k" in pair[2].name, -len(pair[0])))
    told = f"{counted(len(pairs), 'pair')} of IDX files"
    return finished(pairs[0][:2], pairs[1][:2] if len(pairs) > 1 else None, share, told)


def likeness(one: str, other: str) -> int:
    """How many characters two names have in common, from the first on."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def starts_as_idx(file: Path) -> bool:
    """Whether a file may be IDX."""
    with open(file, "rb") as opened:
        return is_idx(opened.read(3))


def cifar_kind(size: int) -> int:
    """Bytes of a sample in a CIFAR batch of this size; 0 where it is none."""
    return next((each for each in CIFAR if size and size % each == 0), 0)


def cifar(files: Iterable[Path], kind: int) -> tuple[Any, Any]:
    """Images (samples, 3, 32, 32) and labels of binary batches."""
    rows = np.concatenate([np.fromfile(file, np.uint8).reshape(-1, kind) for file in files])
    labels = CIFAR[kind][1]
    return rows[:, labels:].reshape(-1, 3, 32, 32), rows[:, labels - 1].astype(np.int64)


def of_arrays(path: Path, share: float) -> tuple[Dataset, str]:
    """A file of numpy.savez."""
    try:
        with np.load(path, allow_pickle=False) as found:
            names = next((each for each in NAMES if each[0] in found and each[1] in found), None)
            if names is None:
                there = ", ".join(map(printable, found.files)) or "nothing"
                hint = "call them x_train, y_train, x_test and y_test."
                raise DataError("X205", f"{path} has no images and labels by a known name: it has {there}.", hint=hint)
            arrays: Mapping[str, Any] = {name: found[name] for name in names if name and name in found}
    except (ValueError, OSError, KeyError, zipfile.BadZipFile) as error:
        if isinstance(error, DataError):
            raise
        if "pickle" in str(error) or "Object arrays" in str(error):
            hint = "save arrays of numbers: numpy.savez(path, x_train=..., y_train=...)."
            raise DataError("X205", f"{path} holds Python objects: an array in it {PICKLE}.", hint=hint) from error
        raise DataError("X205", f"{path} can't be read: {told_by(error)}") from error
    train = arrays[names[0]], arrays[names[1]]
    test = (arrays[names[2]], arrays[names[3]]) if names[2] in arrays and names[3] in arrays else None
    return finished(train, test, share, f"arrays {', '.join(arrays)}")


def of_table(path: Path, share: float) -> tuple[Dataset, str]:
    """A CSV file with a row for each sample: its label, and its pixels 0..255."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        first = file.readline()
    comma = ";" if first.count(";") > first.count(",") else ","
    titles = next(csv.reader([first], delimiter=comma))
    numbers = all(is_number(cell) for cell in titles)
    place = 0 if numbers else next((n for n, name in enumerate(titles) if name.strip().lower() in LABELS), None)
    if place is None:
        told = f"{path} has no column of labels among {', '.join(map(short, titles[:4]))}, ..."
        raise DataError("X205", f"{told}.", hint=f"call it {LABELS[0]}.")
    rest = [n for n in range(len(titles)) if n != place]
    how: dict[str, Any] = {"delimiter": comma, "skiprows": 0 if numbers else 1, "encoding": "utf-8-sig", "ndmin": 2}
    try:
        x = np.loadtxt(path, np.float32, usecols=rest, **how)
        y = np.loadtxt(path, str, usecols=[place], **how)[:, 0]
    except (ValueError, UnicodeError) as error:
        raise DataError("X205", f"{path} is no table of numbers: {told_by(error)}") from error
    whole = np.char.isdigit(y).all()
    told = f"a table of {len(x):,} rows, labels in column {short(titles[place]) if not numbers else 1}"
    return finished((x, y.astype(np.int64) if whole else y), None, share, told)


def is_number(text: str) -> bool:
    """Whether a cell of a table is one."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def finished(
    train: tuple[Any, Any], test: tuple[Any, Any] | None, share: float, told: str, classes: int = 0
) -> tuple[Dataset, str]:
    """A data set of arrays as they are found."""
    parts = [(images(x), labels(y)) for x, y in (train, *([test] if test else []))]
    for x, y in parts:
        if len(x) != len(y):
            raise DataError("X203", f"there are {counted(len(x), 'image')} and {counted(len(y), 'label')}.")
    every = np.concatenate([y for _, y in parts])
    names, numbers = np.unique(every, return_inverse=True)
    if every.dtype.kind in "iu":  # a class that no sample has keeps its number
        first = min(0, int(names[0]))
        names = np.arange(first, max(int(names[-1]) + 1, classes))
        if len(names) > 10 * len(np.unique(numbers)) + 1000:
            raise DataError("X203", f"labels go up to {names[-1]:,}, more than there are samples of.")
        numbers = every - first
    at, cut = numbers.astype(np.int64), len(parts[0][1])
    if test is None and not share:
        (x, y), (xt, yt) = (parts[0][0], at), (parts[0][0][:0], at[:0])
    elif test is None:
        (x, y), (xt, yt) = split(parts[0][0], at, share)
        told += f"; a share of {share:g} is held back to test on"
    else:
        (x, y), (xt, yt) = (parts[0][0], at[:cut]), (parts[1][0], at[cut:])
    shape = "x".join(map(str, x.shape[1:]))
    said = (
        f"found {told}: {counted(len(x), 'image')} to train on, {len(xt):,} to test on, {shape}, {len(names)} classes"
    )
    return Dataset(Samples(x, y), Samples(xt, yt), tuple(str(name) for name in names)), said


def images(x: NDArray[Any]) -> NDArray[np.float32]:
    """(samples, channels, height, width) of float32 in 0..1, of images in the layouts that files have them in."""
    if x.dtype.kind not in "buif" or x.ndim not in (2, 3, 4) or not x.size:
        raise DataError("X203", f"images are arrays of numbers; got {x.dtype} of shape {x.shape}.")
    if x.ndim == 2:
        channels = 3 if x.shape[1] % 3 == 0 and isqrt(x.shape[1] // 3) ** 2 * 3 == x.shape[1] else 1
        side = isqrt(x.shape[1] // channels)
        if side * side * channels != x.shape[1]:
            raise DataError("X203", f"a row of {counted(x.shape[1], 'number')} is no square picture.")
        x = x.reshape(-1, channels, side, side)
    elif x.ndim == 3:
        x = x[:, None]
    elif x.shape[3] in (1, 3) and x.shape[1] not in (1, 3):
        x = np.moveaxis(x, 3, 1)
    low, high = float(x.min()), float(x.max())
    if not (low >= 0 and high <= 255):
        raise DataError("X203", f"pixels are {low:g}..{high:g}; they must be in 0..1 or in 0..255.")
    if x.dtype == np.uint8:
        return scale(np.ascontiguousarray(x))
    return np.ascontiguousarray(x, np.float32) / np.float32(255 if high > 1 else 1)


def labels(y: NDArray[Any]) -> NDArray[Any]:
    """(samples,) labels, of a column or of one-hot rows too."""
    if y.ndim == 2:
        y = y[:, 0] if y.shape[1] == 1 else y.argmax(axis=1)
    if y.ndim != 1 or y.dtype.kind not in "iufUS" or (y.dtype.kind == "f" and not np.array_equal(y, np.floor(y))):
        raise DataError("X203", f"labels are whole numbers or names; got {y.dtype} of shape {y.shape}.")
    return y.astype(np.int64) if y.dtype.kind in "uif" else y.astype(str)
