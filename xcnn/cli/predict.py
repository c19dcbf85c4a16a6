"""`xcnn predict`: what a model sees in image files."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

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
from xcnn.cli.predict_by_dask import Dask, Into, answers
from xcnn.cli.reports import exit_code, tell_error
from xcnn.errors import DataError, DivergedError, OptionError, printable


def run(
    model: ModelFile,
    images: Annotated[list[Path], typer.Argument(help="Image files of any size and colour.")],
    backend: BackendName = None,
    precision: PrecisionName = None,
    max_bytes: MaxBytes = None,
    max_pixels: MaxPixels = None,
    formats: Formats = None,
    dask: Dask = None,
    into: Into = None,
    json: Json = False,
) -> None:
    """Classify images. For digits they are prepared as MNIST's were, and what was done is said.

    An image that can't be read is named on stderr, and the others are classified; the exit code is then 4. Where the
    model has one sigmoid for each class, as the article's net, each class's percentage stands for itself.
    """
    from xcnn.serving.pictures import check_classifier, classify

    loaded = load_model(model, backend, precision, max_bytes)
    names = check_classifier(loaded)
    failures: list[Exception] = []
    limits = image_limits(max_pixels, formats)
    one = partial(classify, loaded, names=names, limits=limits)
    if into is not None and dask is None:
        raise OptionError("X104", "--into is where the workers of --dask write.", hint="--dask local")
    found = (
        ((path, None) for path in images) if dask is None else answers(loaded, names, images, limits, dask, into, one)
    )
    for path, made in found:
        try:
            answer = one(path) if made is None else answered(made)
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


def answered(made: dict[str, Any] | Exception) -> dict[str, Any]:
    """What another process has found, or raised."""
    if isinstance(made, Exception):
        raise made
    return made


def sentence(path: Path, answer: dict[str, Any]) -> str:
    """The answer in a line."""
    (name, p), *others = answer["probabilities"].items()
    if answer["independent"]:
        told = f"{name} (says {p:.2%} to {name}" + "".join(f", {q:.2%} to {other}" for other, q in others[:2])
        told += ", each by itself)" if others else ")"
    else:
        told = f"{name} ({p:.2%}; {', '.join(f'{other} {q:.2%}' for other, q in others[:2])})"
    return f"{path}: {told}   prepared: {answer['prepared']}"
