"""libcudnn: where it lies, its functions with the types of their arguments, and what its statuses say."""

from __future__ import annotations

import ctypes
import sys
from ctypes import c_char_p, c_int, c_int64, c_size_t, c_void_p
from functools import cache
from typing import Any

from xcnn.errors import BackendError, BackendUnavailable
from xcnn_cupy.cudnn.constants import SUBLIBRARY_LOADING_FAILED
from xcnn_cupy.shared_library import in_wheels, open_library, typed

FILE = "cudnn64_9.dll" if sys.platform == "win32" else "libcudnn.so.9"

SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
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
"""What each function that is used returns and takes. Pointers to anything are passed as addresses."""


class CudnnError(BackendError):
    """cuDNN answered a call with a status that is not success (X306)."""

    def __init__(self, status: int, name: str, attempted: str, *details: str) -> None:
        hint = ""
        if status == SUBLIBRARY_LOADING_FAILED:
            hint = "cuDNN's libraries need NVIDIA's driver, and those of the same wheel beside them."
        super().__init__("X306", f"cuDNN could not {attempted}.", f"status {status}, {name}", *details, hint=hint)
        self.status, self.name = status, name


class Library:
    """cuDNN, and the check that every call's status goes through.

    `functions` has each function of SIGNATURES: the loaded library, or in tests what stands in its place.
    """

    def __init__(self, functions: Any) -> None:
        self.functions = functions
        self.version: int = functions.cudnnGetVersion()
        """92800 is 9.28.0."""

    def check(self, status: int, attempted: str) -> None:
        """Raise CudnnError unless the status is success."""
        if status:
            raise self.error(status, attempted)

    def error(self, status: int, attempted: str, *details: str) -> CudnnError:
        """The error for a status, with what cuDNN has noted of this thread's last failure."""
        said = ctypes.create_string_buffer(1024)
        self.functions.cudnnGetLastErrorString(ctypes.addressof(said), len(said))
        told = said.value.decode(errors="replace").strip().splitlines()
        name = self.functions.cudnnGetErrorString(status).decode()
        return CudnnError(status, name, attempted, *told, *details)


@cache
def load() -> Library:
    """The cuDNN of NVIDIA's wheels, else from where the system finds it.

    Raises
    ------
    BackendUnavailable
        X302, where it is in neither.
    """
    for path in [*in_wheels("cudnn", FILE), FILE]:
        try:
            return Library(typed(open_library(path), SIGNATURES))
        except OSError:
            continue
    raise BackendUnavailable(
        "X302",
        f"cuDNN 9 is not installed: there is no {FILE}.",
        hint='pip install "xcnn[cuda13]", or "xcnn[cuda12]" for a driver of CUDA 12.',
    )
