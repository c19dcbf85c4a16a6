"""What `fit`, `evaluate` and `predict` are given, as sources of batches that a model takes.

Arrays in memory are checked whole, before anything begins. What is read as it is needed is checked a batch at a time,
by whichever thread makes it: scaled, its labels numbered, and whatever is wrong told with the sample's number.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from xcnn.data.dataset import Labels
from xcnn.data.source import Around, Arrays, Batch, Job, Numbered, Numbers, Pass, Source
from xcnn.errors import DataError, OptionError
from xcnn.model.held import Held
from xcnn.model.host_data import host_array, inputs_of, samples_of, targets_of
from xcnn.model.taking import Taking, decided, names_of
from xcnn.training.state import HostArray

log: logging.Logger = logging.getLogger("xcnn")


@dataclass(frozen=True, eq=False)
class Fed(Around):
    """A source as a model takes it.

    Parameters
    ----------
    source
        where batches come from
    model
        whose shapes and types they must fit
    taking
        what is made of bytes and names
    role
        "validation " for data of validation
    asked
        whether targets are wanted
    """

    model: Held
    taking: Taking
    role: str = ""
    asked: bool = True

    def fingerprint(self) -> str:
        """That of the source."""
        return self.source.fingerprint()

    def jobs(self, way: Pass) -> Iterator[Job]:
        """Each batch as the source makes it, then as the model takes it."""
        for job in self.source.jobs(way):
            yield partial(self.taken, job)

    def batch(self, numbers: Numbers) -> Batch:
        """These samples, of a source whose samples have numbers."""
        assert isinstance(self.source, Numbered)
        return self.taken(partial(self.source.batch, numbers))

    def taken(self, job: Job) -> Batch:
        """A batch, scaled, numbered and checked."""
        x, t, numbers = job()
        if self.samples is None and not len(numbers):
            return self.nothing()
        return Batch(self.x_of(x, numbers), self.t_of(t, numbers) if self.asked else None, numbers)

    def nothing(self) -> Batch:
        """A batch of no samples: the source leaves out what it can't read, and that is all of this one."""
        model, known = self.model, getattr(self.source, "labels", None)
        y = np.empty((0, *model.output_shape), model.dtype)
        t = y if known is None else np.empty((0, *known.shape[1:]), np.int64)
        return Batch(np.empty((0, *model.input_shape), model.dtype), t if self.asked else None, np.empty(0, np.int64))

    def x_of(self, x: Any, numbers: Numbers) -> Any:
        """Samples."""
        source, taking = self.source, self.taking
        if taking.scaling != "bytes" and source.of_bytes and x.dtype != np.uint8:
            what = "numbers in 0..1 that stand for bytes, and the model takes floating-point numbers as they are"
            hint = 'if it was trained on numbers in 0..1 too: model.scaling = "bytes".'
            raise DataError("X203", f"{self.role}samples are {what}.", hint=hint)
        return inputs_of(self.model, x, f"{self.role}x", taking, partial(told_by, source, numbers))

    def t_of(self, t: Any, numbers: Numbers) -> Any:
        """Targets."""
        if t is None:
            raise OptionError("X104", f"{self.role}samples have no targets.", hint="give x and y.")
        told = partial(told_by, self.source, numbers)
        t = self.taking.numbered(t, self.role, told)
        if self.source.classes and t.ndim == 1 and (table := self.taking.renumbered(self.source.classes)) is not None:
            t = table[t]
        return targets_of(self.model, t, self.role, told)


def told_by(source: Source, numbers: Numbers, place: int) -> str:
    """What a source calls a sample of a batch."""
    return source.told(int(numbers[place]))


def to_train_on(model: Held, x: Any, y: Any, steps: int | None) -> tuple[Source, Taking]:
    """What `fit` trains on, and what the model takes from then on.

    Raises
    ------
    OptionError
        X104, for what is no data, or y without which x is nothing.
    DataError, ShapeError, DTypeError, LabelError
        X203, X101, X103, X201, for samples or targets that do not fit.
    """
    if in_pieces(x, y, model.taking):
        from xcnn.data.adapters import source

        given = source(x, y, steps=steps)
        if model.taking.scaling is None and given.of_bytes is None:
            given.look()
        names = given.classes or in_order(getattr(given, "labels", None))
        taking = decided(model.taking, model.output_shape[0] if model.output_shape else 1, given.of_bytes, names)
        taking.renumbered(given.classes)  # raises where it has others
        return Fed(given, model, taking), taking
    if steps is not None:
        raise OptionError("X104", "steps_per_epoch is for iterables of batches.", hint="leave it out.")
    if y is None:
        pairs = isinstance(x, list | tuple) and x and isinstance(x[0], tuple | list | dict) and len(x[0]) == 2
        hint = "a list of pairs (sample, target): fit(xcnn.data.source(x))." if pairs else "fit(x, y)"
        raise OptionError("X104", "y is missing: arrays x have no targets of their own.", hint=hint)
    outputs = model.output_shape[0] if model.output_shape else 1
    names = y.classes if isinstance(y, Labels) and len(y.classes) == max(outputs, 2) else None
    y = host_array("y", y)
    taking = decided(model.taking, outputs, True if names else None, names or in_order(y))
    return Arrays(*samples_of(model, x, y, taking=taking)), taking


def to_measure(model: Held, x: Any, y: Any, role: str = "", taking: Taking | None = None) -> Source:
    """What `evaluate` and validation measure; raises what `to_train_on` does."""
    taking = taking or model.taking
    if in_pieces(x, y, taking):
        from xcnn.data.adapters import source

        given = source(x, y)
        taking.renumbered(given.classes)  # raises where it has others
        return Fed(given, model, taking, role)
    if y is None:
        raise OptionError("X104", f"{role}arrays x have no targets of their own.", hint="evaluate(x, y)")
    return Arrays(*samples_of(model, x, y, role, taking))


def to_ask(model: Held, x: Any) -> Source:
    """What `predict` computes the outputs of; raises what `to_train_on` does for samples."""
    if not in_pieces(x, None, model.taking):
        return Arrays(inputs_of(model, x), None)
    from xcnn.data.adapters import source

    return Fed(source(x, targets=False), model, model.taking, asked=False)


def known_targets(data: Source) -> HostArray | None:
    """The targets of all samples, as a model takes them, where they are known before the samples are read."""
    if isinstance(data, Arrays):
        known: HostArray = data.labels
        return known
    if not isinstance(data, Fed) or not isinstance(data.source, Numbered) or data.source.labels is None:
        return None
    numbered: HostArray = data.t_of(data.source.labels, np.arange(len(data.source)))
    return numbered


def in_pieces(x: Any, y: Any, taking: Taking) -> bool:
    """Whether x is read as it is needed: it lies on disk, is no array, or its bytes would take four times the room."""
    if type(x) is np.ndarray:
        return bool(x.dtype == np.uint8 and x.ndim and len(x) and taking.scaling != "floats")
    from xcnn.data.adapters import is_lazy

    return is_lazy(x)


def in_order(labels: Any) -> list[str] | None:
    """The names among labels, sorted; None where labels are no names."""
    if labels is None or labels.ndim != 1 or labels.dtype.kind not in "OUST" or not len(labels):
        return None
    return sorted({*names_of(labels)})
