"""Training steps captured as CUDA graphs: recorded once, then replayed one after another without the host.

The data set lies on the device as a whole, and each step gathers its batch there. What changes from step to step, such
as its number, its learning rate and where its batch begins, is counted by the device itself (progress.py). So the host
starts a span of steps and looks at it when it is over.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from math import isfinite
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from xcnn.core import tree
from xcnn.core.types import Array, Weights
from xcnn.training.optimizers import Optimizer
from xcnn.training.snapshot import Snapshot
from xcnn.training.spans import MOST_STEPS, Laid, Paced, Spanned, is_of_capture, steps_kept
from xcnn.training.step import Kept
from xcnn_cupy.batches import gather_batch
from xcnn_cupy.device import Device, Graph
from xcnn_cupy.layout import copy_all
from xcnn_cupy.progress import Account
from xcnn_cupy.random import Counted
from xcnn_cupy.update import Step, rates_of_span, update_in_place

if TYPE_CHECKING:
    from xcnn.training.state import HostArray, TrainingState
    from xcnn.training.step import TrainingStep
    from xcnn_cupy.host import Host

log = logging.getLogger("xcnn")


class NotCaptured(Exception):
    """Why a step can't be captured, as a sentence."""


@dataclass
class Recording:
    """A step that is being captured: what its loss and its update, which know nothing of each other, tell of it."""

    device: Device
    account: Account
    samples: int
    loss: Array | None = None
    right: Array | None = None
    outputs: Array | None = None
    optimizer: Optimizer | None = None

    def update(
        self, optimizer: Optimizer, grads: Weights, state: Weights, weights: Weights
    ) -> tuple[Weights, Weights, Array, Array]:
        """What `Backend.update` gives: these arrays themselves, changed in place when the graph is replayed.

        Raises
        ------
        NotCaptured
        """
        assert self.loss is not None
        self.optimizer = optimizer
        step = Step(self.account, self.loss, self.right, self.samples)
        if not update_in_place(self.device, optimizer, grads, state, weights, step):
            raise NotCaptured(f"{type(optimizer).__name__} has no kernel that updates these weights in place.")
        return weights, state, self.loss, self.loss


@dataclass(frozen=True)
class Captured:
    """A graph for batches of one size, and where it writes what the net gives, if that is asked."""

    graph: Graph
    outputs: Array | None


@dataclass(frozen=True)
class Data:
    """A data set on the device, and the order of this epoch."""

    x: Array
    t: Array
    order: Array
    known: HostArray
    """The host's order: each epoch makes its own."""
    source: Snapshot


