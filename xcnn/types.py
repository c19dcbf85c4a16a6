"""The words of xcnn's signatures, for annotations of your own: `from xcnn.types import Array, Padding`.

They are for type checkers and for readers. None of them checks anything when a program runs: options are checked where
they are given.
"""

from xcnn.core.types import (
    Array,
    Average,
    Backward,
    Better,
    Bias,
    DType,
    DTypeName,
    InitializerName,
    Interpolation,
    LossName,
    OptimizerName,
    Padding,
    PaddingName,
    PrecisionName,
    ProgressName,
    Shape,
    Weights,
)
from xcnn.training.callbacks import Callback
from xcnn.training.history import Row
from xcnn.training.losses import Loss
from xcnn.training.progress import Progress

__all__ = [
    "Array",
    "Average",
    "Backward",
    "Better",
    "Bias",
    "Callback",
    "DType",
    "DTypeName",
    "InitializerName",
    "Interpolation",
    "Loss",
    "LossName",
    "OptimizerName",
    "Padding",
    "PaddingName",
    "PrecisionName",
    "Progress",
    "ProgressName",
    "Row",
    "Shape",
    "Weights",
]
