"""Kernels made ready for a whole step in one launch, and their gradients brought back in another.

Master weights are float32 or float64, as they are indexed. Tensor cores want those of convolutions with the channels
last, under mixed precision as halves. Each fused run would convert its own: small launches, two for each layer and way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from xcnn.core import tree
from xcnn.core.types import Array, Backward, Rng, Shape, Weights
from xcnn.layers import Conv2D, Dense
from xcnn.layers.container import Container
from xcnn.layers.layer import Layer, Run
from xcnn.training.precision import Cast, within
from xcnn_cupy.device import is_channels_last
from xcnn_cupy.layout import converted_all

if TYPE_CHECKING:
    from xcnn_cupy.host import Host


@dataclass(frozen=True)
class Prepared:
    """A net whose convolutions and dense layers get their kernels in the type and order that they compute in."""

    backend: Host
    net: Layer
    layers: dict[str, Layer]
    """Those layers by the paths of their kernels, "block1/conv1/kernel"."""

    def init(self, rng: Rng, input_shape: Shape) -> tuple[Weights, Shape]:
        return self.net.init(rng, input_shape)

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        device, convolutions, flat = self.backend.gpu, self.backend.convolutions, dict(tree.items(weights))
        kinds = {
            path: layer.compute if isinstance(layer, Cast) else str(flat[path].dtype)
            for path, layer in self.layers.items()
            if path in flat and self.backend.holds(flat[path])
        }
        masters = [flat[path] for path in kinds]
        last = [
            w.ndim == 4 and convolutions.channels_last(kind) for w, kind in zip(masters, kinds.values(), strict=True)
        ]
        ready = converted_all(device, masters, list(kinds.values()), last)
        y, net_backward = self.net(tree.filled(weights, {**flat, **dict(zip(kinds, ready, strict=True))}), x, run)

        def backward(dy: Array) -> tuple[Array, Weights]:
            dx, grads = net_backward(dy)
            found = dict(tree.items(grads))
            types, orders = [str(w.dtype) for w in masters], [is_channels_last(w) for w in masters]
            back = converted_all(device, [found[path] for path in kinds], types, orders)
            return dx, tree.filled(grads, {**found, **dict(zip(kinds, back, strict=True))})

        return y, backward


def prepared(backend: Host, net: Layer) -> Layer:
    """The net with its kernels prepared; itself, where it computes in the weights' own type and order."""
    layers = {
        f"{path}/kernel": layer
        for path, layer in walk(net)
        if type(within(layer)) in (Conv2D, Dense) and (backend.tf32 or isinstance(layer, Cast))
    }
    return Prepared(backend, net, layers) if layers and isinstance(net, Container) else net


def walk(net: Layer, path: str = "") -> list[tuple[str, Layer]]:
    """All layers in containers, by path."""
    if not isinstance(net, Container):
        return [(path, net)]
    return [found for name, layer in net.named for found in walk(layer, f"{path}/{name}" if path else name)]
