"""Training steps on the CPU as straight-line code, written down from two steps of their kind and run from then on."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from operator import is_
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, float64, int64, scalar_tensor

from xcnn.core import tree
from xcnn.core.types import Array, Weights
from xcnn.training.optimizers import moments_of
from xcnn.training.schedules import Given, learning_rate
from xcnn.training.step import Kept, StepResult
from xcnn_torch.recording import Program, Recording

if TYPE_CHECKING:
    from collections.abc import Callable

    from xcnn.core.random import Key
    from xcnn.training.step import TrainingStep
    from xcnn_torch.host import Host

log = logging.getLogger("xcnn")

NUMBERS = float64, float64, int64
"""The types of the rate, the number of updates, and that of the step."""
MOST_LAYOUTS = 64
"""That are remembered."""


@dataclass
class Kind:
    """Steps that do the same operations: what is known of them so far."""

    first: Program | None = None
    run: Callable[..., Any] | None = None
    uses: tuple[bool, ...] = (True, True, True)
    """Which of the rate, the number of updates and that of the step the code reads."""
    gives: Layout | None = None
    """How what it gives lies in memory."""
    keeps: bool = False
    """Whether the code does nothing to the rate but to read it, so that one tensor can stand for several steps."""
    rate: tuple[Any, Array | None] = None, None
    """The last rate, as a number and as a tensor."""


@dataclass
class Layout:
    """Weights and moments that are shaped and lie in memory alike: the kinds of steps from them on."""

    kinds: dict[Any, Kind] = field(default_factory=dict)


class RecordedStep(Kept):
    """A training step. Its third run with arrays that are shaped and lie in memory alike is the straight-line code."""

    def __init__(self, backend: Host, step: TrainingStep) -> None:
        self.backend = backend
        super().__init__(step, backend.compiles)

    def forget(self) -> None:
        self.layouts: dict[Any, Layout] = {}
        self.told: tuple[list[Array], Layout] = [], Layout()
        """The weights and moments of the last step, which the next one mostly begins with."""

    @property
    def programs(self) -> list[Program]:
        """The code of each kind of step that is written down; its text is Python."""
        kinds = [kind for layout in self.layouts.values() for kind in layout.kinds.values()]
        return [kind.first for kind in kinds if kind.run and kind.first]

    def __call__(self, *given: Any) -> tuple[Weights, Weights, StepResult]:
        """One step: (weights, state, outcome)."""
        return self.taken(True, *given)

    def uncounted(self, *given: Any) -> tuple[Weights, Weights, StepResult]:
        """The same, which need not tell how many were right."""
        return self.taken(False, *given)

    def taken(
        self, counts: bool, key: Key, weights: Weights, state: Weights, x: Array, t: Array, *shares: Array
    ) -> tuple[Weights, Weights, StepResult]:
        """One of both."""
        leaves, batch = leaves_of(weights, state), (x, t, *shares)
        if self.reason or is_special() or [a for a in (*leaves, *batch) if type(a) is not Tensor or a.requires_grad]:
            return self.step(key, weights, state, *batch)
        told, layout = self.told
        if len(leaves) != len(told) or not all(map(is_, leaves, told)):
            layout = self.layout(leaves)
        form = counts, key[0], *map(lies, batch)
        kind = layout.kinds.get(form) or layout.kinds.setdefault(form, Kind())
        given = [*self.numbers(kind, key, state), *batch, *leaves, *bases_of(leaves)]
        if kind.run is None:
            return self.recorded(kind, form, weights, state, given, len(batch))
        try:
            weights, moments, outcome, leaves = kind.run(*given)
        except Exception:  # the layers say what is wrong, or find another way
            return self.step(key, weights, state, *batch)
        kind.gives = kind.gives or self.layout(leaves)
        self.told = leaves, kind.gives
        return weights, {"step": state["step"] + 1, **moments}, StepResult.of(outcome)

    def numbers(self, kind: Kind, key: Key, state: Weights) -> list[Array | None]:
        """The rate, the number of updates and that of the step, as tensors where the code reads them."""
        rate, (number, kept) = learning_rate(self.step.optimizer.learning_rate, state["step"]), kind.rate
        if kind.uses[0] and not (kind.keeps and rate == number):
            kept = scalar_tensor(rate, dtype=NUMBERS[0])
            kind.rate = rate, kept
        found = [kept if kind.uses[0] else None]
        for used, value, dtype in ((kind.uses[1], state["step"], NUMBERS[1]), (kind.uses[2], key[1], NUMBERS[2])):
            found.append(scalar_tensor(value, dtype=dtype) if used else None)
        return found

    def layout(self, leaves: list[Array]) -> Layout:
        """What is known of weights and moments that lie so, those counted that are views of the same array."""
        places = {id(base): n for n, base in enumerate(bases_of(leaves))}
        firsts = {id(leaf): n for n, leaf in reversed([*enumerate(leaves)])}
        form = tuple(
            (lies(leaf), leaf.storage_offset(), firsts[id(leaf)], places.get(id(leaf._base))) for leaf in leaves
        )
        if form not in self.layouts and len(self.layouts) == MOST_LAYOUTS:
            self.forget()
        return self.layouts.setdefault(form, Layout())

    def recorded(
        self, kind: Kind, form: Any, weights: Weights, state: Weights, given: list[Array], of_batch: int
    ) -> tuple[Weights, Weights, StepResult]:
        """A step that is written down as it runs; the first `of_batch` arrays behind three numbers are its batch."""
        rate, updates, number, *batch = given[: 3 + of_batch]
        key: Any = form[1], number
        step = replace(self.step, optimizer=self.step.optimizer.with_rate(Given(rate)))
        with Recording(given) as recording:
            weights_after, new, outcome = step(key, weights, {**state, "step": updates}, *batch)
        moments = moments_of(new)
        told = dict(vars(outcome)) if form[0] else {**vars(outcome), "right": None}
        program = recording.program((weights_after, moments, told, leaves_of(weights_after, moments)))
        if recording.reason:
            self.give_up(recording.reason)
        elif kind.first is None:
            kind.first = program
        elif program.repeats(kind.first):
            kind.run, kind.uses, kind.keeps = program.compiled(), program.uses(len(NUMBERS)), program.only_reads(0)
        else:
            self.give_up("two steps did different operations.")
        return weights_after, {"step": state["step"] + 1, **moments}, outcome

    def give_up(self, reason: str) -> None:
        """From here on steps run layer by layer."""
        self.reason = reason
        self.forget()
        log.info("training steps run layer by layer: %s", reason)


def is_special() -> bool:
    """Whether PyTorch does other operations than are asked for: other types, or no views."""
    return torch.is_autocast_enabled("cpu") or torch.is_inference_mode_enabled()


def leaves_of(weights: Weights, state: Weights) -> list[Array]:
    """The arrays of weights and moments."""
    found = tree.leaves(weights)
    for name, leaf in state.items():
        if name != "step":
            found += tree.leaves(leaf) if isinstance(leaf, dict) else [leaf]
    return found


def bases_of(arrays: list[Array]) -> list[Array]:
    """The arrays that some of these are views of, each once."""
    return list({id(base): base for a in arrays if (base := a._base) is not None}.values())


def lies(a: Array) -> tuple[Any, ...]:
    """What operations can tell of an array beside its numbers."""
    return a.dtype, a.shape, a.stride()
