"""Callbacks that write down how training goes: CSV, JSON lines, TensorBoard; epoch by epoch, or step by step.

The rows of epochs are those of the history, which checkpoints keep: the first one of a training writes the file whole,
so that that of a resumed training is that of one in one go; each further one is appended where the file is as it was
left. Rows of steps are appended too, each in one call; what stands behind the step that a training goes on from, and a
line that was cut, is taken out first.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

from xcnn.core.checks import is_number, plain
from xcnn.core.files import check_path, write_whole
from xcnn.core.options import checked
from xcnn.errors import MissingDependency
from xcnn.training.callbacks import Trained
from xcnn.training.history import History, Row, plain_row

STEP = ("step", "epoch", "loss", "learning_rate")
"""The columns of a step."""


@dataclass(frozen=True)
class Left:
    """How a row left the file of epochs."""

    epochs: int
    size: int
    """Bytes of the file."""
    last: str
    """The last row's text."""


@dataclass
class Logger:
    """What loggers of files share.

    Parameters
    ----------
    path
        the file
    steps
        whether it has a row for each step: its number, its epoch, the batch's loss, the rate; else one for each epoch
    """

    path: str | Path
    _: KW_ONLY
    steps: bool = False

    def __post_init__(self) -> None:
        check_path(self.path)
        self.left: Left | None = None
        if self.steps:
            self.step: Callable[[Trained, Row], None] = self.enter  # fit asks for it

    def start(self, model: Trained) -> None:
        """A training begins: keep what was written of steps up to here."""
        check_path(self.path)
        self.left = None
        if self.steps:
            path = Path(self.path)
            text = path.read_text("utf-8") if path.exists() and model.state.step else ""
            rows = [row for line in text.split("\n")[:-1] if (row := self.read(line))["step"] <= model.state.step]
            write_whole(path, (self.head() + "".join(map(self.line, rows))).encode())

    def __call__(self, model: Trained, history: History) -> None:
        """An epoch is done: its row is appended, or all are written where that would not do."""
        if self.steps:
            return
        if not self.goes_on(history.rows):
            self.write(history.rows)
            return
        assert self.left is not None
        text = self.text_of(plain_row(history.rows[-1]))
        with open(self.path, "ab") as file:
            file.write(text.encode())
        self.left = Left(len(history), self.left.size + len(text.encode()), text)

    def finish(self, model: Trained, history: History) -> None:
        """Training is over: what callbacks have changed in rows of before is written too."""
        if self.left is not None:
            self.write(history.rows)

    def goes_on(self, rows: list[Row]) -> bool:
        """Whether one row more is all that the file lacks: it and the row before are as they were left."""
        path, left = Path(self.path), self.left
        if left is None or len(rows) != left.epochs + 1 or not self.has_columns(rows[-1]):
            return False
        same = self.has_columns(rows[-2]) and self.text_of(plain_row(rows[-2])) == left.last
        return same and path.is_file() and path.stat().st_size == left.size

    def write(self, rows: list[Row]) -> None:
        """Write all rows."""
        plain_rows = [plain_row(row) for row in rows]
        content = self.whole(plain_rows).encode()
        write_whole(self.path, content)
        self.left = Left(len(rows), len(content), self.text_of(plain_rows[-1]))

    def enter(self, model: Trained, row: Row) -> None:
        """A step is done."""
        with open(self.path, "a", encoding="utf-8", newline="") as file:
            file.write(self.line(row))

    def head(self) -> str:
        """What stands before all rows of steps."""
        return ""

    def read(self, line: str) -> dict[str, Any]:
        """A step's row; of a line that is none, one behind all steps."""
        raise NotImplementedError

    def line(self, row: Mapping[str, Any]) -> str:
        """A step's row as text."""
        raise NotImplementedError

    def whole(self, rows: list[Row]) -> str:
        """The text of all epochs."""
        raise NotImplementedError

    def text_of(self, row: Row) -> str:
        """An epoch's row as it stands in that text."""
        raise NotImplementedError

    def has_columns(self, row: Row) -> bool:
        """Whether the text of before has columns for this row."""
        return True


NO_STEP = {"step": float("inf")}


