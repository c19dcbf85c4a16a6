"""A trainer whose batches are those of all ranks."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import reduce
from time import monotonic
from typing import Any

from xcnn.core.types import Array, Weights
from xcnn.parallel.parts import cuts
from xcnn.parallel.ranks import Ranks
from xcnn.parallel.step import SharedStep
from xcnn.parallel.sums import Sums
from xcnn.training.divergence import ELSEWHERE
from xcnn.training.metrics import merged
from xcnn.training.state import HostArray, TrainingState
from xcnn.training.trainer import SUMS, Trainer


@dataclass(frozen=True, eq=False)
class SharedTrainer(Trainer):
    """A trainer whose steps take the samples of all ranks, and whose sums are of all of them."""

    ranks: Any = None

    @classmethod
    def of(cls, trainer: Trainer, ranks: Ranks, sums: Sums, stop: Any) -> SharedTrainer:
        """The same, shared by these ranks."""
        values = {field.name: getattr(trainer, field.name) for field in fields(Trainer)}
        step = SharedStep(trainer.plain_step, ranks, sums, stop)
        return cls(**{**values, "step": step}, ranks=ranks)

    def forward(self, weights: Weights, x: HostArray) -> Array:
        """The output for one batch: to the watchdog as much of a sign as a step, since measuring may take longer."""
        y = super().forward(weights, x)
        self.ranks.left = monotonic()
        return y

    def first_non_finite(self, state: TrainingState, x: Array, t: Array) -> str:
        """Looked for by each rank in its own samples, since who finds it goes no further."""
        mine = super().first_non_finite(state, x, t) if x.shape[0] else ELSEWHERE
        return next((found for found in self.ranks.gathered(mine) if found != ELSEWHERE), ELSEWHERE)

    def of_all(self, sums: TrainingState) -> TrainingState:
        whole = self.ranks.summed(*(getattr(sums, name) for name in SUMS))
        named: dict[str, Any] = {n: type(getattr(sums, n))(value) for n, value in zip(SUMS, whole, strict=True)}
        if not self.metrics:
            return replace(sums, **named)
        counts = reduce(lambda a, b: merged(self.metrics, a, b), self.ranks.gathered(sums.counts))
        return replace(sums, **named, counts=counts)

    def in_all(self, samples: int) -> int:
        return int(self.ranks.summed(samples)[0])

    def part_of(self, batches: int | None) -> slice:
        return slice(None) if batches is None else slice(*cuts(batches, self.ranks.size)[self.ranks.rank])

    @property
    def spans(self) -> bool:
        """False: each step is taken by itself."""
        return False
