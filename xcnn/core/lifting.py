"""Numbers among options as arguments of compiled code: what is compiled for one serves all others.

A number is lifted out of a dataclass's field that is annotated as float, or out of the keywords of functools.partial:
the code is compiled with a tracer in its place. A tracer gives no number, so that code which asks for one fails to
compile, and the number stays what it was, a constant. On which side of 0 and 1 a number lies is part of what the code
belongs to: that much code may ask (tracing.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache, partial
from math import inf
from typing import Any, TypeAlias

from xcnn.core.pure import DRAWING, names_of

Path: TypeAlias = tuple[str | int, ...]
"""Of a number: names of fields, of keywords, and places in tuples."""
Owner: TypeAlias = tuple[Any, str]
"""A class or function, and the name of its option."""


def numbers_of(value: Any, but: frozenset[Owner] = frozenset()) -> dict[Path, tuple[Owner, float]]:
    """The numbers that may be lifted, with their owners, `but` those of some."""
    found: dict[Path, tuple[Owner, float]] = {}
    for key, one, owner in parts(value):
        if owner is None:
            found.update({(key, *path): number for path, number in numbers_of(one, but).items()})
        elif owner not in but:
            found[key,] = owner, float(one)
    return found


def parts(value: Any) -> Iterator[tuple[str | int, Any, Owner | None]]:
    """What a value is made of: the key of each part, the part, and its owner where it is a number to be lifted."""
    if type(value) is tuple:
        yield from ((n, one, None) for n, one in enumerate(value))
    elif type(value) is partial:
        for name, one in value.keywords.items():
            yield name, one, (value.func, name) if type(one) is float else None
    elif is_dataclass(value) and not isinstance(value, type) and hasattr(value, "__dict__"):
        kind: Any = type(value)
        for name, real in options(kind):
            one = getattr(value, name)
            yield name, one, (kind, name) if real and type(one) in (int, float) else None


@cache
def options(kind: type) -> tuple[tuple[str, bool], ...]:
    """The fields of a dataclass, and whether each is annotated as a float."""
    return tuple((f.name, f.type in (float, "float")) for f in fields(kind) if f.name != DRAWING)


def lifted(value: Any, numbers: Mapping[Path, Any]) -> Any:
    """The same with others at these paths; what does not lead there is the very same."""
    if not numbers:
        return value
    inner: dict[Any, dict[Path, Any]] = {}
    for (key, *rest), number in numbers.items():
        inner.setdefault(key, {})[tuple(rest)] = number
    changed = {key: there[()] if () in there else lifted(part(value, key), there) for key, there in inner.items()}
    if type(value) is tuple:
        return tuple(changed.get(n, one) for n, one in enumerate(value))
    if type(value) is partial:
        return partial(value.func, *value.args, **{**value.keywords, **changed})
    kind: Any = type(value)
    made, (_, computed) = object.__new__(kind), names_of(kind)
    vars(made).update({name: one for name, one in vars(value).items() if name not in computed}, **changed)
    return made


def part(value: Any, key: Any) -> Any:
    """The part of a value at a key."""
    if type(value) is tuple:
        return value[key]
    return value.keywords[key] if type(value) is partial else getattr(value, key)


def side(number: float) -> str:
    """On which side of 0 and 1 a number lies, and whether it is finite: what `behind` may be asked about."""
    return str([number < 0, number == 0, number < 1, number == 1, number == inf, number != number])
