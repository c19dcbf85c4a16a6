"""Layers that take each other's outputs by name: nets of any shape, with several inputs and outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from xcnn.core.checks import check_shape
from xcnn.core.likeness import Likeness, check_dy, likeness, of_part
from xcnn.core.pure import is_own
from xcnn.core.several import arrays_of, each, is_several, shapes_of
from xcnn.core.types import Array, Rng, Shape, Weights
from xcnn.errors import OptionError, ShapeError, counted, inside, short
from xcnn.layers.branches import Branches
from xcnn.layers.container import Container
from xcnn.layers.layer import Layer, Run, no_backward
from xcnn.layers.wiring import Names, Wiring, wired


@dataclass(frozen=True, init=False, repr=False)
class Graph(Container):
    """Layers that take each other's outputs by name. Y = the outputs' values;  dX = backward, the last one first.

    A node is a layer, which takes what was written before it, or a tuple of a layer and the names of what it takes. A
    value may be taken several times: its gradients are summed. `Add()`, `Multiply()` and `Concatenate()` without
    branches make one value of several, and so may a layer of yours: it is given a tuple of shapes by `init`, a tuple of
    arrays for x, and its backward gives a tuple of their gradients.

    With several inputs or outputs x, y, their shapes and their gradients are tuples, in the order of `inputs` and
    `outputs`; `xcnn.Model` takes dicts by these names too.

    Parameters
    ----------
    inputs
        the names of what the net is given; one or several
    outputs
        the nodes whose values it gives; by default the last one that is written
    takes
        of each node what it takes, in the place of the tuples, as checkpoints keep it
    **nodes
        by name: layers, or tuples of a layer and of names of inputs and nodes, in any order

    Raises
    ------
    OptionError
        X104, for a node that is no layer, takes what there is not or takes part in a cycle, and for one that nobody
        takes and that is no output.
    ShapeError
        what the layers raise, with the nodes' names in front.

    Examples
    --------
    >>> net = xcnn.Graph(
    ...     stem=xcnn.Conv2D(8, 3, padding="same"),
    ...     left=(xcnn.Conv2D(8, 3, padding="same"), "stem"),
    ...     right=(xcnn.Conv2D(8, 1), "stem"),
    ...     both=(xcnn.Add(), "left", "right", "stem"),
    ...     pool=xcnn.GlobalAveragePool2D(),
    ...     digit=(xcnn.Dense(10), "pool"),
    ...     angle=(xcnn.Dense(1), "pool"),
    ...     inputs="image",
    ...     outputs=("digit", "angle"),
    ... )
    >>> net.init(np.random.default_rng(0), (1, 28, 28))[1]
    ((10,), (1,))
    """

    takes: tuple[Names, ...]
    inputs: Names
    outputs: Names

    def __init__(
        self,
        *,
        inputs: str | Sequence[str] = "input",
        outputs: str | Sequence[str] | None = None,
        takes: Sequence[Sequence[str]] = (),
        **nodes: Any,
    ) -> None:
        layers = {name: node[0] if isinstance(node, tuple | list) and node else node for name, node in nodes.items()}
        super().__init__(**layers)
        wiring = wired(nodes, inputs, [*nodes][-1:] if outputs is None else outputs, takes)
        for name, taken in wiring.takes.items():
            check_takes(name, layers[name], taken)
        object.__setattr__(self, "named", tuple((name, layers[name]) for name in wiring.takes))
        object.__setattr__(self, "takes", tuple(wiring.takes.values()))
        object.__setattr__(self, "inputs", wiring.inputs)
        object.__setattr__(self, "outputs", wiring.outputs)

    def __repr__(self) -> str:
        nodes = (f"{name}=({layer!r}, {str(taken)[1:-1].rstrip(',')})" for (name, layer), taken in self.wired_nodes())
        return f"Graph({', '.join(nodes)}, inputs={self.inputs}, outputs={self.outputs})"

    def with_layers(self, layers: Mapping[str, Layer]) -> Any:
        other = object.__new__(type(self))
        vars(other).update(named=tuple(layers.items()), takes=self.takes, inputs=self.inputs, outputs=self.outputs)
        return other

    def wired_nodes(self) -> Iterator[tuple[tuple[str, Layer], Names]]:
        """Each node's name and layer, and what it takes."""
        return zip(self.named, self.takes, strict=True)

    @cached_property
    def wiring(self) -> Wiring:
        """Who takes what, and when a value is taken for the last time."""
        return Wiring(dict(zip(self.layers, self.takes, strict=True)), self.inputs, self.outputs)

    @cached_property
    def stretches(self) -> tuple[tuple[int, int], ...]:
        """The nodes that are called together, from one number to before another: here each by itself."""
        return tuple((n, n + 1) for n in range(len(self)))

    # Shapes and weights.

    def init(self, rng: Rng, input_shape: Shape) -> tuple[Weights, Any]:
        shapes: dict[str, Any] = dict(zip(self.inputs, self.given_shapes(input_shape), strict=True))
        weights: Weights = {}
        for (name, layer), taken in self.wired_nodes():
            given = tuple(shapes[one] for one in taken)
            with telling(dict(zip(taken, given, strict=True))):
                shape = given if len(given) > 1 else given[0]
                drawn, shapes[name] = self.init_one(name, layer, rng, shape, self.behind(taken))
            if drawn:
                weights[name] = drawn
        outputs = tuple(tuple(shapes[name]) for name in self.outputs)
        return weights, outputs if len(outputs) > 1 else outputs[0]

    def given_shapes(self, input_shape: Any) -> list[Shape]:
        """The inputs' shapes; raises X101 where there are others than the inputs are."""
        shapes = shapes_of(input_shape)
        if is_several(input_shape) != (len(self.inputs) > 1) or len(shapes) != len(self.inputs):
            raise ShapeError(
                "X101",
                f"takes {counted(len(self.inputs), 'input')}: {', '.join(self.inputs)}.",
                f"got {counted(len(shapes), 'shape')}: {short(tuple(shapes))}",
                hint="give a shape for each: ((3, 32, 32), (4,))." if len(self.inputs) > 1 else "",
                layer=self,
            )
        return [check_shape("input_shape", shape) for shape in shapes]

    def behind(self, taken: Names) -> bool:
        """Whether all that a node takes comes from others."""
        return not {*taken} & {*self.inputs}

    # The values, forward and back.

    def __call__(self, weights: Weights, x: Any, run: Run) -> tuple[Any, Any]:
        values = dict(zip(self.inputs, self.given(x), strict=True))
        wanted, backs, last = self.wanted(weights, run), [], self.wiring.last
        made = {name: likeness(value) for name, value in values.items()}
        for first, end in self.stretches:
            taken, name = self.takes[first], self.named[end - 1][0]
            given = tuple(values[one] for one in taken)
            wants_dx = any(map(wanted.__getitem__, taken))
            values[name], back = self.stretch(first, end, weights, given if len(given) > 1 else given[0], run, wants_dx)
            made[name] = likeness(values[name])
            if wanted[name] and run.wants_backward:
                backs.append((name, taken, back))
            for one in taken:
                if last[one] == first:
                    values.pop(one, None)
            del given
        y = tuple(values[name] for name in self.outputs)
        if not run.wants_backward:
            return y if len(y) > 1 else y[0], no_backward

        def backward(dy: Any) -> tuple[Any, Weights]:
            dys, grads = self.of_outputs(made, dy), dict[str, Any]()
            for name, taken, back in reversed(backs):
                if name in dys:
                    dx = back(dys.pop(name), grads)
                    if any(map(wanted.__getitem__, taken)):
                        self.sum_up(dys, taken, dx if len(taken) > 1 else (dx,), wanted, made)
            dx = tuple(dys[name] for name in self.inputs) if run.wants_dx else None
            ordered = {name: grads[name] for name, _ in self.named if name in grads}
            return dx if dx is None or len(dx) > 1 else dx[0], ordered

        return y if len(y) > 1 else y[0], backward

    def stretch(self, first: int, end: int, weights: Weights, x: Any, run: Run, wants_dx: bool) -> tuple[Array, Any]:
        """The value of the nodes from the first to before the end, and what gives dx and enters their gradients."""
        y, backward = self.call(first, weights, x, run, wants_dx, self.behind(self.takes[first]))
        return y, lambda dy, grads: self.back(first, backward, dy, grads)

    def wanted(self, weights: Weights, run: Run) -> dict[str, bool]:
        """Of each value whether its gradient is wanted: by the run, or for weights on the way to it."""
        found = dict.fromkeys(self.inputs, run.wants_dx or run.by_layer)
        for (name, _), taken in self.wired_nodes():
            found[name] = bool(weights.get(name)) or any(map(found.__getitem__, taken))
        return found

    def given(self, x: Any) -> tuple[Array, ...]:
        """The inputs' arrays; raises X101 where there are others than the inputs are."""
        arrays = arrays_of(x)
        if len(arrays) != len(self.inputs) or isinstance(x, tuple) != (len(self.inputs) > 1):
            self.given_shapes(each(lambda a: tuple(getattr(a, "shape", ()))[1:], x))
        return arrays

    def of_outputs(self, made: Mapping[str, Likeness], dy: Any) -> dict[str, Array]:
        """The outputs' gradients by name, each held to its output."""
        dys = dy if len(self.outputs) > 1 else (dy,)
        if not isinstance(dys, tuple) or len(dys) != len(self.outputs):
            told = f"gives {counted(len(self.outputs), 'value')}, and wants a tuple of as many gradients."
            raise OptionError("X104", told, f"got {short(dy)}", layer=self)
        for name, of_one in zip(self.outputs, dys, strict=True):
            with inside(name):
                check_dy(self.layers[name], made[name], of_one)
        return dict(zip(self.outputs, dys, strict=True))

    def sum_up(
        self,
        dys: dict[str, Array],
        taken: Names,
        dxs: Sequence[Array],
        wanted: Mapping[str, bool],
        made: Mapping[str, Likeness],
    ) -> None:
        """Enter a node's dx into the gradients of what it takes, beside those of others that take it."""
        for name, dx in zip(taken, dxs, strict=True):
            if wanted[name]:
                dx = of_part(made[name], dx)
                dys[name] = self.added(dys[name], dx) if name in dys else dx

    def added(self, a: Array, b: Array) -> Array:
        """The gradients of one value, from two that take it."""
        return a + b


