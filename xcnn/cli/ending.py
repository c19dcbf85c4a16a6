"""How a command ends that is told to: by Ctrl-C, SIGTERM (kill, timeout, docker stop) or SIGHUP (a closed terminal).

All three raise KeyboardInterrupt, as Ctrl-C does in Python, and the exit code is 128 plus the signal's number.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SAME = 1.0
"""Seconds within which further signals are the same wish: Ctrl-C twice, or SIGTERM and SIGHUP from one service."""
DEFAULTS = (signal.SIG_DFL, signal.default_int_handler)
"""What is replaced. A signal that is ignored, as nohup has it, stays so."""


class Ending:
    """The handler of all three."""

    first: int | None
    """The signal that was heard first."""
    raised: float
    holds: int
    waiting: bool

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew: nothing was asked."""
        self.first = None
        self.raised = -SAME
        self.holds, self.waiting = 0, False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Raise KeyboardInterrupt, unless the same was asked just now; in a block that is held, after it."""
        self.first = number if self.first is None else self.first
        if self.holds:
            self.waiting = True
        elif time.monotonic() - self.raised >= SAME:
            self.raised = time.monotonic()
            raise KeyboardInterrupt

    @property
    def code(self) -> int:
        """The exit code."""
        return 128 + (signal.SIGINT if self.first is None else self.first)

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """For a `with` block around a command."""
        self.forget()
        before: dict[int, Any] = {}
        try:
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                number = getattr(signal, name, None)
                if number is not None and signal.getsignal(number) in DEFAULTS:
                    before[number] = signal.signal(number, self)
        except ValueError:
            pass  # not the main thread: signals are somebody else's
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """For a `with` block that is short and must not be cut in two: signals wait for its end."""
        self.holds += 1
        try:
            yield
        finally:
            self.holds -= 1
        if self.waiting and not self.holds:
            self.waiting = False
            raise KeyboardInterrupt


ENDING = Ending()
"""The process's."""
