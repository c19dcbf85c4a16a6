"""Layers, optimizers and schedules as plain values for JSON, and back by a fixed table of classes."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from keyword import iskeyword
from typing import Any

from xcnn import layers
from xcnn.core.checks import plain
from xcnn.core.initializers import INITIALIZERS
from xcnn.errors import CheckpointError, XcnnError
from xcnn.layers.packed import Packed
from xcnn.model.schema import short
from xcnn.training.metrics import METRICS, TopK
from xcnn.training.metrics.outputs import AccuracyOf, LossOf
from xcnn.training.optimizers import OPTIMIZERS, WRAPPERS
from xcnn.training.output_losses import OutputLoss, OutputLosses
from xcnn.training.schedules import SCHEDULES

CLASSES: dict[str, type] = {
    name: _cls
    for name in layers.__all__
    if isinstance(_cls := getattr(layers, name), type) and is_dataclass(_cls) and hasattr(_cls, "init")
}
LEAVES = (float, int, str, bool)
"""The kinds of most values: a history has tens of thousands."""
MEASURES: dict[str, type] = {cls.__name__: cls for cls in (*METRICS.values(), TopK)}
OUTPUTS: dict[str, type] = {cls.__name__: cls for cls in (Packed, OutputLoss, OutputLosses, LossOf, AccuracyOf)}
"""What nets of several inputs and outputs have beside their layers."""
TABLE: Mapping[str, type] = CLASSES | OPTIMIZERS | WRAPPERS | SCHEDULES | MEASURES | OUTPUTS


def to_config(value: Any, own: dict[str, type] | None = None) -> Any:
    """Numbers, strings and None as they are, sequences as lists, dataclasses as {"class": name, field: value, ...}.

    NumPy's numbers become Python's. A user's own class is marked, so that it is not taken for xcnn's of the same name,
    and entered into `own`. A function as initializer is left out: it only matters before training.

    Raises
    ------
    CheckpointError
        X403, for what can't be written.
    """
    value = plain(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [to_config(item, own) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        config: dict[str, Any] = {"class": type(value).__name__}
        if TABLE.get(type(value).__name__) is not type(value):
            config["own"] = True
            if own is not None and own.setdefault(type(value).__name__, type(value)) is not type(value):
                raise CheckpointError(
                    "X403", f"two classes are named {type(value).__name__}: a checkpoint can't tell them apart."
                )
        for field in (field for field in fields(value) if field.init):
            item = getattr(value, field.name)
            if field.name.endswith("initializer") and callable(item):
                item = next((name for name, function in INITIALIZERS.items() if function is item), field.default)
            config[field.name] = to_config(item, own)
        return config
    raise CheckpointError(
        "X403",
        f"{short(value)} can't be written to a checkpoint.",
        hint="make your own layers frozen dataclasses whose fields are numbers, strings, tuples or layers.",
    )


def is_free(name: str) -> bool:
    """Whether a name is one that a class of the user's own may have, so that a hint can quote it."""
    return name.isidentifier() and len(name) <= 60 and not iskeyword(name) and not hasattr(builtins, name)


def from_config(config: Any, own: Mapping[str, type] | None = None) -> Any:
    """What `to_config` was given, its classes taken from the fixed table and the user's `own`.

    Raises
    ------
    CheckpointError
        X403, for a class that is not in them or options that it does not take.
    """
    if isinstance(config, list):
        return tuple(from_config(item, own) for item in config)
    if not isinstance(config, dict):
        return config
    name = config.get("class")
    table = (own or {}) if config.get("own") else TABLE
    cls = table.get(name) if isinstance(name, str) else None
    if not (isinstance(cls, type) and is_dataclass(cls)):  # nothing else is called with what a file says
        known = name if isinstance(name, str) and is_free(name) else "Name"
        raise CheckpointError(
            "X403",
            f"the net has a {short(name)}, which xcnn does not know.",
            hint=f'Model.load(path, layers={{"{known}": {known}}}), if it is a class of yours, a dataclass.',
        )
    options = {key: from_config(value, own) for key, value in config.items() if key not in ("class", "own")}
    try:
        pairs = options.pop("named", ())
        named = dict(pairs)
        if len(named) < len(pairs):
            raise ValueError("a name stands twice")
        return cls(**options, **named)
    except Exception as error:  # of a user's own class it may be any
        told = error.summary if isinstance(error, XcnnError) else f"{type(error).__name__}: {error}"
        raise CheckpointError("X403", f"a {name} can't be built from what the file says: {told[:300]}") from error


def check_same(given: Any, back: Any, place: str) -> None:
    """Raise X403, naming the place, where what a file gives back is not what was given, by kind or by value.

    NumPy's numbers come back as Python's. What `to_config` leaves out is not compared.
    """
    kind = type(given)
    if kind is type(back):
        if kind is dict:
            for name, item in given.items():
                if type(plain(name)) is not str:
                    raise CheckpointError(
                        "X403", f"{place} can't be kept in a checkpoint: its key {name!r} is no string."
                    )
                if not (type(item) in LEAVES and type(item) is type(back[name]) and item == back[name]):
                    check_same(item, back[name], f"{place}[{name!r}]")
            return
        if kind in (list, tuple) and len(given) == len(back):
            for n, (item, other) in enumerate(zip(given, back, strict=True)):
                check_same(item, other, f"{place}[{n}]")
            return
        if is_dataclass(kind):
            for field in (field for field in fields(kind) if field.init):
                item = getattr(given, field.name)
                if not (field.name.endswith("initializer") and callable(item)):
                    check_same(item, getattr(back, field.name), f"{place}.{field.name}")
            return
    if kind in (dict, list, tuple) or type(number := plain(given)) is not type(back) or number != back == back:
        raise CheckpointError(
            "X403",
            f"{place} can't be kept in a checkpoint: {short(given)}, a {kind.__name__}, "
            f"would come back as {short(back)}, a {type(back).__name__}.",
            hint="what is kept as it is: numbers, strings, True, False, None, lists, and dicts whose keys are strings.",
        )
