"""What belongs to the whole process while threads compute: its forks, and settings that libraries keep for all threads.

A fork copies the thread that forks and no other. What the others held, a lock in BLAS's memory or a product half done,
is held for ever in the child, and BLAS, which ends its threads for a fork, loses the product in the parent too. So a
fork waits until no other thread computes, and threads wait for the fork: `Computing` is a block around a step or a
batch, which takes part in that.

A library's own `with` blocks for its settings remember on entry and put back on exit. Where those of two threads
overlap, the last puts back what the first had set. `Held` sets them once for all that overlap.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from threading import get_ident
from time import monotonic
from typing import Any, TypeVar

import numpy as np

from xcnn.core.checks import check_whole
from xcnn.errors import BackendError

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 2
"""Results for each thread that wait to be taken, at most."""
PATIENCE = 10.0
"""Seconds that a fork waits for other threads; then it goes on, as if they did not compute."""
LONGEST = 60.0
"""Seconds that a thread waits for others to let go of a setting; then it is told."""


_wanted: int | None = None
"""What `set_threads` was told."""


def set_threads(number: int | None) -> None:
    """Let xcnn use so many threads in this process: NumPy's engine for its work, the reading of images.

    It counts for all backends that were not made with a `threads` of their own, from the next call on; predictions that
    a frozen model has recorded go on as they were. Results are the same bits for any number. BLAS, which is called
    without the compiled library alone, PyTorch and JAX have settings of their own: OMP_NUM_THREADS and
    OPENBLAS_NUM_THREADS in the environment, `torch.set_num_threads`.

    Parameters
    ----------
    number
        at least 1; None is as many as the process may use processors, as it is at first

    Raises
    ------
    OptionError
        X104, for what is no whole number of at least 1.

    Examples
    --------
    >>> xcnn.set_threads(2)
    >>> xcnn.set_threads(None)
    """
    global _wanted
    _wanted = None if number is None else check_whole("number", number)


def wanted() -> int | None:
    """What `set_threads` was told; None where nobody has told it a number."""
    return _wanted


def processors() -> int:
    """How many threads are used at a time: what `set_threads` was told, or the processors of this process."""
    if _wanted is not None:
        return _wanted
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def side_by_side(work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """The results of `work` for each item, in order, of as many threads as there are processors.

    They are for work that lets other threads run meanwhile, in compiled code. What it raises is raised in its turn.
    """
    threads = min(processors(), len(items))
    if threads < 2:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(threads, "xcnn-beside") as pool:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            if len(waiting) == AHEAD * threads:
                yield waiting.popleft().result()
            waiting.append(pool.submit(work, item))
        while waiting:
            yield waiting.popleft().result()


class Mark:
    """A block that is open, and whose it is."""

    __slots__ = ("thread",)
    thread: int

    def __init__(self) -> None:
        self.thread = get_ident()


class Shared:
    """What threads take part in by blocks, each known by its mark: to end one twice is to end it once.

    A Ctrl-C that comes just where a `with` block ends skips its `__exit__`. Then the block's object goes with the
    traceback, and `abandon` ends it: at once, or, where it comes in the midst of this, as soon as somebody asks.
    """

    lock: threading.Lock
    changed: threading.Condition
    left: deque[Mark]
    """Blocks that were left without their end."""

    def forget(self) -> None:
        """No other thread waits, or has left anything."""
        self.lock = threading.Lock()
        self.changed = threading.Condition(self.lock)
        self.left = deque()

    def leave(self, mark: Mark) -> None:
        """End a block; nothing for one that has ended."""
        with self.lock:
            self._drop(mark)

    def abandon(self, mark: Mark) -> None:
        """End a block that was left without its end."""
        self.left.append(mark)
        if self.lock.acquire(blocking=False):
            try:
                self._settle()
            finally:
                self.lock.release()

    def _settle(self) -> None:
        while self.left:
            self._drop(self.left.popleft())

    def _drop(self, mark: Mark) -> None:
        """End a block, if it has not ended; the lock is held."""
        raise NotImplementedError


class Block:
    """A `with` block of what threads share, of one thread."""

    __slots__ = ("mark",)
    mark: Mark | None
    within: tuple[Shared, ...]
    """What it takes part in, and leaves."""

    def __init__(self) -> None:
        self.mark = None

    def begun(self) -> Mark:
        """The mark of this block, from now on."""
        self.mark = mark = Mark()
        return mark

    def undo(self, mark: Mark) -> None:
        """What is this thread's own is as before; again it does nothing."""

    def __exit__(self, *error: object) -> None:
        if (mark := self.mark) is not None:
            self.undo(mark)
            for each in self.within:
                each.leave(mark)
            self.mark = None

    def __del__(self) -> None:
        """An interrupt has skipped the end, or has come in its midst: the rest is done here."""
        if (mark := self.mark) is not None:
            self.undo(mark)
            for each in self.within:
                each.abandon(mark)


