"""Programs without transposes: axes go in the order in which convolutions left them, until something needs another.

XLA's CPU compiler computes convolutions with the channels last, and brings no transposes together that stand before and
behind what works cell by cell: it copies each image for each. So a program is evaluated here operation by operation
while it is traced. A transpose is only noted. What does not mind the order of the axes, work cell by cell, sums over
some axes, cuts, take the cells as they lie; all others get them in the order that the program has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal

from xcnn.core import tree
from xcnn.core.types import Array, Shape, Weights

Order: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class Turned:
    """An array whose axis n is that one of `cells` which `order` has at n."""

    cells: Array
    order: Order

    @property
    def shape(self) -> Shape:
        """Of the array."""
        return tuple(self.cells.shape[axis] for axis in self.order)

    @property
    def dtype(self) -> Any:
        """Of both."""
        return self.cells.dtype

    def lying(self, order: Order) -> Array:
        """The cells of the same array in another order."""
        return lax.transpose(self.cells, [self.order[axis] for axis in inverse(order)])


@dataclass(frozen=True)
class Spread:
    """An array of this shape with the same cells along all axes but `axes`, which are those of `cells`."""

    cells: Array
    shape: Shape
    axes: Order

    @property
    def dtype(self) -> Any:
        """Of both."""
        return self.cells.dtype

    def lying(self, order: Order) -> Array:
        """The cells of the array in this order."""
        places = [order[axis] for axis in self.axes]
        cells = lax.transpose(self.cells, sorted(range(len(places)), key=places.__getitem__))
        return lax.broadcast_in_dim(cells, [self.shape[axis] for axis in inverse(order)], sorted(places))


Value: TypeAlias = Any
"""An array, which lies as it is, or one of the two above."""


def inverse(order: Sequence[int]) -> Order:
    """The order that undoes one."""
    return tuple(sorted(range(len(order)), key=order.__getitem__))


def lying(value: Value, order: Order) -> Array:
    """The cells of a value in this order."""
    if isinstance(value, Turned | Spread):
        return value.lying(order)
    return lax.transpose(value, inverse(order))


def is_value(value: object) -> bool:
    """Whether this is one of the two."""
    return isinstance(value, Turned | Spread)


def plain(value: Value) -> Array:
    """A value as an array."""
    return value.lying((*range(len(value.shape)),)) if is_value(value) else value


def turned(cells: Array, order: Sequence[int]) -> Value:
    """An array, or `Turned` where it lies otherwise."""
    return cells if [*order] == [*range(len(order))] else Turned(cells, (*order,))


def evaluated(compute: Callable[..., Any], *given: Any) -> Any:
    """What `compute` gives: a tree with `Turned` leaves, as it may have got."""
    leaves, form = jax.tree.flatten(given, is_leaf=is_value)
    known = (jax.ShapeDtypeStruct(v.shape, v.dtype) if is_value(v) else v for v in leaves)  # type: ignore[no-untyped-call]

    def computed(*leaves: Any) -> Any:
        return compute(*jax.tree.unflatten(form, leaves))

    program, shapes = jax.make_jaxpr(computed, return_shape=True)(*known)
    return jax.tree.unflatten(jax.tree.structure(shapes), run(program, leaves))


def run(program: ClosedJaxpr, given: Iterable[Value]) -> list[Value]:
    """The results of a program."""
    code = program.jaxpr
    values: dict[Any, Value] = dict(zip([*code.constvars, *code.invars], [*program.consts, *given], strict=True))

    def value(variable: Any) -> Value:
        return variable.val if isinstance(variable, Literal) else values[variable]

    for line in code.eqns:
        results = line_of(line, [value(variable) for variable in line.invars])
        values |= zip(line.outvars, results, strict=True)
    return [value(variable) for variable in code.outvars]


CALLS = {"jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"}
"""Operations that are programs."""


def line_of(line: JaxprEqn, values: list[Value]) -> list[Value]:
    """The results of one operation."""
    name = line.primitive.name
    if name in CALLS:
        return run(next(each for each in line.params.values() if isinstance(each, ClosedJaxpr)), values)
    rule = RULES.get(name) or (by_cell if name in BY_CELL else None)
    if rule is not None and (name in STARTING or any(isinstance(v, Turned) for v in values)):
        result = rule(line, values)
        if result is not None:
            return [result]
    return bound(line, values)


def bound(line: JaxprEqn, values: Iterable[Value], **changed: Any) -> list[Array]:
    """The results of the operation on arrays as they lie, with other parameters than the program's where given."""
    results = line.primitive.bind(*map(plain, values), **{**line.params, **changed})  # type: ignore[no-untyped-call]
    return [*results] if line.primitive.multiple_results else [results]


# The rules: each gives its operation's result, or None where it wants the order that the program has.

BY_CELL = {
    *(
        "abs",
        "add",
        "add_any",
        "and",
        "atan2",
        "cbrt",
        "ceil",
        "clamp",
        "convert_element_type",
        "copy",
        "copy_p",
        "cos",
    ),
    *("div", "eq", "erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "floor", "ge", "gt", "integer_pow", "is_finite"),
    *("le", "log", "log1p", "logistic", "lt", "max", "min", "mul", "ne", "neg", "nextafter", "not", "or", "pow"),
    *(
        "reduce_precision",
        "rem",
        "round",
        "rsqrt",
        "select_n",
        "sign",
        "sin",
        "sqrt",
        "square",
        "sub",
        "tan",
        "tanh",
        "xor",
    ),
}
"""Operations whose cells come from the cells at the same place alone, or from a number."""


def by_cell(line: JaxprEqn, values: list[Value]) -> Value:
    """Cell by cell."""
    order = next(v.order for v in values if isinstance(v, Turned))
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
    laid += [axis for axis in range(len(shape)) if axis not in laid]
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


RULES: dict[str, Callable[[JaxprEqn, list[Value]], Value]] = {
    "transpose": transpose,
    "broadcast_in_dim": broadcast_in_dim,
    **dict.fromkeys(
        ("reduce_sum", "reduce_max", "reduce_min", "reduce_and", "reduce_or", "argmax", "argmin"), reduction
    ),
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


# Weights, whose kernels lie as convolutions want them.

KERNEL = 3, 2, 0, 1
"""(filters, channels, height, width) of cells (height, width, channels, filters)."""


def laid(weights: Weights) -> Weights:
    """With the kernels' cells in that order."""
    return tree.map(lambda w: lying(w, KERNEL) if len(w.shape) == len(KERNEL) else plain(w), weights)


def held(weights: Weights) -> Weights:
    """What `laid` made, as the arrays that they are."""
    return tree.map(lambda w: Turned(w, KERNEL) if len(w.shape) == len(KERNEL) else w, weights)
