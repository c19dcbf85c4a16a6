"""The watchdog of a rank: a thread that ends the job where a rank has stalled, and says which, and where it stands."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from time import monotonic
from typing import Any

from xcnn.errors import counted
from xcnn.parallel.ending import Ending
from xcnn.parallel.ranks import Ranks

GRACE = 4.0
"""Seconds that a rank which waits leaves to those that it waits for, to say themselves where they stand; and again to
hear who else waits."""
LOOKS = 4
"""How often a rank that waits finds that others have ended before it ends all: once a second at most."""
CODE = 124
"""The exit code, that of `timeout`."""


class Watch:
    """For a `with` block: ends the job where this rank takes no step for so long, or waits so long for others.

    A rank that is at work for too long shows what it is at. One that is stopped can't: then those that wait for it tell
    each other so, and the first of them says who did not come.
    """

    def __init__(self, ranks: Ranks, ending: Ending, timeout: float) -> None:
        self.ranks: Ranks = ranks
        self.ending: Ending = ending
        self.timeout: float = timeout
        self.over: threading.Event = threading.Event()
        self.thread: threading.Thread | None = None
        self.watched: int = threading.get_ident()

    def __enter__(self) -> None:
        self.ranks.left, self.watched = monotonic(), threading.get_ident()
        if self.ranks.size > 1:
            self.thread = threading.Thread(target=self.watch, name="xcnn-watch", daemon=True)
            self.thread.start()

    def __exit__(self, *error: object) -> None:
        self.over.set()
        if self.thread is not None:
            self.thread.join()

    def watch(self) -> None:
        """Look, until the block is over.

        Seconds count between looks alone: a job that was stopped as a whole, and goes on, has not stalled.
        """
        looks, stands, met, before = 0, 0.0, None, monotonic()
        pause = min(1.0, self.timeout / 4)
        while not self.over.wait(pause):
            since, now = self.ranks.waiting_since, monotonic()
            here = since, self.ranks.left
            stands = stands + min(now - before, 2 * pause) if here == met else 0.0
            met, before = here, now
            looks = looks + 1 if since is not None and self.ending.gone() else 0
            if looks > LOOKS:
                self.tell_left()
            elif since is None and stands > self.timeout:
                self.tell_own()
            elif since is not None and stands > self.timeout + GRACE:
                self.tell_others()

    def tell_own(self) -> None:
        """End all: this rank is the one that stalls."""
        frame = sys._current_frames().get(self.watched)
        where = "".join(traceback.format_stack(frame)[-6:]) if frame else ""
        told = f"rank {self.ranks.rank} of {self.ranks.size} has taken no step for {self.timeout:g} s, and all end. "
        self.ending.end(f"{told}It is here:\n{where}", code=CODE)

    def tell_left(self) -> None:
        """End all: some have ended their program, of whose part in the training nothing comes any more."""
        left = sorted(self.ending.gone())
        who = f"{'rank' if len(left) == 1 else 'ranks'} {', '.join(map(str, left))} of {self.ranks.size}"
        self.ending.end(f"{who} ended the program while others train, and all end.")

    def tell_others(self) -> None:
        """End all: some other rank stalls."""
        waiting = self.who_waits()
        if self.ranks.rank != min(waiting):
            time.sleep(GRACE)  # the first of them tells
        missing = [str(rank) for rank in range(self.ranks.size) if rank not in waiting]
        who = f"{'rank' if len(missing) == 1 else 'ranks'} {', '.join(missing)}" if missing else "the network"
        others = counted(len(waiting), "rank")
        told = f"{who} of {self.ranks.size} did not come to a sum for {self.timeout:g} s while {others} waited"
        self.ending.end(f"{told}, and all end.", code=CODE)

    def who_waits(self) -> set[int]:
        """The ranks that wait as this one does, as far as they say so within the grace."""
        comm, me, found = self.ending.failing, self.ranks.rank, {self.ranks.rank}
        sent: list[Any] = [comm.isend(me, other, TAG) for other in range(self.ranks.size) if other != me]
        last = monotonic() + GRACE
        while monotonic() < last and len(found) < self.ranks.size:
            if comm.iprobe(tag=TAG):
                found.add(comm.recv(tag=TAG))
            else:
                time.sleep(0.01)
        del sent
        return found


TAG = 77
