"""The table of operators that are read, and what its entries share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from xcnn.core.types import Pads, Pair
from xcnn.core.windows import extent
from xcnn.exchange.onnx.file import Op
from xcnn.exchange.onnx.flow import Args, Building, Flow, Inexpressible

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
    """A padding as one would write it: "valid", a number, one for each axis, or all of them."""
    if any(min(both) < 0 for both in pads):
        raise Inexpressible("its pads are negative")
    uneven = any(before != after for before, after in pads)
    if len(pads) == 1:
        return pads[0] if uneven else pads[0][0] or "valid"
    (top, bottom), (left, right) = pads
    if uneven:
        whole: Pads = ((top, bottom), (left, right))
        return whole
    return (top or "valid") if top == left else (top, left)


def one(each: Sequence[int]) -> Any:
    """A number for each axis as one, where they are equal."""
    return each[0] if len({*each}) == 1 else tuple(each)


def along_axes(op: Op, x: Flow, net: Building) -> tuple[Flow, int]:
    """The value as it is held, and how many axes it has behind its channels: 1 for signals, 2 for images."""
    if len(x.shape) not in (2, 3):
        raise Inexpressible(f"it takes samples of shape {x.shape}, no images or signals")
    return net.plain(x), len(x.shape) - 1
