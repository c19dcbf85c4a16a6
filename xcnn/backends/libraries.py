"""Backends of array libraries that no plug-in is for: by the library's name, every primitive being the reference's.

A library serves if array-api-compat knows it, or if its arrays have `__array_namespace__`, and if its namespace has
what xcnn calls. That is tried once, on a few cells, so that what it lacks is said before anything is trained.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from threading import Lock
from typing import Any, ClassVar, TypeAlias

import numpy as np
from array_api_compat import array_namespace, device, is_array_api_obj, is_numpy_array, to_device

from xcnn.backends.contract import Backend
from xcnn.core import random, reference
from xcnn.core.arrays import unmasked
from xcnn.core.types import Array
from xcnn.errors import BackendError, BackendUnavailable, DTypeError, told_by
from xcnn.training.optimizers import global_norm

HostArray: TypeAlias = np.ndarray[Any, Any]

FUNCTIONS = (
    *("abs", "all", "any", "arange", "argmax", "asarray", "astype", "broadcast_to", "concat", "exp"),
    *(
        "expand_dims",
        "expm1",
        "finfo",
        "flip",
        "floor",
        "full",
        "isdtype",
        "isfinite",
        "log",
        "log1p",
        "logical_not",
        "logical_or",
        "matrix_transpose",
        "max",
    ),
    *("maximum", "mean", "minimum", "permute_dims", "reshape", "round", "sqrt", "squeeze", "stack", "sum"),
    *("tanh", "where", "zeros", "zeros_like"),
)
"""What xcnn calls of a namespace, beside operators, indices and slices: no extension of the standard is needed."""


@dataclass(frozen=True, repr=False)
class LibraryBackend(Backend):
    """Arrays of one library on one device, as the standard has them. `library_backend` makes its subclasses."""

    package: ClassVar[str] = ""
    """The module that is asked for arrays."""

    def __post_init__(self) -> None:
        super().__post_init__()
        missing = lacking(self)
        if missing:
            raise BackendUnavailable(
                "X302",
                f"{self.name} lacks what xcnn's layers call: {'; '.join(missing)}.",
                hint="bring its arrays to NumPy, or give it a backend of its own (examples/own_backend.py).",
            )

    def __reduce__(self) -> Any:
        return _again, (self.name, {f.name: getattr(self, f.name) for f in fields(self)})

    @property
    def xp(self) -> Any:
        return namespace_of(self.package)

    @classmethod
    def of(cls, x: Array) -> Backend:
        where = str(device(x))
        return cls(None if where == str(device(array_of(cls.package))) else where)

    def asarray(self, x: Any, dtype: str | None = None) -> Array:
        if is_array_api_obj(x) and not is_numpy_array(x):
            if type(x).__module__.partition(".")[0] != self.library:
                raise DTypeError(
                    "X103", f"a {type(x).__name__} is no host array.", hint="other.to_numpy(x) brings it to the host."
                )
            x = x if dtype is None else self.astype(x, dtype)
            return x if self.device is None else to_device(x, self.place)
        made = self.xp.asarray(np.asarray(unmasked(x), dtype=dtype))
        return made if self.device is None else to_device(made, self.place)

    def to_numpy(self, x: Array) -> HostArray:
        return on_host(x)

    @property
    def place(self) -> Any:
        """The library's own object for `device`.

        Raises
        ------
        BackendUnavailable
            X302, where the library names no such device.
        """
        known = {str(one): one for one in self.xp.__array_namespace_info__().devices()}
        if self.device not in known:
            raise BackendUnavailable(
                "X302", f"{self.name} names no device {self.device!r}.", hint=f"it has {', '.join(known)}."
            )
        return known[self.device]

    def versions(self) -> dict[str, str]:
        try:
            return {self.library: version(self.library)}
        except PackageNotFoundError:
            return {self.library: str(getattr(import_module(self.library), "__version__", "unknown"))}


@cache
def library_backend(name: str) -> type[LibraryBackend]:
    """The backend of an array library by the name of its module: "dask.array", "jax.numpy", "array_api_strict".

    Raises
    ------
    BackendError
        X303, when there is no such module, or it has no arrays.
    BackendUnavailable
        X302, when it can't be imported.
    """
    try:
        array = array_of(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise BackendUnavailable("X302", f"it can't be imported: {told_by(error)}") from error
        raise BackendError("X303", f'there is no backend "{name}".') from error
    except AttributeError as error:
        raise BackendError(
            "X303", f'there is no backend "{name}": the module of that name makes no arrays.', hint=_deeper(name)
        ) from error
    except (Exception, SystemExit) as error:
        raise BackendUnavailable("X302", f"it can't be imported: {told_by(error)}") from error
    if isinstance(array, np.ndarray) and type(array) is not np.ndarray and name.startswith("numpy."):
        raise BackendError(
            "X303",
            f'there is no backend "{name}": it makes {type(array).__name__}, a NumPy array with other operations.',
            hint='use backend "numpy".',
        )
    known = {"name": name, "library": type(array).__module__.partition(".")[0], "package": name}
    try:
        namespace_of(name)
        known["first_device"] = str(device(array))
    except Exception as error:
        raise BackendUnavailable(
            "X302",
            f"its arrays do not follow the array API standard: {told_by(error)}",
            hint="bring its arrays to NumPy, or give it a backend of its own (examples/own_backend.py).",
        ) from error
    return dataclass(frozen=True, repr=False)(type("LibraryBackend", (LibraryBackend,), known))


def _deeper(name: str) -> str:
    """A hint where the arrays are in a module within: dask's in dask.array."""
    for inner in ("array", "numpy"):
        try:
            array_of(f"{name}.{inner}")
        except Exception:
            continue
        return f'its arrays are in "{name}.{inner}".'
    return ""


