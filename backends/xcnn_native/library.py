"""The compiled library: loaded once, with the kernels for the best instruction set that the processor has.

`XCNN_NATIVE` in the environment overrides that: `0` computes without the library, `v2`, `v3` and `v4` name a set.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import sys
from functools import cache
from pathlib import Path
from threading import get_ident
from typing import Any, Protocol

import numpy as np

from xcnn.core.types import Array

log = logging.getLogger("xcnn")
PATH = Path(__file__).with_name("libkernels.so")
SWITCH = "XCNN_NATIVE"
SETS = {2: ("v2",), 3: ("v3", "v2"), 4: ("v4", "v3", "v2"), 8: ("neon",)}
"""By what the library tells of the processor: the instruction sets that it has, the best first."""
NAMES = {"v2": "SSE4.2", "v3": "AVX2", "v4": "AVX-512", "neon": "NEON"}
KINDS: dict[str, str] = {np.dtype(np.float32).char: "f32", np.dtype(np.float64).char: "f64"}
"""The library's names of types."""
Address, Index, Count, Word = ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int, ctypes.c_uint32
FLOATS = ("f32", "f64")
SIGNATURES: dict[str, tuple[tuple[str, ...], Any, tuple[Any, ...]]] = {
    "update": (FLOATS, None, (Count, Address, Index, Address, Address, Count)),
    "sum_of_squares": (FLOATS, ctypes.c_double, (Index, Address)),
    "prepare": (FLOATS, Index, (Address, Index, Count, Count)),
    "pack": (FLOATS, None, (Address, Index, Address, Address, Count)),
    "correlate": (FLOATS, None, (Address, Index, Address, Address, Address, Address, Address, Index, Count)),
    "prepare_gradient": (FLOATS, Index, (Address, Index)),
    "kernel_gradient": (FLOATS, None, (Address, Index, Address, Address, Address, Address, Address, Count)),
    "add_rows": (FLOATS, None, (Index, Index, Address, Address, Count)),
    "add_planes": (FLOATS, None, (Index, Index, Index, Address, Address, Count)),
    "times_rows": (FLOATS, None, (Index, Index, Index, Address, Address, Address, Count)),
    "cross_entropy": (FLOATS, ctypes.c_double, (Index, Index, *4 * (Address,), Count)),
    "cross_entropy_planes": (FLOATS, ctypes.c_double, (*3 * (Index,), *4 * (Address,), Count)),
    "binary_cross_entropy": (
        FLOATS,
        ctypes.c_double,
        (Index, Index, *2 * (Address,), ctypes.c_double, *2 * (Address,), Count),
    ),
    "random_bits": (("u32",), None, (Word, Word, Index, Address, Count)),
    "operations": (("f32",), ctypes.c_char_p, ()),
    "formulas": (FLOATS, ctypes.c_char_p, ()),
    "pass": (FLOATS, None, (Address, Address, Index, Index, Index, Count, Count)),
    "moments": (FLOATS, Count, (Address, *4 * (Index,), Count, Address, Address, Count)),
    "normal": (FLOATS, None, (*3 * (Index,), ctypes.c_double, *8 * (Address,))),
    "moved": (FLOATS, None, (Index, *4 * (ctypes.c_double,), *8 * (Address,))),
    "sums": (FLOATS, Count, (*5 * (Address,), *3 * (Index,), Count, Count, Address, Count)),
    **{
        f"{name}_pool{back}": (FLOATS, Count, (Address, Address, Address, Address, Count))
        for name in ("max", "sum")
        for back in ("", "_adjoint")
    },
    "layer_norm": (FLOATS, None, (Address, Index, Index, ctypes.c_double, *5 * (Address,), Count)),
    "layer_norm_back": (FLOATS, Count, (Address, Address, Index, Index, *6 * (Address,), Count)),
    "keep": (("u32",), None, (*3 * (Word,), *5 * (Index,), Address, Count)),
    "masked": (FLOATS, None, (Index, ctypes.c_double, Address, Address, Address, Count)),
    "normal_slopes": (FLOATS, None, (*4 * (Index,), *10 * (Address,))),
    "whole_moments": (FLOATS, None, (Index, Index, *3 * (Address,))),
    "whole_slopes": (FLOATS, None, (Index, ctypes.c_double, *6 * (Address,))),
    "copy": (FLOATS, None, (*3 * (Address,), Count)),
    "resample": (FLOATS, None, (*3 * (Address,), Count)),
    "recordable": (("f32",), ctypes.c_char_p, ()),
    "replay": (FLOATS, Index, (Address, Index, Address)),
}
"""The kernels by name: for which types there is one, what it gives, and what it takes."""


