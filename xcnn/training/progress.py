"""Progress on stderr, or in a notebook's cell: one permanent row an epoch, and a live line or bar within it.

A stderr that is missing, closed, full or broken ends nothing: what can't be told is not told (`xcnn.output`).
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Protocol, TextIO, cast

from xcnn.core import html, notebook
from xcnn.core.output import Notes, notes, same_terminal
from xcnn.errors import OptionError, counted, short
from xcnn.training.history import History, Row, header, line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar


OFTEN = 0.2
"""Seconds between two pictures of a bar in a notebook."""


class Progress(Protocol):
    """What the training loop tells."""

    def start(self, epoch: int, epochs: int, images: int) -> None:
        """An epoch begins; of so many images, 0 where that is not known."""

    def advance(self, images: int, loss: float) -> None:
        """Images of the epoch are done; `loss` is its mean so far."""

    def finish(self, row: Row) -> None:
        """The epoch is done."""

    def close(self) -> None:
        """Training is over, or was interrupted."""


class Silent:
    """Tells nothing."""

    def start(self, epoch: int, epochs: int, images: int) -> None: ...
    def advance(self, images: int, loss: float) -> None: ...
    def finish(self, row: Row) -> None: ...
    def close(self) -> None: ...


class Plain(Silent):
    """One line an epoch, without colours or carriage returns: for logs."""

    titles: str
    notes: Notes

    def __init__(self) -> None:
        self.titles = ""
        self.notes = notes()

    def changed(self, row: Row) -> bool:
        """Whether this row has other columns than the one before: then their names are told again."""
        before, self.titles = self.titles, header(row)
        return self.titles != before

    def finish(self, row: Row) -> None:
        if self.changed(row):
            print(header(row), file=self.notes)
        print(line(row), file=self.notes, flush=True)


class Live(Plain):
    """Rich's bar within the epoch: images a second, time left, the loss so far."""

    console: Console
    bar: Bar
    task: Any

    def __init__(self) -> None:
        super().__init__()
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self.console = Console(file=cast(TextIO, self.notes))
        self.bar = Bar(
            TextColumn("epoch {task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            TextColumn("loss {task.fields[loss]}"),
            console=self.console,
            transient=True,
            redirect_stdout=same_terminal(sys.stdout, self.notes),  # else the bar would take what goes elsewhere
        )
        self.task: Any = None

    def start(self, epoch: int, epochs: int, images: int) -> None:
        self.task = self.bar.add_task(f"{epoch}/{epochs}", total=images or None, loss="", speed="")
        self.bar.start()

    def advance(self, images: int, loss: float) -> None:
        speed = self.bar.tasks[-1].speed
        self.bar.update(self.task, advance=images, loss=f"{loss:.4f}", speed=f"{speed:,.0f} images/s" if speed else "")

    def finish(self, row: Row) -> None:
        self.stop()
        if self.changed(row):
            self.console.print(header(row), style="bold", markup=False, highlight=False, soft_wrap=True)
        self.console.print(line(row), markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        self.stop()

    def stop(self) -> None:
        """Take the bar away."""
        if self.task is not None:
            self.bar.stop()
            self.bar.remove_task(self.task)
            self.task = None


class Cell(Silent):
    """A table of all epochs and a bar within the epoch, in a notebook's cell, which one display keeps up to date."""

    rows: list[Row]
    at: tuple[str, int, int, float]
    over: bool
    shown: Any
    last: float

    def __init__(self) -> None:
        self.rows, self.at, self.over, self.shown, self.last = [], ("", 0, 0, 0.0), False, None, 0.0

    def start(self, epoch: int, epochs: int, images: int) -> None:
        self.at = f"epoch {epoch}/{epochs}", 0, images, 0.0
        self.tell()

    def advance(self, images: int, loss: float) -> None:
        title, done, total, _ = self.at
        self.at = title, done + images, total, loss
        if time.monotonic() - self.last > OFTEN:
            self.tell()

    def finish(self, row: Row) -> None:
        self.rows.append(row)
        self.at = "", 0, 0, 0.0
        self.tell()

    def close(self) -> None:
        self.at = "", 0, 0, 0.0
        self.over = True
        self.tell()

    def tell(self) -> None:
        """Show what there is now."""
        self.last = time.monotonic()
        if self.shown is None:
            self.shown = notebook.show("HTML", self.page(), display_id=True)
        else:
            notebook.update(self.shown, self.page())

    def page(self) -> str:
        """The table and the bar."""
        table = History(self.rows)._repr_html_() if self.rows else ""
        title, done, total, loss = self.at
        if self.over:
            title, done, total = f"{counted(len(self.rows), 'epoch')}", len(self.rows), len(self.rows)
            loss = float(self.rows[-1].get("loss", 0.0)) if self.rows else 0.0
        count = ("done" if self.over else f"{done:,}/{total:,}") if total else f"{done:,}"
        size = f'value="{done}" max="{total}"' if total else ""
        said = html.escape(f"{title}  {count}  loss {loss:.4f}")
        return f'{table}<div><progress {size} style="width: 20em"></progress> {said}</div>'


def progress(choice: str | bool | Progress) -> Progress:
    """Progress by name: "auto" is "live" on a terminal, a table and a bar in a notebook's cell, and "plain" elsewhere.

    True is "auto", False is "none". In a notebook "live" is the same as "auto".

    Raises
    ------
    OptionError
        X104
    """
    if choice is True or (isinstance(choice, str) and choice == "auto"):
        choice = "live" if notes().isatty() and not notebook.is_called_by_notebook() else "plain"
        choice = "live" if notebook.kernel() is not None else choice
    if isinstance(choice, str) and choice == "live" and notebook.kernel() is not None:
        return Cell()
    if isinstance(choice, str | bool):
        kinds = {"live": Live, "plain": Plain, "none": Silent, False: Silent}
        if choice in kinds:
            return kinds[choice]()
    else:
        lacking = [
            name for name in ("start", "advance", "finish", "close") if not callable(getattr(choice, name, None))
        ]
        if not lacking:
            return choice
        if len(lacking) < 4 and not isinstance(choice, type):
            what = f"a progress of your own lacks {' and '.join(lacking)}: {short(choice)}."
            raise OptionError("X104", what, hint="xcnn.training.progress.Progress says what each is called with.")
    raise OptionError("X104", f'progress must be "auto", "live", "plain" or "none"; got {short(choice)}.')
