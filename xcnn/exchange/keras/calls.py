"""What a layer of a Keras model is called with: the values that it takes, and what else stands there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

DEEPEST = 32
"""How deep a call's arguments may lie within each other."""


AUGMENTATIONS = (
    "RandomBrightness", "RandomContrast", "RandomFlip", "RandomRotation", "RandomTranslation", "RandomZoom",
)  # fmt: skip
"""What changes images in training alone; in xcnn that is an option of `fit`."""
TRAINED_BY_THEMSELVES = (*AUGMENTATIONS, "Resizing")
"""Layers whose calls Keras writes with training=True where nobody said so; its models say False when they predict."""


class GraphError(ValueError):
    """A configuration that no model of Keras's has."""


class Value(NamedTuple):
    """One of the values that a call of a layer gives."""

    layer: str
    call: int
    number: int


def references(given: Any, depth: int = 0) -> list[Value]:
    """The values that are named in a call, in the order of its arguments."""
    if depth > DEEPEST:
        raise GraphError("a call's arguments are nested too deep")
    if isinstance(given, Mapping):
        if given.get("class_name") == "__keras_tensor__":
            return references(given["config"]["keras_history"], depth + 1)
        return [value for each in given.values() for value in references(each, depth + 1)]
    if isinstance(given, Sequence) and not isinstance(given, str):
        if len(given) == 3 and isinstance(given[0], str) and isinstance(given[1], int):
            return [Value(given[0], given[1], int(given[2]))]
        return [value for each in given for value in references(each, depth + 1)]
    return []


def flattened(given: Any) -> list[Value]:
    """The values of what a model takes or gives; those of a dict as Keras counts them, by their keys' order."""
    if is_dict(given):
        return [value for key in sorted(given) for value in references(given[key])]
    return references(given)


def is_dict(given: Any) -> bool:
    """Whether values are given by names."""
    return isinstance(given, Mapping) and "class_name" not in given


def arguments(call: Mapping[str, Any]) -> list[Any]:
    """What a call has in its brackets without a name; an old form has it alone."""
    if not isinstance(call, Mapping):
        return [call]
    args = call.get("args") or ()
    return list(args) if isinstance(args, list | tuple) else [args]


def taken(call: Any, wanted: Any = None) -> list[Value]:
    """The values that a layer is given: its first argument's, those of a dict as `wanted` has their names."""
    first = (arguments(call) or [()])[0]
    if is_dict(first):
        names = sorted(wanted) if is_dict(wanted) else [value.layer for value in references(wanted)]
        if sorted(names) != sorted(first):
            raise GraphError(f"a call has {sorted(first)}, where {sorted(names)} are asked for")
        return [value for name in names for value in references(first[name])]
    return references(first)


def beside(call: Any, kind: str) -> str:
    """What a call of a layer of this kind has beside the values and changes them, as "training=True"; else ""."""
    if not isinstance(call, Mapping):
        return ""
    named = dict(call.get("kwargs") or {})
    if kind in TRAINED_BY_THEMSELVES:
        named.pop("training", None)
    for n, value in enumerate(arguments(call)[1:], 2):
        named[f"argument {n}"] = value
    return ", ".join(f"{name}={told(value)}" for name, value in named.items() if not says_nothing(value))


def says_nothing(value: Any) -> bool:
    """Whether an argument is left at what it is by itself: no mask, of none of several values, and no training."""
    if isinstance(value, Mapping):
        return all(map(says_nothing, value.values()))
    if isinstance(value, list | tuple):
        return all(map(says_nothing, value))
    return value is None or value is False


def told(value: Any) -> str:
    """An argument's value in an error."""
    return repr(value)[:40] if isinstance(value, bool | int | float | str) else "..."
