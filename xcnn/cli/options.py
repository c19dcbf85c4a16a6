"""What several subcommands share: their options, and the data that they name."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from xcnn.core.output import folded
from xcnn.errors import DataError, OptionError, printable

if TYPE_CHECKING:
    from xcnn.core import types
    from xcnn.data import Dataset
    from xcnn.model.model import Model

DOWNLOADED = ("mnist", "fashion-mnist")
SETS = ("mnist01", *DOWNLOADED)
DATA_HELP = (
    "mnist01 (inside the package), mnist, fashion-mnist, a folder with one folder of images a class, or a file of "
    "samples: .npz, .csv, CIFAR's .bin, a folder of IDX files."
)

BackendName = Annotated[
    str | None, typer.Option("--backend", help="numpy, cupy, cupy:1, ...; by default XCNN_BACKEND, else the best.")
]
PrecisionName = Annotated[
    str | None,
    typer.Option("--precision", help="float32, tf32, bfloat16, float16 or float64; by default the model's own."),
]
DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="Where MNIST's files lie, instead of a download (also XCNN_DATA_DIR).")
]
MaxBytes = Annotated[
    int | None,
    typer.Option("--max-bytes", min=1, help="What a sample may take in the net of a checkpoint; 2 GiB by default."),
]
MaxPixels = Annotated[
    int | None, typer.Option("--max-pixels", min=1, help="Of an image file, before it is decoded; 2^26 by default.")
]
Formats = Annotated[
    str | None, typer.Option("--formats", help="Of image files: png,jpeg,bmp,gif by default; tiff, webp, ...")
]
Json = Annotated[bool, typer.Option("--json", help="Results as JSON on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
WEIGHTS = (".pt", ".pth", ".bin", ".safetensors")
"""Ends of names of files that have weights alone."""
ModelFile = Annotated[
    Path, typer.Argument(metavar="MODEL", help="A checkpoint that `xcnn train` wrote; or a file.onnx, or a file.keras.")
]


def finite(value: float | None) -> float | None:
    """A number that was given on the command line, unless it is NaN or infinite."""
    if value is not None and not isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number.")
    return value


def named_data(model: Model, given: str | None, default: str | None = None) -> str:
    """The data that were given, else those that the model's file names; where it names a path, the user is asked.

    Raises
    ------
    DataError
        X205, when nobody can be asked, or the answer is no: a file from others may name any folder.
    """
    if given is not None:
        return given
    if "data" not in model.info and default is not None:
        return default
    if "data" not in model.info:
        told = "no data are given, and the model's file does not tell on which it was trained"
        raise DataError("X205", f"{told}.", hint=f"name them: {DATA_HELP}")
    name = str(model.info["data"])
    if name in SETS:
        return name
    kind = "file" if Path(name).is_file() else "folder"
    asked = f"the model's file names the {kind} {name!r} as its data"
    there = all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))
    if there and typer.confirm(f"{printable(asked)}; read it?", err=True):
        return name
    raise DataError("X205", f"no data are given, and {asked}.", hint="name the folder on the command line.")


def image_limits(max_pixels: int | None, formats: str | None) -> dict[str, Any]:
    """How images are read where the command line says so, as options of `image_folder`."""
    given = {"max_pixels": max_pixels, "formats": formats and [name.strip() for name in formats.split(",")]}
    return {name: value for name, value in given.items() if value is not None}


def load_set(name: str, data_dir: Path | None, quiet: bool, limits: Mapping[str, Any] | None) -> Dataset | None:
    """The data set of this name, None where it is none.

    Raises
    ------
    OptionError
        X104, when a folder of MNIST's files is given for what is not among them.
    """
    from xcnn import data as datasets

    if data_dir is not None and name not in DOWNLOADED:
        raise OptionError(
            "X104",
            f"--data-dir can't be given with {name}.",
            hint=f"it is where the files of {' or '.join(DOWNLOADED)} lie.",
        )
    if limits and name in SETS:
        raise OptionError(
            "X104", f"--max-pixels and --formats can't be given with {name}.", hint="they are for folders of images."
        )
    folder = data_dir or (Path(os.environ["XCNN_DATA_DIR"]) if os.environ.get("XCNN_DATA_DIR") else None)
    with contextlib.nullcontext() if quiet else downloads_told():
        match name:
            case "mnist01":
                return datasets.mnist01()
            case "mnist":
                return datasets.mnist(folder)
            case "fashion-mnist":
                return datasets.fashion_mnist(folder)
    return None


@contextlib.contextmanager
def downloads_told() -> Iterator[None]:
    """For a `with` block in which each download is told in a line on stderr."""
    log, teller = logging.getLogger("xcnn.datasets"), logging.StreamHandler(sys.stderr)
    before = log.level
    log.addHandler(teller)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(teller)
        log.setLevel(before)


def load_model(path: Path, backend: str | None, precision: str | None, max_bytes: int | None) -> Model:
    """The model of a checkpoint, of an ONNX or a Keras file, by their names' ends, or one that comes trained."""
    from xcnn.errors import CheckpointError
    from xcnn.model.from_keras import load_keras
    from xcnn.model.model import Model
    from xcnn.model.onnx_in import load_onnx
    from xcnn.nets.pretrained import TRAINED, pretrained

    limits: dict[str, Any] = {} if max_bytes is None else {"max_bytes": max_bytes}
    chosen = cast("types.PrecisionName | None", precision)
    others: dict[str, Any] = {".onnx": load_onnx, ".keras": load_keras}
    kind = path.suffix.lower()
    is_trained = str(path) in TRAINED and not path.exists()
    if kind in others or is_trained:
        model: Model = (
            pretrained(str(path), backend=backend) if is_trained else others[kind](path, backend=backend, **limits)
        )
        if chosen is not None:
            model.precision = chosen
        return model
    try:
        return Model.load(path, backend=backend, precision=chosen, **limits)
    except CheckpointError as error:
        if kind in WEIGHTS and error.code == "X403":
            error.hint = "it has weights and no net: xcnn.Model(net, shape).load_weights(path), then model.save(path)."
        raise


def print_json(schema: str, **values: Any) -> None:
    """One object on one line of stdout."""
    print(json.dumps({"schema": f"xcnn.{schema}.1", **values}, allow_nan=False), flush=True)


def tell(line: str, silent: bool) -> None:
    """A line on stderr."""
    if not silent:
        print(folded(printable(line), sys.stderr), file=sys.stderr, flush=True)


def say(line: str, at_once: bool = False) -> None:
    """A line of results on stdout; `at_once` where more take a while."""
    print(folded(printable(line), sys.stdout), flush=at_once)
