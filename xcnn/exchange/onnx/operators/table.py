"""The table of operators that are read, and what its entries share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from xcnn.core.types import Pads, Pair
from xcnn.core.windows import extent
from xcnn.exchange.onnx.file import Op
from xcnn.exchange.onnx.flow import Args, Building, Inexpressible

Reader = Callable[[Op, Args, Building], Any]
"""From an operator and what it takes to what it gives: a Flow, or a list of them."""

OPERATORS: dict[str, Reader] = {}
"""How each type of operator is read."""

Reading = TypeVar("Reading", bound=Reader)


def reads(*kinds: str) -> Callable[[Reading], Reading]:
    """Enter a function into the table for these types of operators."""

    def enter(function: Reading) -> Reading:
        OPERATORS.update(dict.fromkeys(kinds, function))
        return function

    return enter


def numbers(op: Op, name: str, count: int, default: int) -> list[int]:
    """An attribute with a whole number for each axis."""
    found = op.get(name) or [default] * count
    if len(found) != count:
        raise Inexpressible(f"its {name} are {found} for {count} axes")
    return [int(n) for n in found]


def padding_of(
    op: Op, sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> Any:
    """Cells before and after each axis, from `pads` or `auto_pad`."""
    match op.get("auto_pad", "NOTSET"):
        case "NOTSET":
            pads = numbers(op, "pads", 2 * len(sizes), 0)
            return [*zip(pads[: len(sizes)], pads[len(sizes) :], strict=True)]
        case "VALID":
            return [(0, 0)] * len(sizes)
        case "SAME_UPPER" | "SAME_LOWER" as mode:
            found = []
            for n, k, s, d in zip(sizes, kernel, stride, dilation, strict=True):
                whole = max((-(-n // s) - 1) * s + extent(k, d) - n, 0)
                less, more = whole // 2, whole - whole // 2
                found.append((less, more) if mode == "SAME_UPPER" else (more, less))
            return found
        case other:
            raise Inexpressible(f"its auto_pad is {other}")


def shortest(pads: Sequence[Pair]) -> Any:
    """A padding as one would write it: "valid", a number, one for each axis, or all four."""
    (top, bottom), (left, right) = pads
    if min(top, bottom, left, right) < 0:
        raise Inexpressible("its pads are negative")
    if (top, left) != (bottom, right):
        whole: Pads = ((top, bottom), (left, right))
        return whole
    return (top if top else "valid") if top == left else (top, left)


def one(both: Sequence[int]) -> Any:
    """Two numbers as one, where they are equal."""
    return both[0] if both[0] == both[1] else tuple(both)
