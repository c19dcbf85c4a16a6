"""What a notebook's kernel is asked for: whether there is one, and to show something."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any


def kernel() -> Any:
    """IPython's shell where cells of a notebook run, else None: nothing is imported for that."""
    found = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return found if type(found).__name__ == "ZMQInteractiveShell" else None


def is_called_by_notebook() -> bool:
    """Whether a cell runs this program, as `!xcnn train`: its terminal is none, and keeps each line of a bar."""
    return "JPY_PARENT_PID" in os.environ


def after_cell(action: Callable[[], None]) -> None:
    """Do something once, when the cell is over."""
    events = kernel().events

    def once(*_: Any) -> None:
        events.unregister("post_run_cell", once)
        action()

    events.register("post_run_cell", once)


def show(kind: str, content: Any, **options: Any) -> Any:
    """Show a picture's bytes ("Image") or a text of HTML ("HTML") in the cell; with display_id what `update` takes."""
    made: Any = import_module("IPython.display")
    return made.display(getattr(made, kind)(content), **options)


def update(shown: Any, content: str) -> None:
    """Let what was shown be other HTML."""
    made: Any = import_module("IPython.display")
    shown.update(made.HTML(content))
