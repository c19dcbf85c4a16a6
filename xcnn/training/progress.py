"""Progress on stderr: one permanent row an epoch, and on a terminal a live line within it.

A stderr that is missing, closed, full or broken ends nothing: what can't be told is not told (`xcnn.output`).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Protocol, TextIO, cast

from xcnn.core.output import Notes, notes, same_terminal
from xcnn.errors import OptionError, short
from xcnn.training.history import Row, header, line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar


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
        self.close()
        if self.changed(row):
            self.console.print(header(row), style="bold", markup=False, highlight=False, soft_wrap=True)
        self.console.print(line(row), markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        if self.task is not None:
            self.bar.stop()
            self.bar.remove_task(self.task)
            self.task = None


def progress(choice: str | bool | Progress) -> Progress:
    """Progress by name: "auto" is "live" on a terminal and "plain" elsewhere. True is "auto", False is "none".

    Raises
    ------
    OptionError
        X104
    """
    if choice is True or (isinstance(choice, str) and choice == "auto"):
        choice = "live" if notes().isatty() else "plain"
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
