"""The strict backend: only what the standard promises, on a device that mixes with no other.

Data-dependent shapes and boolean indexing are off while it is active, so is every function outside the standard, and
an array of another device, a host array above all, is refused. Every primitive is the reference's.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from copy import copy
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, ClassVar

import array_api_compat
import array_api_strict
import numpy as np
from xcnn_host.shown import shown

from xcnn.backends.contract import Backend
from xcnn.core import blas, memory, process
from xcnn.core.arrays import unmasked
from xcnn.core.types import Array
from xcnn.errors import BackendUnavailable, DTypeError


class Strictly:
    """A block in which what depends on data is off. array-api-strict's flags are the whole process's."""

    def __enter__(self) -> None:
        self.computing = blas.free()
        self.computing.__enter__()
        self.flags = FLAGS(OFF)
        self.flags.__enter__()

    def __exit__(self, *error: object) -> None:
        self.flags.__exit__(*error)
        self.computing.__exit__(None, None, None)


def set_flags(values: Any) -> None:
    """Set array-api-strict's flags of these names."""
    array_api_strict.set_array_api_strict_flags(**dict(values))


FLAGS = process.Held(array_api_strict.get_array_api_strict_flags, set_flags, set_flags, "array-api-strict's strictness")
OFF = (("boolean_indexing", False), ("data_dependent_shapes", False))


@dataclass(frozen=True, repr=False)
class StrictBackend(Backend):
    """Arrays of array-api-strict, on its "device1" unless another is named."""

    name: ClassVar[str] = "strict"
    library: ClassVar[str] = "array_api_strict"
    first_device: ClassVar[str] = "device1"

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            array_api_strict.Device(self.device_name())
        except ValueError as error:
            raise BackendUnavailable("X302", f"array-api-strict has no device {self.device!r}.") from error

    @classmethod
    def of(cls, x: Array) -> Backend:
        return cls(str(x.device).split("'")[1])

    @property
    def xp(self) -> Any:
        return array_api_strict

    def metered(self) -> AbstractContextManager[memory.Meter] | None:
        return memory.metered()

    def free_memory(self) -> int | None:
        return memory.free()

    def active(self) -> AbstractContextManager[object]:
        return Strictly()

    def asarray(self, x: Any, dtype: str | None = None) -> Array:
        if isinstance(x, type(array_api_strict.empty(0))):
            x = self.to_numpy(x)
        elif array_api_compat.is_array_api_obj(x) and not array_api_compat.is_numpy_array(x):
            raise DTypeError(
                "X103", f"a {type(x).__name__} is no host array.", hint="other.to_numpy(x) brings it to the host."
            )
        return array_api_strict.asarray(
            np.asarray(unmasked(x), dtype=dtype), device=array_api_strict.Device(self.device_name())
        )

    def shown(self, x: Array, path: str) -> Array:
        if type(getattr(x, "_array", None)) is not np.ndarray:
            return x
        view = copy(x)
        view._array = shown(x._array, path)
        return view

    def from_other(self, x: Array, source: Backend) -> Array:
        """A copy: this device stands for one that no other library reaches."""
        return self.asarray(source.to_numpy(x))

    def to_numpy(self, x: Array) -> np.ndarray[Any, Any]:
        return np.asarray(x.to_device(array_api_strict.Device("CPU_DEVICE")))

    def versions(self) -> dict[str, str]:
        return {"array-api-strict": version("array-api-strict")}
