"""What fused runs, captured and recorded steps ask of the backend that they run on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import torch

from xcnn.core.primitives import HostPort

if TYPE_CHECKING:
    from xcnn.core.random import Key
    from xcnn.core.types import Array, Shape


class Host(HostPort, Protocol):
    """A device of PyTorch's, and how steps run there."""

    @property
    def compiles(self) -> bool:
        """Whether steps are captured or written down."""
        ...

    @property
    def tf32(self) -> bool:
        """Whether products of float32 numbers may be rounded to TF32's 10 bits."""
        ...

    @property
    def place(self) -> torch.device:
        """PyTorch's own object for the device."""
        ...

    def kept(self, key: Key, shape: Shape, rate: float, dtype: Any) -> Array:
        """Dropout's mask."""
        ...
