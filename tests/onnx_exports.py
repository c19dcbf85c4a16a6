"""Modules of PyTorch as ONNX files, by its older exporter and by its newer one; what both print is kept off."""

import contextlib
import io
import logging
import warnings

import pytest

torch = pytest.importorskip("torch", reason="PyTorch writes these files")

OLDER = {"dynamo": False, "input_names": ["x"], "dynamic_axes": {"x": {0: "N"}}}
"""Options of the older exporter, with the batch's size free."""


def newer():
    """Options of the newer exporter, which needs onnxscript."""
    return {"dynamo": True, "external_data": False, "dynamic_shapes": ({0: torch.export.Dim.DYNAMIC},)}


def exported(module, x, path, **options):
    """A file of the older exporter, unless asked otherwise."""
    quiet = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), quiet[0], quiet[1]:
            warnings.simplefilter("ignore")
            torch.onnx.export(module, (x,), str(path), **(options or OLDER))
    finally:
        logging.disable(logging.NOTSET)
    return path
