"""The rules of operations on values whose axes lie in another order than the program's.

Each gives its operation's result, or None where it wants the order that the program has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import prod
from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn

from xcnn.core.types import Array, Shape
from xcnn_jax.orders import Flat, Spread, Turned, Value, inverse, lying, plain, turned


def bound(line: JaxprEqn, values: Iterable[Value], **changed: Any) -> list[Array]:
    """The results of the operation on arrays as they lie, with other parameters than the program's where given."""
    results = line.primitive.bind(*map(plain, values), **{**line.params, **changed})  # type: ignore[no-untyped-call]
    return [*results] if line.primitive.multiple_results else [results]


BY_CELL = {
    "abs", "add", "add_any", "and", "atan2", "cbrt", "ceil", "clamp", "convert_element_type", "copy", "copy_p",
    "cos", "div", "eq", "erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "floor", "ge", "gt", "integer_pow",
    "is_finite", "le", "log", "log1p", "logistic", "lt", "max", "min", "mul", "ne", "neg", "nextafter", "not",
    "or", "pow", "reduce_precision", "rem", "round", "rsqrt", "select_n", "sign", "sin", "sqrt", "square", "sub",
    "tan", "tanh", "xor",
}  # fmt: skip
"""Operations whose cells come from the cells at the same place alone, or from a number."""


def by_cell(line: JaxprEqn, values: list[Value]) -> Value:
    """Cell by cell."""
    order = max((v for v in values if isinstance(v, Turned)), key=lambda v: v.dtype.itemsize).order
    cells = [v if len(v.shape) < len(order) else lying(v, order) for v in map(arrayed, values)]
    return Turned(bound(line, cells)[0], order)


def arrayed(value: Value) -> Value:
    """A number as an array."""
    return value if hasattr(value, "shape") else jnp.asarray(value)


def transpose(line: JaxprEqn, values: list[Value]) -> Value:
    """Noted."""
    (x,), axes = values, line.params["permutation"]
    if isinstance(x, Spread):
        return None
    order = x.order if isinstance(x, Turned) else (*range(x.ndim),)
    return turned(x.cells if isinstance(x, Turned) else x, [order[axis] for axis in axes])


def broadcast_in_dim(line: JaxprEqn, values: list[Value]) -> Value:
    """Put off until an order is asked for."""
    x, axes = values[0], line.params["broadcast_dimensions"]
    if len(values) > 1 or isinstance(x, Spread):
        return None
    if isinstance(x, Turned):
        if prod(x.shape) == prod(line.params["shape"]):
            return reshaped(line, values)
        return Spread(x.cells, (*line.params["shape"],), tuple(axes[axis] for axis in inverse(x.order)))
    return Spread(x, (*line.params["shape"],), (*axes,))


def reduction(line: JaxprEqn, values: list[Value]) -> Value:
    """Over the same axes, wherever they lie."""
    (x,), axes = values, line.params["axes"]
    gone = [x.order[axis] for axis in axes]
    (cells,) = bound(line, [x.cells], axes=(*sorted(gone),))
    there = [axis for axis in range(len(x.order)) if axis not in gone]
    return turned(cells, [there.index(axis) for n, axis in enumerate(x.order) if n not in axes])


def along_each(*names: str) -> Callable[[JaxprEqn, list[Value]], Value]:
    """The rule of an operation that has a parameter for each axis."""

    def rule(line: JaxprEqn, values: list[Value]) -> Value:
        x, *others = values
        if not isinstance(x, Turned):
            return None
        back = inverse(x.order)
        moved = {name: line.params[name] and tuple(line.params[name][axis] for axis in back) for name in names}
        if line.primitive.name == "dynamic_slice":
            others = [others[axis] for axis in back] + others[len(back) :]
        return Turned(bound(line, [x.cells, *others], **moved)[0], x.order)

    return rule


def rev(line: JaxprEqn, values: list[Value]) -> Value:
    """Along the same axes."""
    (x,) = values
    return Turned(
        bound(line, [x.cells], dimensions=tuple(x.order[axis] for axis in line.params["dimensions"]))[0], x.order
    )


