"""Sources: what gives batches of samples and targets, whether they lie in memory, in files, or come by and by.

A source says how an epoch is made, as a line of functions, each of which makes one batch and may be called by any
thread: whoever trains calls them ahead of the steps, in order. What lies still is `Numbered`: any of its samples can be
asked for by number, so that it can be shuffled as a whole, and split.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from xcnn.core import random
from xcnn.core.arrays import unmasked
from xcnn.errors import DataError, short

Numbers: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]]"
FINGERPRINT_BYTES = 1 << 22
LOOKED_AT = 16
"""Samples of a source that a checksum is made of, where each has to be read."""


class Pass(NamedTuple):
    """One way through a source: an epoch of training, or all samples as they stand.

    Parameters
    ----------
    batch_size
        samples of a batch
    seed, epoch
        what the order follows from
    shuffle
        whether it is drawn
    done
        batches of it that were taken before: they are passed by

    Examples
    --------
    >>> xcnn.datasets.Pass(32, seed=7, epoch=2, shuffle=True).batch_size
    32
    """

    batch_size: int
    seed: int = 0
    epoch: int = 0
    shuffle: bool = False
    done: int = 0


class Batch(NamedTuple):
    """Some samples of a source.

    Parameters
    ----------
    x
        (N, ...) samples
    t
        (N, ...) their targets, or None
    numbers
        (N,) their numbers in the source

    Examples
    --------
    >>> batch = xcnn.data.source(np.zeros((5, 1, 2, 2), "float32"), np.arange(5)).batch(np.array([4, 0]))
    >>> batch.x.shape, batch.t.tolist(), batch.numbers.tolist()
    ((2, 1, 2, 2), [4, 0], [4, 0])
    """

    x: Any
    t: Any
    numbers: Numbers


Job: TypeAlias = Callable[[], Batch]
"""What makes a batch; any thread may call it."""


class Source:
    """What gives batches. Your own has `jobs` and `fingerprint`; one whose samples have numbers is a `Numbered`.

    Examples
    --------
    >>> isinstance(xcnn.data.source(np.zeros((5, 1, 2, 2), "float32"), np.arange(5)), xcnn.data.Source)
    True
    """

    classes: tuple[str, ...] = ()
    """The names of labels 0, 1, 2, ..., where the source knows them."""
    of_bytes: bool | None = None
    """Whether samples are bytes 0..255, or numbers 0..1 that stand for those; None where that is not known."""
    samples: int | None = None
    """How many an epoch has; None where that is not known before."""

    def jobs(self, way: Pass) -> Iterator[Job]:
        """What makes the batches of a pass, in order."""
        raise NotImplementedError

    def fingerprint(self) -> str:
        """A checksum that tells other data, so that a training goes on with those that it began with."""
        raise NotImplementedError

    def look(self) -> None:
        """Find out `of_bytes` by the first batch, where only that tells; what was looked at is not lost."""

    def told(self, number: int) -> str:
        """What errors call a sample."""
        return f"sample {number}"

    @property
    def expected(self) -> int:
        """About how many samples an epoch has, 0 where nothing tells."""
        return self.samples or 0


@dataclass(frozen=True, eq=False)
class Around(Source):
    """A source that gives another's batches in its own way, and has as many samples.

    Parameters
    ----------
    source
        the other
    """

    source: Source

    @property
    def samples(self) -> int | None:  # type: ignore[override]
        """As many as the source has."""
        return self.source.samples

    @property
    def expected(self) -> int:
        """About as many."""
        return self.source.expected


class Numbered(Source):
    """A source whose samples have numbers 0, 1, ...: it has `__len__`, and `batch` reads any of them.

    Examples
    --------
    >>> source = xcnn.data.source(np.zeros((5, 1, 2, 2), "float32"), np.arange(5))
    >>> isinstance(source, xcnn.data.Numbered), len(source)
    (True, 5)
    """

    labels: Any = None
    """(samples,) the labels, where they are known before a sample is read."""
    travels: bool = False
    """Whether a part of it can be sent to another process, which reads what it has there."""

    def part(self, numbers: Numbers) -> Numbered:
        """Some of its samples, in this order."""
        return Part(self, numbers)

    def __len__(self) -> int:
        raise NotImplementedError

    def batch(self, numbers: Numbers) -> Batch:
        """These samples."""
        raise NotImplementedError

    @property
    def samples(self) -> int | None:  # type: ignore[override]
        """All of them."""
        return len(self)

    def jobs(self, way: Pass) -> Iterator[Job]:
        """An order that is drawn from (seed, epoch), cut into batches."""
        order = order_of(len(self), way)
        for first in range(way.done * way.batch_size, len(order), way.batch_size):
            yield partial(self.batch, order[first : first + way.batch_size])

    def fingerprint(self) -> str:
        """A checksum of some samples, evenly spaced from first to last, and of their number."""
        chosen = np.unique(np.linspace(0, len(self) - 1, LOOKED_AT).astype(np.int64))
        read = self.batch(chosen)
        return digest(f"{len(self)}", *(np.asarray(part) for part in read[:2] if part is not None))


class Arrays(Numbered):
    """Whole arrays in memory, as they are.

    Parameters
    ----------
    x, t
        (samples, ...) each; t may be None
    """

    def __init__(self, x: Any, t: Any) -> None:
        self.x: Any = x
        self.labels: Any = t

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, numbers: Numbers) -> Batch:
        """These samples, copied."""
        return Batch(self.x[numbers], None if self.labels is None else self.labels[numbers], numbers)

    def fingerprint(self) -> str:
        """A checksum of all samples up to 4 MiB, beyond that of as many."""
        return fingerprint(*(array for array in (self.x, self.labels) if array is not None))


class Part(Numbered):
    """Some samples of a source, in an order of their own.

    Parameters
    ----------
    source
        whose they are
    chosen
        (samples,) their numbers there
    """

    def __init__(self, source: Numbered, chosen: Numbers) -> None:
        self.source: Numbered = source
        self.chosen: Numbers = chosen
        self.classes: tuple[str, ...] = source.classes
        self.of_bytes: bool | None = source.of_bytes
        self.labels: Any = None if source.labels is None else source.labels[chosen]

    def __len__(self) -> int:
        return len(self.chosen)

    @property
    def samples(self) -> int | None:  # type: ignore[override]
        """As many as were chosen, if the source gives all that it has."""
        return None if self.source.samples is None else len(self.chosen)

    @property
    def expected(self) -> int:
        """As many as were chosen."""
        return len(self.chosen)

    def batch(self, numbers: Numbers) -> Batch:
        """These samples, numbered as they are here."""
        wanted = self.chosen[numbers]
        x, t, given = self.source.batch(wanted)
        return Batch(x, t, numbers if len(given) == len(wanted) else numbers[np.isin(wanted, given)])

    @property
    def travels(self) -> bool:  # type: ignore[override]
        """As the source does."""
        return self.source.travels

    def part(self, numbers: Numbers) -> Numbered:
        """Some of them, of the source itself."""
        return self.source.part(self.chosen[numbers])

    def told(self, number: int) -> str:
        """As the source tells it."""
        return self.source.told(int(self.chosen[number]))

    def fingerprint(self) -> str:
        """The source's, and which samples they are."""
        return digest(self.source.fingerprint(), self.chosen)


