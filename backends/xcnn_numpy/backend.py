"""The NumPy backend: which algorithm runs, and how arrays come and go."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import scipy
import scipy.signal

from xcnn._typing import Array, Pads, Pair, Shape
from xcnn.backends import Backend
from xcnn.errors import BackendUnavailable, DTypeError
from xcnn.reference import NO_PADDING
from xcnn_numpy import fft, gemm, literal

ALGORITHMS = {"literal": literal, "gemm": gemm, "fft": fft}


@dataclass(frozen=True, repr=False)
class NumpyBackend(Backend):
    """NumPy arrays on the CPU.

    `literal` is the article's scipy.signal, a plane at a time; `gemm` lays windows out as columns of matrix products;
    `fft` multiplies Fourier transforms. `auto` takes `fft` for large kernels, else `gemm`.
    """

    name: ClassVar[str] = "numpy"
    library: ClassVar[str] = "numpy"
    algorithms: ClassVar[tuple[str, ...]] = ("auto", *ALGORITHMS)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.device not in (None, "cpu"):
            raise BackendUnavailable(
                "X302", f'backend "numpy" has no device {self.device!r}.', hint='its device is "cpu".'
            )

    @property
    def xp(self) -> Any:
        return np

    def asarray(self, x: Any, dtype: str | None = None) -> Array:
        if type(x).__module__.partition(".")[0] not in ("numpy", "builtins"):
            raise DTypeError(
                "X103", f"a {type(x).__name__} is no host array.", hint="other.to_numpy(x) brings it to the host."
            )
        return np.asarray(x, dtype=dtype)

    def to_numpy(self, x: Array) -> np.ndarray[Any, Any]:
        return np.asarray(x)

    def versions(self) -> dict[str, str]:
        return {"numpy": np.__version__, "scipy": scipy.__version__}

    def chosen(self, x_shape: Shape, k_shape: Shape) -> ModuleType:
        """The algorithm for these shapes."""
        if self.algorithm != "auto":
            return ALGORITHMS[self.algorithm]
        return fft if fft.pays(x_shape, k_shape) else gemm

    def correlate(
        self,
        x: Array,
        k: Array,
        *,
        stride: Pair = (1, 1),
        padding: Pads = NO_PADDING,
        dilation: Pair = (1, 1),
        groups: int = 1,
    ) -> Array:
        run = self.chosen(x.shape, k.shape).correlate
        return run(x, k, stride=stride, padding=padding, dilation=dilation, groups=groups)

    def correlate_input_adjoint(
        self,
        dy: Array,
        k: Array,
        x_shape: Shape,
        *,
        stride: Pair = (1, 1),
        padding: Pads = NO_PADDING,
        dilation: Pair = (1, 1),
        groups: int = 1,
    ) -> Array:
        run = self.chosen(x_shape, k.shape).correlate_input_adjoint
        return run(dy, k, x_shape, stride=stride, padding=padding, dilation=dilation, groups=groups)

    def correlate_kernel_adjoint(
        self,
        x: Array,
        dy: Array,
        k_shape: Shape,
        *,
        stride: Pair = (1, 1),
        padding: Pads = NO_PADDING,
        dilation: Pair = (1, 1),
        groups: int = 1,
    ) -> Array:
        run = self.chosen(x.shape, k_shape).correlate_kernel_adjoint
        return run(x, dy, k_shape, stride=stride, padding=padding, dilation=dilation, groups=groups)

    def correlate2d(self, x: Array, k: Array, mode: str = "valid") -> Array:
        return scipy.signal.correlate2d(x, k, mode)

    def convolve2d(self, x: Array, k: Array, mode: str = "valid") -> Array:
        return scipy.signal.convolve2d(x, k, mode)
