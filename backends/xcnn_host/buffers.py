"""Large arrays whose memory is used again.

The system gives fresh memory page by page, each at its first touch, which can cost more than the arithmetic that fills
it. A training step asks for the same sizes over and over, so `empty` hands out memory that nobody holds any more. Who
is done with an array just lets go of it, as with any other: CPython's reference counts tell.

Memory comes in sizes of a quarter of a power of two, and larger memory serves too, up to twice what is asked for. Where
none does, a larger one takes the place of a smaller one: so a model that predicts batches of all sizes keeps about
twice what the largest needs. Unless it was told how much it may keep, the recycler keeps more where what it has
forgotten is asked for again, up to what was in use at a time: so the memory of a large net's step is there for the step
after the next, and that of a single large batch is not kept. What is kept goes with the last model.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from xcnn.core import process
from xcnn.core.types import Shape

T = TypeVar("T")
HostArray: TypeAlias = np.ndarray[Any, Any]
Empty: TypeAlias = Callable[[Shape, DTypeLike], HostArray | None]

Growth: TypeAlias = Callable[[float], float]
"""growth(times) -> how many times as large an array is with so many times the samples."""

SMALLEST = 2**16
"""Bytes below which the allocator's own free lists do as well."""
KEPT = 512
"""MiB that are remembered at most, and more where that is asked for again, unless a backend says otherwise."""
ALIGNED, STEP, STEPS = 64, 9 * 64, 7
"""Bytes. Arrays begin at a multiple of the first, so that no vector lies in two cache lines. Allocators begin all large
ones alike within a page, where reads of one can look to a processor like what was just written to another: so each
begins a step beyond the one before, up to so many."""


@dataclass(slots=True, eq=False)
class Buffer:
    """Memory, which byte of it is the first of an array, and when it was handed out last."""

    memory: HostArray
    first: int = 0
    last: int = 0

    @property
    def held(self) -> bool:
        """Whether an array lives on this memory: every view keeps the array that owns it alive, as its base."""
        return sys.getrefcount(self.memory) > ALONE

    def leaves(self) -> Callable[[], bool]:
        """What tells, once the buffer is forgotten, whether its memory is gone."""
        left = weakref.ref(self.memory)
        return lambda: left() is None


