"""The operators of ONNX as layers: a table, filled by the files of this package."""

from xcnn.exchange.onnx.operators import cells, norms, shapes, sums, windows
from xcnn.exchange.onnx.operators.table import OPERATORS

__all__ = ["OPERATORS", "cells", "norms", "shapes", "sums", "windows"]
