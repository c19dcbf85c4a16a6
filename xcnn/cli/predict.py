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
    PrecisionName,
    image_limits,
    load_model,
    print_json,
    say,
)
from xcnn.cli.pictures import MODEL_HELP, check_is_not_read, listed, named_formats, parted
from xcnn.cli.predict_by_dask import Dask, Into, answers
from xcnn.cli.reports import exit_code, tell_error
from xcnn.cli.sights import Sight, draw
from xcnn.errors import DataError, DivergedError, OptionError


def run(
    model_and_images: Annotated[
        list[Path],
        typer.Argument(
            metavar="[MODEL] PICTURES...",
            help=f"{MODEL_HELP} Then image files of any size and colour, or folders of them.",
        ),
    ],
    backend: BackendName = None,
    precision: PrecisionName = None,
    max_bytes: MaxBytes = None,
    max_pixels: MaxPixels = None,
    formats: Formats = None,
    show: Annotated[
        Path | None, typer.Option("--show", help="Draw the pictures beside what the net sees, into this PNG file.")
    ] = None,
    dask: Dask = None,
    into: Into = None,
    json: Json = False,
) -> None:
    """Classify images: `xcnn predict digit.png` needs no training. Digits are prepared as MNIST's were, and it is said.

    An image that can't be read is named on stderr, and the others are classified; the exit code is then 4. Where the
    model has one sigmoid for each class, as the article's net, each class's percentage stands for itself.
    """
    from xcnn.serving.pictures import check_classifier, classify

    limits = image_limits(max_pixels, formats)
    model, images = parted(model_and_images, named_formats(limits))
    loaded = load_model(model, backend, precision, max_bytes)
    names = check_classifier(loaded)
    failures: list[Exception] = []
    one, files, sheet = partial(classify, loaded, names=names, limits=limits), listed(images, limits), list[Sight]()
    if dask is None and into is not None:
        raise OptionError("X104", "--into is where the workers of --dask write.", hint="--dask local")
    if dask is not None and show is not None:
        raise OptionError("X104", "--show draws what this process prepares.", hint="leave out --dask.")
    if show is not None:
        check_is_not_read(show, [model, *files])
    here = ((path, None) for path in files)
    for path, made in here if dask is None else answers(loaded, names, [*files], limits, dask, into, one):
        try:
            answer, x = one(path) if made is None else (answered(made), None)
            sheet += [Sight(path, x, str(answer["class"]))] if show is not None and x is not None else []
        except (DataError, DivergedError, OSError) as error:
            failures.append(error)
            tell_error(error)
            continue
        if json:
            print_json("predict", image=str(path), **answer)
        else:
            say(sentence(path, answer), at_once=True)
    if show is not None and sheet:
        draw(sheet, show, limits)
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