class CapturedStep(Kept, Paced):
    """A training step. Called, it runs once, launch by launch; `span` runs many, replaying their graph.

    Where steps run one by one, it is tried again with other data.
    """

    def __init__(self, backend: Host, step: TrainingStep) -> None:
        self.backend = backend
        super().__init__(step, backend.compiles)

    def forget(self) -> None:
        self.refused: HostArray | None = None
        self.data: Data | None = None
        self.graphs: dict[tuple[int, int], Captured] = {}
        self.optimizer: Optimizer | None = None
        self.own: tuple[Weights, Weights] = {}, {}
        self.given: Weights | None = None

    def __call__(self, *arguments: Any) -> Any:
        return self.step(*arguments)

    @cached_property
    def account(self) -> Account:
        """The device's account of a span."""
        return Account(self.backend.gpu, MOST_STEPS)

    def span(self, seed: int, at: TrainingState, data: Laid, batch_size: int) -> Spanned | None:
        """Go on with this epoch for some steps; None where the next one has to be taken by itself.

        That is so if steps can't be captured, or where the next one makes a number that is not finite.
        """
        if self.unkept or self.refused is data.x:
            return None
        self.reason = ""
        try:
            if data.shares is not None or self.step.accumulate > 1:
                what = "samples have weights" if self.step.accumulate == 1 else "batches are computed in parts"
                raise NotCaptured(f"{what}, which the account of a span does not know.")
            return self.replay(seed, at, self.brought(data.x, data.t, data.order), batch_size)
        except NotCaptured as why:
            self.reason, self.refused = str(why), data.x
            log.info("training steps run one by one: %s", why)
            return None

    def brought(self, x: HostArray, t: HostArray, order: HostArray) -> Data:
        """The data set on the device, brought there once, and again where it was changed between two epochs."""
        device, held = self.backend.gpu, self.data
        if held is not None and held.known is order:
            return held
        if held is None or any(
            (there.shape, there.dtype) != (here.shape, here.dtype) for there, here in ((held.x, x), (held.t, t))
        ):
            self.data, self.graphs = None, {}
            wanted, free = x.nbytes + t.nbytes + order.nbytes, device.free_memory()
            if wanted > free // 2:
                raise NotCaptured(f"the data set takes {wanted / 2**30:.1f} GiB, of {free / 2**30:.1f} that are free.")
            x_there, t_there, order_there = (device.empty(array.shape, array.dtype) for array in (x, t, order))
            held, kept, again = Data(x_there, t_there, order_there, order, Snapshot.of(x, t)), False, False
        else:
            kept, again = held.source.is_of(x, t), True
        for there, here in ((held.order, order),) if kept else ((held.x, x), (held.t, t), (held.order, order)):
            device.put(there, np.ascontiguousarray(here), again)
        self.data = replace(held, known=order, source=held.source if kept else Snapshot.of(x, t))
        return self.data

    def replay(self, seed: int, at: TrainingState, data: Data, batch_size: int) -> Spanned | None:
        """Some steps from here on."""
        first, samples = at.batch * batch_size, len(data.known)
        count = min(batch_size, samples - first)
        self.take_over(at)
        self.given = None  # whatever happens from here on: they are no longer those that were given
        if (seed, count) not in self.graphs:
            self.graphs[seed, count] = self.captured(seed, at, data, count)
        captured, steps = self.graphs[seed, count], self.steps_of_span(first, samples, batch_size)
        if captured.outputs is not None:
            steps = min(steps, steps_kept(captured.outputs.nbytes))
        begun = perf_counter()
        done, outputs = self.launched(captured, at, first, steps)
        self.keep_pace(perf_counter() - begun)
        if not isfinite(done["reach"]) and done["stopped"] >= 0:
            self.take_over(at)  # the last update has spoilt the weights: from the start once more, up to there
            done, outputs = self.launched(captured, at, first, done["step"] - at.step)
        taken = done["step"] - at.step
        if taken == 0:
            return None
        weights, state = self.copies(*self.own)
        self.given = weights
        after = replace(
            at,
            weights=weights,
            optimizer_state={**state, "step": at.optimizer_state["step"] + done["updates"]},
            step=done["step"],
            batch=at.batch + taken,
            right=at.right + done["right"],
            seen=at.seen + done["seen"],
        )
        return Spanned(after, self.account.losses_of(taken), None if outputs is None else outputs[:taken])

    def launched(
        self, captured: Captured, at: TrainingState, first: int, steps: int
    ) -> tuple[dict[str, Any], HostArray | None]:
        """The account after so many steps, and the outputs of each, if they are asked for."""
        assert self.optimizer is not None
        device, y, kept = self.backend.gpu, captured.outputs, None
        self.account.begin(at.step, first, rates_of_span(self.optimizer, at.optimizer_state["step"], steps))
        if y is not None:
            kept = device.empty((steps, *y.shape), y.dtype)
        for n in range(steps):
            captured.graph.launch()
            if kept is not None:
                copy_all(device, [y], [kept[n]])
        return self.account.read(), None if kept is None else self.backend.to_numpy(kept)

    def take_over(self, at: TrainingState) -> None:
        """Let the arrays that the graphs know hold these weights and moments, unless they do."""
        if self.given is not None and at.weights is self.given:
            return
        theirs, mine = [*leaves(at.weights), *leaves(at.optimizer_state)], [*leaves(self.own[0]), *leaves(self.own[1])]
        if [leaf.shape for leaf in theirs] != [leaf.shape for leaf in mine]:
            self.own, self.graphs = self.copies(at.weights, at.optimizer_state), {}
        else:
            copy_all(self.backend.gpu, theirs, mine)

    def copies(self, *trees: Weights) -> tuple[Weights, Weights]:
        """Two trees with copies of their arrays, and their numbers."""
        device = self.backend.gpu
        weights, state = (
            tree.map(lambda leaf: leaf if isinstance(leaf, int) else device.empty(leaf.shape, leaf.dtype), one)
            for one in trees
        )
        copy_all(device, [*leaves(trees[0]), *leaves(trees[1])], [*leaves(weights), *leaves(state)])
        return weights, state

    def captured(self, seed: int, at: TrainingState, data: Data, count: int) -> Captured:
        """The graph of a step with a batch of so many samples.

        Raises
        ------
        NotCaptured
        """
        recording = Recording(self.backend.gpu, self.account, count)
        weights, state = self.own

        def work() -> None:
            x, t = gather_batch(
                self.backend.gpu, data.x, data.t, data.order, self.account.at("first"), count, data.x.dtype
            )
            key = seed, Counted(at.step, self.account.at("step"))
            _, _, told = self.step(key, weights, {**state, "step": at.optimizer_state["step"]}, x, t)
            recording.outputs = told.outputs  # of the last run, which is the one that is captured

        self.account.hold()  # so that the runs before the capture change nothing
        try:
            with self.backend.recording(recording):
                graph = self.backend.gpu.capture(work)
        except RuntimeError as error:
            if not is_of_capture(error):
                raise
            raise NotCaptured(f"{type(error).__name__}: {' '.join(str(error).split())}") from error
        self.optimizer = recording.optimizer
        return Captured(graph, recording.outputs)


def leaves(weights: Weights) -> Iterator[Any]:
    """The arrays of a tree."""
    return (leaf for leaf in tree.leaves(weights) if not isinstance(leaf, int))
