"""A handle: cublasLt's state for one GPU, which threads may share."""

from __future__ import annotations

import ctypes
import weakref

from xcnn_cupy.cublaslt.library import Library


class Handle:
    """For the GPU that is CUDA's current device when it is made."""

    def __init__(self, library: Library) -> None:
        place = ctypes.c_void_p()
        library.check(library.functions.cublasLtCreate(ctypes.addressof(place)), "make a handle for this GPU")
        self.library = library
        self.address: int = place.value or 0
        destroy = weakref.finalize(self, library.functions.cublasLtDestroy, self.address)
        destroy.atexit = False  # the process gives all of it back, and CUDA may be gone by then
