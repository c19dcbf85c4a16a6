"""What a fused run asks of the backend that it runs on."""

from __future__ import annotations

from typing import Protocol

from xcnn_strided import Algorithm
from xcnn_strided.fusion import Fuse

from xcnn.core.types import Pads, Pair, Shape


class Host(Protocol):
    """The algorithm, and the threads that share work."""

    @property
    def algorithm(self) -> str:
        """The one that was asked for."""
        ...

    @property
    def native(self) -> Algorithm | None:
        """The algorithm `native` on these threads; None without the compiled library."""
        ...

    @property
    def workers(self) -> int:
        """How many threads share work."""
        ...

    def fuses(self) -> tuple[Fuse, ...]:
        """What knows runs of layers to fuse."""
        ...

    def chosen(
        self, x_shape: Shape, k_shape: Shape, stride: Pair, padding: Pads, dilation: Pair, groups: int
    ) -> Algorithm:
        """The algorithm for these shapes."""
        ...