def concatenate(line: JaxprEqn, values: list[Value]) -> Value:
    """Along the same axis."""
    order = next(v.order for v in values if isinstance(v, Turned))
    axis = order[line.params["dimension"]]
    return Turned(bound(line, [lying(v, order) for v in values], dimension=axis)[0], order)


def reshaped(line: JaxprEqn, values: list[Value]) -> Value:
    """Where each axis is cut by itself, or axes that lie behind each other become one."""
    (x, *_), shape = values, shape_of(line.outvars[0])
    if not isinstance(x, Turned) or not prod(shape):
        return None
    if len(shape) == 1:
        return Flat(lax.reshape(x.cells, shape), x.cells.shape, x.order)
    groups = matched(x.shape, shape)
    pieces = []
    for before, after in groups:
        places = [x.order[axis] for axis in before]
        lie = sorted(x.order[axis] for axis, side in enumerate(x.shape) if side > 1)
        first = lie.index(places[0])
        if lie[first : first + len(places)] != places:
            return None
        pieces.append((places[0], after))
    laid = [axis for _, after in sorted(pieces) for axis in after]
    for axis in sorted({*range(len(shape))} - {*laid}):  # of one cell: beside the one before
        laid.insert(laid.index(axis - 1) + 1 if axis else 0, axis)
    return turned(lax.reshape(x.cells, [shape[axis] for axis in laid]), inverse(laid))


def shape_of(variable: Any) -> Shape:
    """That of the array that a program's variable stands for."""
    return tuple(variable.aval.shape)


def matched(before: Shape, after: Shape) -> list[tuple[list[int], list[int]]]:
    """The axes before and after that have the same cells, but for those of one cell."""
    old, new = ([axis for axis, side in enumerate(shape) if side > 1] for shape in (before, after))
    groups = []
    while old:
        one, other = [old.pop(0)], [new.pop(0)]
        while (a := prod(before[n] for n in one)) != (b := prod(after[n] for n in other)):
            (one if a < b else other).append((old if a < b else new).pop(0))
        groups.append((one, other))
    return groups


def dot_general(line: JaxprEqn, values: list[Value]) -> Value:
    """With the axes by their places, where those of the result have one order only."""
    (contracted, batch), cells = line.params["dimension_numbers"], []
    numbers: list[list[Any]] = [[], []]
    for n, v in enumerate(values):
        order = v.order if isinstance(v, Turned) else (*range(len(v.shape)),)
        if len(batch[n]) or len(order) - len(contracted[n]) > 1:
            return None
        cells.append(v.cells if isinstance(v, Turned) else v)
        numbers[0].append(tuple(order[axis] for axis in contracted[n]))
        numbers[1].append(())
    return bound(line, cells, dimension_numbers=tuple(map(tuple, numbers)))[0]


REDUCTIONS = "reduce_sum", "reduce_max", "reduce_min", "reduce_and", "reduce_or"
ALL_CELLS = {*BY_CELL, *REDUCTIONS, "dot_general"}
"""Operations that do not mind where in a row a cell lies."""


def as_they_lie(line: JaxprEqn, values: list[Value]) -> Value:
    """Of rows that all lie in the same way: work cell by cell, and sums of all cells."""
    row = next(v for v in values if isinstance(v, Flat))
    if line.primitive.name not in ALL_CELLS or not all(row.lies_as(v) or not arrayed(v).shape for v in values):
        return None
    (result,) = bound(line, [v.cells if isinstance(v, Flat) else v for v in values])
    return Flat(result, row.sides, row.order) if result.shape == row.shape else result


RULES: dict[str, Callable[[JaxprEqn, list[Value]], Value]] = {
    "transpose": transpose,
    "broadcast_in_dim": broadcast_in_dim,
    **dict.fromkeys(BY_CELL, by_cell),
    **dict.fromkeys((*REDUCTIONS, "argmax", "argmin"), reduction),
    "slice": along_each("start_indices", "limit_indices", "strides"),
    "dynamic_slice": along_each("slice_sizes"),
    "pad": along_each("padding_config"),
    "rev": rev,
    "concatenate": concatenate,
    "reshape": reshaped,
    "squeeze": reshaped,
    "dot_general": dot_general,
}
STARTING = "transpose", "broadcast_in_dim"
"""Those that need no turned array to begin with."""
