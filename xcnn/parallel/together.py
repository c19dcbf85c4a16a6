"""`model.fit(..., parallel=xcnn.parallel.mpi())`: the ranks of an MPI job train one model, as one process would."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from xcnn.core import tree
from xcnn.core.checks import check_positive
from xcnn.data.source import Source
from xcnn.errors import OptionError, short
from xcnn.parallel import ending
from xcnn.parallel.memory import unname
from xcnn.parallel.nccl import NcclSums
from xcnn.parallel.ranks import Ranks, beside, world
from xcnn.parallel.source import Place, shared
from xcnn.parallel.strangers import strangers
from xcnn.parallel.sums import HostSums, Sums
from xcnn.parallel.threads import leave_room
from xcnn.parallel.trainer import SharedTrainer
from xcnn.parallel.watch import Watch
from xcnn.training.loop import Way
from xcnn.training.losses import OF_LABELS, loss_name
from xcnn.training.output_losses import check_one_mean
from xcnn.training.together import Alone, Told
from xcnn.training.trainer import Trainer

log: logging.Logger = logging.getLogger("xcnn")
ONE_BY_ONE = "ranks tell each other in each how many samples they have, which no capture holds."
HELD = ("_optimizer", "_loss", "_metrics", "policy", "_kept_scaling")
"""What a callback may change of a model beside its state, by assignment."""


class Together(Alone):
    """The ranks of an MPI job as one: what `xcnn.parallel.mpi` gives.

    Parameters
    ----------
    comm
        a communicator of mpi4py's
    timeout
        seconds without a step after which a rank counts as stalled

    Raises
    ------
    OptionError
        X104, for a timeout that can't be; from `fit`, where ranks would not train in the same way.
    """

    def __init__(self, comm: Any, timeout: float = 600.0) -> None:
        self.ranks: Ranks = Ranks(comm.Dup())
        self.first: bool = self.ranks.rank == 0
        self.timeout: float = check_positive("timeout", timeout)
        self.stop: ending.Stop = ending.Stop()
        self.ending: ending.Ending = ending.Ending(self.ranks, comm)
        self.sums: tuple[Any, Sums] | None = None

    def __repr__(self) -> str:
        return f"<rank {self.ranks.rank} of {self.ranks.size}>"

    @property
    def rank(self) -> int:
        """The number of this process, from 0."""
        return self.ranks.rank

    @property
    def size(self) -> int:
        """How many processes there are."""
        return self.ranks.size

    @contextmanager
    def guard(self) -> Iterator[None]:
        with self.ending.logs_of_first(), self.stop.heard(), Watch(self.ranks, self.ending, self.timeout):
            try:
                yield
            except BaseException as error:
                self.failed(error)
                raise

    def failed(self, error: BaseException) -> None:
        self.ending.failed(error)

    def begin(self, model: Any, plan: dict[str, Any], how: dict[str, Any]) -> None:
        check_shared(model)
        mine = {name: without_addresses(value) for name, value in {**described(model), **plan, **how}.items()}
        for rank, theirs in enumerate(self.ranks.gathered(mine)):
            other = next((name for name, value in mine.items() if theirs.get(name) != value), None)
            if other is not None:
                told = f"rank {self.rank} has {short(mine[other])}, rank {rank} has {short(theirs.get(other))}"
                hint = "let all ranks run the same program on the same data."
                raise OptionError("X104", f"the ranks do not train in the same way: their {other} differ.", told, hint)
        self.tell(model, {"state": model.state} if self.first else None)

    def end(self, model: Any) -> None:
        if self.sums is not None and self.sums[1].leave():
            model.state = moved(model.state, np.array)

    def trainer(self, trainer: Trainer) -> Trainer:
        if self.sums is None or self.sums[0] is not trainer.backend:
            self.sums = trainer.backend, sums_for(trainer.backend, self.ranks)
            if trainer.spans:
                log.info("training steps run one by one: %s", ONE_BY_ONE)
        return SharedTrainer.of(trainer, self.ranks, self.sums[1], self.stop)

    def shared(self, data: Source, way: Way, augment: tuple[Any, ...], accumulate: int) -> tuple[Source, Way]:
        return shared(data, way, augment, Place(self.rank, self.size, accumulate))

    def of_first(self, answer: Callable[[], Told]) -> Told:
        return self.ranks.of_first(answer() if self.first else None)  # type: ignore[return-value]

    def changed(self, model: Any, call: Callable[[], Told]) -> Told:
        before, state, backend = {name: vars(model)[name] for name in HELD}, model.state, model.backend
        answer, told = (call() if self.first else None), {}
        if self.first:
            if model.backend is not backend:
                hint = "move it before fit."
                raise OptionError("X104", "a model that several processes train can't be moved meanwhile.", hint=hint)
            told = {name: value for name in HELD if (value := vars(model)[name]) is not before[name]}
            told |= {"state": model.state} if model.state is not state or told else {}
        self.tell(model, told)
        return self.ranks.of_first(answer)  # type: ignore[return-value]

    def tell(self, model: Any, told: dict[str, Any] | None) -> None:
        """Let the other ranks' models be as the first's is, of which these attributes are told."""
        sent = dict(told or {})
        if "state" in sent:
            sent["state"] = moved(sent["state"], model.backend.to_numpy)
        sent = self.ranks.of_first(sent)
        if sent and not self.first:
            if "state" in sent:
                sent["state"] = moved(sent["state"], model.backend.adopted)
            model._become(**sent)


def mpi(timeout: float = 600.0) -> Together:
    """The processes that `mpiexec -n 4 python -m mpi4py train.py` began, for `model.fit(..., parallel=...)`.

    All run the same program. Each takes its share of each batch, gradients and the statistics of BatchNorm are summed
    over all, and dropout and augmentations follow each sample: the weights are those that one process would find, but
    for rounding, and the same bits in all. Rank 0 alone calls callbacks, shows progress and writes files. Where ranks
    share a machine, each uses its share of the processors (`xcnn.set_threads`).

    An error in one of them, or its end, ends all within seconds, and is told once. So does a rank that stalls.

    Parameters
    ----------
    timeout
        seconds for which a rank may be without a step, while it reads data or calls callbacks, before all are ended

    Raises
    ------
    MissingDependency
        X601, without mpi4py.
    OptionError
        X104, for a timeout that can't be.

    Returns
    -------
    Together
        with `rank` and `size`

    Examples
    --------
    In a program that `mpiexec -n 4 python -m mpi4py train.py` runs:

    >>> together = xcnn.parallel.mpi()  # doctest: +SKIP
    >>> history = model.fit(x, y, epochs=3, batch_size=256, parallel=together)  # doctest: +SKIP
    """
    comm = world()
    made = Together(comm, timeout)
    if made.size > 1:
        unname(comm)
        leave_room(beside(comm))
        made.ending.heed_uncaught()
    return made


def sums_for(backend: Any, ranks: Ranks) -> Sums:
    """How a backend's arrays are summed: those of a GPU by NCCL, all others by MPI."""
    if backend.library != "cupy" or ranks.size == 1:
        return HostSums(backend, ranks)
    import cupy
    from cupy.cuda import nccl

    return NcclSums(backend, ranks, cupy, nccl)


