"""The data that a command names: a data set in memory, or a folder whose pictures are read as they are needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xcnn.cli.options import DATA_HELP, SETS, load_set
from xcnn.core.names import meant
from xcnn.errors import DataError, OptionError, ShapeError, counted, short

if TYPE_CHECKING:
    from xcnn.data import Dataset
    from xcnn.model.model import Model

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
        what was found out about the pictures
    """

    train: tuple[Any, ...]
    test: tuple[Any, ...]
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    counts: tuple[int, int]
    said: str = ""


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
    if not Path(name).is_dir():
        guess = meant("data set", name, SETS)
        hint = f"did you mean {guess!r}?" if guess else f"give {DATA_HELP}"
        raise DataError("X205", f"there is no data set or folder {short(name)}.", hint=hint)
    from xcnn.data import folder

    how: dict[str, Any] = {"test_fraction": SHARE if share is None else share, **(limits or {})}
    train, test = (folder(name, size, mode, part=part, **how) for part in ("train", "test"))
    channels, height, width = train.shape
    said = f"{train.found}, read as {height}x{width} {'grey' if channels == 1 else 'RGB'}"
    return Data((train,), (test,), train.classes, train.shape, (len(train), len(test)), said)


def for_model(
    model: Model, name: str, data_dir: Path | None, quiet: bool = False, limits: Mapping[str, Any] | None = None
) -> Data:
    """The same for a model that is there: a folder's images as large and of the colours that it takes.

    A model that `xcnn train` wrote has seen images in 0..1, as a folder gives them.
    """
    if name not in SETS and len(model.input_shape) != 3:
        told = f"the net takes samples of shape {model.input_shape}, not images."
        raise ShapeError("X101", told, hint="use it in Python.")
    share = model.info.get("validation")
    size = (model.input_shape[1], model.input_shape[2]) if name not in SETS else None
    mode = "L" if model.input_shape[0] == 1 else "RGB"
    found = load_data(name, data_dir, size, mode, quiet, limits, share if isinstance(share, float) else None)
    if len(found.train) == 1 and "data" in model.info:
        model.scaling = "bytes"
    return found


AUGMENTATIONS: dict[str, tuple[float, Callable[[Any, Any], Any]]] = {
    "affine": (10.0, lambda augment, n: augment.Affine(n, translate=0.1, scale=(0.9, 1.1))),
    "color": (0.2, lambda augment, n: augment.ColorJitter(n, n, n)),
    "crop": (0.08, lambda augment, n: augment.RandomResizedCrop((n, 1.0))),
    "cutmix": (1.0, lambda augment, n: augment.CutMix(n)),
    "cutout": (8.0, lambda augment, n: augment.Cutout(n)),
    "flip": (0.5, lambda augment, n: augment.Flip(n)),
    "mixup": (0.2, lambda augment, n: augment.Mixup(n)),
    "rotate": (10.0, lambda augment, n: augment.Rotate(n)),
    "translate": (4.0, lambda augment, n: augment.Translate(n, "reflect")),
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
        made.append(make(augment, int(number) if number.is_integer() else number))
    return made


def told(data: Data) -> str:
    """How much there is of it."""
    train, test = data.counts
    return f"{counted(train, 'training image')} and {counted(test, 'test image')}"
