"""Work shared out among threads: consecutive ranges, one to a thread, results in the order of the ranges.

What is computed for a range must not depend on the thread that does it; then results depend on their number alone.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from itertools import pairwise
from queue import SimpleQueue
from typing import Any, TypeVar

from xcnn.core import process

available = process.processors
T = TypeVar("T")
beside: dict[int, Callable[[], AbstractContextManager[object]]] = {}
"""By the numbers of threads: what those that help them do their work within."""
_queues: list[SimpleQueue[Callable[[], None]]] = []
_starting = threading.Lock()
_here = threading.local()


def ranges(count: int, parts: int) -> list[tuple[int, int]]:
    """Count things in at most so many consecutive ranges, none empty, sizes differing by at most one."""
    parts = max(1, min(parts, count))
    cuts = [count * n // parts for n in range(parts + 1)]
    return list(pairwise(cuts))


def share(work: Callable[[int, int], T], count: int, threads: int) -> list[T]:
    """[work(first, last), ...] over ranges of `count`, the first in this thread, the others beside it.

    Python's own statements still run one at a time: `work` should spend its time in NumPy or compiled code. The first
    range's exception is raised, once all are done. Within `work` everything runs in the thread it is in.
    """
    shares = ranges(count, 1 if getattr(_here, "works", False) else threads)
    results: list[Any] = [None] * len(shares)
    errors: list[BaseException | None] = [None] * len(shares)
    done = threading.Semaphore(0)
    within = beside.get(threading.get_ident(), nullcontext)

    def task(n: int) -> Callable[[], None]:
        context = copy_context()  # NumPy's errstate, for one

        def run() -> None:
            try:
                with within():
                    results[n] = context.run(work, *shares[n])
            except BaseException as error:
                errors[n] = error
            finally:
                done.release()

        return run

    for n, queue in zip(range(1, len(shares)), _started(len(shares) - 1), strict=True):
        queue.put(task(n))
    try:
        results[0] = work(*shares[0])
    finally:
        for _ in shares[1:]:
            done.acquire()  # also when interrupted: the others write into what the caller owns
    for error in errors:
        if error is not None:
            raise error
    return results


def _started(count: int) -> list[SimpleQueue[Callable[[], None]]]:
    """The queues of so many workers, started where they are missing."""
    if len(_queues) < count:
        with _starting:
            while len(_queues) < count:
                queue: SimpleQueue[Callable[[], None]] = SimpleQueue()
                threading.Thread(target=_serve, args=(queue,), name=f"xcnn-{len(_queues) + 1}", daemon=True).start()
                _queues.append(queue)
    return _queues[:count]


def _serve(queue: SimpleQueue[Callable[[], None]]) -> None:
    _here.works = True
    while True:
        queue.get()()


def _forget() -> None:
    """In a forked child no worker runs: start anew."""
    global _starting
    _queues.clear()
    _starting = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
