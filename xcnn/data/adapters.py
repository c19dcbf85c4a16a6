"""What people have, as sources: arrays on disk, data sets of other libraries, iterables of batches."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import chain, islice
from typing import Any

import numpy as np

from xcnn.core.arrays import check_texts, unmasked
from xcnn.core.checks import check_whole
from xcnn.data.source import Batch, Job, Numbered, Numbers, Pass, Source, digest, fingerprint, stacked
from xcnn.errors import DataError, OptionError, counted, short

SAMPLES = ("image", "img", "pixel_values", "x", "input", "inputs", "data")
TARGETS = ("label", "labels", "fine_label", "y", "target", "targets")
"""Names that data sets of dicts have for samples and for targets, the most usual first."""


def source(
    x: Any,
    y: Any = None,
    *,
    steps: int | None = None,
    names: tuple[str, str] | None = None,
    channels_last: bool = False,
    threads: bool = False,
    targets: bool = True,
) -> Source:
    """A source of what is read as it is needed, as `fit`, `evaluate` and `predict` make it of what they are given.

    Parameters
    ----------
    x
        a source, as it is; with y anything that has `__len__` and `__getitem__`, as memory maps, HDF5 and zarr arrays
        have; without y a data set of pairs or dicts, as of PyTorch or Hugging Face, or an iterable of batches (x, y)
    y
        (samples, ...) labels or targets, or None
    steps
        batches an epoch, for iterables: needed for those that begin once only, as generators do; None is all of them
    names
        of a sample and its target in a data set of dicts, where they have no usual ones ("image", "label"); else None
    channels_last
        whether images are (height, width, channels), or (height, width) where they are grey, and are to be turned
    threads
        whether several threads may read x at once; else they take turns, and only what follows is done side by side
    targets
        whether targets are wanted; else samples, or batches of them, may have none, as for `predict`

    Returns
    -------
    Source

    Raises
    ------
    OptionError
        X104, for what is none of these, and options that do not go with it.

    Examples
    --------
    >>> pairs = [(np.zeros((1, 2, 2), "float32"), 0), (np.ones((1, 2, 2), "float32"), 1)]
    >>> xcnn.data.source(pairs).batch(np.array([1, 0])).t.tolist()
    [1, 0]
    """
    if isinstance(x, Source):
        if y is not None:
            raise OptionError("X104", "this source has its own targets; y was given too.", hint="leave y out.")
        return x
    if steps is not None and (y is not None or is_indexed(x)):
        raise OptionError("X104", "steps_per_epoch is for iterables of batches.", hint="leave it out.")
    if y is not None or hasattr(x, "dtype"):
        if not is_indexed(x):
            what = f"x is {short(x)}, whose samples have no numbers, so that no y can belong to them"
            raise OptionError("X104", f"{what}.", hint="give an iterable of batches (x, y), and no y.")
        return Rows(x, y, channels_last, threads)
    if is_indexed(x):
        return Pairs(x, names, channels_last, threads, targets)
    if hasattr(x, "__iter__") and not isinstance(x, str | bytes | Mapping):
        return Batches(x, steps, names, channels_last, targets)
    raise OptionError("X104", f"x must be samples, a data set or an iterable of batches; got {short(x)}.")


def is_indexed(x: Any) -> bool:
    """Whether its samples can be asked for by number."""
    if not hasattr(x, "__getitem__") or isinstance(x, str | bytes | Mapping):
        return False
    try:
        return count(x) >= 0
    except TypeError:  # sparse matrices have no length
        return False


def count(x: Any) -> int:
    """How many samples it has; raises TypeError where nothing tells. zarr's arrays have a shape alone."""
    if not hasattr(x, "__len__") and comes_in_pieces(x) and x.shape:
        return int(x.shape[0])
    return len(x)


def comes_in_pieces(x: Any) -> bool:
    """Whether it is an array that is read a part at a time: zarr's, HDF5's or netCDF's."""
    return hasattr(x, "shape") and (hasattr(x, "chunks") or hasattr(x, "read_direct"))


def is_lazy(x: Any) -> bool:
    """Whether it is better read in pieces than made an array: it lies on disk, or is no array at all.

    Of lists, tuples, NumPy's arrays and what is in memory and says so by `__array__` arrays are made.
    """
    if isinstance(x, Source | np.memmap):
        return True
    if isinstance(x, list | tuple | np.ndarray | np.generic | str | bytes):
        return False
    return (is_indexed(x) or hasattr(x, "__iter__")) and (comes_in_pieces(x) or not hasattr(x, "__array__"))


