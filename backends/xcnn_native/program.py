"""Symbols into programs: steps over lines of cells in the first cache, which kernels/tiles.c runs.

Equal terms are computed once, a product that is only added to goes with the sum, and lines are used again when what
lies in them was read for the last time.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from xcnn.core.types import Array
from xcnn.layers.layer import Layer
from xcnn_native.graph import Node, fused, graph, operands
from xcnn_native.library import Held, address, kernel, library
from xcnn_native.trace import CHANNEL, STREAM, Symbol, Untraceable, trace

LINE, CONSTANT, OF_CHANNELS, READ, RESULT = range(5)
"""Kinds of places, as in kernels/tiles.h."""
PLANES, NEIGHBOURS, OWN_NEIGHBOURS = range(3)
"""How channels lie: each plane is of the next; they are neighbours within each plane; with numbers of its own."""
LINES, PLACES = 16, 96
"""How many there are at most, as there."""


class Step(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int32) for name in ("operation", "to", "a", "b", "c")]


class Place(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int32) for name in ("kind", "array", "line", "unused")] + [("value", ctypes.c_double)]


class Layout(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_ssize_t) for name in ("steps", "places")),
        *((name, ctypes.c_void_p) for name in ("step", "place")),
        *((name, ctypes.c_ssize_t) for name in ("short", "scale", "bias", "beside", "result", "rectified")),
    ]


@cache
def operations() -> dict[str, int]:
    """The library's operations by name."""
    names = library().operations_f32().decode().split()  # type: ignore[union-attr]
    return {name: n for n, name in enumerate(names)}


class Program:
    """A program that writes arrays, each as a symbol says.

    Parameters
    ----------
    results
        by name: the arrays that are written, all of one type
    known
        by name: symbols whose values are read from an array, and not computed
    overwritten
        names of arrays that are read, and may lie where a result is written: they are read before

    Attributes
    ----------
    arrays
        the names of all arrays, in the order of their addresses
    at
        the address of the C struct
    """

    def __init__(
        self,
        results: Mapping[str, Symbol],
        known: Mapping[str, Symbol] | None = None,
        overwritten: tuple[str, ...] = (),
    ) -> None:
        self.dtype = next(iter(results.values())).dtype
        nodes, ends = fused(*graph(results, known or {}))
        self.arrays: tuple[str, ...] = tuple(node[1] for node in nodes if node[0] in (CHANNEL, STREAM)) + tuple(results)
        self.steps, self.places = self.lowered(nodes, ends, overwritten)
        if len(self.places) > PLACES:
            raise Untraceable("it has too many operands.")
        self._step, self._place = (Step * len(self.steps))(*self.steps), (Place * len(self.places))(*self.places)
        places = ctypes.addressof(self._place)
        ending = short(self.steps, self.places)
        self._layout = Layout(
            len(self.steps), len(self.places), ctypes.addressof(self._step), places, ending is not None, *ending or ()
        )
        self.at = Held(ctypes.addressof(self._layout), (self._layout, self._step, self._place))
        self.reads = frozenset(self.arrays) - frozenset(results)
        self._pass = kernel("pass", self.dtype)
        self._addresses = ctypes.c_void_p * len(self.arrays)

    def lowered(self, nodes: list[Node], ends: dict[str, int], overwritten: tuple[str, ...]) -> tuple[Any, Any]:
        """Steps and places. A node is an operation with the numbers of earlier nodes, or an array, or a constant."""
        last = {m: n for n, node in enumerate(nodes) for m in operands(node)}  # who reads it last
        last |= dict.fromkeys(ends.values(), len(nodes))
        safe = max((last[n] for n, node in enumerate(nodes) if node[0] == STREAM and node[1] in overwritten), default=0)
        places: list[tuple[int, int, int, int, float]] = []
        steps: list[tuple[int, ...]] = []
        where: dict[int, int] = {}  # nodes to places
        names = {n: name for name, n in ends.items()}
        free, lines, channels = [], 0, 0

        def place(kind: int, name: str | None = None, line: int = 0, value: float = 0.0) -> int:
            places.append((kind, 0 if name is None else self.arrays.index(name), line, 0, value))
            return len(places) - 1

        def step(operation: str, to: int, *at: int) -> None:
            steps.append((operations()[operation], to, *at, *[to] * (3 - len(at))))

        for n, (operation, *rest) in enumerate(nodes):
            if operation == "CONSTANT":
                where[n] = place(CONSTANT, value=rest[0])
            elif operation == STREAM:
                where[n] = place(READ, rest[0])
            elif operation == CHANNEL:
                where[n], channels = place(OF_CHANNELS, rest[0], channels), channels + 1
            else:
                free += [where[m] for m in set(rest) if last[m] == n and places[where[m]][0] == LINE]
                if n in names and n >= safe:
                    where[n] = place(RESULT, names.pop(n))
                elif free:
                    where[n] = free.pop()
                else:
                    where[n], lines = place(LINE, line=lines), lines + 1
                step(operation, where[n], *(where[m] for m in rest))
        direct = {self.arrays[array] for kind, array, *_ in places if kind == RESULT}
        for name, n in ends.items():
            if name not in direct:
                step("COPY", place(RESULT, name), where[n])
        if max(lines, channels) > LINES:
            raise Untraceable("it keeps too much at once.")
        return steps, places

    def addresses(self, arrays: Mapping[str, Array | int | None]) -> Any:
        """Where these arrays lie, if they are not addresses already, in the order that the C side wants."""
        found = [arrays[name] for name in self.arrays]
        return self._addresses(*[address(a) if type(a) is np.ndarray else a for a in found])

    def run(
        self,
        arrays: Mapping[str, Array | int | None],
        threads: int,
        planes: int,
        cells: int,
        channels: int = 0,
        how: int = PLANES,
    ) -> None:
        """Run it on so many planes of so many cells, all arrays in one order; channels lie as `how` says."""
        self._pass(self.at, self.addresses(arrays), planes, cells, channels, how, threads)


