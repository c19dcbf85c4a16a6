"""array-api-strict on its second device: the rehearsal of every array library that xcnn has not met.

Data-dependent shapes and boolean indexing are off, so is every function outside the standard, and an array of another
device, a host array above all, is refused. Every primitive is the reference's.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, ClassVar

import array_api_strict
import numpy as np

from xcnn._typing import Array
from xcnn.backends import Backend

__all__ = ["StrictBackend"]

array_api_strict.set_array_api_strict_flags(boolean_indexing=False, data_dependent_shapes=False)


@dataclass(frozen=True, repr=False)
class StrictBackend(Backend):
    """Array-api-strict arrays, by default on "device1", which mixes with no other."""

    device: str | None = None

    name: ClassVar[str] = "strict"
    library: ClassVar[str] = "array_api_strict"

    @property
    def xp(self) -> Any:
        return array_api_strict

    def asarray(self, x: Any, dtype: str | None = None) -> Array:
        if isinstance(x, array_api_strict._array_object.Array):
            x = self.to_numpy(x)
        return array_api_strict.asarray(np.asarray(x, dtype=dtype), device=array_api_strict.Device(self.device_name()))

    def to_numpy(self, x: Array) -> np.ndarray[Any, Any]:
        return np.asarray(x.to_device(array_api_strict.Device("CPU_DEVICE")))

    def versions(self) -> dict[str, str]:
        return {"array-api-strict": version("array-api-strict")}

    def device_name(self) -> str:
        return self.device or "device1"
