"""`xcnn evaluate`: a model's loss and accuracy on test images."""

from __future__ import annotations

from typing import Annotated

import typer

from xcnn.cli.options import DATA_HELP, BackendName, DataDir, Json, ModelFile, load_data, load_model, print_json


def run(
    model: ModelFile,
    data: Annotated[str | None, typer.Argument(help=f"{DATA_HELP} By default what the model was trained on.")] = None,
    min_accuracy: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Exit with 1 below this accuracy, 0..1.")
    ] = None,
    backend: BackendName = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Measure a model on a data set's test images."""
    loaded = load_model(model, backend)
    name = data or str(loaded.info.get("data", "mnist01"))
    samples = load_data(name, data_dir, loaded.input_shape).test
    result = loaded.evaluate(*samples)
    passed = min_accuracy is None or result["accuracy"] >= min_accuracy
    if json:
        print_json("evaluate", data=name, samples=len(samples.x), **result, min_accuracy=min_accuracy, passed=passed)
    else:
        print(
            f"accuracy {result['accuracy']:.2%}, loss {result['loss']:.4f} on {len(samples.x):,} test images of {name}"
        )
        if not passed:
            print(f"below the {min_accuracy:.2%} that were asked for")
    if not passed:
        raise typer.Exit(1)
