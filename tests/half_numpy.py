"""NumPy that computes in float16: slowly, and so not offered to users, but here it rehearses what a GPU will do."""

from dataclasses import dataclass
from typing import ClassVar

from xcnn_numpy import NumpyBackend


@dataclass(frozen=True, repr=False)
class HalfNumpy(NumpyBackend):
    """NumPy arrays, layer by layer."""

    algorithm: str = "gemm"
    fuse: bool = False

    name: ClassVar[str] = "half"
    precisions: ClassVar[tuple[str, ...]] = ("float32", "float16", "float64")