def order_of(samples: int, way: Pass) -> Numbers:
    """(samples,) numbers in the order of a pass."""
    numbers: Numbers
    if way.shuffle:
        numbers = random.generator(way.seed, way.epoch).permutation(samples)
    else:
        numbers = np.arange(samples)
    return numbers


def fingerprint(*arrays: Any) -> str:
    """A checksum of the samples: of all of them up to 4 MiB, beyond that of as many, evenly spaced from first to last.

    It tells other data by their number, shape, type and values; of large ones it may miss a few changed samples.
    """
    parts: list[Any] = []
    for array in arrays:
        size = max(array[:1].nbytes, 1)
        count = min(len(array), max(2, FINGERPRINT_BYTES // size))
        chosen = array if count == len(array) else array[np.linspace(0, len(array) - 1, count).astype(np.int64)]
        parts += [f"{array.shape} {array.dtype.name} ", chosen]
    return digest(*parts)


def digest(*parts: Any) -> str:
    """16 digits of the SHA-256 of texts and arrays."""
    sum_ = hashlib.sha256()
    for part in parts:
        sum_.update(part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part.tobytes())
    return sum_.hexdigest()[:16]


def stacked(samples: list[Any], told: Callable[[int], str], numbers: Numbers, what: str = "x") -> Any:
    """Samples as one array; X203 names the first that has another shape or type than the one before it."""
    arrays = [np.asarray(unmasked(each, what)) for each in samples]
    for number, each in zip(numbers, arrays, strict=True):
        if each.shape != arrays[0].shape or each.dtype.kind == "O":
            odd = f"{told(int(number))} has {what} of shape {each.shape} and type {each.dtype}"
            first = f"{told(int(numbers[0]))} is {arrays[0].shape}"
            raise DataError("X203", f"{odd}, but {first}.", hint="every sample needs one shape; resize them.")
        if (each.dtype.kind in "US") != (arrays[0].dtype.kind in "US"):  # NumPy would make texts of the numbers
            odd, other = (
                f"{told(int(n))} has {short(a.tolist())}" for n, a in ((number, each), (numbers[0], arrays[0]))
            )
            raise DataError("X203", f"{odd} for {what}, and {other}.", hint="give texts alone, or numbers alone.")
    return np.stack(arrays)
