"""Batch normalisation and the ReLU after it: what is computed stays in the type of x, its statistics in float32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from xcnn.core.types import Array, Weights
from xcnn.layers import BatchNorm, ReLU
from xcnn.layers.batch_norm import RUNNING
from xcnn.layers.layer import Layer, Next, Run
from xcnn.training.precision import Cast, within
from xcnn_cupy.channels import SUMS
from xcnn_cupy.device import is_channels_last
from xcnn_cupy.fused.common import fits, gives
from xcnn_cupy.layout import converted, dense
from xcnn_cupy.normalisation import inverses, normalise, normalise_backward, statistics

if TYPE_CHECKING:
    from xcnn_strided.fusion import FusedBackward, Named

    from xcnn_cupy.host import Host


@dataclass(frozen=True)
class Normalised:
    """Y = scale X_hat + bias, or its ReLU."""

    takes_shares: ClassVar[bool] = False

    backend: Host
    name: str
    outer: Layer
    """The BatchNorm, or a Cast around it."""
    relu: bool
    end: Layer
    """The last layer of the run."""

    def fits(self, weights: Weights, x: Array) -> bool:
        mine = weights[self.name]
        kinds = {str(w.dtype) for w in mine.values()}
        return (
            fits(self.backend, self.outer, x, mine)
            and x.ndim in (2, 3, 4)
            and x.shape[1:2] == mine["scale"].shape
            and kinds == {SUMS[str(x.dtype)]}
            and "running_steps" in mine
        )

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, FusedBackward]:
        layer: BatchNorm = within(self.outer)  # type: ignore[assignment]
        device, mine, x_type = self.backend.gpu, weights[self.name], str(x.dtype)
        x = dense(device, x)
        last, running = is_channels_last(x), [mine[name] for name in RUNNING]
        mean, moved = running[0], running
        if run.train:
            mean, inverse, *moved = statistics(device, x, running, layer.momentum, layer.epsilon)
        else:
            inverse = inverses(device, running[1], layer.epsilon)
        following = {name: Next(value) for name, value in zip(RUNNING, moved, strict=True)}
        by = mean, inverse, mine["scale"], mine["bias"], self.relu
        y = normalise(device, x, *by)

        def backward(dy: Array, grads: Weights) -> Array:
            dx, dscale, dbias = normalise_backward(device, converted(device, dy, x_type, last), x, *by, run.train)
            grads[self.name] = {"scale": dscale, "bias": dbias, **following}
            return dx

        return converted(device, y, gives(self.end, x_type), last), backward


def fuse(backend: Host, layers: Named, n: int) -> tuple[int, Normalised] | None:
    """BatchNorm, and the ReLU after it."""
    name, layer = layers[n]
    if type(within(layer)) is not BatchNorm:
        return None
    relu = len(layers) > n + 1 and type(within(layers[n + 1][1])) is ReLU
    end = layers[n + relu][1]
    if isinstance(end, Cast) and end.last and relu:  # it is computed in the weights' type, as its own layer
        relu, end = False, layer
    return 1 + relu, Normalised(backend, name, layer, relu, end)
