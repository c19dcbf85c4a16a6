"""What layers that hold layers share: the names of those inside."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from xcnn.core.initializers import check_cells_of
from xcnn.core.likeness import likeness
from xcnn.core.pure import is_own
from xcnn.core.random import Planner
from xcnn.core.several import is_several
from xcnn.core.types import Array, Backward, Rng, Shape, Weights
from xcnn.errors import OptionError, ShapeError, inside, short
from xcnn.layers.layer import Layer, Run, no_backward
from xcnn.layers.others import held

DEEPEST = 64
"""Containers within each other. Checkpoints keep as many; each takes a few calls of Python's stack, which has 1,000."""


@dataclass(frozen=True, init=False, repr=False)
class Container:
    """Layers with names: positional ones by class and count (`conv1`, `relu1`, `conv2`), keyword ones by their keyword.

    The names are the keys of the weights, and stand in errors and summaries.
    """

    named: tuple[tuple[str, Layer], ...]

    def __init__(self, *layers: Layer, **named: Layer) -> None:
        pairs = [*zip(counted(layers), layers, strict=True), *named.items()]
        for name, layer in pairs:
            if not isinstance(layer, Layer) or isinstance(layer, type):
                raise OptionError(
                    "X104",
                    f"{type(self).__name__} holds layers; {short(name)} is {short(layer)}.",
                    hint=_hint(type(self).__name__, layer),
                )
        names = dict(pairs)
        if len(names) < len(pairs) or not all(name.isidentifier() for name in names):
            raise OptionError("X104", f"{type(self).__name__}'s names must differ and be identifiers: {[*named]}.")
        object.__setattr__(self, "named", tuple(pairs))
        if depth(self) > DEEPEST:
            raise OptionError(
                "X104",
                f"{type(self).__name__} has layers more than {DEEPEST} deep within each other.",
                hint="give them side by side to one Sequential.",
            )

    @property
    def layers(self) -> dict[str, Layer]:
        """The layers by name."""
        return dict(self.named)

    def __getitem__(self, at: str | int) -> Layer:
        """A layer by its name, or by its place."""
        return self.layers[at] if isinstance(at, str) else self.named[at][1]

    def __contains__(self, layer: object) -> bool:
        """Whether it holds a layer of this name, or this layer."""
        return layer in self.layers if isinstance(layer, str) else any(layer == held for held in self)

    def __len__(self) -> int:
        return len(self.named)

    def __iter__(self) -> Iterator[Layer]:
        return (layer for _, layer in self.named)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={layer!r}' for name, layer in self.named)})"

    def with_layers(self, layers: Mapping[str, Layer]) -> Any:
        """The same with other layers under these names."""
        return type(self)(**layers)

    def init_one(self, name: str, layer: Layer, rng: Rng, shape: Shape, behind: bool = False) -> tuple[Weights, Shape]:
        """Draw the weights of a layer, which is first or comes `behind` others."""
        with inside(name, behind):
            drawn, output = layer.init(rng, shape)
            if is_several(output):
                told = "gives several values, of which a container takes one."
                raise ShapeError("X101", told, hint="a Graph of several outputs is a whole net.", layer=layer)
            check_cells_of(output)
        if isinstance(rng, Planner):
            rng.note(layer, shape, output)
        return drawn, output

    def init_each(self, rng: Rng, shape: Shape, chained: bool) -> tuple[Weights, list[Shape]]:
        """Draw every layer's weights; each sees the output's shape of the one before, or all see `shape`."""
        weights: Weights = {}
        shapes: list[Shape] = []
        for n, (name, layer) in enumerate(self.named):
            drawn, output = self.init_one(name, layer, rng, shape, behind=chained and n > 0)
            if drawn:
                weights[name] = drawn
            shapes.append(output)
            shape = output if chained else shape
        return weights, shapes

    def call(
        self, n: int, weights: Weights, x: Array, run: Run, wants_dx: bool = True, behind: bool = False
    ) -> tuple[Array, Backward]:
        """Call the n-th layer, with x or, `behind` others, with what those made of it.

        Where the run wants no backward, the layer's is let go of.
        """
        name, layer = self.named[n]
        inner, mine = run.child(n, name, wants_dx), weights.get(name, {})
        with inside(name, behind):
            if inner.hook is not None and inner.hook.before is not None:
                inner.hook.before(inner.hook.path, layer, mine, x)
            y, backward = layer(mine, x, inner)
            if inner.hook is not None:
                backward = inner.hook.look(inner.hook.path, layer, y, backward)
            if not run.wants_backward:
                return y, no_backward
            return y, backward if is_own(type(layer)) else held(layer, mine, likeness(y), backward)

    def back(self, n: int, backward: Backward, dy: Array, grads: Weights) -> Array:
        """Call the n-th layer's backward, and enter its gradients under its name."""
        name, _ = self.named[n]
        with inside(name):
            dx, of_layer = backward(dy)
        if of_layer:
            grads[name] = of_layer
        return dx


def counted(layers: Iterable[object]) -> list[str]:
    """The names of layers by class and count: conv1, relu1, conv2."""
    seen: Counter[str] = Counter()
    names = []
    for layer in layers:
        stem = re.sub(r"[12]d", "", type(layer).__name__.lower())
        seen[stem] += 1
        names.append(f"{stem}{seen[stem]}")
    return names


def depth(layer: object) -> int:
    """How many containers are within each other, the layer itself among them."""
    return 1 + max(map(depth, layer), default=0) if isinstance(layer, Container) else 0


def _hint(owner: str, given: object) -> str:
    """What to give instead of what is no layer."""
    if isinstance(given, type):
        return f"make one of it: {given.__name__}(...), not {given.__name__}."
    if isinstance(given, list | tuple):
        return f"a list is unpacked with a star: {owner}(*layers)."
    return "a layer is an object such as xcnn.Dense(10)."
