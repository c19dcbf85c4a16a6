"""What layers that hold layers share: the names of those inside."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from xcnn.core.random import Planner
from xcnn.core.types import Array, Backward, Rng, Shape, Weights
from xcnn.errors import OptionError, inside
from xcnn.layers.layer import Layer, Run


@dataclass(frozen=True, init=False, repr=False)
class Container:
    """Layers with names: positional ones by class and count (`conv1`, `relu1`, `conv2`), keyword ones by their keyword.

    The names are the keys of the weights, and stand in errors and summaries.
    """

    named: tuple[tuple[str, Layer], ...]

    def __init__(self, *layers: Layer, **named: Layer) -> None:
        counted: Counter[str] = Counter()
        pairs = []
        for layer in layers:
            stem = re.sub(r"[12]d", "", type(layer).__name__.lower())
            counted[stem] += 1
            pairs.append((f"{stem}{counted[stem]}", layer))
        pairs.extend(named.items())
        for name, layer in pairs:
            if not isinstance(layer, Layer) or isinstance(layer, type):
                raise OptionError(
                    "X104",
                    f"{type(self).__name__} holds layers; {name!r} is {layer!r}.",
                    hint="write Conv2D(32, 3), not Conv2D; a list is unpacked with a star.",
                )
        names = dict(pairs)
        if len(names) < len(pairs) or not all(name.isidentifier() for name in names):
            raise OptionError("X104", f"{type(self).__name__}'s names must differ and be identifiers: {[*named]}.")
        object.__setattr__(self, "named", tuple(pairs))

    @property
    def layers(self) -> dict[str, Layer]:
        """The layers by name."""
        return dict(self.named)

    def __getitem__(self, name: str) -> Layer:
        return self.layers[name]

    def __len__(self) -> int:
        return len(self.named)

    def __iter__(self) -> Iterator[Layer]:
        return (layer for _, layer in self.named)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={layer!r}' for name, layer in self.named)})"

    def init_one(self, name: str, layer: Layer, rng: Rng, shape: Shape) -> tuple[Weights, Shape]:
        """Draw a layer's weights."""
        with inside(name):
            drawn, output = layer.init(rng, shape)
        if isinstance(rng, Planner):
            rng.note(layer, shape, output)
        return drawn, output

    def init_each(self, rng: Rng, shape: Shape, chained: bool) -> tuple[Weights, list[Shape]]:
        """Draw every layer's weights; each sees the output's shape of the one before, or all see `shape`."""
        weights: Weights = {}
        shapes: list[Shape] = []
        for name, layer in self.named:
            drawn, output = self.init_one(name, layer, rng, shape)
            if drawn:
                weights[name] = drawn
            shapes.append(output)
            shape = output if chained else shape
        return weights, shapes

    def call(self, n: int, weights: Weights, x: Array, run: Run, wants_dx: bool = True) -> tuple[Array, Backward]:
        """Call the n-th layer."""
        name, layer = self.named[n]
        inner = run.child(n, name, wants_dx)
        with inside(name):
            y, backward = layer(weights.get(name, {}), x, inner)
            if inner.hook is not None:
                backward = inner.hook.look(inner.hook.path, layer, y, backward)
        return y, backward

    def back(self, n: int, backward: Backward, dy: Array, grads: Weights) -> Array:
        """Call the n-th layer's backward, and enter its gradients under its name."""
        name, _ = self.named[n]
        with inside(name):
            dx, of_layer = backward(dy)
        if of_layer:
            grads[name] = of_layer
        return dx
