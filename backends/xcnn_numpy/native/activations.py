"""Activations one after another as one pass over memory forward and one back, whatever their formulas are."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from xcnn_native.program import Formula, formula
from xcnn_native.trace import Untraceable, is_formula

from xcnn.core.pure import Impure, is_own, made_of
from xcnn.core.types import Array, Weights
from xcnn.layers.layer import Layer, Run
from xcnn_numpy.native.layout import as_lying, holds, lying, new

if TYPE_CHECKING:
    from xcnn_strided.fusion import FusedBackward, Named

    from xcnn_numpy.host import Host


class Kept:
    """What is made of layers for arrays of a type, kept for as long as it stays the same.

    The options of xcnn's own layers never change. Those of others may between two steps, and what they read where they
    are not marked as pure: then it is made anew for each call. None stands for what can't be made.
    """

    def __init__(self, layers: tuple[Layer, ...], make: Any) -> None:
        self.layers, self.make = layers, make
        self.own = all(is_own(type(layer)) for layer in layers)
        self.made: dict[Any, Any] = {}

    def of(self, dtype: Any) -> Any:
        """What is made for this type."""
        try:
            key = dtype if self.own else (dtype, made_of(self.layers))
        except Impure:
            if self.made.get(dtype, 0) is None:  # it could not be done before
                return None
            made = self.anew(dtype)
            if made is None:
                self.made[dtype] = None
            return made
        if key not in self.made:
            self.made[key] = self.anew(dtype)
        return self.made[key]

    def anew(self, dtype: Any) -> Any:
        """Make it."""
        try:
            return self.make(self.layers, dtype)
        except Untraceable:
            return None


def chain(layers: Named, n: int) -> Named:
    """The activations from the n-th layer on."""
    return tuple(takewhile(lambda named: is_formula(named[1]), layers[n:]))


@dataclass(frozen=True)
class Activations:
    """Y = ... f2(f1(X))."""

    backend: Host
    named: Named
    kept: Kept = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "kept", Kept(tuple(layer for _, layer in self.named), formula))

    def fits(self, weights: Weights, x: Array) -> bool:
        return holds(x) and self.kept.of(x.dtype) is not None

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, FusedBackward]:
        made: Formula = self.kept.of(x.dtype)
        threads = self.backend.workers
        x, last = lying(x, threads)
        y = new(x.shape, x.dtype, last)
        made.forward.run({"x": x, "y": y}, threads, 1, x.size)
        keeps, kept = made.keeps, {"x": x, "y": y}[made.keeps]
        shape = x.shape
        del x

        def backward(dy: Array, grads: Weights) -> Array:
            dx = new(shape, kept.dtype, last)
            made.backward.run({"dy": as_lying(dy, last), "dx": dx, keeps: kept}, threads, 1, dx.size)
            return dx

        return y, backward


def fuse(backend: Host, layers: Named, n: int) -> tuple[int, Activations] | None:
    """Activations that are traced."""
    named = chain(layers, n)
    return (len(named), Activations(backend, named)) if named else None