@contextmanager
def telling(taken: Mapping[str, Shape]) -> Iterator[None]:
    """Let a ShapeError in this block tell what is taken, where that is several values."""
    try:
        yield
    except ShapeError as error:
        if len(taken) > 1:
            error.details = (
                *error.details,
                "it takes " + ", ".join(f"{name} {shape}" for name, shape in taken.items()),
            )
        raise


def check_takes(name: str, layer: Layer, taken: Names) -> None:
    """Raise X104 where a layer of xcnn's is given several values and takes one, or the other way round."""
    joins = isinstance(layer, Branches) and not layer.named
    inputs = len(layer.inputs) if isinstance(layer, Graph) else 2 if joins else 1
    if isinstance(layer, Graph) and len(layer.outputs) > 1:
        raise OptionError("X104", f"{name!r} gives several values; a node gives one.", hint="take its nodes out of it.")
    if is_own(type(layer)) and (len(taken) != inputs if not joins else len(taken) < inputs):
        kind = type(layer).__name__
        hint = f"{kind}() joins at least two." if joins else "Add(), Multiply() or Concatenate() make one of several."
        what = f"{kind} takes {'several values' if joins else counted(inputs, 'value')}"
        raise OptionError("X104", f"Graph's {name!r}: {what}; it is given {', '.join(map(repr, taken))}.", hint=hint)
