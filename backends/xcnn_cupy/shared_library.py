"""Libraries of NVIDIA's, opened through ctypes: where the wheels have them, and what their functions take."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

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


def typed(functions: ctypes.CDLL, signatures: Mapping[str, tuple[Any, tuple[Any, ...]]]) -> ctypes.CDLL:
    """The library, its functions told what they take and return."""
    for name, (result, arguments) in signatures.items():
        function = getattr(functions, name)
        function.restype, function.argtypes = result, arguments
    return functions
