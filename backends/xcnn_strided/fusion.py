"""Runs of layers computed in one pass over memory, behind the layers that they replace.

`rewrite` puts a FusedSequential in place of each Sequential: the same layers under the same names, and a plan that says
which runs of them go together. A run that does not fit the arrays at hand, by type or shape, is called layer by layer:
then the layers themselves say what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from xcnn.core.likeness import check_dy, likeness
from xcnn.core.types import Array, Backward, Weights
from xcnn.errors import inside
from xcnn.layers import Add, Concatenate, Graph, Multiply, Residual, Sequential
from xcnn.layers.branches import Branches
from xcnn.layers.container import Container
from xcnn.layers.layer import Layer, Run, no_backward
from xcnn.layers.packed import Packed
from xcnn.training.precision import within

if TYPE_CHECKING:
    from xcnn.backends.contract import Backend

Named: TypeAlias = tuple[tuple[str, Layer], ...]
FusedBackward: TypeAlias = Callable[[Array, Weights], Array]
"""backward(dy, grads) -> dx: enters the gradients under the layers' names."""


class Fusion(Protocol):
    """A run of layers as one.

    One that looks at several samples, or draws, and knows nothing of `run.share` says so by `takes_shares = False`:
    where a batch is computed by several processes, the layers are called one by one in its place.
    """

    def fits(self, weights: Weights, x: Array) -> bool:
        """Whether it can take these arrays; if not, the layers are called one by one."""
        ...

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, FusedBackward]:
        """Y and the backward pass, for the weights of the container."""
        ...


Fuse: TypeAlias = Callable[[Any, Named, int], tuple[int, Fusion] | None]
"""fuse(backend, layers, n) -> how many layers from the n-th on go together, and as what; None where it knows no run."""


class FusedSequential(Sequential):
    """A Sequential some of whose runs of layers are fused."""

    plan: tuple[tuple[int, int, Fusion | None], ...]

    def __init__(self, backend: object, named: Named, fuses: tuple[Fuse, ...], first: int = 0) -> None:
        object.__setattr__(self, "named", named)
        plan = []
        while first < len(named):
            found = next(filter(None, (fuse(backend, named, first) for fuse in fuses)), (1, None))
            plan.append((first, first + found[0], found[1]))
            first += found[0]
        object.__setattr__(self, "plan", tuple(plan))

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        backwards: list[tuple[int, bool, Any]] = []
        wanted = self.last_wanted(weights, run)
        back: Any
        for first, last, fusion in self.plan:
            wants_dx = first > wanted or run.wants_dx
            if fusion is not None and self.may_fuse(fusion, run) and fusion.fits(weights, x):
                x, back = self.called(fusion, last - 1, weights, x, run.wanting(wants_dx))
                backwards.append((last, True, back))
                continue
            for n in range(first, last):
                x, back = self.call(n, weights, x, run, n > wanted or run.wants_dx, behind=n > 0)
                backwards.append((n + 1, False, back))

        if not run.wants_backward:
            return x, no_backward
        made = None if backwards else likeness(x)

        def backward(dy: Array) -> tuple[Array, Weights]:
            grads: Weights = {}
            if made is not None:  # nothing within does it
                check_dy(self, made, dy)
            for last, together, back in reversed(backwards):
                if last <= wanted:
                    return None, grads
                dy = back(dy, grads) if together else self.back(last - 1, back, dy, grads)
            return dy, grads

        return x, backward

    @staticmethod
    def may_fuse(fusion: Fusion, run: Run) -> bool:
        """Whether a run of layers can be called as one in this run."""
        return not run.by_layer and (run.share is None or getattr(fusion, "takes_shares", True))

    def called(self, fusion: Fusion, last: int, weights: Weights, x: Array, run: Run) -> tuple[Array, FusedBackward]:
        """A run of layers up to the last, whose y it is: its dy is held to that. See `Container.call`."""
        (name, layer), (y, backward) = self.named[last], fusion(weights, x, run)
        if run.hook is not None:
            backward = run.hook.look((*run.hook.path, name), fusion, y, backward)
        if not run.wants_backward:
            return y, no_backward
        made = likeness(y)

        def checked(dy: Array, grads: Weights) -> Array:
            with inside(name):
                check_dy(within(layer), made, dy)
            return backward(dy, grads)

        return y, checked


class Stretch(FusedSequential):
    """Nodes of a Graph from the first on, each of which takes what the one before gives, as one chain.

    Their numbers, and with them the keys of what they draw, are those in the Graph.
    """

    first: int

    def __init__(self, backend: object, named: Named, fuses: tuple[Fuse, ...], first: int) -> None:
        super().__init__(backend, named, fuses, first)
        object.__setattr__(self, "first", first)

    def last_wanted(self, weights: Weights, run: Run) -> int:
        if run.wants_dx or run.by_layer:
            return self.first
        return next((n for n in range(self.first, len(self)) if weights.get(self.named[n][0])), self.first)


class FusedGraph(Graph):
    """A Graph whose chains of nodes are fused."""

    chains: dict[int, Stretch]
    """Those of more than one node, by the number of the first."""

    def __init__(self, backend: object, graph: Graph, fuses: tuple[Fuse, ...]) -> None:
        vars(self).update(vars(graph))
        stretches = graph.wiring.chains()
        chains = {first: Stretch(backend, self.named[:end], fuses, first) for first, end in stretches}
        vars(self).update(stretches=tuple(stretches), chains=chains)

    def stretch(
        self, first: int, end: int, weights: Weights, x: Any, run: Run, wants_dx: bool
    ) -> tuple[Array, FusedBackward]:
        if isinstance(x, tuple):
            return super().stretch(first, end, weights, x, run, wants_dx)
        y, chain_backward = self.chains[first](weights, x, run.wanting(wants_dx))

        def backward(dy: Array, grads: Weights) -> Array:
            dx, of_chain = chain_backward(dy)
            grads.update(of_chain)
            return dx

        return y, backward


def rewrite(backend: Backend, net: Layer, fuses: tuple[Fuse, ...]) -> Layer:
    """The same net, its runs of layers fused, within containers too."""
    if type(net) is Sequential:
        return FusedSequential(backend, rewritten(backend, net, fuses), fuses)
    if isinstance(net, Branches) and type(net) in (Add, Concatenate, Multiply):
        branches = rewritten(backend, net, fuses)
        same = all(new is old for (_, new), (_, old) in zip(branches, net.named, strict=True))
        joins = getattr(backend, "joins", None)  # what makes of it one that joins by the backend's own means
        made = net if same else net.with_layers(dict(branches))
        return joins(made) if joins else made
    if type(net) is Graph:
        return FusedGraph(backend, net.with_layers(dict(rewritten(backend, net, fuses))), fuses)
    if type(net) is Packed:
        return replace(net, graph=rewrite(backend, net.graph, fuses))  # type: ignore[arg-type]
    if type(net) is Residual:
        fused = Residual(**dict(rewritten(backend, net, fuses)))
        body = Sequential(**{name: layer for name, layer in fused.named if name != "shortcut"})
        vars(fused)["body"] = FusedSequential(backend, body.named, fuses)
        return fused
    return net


def rewritten(backend: Backend, net: Container, fuses: tuple[Fuse, ...]) -> Named:
    """The layers of a container, each rewritten."""
    return tuple((name, rewrite(backend, layer, fuses)) for name, layer in net.named)
