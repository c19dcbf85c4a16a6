"""Training steps captured as CUDA graphs: recorded once for a batch size, then replayed by a single call.

A graph reads and writes the same memory each time. So a captured step has weights of its own, and an account of what
changes from step to step: the random key's step, the learning rate, the sum of the losses. Each replay enters itself
there, if its numbers are finite; else it changes nothing, nor does any replay after it. So many of them can be started
before the host looks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from xcnn.core import tree
from xcnn.core.types import Array, Weights
from xcnn.training.loss_scaling import LEAST
from xcnn.training.optimizers import moments_of
from xcnn.training.schedules import Given, learning_rate
from xcnn.training.snapshot import Snapshot
from xcnn.training.spans import MOST_STEPS, Laid, Paced, Spanned, is_of_capture, steps_kept
from xcnn.training.step import Kept, StepResult
from xcnn_torch.from_host import from_host

if TYPE_CHECKING:
    from xcnn.core.random import Key
    from xcnn.training.state import HostArray, TrainingState
    from xcnn.training.step import TrainingStep
    from xcnn_torch.host import Host

log = logging.getLogger("xcnn")


class Graph(Protocol):
    """Work that was recorded."""

    def replay(self) -> None:
        """Do it again, on the same memory."""
        ...


class Graphs(Protocol):
    """What records work."""

    def capture(self, work: Callable[[], None]) -> Graph:
        """The graph of the work, which may be done some times for it."""
        ...

    def free_memory(self) -> int:
        """Bytes that are free on the device."""
        ...

    def put(self, x: torch.Tensor) -> torch.Tensor:
        """A host's tensor on the device, where as much is put many times."""
        ...


@dataclass(frozen=True)
class CudaGraphs:
    """Those of a CUDA device."""

    place: torch.device

    def capture(self, work: Callable[[], None]) -> Graph:
        """Do the work three times beforehand, on a stream beside, so that libraries have chosen and allocated."""
        beside: Any = torch.cuda.Stream(self.place)  # type: ignore[no-untyped-call]
        beside.wait_stream(torch.cuda.current_stream(self.place))
        with torch.cuda.stream(beside):
            for _ in range(3):
                work()
        torch.cuda.current_stream(self.place).wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            work()
        return graph

    def free_memory(self) -> int:
        return torch.cuda.mem_get_info(self.place)[0]

    def put(self, x: torch.Tensor) -> torch.Tensor:
        """Through pinned memory, which PyTorch keeps until the device has read it: nobody waits."""
        return x.pin_memory().to(self.place, non_blocking=True)


class NotCaptured(Exception):
    """Why a step can't be captured, as a sentence."""


class Account:
    """What changes from step to step, on the device, at places that stay.

    Parameters
    ----------
    steps
        the most that a span may have
    """

    def __init__(self, place: torch.device, steps: int) -> None:
        self.counts = torch.zeros(5, dtype=torch.int64, device=place)
        self.optimizer_step = torch.zeros((), dtype=torch.float64, device=place)
        self.losses = torch.zeros(steps + 1, dtype=torch.float64, device=place)  # the last is of what does not count
        self.told = torch.zeros(3, dtype=torch.float64, device=place)  # the last step's loss and norms
        self.rates = torch.zeros(steps, dtype=torch.float64, device=place)
        self.step, self.alive, self.taken, self.updates, self.right = self.counts

    def begin(self, step: int, optimizer_step: int, rates: list[float]) -> None:
        """Write it for replays that begin with this step, the optimizer having taken so many, with these rates.

        Without rates they change nothing, as those before a capture must not.
        """
        self.counts.copy_(torch.tensor([step, bool(rates), 0, 0, 0]))
        self.optimizer_step.fill_(optimizer_step)
        self.rates[: len(rates)].copy_(torch.tensor(rates, dtype=torch.float64))

    @property
    def rate(self) -> Array:
        """The learning rate of the present step, an array without axes."""
        return self.rates.gather(0, self.updates[None])[0]

    def enter(self, outcome: StepResult, scaled: Array | None) -> Array:
        """Enter a step and move on to the next; whether it counts.

        `scaled` says whether the loss's scale may have made the gradients infinite: such a step counts too.
        """
        for cell, value in zip(self.told, (outcome.loss, outcome.norm, outcome.weight_norm), strict=True):
            cell.copy_(value) if isinstance(value, torch.Tensor) else cell.fill_(value)
        loss, norm, weight_norm = self.told
        updated = torch.isfinite(norm)
        finite = torch.isfinite(loss) & torch.isfinite(weight_norm) & (updated if scaled is None else updated | scaled)
        good = finite & (self.alive > 0)
        self.losses.index_copy_(0, self.taken[None], loss[None])
        if outcome.right is not None:
            self.right.add_(outcome.right * good)
        self.optimizer_step.add_(good & updated)
        self.updates.add_(good & updated)
        for count in (self.taken, self.step):
            count.add_(good)
        self.alive.mul_(good)
        return good

    def read(self) -> dict[str, Any]:
        """What happened since `begin`; this waits for the device."""
        _, alive, taken, updates, right = self.counts.tolist()
        losses = self.losses[:taken].cpu().numpy()
        return {"alive": bool(alive), "taken": taken, "updates": updates, "right": right, "losses": losses}