class Reader:
    """Reads a value at a time, by one thread at a time unless several may."""

    def __init__(self, threads: bool, channels_last: bool) -> None:
        self.lock: Any = None if threads else threading.Lock()
        self.channels_last = channels_last

    def __call__(self, read: Callable[[], Any], told: str) -> Any:
        """What it gives; where it raises, the error tells of what."""
        try:
            if self.lock is None:
                return read()
            with self.lock:
                return read()
        except BaseException as error:
            error.add_note(f"xcnn was reading {told}.")
            raise

    def planes(self, x: Any, batched: bool = True) -> Any:
        """An array of a batch's axes, or of a sample's, with the channels first; grey images may have no such axis."""
        is_picture = type(x).__module__.partition(".")[0] == "PIL"
        array = np.asarray(x if is_picture else unmasked(x, "x"))
        if not self.channels_last and not is_picture:
            return array
        match array.ndim - batched:
            case 2:
                return np.expand_dims(array, -3)
            case 3:
                return np.moveaxis(array, -1, -3)
        return array


class Rows(Numbered):
    """Samples that are read by their numbers, and their targets beside them: see `source`."""

    def __init__(self, x: Any, y: Any, channels_last: bool = False, threads: bool = False) -> None:
        self.x: Any = x
        self.reader: Reader = Reader(threads or isinstance(x, np.ndarray), channels_last)
        self.y: Any = y if y is None or (is_lazy(y) and len(getattr(y, "shape", ())) > 1) else whole(y)
        if y is not None and count(x) != count(self.y):
            told = f"x has {counted(count(x), 'sample')}, y {count(self.y)}"
            raise DataError("X203", f"{told}.", hint="give as many labels as images.")
        if not count(x):
            raise DataError("X203", "x and y are empty.", hint="give as many labels as images, and at least one.")
        self.labels: Any = self.y if isinstance(self.y, np.ndarray) else None
        dtype = getattr(x, "dtype", None)
        known = dtype if isinstance(dtype, np.dtype) else self.batch(np.zeros(1, np.int64)).x.dtype
        self.of_bytes: bool | None = known == np.uint8

    def __len__(self) -> int:
        return count(self.x)

    def batch(self, numbers: Numbers) -> Batch:
        """These samples, read."""
        x = self.reader.planes(self.read(self.x, numbers, "x"))
        return Batch(x, None if self.y is None else self.read(self.y, numbers, "y"), numbers)

    def read(self, rows: Any, numbers: Numbers, what: str) -> Any:
        """Rows of an array: neighbours in one piece, others one by one where they lie elsewhere than in memory."""
        if isinstance(rows, np.ndarray):
            return rows[numbers]
        first, last = int(numbers[0]), int(numbers[-1])
        if hasattr(rows, "shape") and last - first + 1 == len(numbers) and (np.diff(numbers) == 1).all():
            told = f"samples {first} to {last}"
            return unmasked(self.reader(lambda: rows[first : last + 1], told), what)
        read = [self.reader(partial(rows.__getitem__, int(n)), self.told(int(n))) for n in numbers]
        return stacked(read, self.told, numbers, what)

    def fingerprint(self) -> str:
        """Of arrays as of those in memory, else of some samples."""
        if isinstance(self.x, np.ndarray) and isinstance(self.y, np.ndarray) and self.y.dtype.kind != "O":
            return fingerprint(self.x, self.y)
        return super().fingerprint()


class Pairs(Numbered):
    """A data set whose samples come with their targets: see `source`."""

    def __init__(
        self,
        pairs: Any,
        names: tuple[str, str] | None = None,
        channels_last: bool = False,
        threads: bool = False,
        targets: bool = True,
    ) -> None:
        if not count(pairs):
            raise DataError("X203", "the data set is empty.", hint="give at least one sample.")
        self.pairs: Any = pairs
        self.names: tuple[str, str] | None = names
        self.targets: bool = targets
        self.reader: Reader = Reader(threads, channels_last)
        self.of_bytes: bool | None = self.batch(np.zeros(1, np.int64)).x.dtype == np.uint8

    def __len__(self) -> int:
        return count(self.pairs)

    def batch(self, numbers: Numbers) -> Batch:
        """These samples, read one by one."""
        read = [self.reader(partial(self.pairs.__getitem__, int(n)), self.told(int(n))) for n in numbers]
        parted = [
            pair_of(each, self.names, self.told(int(n)), self.targets) for n, each in zip(numbers, read, strict=True)
        ]
        x = stacked([self.reader.planes(sample, batched=False) for sample, _ in parted], self.told, numbers)
        t = stacked([target for _, target in parted], self.told, numbers, "y") if self.targets else None
        return Batch(x, t, numbers)


