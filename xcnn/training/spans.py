"""Spans: training steps that a backend takes in one go, as many as let it hear Ctrl-C soon enough."""

from __future__ import annotations

MOST_STEPS = 1024
"""Of a span."""
SECONDS = 0.2
"""That a span is to take, about: so long does it take to hear Ctrl-C."""


def is_of_capture(error: Exception) -> bool:
    """Whether CUDA raised it because it can't capture what was done; what layers and losses raise is theirs."""
    text = f"{type(error).__name__} {error}".lower()
    return isinstance(error, RuntimeError) and any(word in text for word in ("captur", "cuda", "outofmemory"))


class Paced:
    """A compiled step whose spans find their length by how long they take."""

    pace: int = 1
    """Steps of the next span, if the epoch has so many."""

    def steps_of_span(self, first: int, samples: int, batch_size: int) -> int:
        """How many steps the next span has, if its first sample is this one of the epoch's."""
        return min(self.pace, max(1, (samples - first) // batch_size))

    def keep_pace(self, seconds: float) -> None:
        """Let the next span take about as long as it should."""
        if seconds < SECONDS / 2:
            self.pace = min(2 * self.pace, MOST_STEPS)
        elif seconds > SECONDS:
            self.pace = max(self.pace // 2, 1)
