"""Where `xcnn train` saves its model, after each epoch."""

from __future__ import annotations

import itertools
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from xcnn.cli.ending import ENDING
from xcnn.cli.options import print_json, tell
from xcnn.core.files import check_path, temporary_path
from xcnn.core.output import OutputLost

if TYPE_CHECKING:
    from xcnn.model.model import Model
    from xcnn.training.history import History


class Saver:
    """Saves the model after each epoch, and tells each epoch as JSON where that is wanted.

    Without a path it takes the first of free.xcnn, free-2.xcnn, ... that is free when there is something to save.
    """

    path: Path | None
    free: str
    quiet: bool
    json: bool
    begun: int
    saved_step: int
    heard: bool

    def __init__(self, path: Path | None, free: str, quiet: bool, json: bool) -> None:
        check_path(path or f"{free}.xcnn")
        self.path, self.free, self.quiet, self.json = path, free, quiet, json
        self.begun, self.saved_step, self.heard = 0, -1, True

    def start(self, model: Model) -> None:
        """Before the first step, after which alone an interrupt leaves something to save."""
        self.begun = model.state.step

    def __call__(self, model: Model, history: History) -> None:
        """After an epoch."""
        self.save(model)
        if self.json and self.heard:
            try:
                print_json("train.epoch", **history.rows[-1])
            except OutputLost as lost:
                self.heard = False  # it is told at the end, by the exit code
                tell(f"{lost}; training goes on, and is saved as {self.path}", self.quiet)

    def save(self, model: Model) -> None:
        """Write the checkpoint, which no signal cuts in two, and remember the step."""
        with ENDING.held():
            if self.path is None:
                self.path = save_as_new(model, self.free)
            else:
                model.save(self.path)
            self.saved_step = model.state.step

    def finish(self, model: Model, history: History) -> None:
        """Save what was not saved yet: what an interrupt left, or a model that had nothing to do."""
        nothing = history.stopped == "interrupted" and model.state.step == self.begun
        if model.state.step != self.saved_step and not nothing and history.stopped not in ("diverged", "failed"):
            self.save(model)


def save_as_new(model: Model, free: str) -> Path:
    """Save as the first of free.xcnn, free-2.xcnn, ... that is free, which no other process can take at the same time.

    The name comes to the file when it is whole, so that however this ends, no empty file has it.
    """
    while True:
        path = Path(f"{free}.xcnn")
        part = temporary_path(path)
        try:
            model.save(part)
            n = 1
            with suppress(FileNotFoundError):  # another process takes it for what a killed one left
                while not given(part, path):
                    n += 1
                    path = Path(f"{free}-{n}.xcnn")
                return path
        finally:
            part.unlink(missing_ok=True)


def given(part: Path, path: Path) -> bool:
    """Give a file another name; False where that is taken."""
    try:
        try:
            os.link(part, path)
        except (FileExistsError, FileNotFoundError):
            raise
        except OSError:  # a file system without links
            path.touch(exist_ok=False)
            os.replace(part, path)
    except FileExistsError:
        return False
    return True


def free_name(model: str, data: str) -> str:
    """The name of a checkpoint that was given none, without what makes it another than those that are there."""
    return f"{model}-{Path(data).resolve().name}"


def free_path(free: str) -> Path:
    """The first of free.xcnn, free-2.xcnn, ... that is not there."""
    names = (f"{free}.xcnn" if n == 1 else f"{free}-{n}.xcnn" for n in itertools.count(1))
    return next(path for path in map(Path, names) if not path.exists())
