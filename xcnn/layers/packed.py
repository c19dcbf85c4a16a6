"""A Graph of several inputs or outputs as a layer of one: side by side in one array, as batches and steps have it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import prod
from typing import Any

from xcnn.core.arrays import namespace
from xcnn.core.checks import check_input
from xcnn.core.likeness import check_dy, likeness, of_part
from xcnn.core.random import Planner
from xcnn.core.several import shapes_of
from xcnn.core.types import Array, Backward, Rng, Shape, Weights
from xcnn.errors import ShapeError
from xcnn.layers.graph import Graph
from xcnn.layers.layer import Run


@dataclass(frozen=True)
class Packed:
    """Y = the graph's outputs, of X, the graph's inputs, each flattened and side by side: (N, cells) -> (N, cells').

    One input, or one output, stays as it is. Weights, names and keys are the graph's.

    Parameters
    ----------
    graph
        the net
    input_shapes
        of the graph's inputs, for one sample
    """

    graph: Graph
    input_shapes: tuple[Shape, ...]

    @property
    def input_shape(self) -> Shape:
        """Of what it takes, for one sample."""
        return packed_shape(self.input_shapes)

    def output_shapes(self) -> tuple[Shape, ...]:
        """Of the graph's outputs, for one sample."""
        given: Any = self.input_shapes if len(self.input_shapes) > 1 else self.input_shapes[0]
        return tuple(shapes_of(self.graph.init(Planner(), given)[1]))

    def init(self, rng: Rng, input_shape: Shape) -> tuple[Weights, Shape]:
        if tuple(input_shape) != self.input_shape:
            raise ShapeError(
                "X101", f"takes {self.input_shape}.", f"got {tuple(input_shape)} for each sample", layer=self
            )
        given: Any = self.input_shapes if len(self.input_shapes) > 1 else self.input_shapes[0]
        weights, output = self.graph.init(rng, given)
        return weights, packed_shape(shapes_of(output))

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        several = len(self.input_shapes) > 1
        if several:
            check_input(self, {}, x, ("cells",), backend=run.backend)
        ys, inner_backward = self.graph(weights, apart(x, self.input_shapes) if several else x, run)
        if not isinstance(ys, tuple):
            y, parts = ys, None
        else:
            y, parts = together(ys), [likeness(each) for each in ys]
        made, shapes = likeness(y), [each.shape[1:] for each in ys] if parts else []

        def backward(dy: Array) -> tuple[Array, Weights]:
            check_dy(self, made, dy)
            if parts is not None:
                dy = tuple(map(of_part, parts, apart(dy, shapes)))
            dx, grads = inner_backward(dy)
            return together(dx) if isinstance(dx, tuple) else dx, grads

        return y, backward


def packed_shape(shapes: Sequence[Shape]) -> Shape:
    """Of one sample of arrays side by side; one alone keeps its shape."""
    return (sum(map(prod, shapes)),) if len(shapes) > 1 else tuple(shapes[0])


def apart(x: Array, shapes: Sequence[Shape]) -> tuple[Array, ...]:
    """The arrays (N, *shape) that lie side by side in x (N, cells)."""
    xp, edges = namespace(x), [0, *accumulate(map(prod, shapes))]
    return tuple(
        xp.reshape(x[:, start:stop], (x.shape[0], *shape))
        for (start, stop), shape in zip(pairwise(edges), shapes, strict=True)
    )


def together(arrays: Sequence[Array]) -> Array:
    """Arrays (N, ...) flattened and side by side."""
    xp = namespace(arrays[0])
    return xp.concat([xp.reshape(a, (a.shape[0], prod(a.shape[1:]))) for a in arrays], axis=1)
