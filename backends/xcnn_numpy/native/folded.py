"""A convolution and the batch norm behind it, which are one pass where nobody trains: y = f(a z + b)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from xcnn_native.recording import constant

from xcnn.core.types import Array, Weights
from xcnn.layers import BatchNorm, Conv2DTranspose
from xcnn.layers.layer import Layer, Run
from xcnn_numpy.native import convolution, normalisation
from xcnn_numpy.native.convolution import Convolution, Plan
from xcnn_numpy.native.ending import Ending, following, of_norm
from xcnn_numpy.native.normalisation import Normalised

if TYPE_CHECKING:
    from xcnn_strided.fusion import FusedBackward, Named

    from xcnn_numpy.host import Host


@dataclass(frozen=True)
class NormalisedConvolution(Convolution):
    """Y = f(a (X * K) + b), with a = scale / sqrt(variance + epsilon), b = bias + a (B - mean)."""

    norm: tuple[str, BatchNorm] = ("", BatchNorm())
    adds: bool = False
    """Whether something is added before the activations."""

    def ending(self, char: str) -> Ending:
        return of_norm(self.activations, char, self.adds)

    def numbers(self, weights: Weights, plan: Plan) -> dict[str, Array]:
        name, norm = self.norm
        mine, bias = weights[name], weights[self.name].get("bias", 0.0)

        def both() -> Array:
            a = mine["scale"] / np.sqrt(mine["running_variance"].astype(np.float64) + norm.epsilon)
            return np.stack([a, mine["bias"] + a * (bias - mine["running_mean"])]).astype(plan.dtype)

        return dict(zip("ab", constant(both), strict=True))


@dataclass(frozen=True)
class Folded:
    """Both, one after the other in training, and as one where nobody wants a backward pass."""

    first: Convolution
    then: Normalised
    both: NormalisedConvolution

    def fits(self, weights: Weights, x: Array) -> bool:
        kernel, mine = weights[self.first.name]["kernel"], weights[self.then.named[0][0]]
        return (
            self.first.fits(weights, x)
            and all(type(w) is np.ndarray and w.dtype == x.dtype for w in mine.values())
            and mine["scale"].shape == (filters(self.first.layer, kernel),)
        )

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, FusedBackward]:
        if not (run.train or run.wants_backward):
            return self.both(weights, x, run)
        z, before = self.first(weights, x, run)
        y, after = self.then(weights, z, run)
        return y, lambda dy, grads: before(after(dy, grads), grads)

    def adding(self, activations: tuple[Layer, ...]) -> NormalisedConvolution:
        """Both where nobody wants a backward pass, with something added, and activations behind that."""
        return replace(self.both, activations=activations, adds=True, known={})


def filters(layer: Layer, kernel: Array) -> int:
    """Channels of a convolution's result."""
    return int(kernel.shape[1] * layer.groups if isinstance(layer, Conv2DTranspose) else kernel.shape[0])


def fuse(backend: Host, layers: Named, n: int) -> tuple[int, Folded] | None:
    """A convolution with a bias for each filter or none, BatchNorm, and the activations behind it."""
    found = convolution.fuse(backend, layers, n)
    if found is None or found[0] > 1 or len(layers) <= n + 1 or found[1].layer.bias == "untied":  # type: ignore[attr-defined]
        return None
    name, norm = layers[n + 1]
    if type(norm) is not BatchNorm:
        return None
    first = found[1]
    length, then = normalisation.fuse(backend, layers, n + 1)  # type: ignore[misc]
    activations = following(layers, n + 2)
    if 1 + len(activations) < length:  # one of them may change, and is traced anew
        return None
    both = NormalisedConvolution(backend, first.name, first.layer, activations, norm=(name, norm))
    return 1 + length, Folded(first, then, both)
