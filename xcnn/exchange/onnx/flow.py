"""Values of a graph while it is read: constants, and what flows from the input through layers.

What flows may be looked at under another shape, or with its axes in another order, than the layer that gave it has
made it: graphs reshape and transpose much that needs neither. A layer for it is made where one is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xcnn.core.random import Planner
from xcnn.core.types import Shape
from xcnn.exchange.onnx.constants import SAMPLES
from xcnn.exchange.onnx.file import Op
from xcnn.layers import Flatten, Layer, Permute, Reshape

MOST_LAYERS = 5_000
RESERVED = {"input", "inputs", "outputs", "shortcut", "takes"}
"""Names that containers have for something else."""


class Inexpressible(ValueError):
    """Why an operator can't be had as layers."""


class Lost:
    """Stands for a value that could not be made."""


@dataclass(frozen=True)
class Known:
    """A value that does not follow from the input: an array for each of the two numbers of samples."""

    values: tuple[NDArray[Any], NDArray[Any]]

    @property
    def fixed(self) -> NDArray[Any]:
        """The array, if it is the same for any number of samples."""
        first, second = self.values
        if first is not second and not (first.shape == second.shape and np.array_equal(first, second)):
            raise Inexpressible("what must be constant follows from the number of samples")
        return first


def known(value: Any) -> Known:
    """A constant."""
    array = np.asarray(value)
    return Known((array, array))


@dataclass(frozen=True)
class Flow:
    """A value that follows from the input: that of a step, seen with its axes in an order, and then as a shape.

    Parameters
    ----------
    step
        who gave it
    held
        the shape of a sample as it was given
    shape
        of a sample as the graph has it
    order
        of the axes of `held` before they are seen as `shape`
    by
        the operator that reshaped or transposed it last
    """

    step: str
    held: Shape
    shape: Shape
    order: Shape | None = None
    by: str = ""

    @property
    def turned(self) -> Shape:
        """The shape behind the order of axes."""
        return self.held if self.order is None else tuple(self.held[axis] for axis in self.order)


@dataclass(frozen=True)
class Row:
    """The cells of all samples in one row, sample by sample: no sample has a shape in it."""

    of: Flow


@dataclass(frozen=True)
class Step:
    """A layer with its weights, and the steps whose values it takes."""

    name: str
    layer: Layer
    weights: Mapping[str, NDArray[Any]]
    takes: tuple[str, ...]
    alike: bool = True
    """Whether these are of one shape."""


