"""How long ranks take for a step, computed: what each computes, and what the network adds to it.

A sum of b bytes over n ranks takes 2 log2(n) messages one after another and carries 2 b (n - 1) / n bytes over each
rank's line: Thakur, Rabenseifner and Gropp 2005. Where gradients leave while the backward pass goes on, the line takes
buckets in turn, each once it is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log2


@dataclass(frozen=True)
class Network:
    """What lies between ranks.

    Parameters
    ----------
    latency
        seconds of a message without content
    bandwidth
        bytes a second of each rank's line
    """

    latency: float
    bandwidth: float

    def sum(self, size: float, ranks: int) -> float:
        """Seconds of a sum of so many bytes over all ranks."""
        if ranks == 1:
            return 0.0
        return 2 * ceil(log2(ranks)) * self.latency + 2 * size * (ranks - 1) / ranks / self.bandwidth


@dataclass(frozen=True)
class Work:
    """A net's step.

    Parameters
    ----------
    image
        seconds that a rank computes for an image, a third of it forward
    fixed
        seconds of a step that do not follow from its images, such as the update
    sizes
        bytes of the gradients that are summed as one each, in the order in which they come
    statistics
        sums of a few numbers, as BatchNorm's, which a step waits for
    """

    image: float
    fixed: float
    sizes: Sequence[float]
    statistics: int = 0

    @property
    def bytes(self) -> float:
        """Of all gradients."""
        return sum(self.sizes)


def step_seconds(work: Work, network: Network, batch: int, ranks: int, hides: bool) -> float:
    """Seconds of a step on a batch, shared by ranks; gradients leave after the backward pass, or while it goes on."""
    each = ceil(batch / ranks)
    computing, waits = each * work.image, work.statistics * network.sum(1000, ranks)
    if not hides:
        return computing + work.fixed + waits + sum(network.sum(size, ranks) for size in work.sizes)
    forward, backward = computing / 3 + waits / 2, computing * 2 / 3 + waits / 2
    there, free, done = forward, 0.0, 0.0
    for size in work.sizes:
        done += size
        there = forward + backward * done / max(work.bytes, 1)
        free = max(free, there) + network.sum(size, ranks)
    return max(forward + backward, free) + work.fixed


def efficiency(work: Work, network: Network, batch: int, ranks: int, hides: bool) -> float:
    """One rank's time over that of all ranks together: 1 where nothing is lost."""
    alone = step_seconds(work, network, batch, 1, hides)
    return alone / (ranks * step_seconds(work, network, batch, ranks, hides))


def most_ranks(work: Work, network: Network, batch: int, hides: bool, least: float = 0.8) -> int:
    """The largest power of two of ranks whose efficiency is at least so much, each having an image."""
    ranks = 1
    while 2 * ranks <= batch and efficiency(work, network, batch, 2 * ranks, hides) >= least:
        ranks *= 2
    return ranks
