"""Calls are timed in short turns, so that all sides meet the same machine, whatever else it has to do."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

PAUSE = 0.005
"""Seconds between turns: the threads of the side before may spin for some milliseconds, in wait for more work."""
CALLS = 2
"""The least number of calls to warm up, to settle and to count, however long they take."""
ROUNDS = 3
"""The least number of turns."""


@dataclass(frozen=True)
class Pace:
    """How long calls are made for what, in seconds.

    Parameters
    ----------
    warm_up
        before the first call that counts: compilers, caches and allocators have settled by then
    turn
        of a side's turn
    settle
        at the beginning of a turn, calls that do not count: the other side's turn has scattered the threads, the caches
        and the allocator's free memory, and a first call may take three times as long as those after it
    """

    warm_up: float
    turn: float
    settle: float


ON_PROCESSOR = Pace(warm_up=0.2, turn=0.075, settle=0.03)
ON_GPU = Pace(warm_up=0.05, turn=0.02, settle=0.005)
"""A graphics processor has one program at a time and few caches, and its time is dear."""


@dataclass(frozen=True)
class Times:
    """How long each call took, in seconds."""

    seconds: tuple[float, ...]

    def quantile(self, q: float) -> float:
        """The time that a share q of the calls, 0..1, stayed below."""
        return float(np.quantile(self.seconds, q))

    @property
    def median(self) -> float:
        """The time that half of the calls stayed below."""
        return self.quantile(0.5)

    @property
    def best(self) -> float:
        """The shortest time."""
        return min(self.seconds)

    def to_dict(self) -> dict[str, float]:
        """Median, 10th and 90th percentile and best in milliseconds, and the number of calls, for JSON."""
        points = {"median_ms": 0.5, "p10_ms": 0.1, "p90_ms": 0.9, "best_ms": 0.0}
        return {**{name: 1e3 * self.quantile(q) for name, q in points.items()}, "calls": len(self.seconds)}

    def of_each(self, count: int) -> Times:
        """The times of one of so many equal pieces of work that a call did."""
        return Times(tuple(taken / count for taken in self.seconds))


def alternate(
    sides: Sequence[Callable[[], object]],
    seconds: float,
    pace: Pace | None = None,
    clock: Callable[[], float] | None = None,
) -> list[Times]:
    """Time each of the functions, in turns of some calls each, for about so many seconds in all after a warm-up.

    The pace is by default that of calls which run on the processor. Another clock counts what it counts.
    """
    pace = pace or ON_PROCESSOR
    calls = [max(CALLS, round(pace.turn / warm_up(side, pace.warm_up))) for side in sides]
    taken: list[list[float]] = [[] for _ in sides]
    rounds, end = 0, time.perf_counter() + seconds
    while rounds < ROUNDS or time.perf_counter() < end:
        rounds += 1
        for side, count, times in zip(sides, calls, taken, strict=True):
            time.sleep(PAUSE)
            warm_up(side, pace.settle)
            times.extend(timed(side, clock) for _ in range(count))
    return [Times(tuple(times)) for times in taken]


def warm_up(side: Callable[[], object], seconds: float) -> float:
    """Call the function for so long; the shortest time of a call, in seconds."""
    taken: list[float] = []
    while len(taken) < CALLS or sum(taken) < seconds:
        taken.append(timed(side))
    return min(taken)


def timed(side: Callable[[], object], clock: Callable[[], float] | None = None) -> float:
    """Seconds of one call."""
    clock = clock or time.perf_counter
    start = clock()
    side()
    return clock() - start


def geometric_mean(values: Sequence[float]) -> float:
    """The mean for ratios: the n-th root of the product of n values."""
    return float(np.exp(np.mean(np.log(values))))


def best(ways: Mapping[str, Callable[[], object]]) -> tuple[str, Callable[[], object]]:
    """The way that had the shortest call when all were warmed up."""
    for call in ways.values():
        call()  # what the first call compiles would else be all of a warm-up
    name = min(ways, key=lambda way: warm_up(ways[way], ON_PROCESSOR.warm_up))
    return name, ways[name]
