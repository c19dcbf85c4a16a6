"""The data that a command names: a data set in memory, or a folder whose pictures are read as they are needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xcnn.cli.options import DATA_HELP, SETS, load_set
from xcnn.core.names import meant
from xcnn.data.kept import Kept
from xcnn.data.photos import Folder
from xcnn.errors import DataError, OptionError, ShapeError, counted, printable, short
from xcnn.model.image_files import fit_of

if TYPE_CHECKING:
    from xcnn.data import Dataset
    from xcnn.model.model import Model

CLASSES = 12
"""Classes that are told by name."""
KEPT = 1 << 29
"""Bytes of pictures that are read once and kept in memory; more are read anew in each epoch."""
SHARE = 0.2
"""Of a folder's images are tested on, where nobody says otherwise."""


@dataclass(frozen=True)
class Data:
    """What is trained on and what is tested on, each as `fit` and `evaluate` take it: (x, y), or a source of both.

    Parameters
    ----------
    train, test
        a pair of arrays, or a source alone
    classes
        the names of labels 0, 1, 2, ...
    shape
        (channels, height, width) of an image
    counts
        images to train on, and to test on
    said
        what was found out about the pictures, and how they are read, in lines
    fit
        how pictures are brought to one size
    """

    train: tuple[Any, ...]
    test: tuple[Any, ...]
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    counts: tuple[int, int]
    said: tuple[str, ...] = ()
    fit: str = "stretch"


def in_memory(data: Dataset) -> Data:
    """A data set's arrays."""
    counts = len(data.train.x), len(data.test.x)
    return Data(tuple(data.train), tuple(data.test), data.classes, data.train.x.shape[1:], counts)


def load_data(
    name: str,
    data_dir: Path | None,
    size: tuple[int, int] | None = None,
    mode: str | None = None,
    quiet: bool = False,
    limits: Mapping[str, Any] | None = None,
    share: float | None = None,
    fit: str | None = "stretch",
) -> Data:
    """The data set of this name, or a folder, its images of this size and colour, or of what suits its pictures.

    Raises
    ------
    DataError
        X205, when there is neither.
    OptionError
        X104, when a folder of MNIST's files is given for what is not among them.
    """
    found = load_set(name, data_dir, quiet, limits)
    if found is not None:
        return in_memory(found)
    if is_of_samples(Path(name)):
        from xcnn.data.files import load_files

        if limits:
            both = f"--max-pixels and --formats can't be given with {name}"
            raise OptionError("X104", f"{both}.", hint="they are for folders of images.")
        samples, told = load_files(name, SHARE if share is None else share)
        return replace(in_memory(samples), said=(told,))
    if not Path(name).is_dir():
        guess = meant("data set", name, SETS)
        hint = f"did you mean {guess!r}?" if guess else f"give {DATA_HELP}"
        raise DataError("X205", f"there is no data set or folder {short(name)}.", hint=hint)
    from xcnn.data import folder

    how: dict[str, Any] = {"test_fraction": SHARE if share is None else share, "fit": fit, **(limits or {})}
    train, test = (folder(name, size, mode, part=part, **how) for part in ("train", "test"))
    said = found_and_chosen(train, test, size, mode)
    kept = tuple(Kept(each) if each.bytes_in_all <= KEPT and len(each) else each for each in (train, test))
    return Data((kept[0],), (kept[1],), train.classes, train.shape, (len(train), len(test)), said, train.reading.fit)


def is_of_samples(path: Path) -> bool:
    """Whether it is a file, or a folder of files of samples: one without folders of classes, but with such files."""
    if not path.is_dir():
        return path.is_file()
    from xcnn.data.files import cifar_kind, starts_as_idx

    entries = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
    if any(entry.is_dir() for entry in entries):
        return False
    return any(starts_as_idx(e) or (e.suffix == ".bin" and cifar_kind(e.stat().st_size) > 0) for e in entries)


