"""`xcnn compare`: how far backends are from float64, layer by layer, and whether rounding explains it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from xcnn.cli.data import for_model
from xcnn.cli.evaluate import relabelled
from xcnn.cli.options import (
    DATA_HELP,
    DataDir,
    Formats,
    Json,
    MaxBytes,
    MaxPixels,
    ModelFile,
    PrecisionName,
    image_limits,
    load_model,
    named_data,
    print_json,
)
from xcnn.errors import OptionError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xcnn.model.model import Model

RANDOM = "random"


def run(
    model: ModelFile,
    data: Annotated[
        str | None,
        typer.Argument(
            help=f"{DATA_HELP[:-1]}, or {RANDOM} for random images. By default what the model was trained on."
        ),
    ] = None,
    backends: Annotated[
        str | None, typer.Option(help="numpy,torch,...; by default all that are available and have the precision.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, max=100_000, help="How many of the test images.")] = 4,
    data_dir: DataDir = None,
    precision: PrecisionName = None,
    max_bytes: MaxBytes = None,
    max_pixels: MaxPixels = None,
    formats: Formats = None,
    json: Json = False,
) -> None:
    """Compare backends on a model. The exit code is 1 if an error is larger than rounding explains, or one fails."""
    from xcnn.checking.parity import compare

    names = None if backends is None else [name.strip() for name in backends.split(",")]
    if names and not all(names):
        raise OptionError("X104", f"--backends has an empty name: {backends!r}.", hint="such as numpy,torch.")
    loaded = load_model(model, names[0] if names else None, precision, max_bytes)
    limits = image_limits(max_pixels, formats)
    x, y = batch(loaded, named_data(loaded, data, RANDOM), samples, data_dir, limits)
    comparison = compare(loaded, x, y, backends=names)
    if json:
        for row in comparison:
            print_json("compare", **row.to_dict())
    else:
        print(comparison)
    if not comparison.ok:
        raise typer.Exit(1)


def batch(
    model: Model, name: str, samples: int, data_dir: Any, limits: dict[str, Any]
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """The first test images of a data set with their labels; or random ones, 0..1, which have none."""
    import numpy as np

    if name == RANDOM:
        if data_dir is not None:
            raise OptionError("X104", "--data-dir can't be given with random images.", hint="leave it out.")
        return np.random.default_rng(0).random((samples, *model.input_shape), dtype="float32"), None
    data = relabelled(model, for_model(model, name, data_dir, limits=limits))
    if len(data.test) == 2:
        x, y = data.test
        return x[:samples], y[:samples]
    x, y, _ = data.test[0].batch(np.arange(min(samples, data.counts[1])))
    return x, y
