"""Convolution, bias and activation in one plan of cuDNN's, and their gradients in three launches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xcnn.core.types import Array, Weights
from xcnn.core.windows import output_size
from xcnn.layers import Conv2D
from xcnn.layers.layer import Layer, Run
from xcnn.training.precision import within
from xcnn_cupy.cudnn.question import CHOICES
from xcnn_cupy.epilogue import activate, activation_backward
from xcnn_cupy.fused.common import computes_in, fits, fuse_with_activation, gives, like
from xcnn_cupy.layout import converted

if TYPE_CHECKING:
    from xcnn_strided.fusion import FusedBackward

    from xcnn_cupy.host import Host


@dataclass(frozen=True)
class Convolution:
    """Y = f(B + X * K), as far as there are a bias and an activation f."""

    backend: Host
    name: str
    outer: Layer
    """The Conv2D, or a Cast around it."""
    activation: str | None
    end: Layer
    """The last layer of the run."""

    @property
    def layer(self) -> Conv2D:
        """The Conv2D itself."""
        return within(self.outer)  # type: ignore[return-value]

    def fits(self, weights: Weights, x: Array) -> bool:
        mine, layer = weights[self.name], self.layer
        kernel = mine["kernel"]
        if not fits(self.backend, self.outer, x, mine) or x.ndim != 4:
            return False
        if x.shape[1] != kernel.shape[1] * layer.groups:
            return False
        how = self.how(x)
        output = output_size(x.shape[2:], kernel.shape[2:], how["stride"], how["padding"], how["dilation"])
        if min(output) < 1 or (layer.bias == "untied" and mine["bias"].shape[1:] != output):
            return False
        dtype = computes_in(self.outer, kernel.dtype)
        return self.backend.convolutions.answers_all(x.shape, kernel.shape, dtype, how)

    def how(self, x: Array) -> dict[str, Any]:
        """Stride, padding, dilation and groups."""
        return {**self.layer.window(x.shape[2:]), "groups": self.layer.groups}

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, FusedBackward]:
        mine, how, device = weights[self.name], self.how(x), self.backend.gpu
        convolutions, dtype = self.backend.convolutions, computes_in(self.outer, mine["kernel"].dtype)
        last = convolutions.channels_last(dtype)
        x, kernel = (converted(device, array, dtype, last) for array in (x, mine["kernel"]))
        bias, x_shape = mine.get("bias"), x.shape
        y = self.forward(x, kernel, bias, how)
        kinds = {True: "tied", False: None, "untied": "untied"}

        def backward(dy: Array, grads: Weights) -> Array:
            dz = converted(device, dy, dtype, last)
            dz, dbias = activation_backward(device, dz, y, self.activation, kinds[self.layer.bias])
            dkernel = convolutions.correlate_kernel_adjoint(x, dz, kernel.shape, **how)
            grads[self.name] = {"kernel": like(device, dkernel, mine["kernel"])}
            if bias is not None:
                grads[self.name]["bias"] = like(device, dbias, bias)
            return convolutions.correlate_input_adjoint(dz, kernel, x_shape, **how) if run.wants_dx else None

        return converted(device, y, gives(self.end, dtype), last), backward

    def forward(self, x: Array, kernel: Array, bias: Array | None, how: dict[str, Any]) -> Array:
        """In one plan, where cuDNN has one that ends in this bias and activation; else with a launch for them."""
        device, convolutions = self.backend.gpu, self.backend.convolutions
        tied = bias is not None and bias.ndim == 1
        if (
            (tied or bias is None)
            and self.activation in CHOICES["activation"]
            and device.has_plan(
                convolutions.question("forward", x.shape, kernel.shape, x.dtype, how, tied, self.activation)
            )
        ):
            bias = None if bias is None else converted(device, bias, x.dtype, False)
            return convolutions.forward(x, kernel, how, bias, self.activation)
        y = convolutions.forward(x, kernel, how)
        activate(device, y, bias, self.activation)
        return y


fuse = fuse_with_activation(Conv2D, Convolution, lambda backend: backend.asks_cudnn)
"""Conv2D, and the activation after it."""
