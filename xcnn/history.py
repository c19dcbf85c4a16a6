"""What training recorded: one row an epoch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xcnn.errors import MissingDependency

Row = dict[str, Any]

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
"""What a row may hold, and how it is printed."""
MEASURED = ("images_per_second", "seconds")
"""What differs between two runs that are otherwise the same."""


@dataclass
class History:
    """The rows of all epochs that a model was trained, oldest first.

    `history["loss"]` is a column, `history.rows` all rows, `print(history)` a table. `stopped` says why training ended:
    "finished", "early" (a callback's wish) or "interrupted" (Ctrl-C).
    """

    rows: list[Row] = field(default_factory=list)
    stopped: str = "finished"

    def __getitem__(self, column: str) -> list[Any]:
        return [row[column] for row in self.rows if column in row]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __str__(self) -> str:
        if not self.rows:
            return "no epoch was finished"
        return "\n".join([header(self.rows[-1]), *(line(row) for row in self.rows)])

    def reproducible(self) -> list[Row]:
        """The rows without the times that they took: equal for two runs from one seed."""
        return [{name: value for name, value in row.items() if name not in MEASURED} for row in self.rows]

    def to_json(self, path: str | Path | None = None) -> str:
        """The history as JSON, also written to a file where a path is given."""
        text = json.dumps({"schema": "xcnn.history.1", "stopped": self.stopped, "epochs": self.rows}, indent=2)
        if path is not None:
            Path(path).write_text(text + "\n", encoding="utf-8")
        return text

    def plot(self, path: str | Path | None = None) -> Any:
        """A matplotlib figure of loss and accuracy by epoch, also saved where a path is given.

        Raises
        ------
        MissingDependency
            X601, without matplotlib.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise MissingDependency(
                "X601", "history.plot() needs matplotlib.", hint='pip install "xcnn[plot]"'
            ) from error
        names = [name for name in ("loss", "accuracy") if self[name]]
        figure = Figure(figsize=(4.5 * max(len(names), 1), 3.2), layout="constrained")
        for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0] if names else [], names, strict=True):
            for column, label in ((name, "training"), (f"val_{name}", "validation")):
                points = [(row["epoch"], row[column]) for row in self.rows if column in row]
                if points:
                    axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=label)
            axes.set(xlabel="epoch", ylabel=name)
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.legend()
        if path is not None:
            figure.savefig(path)
        return figure


def cells(row: Mapping[str, Any]) -> dict[str, str]:
    """The row's values as they are printed."""
    return {name: format(row[name], form) for name, form in COLUMNS.items() if name in row}


def header(row: Mapping[str, Any]) -> str:
    """The names of the row's columns, in the columns' widths."""
    return "  ".join(f"{_title(name):>{_width(name)}}" for name in cells(row))


def line(row: Mapping[str, Any]) -> str:
    """The row in the columns' widths."""
    return "  ".join(f"{text:>{_width(name)}}" for name, text in cells(row).items())


def _title(name: str) -> str:
    return {"images_per_second": "images/s", "learning_rate": "rate"}.get(name, name)


def _width(name: str) -> int:
    return max(len(_title(name)), 5 if name == "epoch" else 7)
