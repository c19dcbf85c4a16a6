"""`xcnn export`: a model as a file of another format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xcnn.cli.options import Json, MaxBytes, ModelFile, load_model, print_json, say
from xcnn.core.text import readable
from xcnn.errors import OptionError

SUFFIX = ".onnx"


def run(
    model: ModelFile,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write: NAME.onnx.", dir_okay=False)],
    fold_batch_norm: Annotated[
        bool, typer.Option("--fold-batch-norm", help="Fold batch normalisations into the convolutions before them.")
    ] = False,
    verify: Annotated[
        bool | None,
        typer.Option("--verify/--no-verify", help="Compare with onnxruntime first; by default where it is installed."),
    ] = None,
    max_bytes: MaxBytes = None,
    json: Json = False,
) -> None:
    """Write a model as an ONNX file, for batches of any size."""
    if output.suffix.lower() != SUFFIX:
        raise OptionError("X104", f"{output.name} has no suffix {SUFFIX}.", hint=f"-o {output.stem or 'model'}{SUFFIX}")
    loaded = load_model(model, "numpy", None, max_bytes)
    loaded.to_onnx(output, fold_batch_norm=fold_batch_norm, verify=verify)
    size = output.stat().st_size
    if json:
        print_json("export", output=str(output), bytes=size)
    else:
        say(f"wrote {output}, {readable(size)}")