@dataclass
class Building:
    """The steps so far, and the names that they have."""

    opset: int
    uses: Mapping[str, int]
    """How often each value of the file is taken."""
    room: float = float("inf")
    """Cells that weights may still have: those of the file several times, and some that are made of nothing."""
    batch: int | None = None
    """The number of samples that the file was made for; None where it leaves it open."""
    steps: dict[str, Step] = field(default_factory=dict)
    taken: set[str] = field(default_factory=lambda: set(RESERVED))
    origin: dict[str, str] = field(default_factory=dict)
    """Of each step the name that its value has in the file; "" where several take it, under one name or more."""

    def note(self, op: Op, made: Any) -> None:
        """Enter under which name a step's value goes on."""
        for name, y in zip(op.outputs, made, strict=False):
            if isinstance(y, Flow):
                before = self.origin.get(y.step)
                single = before is None or (before in op.inputs and self.uses.get(before, 0) == 1)
                self.origin[y.step] = name if single else ""

    def alone(self, op: Op, n: int, x: Flow) -> Step | None:
        """The step that gave an operator's input, where nobody else takes its value: as made but for axes' order."""
        name = op.inputs[n]
        if self.origin.get(x.step) != name or self.uses.get(name, 0) != 1 or x.shape != x.turned or not x.shape:
            return None
        return self.steps.get(x.step)

    def name(self, wanted: str) -> str:
        """An identifier like a node's name, that no step has."""
        text = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in wanted[:120]).strip("_")
        text = text if text.isidentifier() else f"n{text}"
        found, n = text, 1
        while found in self.taken:
            n += 1
            found = f"{text}_{n}"
        self.taken.add(found)
        return found

    def add(self, name: str, layer: Layer, weights: Mapping[str, Any], *xs: Flow) -> Flow:
        """A step more, of values as they are held; its value."""
        if len(self.steps) >= MOST_LAYERS:
            raise Inexpressible(f"there are more than {MOST_LAYERS:,} layers")
        shapes = tuple(x.held for x in xs)
        planned, shape = layer.init(Planner(), shapes if len(shapes) > 1 else shapes[0])  # type: ignore[arg-type]
        self.room -= sum(np.size(w) for w in weights.values())
        if self.room < 0:
            raise Inexpressible("the weights would take much more than the file")
        arrays = {key: np.asarray(w, np.float32) for key, w in weights.items()}
        if {key: np.shape(w) for key, w in planned.items()} != {key: w.shape for key, w in arrays.items()}:
            told = {key: w.shape for key, w in arrays.items()}
            raise Inexpressible(f"its weights have the shapes {told}")
        step = Step(self.name(name), layer, arrays, tuple(x.step for x in xs), len({*shapes}) == 1)
        self.steps[step.name] = step
        return Flow(step.name, tuple(shape), tuple(shape))

    def plain(self, x: Flow) -> Flow:
        """The value held as it is seen, by layers where these differ."""
        if x.order is not None:
            y = self.add(x.by, Permute(tuple(axis + 1 for axis in x.order)), {}, x)
            x = replace(x, step=y.step, held=y.held, order=None)
        if x.held == x.shape:
            return x
        layer: Layer = Flatten() if len(x.shape) == 1 else Reshape(x.shape)
        return self.add(x.by, layer, {}, x)

    def seen(self, x: Flow, shape: Sequence[int], by: str) -> Flow:
        """The value as another shape."""
        if prod(shape) != prod(x.shape):
            raise Inexpressible(f"{tuple(x.shape)} can't be seen as {tuple(shape)}, sample by sample")
        return simplified(replace(x, shape=tuple(shape), by=by))

    def turned(self, x: Flow, order: Sequence[int], by: str) -> Flow:
        """The value with its axes in another order, those of a sample counted from 0."""
        if x.shape != x.turned:
            x = self.plain(x)
        whole = tuple(order) if x.order is None else tuple(x.order[axis] for axis in order)
        return simplified(replace(x, order=whole, shape=tuple(x.held[axis] for axis in whole), by=by))

    def of_samples(self, first: int, other: int) -> None:
        """Hold a number of rows, for either number of samples, to these, or to the number that the file is for."""
        if first == other and first != self.batch:
            raise Inexpressible(f"it makes {first} rows of any number of samples")
        if first != other and (first, other) != SAMPLES:
            raise Inexpressible("its rows follow from the number of samples, and are more or fewer")

    def like(self, x: Flow, y: Flow) -> Flow:
        """A step's value y, cell by cell of x, seen as x is."""
        return replace(x, step=y.step)


def simplified(x: Flow) -> Flow:
    """The same value without an order of axes that moves none of more than one cell."""
    if x.order is not None:
        moved = [axis for axis in x.order if x.held[axis] != 1]
        if moved == sorted(moved):
            return replace(x, order=None)
    return x


def batch_shape(shape: Shape) -> Known:
    """What Shape gives of a value: sizes, the batch's first."""
    first, second = (np.array((n, *shape), np.int64) for n in SAMPLES)
    return Known((first, second))


Args = list[Any]
"""What an operator takes: Flow, Known, or None for what is left out."""


def flow(args: Args, n: int = 0) -> Flow:
    """The argument that must follow from the input."""
    if n < len(args) and isinstance(args[n], Row):
        raise Inexpressible(f"its input {n} has the cells of all samples in one row")
    if n >= len(args) or not isinstance(args[n], Flow):
        raise Inexpressible(f"its input {n} is a constant")
    return args[n]  # type: ignore[no-any-return]


def fixed(args: Args, n: int, default: Any = None) -> Any:
    """The argument that must be a constant, as an array; the default where it is left out."""
    if n >= len(args) or args[n] is None:
        return default
    if not isinstance(args[n], Known):
        raise Inexpressible(f"its input {n} is no constant")
    return args[n].fixed
