"""Memory of captured graphs that are gone: it is given back to the device at once, but never while another is captured.

CuPy's pools keep their memory as long as the process lives, though nobody refers to the pool any more.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Pool(Protocol):
    """A pool of CuPy's."""

    def free_all_blocks(self) -> None:
        """Give back what is not in use, when the device has done all that it was given."""
        ...


class Pools:
    """Pools whose graphs are gone, as long as their memory can't be given back."""

    def __init__(self) -> None:
        self.waiting: deque[Pool] = deque()
        self.captures = 0
        self.lock = threading.Lock()

    def give_back(self, pool: Pool) -> None:
        """Free a pool now, or when what is captured at the moment, by whatever thread, is.

        It may be called anywhere: by the collection of garbage too, while this object is at work.
        """
        self.waiting.append(pool)
        if not self.captures:
            self.free()

    def free(self) -> None:
        """Free the pools that wait."""
        while self.waiting:
            try:
                pool = self.waiting.popleft()
            except IndexError:  # another thread has been faster
                return
            pool.free_all_blocks()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Free nothing in this block: to free memory while a graph is captured would break the capture."""
        with self.lock:
            self.captures += 1
        try:
            yield
        finally:
            with self.lock:
                self.captures -= 1
            if not self.captures:
                self.free()
