"""From a picture to a classifier's answer, for files as for uploads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xcnn.core.several import is_several
from xcnn.errors import DivergedError, ShapeError
from xcnn.model.image_files import Numbers, from_file

if TYPE_CHECKING:
    from xcnn.model.model import Model


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


def answer(model: Model, names: list[str], probabilities: Numbers, how: str, name: str) -> dict[str, Any]:
    """The likeliest class of a picture, all classes' probabilities from the likeliest on, and how it was prepared.

    `independent` tells that each probability stands for itself, as of a sigmoid, so that they need not add up to 1.

    Raises
    ------
    DivergedError
        X501, where they are no numbers.
    """
    from xcnn.model.predict import shares_one

    if not np.isfinite(probabilities).all():
        raise DivergedError("X501", f"the model's outputs overflow on {name}.")
    order = np.argsort(-probabilities)
    best = int(order[0])
    return {
        "class": names[best],
        "probability": float(probabilities[best]),
        "probabilities": {names[n]: float(probabilities[n]) for n in order},
        "independent": model.output_shape[0] > 1 and not shares_one(model.net, model.loss),
        "prepared": how,
    }


def classify(model: Model, path: Path, names: list[str], limits: dict[str, Any]) -> tuple[dict[str, Any], Numbers]:
    """The answer on an image file, and the image as the model got it.

    Raises
    ------
    DataError
        X207, X208; its message names the file.
    DivergedError
        X501
    """
    x, how = from_file(model, path, limits)
    return answer(model, names, model.probabilities(x[None])[0], how, path.name), x
