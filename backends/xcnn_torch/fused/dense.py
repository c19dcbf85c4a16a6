"""A fully connected layer and the activation after it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from xcnn.core.types import Array, Weights
from xcnn.layers import Dense
from xcnn.layers.layer import Layer, Run
from xcnn.training.precision import within
from xcnn_torch.fused.common import IN_PLACE, activation_after, computes_in, gives, holds, slope
from xcnn_torch.memory import typed

if TYPE_CHECKING:
    from xcnn_strided.fusion import FusedBackward, Named

    from xcnn_torch.host import Host


@dataclass(frozen=True)
class FusedDense:
    """Y = f(X W + B)."""

    name: str
    outer: Layer
    """The Dense, or a Cast around it."""
    activation: type | None
    end: Layer

    def fits(self, weights: Weights, x: Array) -> bool:
        mine = weights[self.name]
        return holds(self.outer, x, mine) and x.ndim == 2 and x.shape[1] == mine["kernel"].shape[0]

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, FusedBackward]:
        mine, x_type = weights[self.name], x.dtype
        dtype = computes_in(self.outer, mine["kernel"].dtype)
        x, kernel = typed(x, dtype), typed(mine["kernel"], dtype)
        y = torch.addmm(typed(mine["bias"], dtype), x, kernel) if "bias" in mine else torch.mm(x, kernel)
        y = IN_PLACE[self.activation](y)

        def backward(dy: Array, grads: Weights) -> Array | None:
            dz = slope(self.activation, typed(dy, dtype), y)
            of_weights = {"kernel": torch.mm(x.t(), dz)}
            if "bias" in mine:
                of_weights["bias"] = dz.sum(0)
            grads[self.name] = {name: typed(g, mine[name].dtype) for name, g in of_weights.items()}
            return typed(torch.mm(dz, kernel.t()), x_type) if run.wants_dx else None

        return typed(y, gives(self.end, dtype)), backward


def fuse(backend: Host, layers: Named, n: int) -> tuple[int, FusedDense] | None:
    """Dense, and the activation after it."""
    name, outer = layers[n]
    if type(within(outer)) is not Dense:
        return None
    activation = activation_after(layers, n)
    length = 1 + (activation is not None)
    return length, FusedDense(name, outer, activation, layers[n + length - 1][1])
