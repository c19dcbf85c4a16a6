"""Which code may be recorded, compiled or captured, so that what it did once is done again without calling it.

Code that reads a global, a closure or anything else that may change would keep the values of that moment for ever. So
only pure code is kept: xcnn's own, and what its author marks by `@pure`. All else is called in every step.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable
from dataclasses import fields, is_dataclass
from functools import cache, cached_property, partial
from types import NoneType
from typing import Any, TypeVar
from weakref import WeakSet

from xcnn.core.checks import plain
from xcnn.errors import OptionError

Thing = TypeVar("Thing")

OWN = (
    "xcnn", "xcnn_host", "xcnn_native", "xcnn_strided", "xcnn_numpy", "xcnn_strict", "xcnn_torch", "xcnn_jax",
    "xcnn_cupy",
)  # fmt: skip
"""The packages whose classes are pure."""
LITERALS: set[type] = {bool, int, float, complex, str, bytes, NoneType}
DRAWING = "kernel_initializer"
"""An option that a step does not read: weights are drawn before it."""
MARKED: WeakSet[Any] = WeakSet()


def pure(thing: Thing) -> Thing:
    """Mark a class or function of your own as pure, so that backends may record or compile training steps with it.

    Its calls must follow from their arguments and, for a class, from the object's attributes alone: they read nothing
    that may change elsewhere, such as globals, closures and attributes of the class, keep nothing, and ask no array for
    its value. Attributes are numbers, texts, what is pure, and tuples, lists and dicts of these; between epochs, and
    between calls of `Model.step`, they may be changed. An optimizer's `change` gets arrays without axes for its rate
    and step. It is said of this class alone: one that is derived from it says so again.

    Parameters
    ----------
    thing
        a class or a function

    Raises
    ------
    OptionError
        X104, for what is no class and no function.

    Examples
    --------
    >>> @xcnn.pure
    ... def squared(y, t):
    ...     return float(((y - t) ** 2).mean()), 2 * (y - t) / y.size
    """
    if not callable(thing) or not hasattr(thing, "__name__"):
        raise OptionError("X104", f"pure marks a class or a function; got {thing!r}.", hint="mark the object's class.")
    MARKED.add(thing)
    return thing


class Impure(Exception):
    """Why code must be called in every step, as a sentence."""


def made_of(value: Any, but: Collection[str] = ()) -> Hashable:
    """What a pure value is made of: kinds, functions and options, `but` some of its own. Equal ones compute the same.

    Raises
    ------
    Impure
        where a part is not known to be pure.
    """
    kind: Any = type(value)
    if kind in LITERALS:
        return value if kind is str else (kind, repr(value))  # True and 1, 0.0 and -0.0 are equal and not the same
    if kind in (tuple, list):
        return kind, *map(made_of, value)
    if kind is dict:
        return kind, *map(made_of, value.items())
    if kind is partial:
        return kind, made_of(value.func), made_of(value.args), made_of(value.keywords)
    if hasattr(value, "__name__") and isinstance(value, Hashable) and value in MARKED:
        return value
    if isinstance(value, type) or not (is_own(kind) or kind in MARKED):
        if plain(value) is not value:  # a number of NumPy's
            return made_of(plain(value))
        name = getattr(value, "__name__", kind.__name__)
        raise Impure(f"{name} is not marked as pure (xcnn.pure): what it reads may change.")
    options = options_of(value).items()
    return kind, *((name, made_of(option)) for name, option in options if name != DRAWING and name not in but)


def is_fixed(value: Any) -> bool:
    """Whether what a value is made of can't change: literals, tuples and xcnn's own frozen dataclasses of such."""
    kind: Any = type(value)
    if kind in LITERALS:
        return True
    if kind is tuple:
        return all(map(is_fixed, value))
    if hasattr(value, "__name__"):
        return isinstance(value, Hashable) and value in MARKED
    return is_own_and_frozen(kind) and all(is_fixed(one) for name, one in options_of(value).items() if name != DRAWING)


@cache
def is_own_and_frozen(kind: Any) -> bool:
    """Whether a class is a frozen dataclass of xcnn's own."""
    return is_own(kind) and is_dataclass(kind) and kind.__dataclass_params__.frozen  # type: ignore[union-attr]


@cache
def is_own(kind: type) -> bool:
    """Whether a class is xcnn's own."""
    return kind.__module__.partition(".")[0] in OWN


def options_of(value: Any) -> dict[str, Any]:
    """An object's attributes, but for those that its class computes of others."""
    kind: Any = type(value)
    declared, computed = names_of(kind)
    options = {name: getattr(value, name) for name in declared}
    if is_own(kind) and is_dataclass(kind):
        return options
    return options | {name: one for name, one in getattr(value, "__dict__", {}).items() if name not in computed}


@cache
def names_of(kind: type) -> tuple[tuple[str, ...], frozenset[str]]:
    """The names of a dataclass's fields, and of what a class computes once of its other attributes."""
    declared = tuple(f.name for f in fields(kind)) if is_dataclass(kind) else ()
    every = [(name, of) for base in kind.__mro__ for name, of in vars(base).items()]
    return declared, frozenset(name for name, of in every if isinstance(of, cached_property))


__all__ = ["Impure", "made_of", "pure"]
