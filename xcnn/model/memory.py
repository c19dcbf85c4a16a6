"""What a training step and a prediction take of memory, as the engine that computes them takes it.

A step is taken with few samples, of zeros, while the backend counts (`Backend.metered`). Between one run of layers and
the next the most that is alive is noted, for two batches: what they differ by is what a sample adds there. So weights
and gradients, which do not grow with the batch, and activations, which do, are told apart at each moment, and a larger
batch may have its peak at another one. Memory that a backend uses again is asked for likewise: what it would hold of
requests of that batch's sizes is asked of itself. So is what a recording of the net's passes would take: the first two
steps go layer by layer, in the third the recording of the second is tried out, and from then on it is replayed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from xcnn.core.memory import Meter, Replayed, Request, Round
from xcnn.core.types import Array, Backward, Shape
from xcnn.layers.layer import Hook, Layer, Run
from xcnn.model.held import Held
from xcnn.model.needs import at_once
from xcnn.training.losses import OF_LABELS, loss_name
from xcnn.training.step import TrainingStep

log: logging.Logger = logging.getLogger("xcnn")

CELLS = 2**24
"""That the layers' outputs of a step's batch may have: so it takes a fraction of a second. A prediction, which takes a
third of that, may have twice as many: what takes most of a few samples may not be what takes most of many."""
ROUNDS = 3
"""Steps after which what a backend holds is the same after each."""


FEW = 8
"""Samples of which an engine is asked how many it computes at once."""


@dataclass(frozen=True)
class Course:
    """What a step of any batch takes, as two batches tell.

    Parameters
    ----------
    few, more
        the samples of both
    of_few, of_more
        what was counted with them
    most
        samples that are computed at once, of a larger batch one part after the other; None: all
    result
        bytes of what a sample leaves of its part
    """

    few: int
    more: int
    of_few: Meter
    of_more: Meter
    most: int | None = None
    result: int = 0

    def bytes(self, batch: int, rounds: int = ROUNDS) -> int:
        """The most that is alive in so many steps, what the first of them leaves alive being there in the second."""
        if self.most is not None and batch > self.most:
            return replace(self, most=None).bytes(self.most, rounds) + batch * self.result
        if batch <= self.few and self.of_more is not self.of_few:  # the fewer samples tell by themselves
            return replace(self, of_more=self.of_few).bytes(batch, rounds)
        peak = max(self.scaled(*pair, batch) for pair in aligned(self.of_few.peaks, self.of_more.peaks))
        left = self.scaled(self.of_few.left, self.of_more.left, batch) if rounds > 1 else 0
        by_layers = Round([*self.requests(batch)], round(peak + left))
        recorded = self.recorded(batch, by_layers.beside) if rounds > 1 else []
        return self.of_more.held([by_layers, by_layers, *recorded] if recorded else [by_layers] * rounds)

    def recorded(self, batch: int, beside: int) -> list[Round]:
        """The step that tries a recording out, and a replay; none where there is no recording."""
        few, more = self.of_few.replayed, self.of_more.replayed
        if few is None or more is None:
            return []
        memories = more.memories([round(size) for size in self.grown(few.sizes, more.sizes, batch)])
        if not memories:
            return []
        copies = round(self.scaled(few.copies, more.copies, batch))
        of_replay = [(-1 - n, size) for n, size in enumerate(memories)]  # numbers that no other array has
        return [
            Round([*self.requests(batch, passes=True)], beside + copies, trial=True),
            Round([*of_replay, *self.requests(batch, passes=False)], beside),
        ]

    def scaled(self, few: float, more: float, batch: int) -> float:
        """On the line through both: what grows with the batch grows evenly."""
        return more + max(more - few, 0) / (self.more - self.few) * (batch - self.more)

    def grown(self, few: Sequence[int], more: Sequence[int], batch: int) -> Iterator[float]:
        """The sizes of arrays that had these with few samples and with more."""
        if len(few) == len(more):
            return (self.scaled(*pair, batch) for pair in zip(few, more, strict=True))
        # another way for the larger batch: what it has in common with the smaller one does not grow
        return (size if size in few else size * batch / self.more for size in more)

    def requests(self, batch: int, passes: bool | None = None) -> Iterator[Request]:
        """Those of the larger batch, with the sizes of this one; of the net's passes, or of all else, or of both."""
        parts = aligned(self.of_few.requests[:-1], self.of_more.requests[:-1])
        for n, (few, more) in enumerate(parts):
            if passes is None or self.of_more.passes[n] is passes:
                sizes, asked = ([size for _, size in each if size >= 0] for each in (few, more))
                grown = iter([*self.grown(sizes, asked, batch)])
                for number, size in more:
                    yield number, -1 if size < 0 else round(self.own(number, size, batch, next(grown)))

    def own(self, number: int, size: int, batch: int, evenly: float) -> float:
        """The size of an array that may have a growth of its own."""
        growth = self.of_more.growths.get(number)
        return size * growth(batch / self.more) if growth else evenly


def aligned(few: Sequence[Any], more: Sequence[Any]) -> list[tuple[Any, Any]]:
    """What was counted at the same moments; the larger batch's alone where somebody's layers went another way."""
    return [*zip(few if len(few) == len(more) else more, more, strict=True)]


@dataclass(frozen=True)
class Needs:
    """The memory of a training step, and of a prediction."""

    step: Course
    prediction: Course


