"""Batches of requests that wait: what comes in while others are computed goes together, within a bounded time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Numbers: TypeAlias = NDArray[Any]
Waiting: TypeAlias = tuple[Numbers, "asyncio.Future[Numbers]"]


class FullError(Exception):
    """As many wait as may."""


@dataclass(frozen=True)
class Limits:
    """How batches are made.

    Parameters
    ----------
    batch
        samples that go together at most
    wait
        seconds that the first one waits for others
    waiting
        samples that may wait at most
    """

    batch: int = 32
    wait: float = 0.005
    waiting: int = 256


class Batcher:
    """Computes samples one batch after another, in a thread of its own.

    Parameters
    ----------
    compute
        from samples (n, ...) to their results (n, ...)
    limits
        of batches
    done
        is told the size of each batch
    """

    compute: Callable[[Numbers], Numbers]
    limits: Limits
    done: Callable[[int], None]
    thread: ThreadPoolExecutor
    closed: bool

    def __init__(
        self, compute: Callable[[Numbers], Numbers], limits: Limits, done: Callable[[int], None] = lambda size: None
    ) -> None:
        self.compute, self.limits, self.done = compute, limits, done
        self.queue: asyncio.Queue[Waiting | None] = asyncio.Queue()
        self.thread = ThreadPoolExecutor(1, "xcnn-serve")
        self.task: asyncio.Task[None] | None = None
        self.closed = False

    async def __aenter__(self) -> Batcher:
        self.task = asyncio.create_task(self.run())
        return self

    async def __aexit__(self, *error: object) -> None:
        """What waits is computed first; nothing more is taken."""
        self.closed = True
        self.queue.put_nowait(None)
        if self.task:
            await self.task
        self.thread.shutdown()

    async def ask(self, sample: Numbers) -> Numbers:
        """The result of one sample.

        Raises
        ------
        FullError
            where too many wait, or the service ends.
        """
        if self.closed or self.queue.qsize() >= self.limits.waiting:
            raise FullError
        result: asyncio.Future[Numbers] = asyncio.get_running_loop().create_future()
        self.queue.put_nowait((sample, result))
        return await result

    async def run(self) -> None:
        """Batches until the end."""
        ends = False
        while not ends:
            batch, ends = await self.next_batch()
            asked = [(sample, result) for sample, result in batch if not result.done()]  # who has left is passed by
            if asked:
                await self.answer(asked)

    async def next_batch(self) -> tuple[list[Waiting], bool]:
        """The first that waits and those that come soon; and whether nothing comes any more."""
        first = await self.queue.get()
        batch: list[Waiting] = []
        with suppress(TimeoutError):
            async with asyncio.timeout(self.limits.wait):
                while first is not None:
                    batch.append(first)
                    if len(batch) == self.limits.batch:
                        return batch, False
                    first = await self.queue.get()
                return batch, True
        while not self.queue.empty() and len(batch) < self.limits.batch:
            if (more := self.queue.get_nowait()) is None:
                return batch, True
            batch.append(more)
        return batch, False

    async def answer(self, asked: list[Waiting]) -> None:
        """Compute one batch, and tell each of its results, or what was raised."""
        samples = np.stack([sample for sample, _ in asked])
        self.done(len(asked))
        try:
            found = await asyncio.get_running_loop().run_in_executor(self.thread, self.compute, samples)
        except Exception as error:
            for _, result in asked:
                if not result.done():
                    result.set_exception(error)
            return
        for (_, result), row in zip(asked, found, strict=True):
            if not result.done():
                result.set_result(row)
