"""What fused runs and captured steps ask of the backend that they run on."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

from xcnn.core.primitives import HostPort

if TYPE_CHECKING:
    from xcnn.core.types import Array
    from xcnn_cupy.convolutions import Convolutions
    from xcnn_cupy.device import Device
    from xcnn_cupy.gemm import CudaGemm
    from xcnn_cupy.rows import Rows


class Host(HostPort, Protocol):
    """A GPU, and what convolutions and products are computed by."""

    @property
    def algorithm(self) -> str:
        """The one that was asked for."""
        ...

    @property
    def compiles(self) -> bool:
        """Whether training steps are captured as CUDA graphs."""
        ...

    @property
    def tf32(self) -> bool:
        """Whether products of float32 numbers may be rounded to TF32's 10 bits."""
        ...

    @property
    def gpu(self) -> Device:
        """What everything runs on."""
        ...

    @property
    def asks_cudnn(self) -> bool:
        """Whether runs of layers are given to cuDNN."""
        ...

    @property
    def convolutions(self) -> Convolutions:
        """CuDNN's."""
        ...

    @property
    def products(self) -> CudaGemm:
        """Convolutions as products of matrices."""
        ...

    @property
    def rows(self) -> Rows:
        """The products of dense layers."""
        ...

    def holds(self, x: Array) -> bool:
        """Whether x is an array of this device's."""
        ...

    def recording(self, one: Any) -> AbstractContextManager[None]:
        """Let this recording take what steps tell, within a `with` block."""
        ...