class Batches(Source):
    """Batches that come one after another: see `source`."""

    def __init__(
        self,
        batches: Any,
        steps: int | None = None,
        names: tuple[str, str] | None = None,
        channels_last: bool = False,
        targets: bool = True,
    ) -> None:
        self.batches: Any = batches
        self.targets: bool = targets
        self.names: tuple[str, str] | None = names
        self.reader: Reader = Reader(True, channels_last)
        self.steps: int | None = None if steps is None else check_whole("steps_per_epoch", steps)
        self.begun: Iterator[Any] | None = iter(batches)
        """The next epoch, where it has begun: loaders with processes of their own are not begun in vain."""
        self.once: Iterator[Any] | None = self.begun if self.begun is batches else None
        self.given: int = 0
        """Samples that those before gave."""
        if self.once is not None and steps is None:
            told = f"{short(batches)} can be gone through once only, and nothing says where an epoch ends"
            raise OptionError(
                "X104",
                f"{told}.",
                hint="fit takes steps_per_epoch=...; else put them together: np.concatenate(list(batches)).",
            )

    def look(self) -> None:
        """Take the first batch, and put it back before those that follow."""
        coming = self.begun or iter(self.batches)
        for first in islice(coming, 1):
            self.of_bytes: bool | None = bool(self.parted(first, 0, 1).x.dtype == np.uint8)
            self.begun = chain([first], coming)
            self.once = None if self.once is None else self.begun

    def jobs(self, way: Pass) -> Iterator[Job]:
        """The batches as they come: of what begins anew each epoch, from its beginning."""
        if self.once is not None and way.done:
            told = "batches that can be gone through once only can't be resumed within an epoch"
            raise DataError("X203", f"{told}.", hint="give an object whose __iter__ begins anew.")
        coming = self.begun or iter(self.batches)
        self.begun = self.once
        given = self.given if self.once is not None else 0
        number = 0
        for number, pair in enumerate(islice(coming, self.steps), 1):
            job = self.parted(pair, given, number)
            given += len(job.x)
            if self.once is not None:
                self.given = given
            if number > way.done:
                yield partial(identity, job)
        if number < (self.steps or 1):
            told = f"the iterable ended after {counted(number, 'batch', 'batches')}"
            wanted = f", and steps_per_epoch is {self.steps}" if self.steps else ""
            raise DataError("X203", f"{told}{wanted}.", hint="let it give more, or ask for fewer.")

    def parted(self, pair: Any, given: int, number: int) -> Batch:
        """Samples and targets of a batch."""
        pair = tuple(pair) if isinstance(pair, list) and len(pair) == 2 else pair  # as PyTorch's loaders give them
        x, t = pair_of(pair, self.names, f"batch {number}", self.targets)
        x, t = self.reader.planes(x), None if t is None else np.asarray(t)
        if t is None and x.ndim and len(x):
            return Batch(x, None, given + np.arange(len(x)))
        t = np.asarray(t)
        if not x.ndim or not t.ndim or len(x) != len(t) or not len(x):
            told = f"batch {number} has x {x.shape} and y {t.shape}"
            hint = "give as many labels as images, and at least one."
            if x.ndim and not t.ndim:
                hint = "an iterable gives batches, not samples: data.batch(32) of Hugging Face's, PyTorch's DataLoader."
            raise DataError("X203", f"{told}.", hint=hint)
        return Batch(x, t, given + np.arange(len(x)))

    def fingerprint(self) -> str:
        """Nothing can be told before they come."""
        return digest("batches")


def identity(batch: Batch) -> Batch:
    """What is made already."""
    return batch


def whole(y: Any) -> Any:
    """Targets as an array in memory."""
    array = np.asarray(y)
    check_texts(y, array, "y")
    if not array.ndim:
        raise DataError("X203", f"y must hold targets along its first axis; got {short(y)}.", hint="give an array.")
    return array


def pair_of(sample: Any, names: tuple[str, str] | None, told: str, targets: bool = True) -> tuple[Any, Any]:
    """A sample and its target, of a pair or a dict; where targets are not wanted it may have none, or be no pair."""
    if isinstance(sample, Mapping):
        found = names or tuple(next((n for n in usual if n in sample), "") for usual in (SAMPLES, TARGETS))
        if all(name in sample for name in found[: 1 + targets]):
            return sample[found[0]], sample[found[1]] if targets else None
        told = f"{told} has {', '.join(map(repr, sample))}, and nothing tells which is the sample and which its target"
        raise DataError("X203", f"{told}.", hint='xcnn.data.source(data, names=("image", "label"))')
    if not targets and not isinstance(sample, tuple):
        return sample, None
    if isinstance(sample, tuple | list) and len(sample) == 2:
        return sample[0], sample[1]
    hint = "give pairs (sample, target), or dicts; or x and y."
    raise DataError("X203", f"{told} is no pair but {short(sample)}.", hint=hint)
