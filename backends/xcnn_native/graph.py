"""What symbols are computed of, as a list of nodes, each an operation with the numbers of earlier ones.

Equal terms are one node. A node without operands is (kind, value, ...): a number, or an array's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, TypeAlias

CONSTANT, CHANNEL, STREAM = "CONSTANT", "CHANNEL", "STREAM"
"""Numbers; arrays with one cell for each channel, and with all cells."""
Node: TypeAlias = tuple[Any, ...]
SUMS = {("ADD", 0): "MULTIPLY_ADD", ("ADD", 1): "MULTIPLY_ADD", ("SUBTRACT", 0): "MULTIPLY_SUBTRACT",
        ("SUBTRACT", 1): "SUBTRACT_PRODUCT"}  # fmt: skip
"""The operation of three operands for a sum whose first or second operand is a product."""


def operands(node: Node) -> tuple[int, ...]:
    """The nodes that a node is computed of."""
    return () if node[0] in (CONSTANT, CHANNEL, STREAM) else node[1:]


def graph(results: Mapping[str, Any], known: Mapping[str, Any]) -> tuple[list[Node], dict[str, int]]:
    """Of symbols by name: all nodes, each after its operands, and which of them the results are."""
    numbers: dict[Node, int] = {}
    seen: dict[int, int] = {}
    streams = {id(symbol): name for name, symbol in known.items()}

    def visit(symbol: Any) -> int:
        if id(symbol) not in seen:
            if id(symbol) in streams:
                name = streams[id(symbol)]
                node: Node = (STREAM, name, repr(name))
            elif symbol.operands:
                node = (symbol.operation, *map(visit, symbol.operands))
            else:
                node = (symbol.operation, symbol.value, repr(symbol.value))  # 0.0 and -0.0 are equal
            seen[id(symbol)] = numbers.setdefault(node, len(numbers))
        return seen[id(symbol)]

    ends = {name: visit(symbol) for name, symbol in results.items()}
    return list(numbers), ends


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


def digest(nodes: list[Node]) -> str:
    """Of a formula: equal for equal ones."""
    return sha256(repr(nodes).encode()).hexdigest()[:16]
