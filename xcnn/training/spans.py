"""Spans: training steps that a backend takes in one go, as many as let it hear Ctrl-C soon enough.

What is measured of them is counted on the host, batch by batch as if each had been a call: so a span tells the loss of
each of its steps and, where metrics ask for them, the outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from xcnn.training.state import HostArray, TrainingState

MOST_STEPS = 1024
"""Of a span."""
SECONDS = 0.2
"""That a span is to take, about: so long does it take to hear Ctrl-C."""
KEPT_BYTES = 1 << 24
"""Of outputs that a span keeps, at most, unless one step has more."""


@dataclass(frozen=True)
class Laid:
    """A data set in memory, and the order of an epoch.

    Parameters
    ----------
    x, t
        (samples, ...) each
    order
        (samples,) their numbers, one batch's after another
    shares
        (samples, ...) what each, or each of its places, weighs in the loss; None where all count alike
    """

    x: HostArray
    t: HostArray
    order: HostArray
    shares: HostArray | None = None

    @property
    def arrays(self) -> tuple[HostArray, ...]:
        """What batches are gathered from: x, t and, if there are any, the shares."""
        return (self.x, self.t) if self.shares is None else (self.x, self.t, self.shares)

    @property
    def nbytes(self) -> int:
        """Of all of them."""
        return sum(array.nbytes for array in (*self.arrays, self.order))


@dataclass(frozen=True)
class Spanned:
    """What a span came to.

    Parameters
    ----------
    state
        after it; the sums of losses and counts are those from before it
    losses
        (steps,) of each step, float64
    outputs
        (steps, batch, ...) what the net gave; None where the step does not tell it
    """

    state: TrainingState
    losses: HostArray
    outputs: HostArray | None = None


Span: TypeAlias = Callable[[int, TrainingState, Laid, int], Spanned | None]
"""span(seed, state, data, batch_size) -> what as many of the epoch's next steps as it sees fit come to.

A step that a backend compiled may have such a method. It gives None where the next step must be taken by itself, as one
whose loss or gradient is not finite.
"""


def steps_kept(nbytes: int) -> int:
    """How many steps a span may have whose outputs take so much."""
    return max(1, KEPT_BYTES // max(nbytes, 1))


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
