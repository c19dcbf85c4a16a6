"""Libraries of NVIDIA's, opened through ctypes: where they lie, what their functions take, statuses and handles."""

from __future__ import annotations

import ctypes
import os
import sys
import weakref
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from xcnn.errors import BackendError

Signatures = Mapping[str, tuple[Any, tuple[Any, ...]]]
"""What each function returns and takes. Pointers to anything are passed as addresses."""
FOLDERS = ("bin", "bin/x86_64") if sys.platform == "win32" else ("lib",)
"""Where a wheel has its libraries: nvidia/cudnn/lib."""


def in_wheels(package: str, file: str) -> list[str]:
    """Where a wheel has put a file: nvidia/PACKAGE/lib/FILE."""
    spec = find_spec("nvidia")
    roots = spec.submodule_search_locations if spec else None
    places = [Path(root, package, folder, file) for root in roots or () for folder in FOLDERS]
    return [str(path) for path in places if path.is_file()]


def open_library(path: str) -> ctypes.CDLL:
    """Load it. On Windows it finds the libraries beside it only in folders that are named."""
    if sys.platform == "win32" and Path(path).is_absolute():
        os.add_dll_directory(str(Path(path).parent))
    return ctypes.CDLL(path)


def first_loaded(paths: Iterable[str], signatures: Signatures) -> ctypes.CDLL | None:
    """The first library that is there, and has each function; None where none is."""
    for path in paths:
        try:
            return typed(open_library(path), signatures)
        except (OSError, AttributeError):  # AttributeError: one that lacks a function is too old
            continue
    return None


def typed(functions: ctypes.CDLL, signatures: Signatures) -> ctypes.CDLL:
    """The library, its functions told what they take and return."""
    for name, (result, arguments) in signatures.items():
        function = getattr(functions, name)
        function.restype, function.argtypes = result, arguments
    return functions


class StatusError(BackendError):
    """A library answered a call with a status that is not success (X306)."""

    title: ClassVar[str]
    """What the library is called."""

    def __init__(self, status: int, name: str, attempted: str, *details: str) -> None:
        hint = self.advice(status)
        super().__init__(
            "X306", f"{self.title} could not {attempted}.", f"status {status}, {name}", *details, hint=hint
        )
        self.status, self.name = status, name

    def advice(self, status: int) -> str:
        """What helps, where that is known."""
        return ""


class Library:
    """A library, and the check that every call's status goes through.

    `functions` has each function that is used: the loaded library, or in tests what stands in its place.
    """

    prefix: ClassVar[str]
    """What the names of its functions begin with."""

    def __init__(self, functions: Any) -> None:
        self.functions = functions
        self.version: int = self.function("GetVersion")()

    def function(self, name: str) -> Any:
        """One by its name behind the prefix."""
        return getattr(self.functions, f"{self.prefix}{name}")

    def check(self, status: int, attempted: str, *details: str) -> None:
        """Raise a StatusError unless the status is success."""
        if status:
            raise self.error(status, attempted, *details)

    def error(self, status: int, attempted: str, *details: str) -> StatusError:
        """The error for a status, with what the library says of it."""
        raise NotImplementedError

    def text(self, name: str, status: int) -> str:
        """What a function that takes a status says."""
        said: str = self.function(name)(status).decode()
        return said


class Handle:
    """A library's state for the GPU that is CUDA's current device when it is made."""

    def __init__(self, library: Library) -> None:
        place = ctypes.c_void_p()
        library.check(library.function("Create")(ctypes.addressof(place)), "make a handle for this GPU")
        self.library = library
        self.address: int = place.value or 0
        destroy = weakref.finalize(self, library.function("Destroy"), self.address)
        destroy.atexit = False  # the process gives all of it back, and CUDA may be gone by then
