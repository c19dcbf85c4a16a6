"""Layer, group and instance normalisation, each by itself: y in the type of x, its statistics in float32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from xcnn.core.types import Array, Weights
from xcnn.layers import GroupNorm, InstanceNorm, LayerNorm
from xcnn.layers.layer import Layer, Run
from xcnn.training.precision import within
from xcnn_cupy.channels import SUMS
from xcnn_cupy.device import is_channels_last
from xcnn_cupy.epilogue import laid_out
from xcnn_cupy.fused.common import fits, fuse_alone, gives, like
from xcnn_cupy.groups import Rows, feature_sums, rows_of_axes, rows_of_groups, standardise, standardise_backward
from xcnn_cupy.layout import converted, dense

if TYPE_CHECKING:
    from xcnn_strided.fusion import FusedBackward

    from xcnn_cupy.host import Host


@dataclass(frozen=True)
class Standardised:
    """Y = scale X_hat + bias."""

    backend: Host
    name: str
    outer: Layer
    """The LayerNorm, GroupNorm or InstanceNorm, or a Cast around it."""

    def fits(self, weights: Weights, x: Array) -> bool:
        mine = weights.get(self.name, {})  # without scale and bias there are none
        if not fits(self.backend, self.outer, x, mine) or x.ndim not in (2, 3, 4):
            return False
        if mine and {str(w.dtype) for w in mine.values()} != {SUMS[str(x.dtype)]}:
            return False
        layer = within(self.outer)
        if isinstance(layer, LayerNorm):
            sizes = tuple(x.shape[axis] for axis in layer.axes(x.ndim))
            return mine["scale"].shape == sizes and rows_of_axes(x, layer.axes(x.ndim)) is not None
        known = x.ndim > 2 or isinstance(layer, GroupNorm)
        return known and (not mine or mine["scale"].shape == x.shape[1:2])

    def rows(self, x: Array) -> Rows:
        """How x is cut."""
        layer = within(self.outer)
        if isinstance(layer, LayerNorm):
            rows = rows_of_axes(x, layer.axes(x.ndim))
            assert rows is not None
            return rows
        return rows_of_groups(x, layer.groups if isinstance(layer, GroupNorm) else x.shape[1])

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, FusedBackward]:
        device, mine, x_type = self.backend.gpu, weights.get(self.name, {}), str(x.dtype)
        x = dense(device, x)
        last, rows = is_channels_last(x), self.rows(x)
        scale, bias = (laid_out(device, mine[name], x, SUMS[x_type]) if mine else None for name in ("scale", "bias"))
        layer: LayerNorm = within(self.outer)  # type: ignore[assignment]
        y, mean, inverse = standardise(device, x, scale, bias, rows, layer.epsilon)

        def backward(dy: Array, grads: Weights) -> Array:
            dy = converted(device, dy, x_type, last)
            if mine:
                sums = feature_sums(device, dy, x, mean, inverse, rows)
                named = zip(("scale", "bias"), sums, strict=True)
                grads[self.name] = {name: self.as_indexed(total, mine[name], x) for name, total in named}
            return standardise_backward(device, dy, x, mean, inverse, scale, rows)

        return converted(device, y, gives(self.outer, x_type), last), backward

    def as_indexed(self, total: Array, weight: Array, x: Array) -> Array:
        """A gradient in the shape of its weight, from features as they lie in memory."""
        if weight.ndim == 3 and is_channels_last(x):
            c, h, w = weight.shape
            total = total.reshape(1, h, w, c).transpose(0, 3, 1, 2)
            return like(self.backend.gpu, total, weight.reshape(1, c, h, w)).reshape(c, h, w)
        return like(self.backend.gpu, total.reshape(weight.shape), weight)


FUSES = tuple(fuse_alone(kind, Standardised) for kind in (LayerNorm, GroupNorm, InstanceNorm))
"""What knows each of the three."""
