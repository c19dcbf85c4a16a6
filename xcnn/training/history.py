"""What training recorded: one row an epoch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeAlias, overload

from xcnn.core import html
from xcnn.core.checks import plain
from xcnn.core.files import write_whole
from xcnn.core.options import nearest
from xcnn.core.plots import new_figure
from xcnn.errors import NoAttribute, OptionError, short

Row: TypeAlias = dict[str, Any]
"""One epoch: "epoch" is an int, the other columns of COLUMNS are floats; metrics add columns, numbers or lists."""

Numbers: TypeAlias = Literal[
    "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "images_per_second", "seconds"
]
"""Columns of floats."""

COLUMNS = {
    "epoch": "d",
    "loss": ".4f",
    "accuracy": ".2%",
    "val_loss": ".4f",
    "val_accuracy": ".2%",
    "learning_rate": ".2g",
    "images_per_second": ",.0f",
    "seconds": ".1f",
}
"""What a row may hold, and how it is printed; further numbers as ".4f"."""
MEASURED = ("images_per_second", "seconds", "stall")
"""What differs between two runs that are otherwise the same; `stall` is the seconds that steps waited for batches."""


@dataclass
class History:
    """The rows of all epochs that a model was trained, oldest first.

    `history["loss"]` is a column, `history.rows` all rows, `print(history)` a table; in a notebook it shows itself. A
    column that only some epochs have, as "val_loss" where validation data came later, holds the values of those alone:
    `history.rows` tells of which. `stopped` says why training ended: "finished", "early" (a callback's wish),
    "interrupted" (Ctrl-C), "diverged" (X501) or "failed" (another error); until then it is "running".

    Parameters
    ----------
    rows
        a dict for each epoch: its number, losses, accuracies, rate, seconds and images a second
    stopped
        why training ended

    Raises
    ------
    OptionError
        X104, for a column that it does not have.

    Examples
    --------
    >>> model, x = xcnn.Model(xcnn.Dense(2), (3,)), np.eye(8, 3, dtype="float32")
    >>> y = np.arange(8) % 2
    >>> history = model.fit(x, y, epochs=2, progress="none")
    >>> history["epoch"], len(history.rows), history.stopped
    ([1, 2], 2, 'finished')
    """

    rows: list[Row] = field(default_factory=list)
    stopped: str = "finished"

    @overload
    def __getitem__(self, column: Literal["epoch"]) -> list[int]: ...
    @overload
    def __getitem__(self, column: Numbers) -> list[float]: ...
    @overload
    def __getitem__(self, column: str) -> list[Any]: ...
    def __getitem__(self, column: str) -> list[Any]:
        if not isinstance(column, str):
            raise OptionError("X104", f"columns have names; got {short(column)}.", hint="an epoch is history.rows[0].")
        known = self.columns or tuple(COLUMNS)
        if column not in known:
            found = f"there is no column {short(column)}; the history has {', '.join(self.columns) or 'no epoch yet'}."
            raise OptionError("X104", found, hint=missing_column(column, known))
        return [row[column] for row in self.rows if column in row]

    def __contains__(self, column: object) -> bool:
        return column in self.columns

    def __getattr__(self, name: str) -> NoReturn:
        known = {"history": 'history["loss"] is a column', "epoch": 'history["epoch"]'}.get(name)
        said = f"{type(self).__name__!r} object has no attribute {name!r}"
        raise NoAttribute(f"{said}: {known}." if known else said, name=name, obj=self)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of all columns that any row has."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row))

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __str__(self) -> str:
        if not self.rows:
            return "no epoch was finished"
        whole = self._whole()
        return "\n".join([header(whole), *(line(row, whole) for row in self.rows), *self.waited])

    @property
    def waited(self) -> list[str]:
        """A line that tells how long steps waited for their batches, where batches were made beside them; else none."""
        rows = [row for row in self.rows if "stall" in row]
        stall, seconds = (sum(row[name] for row in rows) for name in ("stall", "seconds"))
        told = f"steps waited {stall:.1f} of {seconds:.1f} s for batches ({stall / max(seconds, 1e-9):.0%})"
        return [told] if rows else []

    def _whole(self) -> Row:
        """A row with each column that any row has."""
        return {name: value for row in self.rows for name, value in row.items()}

    def _repr_html_(self) -> str:
        if not self.rows:
            return html.note(str(self))
        shown = printed(self._whole())
        rows = [[cells(row).get(name, "") for name in shown] for row in self.rows]
        table = html.table([_title(name) for name in shown], rows, words=0)
        return table + self.drawn() + "".join(map(html.note, self.waited))

    def drawn(self) -> str:
        """Loss, accuracy and learning rate by epoch as SVG pictures, of training and of validation."""
        pictures = []
        for name in ("loss", "accuracy", "learning_rate"):
            columns = {"training": name, "validation": f"val_{name}"}
            lines = {
                title: [(row["epoch"], row[column]) for row in self.rows if {"epoch", column} <= {*row}]
                for title, column in columns.items()
            }
            pictures.append(html.curves(name.replace("_", " "), lines))
        return "".join(pictures)

    def reproducible(self) -> list[Row]:
        """The rows without the times that they took: equal for two runs from one seed."""
        return [{name: value for name, value in row.items() if name not in MEASURED} for row in self.rows]

    def to_json(self, path: str | Path | None = None) -> str:
        """The history as JSON, also written to a file where a path is given, whole or not at all.

        JSON has no NaN and no infinity: both are null.

        Parameters
        ----------
        path
            of the file; None writes none
        """
        content = {"schema": "xcnn.history.1", "stopped": self.stopped, "epochs": [_plain(row) for row in self.rows]}
        try:
            text = json.dumps(content, indent=2, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise OptionError("X104", f"a row of the history can't be written as JSON: {error}.") from error
        if path is not None:
            write_whole(path, (text + "\n").encode())
        return text

    def plot(self, path: str | Path | None = None) -> Any:
        """A matplotlib figure of loss and accuracy by epoch, also saved where a path is given, whole or not at all.

        In a notebook it shows itself. The path's ending is the format; without one it is PNG, and .png is added.

        Parameters
        ----------
        path
            of the file; None writes none

        Raises
        ------
        MissingDependency
            X601, without matplotlib.
        """
        names = [name for name in ("loss", "accuracy") if name in self]
        figure = new_figure(4.5 * max(len(names), 1), 3.2, "history.plot() needs")
        for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0] if names else [], names, strict=True):
            for column, label in ((name, "training"), (f"val_{name}", "validation")):
                points = [(row["epoch"], row[column]) for row in self.rows if column in row]
                if points:
                    axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=label)
            axes.set(xlabel="epoch", ylabel=name)
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.legend()
        if path is not None:
            figure.write(path)
        return figure


def missing_column(name: str, known: Iterable[str], metrics: Iterable[str] = ()) -> str:
    """Of a column that is not there: the one that may be meant, or what would make it, a metric of these."""
    known = tuple(known)
    meant = nearest(name, dict.fromkeys((*known, *COLUMNS))) or name
    metric = name.removeprefix("val_")
    if metric in metrics and metric not in known:
        also = ", and give validation_data" * (name != metric and not any(each.startswith("val_") for each in known))
        return f'let the model measure it: model.metrics = ["{metric}"]{also}.'
    if meant.startswith("val_") and meant not in known:
        return "give validation_data" + ("." if meant == name else f"; the column is then {meant!r}.")
    return f"did you mean {meant!r}?" if meant in known else ""


def plain_row(row: Mapping[str, Any]) -> Row:
    """A row for JSON."""
    return {name: _plain(value) for name, value in row.items()}


def _plain(value: Any) -> Any:
    """A value for JSON: NumPy's numbers as Python's, what is not finite as None."""
    value = plain(value)
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def printed(row: Mapping[str, Any]) -> list[str]:
    """The columns of a row that are printed, numbers all: metrics stand behind the losses that they go with.

    Not `stall`, which the line below a table tells: with it, a row would not fit a terminal of 80 columns.
    """
    told = {*COLUMNS, "stall"}
    further = [n for n, value in row.items() if n not in told and type(plain(value)) in (int, float)]
    names = [*COLUMNS]
    for first, mine in ((3, [n for n in further if not n.startswith("val_")]), (5, further)):
        at = first + len(names) - len(COLUMNS)
        names[at:at] = [name for name in mine if name not in names]
    return [name for name in names if name in row]


def cells(row: Mapping[str, Any]) -> dict[str, str]:
    """The row's values as they are printed."""
    return {name: format(plain(row[name]), COLUMNS.get(name, ".4f")) for name in printed(row)}


def header(row: Mapping[str, Any]) -> str:
    """The names of the row's columns, in the columns' widths."""
    return "  ".join(f"{_title(name):>{_width(name)}}" for name in printed(row))


def line(row: Mapping[str, Any], beside: Mapping[str, Any] | None = None) -> str:
    """The row in the columns' widths, blanks where rows beside it have a column that it has not."""
    shown = cells(row)
    return "  ".join(f"{shown.get(name, ''):>{_width(name)}}" for name in printed({**(beside or {}), **row}))


def _title(name: str) -> str:
    return {"images_per_second": "images/s", "learning_rate": "rate"}.get(name, name)


def _width(name: str) -> int:
    return max(len(_title(name)), 5 if name == "epoch" else 7)
