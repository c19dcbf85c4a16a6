"""`xcnn explain`: a page with what a model computes of an image, forward and backward, number by number."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from xcnn.cli.pictures import MODEL_HELP, check_is_not_read, named_formats, parted
from xcnn.errors import OptionError, short

if TYPE_CHECKING:
    from xcnn.model.model import Model


def run(
    model_and_image: Annotated[
        list[Path],
        typer.Argument(metavar="[MODEL] PICTURE", help=f"{MODEL_HELP} Then an image file of any size and colour."),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The page, such as why.html; why.png is a picture of it.")
    ] = Path("why.html"),
    label: Annotated[
        str | None, typer.Option(help="The class that it is, by name or number; by default what the model says.")
    ] = None,
    backend: BackendName = None,
    precision: PrecisionName = None,
    max_bytes: MaxBytes = None,
    max_pixels: MaxPixels = None,
    formats: Formats = None,
    json: Json = False,
) -> None:
    """Write a page of all numbers of a model on an image. It shows them forward and backward, and needs no network."""
    from xcnn.explainer import check_page_path, explain
    from xcnn.model.image_files import from_file

    limits = image_limits(max_pixels, formats)
    model, (image, *others) = parted(model_and_image, named_formats(limits))
    if others:
        hint = "one page is of one picture."
        raise OptionError("X104", f"explain takes one picture; got {1 + len(others)}.", hint=hint)
    check_page_path(output)
    check_is_not_read(output, [model, image])
    loaded = load_model(model, backend, precision, max_bytes)
    target = None if label is None else class_of(loaded, label)
    x, prepared = from_file(loaded, image, limits)
    page = explain(loaded, x, target, title=f"{image.name} in {model.name}")
    page.save(output)
    size, loss = output.stat().st_size, page.trace.loss
    if json:
        print_json("explain", page=str(output), bytes=size, loss=loss, prepared=prepared)
    else:
        say(f"saved as {output} ({size:,} bytes)   loss {loss:.6g}   prepared: {prepared}")


def class_of(model: Model, label: str) -> int:
    """The number of a class that is named, by its name or its number.

    Raises
    ------
    OptionError
        X104, where there is none.
    """
    from xcnn.core.names import meant
    from xcnn.model.held import numbered_names

    names = numbered_names(model, max(model.output_shape[0], 2) if model.output_shape else 2)
    if label in names:
        return names.index(label)
    if label.isascii() and label.isdigit() and int(label) < len(names):
        return int(label)
    guess = meant("class", label, names)
    hint = f"did you mean {guess!r}?" if guess else f"they are {', '.join(map(short, names[:12]))}."
    raise OptionError("X104", f"the model has no class {short(label)}.", hint=hint)
