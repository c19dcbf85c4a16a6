"""A table of a model's layers: shapes, parameters, and the memory that a training step and a prediction take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from types import CellType
from typing import Any

import numpy as np

from xcnn.core import html, memory, tree
from xcnn.core.text import columns, readable
from xcnn.core.types import Array, Backward, Shape, Weights
from xcnn.errors import counted
from xcnn.layers.batch_norm import STEPS
from xcnn.layers.container import Container
from xcnn.layers.layer import Hook, Layer, Run
from xcnn.model.held import Held
from xcnn.model.memory import needs
from xcnn.training.precision import within

EMPTY = CellType()
"""That of a variable which no statement has set, as a layer's options may have it."""
TITLES = ("layer", "class", "output", "parameters", "kept / sample")


@dataclass(frozen=True)
class LayerRow:
    """One layer: its path in the net, its class, its output's shape, its parameters, bytes it keeps for each sample."""

    name: str
    kind: str
    output_shape: Shape
    parameters: int
    kept_bytes: int


@dataclass(frozen=True)
class Summary:
    """What `model.summary()` gives; `print` it, or read its fields. Bytes are for a whole batch.

    `step_bytes` and `prediction_bytes` are what this engine takes for a training step and for a prediction, the weights
    counted, and the optimizer's state for a step and of a model that was trained; the data that batches are cut from
    not (model/memory.py). Where the backend can't count, `step_bytes` is an estimate and `prediction_bytes` None.

    `activation_bytes`, and what a row keeps, is what backward keeps of a forward pass layer by layer: runs of layers
    that are fused keep less. `free_bytes` is what is free for arrays now, None where the system does not tell.
    """

    rows: tuple[LayerRow, ...]
    input_shape: Shape
    parameters: int
    weight_bytes: int
    optimizer_bytes: int
    activation_bytes: int
    step_bytes: int
    prediction_bytes: int | None
    free_bytes: int | None
    batch_size: int
    backend: str
    dtype: str
    precision: str

    @property
    def fits(self) -> bool | None:
        """Whether what is free suffices for a training step, beside weights and state that are there already."""
        there = self.weight_bytes + self.optimizer_bytes
        return None if self.free_bytes is None else self.step_bytes <= self.free_bytes + there

    def __str__(self) -> str:
        table = self._cells()
        rule = tuple("-" * max(map(len, cells)) for cells in zip(TITLES, *table, strict=True))
        lines = columns([TITLES, rule, *table], words=3)
        return "\n".join([*map(str.rstrip, lines), "", *self._notes()])

    def _repr_html_(self) -> str:
        return html.table(TITLES, self._cells(), words=3, notes=self._notes())

    def _cells(self) -> list[tuple[str, ...]]:
        """The lines of the table."""
        return [
            ("input", "", _shape(self.input_shape), "", ""),
            *(
                (row.name, row.kind, _shape(row.output_shape), f"{row.parameters:,}", readable(row.kept_bytes))
                for row in self.rows
            ),
        ]

    def _notes(self) -> list[str]:
        """The lines below it."""
        types = self.dtype if self.precision == self.dtype else f"{self.dtype}, computed in {self.precision},"
        asked = "" if self.prediction_bytes is None else f", a prediction: about {readable(self.prediction_bytes)}"
        free = {True: "it fits", False: "a step does not fit", None: ""}[self.fits]
        return [
            f"{counted(self.parameters, 'parameter')}, {readable(self.weight_bytes)} ({types} on {self.backend})",
            f"a training step with batch {self.batch_size}: about {readable(self.step_bytes)} "
            f"({readable(self.optimizer_bytes)} of optimizer state){asked}",
            *([f"{free}: {readable(self.free_bytes)} are free"] if self.free_bytes is not None else []),
        ]

    def to_dict(self) -> dict[str, Any]:
        """The summary as plain values, for JSON."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "rows"}
        return {**fields, "fits": self.fits, "layers": [vars(row) for row in self.rows]}


def summarize(model: Held, batch_size: int) -> Summary:
    """Send zeros through the net, and look at what each layer gives and keeps, and what a step and a prediction take.

    What a second sample adds is what a sample keeps: copies of weights in another type are kept once.
    """
    with memory.alone():
        taken, of_one, of_two = needs(model, batch_size), look_through(model, 1), look_through(model, 2)
    rows = tuple(
        replace(two, kept_bytes=two.kept_bytes - one.kept_bytes) for one, two in zip(of_one, of_two, strict=True)
    )
    weights = sum(map(_bytes, tree.leaves(model.state.weights)))
    moments = sum(_bytes(leaf) for leaf in tree.leaves(model.state.optimizer_state) if not isinstance(leaf, int))
    activations = batch_size * sum(row.kept_bytes for row in rows)
    there = weights + moments * (model.state.step > 0)  # before the first step moments are zeros, mostly untouched
    step = 3 * weights + 2 * moments + activations
    if taken:
        step = max(weights + moments + taken.step.bytes(batch_size, rounds=1), taken.step.bytes(batch_size))
    return Summary(
        rows=rows,
        input_shape=model.input_shape,
        parameters=count(model.state.weights),
        weight_bytes=weights,
        optimizer_bytes=moments,
        activation_bytes=activations,
        step_bytes=step,
        prediction_bytes=there + taken.prediction.bytes(batch_size) if taken else None,
        free_bytes=model.trainer.backend.free_memory(),
        batch_size=batch_size,
        backend=model.backend.spec,
        dtype=model.dtype,
        precision=model.precision,
    )


def look_through(model: Held, samples: int) -> list[LayerRow]:
    """The layers as so many zeros pass through them, with the bytes that they keep of all."""
    rows: list[LayerRow] = []
    seen = {_home(w) for w in tree.leaves(model.state.weights)}

    def look(path: tuple[str, ...], layer: Layer, y: Array, backward: Backward) -> Backward:
        if not isinstance(within(layer), Container):
            kept = {_home(a): _bytes(a) for a in held(backward) if _home(a) not in seen}
            seen.update(kept)
            name, kind = ".".join(path) or "net", type(within(layer)).__name__
            rows.append(LayerRow(name, kind, tuple(y.shape[1:]), parameters(path), sum(kept.values())))
        return backward

    def parameters(path: tuple[str, ...]) -> int:
        node: Any = model.state.weights
        for name in path:
            node = node.get(name, {})
        return count(node)

    backend = model.trainer.backend
    x = backend.asarray(np.zeros((samples, *model.input_shape)), model.dtype)
    with backend.active():
        y, backward = model.trainer.layers(model.state.weights, x, Run(backend, train=True, hook=Hook(look)))
    if not rows and not isinstance(model.net, Container):  # a net of a single layer
        look((), model.net, y, backward)
    return rows


def count(weights: Weights) -> int:
    """The number of parameters in a tree; the batches that a BatchNorm counts are none."""
    return sum(prod(w.shape) for path, w in tree.items(weights) if path.rpartition("/")[2] != STEPS)


def held(thing: Any, depth: int = 8) -> Iterator[Array]:
    """The arrays that a function's closure reaches, through functions, lists, tuples and dicts."""
    if isinstance(getattr(thing, "shape", None), tuple) and hasattr(thing, "dtype"):
        yield thing
    elif depth:
        inner: Any = ()
        if hasattr(thing, "__closure__"):
            inner = [cell.cell_contents for cell in thing.__closure__ or () if cell != EMPTY]
        elif isinstance(thing, dict):
            inner = thing.values()
        elif isinstance(thing, list | tuple):
            inner = thing
        for each in inner:
            yield from held(each, depth - 1)


def _bytes(array: Array) -> int:
    digits = "".join(filter(str.isdigit, str(array.dtype)))  # float32, torch.int64; a bool takes a byte
    cells: int = prod(array.shape)
    return cells * int(digits or 8) // 8


def _home(array: Array) -> int:
    """What tells two arrays on the same memory: the array that a view was taken of."""
    base = getattr(array, "base", None)
    return _home(base) if base is not None and hasattr(base, "dtype") else id(array)


def _shape(shape: Shape) -> str:
    return " x ".join(map(str, shape)) or "scalar"
