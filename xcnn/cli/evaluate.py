"""`xcnn evaluate`: a model's loss and accuracy on test images."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from xcnn.cli.building import whereabouts
from xcnn.cli.data import for_model, share_of
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
    """Measure a model on the test images of a data set, or on a folder: all of it, or what training left out of it."""
    loaded = load_model(model, backend, precision, max_bytes)
    if loaded.trainer.threshold is None:
        raise DataError(
            "X205", f"{model.name} is no classifier, so it has no accuracy.", hint="use model.evaluate(x, y) in Python."
        )
    name = named_data(loaded, data)
    found, part, told = to_test(loaded, name, data_dir, image_limits(max_pixels, formats))
    found = relabelled(loaded, found)
    result = loaded.evaluate(*found.test)
    if not isfinite(result["loss"]):
        raise DivergedError("X501", f"the loss is {result['loss']}: the model's outputs overflow on this data.")
    if report is not None:
        loaded.report(*found.test).write(report)
    passed = min_accuracy is None or result["accuracy"] >= min_accuracy
    if json:
        counts: dict[str, Any] = {"samples": found.counts[1], "part": part}
        print_json("evaluate", data=name, **counts, **result, min_accuracy=min_accuracy, passed=passed)
    else:
        measured = f"accuracy {result['accuracy']:.2%}, loss {result['loss']:.4f}{further(loaded, result)}"
        say(f"{measured} on {told}")
        if report is not None:
            say(f"wrote {report}")
        if not passed:
            print(f"below the {min_accuracy:.2%} that were asked for")
    if not passed:
        raise typer.Exit(1)


def to_test(
    model: Model, name: str, data_dir: Path | None, limits: Mapping[str, Any]
) -> tuple[Data, Literal["test", "held out", "all"], str]:
    """The data to test on, which part of them it is, and how that is told.

    Data that come with test images give these. Of a folder or a file without them, what `xcnn train` held back is
    tested on where the model was trained on the rest, which is known by its path or, moved or copied, by the checksum
    that a training is resumed by; of any other, all is.
    """
    every = for_model(model, name, data_dir, limits=limits, share=0)
    if every.counts[1]:
        return every, "test", f"{counted(every.counts[1], 'test image')} of {name}"
    found = for_model(model, name, data_dir, limits=limits) if len(every.train) == 1 else held_back(model, every)
    trained_on = model.info.get("data")
    if trained_on == whereabouts(name) or checksum_of(found) == model.plan.get("data"):
        return found, "held out", f"{counted(found.counts[1], 'image')} of {name}, those that training left out"
    kind = "folder" if Path(name).is_dir() else "file"
    seen = (
        "; the model's file does not tell whether it was trained on some of them"
        if trained_on is None
        else f", another {kind} than it was trained on"
    )
    images = f"{'all ' if every.counts[0] > 1 else ''}{counted(every.counts[0], 'image')}"
    return replace(every, test=every.train, counts=(0, every.counts[0])), "all", f"{images} of {name}{seen}"


def held_back(model: Model, data: Data) -> Data:
    """A file's samples, parted as `xcnn train` parts them."""
    from xcnn.data import split

    x, y = data.train
    if len(set(y.tolist())) in (1, len(y)):  # nothing can be held back, so that it is no data to train on
        return data
    train, test = split(x, y, share_of(model))
    return replace(data, train=tuple(train), test=tuple(test), counts=(len(train[0]), len(test[0])))


def checksum_of(data: Data) -> str:
    """That of what is trained on, as `fit` keeps it in a model's plan."""
    from xcnn.data.source import Arrays

    return str((data.train[0] if len(data.train) == 1 else Arrays(*data.train)).fingerprint())


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
