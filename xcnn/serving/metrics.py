"""What a service counts, in the text form that Prometheus reads."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)


class Histogram:
    """How many numbers are at most as large as each of these bounds, how many there are, and their sum."""

    bounds: Sequence[float]
    counts: list[int]
    sum: float

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds, self.counts, self.sum = bounds, [0] * (len(bounds) + 1), 0.0

    def add(self, number: float) -> None:
        """Count one."""
        self.counts[bisect_left(self.bounds, number)] += 1
        self.sum += number

    def lines(self, name: str) -> Iterator[str]:
        """The text."""
        total = 0
        for bound, count in zip((*map("{:g}".format, self.bounds), "+Inf"), self.counts, strict=True):
            total += count
            yield f'{name}_bucket{{le="{bound}"}} {total}'
        yield f"{name}_sum {self.sum:.9g}"
        yield f"{name}_count {total}"


class Metrics:
    """Requests by their status, seconds that predictions took, sizes of batches, and what waits now."""

    seconds: Histogram
    batches: Histogram

    def __init__(self, waiting: Callable[[], int]) -> None:
        self.waiting = waiting
        self.requests: Counter[int] = Counter()
        self.seconds, self.batches = Histogram(SECONDS), Histogram(SIZES)

    def text(self) -> str:
        """All of it."""
        return "\n".join([*self.lines(), ""])

    def lines(self) -> Iterator[str]:
        """The text, a line at a time."""
        yield "# HELP xcnn_requests_total Predictions that were asked for, by HTTP status."
        yield "# TYPE xcnn_requests_total counter"
        for status, count in sorted(self.requests.items()):
            yield f'xcnn_requests_total{{status="{status}"}} {count}'
        yield "# HELP xcnn_request_seconds Time from a request's headers to its answer."
        yield "# TYPE xcnn_request_seconds histogram"
        yield from self.seconds.lines("xcnn_request_seconds")
        yield "# HELP xcnn_batch_size Images that were computed together."
        yield "# TYPE xcnn_batch_size histogram"
        yield from self.batches.lines("xcnn_batch_size")
        yield "# HELP xcnn_waiting Images that wait for a batch."
        yield "# TYPE xcnn_waiting gauge"
        yield f"xcnn_waiting {self.waiting()}"
