"""A Residual's sum and the activations behind it as one pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from xcnn_native.program import Formula, Program
from xcnn_native.trace import Symbol, trace
from xcnn_strided.fusion import FusedSequential
from xcnn_strided.shortcut import Shortcut

from xcnn.core.types import Array, Backward, Weights
from xcnn.layers import Residual
from xcnn.layers.layer import Layer, Run
from xcnn_numpy.native.activations import Kept, chain
from xcnn_numpy.native.arithmetic import added
from xcnn_numpy.native.layout import as_lying, holds, lying, new

if TYPE_CHECKING:
    from xcnn_strided.fusion import Named

    from xcnn_numpy.host import Host


def ending(layers: Sequence[Layer], dtype: Any) -> Formula:
    """Y = f(a + b), with the sum beside it where dx can't be told from y."""
    a, b, dy = (Symbol.of(name, dtype) for name in ("a", "b", "dy"))
    x = a + b
    y, through = trace(layers, x)
    dx = through(dy)
    backward = Program({"dx": dx}, {"y": y})
    if not {"a", "b"} & backward.reads:
        return Formula(Program({"y": y}), backward, "y")
    return Formula(Program({"y": y, "x": x}), Program({"dx": dx}, {"x": x}), "x")


@dataclass(frozen=True)
class Addition(Shortcut):
    """Its sums in the order of memory of what its layers give."""

    backend: Host
    activations: tuple[Layer, ...]
    kept: Kept = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "kept", Kept(self.activations, ending))

    def fits(self, weights: Weights, x: Array) -> bool:
        return holds(x) and self.kept.of(x.dtype) is not None

    @cached_property
    def alone(self) -> FusedSequential:
        """The shortcut's layer by itself, fused."""
        return FusedSequential(self.backend, self.layer.named[-1:], self.backend.fuses())

    def beside(self, mine: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        return super().beside(mine, x, run) if run.wants_backward else self.alone(mine, x, run)

    def end(self, a: Array, b: Array) -> tuple[Array, Callable[[Array], Array] | None]:
        if not self.activations:
            return self.sum(a, b, False), None
        made: Formula = self.kept.of(a.dtype)
        threads = self.backend.workers
        a, last = lying(a, threads)
        arrays = {"a": a, "b": as_lying(b, last, threads), "y": new(a.shape, a.dtype, last)}
        if made.keeps == "x":
            arrays["x"] = new(a.shape, a.dtype, last)
        made.forward.run(arrays, threads, 1, a.size)
        kept = arrays[made.keeps]

        def slope(dy: Array) -> Array:
            dx = new(kept.shape, kept.dtype, last)
            made.backward.run({"dy": as_lying(dy, last), made.keeps: kept, "dx": dx}, threads, 1, dx.size)
            return dx

        return arrays["y"], slope

    def sum(self, a: Array, b: Array, relu: bool) -> Array:
        return added(a, b, self.backend.workers)

    def slope(self, dy: Array, y: Array) -> Array:
        raise NotImplementedError  # `end` gives it


def fuse(backend: Host, layers: Named, n: int) -> tuple[int, Addition] | None:
    """Residual, and the activations behind it."""
    name, residual = layers[n]
    if type(residual) is not Residual:
        return None
    activations = tuple(layer for _, layer in chain(layers, n + 1))
    return 1 + len(activations), Addition(backend, name, residual, False, n, activations)
