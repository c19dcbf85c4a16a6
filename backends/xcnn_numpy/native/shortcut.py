"""A Residual's sum and the activations behind it as one pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from xcnn_native.program import Formula, Program
from xcnn_native.trace import Symbol, trace
from xcnn_strided.fusion import FusedSequential, Stretch
from xcnn_strided.shortcut import Shortcut

from xcnn.core.likeness import likeness, of_part
from xcnn.core.types import Array, Backward, Shape, Weights
from xcnn.errors import inside
from xcnn.layers import Residual
from xcnn.layers.layer import Layer, Run, no_backward
from xcnn_numpy.native.activations import Kept, chain
from xcnn_numpy.native.arithmetic import added
from xcnn_numpy.native.folded import Folded, NormalisedConvolution
from xcnn_numpy.native.layout import as_lying, holds, lying, new
from xcnn_numpy.native.normalisation import Normalised, normal

if TYPE_CHECKING:
    from xcnn_strided.fusion import FusedBackward, Named

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
class Tail:
    """A body that ends in a norm: what comes before, and the norm's pass, which adds the shortcut by the way.

    Attributes
    ----------
    head, rest
        the layers before, and the last ones by themselves
    fusion, norm
        the run that is last, a norm or a convolution and a norm, and the norm
    kept
        the norm's programs with an addition and the activations behind that
    folded
        the convolution and all that follows as one, for predictions
    """

    head: FusedSequential
    rest: Stretch
    fusion: Any
    norm: Normalised
    kept: Kept
    folded: NormalisedConvolution | None

    def __call__(
        self, mine: Weights, z: Array, run: Run, beside: Array, layer: Residual, x_shape: Shape
    ) -> tuple[Array, Callable[[Array, Weights], tuple[Array, Array]]]:
        """Y, and what gives the gradients of z and of what lies beside."""
        if self.folded and not (run.train or run.wants_backward):
            layer.check_shapes(x_shape[1:], self.folded.output(mine, z), beside.shape[1:])
            return self.folded.computed(mine, z, run, beside)[0], no_backward
        before = None
        if isinstance(self.fusion, Folded):
            z, before = self.fusion.first(mine, z, run)
        layer.check_shapes(x_shape[1:], z.shape[1:], beside.shape[1:])
        y, through = self.norm.computed(mine, z, run, self.kept.of(z.dtype), beside)

        def backward(dy: Array, grads: Weights) -> tuple[Array, Array]:
            dx, dz = through(dy, grads)
            return before(dx, grads) if before else dx, dz

        return y, backward


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

    @cached_property
    def tail(self) -> Tail | None:
        """The body's end, if something can be added within it."""
        body = self.layer.body
        if not (isinstance(body, FusedSequential) and body.plan):
            return None
        first, last, fusion = body.plan[-1]
        norm = fusion.then if isinstance(fusion, Folded) else fusion
        if last < len(body) or not isinstance(norm, Normalised) or len(norm.named) > 1:
            return None
        fuses = self.backend.fuses()
        return Tail(
            FusedSequential(self.backend, body.named[:first], fuses),
            Stretch(self.backend, body.named, fuses, first),
            fusion,
            norm,
            Kept(self.activations, partial(normal, beside=True)),
            fusion.adding(self.activations) if isinstance(fusion, Folded) else None,
        )

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, FusedBackward]:
        tail, mine = self.tail, weights.get(self.name, {})
        if tail is None or run.hook is not None or not x.size or tail.kept.of(x.dtype) is None:
            return super().__call__(weights, x, run)
        inner, threads = run.child(self.n, self.name, run.wants_dx), self.backend.workers
        wants_dz = run.wants_dx or any(mine.get(name) for name, _ in tail.head.named)
        with inside(self.name):
            z, head_backward = tail.head(mine, x, inner)
        if not tail.fusion.fits(mine, z):
            return super().__call__(weights, x, run)
        at_end = inner.wanting(wants_dz)
        with inside(self.name):
            beside, shortcut_backward = self.beside(mine, x, inner) if self.layer.shortcut else (x, None)
            y, end_backward = tail(mine, z, at_end, beside, self.layer, x.shape)
        of_shortcut = likeness(beside)

        def backward(dy: Array, grads: Weights) -> Array | None:
            with inside(self.name):
                of_layer: Weights = {}
                dx, dy = end_backward(dy, of_layer)
                if wants_dz:
                    dx, of_head = head_backward(dx)
                    of_layer |= of_head
                if shortcut_backward:
                    dy = self.layer.back(len(self.layer) - 1, shortcut_backward, of_part(of_shortcut, dy), of_layer)
            if of_layer:
                grads[self.name] = of_layer
            return added(dx, dy, threads) if run.wants_dx else None

        return y, backward

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