def short(
    steps: list[tuple[int, ...]], places: list[tuple[int, int, int, int, float]]
) -> tuple[int, int, int, int, bool] | None:
    """Which arrays are scale, bias, r and y of y = relu(scale z + bias + r), -1 for none; and whether a ReLU is there.

    None of any other formula. Kernels do as much to sums before they are written.
    """
    kinds, names = [place[0] for place in places], {n: name for name, n in operations().items()}
    if kinds.count(RESULT) != 1 or READ not in kinds:
        return None
    now = kinds.index(READ)
    found = dict.fromkeys(("scale", "bias", "beside"), -1)
    rectified = False
    for number, to, a, b, c in steps:
        operation, other = names[number], b if a == now else a
        if rectified or now not in (a, b):
            return None
        if operation == "MULTIPLY_ADD" and found["bias"] < 0 and kinds[other] == kinds[c] == OF_CHANNELS:
            found |= {"scale": places[other][1], "bias": places[c][1]}
        elif operation == "ADD" and found["bias"] == found["beside"] == -1 and kinds[other] == OF_CHANNELS:
            found["bias"] = places[other][1]
        elif operation == "ADD" and found["beside"] < 0 and kinds[other] == READ:
            found["beside"] = places[other][1]
        elif operation == "MAXIMUM" and a == now and kinds[b] == CONSTANT and places[b][4] == 0:
            rectified = True
        else:
            return None
        now = to
    result = places[kinds.index(RESULT)][1]
    return (found["scale"], found["bias"], found["beside"], result, rectified) if kinds[now] == RESULT else None


@dataclass(frozen=True)
class Formula:
    """Activations one after another, forward and back: y of x; dx of dy and what it keeps, "y" where that suffices."""

    forward: Program
    backward: Program
    keeps: str


def formula(layers: Sequence[Layer], dtype: Any) -> Formula:
    """The programs of these activations; raises Untraceable."""
    x, dy = Symbol.of("x", dtype), Symbol.of("dy", dtype)
    y, through = trace(layers, x)
    dx = through(dy)
    backward = Program({"dx": dx}, {"y": y})
    if "x" in backward.reads:
        return Formula(Program({"y": y}), Program({"dx": dx}), "x")
    return Formula(Program({"y": y}), backward, "y")


__all__ = ["NEIGHBOURS", "OWN_NEIGHBOURS", "PLANES", "Formula", "Program", "formula"]
