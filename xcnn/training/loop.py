"""The loop of training: the states of an epoch, one after another, and what is measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from math import isfinite
from typing import Any, TypeAlias

import numpy as np

from xcnn.core.ahead import ahead
from xcnn.core.types import Weights
from xcnn.data.source import Arrays, Batch, Job, Pass, Source, order_of
from xcnn.errors import DataError, DivergedError
from xcnn.training.history import MEASURED, Row
from xcnn.training.losses import weighted
from xcnn.training.metrics import results
from xcnn.training.schedules import learning_rate
from xcnn.training.spans import Laid
from xcnn.training.state import HostArray, TrainingState
from xcnn.training.trainer import Trainer, to_float

Weigh: TypeAlias = Callable[[HostArray, HostArray], HostArray]
"""What the samples of a batch, or each of their places, weigh in the loss: from their targets, and their numbers."""
NOTHING = "give samples; those that were left out stand in the log."
MOST_SHARES = 1 << 24
"""Places of a data set whose weights are made for an epoch as a whole; of more they are made batch by batch."""
Change: TypeAlias = Callable[[HostArray, HostArray, HostArray, tuple[int, int]], tuple[HostArray, HostArray]]
"""What augmentation makes of a batch: of samples and targets, of their numbers, and of (seed, epoch)."""


@dataclass(frozen=True)
class Way:
    """How epochs go through their data.

    Parameters
    ----------
    batch_size
        samples of a step
    shuffle
        whether each epoch has an order of its own
    change
        what augmentation makes of each batch
    workers
        threads that make batches ahead of the steps; 0 makes each when its step comes
    weigh, validation_weigh
        what samples weigh in the loss, those that are trained on and those that are measured after
    by_step
        whether each state is of one step, and never of a span of them
    """

    batch_size: int
    shuffle: bool = True
    change: Change | None = None
    workers: int = 0
    weigh: Weigh | None = None
    validation_weigh: Weigh | None = None
    by_step: bool = False


def epoch(
    trainer: Trainer, state: TrainingState, data: Source, way: Way, validation: Source | None
) -> Generator[TrainingState, None, None]:
    """The rest of the present epoch: the state after each step, or span of steps; the last has the epoch's row.

    With `by_step` each is of one step. Who keeps each as it comes has lost no more than one when the loop ends early,
    however it does.
    """
    trainer.look()
    begun, done_before, number, stall = time.perf_counter(), state.seen, state.epoch + 1, Stall()
    fed = is_fed(data, way)
    taken = fed_steps(trainer, state, data, way, stall) if fed else steps(trainer, state, data, way)
    with closing(taken):
        for after in taken:
            state = after
            yield state
    seconds = time.perf_counter() - begun

    row: Row = {"epoch": number, **totals(trainer, state)}
    if validation is not None:
        row |= validated(trainer, state, validation, way)
    row |= {
        "learning_rate": learning_rate(trainer.optimizer.learning_rate, max(state.optimizer_state["step"] - 1, 0)),
        "images_per_second": (state.seen - done_before) / max(seconds, 1e-9),
        "seconds": seconds,
    }
    if fed:
        row["stall"] = stall.seconds
    yield replace(state.without_epoch(), epoch=number, rows=state.rows.and_one(row))


def is_fed(data: Source, way: Way) -> bool:
    """Whether batches are made ahead of the steps: what lies in memory as it is trained on is only cut."""
    return not isinstance(data, Arrays) or way.change is not None


def steps(trainer: Trainer, state: TrainingState, data: Source, way: Way) -> Generator[TrainingState, None, None]:
    """The states of an epoch on arrays in memory, by spans where the compiled step has them."""
    assert isinstance(data, Arrays)
    order = order_of(len(data), Pass(way.batch_size, trainer.seed, state.epoch, way.shuffle))
    laid = None if way.by_step or not trainer.spans else laid_out(data, order, way)
    while state.seen < len(data):
        after = None if laid is None else trainer.after_span(state, laid, way.batch_size)
        if after is None:
            after = stepped(trainer, state, data.batch(order[state.batch * way.batch_size :][: way.batch_size]), way)
        state = after
        yield state


def laid_out(data: Arrays, order: HostArray, way: Way) -> Laid | None:
    """What spans are made of; None where weights of all samples would take too much room."""
    if way.weigh is None:
        return Laid(data.x, data.labels, order)
    if data.labels.size > MOST_SHARES:
        return None
    return Laid(data.x, data.labels, order, way.weigh(data.labels, np.arange(len(data))))


def fed_steps(
    trainer: Trainer, state: TrainingState, data: Source, way: Way, stall: Stall
) -> Generator[TrainingState, None, None]:
    """The states of an epoch on batches that threads make ahead."""
    key = trainer.seed, state.epoch
    passing = Pass(way.batch_size, *key, way.shuffle, state.batch)
    with closing(ahead(changed(data.jobs(passing), way.change, key), way.workers)) as batches:
        while (batch := stall.next(batches)) is not None:
            if data.samples is None and not trainer.in_all(len(batch.numbers)):
                state = state.but(batch=state.batch + 1)  # a source that leaves samples out left out all of these
                continue
            state = stepped(trainer, state, batch, way)
            yield state
    if not state.seen:
        raise DataError("X203", "the data gave no batch in this epoch.", hint=NOTHING)


def stepped(trainer: Trainer, state: TrainingState, batch: Batch, way: Way) -> TrainingState:
    """The state after a step on a batch."""
    if way.weigh is None:
        after, _ = trainer.after_step(state, batch.x, batch.t)
    else:
        after, _ = trainer.after_step(state, batch.x, batch.t, shares=way.weigh(batch.t, batch.numbers))
    return after


def changed(jobs: Iterator[Job], change: Change | None, key: tuple[int, int]) -> Iterator[Job]:
    """Jobs that put augmentations to their batches."""
    return (partial(augmented, job, change, key) for job in jobs) if change else jobs


def augmented(job: Job, change: Change, key: tuple[int, int]) -> Batch:
    """A batch, changed by augmentations."""
    batch = job()
    return Batch(*change(*batch, key), batch.numbers) if len(batch.numbers) else batch


class Stall:
    """The seconds that steps waited for their batches."""

    seconds: float = 0.0

    def next(self, batches: Iterator[Batch]) -> Batch | None:
        """The next batch, None where there is none."""
        begun = time.perf_counter()
        batch = next(batches, None)
        self.seconds += time.perf_counter() - begun
        return batch


def validated(trainer: Trainer, state: TrainingState, validation: Source, way: Way) -> Row:
    """What is measured of validation data at an epoch's end.

    Raises
    ------
    DivergedError
        X501, where the loss is not finite.
    """
    measured = measure(trainer, trainer.asked(state), validation, way.workers, weigh=way.validation_weigh)
    if not isfinite(measured["loss"]):
        raise DivergedError(
            "X501",
            f"validation loss became {measured['loss']} after epoch {state.epoch + 1}.",
            hint="try a smaller learning rate, or clip_norm; the weights are those after this epoch.",
        )
    return {f"val_{name}": value for name, value in measured.items()}


def totals(trainer: Trainer, state: TrainingState) -> dict[str, Any]:
    """What the sums of an epoch come to: the mean loss, for classifiers the accuracy, and the metrics."""
    found: dict[str, Any] = {"loss": state.loss / (state.weight or 1)}
    if trainer.threshold is not None:
        found["accuracy"] = state.right / (state.labels or 1)
    return found | results(trainer.metrics, state.counts)


def columns(trainer: Trainer, validated: bool, fed: bool = False) -> tuple[str, ...]:
    """The columns of a row that `epoch` makes."""
    measured: tuple[str, ...] = ("loss",) if trainer.threshold is None else ("loss", "accuracy")
    measured += tuple(metric.column for metric in trainer.metrics)
    tested = tuple(f"val_{name}" for name in measured) if validated else ()
    return "epoch", *measured, *tested, "learning_rate", *(MEASURED if fed else MEASURED[:2])


def measure(
    trainer: Trainer,
    weights: Weights,
    data: Source,
    workers: int = 0,
    batch_size: int | None = None,
    weigh: Weigh | None = None,
) -> dict[str, Any]:
    """The mean loss, for classifiers the accuracy, and the metrics of all samples, so many or `at_once` at a time."""
    backend, state, at_once = trainer.backend, TrainingState({}, {}), batch_size or trainer.at_once
    part = trainer.part_of(None if data.samples is None else -(-data.samples // at_once))
    with closing(in_order(data, at_once, workers, part)) as batches:
        for x, targets, numbers in batches:
            if not len(numbers):
                continue
            y, shares = trainer.forward(weights, x), weigh(targets, numbers) if weigh else None
            with backend.active():
                loss = weighted(trainer.loss, None if shares is None else backend.asarray(shares))
                judged, _, right = backend.loss_and_gradient(loss, trainer.threshold, y, backend.asarray(targets))
                value = to_float(backend, judged)
            mine = trainer.on_host(y) if trainer.metrics else None
            more = trainer.sums(value, right, (targets, shares), mine)
            state = trainer.with_sums(state, more)
    state = trainer.of_all(state) if part != slice(None) else state
    if not state.seen:
        raise DataError("X203", "the data gave no batch.", hint=NOTHING)
    return totals(trainer, state)


def in_order(data: Source, batch_size: int, workers: int, part: slice = slice(None)) -> Generator[Batch, None, None]:
    """All samples as they stand, or some of the batches: of arrays in memory slices, without a copy."""
    if not isinstance(data, Arrays):
        yield from ahead(islice(data.jobs(Pass(batch_size)), part.start, part.stop), workers)
        return
    for first in range(0, len(data), batch_size)[part]:
        t = None if data.labels is None else data.labels[first : first + batch_size]
        yield Batch(data.x[first : first + batch_size], t, np.arange(first, min(first + batch_size, len(data))))
