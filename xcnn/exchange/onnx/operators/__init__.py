"""The operators of ONNX as layers: a table, filled by the files of this package."""

from xcnn.exchange.onnx.operators import cells, composed, norms, shapes, sizes, sums, windows
from xcnn.exchange.onnx.operators.table import OPERATORS

__all__ = ["OPERATORS", "cells", "composed", "norms", "shapes", "sizes", "sums", "windows"]
