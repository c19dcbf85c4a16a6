"""Parts are done task by task until their time is up; each result is a line of a file as soon as it is there.

A task that is at work when its time is over is cut: so many minutes are so many minutes. It is cut between two lines of
Python, and a call into a library that does not return ends the process shortly after, with the stacks of all threads.
"""

from __future__ import annotations

import faulthandler
import json
import math
import signal
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from on_gpu.session import Part, Session, Task
from on_gpu.tables import checked, shortened

SCHEMA = "xcnn.gpu.2"
OVER = 10.0
"""Seconds that a task may take beyond its part's share, if all parts together have as many left."""
HUNG = 15.0
"""Seconds beyond the end until a call that does not return ends the process."""


class TimeUp(BaseException):
    """A task's time is over. No `except Exception` within the task stops it."""


@dataclass(frozen=True)
class Log:
    """A file of JSON, a line for each thing that is known; gpu_tables.py reads it, whole or not."""

    path: Path

    def begin(self, minutes: float, names: list[str]) -> None:
        """Empty the file, and write what will be done."""
        self.path.write_text("")
        self.add(schema=SCHEMA, minutes=minutes, parts=names)

    def add(self, **fields: Any) -> None:
        """Write a line; it is the system's when this returns, whatever happens to the process."""
        with self.path.open("a") as file:
            file.write(json.dumps(plain(fields)) + "\n")


def run(session: Session, parts: Mapping[str, tuple[Part, float]], minutes: float, log: Log, dry: bool = False) -> bool:
    """Do the parts, each until its share of the time is over.

    Parameters
    ----------
    parts
        each with its share, by its name
    dry
        whether only the first task of each part is done

    Returns
    -------
    bool
        whether no task failed, or found something wrong
    """
    shares = [share for _, share in parts.values()]
    begun, right = time.perf_counter(), True
    end = begun + 60 * minutes
    log.begin(minutes, [*parts])
    for n, (name, (part, _)) in enumerate(parts.items()):
        until = begun + 60 * minutes * sum(shares[: n + 1]) / sum(shares)
        right &= run_part(session, name, part, until, min(until + OVER, end), log, dry)
    log.add(seconds=time.perf_counter() - begun)
    return right


def run_part(session: Session, name: str, part: Part, until: float, end: float, log: Log, dry: bool = False) -> bool:
    """Begin tasks until a time by the clock, and cut the one that works at the end; whether all was right."""
    begun, tasks, right = time.perf_counter(), list(part(session)), True
    log.add(part=name, about=part.__doc__)
    print(f"{name}: {part.__doc__}", flush=True)
    undone: list[str] = []
    for n, task in enumerate(tasks):
        if time.perf_counter() >= until or (dry and n):
            undone = [task.name for task in tasks[n:]]
            print(f"  left undone, {len(undone)}: {shortened('; '.join(undone))}", flush=True)
            break
        right &= run_task(task, name, end, log)
    log.add(part=name, seconds=time.perf_counter() - begun, undone=undone)
    return right


def run_task(task: Task, part: str, end: float, log: Log) -> bool:
    """Do a task, and write what it found or why it failed; whether it was right."""
    begun = time.perf_counter()
    about = {"part": part, "task": task.name}
    try:
        with cut_after(max(end - begun, 0.1)):
            result = task.find()
    except (Exception, TimeUp) as error:
        message = " ".join(f"{type(error).__name__}: {error}".split())
        seconds = time.perf_counter() - begun
        log.add(**about, seconds=seconds, error={"message": message, "traceback": traceback.format_exc()})
        print(f"  {task.name}: {shortened(message)}", flush=True)
        return False
    seconds = time.perf_counter() - begun
    log.add(**about, seconds=seconds, result=result)
    print(f"  {task.name}: {told(result)} ({seconds:.1f} s)", flush=True)
    return all(check["ok"] for _, check in checked({"": result}))


@contextmanager
def cut_after(seconds: float) -> Iterator[None]:
    """Raise TimeUp in this block when so many seconds are over; the main thread alone can be cut."""

    def cut(*_: Any) -> None:
        raise TimeUp(f"cut after {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, cut)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def ended_after(minutes: float) -> Iterator[None]:
    """End the process if the block is still at work some seconds after so many minutes."""
    faulthandler.dump_traceback_later(60 * minutes + HUNG, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def told(result: Any) -> str:
    """What is printed of a result while the run goes on."""
    if isinstance(result, float):
        return f"{result:.4g}"
    wrong = [f"{label} {check['worst']}" for label, check in checked({"": result}) if not check["ok"]]
    return f"WRONG{', '.join(wrong)}" if wrong else "done"


def plain(value: Any) -> Any:
    """A value as JSON has it: numbers that are not finite by their names."""
    match value:
        case dict():
            return {str(name): plain(one) for name, one in value.items()}
        case list() | tuple():
            return [plain(one) for one in value]
        case bool() | int() | str() | None:
            return value
        case float() if math.isfinite(value):
            return value
    return str(value)