class Listener(Protocol):
    """Who is told of a thread's calls, before they are made."""

    def note(self, name: str, kind: str, arguments: tuple[Any, ...]) -> None:
        """A kernel, the type that it is for, and what it is given."""
        ...


listeners: dict[int, Listener | None] = {}
"""By the numbers of threads."""


class Kernel:
    """A function of the library, whose calls can be listened to."""

    __slots__ = ("function", "kind", "name")

    def __init__(self, function: Any, name: str, kind: str) -> None:
        self.function, self.name, self.kind = function, name, kind

    def __call__(self, *arguments: Any) -> Any:
        if listeners and (listener := listeners.get(get_ident())):
            listener.note(self.name, self.kind, arguments)
        return self.function(*arguments)


class Held(int):
    """The address of a description that a kernel reads, and who keeps that alive."""

    owner: object

    def __new__(cls, address: int, owner: object) -> Held:
        made = super().__new__(cls, address)
        made.owner = owner
        return made


class Library:
    """The functions of one instruction set, by names such as `update_f32`."""

    def __init__(self, loaded: ctypes.CDLL, instructions: str) -> None:
        self.instructions = instructions
        for name, (kinds, gives, takes) in SIGNATURES.items():
            for kind in kinds:
                function = getattr(loaded, f"{name}_{kind}_{instructions}")
                function.restype, function.argtypes = gives, takes
                setattr(self, f"{name}_{kind}", Kernel(function, name, kind) if takes else function)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the library has no kernel {name}")


@cache
def library() -> Library | None:
    """The library; None where it was not built, is switched off, or can't be used here."""
    wish = os.environ.get(SWITCH, "")
    if wish == "0" or not PATH.is_file():
        return None
    try:
        loaded = ctypes.CDLL(str(PATH))
        loaded.sources.restype = ctypes.c_char_p
        if loaded.sources().decode() != digest(PATH.with_name("kernels")):
            log.warning("xcnn's compiled library is of other sources than these, and is not used: install xcnn again.")
            return None
        able = SETS.get(loaded.instruction_set(), ())
        if not able or (wish and wish not in able):
            log.warning("%s=%s: this processor has %s.", SWITCH, wish or "unset", ", ".join(able) or "none of the sets")
            return None
        made = Library(loaded, wish or able[0])
    except (OSError, AttributeError) as error:
        log.warning("xcnn's compiled library can't be used, and training takes longer: %s", error)
        return None
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=loaded.team_forget)
    return made


def digest(folder: Path) -> str:
    """Of all sources, as hatch_build.py compiles it in: functions of others may take other arguments."""
    files = sorted(path for path in folder.iterdir() if path.suffix in (".c", ".h"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def versions() -> dict[str, str]:
    """What `xcnn backends` tells of the library: its instruction set."""
    found = library()
    return {"kernels": NAMES[found.instructions] if found else "none"}


def told(array: Array) -> int:
    """Where an array's first cell lies, as the array itself tells."""
    return int(array.__array_interface__["data"][0])


def looked_up(array: Array) -> int:
    """The same, an eighth of the time: NumPy's arrays hold it behind the head that all objects have."""
    return POINTER(id(array) + HEAD).value


HEAD, POINTER = object.__basicsize__, ctypes.c_size_t.from_address
PROBE = np.empty(1)
address = looked_up if sys.implementation.name == "cpython" and looked_up(PROBE) == told(PROBE) else told


def kernel(name: str, dtype: Any) -> Any:
    """The kernel for this type."""
    return getattr(library(), f"{name}_{KINDS[dtype.char]}")


def call(name: str, dtype: Any, *arguments: Any) -> None:
    """Call the kernel for this type, arrays as the addresses of their first cells; those that find no memory give 0."""
    function = kernel(name, dtype)
    if function(*[address(a) if type(a) is np.ndarray else a for a in arguments]) == 0:
        raise MemoryError(f"there is no memory for the lines that {name} needs.")
