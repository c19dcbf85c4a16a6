"""What the runs share: the layer behind a Cast, its weights in the type that is computed in, and when a run fits."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from xcnn_strided.fusion import Fuse, Fusion

from xcnn.core.types import Array, Weights
from xcnn.layers import ReLU, Sigmoid, Tanh
from xcnn.layers.layer import Layer
from xcnn.training.precision import Cast, within
from xcnn_cupy.device import MOST_AXES, MOST_CELLS, Device, is_channels_last
from xcnn_cupy.kernels.instances import FLOATS
from xcnn_cupy.layout import converted

if TYPE_CHECKING:
    from xcnn_strided.fusion import Named

    from xcnn_cupy.host import Host

ACTIVATIONS: dict[type, str] = {ReLU: "relu", Sigmoid: "sigmoid", Tanh: "tanh"}
"""What can end a run in the same pass."""


def computes_in(layer: Layer, weight_dtype: Any) -> str:
    """The type that a layer computes in: that of its weights, or a Cast's."""
    return layer.compute if isinstance(layer, Cast) else str(weight_dtype)


def gives(layer: Layer, dtype: str) -> str:
    """The type of its output, if it computes in this one."""
    return layer.result if isinstance(layer, Cast) else dtype


def followed_by(layers: Named, n: int, kinds: Any) -> Layer | None:
    """The layer after the n-th, Cast or not, if it is of one of these classes and computes in the same type."""
    if len(layers) <= n + 1 or type(within(layers[n + 1][1])) not in kinds:
        return None
    one, other = layers[n][1], layers[n + 1][1]
    return other if computes_in(one, "") == computes_in(other, "") else None


def activation_after(layers: Named, n: int) -> str | None:
    """The activation that follows layer n, as far as runs can end in it."""
    found = followed_by(layers, n, ACTIVATIONS)
    return ACTIVATIONS[type(within(found))] if found else None


def fits(backend: Host, layer: Layer, x: Array, weights: Weights) -> bool:
    """Whether x is an array of this backend's, small enough to be counted with 32 bits, and of its weights' type.

    Behind a Cast any floating type will do: it is cast anyway.
    """
    if not (backend.holds(x) and str(x.dtype) in FLOATS and 0 < x.size <= MOST_CELLS and x.ndim <= MOST_AXES):
        return False
    return all(backend.holds(w) and (isinstance(layer, Cast) or w.dtype == x.dtype) for w in weights.values())


def like(device: Device, gradient: Array, weight: Array) -> Array:
    """A gradient in the type and order of memory of its weight."""
    return converted(device, gradient, weight.dtype, is_channels_last(weight))


def fuse_with_activation(kind: type, run: Callable[..., Fusion], asks: Callable[[Host], bool]) -> Fuse:
    """What knows layers of a class whose libraries a backend `asks`, and the activation after each."""

    def fuse(backend: Host, layers: Named, n: int) -> tuple[int, Fusion] | None:
        name, layer = layers[n]
        if type(within(layer)) is not kind or not asks(backend):
            return None
        activation = activation_after(layers, n)
        length = 1 + (activation is not None)
        return length, run(backend, name, layer, activation, layers[n + length - 1][1])

    return fuse


def fuse_alone(kind: type, run: Callable[..., Fusion]) -> Fuse:
    """What knows layers of a class, each by itself."""

    def fuse(backend: Host, layers: Named, n: int) -> tuple[int, Fusion] | None:
        name, layer = layers[n]
        return (1, run(backend, name, layer)) if type(within(layer)) is kind else None

    return fuse
