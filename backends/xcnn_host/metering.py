"""What the recycler is asked for while something runs, and what it would hold if that were asked again and again.

So the memory of a step is known without taking it: requests are noted with a small batch, scaled, and rehearsed.
"""

from __future__ import annotations

import mmap
import tracemalloc
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from math import prod
from threading import get_ident
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from xcnn.core.memory import Held, Meter, Round, traced
from xcnn.core.types import Shape
from xcnn_host.buffers import SMALLEST, Buffer, Empty, HostArray, Recycler, elsewhere, growths, of_this_thread, recycler
from xcnn_host.threads import beside

LEAST = 2**12
"""Bytes of an array that is noted; with larger batches it may become one that is recycled."""
NO_MEMORY = np.empty(0, np.uint8)


@contextmanager
def metered() -> Iterator[Meter]:
    """A block in which arrays of the recycler's are noted, and all others of NumPy's are counted."""
    with traced():
        meter = Meter(tracemalloc.get_traced_memory, tracemalloc.reset_peak, of_recycler())
        with noting(meter):
            yield meter


def of_recycler() -> Held:
    """What says how much the process's recycler would hold."""
    return partial(held, recycler.most_bytes, recycler.grows)


@contextmanager
def noting(meter: Meter) -> Iterator[None]:
    """A block in which arrays of the recycler are noted, also of threads that help: they come from another's memory."""
    living: dict[int, weakref.ref[HostArray]] = {}
    another, numbers, me = Untraced(recycler.most_bytes, grows=recycler.grows), count(), get_ident()

    def gone(number: int, _: object) -> None:
        living.pop(number, None)
        meter.requests[-1].append((number, -1))

    def noted(shape: Shape, dtype: DTypeLike) -> HostArray | None:
        kind = np.dtype(dtype)
        size = prod(shape) * kind.itemsize
        if size < LEAST or kind.hasobject:
            return None
        with another.lock:
            number, buffer = next(numbers), another._take(size)
            # an array of its own, which views keep alive: of a plain slice they would keep only what is below it
            memory: Any = buffer.memory[buffer.first : buffer.first + size]
            part = np.frombuffer(memoryview(memory), np.uint8)
            living[number] = weakref.ref(part, partial(gone, number))
            meter.requests[-1].append((number, size))
            if growth := growths.get(get_ident()):
                meter.growths[number] = growth
        return part.view(kind).reshape(shape)

    beside[me] = partial(giving, noted)
    try:
        with giving(noted):
            yield
    finally:
        beside.pop(me)


def giving(give: Empty) -> AbstractContextManager[None]:
    """A block in which this thread's arrays are these."""
    return of_this_thread(elsewhere, give)


class Untraced(Recycler):
    """Its memory comes from the system, which tracemalloc does not see."""

    def _new(self, size: int) -> Buffer:
        return Buffer(np.frombuffer(mmap.mmap(-1, size), np.uint8), 0, self.clock)


@dataclass(slots=True, eq=False)
class Imagined(Buffer):
    """A buffer without memory."""

    touched: int = 0
    """Bytes of it that arrays have been in: the system gives no others."""
    taken: bool = False

    @property
    def held(self) -> bool:
        """Whether an array would live on it."""
        return self.taken

    def leaves(self) -> Callable[[], bool]:
        """What tells whether its memory would be gone."""
        return lambda: not self.taken


class Rehearsal(Recycler):
    """Does what a recycler does, and hands out nothing."""

    made = 0
    """Buffers so far."""

    def _new(self, size: int) -> Imagined:
        self.made += 1
        return Imagined(NO_MEMORY, 0, self.clock)

    def take(self, size: int) -> Imagined:
        """A buffer for an array of so many bytes."""
        buffer = self._take(size) if size >= SMALLEST else self._new(size)
        assert isinstance(buffer, Imagined)
        buffer.taken, buffer.touched = True, max(buffer.touched, size)
        return buffer

    def bytes(self, living: Iterable[Imagined]) -> int:
        """What is touched of these buffers, and of those that are remembered."""
        kept = (buffer for shelf in self.shelves.values() for buffer in shelf)
        return sum({id(buffer): buffer.touched for buffer in (*living, *kept)}.values())  # type: ignore[attr-defined]


def held(most_bytes: int, grows: bool, rounds: Sequence[Round]) -> int:
    """The most bytes at a time in these rounds: what a recycler holds, in use or not, and what there is beside."""
    rehearsal = Rehearsal(most_bytes, grows=grows)
    before: dict[int, Imagined] = {}
    most = 0
    for each in rounds:
        living: dict[int, Imagined] = {}
        most = max(most, each.beside + rehearsal.bytes(before.values()))
        for number, size in each.requests:
            if size < 0:
                if number in living:
                    living.pop(number).taken = False
                continue
            made = rehearsal.made
            living[number] = rehearsal.take(size)
            if rehearsal.made > made:
                most = max(most, each.beside + rehearsal.bytes((*living.values(), *before.values())))
        if each.trial:
            rehearsal.let_go()
            continue
        for buffer in before.values():
            buffer.taken = False
        before = living
    return most
