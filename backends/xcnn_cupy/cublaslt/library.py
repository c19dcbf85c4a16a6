"""libcublasLt: its functions with the types of their arguments, and what its statuses say."""

from __future__ import annotations

import ctypes
import sys
from ctypes import c_char_p, c_float, c_int, c_int64, c_size_t, c_uint64, c_void_p
from functools import cache
from typing import Any

from xcnn.errors import BackendError, BackendUnavailable
from xcnn_cupy.shared_library import in_wheels, open_library, typed

SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "cublasLtGetVersion": (c_size_t, ()),
    "cublasLtGetStatusName": (c_char_p, (c_int,)),
    "cublasLtGetStatusString": (c_char_p, (c_int,)),
    "cublasLtCreate": (c_int, (c_void_p,)),
    "cublasLtDestroy": (c_int, (c_void_p,)),
    "cublasLtMatmulDescCreate": (c_int, (c_void_p, c_int, c_int)),
    "cublasLtMatmulDescDestroy": (c_int, (c_void_p,)),
    "cublasLtMatmulDescSetAttribute": (c_int, (c_void_p, c_int, c_void_p, c_size_t)),
    "cublasLtMatrixLayoutCreate": (c_int, (c_void_p, c_int, c_uint64, c_uint64, c_int64)),
    "cublasLtMatrixLayoutDestroy": (c_int, (c_void_p,)),
    "cublasLtMatmulPreferenceCreate": (c_int, (c_void_p,)),
    "cublasLtMatmulPreferenceDestroy": (c_int, (c_void_p,)),
    "cublasLtMatmulPreferenceSetAttribute": (c_int, (c_void_p, c_int, c_void_p, c_size_t)),
    "cublasLtMatmulAlgoGetHeuristic": (c_int, (*[c_void_p] * 7, c_int, c_void_p, c_void_p)),
    "cublasLtMatmulAlgoCheck": (c_int, (c_void_p,) * 8),
    "cublasLtMatmulAlgoCapGetAttribute": (c_int, (c_void_p, c_int, c_void_p, c_size_t, c_void_p)),
    "cublasLtMatmulAlgoConfigGetAttribute": (c_int, (c_void_p, c_int, c_void_p, c_size_t, c_void_p)),
    "cublasLtMatmul": (c_int, (*[c_void_p] * 14, c_size_t, c_void_p)),
}
"""What each function that is used returns and takes. Pointers to anything are passed as addresses."""


class AlgoBytes(ctypes.Structure):
    """cublasLtMatmulAlgo_t: an algorithm that is configured, the same for ever in one version of the library."""

    _fields_ = (("data", c_uint64 * 8),)


class Heuristic(ctypes.Structure):
    """cublasLtMatmulHeuristicResult_t: an algorithm that is proposed."""

    _fields_ = (
        ("algo", AlgoBytes),
        ("workspace_size", c_size_t),
        ("state", c_int),
        ("waves_count", c_float),
        ("reserved", c_int * 4),
    )


class CublasLtError(BackendError):
    """cublasLt answered a call with a status that is not success (X306)."""

    def __init__(self, status: int, name: str, attempted: str, *details: str) -> None:
        super().__init__("X306", f"cublasLt could not {attempted}.", f"status {status}, {name}", *details)
        self.status, self.name = status, name


class Library:
    """cublasLt, and the check that every call's status goes through.

    `functions` has each function of SIGNATURES: the loaded library, or in tests what stands in its place.
    """

    def __init__(self, functions: Any) -> None:
        self.functions = functions
        self.version: int = functions.cublasLtGetVersion()
        """130000 is 13.0.0."""

    def check(self, status: int, attempted: str, *details: str) -> None:
        """Raise CublasLtError unless the status is success."""
        if status:
            name = self.functions.cublasLtGetStatusName(status).decode()
            said = self.functions.cublasLtGetStatusString(status).decode()
            raise CublasLtError(status, name, attempted, said, *details)


@cache
def load(release: int) -> Library:
    """The cublasLt of a release of CUDA, 12 or 13: what is loaded already, as by CuPy, else that of NVIDIA's wheels.

    Raises
    ------
    BackendUnavailable
        X302, where there is none.
    """
    windows = sys.platform == "win32"
    name = f"cublasLt64_{release}.dll" if windows else f"libcublasLt.so.{release}"
    for path in [name, *in_wheels("cublas", name), *in_wheels(f"cu{release}", name)]:
        try:
            return Library(typed(open_library(path), SIGNATURES))
        except (OSError, AttributeError):  # AttributeError: one that lacks a function is too old
            continue
    raise BackendUnavailable(
        "X302",
        f"cublasLt of CUDA {release} is not installed: there is no {name}.",
        hint=f'pip install "xcnn[cuda{release}]".',
    )
