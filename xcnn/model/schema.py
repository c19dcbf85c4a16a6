"""What the configuration of a checkpoint may hold: of each entry the type and the range, asked before any is used.

A check is a function check(value, place) that raises ValueError, naming the place: "history[3].loss".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from xcnn.core.windows import is_whole
from xcnn.training import loss_scaling
from xcnn.training.history import COLUMNS

Check: TypeAlias = Callable[[Any, str], None]

COUNT = 2**53
"""Above whatever is counted or measured, and exact in float64."""
MOST_LAYERS = 10_000
DEEPEST = 192
"""Lists and mappings within each other: 64 containers of layers."""


class TooMuchError(ValueError):
    """A configuration is well formed, but larger than any net or training needs."""


def refuse(value: Any, place: str, expected: str) -> None:
    """Raise ValueError."""
    raise ValueError(f"{place} must be {expected}; got {short(value)}")


def short(value: Any) -> str:
    """How a value is shown where it may be of any size."""
    if isinstance(value, list | dict):
        return f"a {type(value).__name__} of {len(value)}"
    if is_whole(value) and abs(value) >= 2**200:
        return "a number of more than 60 digits"
    return repr(value[:60] if isinstance(value, str) else value)


def whole(low: int = 0, high: int = COUNT) -> Check:
    """A whole number from low to high."""

    def check(value: Any, place: str) -> None:
        if not is_whole(value) or not low <= value <= high:
            refuse(value, place, f"a whole number of at least {low}" + f" and at most {high}" * (high < 2**60))

    return check


def number(low: float = -1e308, high: float = 1e308) -> Check:
    """A finite number from low to high."""

    def check(value: Any, place: str) -> None:
        if not is_number(value) or not low <= value <= high:
            refuse(value, place, "a finite number" if high == 1e308 else f"a number from {low:g} to {high:g}")

    return check


def is_number(value: Any) -> bool:
    """Whether it is one, NaN and infinity too, that float64 holds."""
    return isinstance(value, float) or (is_whole(value) and abs(value) <= COUNT)


def measured(value: Any, place: str) -> None:
    """What was measured: a number, or NaN."""
    if not is_number(value):
        refuse(value, place, "a number")


def text(value: Any, place: str) -> None:
    """A string."""
    if not isinstance(value, str):
        refuse(value, place, "a text")


def flag(value: Any, place: str) -> None:
    """True or false."""
    if not isinstance(value, bool):
        refuse(value, place, "true or false")


def many(check: Check, most: int | None = None) -> Check:
    """A list of them."""

    def check_all(values: Any, place: str) -> None:
        if not isinstance(values, list):
            refuse(values, place, "a list")
        if most is not None and len(values) > most:
            refuse(values, place, f"a list of at most {most}")
        for n, value in enumerate(values):
            check(value, f"{place}[{n}]")

    return check_all


def mapping(check: Check) -> Check:
    """Any names, each with such a value."""

    def check_all(values: Any, place: str) -> None:
        if not isinstance(values, dict):
            refuse(values, place, "a mapping")
        for name, value in values.items():
            check(value, f"{place}.{name[:60]}")

    return check_all


def record(required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    """A mapping with these names; what stands under other names is not looked at."""

    def check(value: Any, place: str) -> None:
        if not isinstance(value, dict):
            refuse(value, place or "it", "a mapping")
        for name in required:
            if name not in value:
                raise ValueError(f"{place or 'it'} has no entry {name!r}")
        for name, of_entry in {**required, **(optional or {})}.items():
            if name in value:
                of_entry(value[name], f"{place}.{name}" if place else name)

    return check


def nothing_or(check: Check) -> Check:
    """An empty mapping, or what the check takes."""
    return lambda value, place: None if value == {} else check(value, place)


def inner(value: Any) -> Iterable[Any]:
    """What a list or a mapping holds."""
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def not_deep(value: Any, place: str) -> None:
    """Anything that is not nested without end, so that whoever goes through it comes to one."""
    level, depth = [value], 0
    while level := [item for each in level for item in inner(each)]:
        depth += 1
        if depth > DEEPEST:
            raise TooMuchError(f"{place} is nested more than {DEEPEST} times")


def built(value: Any, place: str) -> None:
    """Layers, an optimizer or a schedule, as `config.to_config` writes them: not too many, and numbers finite."""
    not_deep(value, place)
    layers, level = 0, [value]
    while level:
        for item in level:
            if isinstance(item, dict):
                layers += 1
            elif not (item is None or isinstance(item, bool | str | list)):
                number(-COUNT)(item, f"a number in {place}")
        level = [item for each in level for item in inner(each)]
    if layers > MOST_LAYERS:
        raise TooMuchError(f"{place} has {layers:,} layers; at most {MOST_LAYERS:,} are read")


def loss(value: Any, place: str) -> None:
    """A loss by its name, with options that are numbers; a user's own has no name, and is not built from the file."""
    own = isinstance(value, dict) and value.get("name") == ""
    record({"name": text, "options": mapping(not_deep if own else number())}, {"parts": built})(value, place)


def metric(value: Any, place: str) -> None:
    """A metric's column where it is a user's own, else as `config.to_config` writes it."""
    if not isinstance(value, str):
        built(value, place)


def row(value: Any, place: str) -> None:
    """An epoch of the history: numbers where it is printed or plotted, a user's own columns as they are."""
    if not isinstance(value, dict):
        refuse(value, place, "a mapping")
    for name, item in value.items():
        if name == "epoch":
            whole()(item, f"{place}.{name}")
        elif name in COLUMNS:
            measured(item, f"{place}.{name}")
        elif not isinstance(item, float | str):
            not_deep(item, f"{place}.{name[:60]}")


CONFIG = record(
    {
        "net": built,
        "input_shape": many(whole(1, 2**40), most=32),
        "loss": loss,
        "optimizer": built,
        "dtype": text,
        "seed": whole(0, 2**1024),
        "standing": record(
            {**dict.fromkeys(("step", "epoch", "batch", "right", "seen"), whole()), "loss": number()},
            {"rate_offset": whole(-COUNT), "weight": number(0), "labels": whole()},
        ),
        "updates": whole(),
        "plan": nothing_or(
            record(
                {"samples": whole(), "batch_size": whole(1), "shuffle": flag},
                {
                    "began": whole(),
                    "augment": many(text),
                    "class_weight": many(number(0)),
                    "accumulate": whole(1),
                    "callbacks": not_deep,
                },
            )
        ),
        "history": many(row),
        "info": mapping(not_deep),
    },
    {
        "precision": text,
        "metrics": many(metric, most=1000),
        "takes": text,
        "weights_alone": flag,
        "backend": text,
        "versions": mapping(text),
        "scaling": nothing_or(
            record(
                {
                    "loss_scale": number(loss_scaling.LEAST, loss_scaling.LARGEST),
                    "good_steps": whole(0, loss_scaling.GOOD_STEPS - 1),
                }
            )
        ),
    },
)
"""The configuration of a whole checkpoint."""