class Crowd(Shared):
    """The threads that compute, and forks of the process, which wait until no other thread does."""

    blocks: dict[int, set[Mark]]
    """The blocks in which threads compute."""
    forking: set[int]

    def __init__(self) -> None:
        self.blocks = {}
        self.forget()

    def forget(self) -> None:
        super().forget()
        self.forking = set()

    def enter(self, mark: Mark) -> None:
        """Begin a block; a thread's first waits for forks."""
        with self.lock:
            if self.left:
                self._settle()
            if mark.thread not in self.blocks:
                while self.forking:
                    self.changed.wait(PATIENCE)
            self.blocks.setdefault(mark.thread, set()).add(mark)

    def _drop(self, mark: Mark) -> None:
        marks = self.blocks.get(mark.thread)
        if marks is not None and mark in marks:
            marks.remove(mark)
            if not marks:
                del self.blocks[mark.thread]
                if self.forking:
                    self.changed.notify_all()

    def before_fork(self) -> None:
        """Wait until no other thread computes, and let none begin."""
        with self.changed:
            self._settle()
            self.forking.add(get_ident())  # two threads that fork within their blocks do not wait for each other
            self.changed.notify_all()
            last = monotonic() + PATIENCE
            while self.blocks.keys() - self.forking and (left := last - monotonic()) > 0:
                self.changed.wait(left)

    def after_fork_in_parent(self) -> None:
        """Let threads go on."""
        with self.changed:
            self.forking.discard(get_ident())
            self.changed.notify_all()

    def after_fork_in_child(self) -> None:
        """There is no other thread."""
        mine = self.blocks.get(get_ident())
        self.blocks = {get_ident(): mine} if mine else {}
        self.forget()


crowd: Crowd = Crowd()


class Present(Block):
    """A block in which no other thread forks the process. Blocks of several threads go on side by side."""

    __slots__ = ()
    within: tuple[Shared, ...] = (crowd,)

    def __enter__(self) -> None:
        crowd.enter(self.begun())


class _Here(threading.local):
    """Of each thread: the blocks in which NumPy keeps quiet, one within the other.

    One that ends after that around it, as an interrupt may have it, would put back that NumPy keeps quiet.
    """

    def __init__(self) -> None:
        self.quiet: list[np.errstate] = []


here: _Here = _Here()


class Computing(Present):
    """The same, in which NumPy raises and warns of nothing that is not finite, whatever the process has told it.

    Who computes looks.
    """

    __slots__ = ("quiet",)
    quiet: np.errstate | None

    def __init__(self) -> None:
        super().__init__()
        self.quiet = None

    def __enter__(self) -> None:
        super().__enter__()
        self.quiet = quiet = np.errstate(all="ignore")
        here.quiet.append(quiet)
        quiet.__enter__()

    def undo(self, mark: Mark) -> None:
        quiet, within = self.quiet, here.quiet
        if quiet is not None and quiet in within:
            with suppress(RuntimeError, ValueError, TypeError):  # it has ended, or not begun, or in another context
                quiet.__exit__(None, None, None)
            del within[within.index(quiet) :]
        self.quiet = None


