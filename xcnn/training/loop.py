"""The loop of training: the states of an epoch, one after another, and what is measured."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from math import isfinite
from typing import Any, TypeAlias

import numpy as np

from xcnn.core import random
from xcnn.core.types import Weights
from xcnn.errors import DivergedError
from xcnn.training.history import MEASURED, Row
from xcnn.training.losses import count_correct, value_and_gradient, weighted
from xcnn.training.metrics import results
from xcnn.training.schedules import learning_rate
from xcnn.training.state import HostArray, TrainingState
from xcnn.training.trainer import Trainer, to_float

FINGERPRINT_BYTES = 1 << 22

Weigh: TypeAlias = Callable[[HostArray, HostArray], HostArray]
"""What the samples of a batch, or each of their places, weigh in the loss: from their targets, and their numbers."""
Change: TypeAlias = Callable[[HostArray, HostArray, HostArray, tuple[int, int]], tuple[HostArray, HostArray]]
"""What augmentation makes of a batch: of samples and targets, of their numbers, and of (seed, epoch)."""


def epoch(
    trainer: Trainer,
    state: TrainingState,
    x: HostArray,
    t: HostArray,
    batch_size: int,
    shuffle: bool,
    validation: tuple[HostArray, HostArray] | None,
    change: Change | None = None,
    weigh: Weigh | None = None,
    validation_weigh: Weigh | None = None,
    by_step: bool = False,
) -> Iterator[TrainingState]:
    """The rest of the present epoch: the state after each step, or span of steps; the last has the epoch's row.

    With `by_step` each is of one step. Who keeps each as it comes has lost no more than one when the loop ends early,
    however it does.
    """
    trainer.look()
    begun, done_before, number = time.perf_counter(), state.seen, state.epoch + 1
    order = random.generator(trainer.seed, state.epoch).permutation(len(x)) if shuffle else np.arange(len(x))
    while state.seen < len(x):
        after = None if change or weigh or by_step else trainer.after_span(state, x, t, order, batch_size)
        if after is None:
            chosen = order[state.batch * batch_size :][:batch_size]
            batch = x[chosen], t[chosen]
            batch = change(*batch, chosen, (trainer.seed, state.epoch)) if change else batch
            shares: dict[str, Any] = {"shares": weigh(batch[1], chosen)} if weigh else {}
            after, _ = trainer.after_step(state, *batch, **shares)
        state = after
        yield state
    seconds = time.perf_counter() - begun

    row: Row = {"epoch": number, **totals(trainer, state)}
    if validation is not None:
        row |= validated(trainer, state, validation, validation_weigh)
    row |= {
        "learning_rate": learning_rate(trainer.optimizer.learning_rate, max(state.optimizer_state["step"] - 1, 0)),
        "images_per_second": (state.seen - done_before) / max(seconds, 1e-9),
        "seconds": seconds,
    }
    yield replace(state.without_epoch(), epoch=number, rows=(*state.rows, row))


def validated(
    trainer: Trainer, state: TrainingState, validation: tuple[HostArray, HostArray], weigh: Weigh | None
) -> Row:
    """What is measured of validation data at an epoch's end.

    Raises
    ------
    DivergedError
        X501, where the loss is not finite.
    """
    measured = measure(trainer, trainer.asked(state), *validation, weigh=weigh)
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


def columns(trainer: Trainer, validated: bool) -> tuple[str, ...]:
    """The columns of a row that `epoch` makes."""
    measured: tuple[str, ...] = ("loss",) if trainer.threshold is None else ("loss", "accuracy")
    measured += tuple(metric.column for metric in trainer.metrics)
    tested = tuple(f"val_{name}" for name in measured) if validated else ()
    return "epoch", *measured, *tested, "learning_rate", *MEASURED


def measure(
    trainer: Trainer,
    weights: Weights,
    x: HostArray,
    t: HostArray,
    batch_size: int | None = None,
    weigh: Weigh | None = None,
) -> dict[str, Any]:
    """The mean loss, for classifiers the accuracy, and the metrics of all samples, so many or `at_once` at a time."""
    backend, batch_size = trainer.backend, batch_size or trainer.at_once
    state = TrainingState({}, {})
    for first in range(0, len(x), batch_size):
        y, targets = trainer.forward(weights, x[first : first + batch_size]), t[first : first + batch_size]
        shares = weigh(targets, np.arange(first, first + len(targets))) if weigh else None
        targets_there = backend.asarray(targets)
        with backend.active():
            loss = weighted(trainer.loss, None if shares is None else backend.asarray(shares))
            value, _ = value_and_gradient(loss, y, targets_there)
            value, right = to_float(backend, value), 0
            if trainer.threshold is not None:
                right = int(to_float(backend, count_correct(y, targets_there, trainer.threshold)))
        counted = trainer.counted(state, value, (targets, shares), y if trainer.metrics else None)
        state = replace(state, right=state.right + right, **counted)
    return totals(trainer, state)


def fingerprint(*arrays: HostArray) -> str:
    """A checksum of the samples: of all of them up to 4 MiB, beyond that of as many, evenly spaced from first to last.

    It tells other data by their number, shape, type and values; of large ones it may miss a few changed samples.
    """
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.shape} {array.dtype.name} ".encode())
        size = max(array[:1].nbytes, 1)
        count = min(len(array), max(2, FINGERPRINT_BYTES // size))
        chosen = array if count == len(array) else array[np.linspace(0, len(array) - 1, count).astype(np.int64)]
        digest.update(chosen.tobytes())
    return digest.hexdigest()[:16]
