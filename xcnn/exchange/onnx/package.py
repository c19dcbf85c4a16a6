"""The packages that only this format needs, imported when they are asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from xcnn.errors import MissingDependency


def onnx_package(what: str) -> Any:
    """The package onnx, for `what` is to be done with it.

    Raises
    ------
    MissingDependency
        X601
    """
    try:
        return import_module("onnx")
    except ImportError as error:
        raise MissingDependency("X601", f"{what} needs onnx.", hint='pip install "xcnn[onnx]"') from error


def runtime() -> Any | None:
    """The package onnxruntime; None where it is not installed."""
    try:
        return import_module("onnxruntime")
    except ImportError:
        return None
