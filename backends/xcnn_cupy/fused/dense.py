"""Dense layers, their bias and activation: three products, and a launch or two for what is around them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from xcnn.core.types import Array, Weights
from xcnn.layers import Dense
from xcnn.layers.layer import Layer, Run
from xcnn_cupy.epilogue import activate, activation_backward
from xcnn_cupy.fused.common import computes_in, fits, fuse_with_activation, gives, like
from xcnn_cupy.layout import converted

if TYPE_CHECKING:
    from xcnn_strided.fusion import FusedBackward

    from xcnn_cupy.host import Host


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
        return self.backend.rows.answers(x.shape[0], kernel.shape, computes_in(self.outer, kernel.dtype))

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, FusedBackward]:
        mine, device, rows = weights[self.name], self.backend.gpu, self.backend.rows
        dtype = computes_in(self.outer, mine["kernel"].dtype)
        x, kernel = (converted(device, array, dtype, False) for array in (x, mine["kernel"]))
        bias, y = mine.get("bias"), rows.forward(x, kernel)
        activate(device, y, bias, self.activation)

        def backward(dy: Array, grads: Weights) -> Array:
            wants_bias = None if bias is None else "tied"
            dz, dbias = activation_backward(device, converted(device, dy, dtype, False), y, self.activation, wants_bias)
            grads[self.name] = {"kernel": like(device, rows.kernel_adjoint(x, dz), mine["kernel"])}
            if bias is not None:
                grads[self.name]["bias"] = like(device, dbias, bias)
            return rows.input_adjoint(dz, kernel) if run.wants_dx else None

        return converted(device, y, gives(self.end, dtype), False), backward


fuse = fuse_with_activation(Dense, FusedDense, lambda backend: backend.algorithm != "literal")
"""Dense, and the activation after it."""
