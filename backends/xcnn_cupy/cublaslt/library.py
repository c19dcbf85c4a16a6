"""libcublasLt: its functions with the types of their arguments, and what its statuses say."""

from __future__ import annotations

import ctypes
import sys
from ctypes import c_char_p, c_float, c_int, c_int64, c_size_t, c_uint64, c_void_p
from functools import cache

from xcnn.errors import BackendUnavailable
from xcnn_cupy import shared_library
from xcnn_cupy.shared_library import Signatures, StatusError, first_loaded, in_wheels

SIGNATURES: Signatures = {
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


class CublasLtError(StatusError):
    """cublasLt answered a call with a status that is not success (X306)."""

    title = "cublasLt"


class Library(shared_library.Library):
    """cublasLt; its version 130000 is 13.0.0."""

    prefix = "cublasLt"

    def error(self, status: int, attempted: str, *details: str) -> CublasLtError:
        """The error for a status."""
        said = self.text("GetStatusString", status)
        return CublasLtError(status, self.text("GetStatusName", status), attempted, said, *details)


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
    functions = first_loaded([name, *in_wheels("cublas", name), *in_wheels(f"cu{release}", name)], SIGNATURES)
    if functions is not None:
        return Library(functions)
    raise BackendUnavailable(
        "X302",
        f"cublasLt of CUDA {release} is not installed: there is no {name}.",
        hint=f'pip install "xcnn[cuda{release}]".',
    )
