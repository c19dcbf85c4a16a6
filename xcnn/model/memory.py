"""What a training step and a prediction take of memory, as the engine that computes them takes it.

A step is taken with few samples, of zeros, while the backend counts what is alive (`Backend.metered`). Between one run of
layers and the next the most is noted, for two batches: what they differ by is what a sample adds there. So weights and
gradients, which do not grow with the batch, and activations, which do, are told apart at each moment, and a larger batch
may have its peak at another one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np

from xcnn.core import tree
from xcnn.core.memory import Meter
from xcnn.core.types import Array, Shape
from xcnn.layers.layer import Hook, Run
from xcnn.model.held import Held
from xcnn.model.needs import Counter
from xcnn.training.losses import loss_name
from xcnn.training.step import TrainingStep

log = logging.getLogger("xcnn")

CELLS = 2**22
"""That the layers' outputs of the batches may have: so a step of them takes a fraction of a second."""


@dataclass(frozen=True)
class Timeline:
    """Bytes alive at most, from one run of layers to the next: with one batch, and with a larger one.

    Parameters
    ----------
    batches
        their sizes
    """

    batches: tuple[int, int]
    peaks: tuple[tuple[int, ...], tuple[int, ...]]

    def line(self) -> list[tuple[float, float]]:
        """For each moment: what no sample takes, and what each adds."""
        (few, more), between = self.batches, self.batches[1] - self.batches[0]
        slopes = [max(b - a, 0) / between for a, b in zip(*self.peaks, strict=True)]
        return [(b - more * slope, slope) for b, slope in zip(self.peaks[1], slopes, strict=True)]

    def bytes(self, batch: int) -> int:
        """The peak with a batch of this size."""
        return round(max(fixed + batch * each for fixed, each in self.line()))

    def largest(self, bytes: int) -> int:
        """The largest batch whose peak is no more than that; 0 where none is."""
        most = min((bytes - fixed) / each if each else (inf if fixed <= bytes else 0) for fixed, each in self.line())
        return int(max(min(most, 2**31), 0))


@dataclass(frozen=True)
class Needs:
    """The memory of a training step, and of a prediction, beyond weights and optimizer state that are there before."""

    step: Timeline
    prediction: Timeline


def needs(model: Held, batch: int) -> Needs | None:
    """What the engine takes for batches like this; None where it can't be measured."""
    more = max(2, min(batch, CELLS // max(cells(model), 1)))
    batches = more // 2, more
    try:
        step, prediction = ([taken(model, call, n) for n in batches] for call in (train, predict))
    except Exception:  # a layer whose backward is not written yet, a backend that can't count
        log.debug("a step on zeros failed: its memory is not measured", exc_info=True)
        return None
    return None if None in step + prediction else Needs(Timeline(batches, aligned(*step)), Timeline(batches, aligned(*prediction)))


def cells(model: Held) -> int:
    """Cells of a sample and of all that layers make of it."""
    counter = Counter(model.input_shape)
    model.net.init(counter, model.input_shape)
    return counter.cells


def aligned(few: list[int], more: list[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Peaks of the same moments; of whole steps, where layers of somebody's own went another way."""
    return (tuple(few), tuple(more)) if len(few) == len(more) else ((max(few),), (max(more),))


def taken(model: Held, call: Callable[[Held, Any, Hook], object], samples: int) -> list[int] | None:
    """The peak up to each moment that the hook sees, on the way forward and back, and to the end."""
    metered, peaks = model.trainer.backend.metered(), []
    if metered is None:
        return None
    with model.trainer.backend.active(), metered as peak:
        x = zeros(model, (samples, *model.input_shape))
        call(model, x, Hook(lambda path, layer, y, backward: marked(backward, peaks, peak), of_runs=True))
        peaks.append(peak())
    return peaks


def marked(backward: Any, peaks: list[int], peak: Meter) -> Any:
    """Note the peak now, and after backward."""
    peaks.append(peak())

    def marking(*given: Any) -> Any:
        result = backward(*given)
        peaks.append(peak())
        return result

    return marking


def train(model: Held, x: Array, hook: Hook) -> None:
    """A training step, whose results are thrown away."""
    trainer, state = model.trainer, model.state
    loss = trainer.loss if loss_name(trainer.loss) else nothing
    step = TrainingStep(trainer.net, loss, trainer.optimizer, trainer.threshold, trainer.backend)
    run = Run(trainer.backend, train=True, key=(0, 0), hook=hook, wants_dx=False)
    kept = step.taken(run, state.weights, state.optimizer_state, x, targets(model, len(x)))
    del kept


def predict(model: Held, x: Array, hook: Hook) -> None:
    """A batch's prediction."""
    trainer = model.trainer
    y, _ = trainer.net(model.state.weights, x, Run(trainer.backend, hook=hook, wants_backward=False))
    trainer.backend.to_numpy(y).copy()


def zeros(model: Held, shape: Shape) -> Array:
    return model.trainer.backend.asarray(np.zeros(shape, model.dtype))


def targets(model: Held, samples: int) -> Array:
    """What a loss takes: labels for classifiers, as they mostly are, else zeros shaped like the output."""
    classes, *places = model.output_shape or (1,)
    if model.trainer.threshold is not None and classes > 1:
        return model.trainer.backend.asarray(np.zeros((samples, *places), "int64"))
    return zeros(model, (samples, *model.output_shape))


def nothing(y: Array, t: Array) -> tuple[Array, Array]:
    """In the place of a loss that nobody knows: what targets it takes can't be told."""
    return (y * 0).sum(), y * 0
