"""Files of Keras 3, "model.keras": an archive of the net as JSON and of its weights as HDF5. Nothing is executed."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xcnn.core.types import Shape
from xcnn.errors import MissingDependency
from xcnn.exchange.archives import BROKEN, archive, member, opened, refuse
from xcnn.exchange.json_texts import parsed

MOST_JSON = 1 << 23
"""Bytes of the net: those of about eight thousand layers."""
PIECE = 1 << 20
BFLOAT16 = "bfloat16"
KINDS = {"float16", "float32", "float64", BFLOAT16}
CONFIG, WEIGHTS = "config.json", "model.weights.h5"


@dataclass(frozen=True)
class Stored:
    """An array of the file's.

    Parameters
    ----------
    shape
        its sizes
    read
        brings it, as float32 or float64
    """

    shape: Shape
    read: Callable[[], NDArray[Any]]


Arrays = Callable[[str], list[Stored]]
"""From a layer's folder, "layers/conv2d_1", to its arrays in order."""


@contextmanager
def reading(path: str | Path) -> Iterator[tuple[Mapping[str, Any], Arrays]]:
    """The net as Keras tells it, and where its arrays are found, to be read within the block.

    Raises
    ------
    ExchangeError
        X416, for what is no such file, is damaged, or is larger inside than it is.
    MissingDependency
        X601, without h5py.
    FileNotFoundError, PermissionError, IsADirectoryError
        as the file system says.
    """
    h5py = h5py_package()
    with opened(path) as file:
        if not file.read(4).startswith(b"PK\x03\x04"):
            older = "Keras 2 wrote HDF5: in Keras, model.save('model.keras') writes it anew."
            refuse(path, "it is not a .keras file.", hint=older)
        with archive(path, file) as whole:
            config = config_of(path, whole)
            with weights_of(path, whole) as stream:
                try:
                    weights = h5py.File(stream, "r")
                except (OSError, ValueError, RuntimeError) as error:
                    refuse(path, f"its weights are no HDF5 file ({str(error)[:100]}).", cause=error)
                with weights:
                    yield config, lambda folder: arrays_of(path, h5py, weights, folder)


def h5py_package() -> Any:
    """The package h5py; raises X601 without it."""
    try:
        return import_module("h5py")
    except ImportError as error:
        raise MissingDependency("X601", "reading .keras files needs h5py.", hint='pip install "xcnn[keras]"') from error


def config_of(path: str | Path, whole: zipfile.ZipFile) -> Mapping[str, Any]:
    """The net as JSON has it."""
    text = member(path, whole, CONFIG, MOST_JSON)
    try:
        config = parsed(text)
    except (ValueError, RecursionError) as error:
        refuse(path, f"its net is no JSON that is read ({str(error)[:100]}).", cause=error)
    if not isinstance(config, dict):
        refuse(path, "its net is no JSON object.")
    return config


@contextmanager
def weights_of(path: str | Path, whole: zipfile.ZipFile) -> Iterator[Any]:
    """The weights as a file that can be sought in, once it is known to be whole: HDF5 has no sums of its own."""
    try:
        info = whole.getinfo(WEIGHTS)
    except KeyError as error:
        refuse(path, f"it has no {WEIGHTS!r}.", cause=error)
    if info.compress_type != zipfile.ZIP_STORED:
        refuse(path, f"its {WEIGHTS!r} is compressed, which Keras does not do.")
    try:
        with whole.open(info) as record:
            while record.read(PIECE):
                pass
        record = whole.open(info)
    except BROKEN as error:
        refuse(path, f"its {WEIGHTS!r} is damaged ({type(error).__name__}).", cause=error)
    with record:
        yield io.BufferedReader(record)


def arrays_of(path: str | Path, h5py: Any, weights: Any, folder: str) -> list[Stored]:
    """The arrays in a layer's folder; links that lead elsewhere, and arrays that are not there whole, are refused."""
    try:
        group = weights
        for name in (*folder.split("/"), "vars"):
            if name not in group:
                return []
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                refuse(path, f"its weights have a link, {name[:80]!r}.")
            group = group[name]
        numbered = sorted((name for name in group if re.fullmatch(r"\d{1,3}", name)), key=int)
        return [stored(path, h5py, group, name) for name in numbered]
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        refuse(path, f"its weights are damaged ({type(error).__name__}: {str(error)[:100]}).", cause=error)


def stored(path: str | Path, h5py: Any, group: Any, name: str) -> Stored:
    """One array, which must stand in the file as it is."""
    link, found = group.get(name, getlink=True), group[name]
    if not isinstance(link, h5py.HardLink) or not isinstance(found, h5py.Dataset) or found.external or found.is_virtual:
        refuse(path, f"its weights have {name!r}, which leads elsewhere.")
    shape, kind = tuple(map(int, found.shape or ())), kind_of(found)
    size = 2 if kind == BFLOAT16 else found.dtype.itemsize
    whole = found.chunks is None and found.id.get_storage_size() == prod(shape) * size

    def read() -> NDArray[Any]:
        if kind not in KINDS:
            refuse(path, f"its weights have {name!r} of the type {kind[:40]}, which is not read.")
        try:
            if kind == BFLOAT16:  # the first half of a float32
                return (np.asarray(found[()]).view(np.uint16).astype(np.uint32) << 16).view(np.float32)
            return np.asarray(found[()], np.float64 if kind == "float64" else np.float32)
        except (OSError, RuntimeError, ValueError, TypeError) as error:
            refuse(path, f"its weights are damaged ({type(error).__name__}).", cause=error)

    if kind in KINDS and not whole:
        refuse(path, f"its weights have {name!r} of {shape}, which is not there whole.")
    return Stored(shape, read)


def kind_of(found: Any) -> str:
    """The type of an array's numbers; of bfloat16, which HDF5 does not have, Keras tells beside it."""
    told = found.attrs.get("dtype") if found.dtype.itemsize == 2 and found.dtype.kind in "Vu" else None
    return BFLOAT16 if told == BFLOAT16 else str(found.dtype)