def needs(model: Held, batch: int) -> Needs | None:
    """What the engine takes for batches like this; None where it can't be measured."""
    try:
        step, prediction = course(model, train, batch, CELLS), in_parts(model, batch)
    except Exception:  # a layer whose backward is not written yet
        log.debug("a step on zeros failed: its memory is not measured", exc_info=True)
        return None
    return Needs(step, prediction) if step and prediction else None


def course(model: Held, call: Callable[[Held, Array, Hook], object], batch: int, cells: int) -> Course | None:
    """What a call takes for any batch, seen with at most this one, whose layers' outputs have at most so many cells."""
    more = max(2, min(batch, at_once(model.net, model.input_shape, cells)))
    if 4 <= more < batch:
        more -= more % 4  # so that two threads share both batches evenly, as they nearly do large ones
    of_few, of_more = (counted(model, call, n) for n in (more // 2, more))
    return Course(more // 2, more, of_few, of_more) if of_few and of_more else None


def in_parts(model: Held, batch: int) -> Course | None:
    """The course of predictions, of which some engines compute a large batch's one part after the other."""
    backend, most = model.trainer.backend, batch
    if asked := getattr(model.trainer.net, "samples_at_once", None):
        with backend.active():
            x = zeros(model, (min(batch, FEW), *model.input_shape))
            most = min(batch, asked(model.state.weights, x, Run(backend, wants_backward=False)))
    part = -(-batch // -(-batch // most))  # all are of about equal sizes
    found = course(model, predict, part, 2 * CELLS)
    result = 2 * prod(model.output_shape) * np.dtype(model.dtype).itemsize  # and the copy that is given away
    return found and replace(found, most=part if part < batch else None, result=result)


def counted(model: Held, call: Callable[[Held, Array, Hook], object], samples: int) -> Meter | None:
    """What a call takes, up to each run of layers, forward and back, and to the end.

    A batch counts where it is a copy, as `fit` cuts it and other devices get it: a prediction on the host looks at what
    the user has.
    """
    backend = model.trainer.backend
    metered: AbstractContextManager[Meter] | None = backend.metered()
    if metered is None:
        return None
    with backend.active():
        x = zeros(model, (samples, *model.input_shape))
    with backend.active(), metered as meter:
        result = call(model, x, Hook(Marks(meter), of_runs=True))
        meter.mark()
        del result
    if call is train or (backend.device or backend.first_device) != "cpu":
        size = samples * prod(model.input_shape) * np.dtype(model.dtype).itemsize
        meter.peaks = [peak + size for peak in meter.peaks]
        meter.left += size
    if call is train:
        meter.replayed = replayed(model, x)
    return meter


@dataclass
class Marks:
    """A look at each run of layers that marks the moments after it, before its backward and after that."""

    meter: Meter
    back: bool = False
    """Whether the loss was taken."""

    def __call__(self, path: tuple[str, ...], layer: Layer, y: Array, backward: Backward) -> Backward:
        self.meter.mark(passes=True)

        def marking(*given: Any) -> Any:
            self.meter.mark(passes=self.back)
            self.back = True
            result = backward(*given)
            self.meter.mark(passes=True)
            return result

        return marking


def replayed(model: Held, x: Array) -> Replayed | None:
    """The net's passes in a training step as they are recorded, if they are."""
    trainer, weights = model.trainer, model.state.weights
    recorded = getattr(trainer.net, "replayed_passes", None)
    if recorded is None or trainer.accumulate != 1:
        return None
    step, run = measured_step(model), Run(trainer.backend, train=True, key=(0, 0), wants_dx=False)

    def gradient(y: Array) -> Array:
        t, scale = targets(model, len(x)), model.state.optimizer_state.get("loss_scale")
        return trainer.backend.loss_and_gradient(step.loss, step.threshold, y, t, scale)[1]

    with trainer.backend.active():
        passes: Replayed | None = recorded(weights, x, run, gradient)
    return passes


def measured_step(model: Held) -> TrainingStep:
    """The step, with a loss that is known."""
    trainer = model.trainer
    return replace(trainer.plain_step, loss=trainer.loss if loss_name(trainer.loss) else nothing)


def train(model: Held, x: Array, hook: Hook) -> object:
    """A training step: the weights and moments that it would leave."""
    state = model.state
    run = Run(model.trainer.backend, train=True, key=(0, 0), hook=hook, wants_dx=False)
    return measured_step(model).taken(run, state.weights, state.optimizer_state, x, targets(model, len(x)))


def predict(model: Held, x: Array, hook: Hook) -> object:
    """A batch's prediction."""
    trainer = model.trainer
    y, _ = trainer.net(model.state.weights, x, Run(trainer.backend, hook=hook, wants_backward=False))
    return np.array(trainer.backend.to_numpy(y))


def zeros(model: Held, shape: Shape) -> Array:
    """An array of the model's backend and type."""
    return model.trainer.backend.asarray(np.zeros(shape, model.dtype))


def targets(model: Held, samples: int) -> Array:
    """What a loss takes: labels for classifiers, as they mostly are, else zeros shaped like the output."""
    if loss_name(model.trainer.loss) in OF_LABELS:
        return model.trainer.backend.asarray(np.zeros(samples, "int64"))
    if model.trainer.threshold is not None and model.output_shape[0] > 1:
        return model.trainer.backend.asarray(np.zeros((samples, *model.output_shape[1:]), "int64"))
    return zeros(model, (samples, *model.output_shape))


def nothing(y: Array, t: Array) -> tuple[Array, Array]:
    """In the place of a loss that nobody knows: what targets it takes can't be told."""
    return (y * 0).sum(), y * 0