class Held(Shared):
    """A setting of the whole process that several threads hold at once: the first sets it, the last puts it back.

    Threads that want another value wait until those before them have let go, each in its turn; within a block of its
    own, a thread that wants another gets it at once where it is the only holder. None stands for the setting as it is:
    who wants that waits for others too.

    Parameters
    ----------
    read, write, restore
        the setting as it is, setting it to a value, and to what `read` gave
    what
        for the error: what the setting is
    """

    read: Callable[[], Any]
    write: Callable[[Any], None]
    restore: Callable[[Any], None]
    what: str
    holders: dict[int, dict[Mark, Any]]
    """The blocks of each thread, in the order in which they began, and what they hold."""
    queue: list[object]
    value: Any
    before: Any
    after: Any

    def __init__(
        self, read: Callable[[], Any], write: Callable[[Any], None], restore: Callable[[Any], None], what: str
    ) -> None:
        self.read, self.write, self.restore, self.what = read, write, restore, what
        self.forget()
        _held.append(self)

    def forget(self) -> None:
        """Nobody holds it."""
        super().forget()
        self.holders, self.queue, self.value = {}, [], None
        self.before = self.after = None

    def __call__(self, value: Any) -> _Holding:
        """A block in which the setting has this value."""
        return _Holding(self, value)

    def take(self, value: Any, mark: Mark) -> None:
        """Begin a block."""
        with self.lock:
            if self.left:
                self._settle()
            holders = self.holders
            if mine := holders.get(mark.thread):
                if value != self.value:
                    self._change(value)
                self.value = mine[mark] = value
                return
            if self.queue or (holders and value != self.value):
                self._wait(value)
            if not holders:
                self._put_back()  # where an interrupt came before anybody held it
                if value is not None:
                    self._set(value)
                self.value = value
            holders[mark.thread] = {mark: value}

    def _set(self, value: Any) -> None:
        self.before = self.read()
        try:
            self.write(value)
            self.after = self.read()
        except BaseException:  # interrupted
            self.restore(self.before)
            raise

    def _put_back(self) -> None:
        """As it was before it was held, if it was; again it does nothing."""
        if self.before is not None:
            if self.read() == self.after:  # else somebody has set it meanwhile
                self.restore(self.before)
            self.before = self.after = None

    def _change(self, value: Any) -> None:
        """Another value within a block."""
        if len(self.holders) > 1:
            raise self._refused(value)
        self._put_back()
        if value is not None:
            self._set(value)

    def _wait(self, value: Any) -> None:
        """Wait for a turn."""
        ticket, last = object(), monotonic() + LONGEST
        self.queue.append(ticket)
        try:
            while self.queue[0] is not ticket or (self.holders and self.value != value):
                left = last - monotonic()
                if left <= 0:
                    raise self._refused(value)
                self.changed.wait(left)
        finally:
            self.queue.remove(ticket)
            self.changed.notify_all()

    def _refused(self, value: Any) -> BackendError:
        return BackendError(
            "X309",
            f"{self.what} belongs to the whole process, and other threads compute with it set otherwise.",
            f"wanted {words(value)}, theirs {words(self.value)}",
            hint="let such models take turns, or give each a process of its own.",
        )

    def _drop(self, mark: Mark) -> None:
        mine = self.holders.get(mark.thread)
        if mine is None or mark not in mine:
            return
        if len(mine) > 1:
            *_, was = (value for other, value in mine.items() if other is not mark)
            if was != self.value:
                self._change(was)
                self.value = was
            del mine[mark]
            return
        if len(self.holders) == 1:
            self._put_back()
            self.value = None
            if self.queue:
                self.changed.notify_all()
        del self.holders[mark.thread]

    def after_fork_in_child(self) -> None:
        """Other threads hold nothing any more."""
        mine = self.holders.get(get_ident())
        value, before, after, others = self.value, self.before, self.after, len(self.holders) > (mine is not None)
        self.forget()
        self.value, self.before, self.after = value, before, after
        if mine is not None:
            self.holders[get_ident()] = mine
            return
        if others:
            self._put_back()
        self.value = self.before = self.after = None


