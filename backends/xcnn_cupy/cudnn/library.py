"""libcudnn: where it lies, its functions with the types of their arguments, and what its statuses say."""

from __future__ import annotations

import ctypes
import sys
from ctypes import c_char_p, c_int, c_int64, c_size_t, c_void_p
from functools import cache

from xcnn.errors import BackendUnavailable
from xcnn_cupy import shared_library
from xcnn_cupy.cudnn.constants import SUBLIBRARY_LOADING_FAILED
from xcnn_cupy.shared_library import Signatures, StatusError, first_loaded, in_wheels

FILE = "cudnn64_9.dll" if sys.platform == "win32" else "libcudnn.so.9"

SIGNATURES: Signatures = {
    "cudnnGetVersion": (c_size_t, ()),
    "cudnnGetErrorString": (c_char_p, (c_int,)),
    "cudnnGetLastErrorString": (None, (c_void_p, c_size_t)),
    "cudnnCreate": (c_int, (c_void_p,)),
    "cudnnDestroy": (c_int, (c_void_p,)),
    "cudnnSetStream": (c_int, (c_void_p, c_void_p)),
    "cudnnBackendCreateDescriptor": (c_int, (c_int, c_void_p)),
    "cudnnBackendDestroyDescriptor": (c_int, (c_void_p,)),
    "cudnnBackendFinalize": (c_int, (c_void_p,)),
    "cudnnBackendSetAttribute": (c_int, (c_void_p, c_int, c_int, c_int64, c_void_p)),
    "cudnnBackendGetAttribute": (c_int, (c_void_p, c_int, c_int, c_int64, c_void_p, c_void_p)),
    "cudnnBackendExecute": (c_int, (c_void_p, c_void_p, c_void_p)),
}


class CudnnError(StatusError):
    """cuDNN answered a call with a status that is not success (X306)."""

    title = "cuDNN"

    def advice(self, status: int) -> str:
        if status != SUBLIBRARY_LOADING_FAILED:
            return ""
        return "cuDNN's libraries need NVIDIA's driver, and those of the same wheel beside them."


class Library(shared_library.Library):
    """cuDNN; its version 92800 is 9.28.0."""

    prefix = "cudnn"

    def error(self, status: int, attempted: str, *details: str) -> CudnnError:
        """The error for a status, with what cuDNN has noted of this thread's last failure."""
        said = ctypes.create_string_buffer(1024)
        self.functions.cudnnGetLastErrorString(ctypes.addressof(said), len(said))
        told = said.value.decode(errors="replace").strip().splitlines()
        return CudnnError(status, self.text("GetErrorString", status), attempted, *told, *details)


@cache
def load() -> Library:
    """The cuDNN of NVIDIA's wheels, else from where the system finds it.

    Raises
    ------
    BackendUnavailable
        X302, where it is in neither.
    """
    functions = first_loaded([*in_wheels("cudnn", FILE), FILE], SIGNATURES)
    if functions is not None:
        return Library(functions)
    raise BackendUnavailable(
        "X302",
        f"cuDNN 9 is not installed: there is no {FILE}.",
        hint='pip install "xcnn[cuda13]", or "xcnn[cuda12]" for a driver of CUDA 12.',
    )
