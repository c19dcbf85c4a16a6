"""Data of which each rank takes its part of every batch: what it does not need it does not read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from xcnn.core.pure import is_own
from xcnn.data.source import Around, Arrays, Batch, Job, Numbered, Numbers, Pass, Source, order_of
from xcnn.model.feeding import Fed
from xcnn.parallel.parts import places
from xcnn.training.loop import Change, Way, changed


@dataclass(frozen=True)
class Place:
    """Whose part of each batch it is.

    Parameters
    ----------
    rank, size
        of so many ranks the how manieth
    parts
        in which batches are computed
    """

    rank: int
    size: int
    parts: int = 1

    def of(self, numbers: Numbers) -> Numbers:
        """The samples of a batch that are this rank's."""
        return numbers[places(len(numbers), self.parts, self.rank, self.size)]


class SharedArrays(Arrays):
    """Arrays in memory, whose batches are a rank's part."""

    def __init__(self, arrays: Arrays, place: Place) -> None:
        super().__init__(arrays.x, arrays.labels)
        self.place = place

    def batch(self, numbers: Numbers) -> Batch:
        return super().batch(self.place.of(numbers))


@dataclass(frozen=True, eq=False)
class SharedSource(Around):
    """A source whose batches are a rank's part. Of samples with numbers it reads only those."""

    place: Place

    def fingerprint(self) -> str:
        return self.source.fingerprint()

    def jobs(self, way: Pass) -> Iterator[Job]:
        if not isinstance(self.source, Fed) or not isinstance(self.source.source, Numbered):
            for job in self.source.jobs(way):
                yield partial(self.taken, job)
            return
        order = order_of(len(self.source.source), way)
        for first in range(way.done * way.batch_size, len(order), way.batch_size):
            yield partial(self.read, self.source, order[first : first + way.batch_size])

    def taken(self, job: Job) -> Batch:
        """A part of a batch that is made whole."""
        batch = job()
        mine = self.place.of(np.arange(len(batch.x)))
        return Batch(batch.x[mine], batch.t[mine], batch.numbers[mine])

    def read(self, fed: Fed, numbers: Numbers) -> Batch:
        """A part of a batch, of which nothing else is read; where it is empty, of one sample none."""
        mine = self.place.of(numbers)
        batch = fed.batch(mine if len(mine) else numbers[:1])
        return batch if len(mine) else Batch(*(part[:0] for part in batch))


@dataclass(frozen=True, eq=False)
class Changed(Around):
    """A source whose batches are augmented whole, by what looks at several samples of them."""

    change: Change

    def fingerprint(self) -> str:
        return self.source.fingerprint()

    def jobs(self, way: Pass) -> Iterator[Job]:
        yield from changed(self.source.jobs(way), self.change, (way.seed, way.epoch))


def is_by_sample(augmentation: Any) -> bool:
    """Whether it is known to change each sample by itself."""
    kind: Any = type(augmentation)
    return is_own(kind) and not hasattr(augmentation, "mix")


def shared(data: Source, way: Way, augment: tuple[Any, ...], place: Place) -> tuple[Source, Way]:
    """A rank's part of the data, and how it goes through them.

    Augmentations that mix samples, and a user's own, of which nobody knows, are put to whole batches first.
    """
    if way.change is not None and not all(map(is_by_sample, augment)):
        return SharedSource(Changed(data, way.change), place), replace(way, change=None)
    if isinstance(data, Arrays):
        return SharedArrays(data, place), way
    return SharedSource(data, place), way
