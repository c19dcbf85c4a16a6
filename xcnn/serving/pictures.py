"""From a picture to a classifier's answer, for files as for uploads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xcnn.core.several import is_several
from xcnn.errors import DataError, DivergedError, ShapeError

if TYPE_CHECKING:
    from xcnn.model.model import Model

Numbers: TypeAlias = NDArray[Any]
DIGITS = ("mnist01", "mnist")


def check_classifier(model: Model) -> list[str]:
    """The names of a model's classes.

    Raises
    ------
    ShapeError
        X101, when it does not take images, or gives no row of numbers.
    """
    from xcnn.model.held import numbered_names

    several = is_several(model.input_shape) or is_several(model.output_shape)
    if several or len(model.input_shape) != 3 or len(model.output_shape) != 1:
        raise ShapeError(
            "X101",
            f"predict takes nets from images to classes; this one goes from {model.input_shape} to "
            f"{model.output_shape}.",
            hint="use Model.load(path).predict(x) in Python.",
        )
    return numbered_names(model, max(model.output_shape[0], 2))


def prepared(model: Model, path: Path, limits: dict[str, Any]) -> tuple[Numbers, str]:
    """A picture as the model takes it, and how it was prepared.

    Raises
    ------
    DataError
        X207, X208, for what is no picture, or a blank one where a digit is wanted.
    """
    from xcnn.data.digits import mnist_like
    from xcnn.data.images import read_image

    channels, height, width = model.input_shape
    if model.info.get("data") in DIGITS and model.input_shape == (1, 28, 28):
        return mnist_like(path, **limits)
    x = read_image(path, size=(height, width), mode="L" if channels == 1 else "RGB", **limits)
    return x, f"{'grey' if channels == 1 else 'RGB'}, {height}x{width}"


def from_file(model: Model, path: Path, limits: dict[str, Any]) -> tuple[Numbers, str]:
    """The picture of a file as the model takes it, and how it was prepared.

    Raises
    ------
    DataError
        X207, X208; its message names the file.
    ShapeError
        X101, where the model takes no images.
    """
    if len(model.input_shape) != 3:
        told = f"the net takes samples of shape {model.input_shape}, not images."
        raise ShapeError("X101", told, hint="give them in Python.")
    try:
        return prepared(model, path, limits)
    except DataError as error:
        if path.name not in error.message:
            error.message = f"{path.name}: {error.message}"
        raise


def answer(model: Model, names: list[str], probabilities: Numbers, how: str, name: str) -> dict[str, Any]:
    """The likeliest class of a picture, all classes' probabilities from the likeliest on, and how it was prepared.

    `independent` tells that each probability is a sigmoid of its own, so that they need not add up to 1.

    Raises
    ------
    DivergedError
        X501, where they are no numbers.
    """
    from xcnn.training.losses import loss_name

    if not np.isfinite(probabilities).all():
        raise DivergedError("X501", f"the model's outputs overflow on {name}.")
    order = np.argsort(-probabilities)
    best = int(order[0])
    return {
        "class": names[best],
        "probability": float(probabilities[best]),
        "probabilities": {names[n]: float(probabilities[n]) for n in order},
        "independent": model.output_shape[0] > 1 and loss_name(model.loss) != "cross_entropy",
        "prepared": how,
    }


def classify(model: Model, path: Path, names: list[str], limits: dict[str, Any]) -> dict[str, Any]:
    """The answer on an image file.

    Raises
    ------
    DataError
        X207, X208; its message names the file.
    DivergedError
        X501
    """
    x, how = from_file(model, path, limits)
    return answer(model, names, model.probabilities(x[None])[0], how, path.name)
