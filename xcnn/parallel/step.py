"""A training step that several ranks take together, each with its samples of the batch."""

from __future__ import annotations

from functools import reduce
from operator import and_
from typing import Any

from xcnn.core import tree
from xcnn.core.arrays import namespace
from xcnn.core.likeness import likeness
from xcnn.core.pure import is_own
from xcnn.core.random import Key
from xcnn.core.types import Array, Weights
from xcnn.errors import DataError
from xcnn.layers.layer import Hook, Next, Run, Share
from xcnn.layers.others import held
from xcnn.parallel.parts import bounds, lengths
from xcnn.parallel.ranks import Ranks
from xcnn.parallel.strangers import strangers
from xcnn.parallel.sums import Sums
from xcnn.training.losses import weighted
from xcnn.training.step import StepResult, TrainingStep, portion_of


class SharedStep:
    """What a TrainingStep gives for the batch whose samples all ranks have together.

    The loss of a batch is the mean over what counts in it, samples or their weights. Each rank's gradient is that of
    its own mean, times its portion of the whole: so the sum of all is the gradient of the batch's mean, on uneven
    shares too. A rank without samples computes with none, and joins every sum.

    Parameters
    ----------
    step
        the step of one process, not compiled
    ranks
        who take it
    sums
        how their arrays are summed
    """

    def __init__(self, step: TrainingStep, ranks: Ranks, sums: Sums, stop: Any) -> None:
        self.step: TrainingStep = step
        self.ranks: Ranks = ranks
        self.sums: Sums = sums
        self.stop: Any = stop
        self.own: bool = not strangers(step.net)

    def __call__(
        self, key: Key, weights: Weights, state: Weights, x: Array, t: Array, shares: Array | None = None
    ) -> tuple[Weights, Weights, StepResult]:
        step, (counts_of_all, whole, free) = self.step, self.told(t, shares)
        parts = lengths(counts_of_all, step.accumulate)
        mine = bounds([part[self.ranks.rank] for part in parts])
        firsts = [first for first, _ in bounds([sum(part) for part in parts])]
        portions = self.portions(mine, t, shares, whole)
        now, grads, value = weights, None, 0.0
        counts, outputs = list[Array](), list[Array]()
        gives = self.gives([part for part in parts if sum(part)][-1])
        for part, first, (a, b), portion in zip(parts, firsts, mine, portions, strict=True):
            if not sum(part):
                continue
            here = slice(a, b)
            hook = self.sums.hook(weights, gives) if step.accumulate == 1 and self.own else None
            run = self.run(key if step.accumulate == 1 else (*key, first), part, hook)
            own = None if shares is None else shares[here, ...]
            more, worth, few, y = self.part(run, now, state.get("loss_scale"), x[here, ...], t[here, ...], own, portion)
            if step.accumulate > 1:
                now = tree.map(lambda w, g: g.value if isinstance(g, Next) else w, now, more)
            grads = more if grads is None else tree.map(lambda g, h: h if isinstance(h, Next) else g + h, grads, more)
            value += worth
            counts += [] if few is None else [few]
            outputs.append(y)
        assert grads is not None
        weights, state, norm, weight_norm, value = self.sums.update(
            step.optimizer, grads, state, weights, value, gives, self.own, free
        )
        told = None
        if step.tells_outputs:
            told = outputs[0] if len(outputs) == 1 else namespace(outputs[0]).concat(outputs, axis=0)
        right = sum(counts[1:], counts[0]) if counts else None
        return weights, state, StepResult(value, norm, weight_norm, right, told)

    def told(self, t: Array, shares: Array | None) -> tuple[tuple[int, ...], float, int]:
        """How many samples each rank has, what the loss of all is the mean of, and free blocks, in one message.

        Here all end together where one of them was told to end.
        """
        table = self.ranks.table(t.shape[0], self.stop.signal, self.counting(t, shares), self.sums.free).tolist()
        counts, signals, parts, free = zip(*table, strict=True)
        self.stop.heed(int(max(signals)))
        if not any(counts):
            raise DataError("X203", "a batch has no samples.", hint="look at what was left out.")
        return tuple(map(int, counts)), sum(parts), reduce(and_, map(int, free))

    def counting(self, t: Array, shares: Array | None) -> float:
        """What a loss is the mean of, of some samples."""
        found = portion_of(self.step.loss, t, shares)
        return float(found) if isinstance(found, int) else self.step.backend.to_number(found)

    def portions(self, mine: list[tuple[int, int]], t: Array, shares: Array | None, whole: float) -> list[float]:
        """What each of this rank's parts is of the whole batch, in what its loss is the mean of."""
        return [self.counting(t[a:b, ...], None if shares is None else shares[a:b, ...]) / whole for a, b in mine]

    def gives(self, part: tuple[int, ...]) -> bool:
        """Whether what replaces weights is this rank's: the first's that has samples of the last part."""
        return self.ranks.rank == next(rank for rank, count in enumerate(part) if count)

    def run(self, key: Key, part: tuple[int, ...], hook: Hook | None) -> Run:
        """A run over this rank's samples of a part of the batch."""
        share = Share(sum(part[: self.ranks.rank]), sum(part), self.sums.statistic, self.sums.each)
        return Run(self.step.backend, train=True, key=key, hook=hook, wants_dx=False, share=share)

    def part(
        self, run: Run, weights: Weights, loss_scale: Array | None, x: Array, t: Array, shares: Array | None,
        portion: float,
    ) -> tuple[Weights, float, Any, Array]:  # fmt: skip
        """The summand of this rank of the gradients and of the loss, how much is right, and the outputs."""
        step = self.step
        y, backward = step.net(weights, x, run)
        if not is_own(type(step.net)):
            backward = held(step.net, weights, likeness(y), backward)
        if not x.shape[0]:  # a loss of nothing is nothing: it is not asked
            return backward(y)[1], 0.0, None, y
        loss = weighted(step.loss, shares)
        value, dy, right = step.backend.loss_and_gradient(loss, step.threshold, y, t, loss_scale)
        _, grads = backward(dy * portion)
        value = float(value) if isinstance(value, int | float) else step.backend.to_number(value)
        return grads, value * portion, right, y
