"""How ranks end: together. An error of one is told once and ends all; a signal to one lets all end after a step."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from xcnn.parallel.ranks import Ranks

PATIENCE = 3.0
"""Seconds in which all ranks must have failed if what they met is the same for all."""
FIRST = 1.0
"""Seconds in which the first rank tells an error that may be the same for all, before another does."""
FLUSH = 0.2
"""Seconds that what was written takes to reach whoever began the job."""
ENDINGS = [int(getattr(signal, name)) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""Signals that ask a process to end."""
LEFT = 78
"""The tag of a message that says no more than that its rank has ended its program."""
FAILED = 1
"""The exit code of an error, unless somebody knows a better one."""

log: logging.Logger = logging.getLogger("xcnn")


class Stop:
    """Signals that ask to end while ranks train: the first is told to all at their next step, and met by all there.

    A second one is met at once, where it finds the process.
    """

    signal: int = 0
    """The number of the signal that was heard; 0 is none."""

    def __init__(self) -> None:
        self.before: dict[int, Callable[..., Any]] = {}

    @contextmanager
    def heard(self) -> Iterator[None]:
        """For a `with` block around a training: signals that Python would raise an exception for are heard here."""
        self.signal = 0
        if threading.current_thread() is threading.main_thread():
            for number in ENDINGS:
                handler = signal.getsignal(number)
                if callable(handler):
                    self.before[number] = handler
                    signal.signal(number, self)
        try:
            yield
        finally:
            before, self.before = self.before, {}
            for number, handler in before.items():
                signal.signal(number, handler)
        if self.signal:  # that came after the last step
            before.get(self.signal, signal.default_int_handler)(self.signal, None)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.signal:
            self.before[number](number, frame)
        self.signal = number

    def heed(self, number: int) -> None:
        """Do what a signal asks, which one of the ranks has heard."""
        if number:
            self.signal = 0
            self.before.get(number, signal.default_int_handler)(number, None)


class Ending:
    """What ends all ranks.

    Parameters
    ----------
    ranks
        who end
    comm
        the communicator of all processes of the job
    """

    def __init__(self, ranks: Ranks, comm: Any) -> None:
        self.ranks: Ranks = ranks
        self.comm: Any = comm
        self.failing: Any = comm.Dup()
        self.left: set[int] = set()
        """The ranks that are known to have ended their program."""
        self.told: Callable[[BaseException], int] = shown
        """What shows an error, and says which exit code it has."""

    def failed(self, error: BaseException) -> None:
        """Return where all ranks have failed, as of what is the same for all; else tell the error, and end all."""
        if self.ranks.size == 1:
            return
        request, last = self.failing.Ibarrier(), time.monotonic() + PATIENCE
        while time.monotonic() < last:
            if request.Test():
                return
            time.sleep(0.01)
        self.end(f"rank {self.ranks.rank} of {self.ranks.size} failed, and all end:", error)

    def end(self, why: str, error: BaseException | None = None, code: int = FAILED) -> None:
        """Tell why, and end all ranks."""
        print(f"xcnn: {why}", file=sys.stderr, flush=True)
        if error is not None:
            code = self.told(error)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        time.sleep(FLUSH)
        self.comm.Abort(code)
        os._exit(code)  # MPICH's comes back where its mpiexec has not ended this process yet

    def leave(self) -> None:
        """Tell the others that this rank ends its program: for ever would they wait for it in a sum."""
        from mpi4py import MPI

        if MPI.Is_finalized():
            return
        for other in range(self.ranks.size):
            if other != self.ranks.rank:
                self.failing.isend(None, other, LEFT)

    def gone(self) -> set[int]:
        """The ranks that have ended their program."""
        for other in {*range(self.ranks.size)} - {self.ranks.rank} - self.left:
            if self.failing.iprobe(other, LEFT):
                self.left.add(other)
        return self.left

    @contextmanager
    def logs_of_first(self) -> Iterator[None]:
        """For a `with` block in which the ranks but the first log nothing."""
        before = log.disabled
        log.disabled = before or self.ranks.rank > 0
        try:
            yield
        finally:
            log.disabled = before

    def heed_uncaught(self) -> None:
        """End all ranks where an exception ends this one, or tell them where it ends otherwise, as by `sys.exit`."""
        atexit.register(self.leave)
        before = sys.excepthook

        def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
            if self.ranks.rank:
                time.sleep(FIRST)
            before(kind, error, trace)
            sys.stderr.flush()
            time.sleep(FLUSH)
            self.comm.Abort(128 + signal.SIGINT if issubclass(kind, KeyboardInterrupt) else FAILED)

        sys.excepthook = hook


def shown(error: BaseException) -> int:
    """Show an error as Python does."""
    traceback.print_exception(error)
    return FAILED


def silence() -> None:
    """Let this process write nothing to stdout: what all ranks would say is said by the first."""
    sys.stdout.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
