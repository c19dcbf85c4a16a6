"""The CuPy backend: which algorithm runs, on which device, and how arrays come and go."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, ClassVar

import array_api_compat
import cupy
import numpy as np
from xcnn_strided import Algorithm, Gemm, StridedBackend
from xcnn_strided.explain import gemm_workspace, literal_workspace

from xcnn._typing import Array, Pads, Pair, Shape
from xcnn.backends import Backend
from xcnn.errors import BackendUnavailable, DTypeError
from xcnn.explain import Explanation, explained
from xcnn.random import Key
from xcnn_cupy.literal import Literal

GEMM = Gemm(workspace=2**27)  # 512 MiB of float32


@dataclass(frozen=True, repr=False)
class CupyBackend(StridedBackend):
    """CuPy arrays on one CUDA device, "cupy:1" being the second; "cupy" is the first.

    `literal` is the article's correlation, with cupyx.scipy.signal; `gemm` lays windows out as columns of matrix
    products; `auto` is `gemm`.
    """

    name: ClassVar[str] = "cupy"
    library: ClassVar[str] = "cupy"
    first_device: ClassVar[str] = "0"
    algorithms: ClassVar[tuple[str, ...]] = ("auto", "literal", "gemm")

    def __post_init__(self) -> None:
        check_device(self.device)
        super().__post_init__()

    @classmethod
    def of(cls, x: Array) -> Backend:
        return cls(str(x.device.id))

    @property
    def number(self) -> int:
        """The device's number."""
        return int(self.device or 0)

    @property
    def xp(self) -> Any:
        return import_module("array_api_compat.cupy")

    def active(self) -> AbstractContextManager[object]:
        device: AbstractContextManager[object] = cupy.cuda.Device(self.number)
        return device

    def beside(self, x: Array) -> AbstractContextManager[object]:
        device: AbstractContextManager[object] = x.device
        return device

    def asarray(self, x: Any, dtype: str | None = None) -> Array:
        if array_api_compat.is_cupy_array(x):
            x = array_api_compat.to_device(x, cupy.cuda.Device(self.number))
        elif array_api_compat.is_array_api_obj(x) and not array_api_compat.is_numpy_array(x):
            raise DTypeError(
                "X103",
                f"a {type(x).__name__} is neither a host array nor CuPy's.",
                hint="other.to_numpy(x) brings it to the host.",
            )
        with self.active():
            return cupy.asarray(x, dtype=dtype)

    def to_numpy(self, x: Array) -> np.ndarray[Any, Any]:
        with self.beside(x):
            host: np.ndarray[Any, Any] = cupy.asnumpy(x)
        return host

    def synchronize(self) -> None:
        with self.active():
            cupy.cuda.get_current_stream().synchronize()

    def versions(self) -> dict[str, str]:
        runtime = cupy.cuda.runtime
        return {
            "cupy": cupy.__version__,
            "cuda": _dotted(runtime.runtimeGetVersion()),
            "driver": _dotted(runtime.driverGetVersion()),
        }

    def device_name(self) -> str:
        name: bytes = cupy.cuda.runtime.getDeviceProperties(self.number)["name"]
        return name.decode()

    def chosen(
        self, x_shape: Shape, k_shape: Shape, stride: Pair, padding: Pads, dilation: Pair, groups: int
    ) -> Algorithm:
        return literal() if self.algorithm == "literal" else GEMM

    def explain(
        self, x_shape: Shape, k_shape: Shape, stride: Pair, padding: Pads, dilation: Pair, groups: int
    ) -> Explanation:
        name, cells = "gemm", gemm_workspace(GEMM, x_shape, k_shape, stride, padding, dilation, groups)
        if self.algorithm == "literal":
            name, cells = "literal", literal_workspace(x_shape, k_shape, padding, dilation)
        reason = (
            "it is the fast one on CUDA."
            if self.algorithm == "auto"
            else f'the backend was made with algorithm="{name}".'
        )
        return explained(x_shape, k_shape, stride, padding, dilation, name, reason, cells)

    def random_bits(self, key: Key, shape: Shape) -> Array:
        with self.active():
            return super().random_bits(key, shape)

    def correlate2d(self, x: Array, k: Array, mode: str = "valid") -> Array:
        with self.beside(x):
            return signal().correlate2d(x, k, mode)

    def convolve2d(self, x: Array, k: Array, mode: str = "valid") -> Array:
        with self.beside(x):
            return signal().convolve2d(x, k, mode)


def check_device(device: str | None) -> None:
    """Raise BackendUnavailable unless CuPy sees the device with this number, and its CUDA libraries load."""
    release = ".".join(cupy.__version__.split(".")[:2])
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError:
        count = 0
    if count == 0:
        raise BackendUnavailable(
            "X302",
            f"CuPy {release} imports, but no CUDA device is visible.",
            hint='see `xcnn backends`, or use backend "numpy".',
        )
    if device is not None and not (str(device).isdecimal() and int(device) < count):
        raise BackendUnavailable("X302", f"CuPy sees devices 0 to {count - 1}, but no {device!r}.")
    check_libraries(release)


@cache
def check_libraries(release: str) -> None:
    """Raise BackendUnavailable unless CuPy finds the CUDA libraries that its matrix products and kernels need."""
    try:
        cupy.cuda.cublas  # noqa: B018 - CuPy loads it when it is asked for
        cupy.cuda.nvrtc.getVersion()
    except (ImportError, RuntimeError) as error:
        raise BackendUnavailable(
            "X302",
            f"CuPy {release} sees a CUDA device but misses a library. {' '.join(str(error).split())}",
            hint='pip install "cupy-cuda13x[ctk]" brings the libraries of CUDA 13.',
        ) from error


@cache
def signal() -> Any:
    """CuPy's scipy.signal, which takes a while to import."""
    return import_module("cupyx.scipy.signal")


@cache
def literal() -> Literal:
    """The algorithm on it."""
    return Literal(signal())


def _dotted(version: int) -> str:
    """13000 -> "13.0", as CUDA counts."""
    return f"{version // 1000}.{version % 1000 // 10}"