def for_model(
    model: Model,
    name: str,
    data_dir: Path | None,
    quiet: bool = False,
    limits: Mapping[str, Any] | None = None,
    share: float | None = None,
) -> Data:
    """The same for a model that is there: a folder's images as large and of the colours that it takes.

    The share that is held back is that of its training, unless one is given; 0 holds none back.
    A model that `xcnn train` wrote has seen images in 0..1, as a folder gives them.
    """
    if name not in SETS and len(model.input_shape) != 3:
        told = f"the net takes samples of shape {model.input_shape}, not images."
        raise ShapeError("X101", told, hint="use it in Python.")
    share = share_of(model) if share is None else share
    size = (model.input_shape[1], model.input_shape[2]) if name not in SETS else None
    mode = "L" if model.input_shape[0] == 1 else "RGB"
    found = load_data(name, data_dir, size, mode, quiet, limits, share, fit_of(model))
    if len(found.train) == 1 and "data" in model.info:
        model.scaling = "bytes"
    return found


def share_of(model: Model) -> float:
    """The share of images that a model's training held back, where the data do not say which to test on."""
    share = model.info.get("validation")
    return share if isinstance(share, float) else SHARE


AUGMENTATIONS: dict[str, tuple[float, Callable[[Any, Any], Any]]] = {
    "affine": (10.0, lambda augment, n: augment.Affine(n, translate=0.1, scale=(0.9, 1.1))),
    "color": (0.2, lambda augment, n: augment.ColorJitter(n, n, n)),
    "crop": (0.08, lambda augment, n: augment.RandomResizedCrop((n, 1.0))),
    "cutmix": (1.0, lambda augment, n: augment.CutMix(n)),
    "cutout": (8.0, lambda augment, n: augment.Cutout(n)),
    "flip": (0.5, lambda augment, n: augment.Flip(n)),
    "light": (0.4, lambda augment, n: augment.ColorJitter(n, n, 1.5 * n, min(n / 2, 0.5))),
    "mixup": (0.2, lambda augment, n: augment.Mixup(n)),
    "rotate": (10.0, lambda augment, n: augment.Rotate(n)),
    "translate": (4.0, lambda augment, n: augment.Translate(n, "reflect")),
    "zoom": (0.25, lambda augment, n: augment.Affine(60 * n, translate=n / 2, scale=(1 - n, 1 + n))),
}
"""The names on the command line: the usual strength, which "name:strength" replaces, and what is made of it."""


def augmentations(names: str | None) -> list[Any]:
    """Those that the command line names, "flip,translate:2", with usual strengths where it gives none; or "none".

    Raises
    ------
    OptionError
        X104, for a name that none has, and a strength that it can't have.
    """
    from xcnn import augment

    made = []
    for listed in names.split(",") if names and names != "none" else ():
        name, colon, strength = listed.strip().partition(":")
        if name not in AUGMENTATIONS:
            raise OptionError(
                "X104", f"there is no augmentation {short(name)}.", hint=f"use {', '.join(AUGMENTATIONS)}, or none."
            )
        usual, make = AUGMENTATIONS[name]
        try:
            number = float(strength) if colon else usual
        except ValueError:
            hint = f"{name} alone is {name}:{usual:g}."
            told = f"the strength of {name} is a number; got {short(strength)}."
            raise OptionError("X104", told, hint=hint) from None
        if not number >= 0:
            told = f"the strength of {name} is a number, 0 or above; got {short(strength)}."
            raise OptionError("X104", told, hint=f"{name} alone is {name}:{usual:g}.")
        made.append(make(augment, int(number) if number.is_integer() else number))
    return made


def told(data: Data) -> str:
    """How much there is of it."""
    train, test = data.counts
    return f"{counted(train, 'training image')} and {counted(test, 'test image')}"


def found_and_chosen(train: Folder, test: Folder, size: object, mode: object) -> tuple[str, ...]:
    """What a folder has, and how its pictures are read, and why: lines for who waits for the training."""
    counts = Counter(train.labels.tolist()) + Counter(test.labels.tolist())
    names = [f"{printable(name)} {counts[label]:,}" for label, name in enumerate(train.classes)]
    more = f", and {len(names) - CLASSES} more" if len(names) > CLASSES else ""
    found, (channels, height, width) = train.found, train.shape
    lines = [f"found {counted(len(names), 'class', 'classes')}: {', '.join(names[:CLASSES])}{more}; {found}"]
    lines += [str(found.strays)] if found.strays else []
    why = "as asked" if size else "for the median of their shorter sides" if height < 64 else "enough for most things"
    colour = f"{'grey' if channels == 1 else 'RGB'}{' as asked' if mode else ''}"
    cut = "their middles, since they differ in shape and would be distorted" if train.reading.fit == "crop" else "whole"
    return (*lines, f"read as {height}x{width} ({why}), {colour}, {cut}")
