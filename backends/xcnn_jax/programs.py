"""A program evaluated operation by operation while it is traced, on values whose transposes are put off."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import jax
from jax import lax
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal

from xcnn.core.types import Array
from xcnn_jax.orders import Flat, Turned, Value, is_value, plain
from xcnn_jax.rules import RULES, STARTING, as_they_lie, bound


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
    if name == "cond":
        return branched(line, values)
    rule = as_they_lie if any(isinstance(v, Flat) for v in values) else RULES.get(name)
    if rule is not None and (name in STARTING or any(isinstance(v, Turned | Flat) for v in values)):
        result = rule(line, values)
        if result is not None:
            return [result]
    return bound(line, values)


def branched(line: JaxprEqn, values: list[Value]) -> list[Array]:
    """The results of one of several programs, each of which gets its values as they lie."""
    which, *given = values

    def branch(program: ClosedJaxpr) -> Callable[..., list[Array]]:
        def results(*cells: Array) -> list[Array]:
            pairs = zip(given, cells, strict=True)
            return [plain(v) for v in run(program, [replace(v, cells=c) if is_value(v) else c for v, c in pairs])]

        return results

    cells = (v.cells if is_value(v) else v for v in given)
    return lax.switch(plain(which), [branch(program) for program in line.params["branches"]], *cells)  # type: ignore[no-any-return]
