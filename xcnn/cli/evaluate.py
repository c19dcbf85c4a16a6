"""`xcnn evaluate`: a model's loss and accuracy on test images."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xcnn.cli.data import for_model
from xcnn.cli.measures import further
from xcnn.cli.options import (
    DATA_HELP,
    BackendName,
    DataDir,
    Formats,
    Json,
    MaxBytes,
    MaxPixels,
    ModelFile,
    PrecisionName,
    finite,
    image_limits,
    load_model,
    named_data,
    print_json,
    say,
)
from xcnn.errors import DataError, DivergedError, counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xcnn.cli.data import Data
    from xcnn.data import Numbered
    from xcnn.model.model import Model


def run(
    model: ModelFile,
    data: Annotated[str | None, typer.Argument(help=f"{DATA_HELP} By default what the model was trained on.")] = None,
    min_accuracy: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, callback=finite, help="Exit with 1 below this accuracy, 0..1.")
    ] = None,
    backend: BackendName = None,
    data_dir: DataDir = None,
    precision: PrecisionName = None,
    max_bytes: MaxBytes = None,
    max_pixels: MaxPixels = None,
    formats: Formats = None,
    report: Annotated[
        Path | None, typer.Option(help="Write a page of what it gets wrong, that needs no network.", dir_okay=False)
    ] = None,
    json: Json = False,
) -> None:
    """Measure a model on a data set's test images."""
    loaded = load_model(model, backend, precision, max_bytes)
    if loaded.trainer.threshold is None:
        raise DataError(
            "X205", f"{model.name} is no classifier, so it has no accuracy.", hint="use model.evaluate(x, y) in Python."
        )
    name = named_data(loaded, data)
    found = relabelled(loaded, for_model(loaded, name, data_dir, limits=image_limits(max_pixels, formats)))
    result = loaded.evaluate(*found.test)
    if not isfinite(result["loss"]):
        raise DivergedError("X501", f"the loss is {result['loss']}: the model's outputs overflow on this data.")
    if report is not None:
        loaded.report(*found.test).write(report)
    passed = min_accuracy is None or result["accuracy"] >= min_accuracy
    if json:
        print_json("evaluate", data=name, samples=found.counts[1], **result, min_accuracy=min_accuracy, passed=passed)
    else:
        images = counted(found.counts[1], "test image")
        measured = f"accuracy {result['accuracy']:.2%}, loss {result['loss']:.4f}{further(loaded, result)}"
        say(f"{measured} on {images} of {name}")
        if report is not None:
            say(f"wrote {report}")
        if not passed:
            print(f"below the {min_accuracy:.2%} that were asked for")
    if not passed:
        raise typer.Exit(1)


def relabelled(model: Model, data: Data) -> Data:
    """The data, with labels to test on that are counted as the model counts its classes.

    Raises
    ------
    DataError
        X205, when the data has a class that the model was not trained on.
    """
    import numpy as np

    from xcnn.model.held import class_names

    known = class_names(model) or list(data.classes)
    strange = [name for name in data.classes if name not in known]
    if strange:
        raise DataError(
            "X205",
            f"the model does not know the class {strange[0]!r}"
            + (f" and {counted(len(strange) - 1, 'other')}" if len(strange) > 1 else "")
            + ".",
            f"it was trained on {', '.join(known)}",
            hint="evaluate it on data whose classes are among these.",
        )
    if len(data.test) == 2:
        x, y = data.test
        return replace(data, test=(x, np.array([known.index(name) for name in data.classes])[y]))
    labels = np.array([known.index(name) for name in data.classes])[data.test[0].labels]
    return replace(data, test=(renumbered(data.test[0], labels, tuple(known)),))


def renumbered(source: Numbered, labels: NDArray[Any], classes: tuple[str, ...]) -> Numbered:
    """A folder with other numbers for its classes."""
    other = copy(source)
    other.labels, other.classes = labels, classes
    return other
