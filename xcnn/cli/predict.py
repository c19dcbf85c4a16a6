"""`xcnn predict`: what a model sees in image files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xcnn.cli.options import BackendName, Json, ModelFile, PrecisionName, load_model, print_json
from xcnn.errors import DataError, DivergedError, ShapeError

if TYPE_CHECKING:
    from xcnn.model import Model

DIGITS = ("mnist01", "mnist")


def run(
    model: ModelFile,
    images: Annotated[list[Path], typer.Argument(help="Image files of any size and colour.")],
    backend: BackendName = None,
    precision: PrecisionName = None,
    json: Json = False,
) -> None:
    """Classify images. For digits they are prepared as MNIST's were, and what was done is said."""
    loaded = load_model(model, backend, precision)
    for path in images:
        answer = classify(loaded, path)
        if json:
            print_json("predict", image=str(path), **answer)
        else:
            others = ", ".join(f"{name} {p:.2%}" for name, p in list(answer["probabilities"].items())[1:3])
            print(f"{path}: {answer['class']} ({answer['probability']:.2%}; {others})   prepared: {answer['prepared']}")


def classify(model: Model, path: Path) -> dict[str, Any]:
    """The likeliest class of an image, all classes' probabilities from the likeliest on, and how it was prepared."""
    import numpy as np

    from xcnn.images import mnist_like, read_image

    if len(model.input_shape) != 3 or len(model.output_shape) != 1:
        raise ShapeError(
            "X101",
            f"predict takes nets from images to classes; this one goes from {model.input_shape} to "
            f"{model.output_shape}.",
            hint="use Model.load(path).predict(x) in Python.",
        )
    channels, height, width = model.input_shape
    if model.info.get("data") in DIGITS:
        try:
            x, prepared = mnist_like(path)
        except DataError as error:
            if path.name not in error.message:
                error.message = f"{path.name}: {error.message}"
            raise
    else:
        x = read_image(path, size=(height, width), mode="L" if channels == 1 else "RGB")
        prepared = f"{'grey' if channels == 1 else 'RGB'}, {height}x{width}"
    probabilities = model.probabilities(x[None])[0]
    if not np.isfinite(probabilities).all():
        raise DivergedError("X501", f"the model's outputs overflow on {path.name}.")
    names = [str(name) for name in model.info.get("classes") or ()]
    if len(names) != len(probabilities):
        names = [str(n) for n in range(len(probabilities))]
    order = np.argsort(-probabilities)
    best = int(order[0])
    return {
        "class": names[best],
        "probability": float(probabilities[best]),
        "probabilities": {names[n]: float(probabilities[n]) for n in order},
        "prepared": prepared,
    }
