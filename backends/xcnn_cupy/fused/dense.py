"""Dense layers as convolutions of images of one cell: cuDNN's plans, which a CUDA graph can hold, without a transpose.

W (features, units) as it lies in memory is a bank of `features` filters over `units` channels. A convolution with it
takes (N, units) to (N, features): that is dY Wᵀ. Its input's adjoint is X W, and its kernel's Xᵀ dY.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xcnn.core.types import Array, Weights
from xcnn.layers import Dense
from xcnn.layers.layer import Layer, Run
from xcnn_cupy.epilogue import activate, activation_backward
from xcnn_cupy.fused.common import computes_in, fits, fuse_with_activation, gives, like
from xcnn_cupy.layout import converted

if TYPE_CHECKING:
    from xcnn_strided.fusion import FusedBackward

    from xcnn_cupy.host import Host

ONE_CELL: dict[str, Any] = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}


@dataclass(frozen=True)
class FusedDense:
    """Y = f(X W + B), as far as there are a bias and an activation f."""

    backend: Host
    name: str
    outer: Layer
    """The Dense, or a Cast around it."""
    activation: str | None
    end: Layer
    """The last layer of the run."""

    def fits(self, weights: Weights, x: Array) -> bool:
        mine = weights[self.name]
        kernel = mine["kernel"]
        if not fits(self.backend, self.outer, x, mine) or x.ndim != 2 or x.shape[1] != kernel.shape[0]:
            return False
        images, dtype = image(x.shape[0], kernel.shape[1]), computes_in(self.outer, kernel.dtype)
        return self.backend.convolutions.answers_all(images, cells(kernel).shape, dtype, ONE_CELL)

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, FusedBackward]:
        mine, device, convolutions = weights[self.name], self.backend.gpu, self.backend.convolutions
        dtype = computes_in(self.outer, mine["kernel"].dtype)
        x, kernel = (converted(device, array, dtype, False) for array in (x, mine["kernel"]))
        (features, units), bias, count = kernel.shape, mine.get("bias"), x.shape[0]
        product = convolutions.correlate_input_adjoint(cells(x), cells(kernel), image(count, units), **ONE_CELL)
        y = product.reshape(count, units)
        activate(device, y, bias, self.activation)

        def backward(dy: Array, grads: Weights) -> Array:
            wants_bias = None if bias is None else "tied"
            dz, dbias = activation_backward(device, converted(device, dy, dtype, False), y, self.activation, wants_bias)
            dkernel = convolutions.correlate_kernel_adjoint(cells(dz), cells(x), (features, units, 1, 1), **ONE_CELL)
            grads[self.name] = {"kernel": like(device, dkernel.reshape(features, units), mine["kernel"])}
            if bias is not None:
                grads[self.name]["bias"] = like(device, dbias, bias)
            if not run.wants_dx:
                return None
            return convolutions.correlate(cells(dz), cells(kernel), **ONE_CELL).reshape(count, features)

        return converted(device, y, gives(self.end, dtype), False), backward


def cells(x: Array) -> Array:
    """(N, features) as images of one cell."""
    return x.reshape(*x.shape, 1, 1)


def image(count: int, features: int) -> tuple[int, int, int, int]:
    """The shape of such images."""
    return count, features, 1, 1


fuse = fuse_with_activation(Dense, FusedDense)
"""Dense, and the activation after it."""
