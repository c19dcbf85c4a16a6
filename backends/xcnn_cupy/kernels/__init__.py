"""The package's own CUDA kernels: their sources, and what a launch has to pass.

A kernel is a C++ template in one of the .cu files beside this one, compiled for the types that it is asked for. What
it takes is read from its signature there, so that the numbers of a launch are packed as the kernel will read them.
Sources include no header: what they share (float16.cuh, common.cuh, walk.cuh) is put before each.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

SHARED = ("float16.cuh", "common.cuh")
WALKING = ("channels", "groups")
"""Files that go through images channel by channel, and share walk.cuh."""
OPTIONS = ("--std=c++17",)
"""What NVRTC is told."""
NUMBERS = {
    "int": np.int32,
    "unsigned": np.uint32,
    "long long": np.int64,
    "float": np.float32,
    "double": np.float64,
}
"""C++'s numbers, and NumPy's of the same size."""
TYPES = {
    "float16": "float16",
    "bfloat16": "bfloat16",
    "float32": "float",
    "float64": "double",
    "uint8": "unsigned char",
    "uint32": "unsigned",
    "int32": "int",
    "int64": "long long",
}
"""The names of data types, and C++'s."""


@dataclass(frozen=True)
class Kernel:
    """One kernel for one choice of types, such as Kernel("pooling", "max_pool", "float32").

    Parameters
    ----------
    file
        the .cu file's name without its ending
    name
        the template's
    types
        its arguments: data types by name, "float32", or C++ as it stands
    """

    file: str
    name: str
    types: tuple[str, ...]

    def __init__(self, file: str, name: str, *types: Any) -> None:
        object.__setattr__(self, "file", file)
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "types", tuple(str(one) for one in types))

    @property
    def expression(self) -> str:
        """What C++ calls it: "max_pool<float>"."""
        written = ", ".join(TYPES.get(one, one) for one in self.types)
        return f"{self.name}<{written}>" if written else self.name

    def pack(self, arguments: Sequence[Any], pointer: Any) -> tuple[Any, ...]:
        """The arguments as the kernel reads them; `pointer(array)` gives an array's address.

        Raises
        ------
        TypeError
            where their count or kinds are not the kernel's: a fault of the caller.
        """
        wanted = parameters(self.file, self.name)
        if len(arguments) != len(wanted):
            raise TypeError(f"{self.expression} takes {len(wanted)} arguments {wanted}; got {len(arguments)}.")
        return tuple(
            packed(kind, argument, pointer, self.expression) for kind, argument in zip(wanted, arguments, strict=True)
        )


def packed(kind: str, argument: Any, pointer: Any, where: str) -> Any:
    """One argument: an address, a number of the parameter's type, or a structure as it is."""
    if kind == "*":
        return np.uint64(0 if argument is None else pointer(argument))
    if kind in NUMBERS:
        number: Any = NUMBERS[kind](argument)  # raises where an int is too large
        if kind not in ("float", "double") and number != argument:
            raise TypeError(f"{where}: {argument!r} is no {kind}.")
        return number
    if not (isinstance(argument, np.ndarray) and argument.dtype.names and argument.size == 1):
        raise TypeError(f"{where} takes a {kind}, as a NumPy array of one structure; got {argument!r}.")
    return argument


@cache
def text(name: str) -> str:
    """A file beside this one."""
    return files(__name__).joinpath(name).read_text(encoding="utf-8")


def parts(file: str) -> tuple[str, ...]:
    """The files that make the whole source of a .cu file."""
    return (*SHARED, *(("walk.cuh",) if file in WALKING else ()), f"{file}.cu")


def source(file: str) -> str:
    """The whole source of a .cu file."""
    return "\n".join(text(name) for name in parts(file))


@cache
def parameters(file: str, name: str) -> tuple[str, ...]:
    """The kinds of a kernel's parameters: "*" for pointers, else the type as it is written."""
    code = re.sub(r"//[^\n]*", "", text(f"{file}.cu"))
    found = re.search(rf"__global__\s+void\s+(?:__launch_bounds__\(\d+\)\s+)?{name}\s*\(([^)]*)\)", code)
    if not found:
        raise LookupError(f"{file}.cu has no kernel {name}.")
    return tuple(_kind(" ".join(one.split())) for one in found[1].split(","))


def _kind(parameter: str) -> str:
    if "*" in parameter:
        return "*"
    return parameter.removeprefix("const ").rpartition(" ")[0]
