"""Training steps on the CPU as straight-line code, written down from two steps of their kind and run from then on."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from xcnn import tree
from xcnn._typing import Array, Weights
from xcnn.schedules import Given, learning_rate
from xcnn.training import Outcome
from xcnn_torch.recording import Program, Recording

if TYPE_CHECKING:
    from collections.abc import Callable

    from xcnn.random import Key
    from xcnn.training import TrainingStep
    from xcnn_torch.backend import TorchBackend

log = logging.getLogger("xcnn")

MOST_KINDS = 64
"""Of steps that are remembered: such as have batches of one size."""


@dataclass
class Kind:
    """Steps that do the same operations: what is known of them so far."""

    first: Program | None = None
    run: Callable[..., Any] | None = None


class RecordedStep:
    """A training step. Its third run with arrays that are shaped and lie in memory alike is the straight-line code.

    `reason` says why steps run layer by layer, if they do.
    """

    def __init__(self, backend: TorchBackend, step: TrainingStep) -> None:
        self.backend, self.step = backend, step
        self.reason = "" if backend.captures else "the backend was made with captures=False."
        self.kinds: dict[Any, Kind] = {}

    def __call__(
        self, key: Key, weights: Weights, state: Weights, x: Array, t: Array
    ) -> tuple[Weights, Weights, Outcome]:
        """One step: (weights, state, outcome)."""
        arrays = [*tree.leaves(weights), *tree.leaves(moments_of(state)), x, t]
        if self.reason or not all(type(a) is torch.Tensor for a in arrays):
            return self.step(key, weights, state, x, t)
        bases = {id(a._base): a._base for a in arrays if a._base is not None}
        kind = self.kind((key[0], lie(arrays, bases)))
        if kind.run is None:
            return self.recorded(kind, key, weights, state, x, t, [*arrays, *bases.values()])
        try:
            rate = learning_rate(self.step.optimizer.learning_rate, state["step"])
            numbers = torch.tensor([rate, state["step"]], dtype=torch.float64)
            weights_after, moments, told = kind.run(*numbers, torch.tensor(key[1]), *arrays, *bases.values())
        except Exception:  # the layers say what is wrong, or find another way
            return self.step(key, weights, state, x, t)
        return weights_after, {"step": state["step"] + 1, **moments}, Outcome(*told)

    def kind(self, form: Any) -> Kind:
        """What is known of steps whose arrays lie so."""
        if form not in self.kinds and len(self.kinds) == MOST_KINDS:
            self.kinds.clear()
        return self.kinds.setdefault(form, Kind())

    def recorded(
        self, kind: Kind, key: Key, weights: Weights, state: Weights, x: Array, t: Array, arrays: list[Array]
    ) -> tuple[Weights, Weights, Outcome]:
        """A step that is written down as it runs."""
        rate = torch.tensor(learning_rate(self.step.optimizer.learning_rate, state["step"]), dtype=torch.float64)
        updates, number = torch.tensor(state["step"], dtype=torch.float64), torch.tensor(key[1])
        step = replace(self.step, optimizer=self.step.optimizer.with_rate(Given(rate)))
        counted: Any = key[0], number
        with Recording([rate, updates, number, *arrays]) as recording:
            weights, new, outcome = step(counted, weights, {**state, "step": updates}, x, t)
        moments = moments_of(new)
        program = recording.program((weights, moments, tuple(vars(outcome).values())))
        if recording.reason:
            self.give_up(recording.reason)
        elif kind.first is None:
            kind.first = program
        elif program.repeats(kind.first):
            kind.run = program.compiled()
        else:
            self.give_up("two steps did different operations.")
        return weights, {"step": state["step"] + 1, **moments}, outcome

    def give_up(self, reason: str) -> None:
        """From here on steps run layer by layer."""
        self.reason = reason
        self.kinds.clear()
        log.info("training steps run layer by layer: %s", reason)


def moments_of(state: Weights) -> Weights:
    """What an optimizer's state has beside the number of steps."""
    return {name: leaf for name, leaf in state.items() if name != "step"}


def lie(arrays: list[Array], bases: dict[int, Array]) -> tuple[Any, ...]:
    """How arrays are shaped, and lie in memory and in those that they are views of; and which are the same."""
    places = {at: n for n, at in enumerate([*bases, *map(id, arrays)])}
    return tuple(
        (a.dtype, a.shape, a.stride(), a.storage_offset(), a.requires_grad, places[id(a)], places.get(id(a._base)))
        for a in arrays
    ), tuple((base.shape, base.stride()) for base in bases.values())