def words(value: Any) -> str:
    """A setting's value for an error."""
    return "as it is" if value is None else str(value)


class _Holding(Block):
    """A block of Held's."""

    __slots__ = ("value", "within")
    within: tuple[Held]
    value: Any

    def __init__(self, held: Held, value: Any) -> None:
        super().__init__()
        self.within, self.value = (held,), value

    def __enter__(self) -> None:
        mark = self.begun()
        self.within[0].take(self.value, mark)


_held: list[Held] = []


class Survivor:
    """A library that keeps threads of its own, which a forked child does not have: there a call would wait for ever.

    Parameters
    ----------
    name
        the library
    remedy
        what a child can do beside being spawned
    started
        asks the library whether it has threads already, for others than xcnn
    """

    name: str
    remedy: str
    started: Callable[[], bool]
    used: bool
    lost: bool

    def __init__(self, name: str, remedy: str = "", started: Callable[[], bool] = bool) -> None:
        self.name, self.remedy, self.started = name, remedy, started
        self.used = self.lost = False
        _survivors.append(self)

    def check(self) -> None:
        """Note that it is used here.

        Raises
        ------
        BackendError
            X308, where the process that this one was forked from had used it.
        """
        if self.lost:
            raise BackendError(
                "X308",
                f"this process was forked from one that had used {self.name}, whose threads did not come along.",
                hint='start processes by "spawn": multiprocessing.get_context("spawn")' + self.remedy + ".",
            )
        self.used = True


_survivors: list[Survivor] = []


def _after_fork_in_child() -> None:
    global _turns
    _turns = threading.Lock()
    crowd.after_fork_in_child()
    for held in _held:
        held.after_fork_in_child()
    for library in _survivors:
        library.lost = library.lost or library.used or library.started()


if hasattr(os, "register_at_fork"):  # where processes can be forked
    os.register_at_fork(
        before=crowd.before_fork,
        after_in_parent=crowd.after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )


class Hold:
    """Somebody's turn: of a process and a thread, since in a forked child those of the parent do not count."""

    thread: tuple[int, int]
    before: Hold | None
    """That of the same thread, within which this one is."""
    closed: bool
    """Whether what is done within it would be overwritten."""

    def __init__(self) -> None:
        self.thread = os.getpid(), get_ident()
        self.before = None
        self.closed = False


class Turn:
    """What one thread at a time may do, and that thread within itself; others are told rather than kept waiting.

    Who has taken it puts `mine.before` in the place of `owner`, if that is `mine`: without a call, in which an
    interrupt would be heard.
    """

    def __init__(self) -> None:
        at_work.add(weakref.ref(self, _ended))
        self.owner: Hold | None = None

    def take(self, mine: Hold) -> bool:
        """Whether it is this thread's now."""
        with _turns:
            was = self.owner
            if was is not None and was.thread[0] == mine.thread[0]:
                if was.thread != mine.thread:
                    return False
                mine.before = was
            self.owner = mine
            return True

    def close(self, closed: bool = True) -> None:
        """From here on its holder would overwrite what is done within its turn, or no more."""
        if self.owner is not None:
            self.owner.closed = closed


_turns = threading.Lock()
at_work: set[weakref.ref[Turn]] = set()
"""The turns of all models."""
after_the_last: list[Callable[[], None]] = []
"""What lets go of memory that is kept for models; called, in the midst of anything, once there is none."""


def _ended(turn: weakref.ref[Turn]) -> None:
    at_work.discard(turn)
    if not at_work:
        for let_go in after_the_last:
            let_go()
