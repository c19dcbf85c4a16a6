"""`xcnn predict`: what a model sees in image files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xcnn.cli.options import (
    BackendName,
    Formats,
    Json,
    MaxBytes,
    MaxPixels,
    ModelFile,
    PrecisionName,
    image_limits,
    load_model,
    print_json,
)
from xcnn.cli.reports import exit_code, tell_error
from xcnn.errors import DataError, DivergedError, ShapeError, printable

if TYPE_CHECKING:
    from xcnn.model.model import Model

DIGITS = ("mnist01", "mnist")


def run(
    model: ModelFile,
    images: Annotated[list[Path], typer.Argument(help="Image files of any size and colour.")],
    backend: BackendName = None,
    precision: PrecisionName = None,
    max_bytes: MaxBytes = None,
    max_pixels: MaxPixels = None,
    formats: Formats = None,
    json: Json = False,
) -> None:
    """Classify images. For digits they are prepared as MNIST's were, and what was done is said.

    An image that can't be read is named on stderr, and the others are classified; the exit code is then 4. Where the
    model has one sigmoid for each class, as the article's net, each class's percentage stands for itself.
    """
    loaded = load_model(model, backend, precision, max_bytes)
    names = check_classifier(loaded)
    failures: list[Exception] = []
    limits = image_limits(max_pixels, formats)
    for path in images:
        try:
            answer = classify(loaded, path, names, limits)
        except (DataError, DivergedError, OSError) as error:
            failures.append(error)
            tell_error(error)
            continue
        if json:
            print_json("predict", image=str(path), **answer)
        else:
            print(printable(sentence(path, answer)), flush=True)
    if failures:
        raise typer.Exit(exit_code(failures[0]))


def sentence(path: Path, answer: dict[str, Any]) -> str:
    """The answer in a line."""
    (name, p), *others = answer["probabilities"].items()
    if answer["independent"]:
        told = f"{name} (says {p:.2%} to {name}" + "".join(f", {q:.2%} to {other}" for other, q in others[:2])
        told += ", each by itself)" if others else ")"
    else:
        told = f"{name} ({p:.2%}; {', '.join(f'{other} {q:.2%}' for other, q in others[:2])})"
    return f"{path}: {told}   prepared: {answer['prepared']}"


def check_classifier(model: Model) -> list[str]:
    """The names of a model's classes.

    Raises
    ------
    ShapeError
        X101, when it does not take images, or gives no row of numbers.
    """
    from xcnn.model.held import numbered_names

    if len(model.input_shape) != 3 or len(model.output_shape) != 1:
        raise ShapeError(
            "X101",
            f"predict takes nets from images to classes; this one goes from {model.input_shape} to "
            f"{model.output_shape}.",
            hint="use Model.load(path).predict(x) in Python.",
        )
    return numbered_names(model, max(model.output_shape[0], 2))


def classify(model: Model, path: Path, names: list[str], limits: dict[str, Any]) -> dict[str, Any]:
    """The likeliest class of an image, all classes' probabilities from the likeliest on, and how it was prepared.

    `independent` tells that each probability is a sigmoid of its own, so that they need not add up to 1.
    """
    import numpy as np

    from xcnn.training.losses import loss_name

    x, prepared = prepared_image(model, path, limits)
    probabilities = model.probabilities(x[None])[0]
    if not np.isfinite(probabilities).all():
        raise DivergedError("X501", f"the model's outputs overflow on {path.name}.")
    order = np.argsort(-probabilities)
    best = int(order[0])
    return {
        "class": names[best],
        "probability": float(probabilities[best]),
        "probabilities": {names[n]: float(probabilities[n]) for n in order},
        "independent": model.output_shape[0] > 1 and loss_name(model.loss) != "cross_entropy",
        "prepared": prepared,
    }


def prepared_image(model: Model, path: Path, limits: dict[str, Any]) -> tuple[Any, str]:
    """An image file as a sample of the model, digits prepared as MNIST's were, and what was done.

    Raises
    ------
    DataError
        X207, naming the file, where it can't be read.
    ShapeError
        X101, where the model takes no images.
    """
    from xcnn.data.images import mnist_like, read_image

    if len(model.input_shape) != 3:
        raise ShapeError("X101", f"the net takes samples of shape {model.input_shape}, not images.", hint="use Python.")
    channels, height, width = model.input_shape
    try:
        if model.info.get("data") in DIGITS and model.input_shape == (1, 28, 28):
            return mnist_like(path, **limits)
        x = read_image(path, size=(height, width), mode="L" if channels == 1 else "RGB", **limits)
    except DataError as error:
        if path.name not in error.message:
            error.message = f"{path.name}: {error.message}"
        raise
    return x, f"{'grey' if channels == 1 else 'RGB'}, {height}x{width}"