def check_shared(model: Any) -> None:
    """Raise X104 for a model whose batch can't be computed in parts."""
    name = loss_name(model.loss)
    if name in OF_LABELS:
        hint = "train with one process."
        raise OptionError("X104", f"{name} compares the samples of a batch, which several processes share.", hint=hint)
    check_one_mean(model.loss, "processes")
    if strange := strangers(model.net):
        log.warning(
            "%s: taken to compute each sample by itself; what looks at several asks run.sum_over_batch and "
            "run.random_bits, as xcnn's own do.",
            ", ".join(strange),
        )


def described(model: Any) -> dict[str, Any]:
    """What must be the same on all ranks, in words."""
    names = ("net", "input_shape", "loss", "optimizer", "metrics", "policy", "seed")
    return {name: getattr(model, name) for name in names} | {"backend": model.backend.spec}


def without_addresses(value: Any) -> str:
    """What it shows itself as, but for where it lies."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


def moved(state: Any, move: Callable[[Any], Any]) -> Any:
    """A state whose arrays went through this."""

    def of_leaf(leaf: Any) -> Any:
        return leaf if isinstance(leaf, int | float) else move(leaf)

    trees = {name: tree.map(of_leaf, getattr(state, name)) for name in ("weights", "optimizer_state")}
    return replace(state, **trees)
