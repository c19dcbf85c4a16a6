"""The mean of each image, in one launch each way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from xcnn.core.types import Array, Weights
from xcnn.layers import GlobalAveragePool2D
from xcnn.layers.layer import Layer, Run
from xcnn_cupy.device import is_channels_last
from xcnn_cupy.fused.common import fits, fuse_alone, gives
from xcnn_cupy.layout import converted
from xcnn_cupy.pooling import image_mean, image_mean_adjoint

if TYPE_CHECKING:
    from xcnn_strided.fusion import FusedBackward

    from xcnn_cupy.host import Host


@dataclass(frozen=True)
class Average:
    """Y = the mean of X over height and width; it is summed in float32, whatever the type of x."""

    backend: Host
    name: str
    outer: Layer
    """The GlobalAveragePool2D, or a Cast around it."""

    def fits(self, weights: Weights, x: Array) -> bool:
        return fits(self.backend, self.outer, x, {}) and x.ndim == 4

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, FusedBackward]:
        device, x_shape, x_type, last = self.backend.gpu, x.shape, x.dtype, is_channels_last(x)
        y = image_mean(device, x)

        def backward(dy: Array, grads: Weights) -> Array:
            return image_mean_adjoint(device, converted(device, dy, x_type, False), x_shape, last)

        return converted(device, y, gives(self.outer, str(x_type)), False), backward


fuse = fuse_alone(GlobalAveragePool2D, Average)
"""GlobalAveragePool2D by itself."""
