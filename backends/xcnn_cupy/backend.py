"""The CuPy backend: which algorithm runs, on which device, and how arrays come and go."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, ClassVar

import array_api_compat
import cupy
import numpy as np
from xcnn_strided import Algorithm

from xcnn.backends.contract import Backend
from xcnn.core.arrays import unmasked
from xcnn.core.types import Array, PaddingName
from xcnn.errors import BackendUnavailable, DTypeError
from xcnn_cupy import cublaslt
from xcnn_cupy.cuda import Cuda, release
from xcnn_cupy.cudnn import load
from xcnn_cupy.gpu import GpuBackend
from xcnn_cupy.literal import Literal
from xcnn_cupy.memory import named, out_of_memory


@dataclass(frozen=True, repr=False)
class CupyBackend(GpuBackend):
    """CuPy arrays on one CUDA device, "cupy:1" being the second; "cupy" is the first.

    `literal` is the article's correlation, with cupyx.scipy.signal; `gemm` lays windows out as columns of matrix
    products; `cudnn` asks cuDNN; `auto` does so where it has a plan, and takes `gemm` elsewhere.

    Parameters
    ----------
    tune
        whether cuDNN's plans are measured when they are first wanted, and the fastest is taken
    plans
        a file that the choice of plans is taken from and written to, so that it stays the same from run to run
    """

    tune: bool = False
    plans: str | None = None

    name: ClassVar[str] = "cupy"
    library: ClassVar[str] = "cupy"
    first_device: ClassVar[str] = "0"

    def __post_init__(self) -> None:
        check_device(self.device)
        super().__post_init__()
        if self.algorithm == "cudnn":
            load()  # raises X302 where it is not installed

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
        return on_device(self.number)

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
            return cupy.asarray(unmasked(x), dtype=None if dtype is None else named(dtype))

    def to_numpy(self, x: Array) -> np.ndarray[Any, Any]:
        with self.beside(x):
            host: np.ndarray[Any, Any] = cupy.asnumpy(x)
        return host

    def synchronize(self) -> None:
        with self.active():
            cupy.cuda.get_current_stream().synchronize()

    def versions(self) -> dict[str, str]:
        runtime = cupy.cuda.runtime
        found = {
            "cupy": cupy.__version__,
            "cuda": _dotted(runtime.runtimeGetVersion()),
            "driver": _dotted(runtime.driverGetVersion()),
        }
        if self.gpu.has_cudnn:
            version = load().version
            found["cudnn"] = f"{version // 10000}.{version // 100 % 100}.{version % 100}"
        with suppress(BackendUnavailable):
            version = cublaslt.load(release()).version
            found["cublasLt"] = f"{version // 10000}.{version // 100 % 100}.{version % 100}"
        return found

    def device_name(self) -> str:
        name: bytes = cupy.cuda.runtime.getDeviceProperties(self.number)["name"]
        return name.decode()

    @property
    def gpu(self) -> Cuda:
        return cuda(self.number, self.tune, self.plans)

    def holds(self, x: Array) -> bool:
        return isinstance(x, cupy.ndarray) and x.device.id == self.number

    def literal(self) -> Algorithm:
        return literal()

    def correlate2d(self, x: Array, k: Array, mode: PaddingName = "valid") -> Array:
        with self.beside(x):
            return signal().correlate2d(x, k, mode)

    def convolve2d(self, x: Array, k: Array, mode: PaddingName = "valid") -> Array:
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
            hint='nvidia-smi shows whether the driver sees one; backend "numpy" needs none.',
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


@contextmanager
def on_device(number: int) -> Iterator[None]:
    """CuPy's current device; where memory runs out within CuPy, that is told as everywhere."""
    try:
        with cupy.cuda.Device(number):
            yield
    except cupy.cuda.memory.OutOfMemoryError as error:
        raise out_of_memory("this step", error) from error


@cache
def cuda(number: int, tune: bool, plans: str | None) -> Cuda:
    """The device that backends with these options share, with its compiled kernels and plans."""
    return Cuda(number, tune, plans)


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
