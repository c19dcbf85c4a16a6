"""What a training step and a prediction take of memory, as the engine that computes them takes it.

A step is taken with few samples, of zeros, while the backend counts (`Backend.metered`). Between one run of layers and
the next the most that is alive is noted, for two batches: what they differ by is what a sample adds there. So weights
and gradients, which do not grow with the batch, and activations, which do, are told apart at each moment, and a larger
batch may have its peak at another one. Memory that a backend uses again is asked for likewise: what it would hold of
requests of that batch's sizes is asked of itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from xcnn.core.memory import Meter, Request
from xcnn.core.types import Array, Shape
from xcnn.layers.layer import Hook, Run
from xcnn.model.held import Held
from xcnn.model.needs import at_once
from xcnn.training.losses import OF_LABELS, loss_name

log: logging.Logger = logging.getLogger("xcnn")

CELLS = 2**24
"""That the layers' outputs of a step's batch may have: so it takes a fraction of a second. A prediction, which takes a
third of that, may have twice as many: what takes most of a few samples may not be what takes most of many."""
ROUNDS = 3
"""Steps after which what a backend holds is the same after each."""


@dataclass(frozen=True)
class Course:
    """What a step of any batch takes, as two batches tell.

    Parameters
    ----------
    few, more
        the samples of both
    of_few, of_more
        what was counted with them
    """

    few: int
    more: int
    of_few: Meter
    of_more: Meter

    def bytes(self, batch: int, rounds: int = ROUNDS) -> int:
        """The most that is alive in so many steps, what the first of them leaves alive being there in the second."""
        peaks = [self.scaled(*pair, batch) for pair in aligned(self.of_few.peaks, self.of_more.peaks)]
        left = self.scaled(self.of_few.left, self.of_more.left, batch) if rounds > 1 else 0
        return round(max(peaks) + left) + self.of_more.held([[*self.requests(batch)]] * rounds)

    def scaled(self, few: float, more: float, batch: int) -> float:
        """On the line through both: what grows with the batch grows evenly."""
        return more + max(more - few, 0) / (self.more - self.few) * (batch - self.more)

    def requests(self, batch: int) -> Iterator[Request]:
        """Those of the larger batch, with the sizes of this one."""
        for few, more in aligned(self.of_few.requests[:-1], self.of_more.requests[:-1]):
            sizes = [size for _, size in few if size >= 0]
            asked = [size for _, size in more if size >= 0]
            if len(sizes) == len(asked):
                scaled = iter([self.scaled(*pair, batch) for pair in zip(sizes, asked, strict=True)])
            else:  # another way for the larger batch: what it has in common with the smaller one does not grow
                scaled = iter([size if size in sizes else size * batch / self.more for size in asked])
            yield from ((number, -1 if size < 0 else round(next(scaled))) for number, size in more)


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
        step, prediction = course(model, train, batch, CELLS), course(model, predict, batch, 2 * CELLS)
    except Exception:  # a layer whose backward is not written yet
        log.debug("a step on zeros failed: its memory is not measured", exc_info=True)
        return None
    return Needs(step, prediction) if step and prediction else None


def course(model: Held, call: Callable[[Held, Array, Hook], object], batch: int, cells: int) -> Course | None:
    """What a call takes for any batch, seen with at most this one, whose layers' outputs have at most so many cells."""
    more = max(2, min(batch, at_once(model.net, model.input_shape, cells)))
    of_few, of_more = (counted(model, call, n) for n in (more // 2, more))
    return Course(more // 2, more, of_few, of_more) if of_few and of_more else None


def counted(model: Held, call: Callable[[Held, Array, Hook], object], samples: int) -> Meter | None:
    """What a call takes, up to each run of layers, forward and back, and to the end.

    A batch counts where it is a copy, as `fit` cuts it and other devices get it: a prediction on the host looks at what
    the user has. So do the copies on which a net tries a recording of its training passes.
    """
    backend = model.trainer.backend
    metered: AbstractContextManager[Meter] | None = backend.metered()
    if metered is None:
        return None
    with backend.active():
        x = zeros(model, (samples, *model.input_shape))
    with backend.active(), metered as meter:
        result = call(model, x, Hook(lambda path, layer, y, backward: marked(backward, meter), of_runs=True))
        meter.mark()
        del result
    size = samples * prod(model.input_shape) * np.dtype(model.dtype).itemsize
    cut = call is train or (backend.device or backend.first_device) != "cpu"
    tried = getattr(model.trainer.net, "copies", 0) if call is train else 0
    meter.peaks = [peak + size * (cut + tried) for peak in meter.peaks]
    meter.left += size * cut
    return meter


def marked(backward: Any, meter: Meter) -> Any:
    """Mark this moment, and that after backward."""
    meter.mark()

    def marking(*given: Any) -> Any:
        result = backward(*given)
        meter.mark()
        return result

    return marking


def train(model: Held, x: Array, hook: Hook) -> object:
    """A training step: the weights and moments that it would leave."""
    trainer, state = model.trainer, model.state
    loss = trainer.loss if loss_name(trainer.loss) else nothing
    step = replace(trainer.plain_step, loss=loss)
    run = Run(trainer.backend, train=True, key=(0, 0), hook=hook, wants_dx=False)
    return step.taken(run, state.weights, state.optimizer_state, x, targets(model, len(x)))


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