class Recycler:
    """Remembers a bounded part of the memory that it handed out: what was used last.

    Memory that is forgotten while somebody holds it is freed when they let go.

    Parameters
    ----------
    most_bytes, most_buffers
        how much is remembered, in use or not; what lies before and after an array for its alignment not counted
    grows
        whether more is kept where what was forgotten is asked for again, up to what was lately in use at a time
    idle
        memory that was not among so many arrays handed out is forgotten
    """

    def __init__(
        self, most_bytes: int = KEPT * 2**20, most_buffers: int = 512, idle: int = 4096, grows: bool = False
    ) -> None:
        self.most_bytes, self.most_buffers, self.idle, self.grows = most_bytes, most_buffers, idle, grows
        self.elsewhere: dict[int, Empty | None] = {}
        """By the numbers of threads: who gives them arrays instead; None of that stands for the usual way."""
        self.forget()

    def forget(self) -> None:
        """Begin anew, also with the lock: in a forked process its holder may not exist."""
        self.lock = threading.Lock()
        self.clock = 0
        self.elsewhere.clear()
        self.let_go()

    def let_go(self) -> None:
        """Forget all memory. A garbage collection may call this in the midst of anything, `empty` included."""
        self.shelves: dict[int, list[Buffer]] = {}  # by size in bytes, each in the order of last use
        self.high = 0  # bytes that were in use at a time, as far as new memory was asked for then
        self.more = 0  # bytes of what had been forgotten, and was asked for again
        self.missed: dict[int, list[Callable[[], bool]]] = {}  # of what was forgotten, by size: whether it is gone

    def give_back(self) -> None:
        """Forget all memory, and let the system have what nobody holds, where the C library can be asked to."""
        self.let_go()
        trim()

    def limit(self, mebibytes: int | None) -> None:
        """From now on remember so much at most; None is `KEPT`, and more where that is asked for again."""
        most_bytes, grows = (KEPT if mebibytes is None else mebibytes) * 2**20, mebibytes is None
        if (self.most_bytes, self.grows) != (most_bytes, grows):
            with self.lock:
                self.most_bytes, self.grows = most_bytes, grows
                self._forget_excess()

    def empty(self, shape: Shape, dtype: DTypeLike) -> HostArray:
        """An array of any content, as np.empty's: C-contiguous, writable, sharing memory with no other."""
        if self.elsewhere and (give := self.elsewhere.get(threading.get_ident())):
            other = give(shape, dtype)
            if other is not None:
                return other
        kind = np.dtype(dtype)
        size = prod(shape) * kind.itemsize
        if size < SMALLEST or kind.hasobject:
            return np.empty(shape, kind)
        return self.taken(size).view(kind).reshape(shape)

    def taken(self, size: int) -> HostArray:
        """So many bytes of any content, whoever else may give this thread arrays."""
        if size < SMALLEST:
            return np.empty((size,), np.uint8)
        with self.lock:
            buffer = self._take(size)
            return buffer.memory[buffer.first : buffer.first + size]

    def _take(self, size: int) -> Buffer:
        self.clock += 1
        if self.clock % self.idle == 0:
            self._forget_idle()
        step = 1 << size.bit_length() - 3
        size = -(-size // step) * step
        shelves = self.shelves
        for kept in range(size, 2 * size + 1, step):
            if shelf := shelves.get(kept):
                for n in reversed(range(len(shelf))):  # what was used last may still be in cache
                    if not shelf[n].held:
                        buffer = shelf.pop(n)
                        buffer.last = self.clock
                        shelf.append(buffer)
                        return buffer
        self._ask_again(size)
        buffer = self._new(size)
        self._forget_smaller(size)
        shelves.setdefault(size, []).append(buffer)
        self._forget_excess(buffer)
        return buffer

    def _new(self, size: int) -> Buffer:
        memory = np.empty(size + ALIGNED + STEPS * STEP, np.uint8)
        first = -memory.__array_interface__["data"][0] % ALIGNED + self.clock % (STEPS + 1) * STEP
        return Buffer(memory, first, self.clock)

    def _forget_smaller(self, size: int) -> None:
        """Forget one that is free and more than half as large."""
        for kept, shelf in self.shelves.items():
            if size // 2 < kept < size:
                for n, buffer in enumerate(shelf):
                    if not buffer.held:
                        del shelf[n]
                        return

    def _ask_again(self, size: int) -> None:
        """Note that memory is asked for which was forgotten, and is gone: more is to be kept."""
        for n, gone in enumerate(self.missed.get(size, ())):
            if gone():
                del self.missed[size][n]
                self.more += size
                return

    def _forget_idle(self) -> None:
        for shelf in self.shelves.values():
            shelf[:] = [buffer for buffer in shelf if buffer.last > self.clock - self.idle]
        self.high = self.more = 0
        self.missed.clear()

    def _forget_excess(self, new: Buffer | None = None) -> None:
        """Forget what was used longest ago; where the limit grows, what nobody holds before what is in use.

        New memory counts as in use.
        """
        kept = [(size, buffer) for size, shelf in self.shelves.items() for buffer in shelf]
        memory, most = sum(size for size, _ in kept), self.most_bytes
        if memory <= most and len(kept) <= self.most_buffers:
            return
        if self.grows:
            self.high = max(self.high, sum(size for size, buffer in kept if buffer is new or buffer.held))
            most = max(most, min(self.high, most + self.more))
        kept.sort(key=lambda one: (self.grows and (one[1] is new or one[1].held), one[1].last))
        excess = len(kept) - self.most_buffers
        for n, (size, buffer) in enumerate(kept):
            if n >= excess and memory <= most:
                return
            self.shelves[size].remove(buffer)
            if self.grows:
                self.missed.setdefault(size, []).append(buffer.leaves())
            memory -= size


@contextmanager
def of_this_thread(values: dict[int, T], value: T) -> Iterator[None]:
    """A block in which this thread's is this one, of what threads have by their numbers."""
    me = threading.get_ident()
    before = values.get(me)
    values[me] = value
    try:
        yield
    finally:
        values.pop(me)
        if before is not None:
            values[me] = before


def growing(growth: Growth) -> AbstractContextManager[None]:
    """A block in which this thread's arrays grow so with the batch, and not as the batch does."""
    return of_this_thread(growths, growth)


class Sealed(np.ndarray[Any, Any]):
    """Memory to which nobody else has a name."""


def sealed(x: HostArray) -> HostArray:
    """A copy that cannot be written, nor be made writable, from a multiple of `ALIGNED` on: kernels read it faster."""
    room = np.empty(x.nbytes + ALIGNED, np.uint8)
    first = -room.__array_interface__["data"][0] % ALIGNED
    made = room[first : first + x.nbytes].view(x.dtype).reshape(x.shape)
    made[...] = x
    own: Any = made.view(Sealed)
    return np.asarray(memoryview(own).toreadonly())


def is_sealed(x: Any) -> bool:
    """Whether this is NumPy's own array, and read-only, and its memory is no other's."""
    if type(x) is not np.ndarray or x.flags.writeable:
        return False
    return x.base is None or isinstance(getattr(x.base, "obj", None), Sealed)


def trim() -> None:
    """Give free memory back to the system: glibc keeps what was freed below what is in use."""
    asked = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if asked is not None:
        asked(0)


_alone = Buffer(np.empty(0))
ALONE = sys.getrefcount(_alone.memory)
"""The count of memory that only its Buffer holds; Python's versions differ in it."""

recycler = Recycler(grows=True)
"""The process's."""
growths: dict[int, Growth] = {}
"""By the numbers of threads."""
empty, limit, elsewhere = recycler.empty, recycler.limit, recycler.elsewhere
process.after_the_last.append(recycler.let_go)
if hasattr(os, "register_at_fork"):  # where processes can be forked
    os.register_at_fork(after_in_child=recycler.forget)
