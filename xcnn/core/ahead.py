"""Work done ahead of whoever wants its results, by threads: in order, and never more than there is room for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from time import monotonic
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")

SPARE = 2
"""Results that wait to be taken, beside those that each thread is at."""
PATIENCE = 10.0
"""Seconds that who ends early waits for threads in the midst of their work; then they are left alone."""


def ahead(jobs: Iterator[Callable[[], Result]], workers: int) -> Generator[Result, None, None]:
    """The results of jobs, in order, made by so many threads while the one before is used.

    The jobs are drawn one at a time, whichever thread does it, and `workers + 2` results are under way or wait at most.
    What a job raises, or the drawing of one, is raised in its turn. A generator that is closed ends its threads.

    Parameters
    ----------
    jobs
        functions without arguments, which any thread may call
    workers
        threads; with 0 each job is done when its result is wanted
    """
    if not workers:
        for job in jobs:
            yield job()
        return
    line = _Line(jobs, workers + SPARE)
    threads = [threading.Thread(target=line.work, name=f"xcnn-ahead-{n}", daemon=True) for n in range(workers)]
    try:
        for thread in threads:
            thread.start()
        yield from line.results()
    finally:
        line.end()
        last = monotonic() + PATIENCE
        for thread in threads:
            if thread.ident is not None:
                thread.join(max(0.0, last - monotonic()))


class _Line(Generic[Result]):
    """Jobs that threads draw, and their outcomes until they are taken."""

    def __init__(self, jobs: Iterator[Callable[[], Result]], room: int) -> None:
        self.jobs, self.room = jobs, room
        self.drawing = threading.Lock()
        """Held by the thread that draws a job, so that jobs have the order of their numbers."""
        self.changed = threading.Condition()
        self.drawn = self.taken = 0
        self.last: float = float("inf")
        """How many jobs there are, once that is known; after one that failed no other is begun."""
        self.outcomes: dict[int, tuple[Any, BaseException | None]] = {}

    def work(self) -> None:
        """Do one job after another, as a thread of its own."""
        while (drawn := self.draw()) is not None:
            number, job = drawn
            try:
                self.enter(number, job(), None)
            except BaseException as error:
                self.enter(number, None, error)
            del job, drawn

    def draw(self) -> tuple[int, Callable[[], Result]] | None:
        """The next job and its number, when there is room for its result; None when there is no other."""
        with self.drawing:
            with self.changed:
                self.changed.wait_for(lambda: self.drawn >= self.last or self.drawn - self.taken < self.room)
                if self.drawn >= self.last:
                    return None
                number = self.drawn
            try:
                job = next(self.jobs)
            except StopIteration:
                self.stop(number)
                return None
            except BaseException as error:
                self.enter(number, None, error)
                return None
            finally:
                self.drawn = number + 1
            return number, job

    def enter(self, number: int, result: Any, error: BaseException | None) -> None:
        """The outcome of a job."""
        with self.changed:
            self.outcomes[number] = result, error
            if error is not None:
                self.last = min(self.last, number + 1)
            self.changed.notify_all()

    def stop(self, last: int) -> None:
        """There are so many jobs, and no more."""
        with self.changed:
            self.last = min(self.last, last)
            self.changed.notify_all()

    def end(self) -> None:
        """Nobody wants another result."""
        self.stop(0)

    def results(self) -> Iterator[Result]:
        """Each result in its turn."""
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.taken in self.outcomes or self.taken >= self.last)
                if self.taken >= self.last:
                    return
                result, error = self.outcomes.pop(self.taken)
                self.taken += 1
                self.changed.notify_all()
            if error is not None:
                raise error
            yield result
            del result
