"""The operators of a file as who looks for formulas in them asks: who gives a value, who takes it, what is constant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from xcnn.exchange.onnx.file import Op, by_output, takers

NEAR = 1e-4
"""Of a constant in a formula, as exporters round it."""


class Ops:
    """The operators of a file: who gives a value, who takes it, and the constants."""

    def __init__(self, ops: list[Op], constants: Mapping[str, Any]) -> None:
        self.by_output: dict[str, Op] = by_output(ops)
        self.constants: Mapping[str, Any] = constants
        self.uses: Counter[str] = Counter(name for name, _ in takers(ops))

    def made(self, name: str, *kinds: str) -> Op | None:
        """The operator of one of these types that gives a value."""
        op = self.by_output.get(name)
        return op if op is not None and op.kind in kinds and name == op.outputs[0] else None

    def inner(self, name: str, *kinds: str) -> Op | None:
        """Such an operator whose value nobody else takes."""
        return self.made(name, *kinds) if self.uses[name] == 1 else None

    def is_number(self, name: str, *values: float) -> bool:
        """Whether a value is a constant of one cell, and nearly one of these numbers."""
        found = self.constants.get(name)
        if found is None or found.size != 1 or found.dtype.kind not in "fiu":
            return False
        return any(abs(float(found.ravel()[0]) - value) <= NEAR * abs(value) for value in values)

    def beside(self, op: Op | None, *values: float) -> str | None:
        """Of an operator with two inputs, one of which is such a number, the other."""
        if op is None or len(op.inputs) != 2:
            return None
        a, b = op.inputs
        return a if self.is_number(b, *values) else b if self.is_number(a, *values) and op.kind != "Div" else None

    def pairs(self, op: Op) -> Iterator[tuple[str, str]]:
        """Both orders of two inputs."""
        if len(op.inputs) == 2:
            yield op.inputs[0], op.inputs[1]
            yield op.inputs[1], op.inputs[0]