@checked
@dataclass
class CSVLogger(Logger):
    """Writes a table of commas, its first line the names of the columns; what no epoch has is empty, lists are JSON.

    Parameters
    ----------
    path
        of the file
    steps
        whether it has a row for each step: its number, its epoch, the batch's loss, the rate; else one for each epoch

    Raises
    ------
    OptionError
        X104, for an option that it can't have.

    Examples
    --------
    >>> model, x = xcnn.Model(xcnn.Dense(2), (3,)), np.eye(8, 3, dtype="float32")
    >>> y = np.arange(8) % 2
    >>> history = model.fit(x, y, epochs=2, callbacks=xcnn.CSVLogger("log.csv"), progress="none")
    >>> from pathlib import Path
    >>> Path("log.csv").read_text().split(",")[:2]
    ['epoch', 'loss']
    """

    def head(self) -> str:
        return ",".join(STEP) + "\n"

    def read(self, line: str) -> dict[str, Any]:
        try:
            step, epoch, loss, rate = line.split(",")
            return dict(zip(STEP, (int(step), int(epoch), float(loss), float(rate)), strict=True))
        except ValueError:  # the head, or a line that was cut
            return dict(NO_STEP)

    def line(self, row: Mapping[str, Any]) -> str:
        return ",".join(repr(row[name]) for name in STEP) + "\n"

    def whole(self, rows: list[Row]) -> str:
        self.names: dict[str, None] = dict.fromkeys(name for row in rows for name in row)
        return self.text_of(dict(zip(self.names, self.names, strict=True))) + "".join(map(self.text_of, rows))

    def text_of(self, row: Row) -> str:
        text = io.StringIO()
        cells = [row.get(name, "") for name in self.names]
        csv.writer(text, lineterminator="\n").writerow(
            [json.dumps(cell) if isinstance(cell, list | dict) else cell for cell in cells]
        )
        return text.getvalue()

    def has_columns(self, row: Row) -> bool:
        return row.keys() <= self.names.keys()


@checked
@dataclass
class JSONLogger(Logger):
    """Writes JSON lines, an object for each epoch or step; what is not finite is null.

    Parameters
    ----------
    path
        of the file
    steps
        whether it has a row for each step: its number, its epoch, the batch's loss, the rate; else one for each epoch

    Raises
    ------
    OptionError
        X104, for an option that it can't have.

    Examples
    --------
    >>> model, x = xcnn.Model(xcnn.Dense(2), (3,)), np.eye(8, 3, dtype="float32")
    >>> y = np.arange(8) % 2
    >>> history = model.fit(x, y, epochs=2, callbacks=xcnn.JSONLogger("log.jsonl"), progress="none")
    >>> from pathlib import Path
    >>> Path("log.jsonl").read_text().splitlines()[1][:11]
    '{"epoch": 2'
    """

    def read(self, line: str) -> dict[str, Any]:
        try:
            row: dict[str, Any] = json.loads(line)
            return row if {*STEP} == {*row} else dict(NO_STEP)
        except ValueError:
            return dict(NO_STEP)

    def line(self, row: Mapping[str, Any]) -> str:
        return json.dumps(plain_row(row), allow_nan=False) + "\n"

    def whole(self, rows: list[Row]) -> str:
        return "".join(map(self.line, rows))

    def text_of(self, row: Row) -> str:
        return self.line(row)


@checked
@dataclass
class TensorBoard:
    """Writes scalars for TensorBoard, by the package tensorboardX: "loss/training" beside "loss/validation", ...

    Parameters
    ----------
    folder
        where its files of events go
    steps
        whether each step's loss and rate are written too, as "step/loss" and "step/learning_rate"

    Raises
    ------
    OptionError
        X104, for an option that it can't have.

    Examples
    --------
    >>> xcnn.TensorBoard("runs", steps=True)  # model.fit(x, y, callbacks=...)
    TensorBoard(folder='runs', steps=True)
    """

    folder: str | Path
    _: KW_ONLY
    steps: bool = False

    def __post_init__(self) -> None:
        self.writer: Any = None
        if self.steps:
            self.step: Callable[[Trained, Row], None] = self.enter

    def start(self, model: Trained) -> None:
        """A training begins."""
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            hint = 'pip install "xcnn[tensorboard]"'
            raise MissingDependency("X601", "TensorBoard needs tensorboardX.", hint=hint) from error
        self.writer = SummaryWriter(str(self.folder))

    def __call__(self, model: Trained, history: History) -> None:
        """An epoch is done."""
        row = history.rows[-1]
        for name, value in row.items():
            if name != "epoch" and is_number(plain(value)):
                kind = "validation" if name.startswith("val_") else "training"
                self.writer.add_scalar(f"{name.removeprefix('val_')}/{kind}", plain(value), row["epoch"])
        self.writer.flush()

    def enter(self, model: Trained, row: Row) -> None:
        """A step is done."""
        for name in ("loss", "learning_rate"):
            self.writer.add_scalar(f"step/{name}", row[name], row["step"])

    def finish(self, model: Trained, history: History) -> None:
        """Training is over."""
        if self.writer is not None:
            self.writer.close()
            self.writer = None
