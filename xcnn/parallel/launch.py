"""A job of several processes that is begun anew where one of them was lost: `mpiexec`, run as often as it takes."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from xcnn.errors import MissingDependency
from xcnn.parallel.ending import ENDINGS

PATIENCE = 10.0
"""Seconds in which a job that was told to end must have ended, before it is told again."""


def mpiexec() -> str:
    """The command that begins a job: the one beside this Python, as the wheel of MPICH has it, or that on the path.

    Raises
    ------
    MissingDependency
        X601, where there is none.
    """
    beside = Path(sys.executable).parent / "mpiexec"
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    if found is None:
        hint = 'pip install "xcnn[parallel]", or begin the processes as your machines do.'
        raise MissingDependency("X601", "several processes are begun by MPI's mpiexec.", hint=hint)
    return found


def launch(
    processes: int,
    command: Callable[[int], Sequence[str]],
    restarts: int = 0,
    lost: Callable[[int], bool] = bool,
    told: Callable[[int, int], object] = lambda number, code: None,
) -> int:
    """Run a job to its end; the exit code of its last run.

    Parameters
    ----------
    processes
        of each run
    command
        what each of them runs: the arguments of the n-th run, 0 being the first
    restarts
        how often it is begun anew at most
    lost
        whether an exit code tells of a process that was lost, and not of an error that would come again
    told
        called before each restart with its number and the exit code

    Examples
    --------
    A program that goes on from its checkpoint, if it has one:

    >>> xcnn.parallel.launch(4, lambda run: ["python", "train.py"], restarts=3)  # doctest: +SKIP
    0
    """
    program = [mpiexec(), "-n", str(processes)]
    for number in range(restarts + 1):
        code = run([*program, *command(number)])
        if number == restarts or not lost(code):
            break
        told(number + 1, code)
    return code


def run(command: Sequence[str]) -> int:
    """Run a command to its end, which is told to end where this process is; its exit code, as a shell has it.

    It is told by this process alone, once: mpiexec kills where it hears two. So it is in a group of its own, which
    neither a terminal's Ctrl-C reaches nor who tells a whole group; and it reads no terminal, which would stop it.
    """
    terminal = sys.stdin is not None and sys.stdin.isatty()
    told = list[int]()
    with heard(told), subprocess.Popen(command, stdin=subprocess.DEVNULL if terminal else None, process_group=0) as job:
        try:
            code = job.wait()
        except BaseException:
            end(job)
            if told:
                signal.signal(told[0], signal.SIG_DFL)
                signal.raise_signal(told[0])
            raise
    return 128 - code if code < 0 else code


@contextmanager
def heard(told: list[int]) -> Iterator[None]:
    """For a `with` block that signals which would end this process interrupt instead, their numbers being told."""
    numbers = [number for number in ENDINGS if signal.getsignal(number) == signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():
        numbers = []

    def note(number: int, frame: FrameType | None) -> None:
        told.append(number)
        raise KeyboardInterrupt

    for number in numbers:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def end(job: subprocess.Popen[bytes]) -> None:
    """Tell a job to end, and again where it does not, or this process is told again."""
    for number in (signal.SIGINT, signal.SIGINT, signal.SIGKILL):
        job.send_signal(number)
        try:
            job.wait(PATIENCE)
            return
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            continue