def _again(name: str, options: dict[str, Any]) -> LibraryBackend:
    return library_backend(name)(**options)


def array_of(package: str) -> Array:
    """A small array of a library."""
    return import_module(package).asarray(np.zeros(1, dtype="float32"))


@cache
def namespace_of(package: str) -> Any:
    """The array API namespace of a library's arrays."""
    return array_namespace(array_of(package))


def on_host(x: Array) -> HostArray:
    """An array of any library as a NumPy array: by its buffer, its own `__array__`, or DLPack."""
    if hasattr(x, "todense"):  # an array of pydata/sparse refuses to be made dense by the way
        x = x.todense()
    try:
        return np.asarray(x)
    except (TypeError, ValueError, RuntimeError):
        return np.from_dlpack(to_device(x, "cpu"))


# What a library lacks.


def lacking(backend: LibraryBackend) -> list[str]:
    """What a library can't do of that which xcnn asks, in a few words each; nothing where it serves."""
    return list(_lacking(backend.package))


@cache
def _lacking(package: str) -> tuple[str, ...]:
    xp = namespace_of(package)
    absent = [name for name in FUNCTIONS if not hasattr(xp, name)]
    if absent:
        return (f"the functions {', '.join(absent)}",)
    with _quiet, warnings.catch_warnings(action="ignore"):
        try:
            long = "64" in str(xp.arange(2, dtype=xp.int64).dtype)
        except Exception as error:
            return (f"whole numbers of 64 bits ({told_by(error)})",)
        if not long:
            return ("whole numbers of 64 bits",)
        return tuple(_failing(xp, array_of(package)))


_quiet = Lock()
"""Warnings' filters are the process's: where such blocks overlap, the last to end leaves those of another."""


def _failing(xp: Any, like: Array) -> Iterator[str]:
    """Which of the primitives, and of what layers and losses do, this library gets wrong on a few cells."""
    for what, work in WORKS.items():
        expected = work(namespace_of("numpy"), HOST)
        try:
            met = on_host(work(xp, xp.astype(xp.asarray(HOST), like.dtype)))
        except Exception as error:
            yield f"{what} ({told_by(error)})"
            continue
        if met.shape != expected.shape or not np.allclose(met, expected, rtol=1e-4, atol=1e-4):
            yield f"{what} (it gives wrong numbers)"


HOST = np.asarray(np.arange(32) % 7 - 2, dtype="float32").reshape(1, 2, 4, 4)
PADS = ((1, 1), (1, 1))
WORKS: dict[str, Callable[[Any, Array], Array]] = {
    "indexing and concatenation": lambda xp, x: xp.concat([x[:, :, 1::2, ::2], xp.flip(x, axis=(2, 3))[:, :, :2, :2]]),
    "products of matrices": lambda xp, x: x @ xp.matrix_transpose(x),
    "comparisons and types": lambda xp, x: xp.where(x > 0, xp.astype(xp.astype(x, xp.int64) & 3, x.dtype), -x),
    "sums and largest cells": lambda xp, x: xp.sum(x, axis=(2, 3)) + xp.max(x, axis=(2, 3)),
    "the place of the largest cell": lambda xp, x: xp.argmax(xp.reshape(x, (4, 8)), axis=1),
    "norms": lambda xp, x: global_norm({"x": x}),
    "correlation": lambda xp, x: reference.correlate(x, x[:, :, :3, :2], padding=PADS),
    "the adjoints of correlation": lambda xp, x: reference.correlate_input_adjoint(
        x[:, :1, :2, :2], x[:, :, :3, :2], (1, 2, 5, 4), stride=(2, 2)
    ),
    "pooling": lambda xp, x: reference.max_pool(x, (2, 2), stride=(2, 2), padding=PADS)[0],
    "random bits": lambda xp, x: xp.astype(random.bits(xp, device(x), (1, 2), (5,)), xp.float64),
}


__all__ = ["LibraryBackend", "library_backend"]
