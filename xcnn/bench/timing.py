"""Calls are timed in short turns, so that all sides meet the same machine, whatever else it has to do."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

WARM_UP = 0.2
"""Seconds of calls before the first that counts: compilers, caches and allocators have settled by then."""
TURN = 0.075
"""Seconds of a side's turn."""
PAUSE = 0.005
"""Seconds between turns: the threads of the side before may spin for some milliseconds, in wait for more work."""
SETTLE = 0.03
"""Seconds of calls at the beginning of a turn that do not count: the other side's turn has scattered the threads, the
caches and the allocator's free memory, and a first call may take three times as long as those after it."""
CALLS = 2
"""The least number of calls to warm up, to settle and to count, however long they take."""
ROUNDS = 3
"""The least number of turns."""


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


def alternate(sides: Sequence[Callable[[], object]], seconds: float) -> list[Times]:
    """Time each of the functions, in turns of some calls each, for about so many seconds in all after a warm-up."""
    calls = [max(CALLS, round(TURN / warm_up(side, WARM_UP))) for side in sides]
    taken: list[list[float]] = [[] for _ in sides]
    rounds, end = 0, time.perf_counter() + seconds
    while rounds < ROUNDS or time.perf_counter() < end:
        rounds += 1
        for side, count, times in zip(sides, calls, taken, strict=True):
            time.sleep(PAUSE)
            warm_up(side, SETTLE)
            times.extend(timed(side) for _ in range(count))
    return [Times(tuple(times)) for times in taken]


def warm_up(side: Callable[[], object], seconds: float) -> float:
    """Call the function for so long; the shortest time of a call, in seconds."""
    taken: list[float] = []
    while len(taken) < CALLS or sum(taken) < seconds:
        taken.append(timed(side))
    return min(taken)


def timed(side: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    side()
    return time.perf_counter() - start


def geometric_mean(values: Sequence[float]) -> float:
    """The mean for ratios: the n-th root of the product of n values."""
    return float(np.exp(np.mean(np.log(values))))
