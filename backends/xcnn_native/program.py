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

from xcnn.core.types import Array
from xcnn.layers.layer import Layer
from xcnn_native.library import KINDS, address, library
from xcnn_native.trace import CHANNEL, STREAM, Symbol, Untraceable, trace

LINE, CONSTANT, OF_CHANNELS, READ, RESULT = range(5)
"""Kinds of places, as in kernels/tiles.h."""
LINES, PLACES = 16, 96
"""How many there are at most, as there."""
SUMS = {("ADD", 0): "MULTIPLY_ADD", ("ADD", 1): "MULTIPLY_ADD", ("SUBTRACT", 0): "MULTIPLY_SUBTRACT",
        ("SUBTRACT", 1): "SUBTRACT_PRODUCT"}  # fmt: skip
"""The operation of three operands for a sum whose first or second operand is a product."""
Node = tuple[Any, ...]


class Step(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int32) for name in ("operation", "to", "a", "b", "c")]


class Place(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int32) for name in ("kind", "array", "line", "unused")] + [("value", ctypes.c_double)]


class Layout(ctypes.Structure):
    _fields_ = [(name, ctypes.c_ssize_t) for name in ("steps", "places")] + [
        (name, ctypes.c_void_p) for name in ("step", "place")
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
        nodes, ends = graph(results, known or {})
        self.arrays: tuple[str, ...] = tuple(node[1] for node in nodes if node[0] in (CHANNEL, STREAM)) + tuple(results)
        self.steps, self.places = self.lowered(nodes, ends, overwritten)
        if len(self.places) > PLACES:
            raise Untraceable("it has too many operands.")
        self._step, self._place = (Step * len(self.steps))(*self.steps), (Place * len(self.places))(*self.places)
        places = ctypes.addressof(self._place)
        self._layout = Layout(len(self.steps), len(self.places), ctypes.addressof(self._step), places)
        self.at = ctypes.addressof(self._layout)
        self.reads = frozenset(self.arrays) - frozenset(results)
        self._pass = getattr(library(), f"pass_{KINDS[self.dtype.char]}")
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
            places.append((kind, self.arrays.index(name) if name else 0, line, 0, value))
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

    def addresses(self, arrays: Mapping[str, Array]) -> Any:
        """Where these arrays lie, in the order that the C side wants."""
        return self._addresses(*(address(arrays[name]) for name in self.arrays))

    def run(
        self, arrays: Mapping[str, Array], planes: int, cells: int, threads: int, channels: int = 0, last: bool = True
    ) -> None:
        """Run it on so many planes of so many cells, all arrays in one order of memory.

        Of so many channels; they are neighbours within a plane, or else (`last` is false) each plane is of the next.
        """
        self._pass(self.at, self.addresses(arrays), planes, cells, channels, last, threads)


def operands(node: Node) -> tuple[int, ...]:
    """The nodes that a node is computed of."""
    return () if node[0] in ("CONSTANT", CHANNEL, STREAM) else node[1:]


def graph(results: Mapping[str, Symbol], known: Mapping[str, Symbol]) -> tuple[list[Node], dict[str, int]]:
    """All nodes in an order in which each follows its operands, and which of them the results are."""
    numbers: dict[Node, int] = {}
    seen: dict[int, int] = {}
    streams = {id(symbol): name for name, symbol in known.items()}

    def visit(symbol: Symbol) -> int:
        if id(symbol) not in seen:
            if id(symbol) in streams:
                node: Node = (STREAM, streams[id(symbol)])
            elif symbol.operands:
                node = (symbol.operation, *map(visit, symbol.operands))
            else:
                node = (symbol.operation, symbol.value, repr(symbol.value))  # 0.0 and -0.0 are equal
            seen[id(symbol)] = numbers.setdefault(node, len(numbers))
        return seen[id(symbol)]

    ends = {name: visit(symbol) for name, symbol in results.items()}
    return fused(list(numbers), ends)


def fused(nodes: list[Node], ends: dict[str, int]) -> tuple[list[Node], dict[str, int]]:
    """Products that are only added to, or subtracted, within the sum; and no node that nobody needs."""
    uses = [0] * len(nodes)
    for node in nodes:
        for operand in operands(node):
            uses[operand] += 1
    for n in ends.values():
        uses[n] += 1
    gone: set[int] = set()
    for n, node in enumerate(nodes):
        for which in (0, 1) if node[0] in ("ADD", "SUBTRACT") else ():
            product = node[1 + which]
            if nodes[product][0] == "MULTIPLY" and uses[product] == 1:
                nodes[n] = (SUMS[node[0], which], *nodes[product][1:], node[2 - which])
                gone.add(product)
                break
    order = [n for n in range(len(nodes)) if n not in gone]
    new = {n: at for at, n in enumerate(order)}
    moved = [(node[0], *(new[m] for m in node[1:])) if operands(node) else node for node in (nodes[n] for n in order)]
    return moved, {name: new[n] for name, n in ends.items()}


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


__all__ = ["Formula", "Program", "formula"]
