"""What a model makes of what people have: of bytes numbers in 0..1, of names of classes their numbers.

Both are decided once, by the first training or by who builds the model, and kept in checkpoints: so what a model is
asked about is what it was trained on, or is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from xcnn.errors import DataError, DTypeError, LabelError, OptionError, counted, short

SCALINGS = ("bytes", "floats")
SLACK = 0.5 / 255
"""How far beyond 0..1 a sample may be that stands for bytes: rounding is no other scale."""
SHOWN = 5


@dataclass(frozen=True)
class Taking:
    """The policy of a model, or of one that begins to be trained.

    Parameters
    ----------
    scaling
        "bytes": samples are bytes, divided by 255, or floating-point numbers in 0..1; "floats": numbers as they are,
        and no bytes; None: not decided
    classes
        the names of the classes, the first that of label 0; empty where labels are numbers
    """

    scaling: str | None = None
    classes: tuple[Any, ...] = ()

    def scaled(self, x: Any, name: str, dtype: str) -> Any:
        """Bytes as numbers in 0..1.

        Raises
        ------
        DTypeError
            X103, where the model was trained on numbers whose scale nobody has told.
        """
        if self.scaling == "floats":
            hint = f'if it was trained on x.astype("{dtype}") / 255: model.scaling = "bytes", which does that.'
            raise DTypeError(
                "X103", f"{name} is uint8, and the model takes floating-point numbers as they are.", hint=hint
            )
        return np.divide(x, np.asarray(255, dtype), dtype=dtype)

    def check_range(self, x: Any, name: str, told: Callable[[int], str] | None = None) -> None:
        """Raise X203 where the model takes bytes, and floating-point numbers are not in 0..1, as those become."""
        if self.scaling != "bytes" or not x.size or (x.min() >= -SLACK and x.max() <= 1 + SLACK):
            return
        bad = int(np.flatnonzero(((x < -SLACK) | (x > 1 + SLACK)).reshape(len(x), -1).any(axis=1))[0])
        low, high = float(x[bad].min()), float(x[bad].max())
        where = told(bad) if told else f"sample {bad}"
        raise DataError(
            "X203",
            f"the model was trained on bytes scaled to 0..1, and {name} has {low:g}..{high:g} in {where}.",
            hint='give bytes (uint8), or numbers in 0..1; model.scaling = "floats" takes any as they are.',
        )

    def numbered(self, y: Any, role: str = "", told: Callable[[int], str] | None = None) -> Any:
        """Labels that are names as numbers, by the place of each among the classes; others as they are.

        Raises
        ------
        LabelError
            X201, for a name that is none of the classes, or where the model knows none.
        """
        if y.dtype.kind not in "OUST" or y.ndim != 1:
            return y
        names = names_of(y, role, told)
        places = {name: place for place, name in enumerate(map(str, self.classes))}
        strange = sorted({*names} - {*places})
        if not places:
            what = f"{role}labels are names, such as {short(names[0])}, and the model knows no names of classes"
            hint = "it learns them when it is trained on them; else number the classes."
            raise LabelError("X201", f"{what}.", hint=hint)
        if strange:
            what = f"{role}labels have {some(strange)}, and the model's classes are {some(self.classes)}"
            raise LabelError("X201", f"{what}.", hint="mend the labels.")
        return np.array([places[name] for name in names], np.int64)

    def renumbered(self, classes: Sequence[str]) -> Any:
        """(classes,) the model's number of each class of a source; None where they are the same, or it knows none."""
        if not self.classes or [*map(str, classes)] == [*map(str, self.classes)]:
            return None
        return self.numbered(np.asarray(classes, dtype=object))


def names_of(y: Any, role: str = "", told: Callable[[int], str] | None = None) -> list[str]:
    """Labels as texts.

    Raises
    ------
    LabelError
        X201, for what is no text among them, as a missing value.
    """
    names = [each.decode("utf-8", "replace") if isinstance(each, bytes) else each for each in y.tolist()]
    whole = all(isinstance(each, int | np.integer) for each in names)
    hint = 'they are numbers: y.astype("int64").' if whole else "mend the labels."
    for place, name in enumerate(names):
        if not isinstance(name, str):
            where = told(place) if told else f"index {place}"
            what = "is missing" if is_missing(name) else f"is {short(name)}"
            raise LabelError("X201", f"{role}labels are names, and the one of {where} {what}.", hint=hint)
    return names


def is_missing(label: Any) -> bool:
    """Whether it stands for no value: None, NaN, or pandas's NA and NaT, of which NA can't be compared."""
    return (
        label is None or type(label).__name__ in ("NAType", "NaTType") or (isinstance(label, float) and label != label)
    )


def decided(before: Taking, outputs: int, of_bytes: bool | None, names: Sequence[str] | None) -> Taking:
    """What a model takes once it is trained on these: what it took before, or where that was open, what they ask for.

    Parameters
    ----------
    before
        what it takes
    outputs
        of the model
    of_bytes
        whether the samples are bytes, or stand for them; None where nothing tells
    names
        of the classes, in their order; None where labels are numbers

    Raises
    ------
    LabelError
        X201, for other classes than the net has outputs.
    """
    after = before
    if after.scaling is None and of_bytes:
        after = replace(after, scaling="bytes")
    if names and not after.classes:
        if len(names) != max(outputs, 2):
            classes = f"{counted(len(names), 'class', 'classes')} ({some(names)})"
            told = f"the labels have {classes}, the net {counted(outputs, 'output')}"
            hint = f"let the last layer have {len(names)} outputs" if len(names) > 1 else "give two classes or more"
            raise LabelError("X201", f"{told}.", hint=f'{hint}, or name all in the model\'s info["classes"].')
        after = replace(after, classes=tuple(names))
    return after


def some(names: Sequence[Any]) -> str:
    """The first of several names, for an error."""
    return ", ".join(map(short, names[:SHOWN])) + (", ..." if len(names) > SHOWN else "")


def check_scaling(scaling: object) -> str | None:
    """The option; raise X104 for another."""
    if scaling is None or scaling in SCALINGS:
        return None if scaling is None else str(scaling)
    raise OptionError("X104", f'scaling must be "bytes", "floats" or None; got {short(scaling)}.')
