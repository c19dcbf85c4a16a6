"""cublasLt's descriptors as objects: each is destroyed with its object."""

from __future__ import annotations

import ctypes
import weakref
from enum import IntEnum
from typing import Any

from xcnn_cupy.cublaslt.constants import MatmulDesc, Preference
from xcnn_cupy.shared_library import Library

CTYPES: dict[IntEnum, Any] = {
    MatmulDesc.TRANSA: ctypes.c_int32,
    MatmulDesc.TRANSB: ctypes.c_int32,
    Preference.MAX_WORKSPACE_BYTES: ctypes.c_uint64,
    Preference.REDUCTION_SCHEME_MASK: ctypes.c_uint32,
    Preference.MIN_ALIGNMENT_A_BYTES: ctypes.c_uint32,
    Preference.MIN_ALIGNMENT_B_BYTES: ctypes.c_uint32,
    Preference.MIN_ALIGNMENT_C_BYTES: ctypes.c_uint32,
    Preference.MIN_ALIGNMENT_D_BYTES: ctypes.c_uint32,
}
"""C's types of attributes; cublasLt refuses values of another size."""


class Descriptor:
    """One descriptor of a kind, "MatmulDesc", "MatrixLayout" or "MatmulPreference": created, and its attributes set."""

    def __init__(self, library: Library, kind: str, *arguments: int) -> None:
        place, functions = ctypes.c_void_p(), library.functions
        create, destroy = (getattr(functions, f"cublasLt{kind}{ending}") for ending in ("Create", "Destroy"))
        library.check(create(ctypes.addressof(place), *arguments), f"create a {kind}")
        self.library, self.kind = library, kind
        self.address: int = place.value or 0
        weakref.finalize(self, destroy, self.address).atexit = False  # the process gives all of it back

    def set(self, attribute: MatmulDesc | Preference, value: int) -> None:
        """Set an attribute."""
        cell = CTYPES[attribute](value)
        function = getattr(self.library.functions, f"cublasLt{self.kind}SetAttribute")
        status = function(self.address, attribute, ctypes.addressof(cell), ctypes.sizeof(cell))
        self.library.check(status, f"set {attribute.name} of a {self.kind}")
