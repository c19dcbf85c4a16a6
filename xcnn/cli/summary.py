"""`xcnn summary`: a model's layers, shapes, parameters and memory."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from xcnn.cli.options import Json, MaxBytes, ModelFile, PrecisionName, load_model, print_json
from xcnn.core.output import folded


def run(
    model: ModelFile,
    batch_size: Annotated[int, typer.Option(min=1, help="Images a step, or a prediction, for the memory.")] = 32,
    precision: PrecisionName = None,
    max_bytes: MaxBytes = None,
    json: Json = False,
) -> None:
    """Show the layers of a model."""
    summary = load_model(model, "numpy", precision, max_bytes).summary(batch_size)
    if json:
        print_json("summary", **summary.to_dict())
    else:
        print(folded(str(summary), sys.stdout))
