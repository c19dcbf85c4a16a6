"""Image files as a model takes them: as large and of the colours that its input has, or as digits are prepared."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xcnn.core.files import path_of
from xcnn.data.digits import mnist_like
from xcnn.data.images import DIGITS, FITS, FORMATS, read_image
from xcnn.data.strays import Strays
from xcnn.errors import DataError, OptionError, ShapeError, short
from xcnn.model.held import Held

Numbers: TypeAlias = NDArray[Any]


def prepared(model: Held, path: Path, limits: dict[str, Any]) -> tuple[Numbers, str]:
    """A picture as the model takes it, and how it was prepared.

    Raises
    ------
    DataError
        X207, X208, for what is no picture, or a blank one where a digit is wanted.
    """
    channels, height, width = model.input_shape
    if model.info.get("data") in DIGITS and model.input_shape == (1, 28, 28):
        return mnist_like(path, **limits)
    fit = fit_of(model)
    x = read_image(path, size=(height, width), mode="L" if channels == 1 else "RGB", fit=fit, **limits)
    cropped = ", its middle" if fit == "crop" else ""
    return x, f"{'grey' if channels == 1 else 'RGB'}, {height}x{width}{cropped}"


def fit_of(model: Held) -> str:
    """How the model's pictures were brought to its size: "stretch", or "crop" where its `info` tells so."""
    told = model.info.get("fit")
    return str(told) if told in FITS else "stretch"


def from_file(model: Held, path: Path, limits: dict[str, Any]) -> tuple[Numbers, str]:
    """The picture of a file as the model takes it, and how it was prepared.

    Raises
    ------
    DataError
        X207, X208; its message names the file.
    ShapeError
        X101, where the model takes no images.
    """
    if len(model.input_shape) != 3 or model.input_shape[0] not in (1, 3):
        told = f"the net takes samples of shape {model.input_shape}, not images."
        raise ShapeError("X101", told, hint="give them in Python.")
    try:
        return prepared(model, path, limits)
    except DataError as error:
        if path.name not in error.message:
            error.message = f"{path.name}: {error.message}"
        raise


def from_files(model: Held, paths: Any, formats: Sequence[str] = FORMATS) -> Numbers:
    """(files, channels, height, width) of the pictures of files, and of those in folders.

    Raises
    ------
    OptionError
        X104, for what are no paths, or none.
    """
    given = [paths] if isinstance(paths, str | os.PathLike) else paths
    if not isinstance(given, Iterable):
        raise OptionError("X104", f"paths are names of files; got {short(paths)}.", hint='["cat.jpg", "dog.jpg"]')
    files = [file for path in given for file in files_in(path, Strays(formats))]
    if not files:
        raise OptionError("X104", "there are no pictures among the paths.", hint='["cat.jpg", "dog.jpg"]')
    return np.stack([from_file(model, file, {"formats": formats})[0] for file in files])


def files_in(path: Any, strays: Strays) -> list[Path]:
    """The file itself, or the pictures in a folder and in the folders within it, by their names.

    Raises
    ------
    OptionError
        X104, for what is no path.
    """
    if not isinstance(path, str | os.PathLike):
        hint = "numbers go to model.classify(x)."
        raise OptionError("X104", f"paths are names of files; got {short(path)}.", hint=hint)
    path = path_of(path)
    if not path.is_dir():
        return [path]
    found = (file for file in sorted(path.rglob("*")) if not file.is_dir())
    return strays.pictures([file for file in found if not is_hidden(file.relative_to(path))])


def is_hidden(path: Path) -> bool:
    """Whether it, or a folder that it is in, has a name that begins with a point."""
    return any(part.startswith(".") for part in path.parts)