@dataclass(frozen=True)
class Captured:
    """A graph for batches of one size, where it reads them and where, if it is asked, it writes what the net gives."""

    graph: Graph
    batch: tuple[Array, ...]
    given: dict[str, Array]

    @property
    def outputs(self) -> Array | None:
        """The outputs of the last replay."""
        return self.given.get("outputs")


@dataclass(frozen=True)
class Data:
    """A data set on the device, and the order of this epoch."""

    x: Array
    t: Array
    shares: tuple[Array, ...]
    """What samples weigh in this epoch, one array or none."""
    order: Array
    known: HostArray
    """The host's order: each epoch makes its own."""
    source: Snapshot

    @property
    def arrays(self) -> tuple[Array, ...]:
        """What batches are gathered from."""
        return self.x, self.t, *self.shares


class CapturedStep(Kept, Paced):
    """A training step. Called, it replays the graph for its batch size once; `span` replays it many times."""

    def __init__(self, backend: Host, step: TrainingStep, graphs: Graphs) -> None:
        self.backend, self.graphs = backend, graphs
        self.account = Account(backend.place, MOST_STEPS)
        super().__init__(step, backend.compiles)

    def forget(self) -> None:
        self.captured: dict[Any, Captured] = {}
        self.own: Weights = {}
        self.given: list[tuple[Array, int]] = []
        self.data: Data | None = None

    def __call__(
        self, key: Key, weights: Weights, state: Weights, *batch: Array
    ) -> tuple[Weights, Weights, StepResult]:
        """One step on a batch, x, t and perhaps shares: (weights, state, outcome)."""
        captured = None if self.reason else self.found(key[0], weights, state, *batch)
        if captured is None:
            return self.step(key, weights, state, *batch)
        self.given = []  # whatever happens from here on: they are no longer those that were given
        self.begin(key[1], state["step"], 1)
        for there, here in zip(captured.batch, batch, strict=True):
            there.copy_(here)
        captured.graph.replay()
        new = self.copies()
        right = None if self.step.threshold is None else self.account.right.clone()
        loss, norm, weight_norm = self.account.told.clone()
        outputs = None if captured.outputs is None else captured.outputs.clone()
        outcome = StepResult(loss, norm, weight_norm, right, outputs)
        return new["weights"], {"step": state["step"] + 1, **new["state"]}, outcome

    def span(self, seed: int, at: TrainingState, data: Laid, batch_size: int) -> Spanned | None:
        """Go on with this epoch for some steps; None where the next one has to be taken by itself.

        That is so if steps can't be captured, where the data set is too large for the device, and where the next step
        makes a number that is not finite.
        """
        there = None if self.reason else self.brought(data)
        if there is None:
            return None
        first = at.batch * batch_size
        count = min(batch_size, len(data.order) - first)
        steps = self.steps_of_span(first, len(data.order), batch_size)
        captured = self.found(seed, at.weights, at.optimizer_state, *(whole[:count] for whole in there.arrays))
        if captured is None:
            return None
        self.given = []
        begun = perf_counter()
        if captured.outputs is not None:
            steps = min(steps, steps_kept(captured.outputs.nbytes))
        outputs = self.replayed(captured, there, at, first, steps)
        done = self.account.read()
        self.keep_pace(perf_counter() - begun)
        if not done["taken"]:
            return None
        new = self.copies()
        after = replace(
            at,
            weights=new["weights"],
            optimizer_state={"step": at.optimizer_state["step"] + done["updates"], **new["state"]},
            step=at.step + done["taken"],
            batch=at.batch + done["taken"],
            right=at.right + done["right"],
            seen=at.seen + done["taken"] * count,
        )
        outputs = outputs[: done["taken"]]
        return Spanned(after, done["losses"], self.backend.to_numpy(torch.stack(outputs)) if outputs else None)

    def replayed(self, captured: Captured, data: Data, at: TrainingState, first: int, steps: int) -> list[Array]:
        """Replay so many steps from this sample on; the outputs of each, if they are asked for."""
        outputs, count = [], len(captured.batch[0])
        self.begin(at.step, at.optimizer_state["step"], steps)
        for n in range(steps):
            chosen = data.order[first + n * count :][:count]
            for whole, there in zip(data.arrays, captured.batch, strict=True):
                torch.index_select(whole, 0, chosen, out=there)
            captured.graph.replay()
            if captured.outputs is not None:
                outputs.append(captured.outputs.clone())
        return outputs

    def begin(self, step: int, optimizer_step: int, steps: int) -> None:
        """Write the account for so many steps."""
        rate = self.step.optimizer.learning_rate
        self.account.begin(step, optimizer_step, [learning_rate(rate, optimizer_step + n) for n in range(steps)])

    def found(self, seed: int, weights: Weights, state: Weights, *batch: Array) -> Captured | None:
        """The graph for such batches, its weights being these; None where steps can't be captured."""
        kind = seed, *((tuple(array.shape), array.dtype) for array in batch)
        try:
            self.take_over(weights, state)
            if kind not in self.captured:
                self.captured[kind] = self.capture(seed, *batch)
        except Exception as why:
            if not isinstance(why, NotCaptured) and not is_of_capture(why):
                raise
            words = str(why) if isinstance(why, NotCaptured) else f"{type(why).__name__}: {' '.join(str(why).split())}"
            self.reason = words
            self.forget()
            log.info("training steps run operation by operation: %s", words)
            return None
        return self.captured[kind]

    def take_over(self, weights: Weights, state: Weights) -> None:
        """Let the arrays that the graphs know hold these weights and moments, unless they do."""
        theirs = {"weights": weights, "state": moments_of(state)}
        leaves = tree.leaves(theirs)
        if len(leaves) == len(self.given) and all(
            a is b and a._version == version for a, (b, version) in zip(leaves, self.given, strict=True)
        ):
            return
        self.given = []
        mine = tree.leaves(self.own)
        if [(leaf.shape, leaf.dtype) for leaf in leaves] == [(leaf.shape, leaf.dtype) for leaf in mine]:
            for here, there in zip(mine, leaves, strict=True):
                here.copy_(there)
        else:
            self.own, self.captured = tree.map(torch.clone, theirs), {}

    def copies(self) -> Weights:
        """Copies of the weights and moments, for the caller to keep; they are remembered."""
        new = tree.map(torch.clone, self.own)
        self.given = [(leaf, leaf._version) for leaf in tree.leaves(new)]
        return new

    def capture(self, seed: int, *batch: Array) -> Captured:
        """The graph of a step with a batch like this one.

        Raises
        ------
        NotCaptured
        """
        batch, given = tuple(array.clone() for array in batch), dict[str, Array]()
        self.account.begin(0, 0, [])
        with self.backend.active():  # which knows whether float32 may be TF32
            return Captured(self.graphs.capture(lambda: self.recorded(seed, given, *batch)), batch, given)

    def recorded(self, seed: int, given: dict[str, Array], *batch: Array) -> None:
        """A step on this object's own arrays, which it changes; the outputs are given where they lie."""
        account, own = self.account, self.own
        optimizer = self.step.optimizer.with_rate(Given(account.rate))
        state = {"step": account.optimizer_step, **own["state"]}
        key: Any = seed, account.step
        weights, state, outcome = replace(self.step, optimizer=optimizer)(key, own["weights"], state, *batch)
        new = {"weights": weights, "state": {name: state[name] for name in own["state"]}}
        scaled = own["state"]["loss_scale"] > LEAST if "loss_scale" in own["state"] else None
        good = account.enter(outcome, scaled)
        if outcome.outputs is not None:
            given["outputs"] = outcome.outputs
        for (path, old), value in zip(tree.items(own), tree.leaves(new), strict=True):
            if value.dtype != old.dtype:
                raise NotCaptured(f"it would make {path} {value.dtype}, which is {old.dtype}.")
            old.copy_(torch.where(good, value, old))

    def brought(self, data: Laid) -> Data | None:
        """The data set on the device, as it is in this epoch; None where it is too large."""
        if self.data is not None and self.data.known is data.order:
            return self.data
        kept = self.data if self.data is not None and self.data.source.is_of(data.x, data.t) else None
        again = self.data is not None
        if kept is None:
            self.data = None
            if data.nbytes > self.graphs.free_memory() // 2:
                return None
        x, t = (self.there(one, again) for one in (data.x, data.t)) if kept is None else (kept.x, kept.t)
        *shares, order = (self.there(one, again) for one in (*data.arrays[2:], data.order))
        source = Snapshot.of(data.x, data.t) if kept is None else kept.source
        self.data = Data(x, t, tuple(shares), order, data.order, source)
        return self.data

    def there(self, array: HostArray, again: bool) -> Array:
        """A host's array on the device; `again` where as much was brought there before."""
        dense = np.ascontiguousarray(array)
        return self.graphs.put(from_host(dense)) if again else self.backend.asarray(dense)
