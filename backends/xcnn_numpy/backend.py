"""The NumPy backend: which algorithm runs, and how arrays come and go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import array_api_compat
import numpy as np
import scipy
import scipy.signal
from xcnn_strided import Algorithm, Gemm, StridedBackend

from xcnn._typing import Array, Pads, Pair, Shape
from xcnn.errors import BackendUnavailable, DTypeError
from xcnn.random import Key
from xcnn_numpy import fft, literal, random

GEMM = Gemm(workspace=2**19)  # 2 MiB of float32, which stays in cache
ALGORITHMS: dict[str, Algorithm] = {"literal": literal, "gemm": GEMM, "fft": fft}


@dataclass(frozen=True, repr=False)
class NumpyBackend(StridedBackend):
    """NumPy arrays on the CPU.

    `literal` is the article's scipy.signal, a plane at a time; `gemm` lays windows out as columns of matrix products;
    `fft` multiplies Fourier transforms. `auto` takes whichever of these two should take less time for the shapes.
    """

    name: ClassVar[str] = "numpy"
    library: ClassVar[str] = "numpy"
    algorithms: ClassVar[tuple[str, ...]] = ("auto", *ALGORITHMS)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.device is not None:
            raise BackendUnavailable("X302", f'its only device is "cpu", not {self.device!r}.')

    @property
    def xp(self) -> Any:
        return np

    def asarray(self, x: Any, dtype: str | None = None) -> Array:
        if array_api_compat.is_array_api_obj(x) and not array_api_compat.is_numpy_array(x):
            raise DTypeError(
                "X103", f"a {type(x).__name__} is no host array.", hint="other.to_numpy(x) brings it to the host."
            )
        return np.asarray(x, dtype=dtype)

    def to_numpy(self, x: Array) -> np.ndarray[Any, Any]:
        return np.asarray(x)

    def versions(self) -> dict[str, str]:
        return {"numpy": np.__version__, "scipy": scipy.__version__}

    def chosen(
        self, x_shape: Shape, k_shape: Shape, stride: Pair, padding: Pads, dilation: Pair, groups: int
    ) -> Algorithm:
        if self.algorithm != "auto":
            return ALGORITHMS[self.algorithm]
        return fft if fft.pays(x_shape, k_shape, stride, padding, dilation, groups) else GEMM

    def correlate2d(self, x: Array, k: Array, mode: str = "valid") -> Array:
        return scipy.signal.correlate2d(x, k, mode)

    def convolve2d(self, x: Array, k: Array, mode: str = "valid") -> Array:
        return scipy.signal.convolve2d(x, k, mode)

    def random_bits(self, key: Key, shape: Shape) -> Array:
        return random.bits(key, shape)
