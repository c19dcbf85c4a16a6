"""What a compiled step asks of the backend that it runs on."""

from __future__ import annotations

from typing import Protocol

from xcnn.core.primitives import HostPort


class Host(HostPort, Protocol):
    """A device of JAX's, and whether steps are compiled for it."""

    @property
    def compiles(self) -> bool:
        """Whether XLA compiles training steps as a whole."""
        ...

    @property
    def on_processor(self) -> bool:
        """Whether that is the host's processor."""
        ...

    def free_memory(self) -> int | None:
        """Bytes that the device has left, where JAX tells."""
        ...
