"""The words that all of xcnn's signatures use."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, get_args

if TYPE_CHECKING:
    import numpy as np

Array: TypeAlias = Any
"""An array of any library that follows the Python array API standard."""

Shape: TypeAlias = tuple[int, ...]
"""Sizes of an array's axes. A layer's `input_shape` leaves the batch axis out."""

Weights: TypeAlias = dict[str, Any]
"""A tree: names lead to arrays or to further trees, e.g. {"conv1": {"kernel": array, "bias": array}}."""

Backward: TypeAlias = Callable[[Array], tuple[Array, Weights]]
"""backward(dy) -> (dx, grads): the gradient of a layer's input, and one gradient for each of its weights."""

Pair: TypeAlias = tuple[int, int]
Pads: TypeAlias = tuple[Pair, Pair]
"""Cells added (top, bottom) and (left, right)."""

PaddingName: TypeAlias = Literal["valid", "full", "same"]
"""Also the modes of `correlate2d` and `convolve2d`."""
PADDINGS: tuple[PaddingName, ...] = get_args(PaddingName)

Padding: TypeAlias = PaddingName | int | tuple[int, int] | tuple[Pair, Pair]
"""What a user may write: "valid", "same", "full", p, (p_height, p_width) or ((top, bottom), (left, right))."""

Rng: TypeAlias = "np.random.Generator"
"""The host's random generator, which draws initial weights."""

# Names that options take. Each set of them stands here alone: what is checked at run time is made of it, or held to it
# by tests/core/test_types.py.

Bias: TypeAlias = bool | Literal["untied"]
"""One number for each filter, none, or the article's: one for each output element."""

InitializerName: TypeAlias = Literal[
    "zeros", "ones", "standard_normal", "glorot_normal", "glorot_uniform", "he_normal", "he_uniform", "lecun_normal",
    "lecun_uniform", "orthogonal",
]  # fmt: skip

EdgeMode: TypeAlias = Literal["reflect", "edge", "wrap"]
"""Which cells of an image stand around it: of NumPy's `pad`."""
EDGE_MODES: tuple[EdgeMode, ...] = get_args(EdgeMode)

Interpolation: TypeAlias = Literal["nearest", "bilinear"]
INTERPOLATIONS: tuple[Interpolation, ...] = get_args(Interpolation)

LossName: TypeAlias = Literal[
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "contrastive", "cross_entropy", "dice", "focal",
    "hinge", "huber", "kl_divergence", "mae", "mse", "nll", "squared_hinge", "triplet",
]  # fmt: skip

OptimizerName: TypeAlias = Literal[
    "Adagrad", "Adam", "AdamW", "LAMB", "Muon", "NAdam", "RMSprop", "SGD",
    "adagrad", "adam", "adamw", "lamb", "muon", "nadam", "rmsprop", "sgd",
]  # fmt: skip

DTypeName: TypeAlias = Literal["float32", "float64"]
DTYPES: tuple[DTypeName, ...] = get_args(DTypeName)
"""Types of weights."""


class DTypeObject(Protocol):
    """A type of NumPy's, PyTorch's or another library's: np.dtype("float32"), torch.float32."""

    @property
    def itemsize(self) -> int:
        """Bytes of a number."""
        ...


DType: TypeAlias = DTypeName | DTypeObject | type[Any]
"""A type of weights by its name, or as a library names it: np.float32."""

PrecisionName: TypeAlias = Literal["float32", "tf32", "bfloat16", "float16", "float64"]
"""What layers compute in."""

ProgressName: TypeAlias = Literal["auto", "live", "plain", "none"]

Average: TypeAlias = Literal["binary", "macro", "micro", "each"]
"""How a metric of pairs puts classes together."""
AVERAGES: tuple[Average, ...] = get_args(Average)

Better: TypeAlias = Literal["min", "max"]
"""Which way a monitored column is better."""
