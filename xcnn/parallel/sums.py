"""Sums over ranks of a backend's arrays: by way of the host, whose arrays MPI takes."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Any, Protocol

import numpy as np

from xcnn.core import tree
from xcnn.core.arrays import zeros_like
from xcnn.core.types import Array, Weights
from xcnn.layers.layer import Hook, Next
from xcnn.parallel.parts import bounds
from xcnn.parallel.ranks import Ranks
from xcnn.parallel.sharded import ShardedUpdate, Updated
from xcnn.training.optimizers import Optimizer
from xcnn.training.state import HostArray

SMALL = 2**13
"""Cells of an array at most that is sent together with others: then the time is that of a message, not of its cells."""


class Sums(Protocol):
    """How arrays are summed over ranks: the same bits on all of them."""

    def statistic(self, part: Array) -> Array:
        """A few numbers, as a layer takes them of its batch, summed in float64."""
        ...

    def each(self, part: Array) -> Array:
        """(ranks, ...) a few numbers of each rank, in float64 between them."""
        ...

    def hook(self, weights: Weights, gives: bool) -> Hook | None:
        """What looks on in a step, to sum gradients as soon as they are there; None where nothing is gained so."""
        ...

    def gradients(self, grads: Weights, gives: bool, own: bool) -> Weights:
        """A tree of gradients; of a weight that is replaced it is what that rank has which `gives` it.

        They are our `own` where layers of others, who may still need them, have not made them.
        """
        ...

    @property
    def free(self) -> int:
        """A bit for each block of shared memory that this rank does not hold: what all tell before a step."""
        ...

    def update(
        self, optimizer: Optimizer, grads: Weights, state: Weights, weights: Weights, value: float, gives: bool,
        own: bool, free: int,
    ) -> Updated:  # fmt: skip
        """What an optimizer makes of the gradients of all ranks, and the sum of their losses.

        `gives` and `own` are those of `gradients`; `free` is what all ranks have said to be.
        """
        ...

    def leave(self) -> bool:
        """Share no more memory for states; whether those of this training may lie in some."""
        ...


class Whole:
    """Updates that each rank makes of all gradients."""

    backend: Any
    ranks: Ranks

    @property
    def free(self) -> int:
        """0: no memory is shared."""
        return 0

    def gradients(self, grads: Weights, gives: bool, own: bool) -> Weights:
        """As Sums has it."""
        raise NotImplementedError

    def update(
        self, optimizer: Optimizer, grads: Weights, state: Weights, weights: Weights, value: float, gives: bool,
        own: bool, free: int,
    ) -> Updated:  # fmt: skip
        grads = self.gradients(grads, gives, own)
        (value,) = self.ranks.summed(value)
        return *self.backend.update(optimizer, grads, state, weights), value

    def leave(self) -> bool:
        """False: states lie in memory of their own."""
        return False


class HostSums(Whole):
    """Sums of host arrays, and updates in parts where ranks share memory.

    Parameters
    ----------
    backend
        whose arrays they are
    ranks
        over whom they are summed
    """

    def __init__(self, backend: Any, ranks: Ranks) -> None:
        self.backend: Any = backend
        self.ranks: Ranks = ranks
        self.sharded: ShardedUpdate = ShardedUpdate(backend, ranks)

    def statistic(self, part: Array) -> Array:
        return self.by_host(self.ranks.total, part)

    def each(self, part: Array) -> Array:
        return self.by_host(self.ranks.each, part)

    def by_host(self, of_all: Callable[[HostArray], HostArray], part: Array) -> Array:
        """What ranks make of a few numbers, in float64."""
        if type(part) is np.ndarray and part.dtype == np.float64:  # between two kernels each call of Python counts
            return of_all(part)
        found = of_all(np.asarray(self.backend.to_numpy(part), np.float64))
        return self.backend.asarray(found, str(part.dtype).rpartition(".")[2])

    def hook(self, weights: Weights, gives: bool) -> Hook | None:
        """None: on processors that compute, messages hide behind nothing."""
        return None

    def gradients(self, grads: Weights, gives: bool, own: bool) -> Weights:
        leaves = sorted(tree.items(grads))  # who has no samples may come by them in another order
        hosts = {path: np.asarray(self.backend.to_numpy(given(leaf, gives))) for path, leaf in leaves}
        few, summed = dict[Any, list[str]](), dict[str, HostArray]()
        for path, host in hosts.items():
            if host.size > SMALL:
                summed[path] = host
            else:
                few.setdefault(host.dtype, []).append(path)
        summed = dict(zip(summed, writable(summed.values(), own), strict=True))
        whole = [np.concatenate([hosts[path].ravel() for path in paths]) for paths in few.values()]
        self.ranks.totals([*whole, *summed.values()])
        for all_of_type, paths in zip(whole, few.values(), strict=True):
            for path, (first, end) in zip(paths, bounds([hosts[path].size for path in paths]), strict=True):
                summed[path] = all_of_type[first:end].reshape(hosts[path].shape)
        return tree.filled(grads, {path: self.back(leaf, summed[path]) for path, leaf in leaves})

    @property
    def free(self) -> int:
        return self.sharded.blocks.free()

    def update(
        self, optimizer: Optimizer, grads: Weights, state: Weights, weights: Weights, value: float, gives: bool,
        own: bool, free: int,
    ) -> Updated:  # fmt: skip
        if self.ranks.window is not None:
            whole, writing = partial(self.gradients, gives=gives, own=own), partial(writable, own=own)
            found = self.sharded(optimizer, grads, state, weights, value, free, whole, writing)
            if found is not None:
                return found
        return super().update(optimizer, grads, state, weights, value, gives, own, free)

    def leave(self) -> bool:
        shared = bool(self.sharded.blocks.blocks)
        self.sharded.blocks.begin(0)
        return shared

    def back(self, leaf: Any, host: Any) -> Any:
        """A sum as the leaf was: an array of the backend, or what replaces a weight."""
        array = self.backend.adopted(np.require(host, None, "C"))  # one number stays an array of no axes
        return Next(array) if isinstance(leaf, Next) else array


def writable(hosts: Collection[HostArray], own: bool) -> list[HostArray]:
    """Arrays to sum in their place: copies of what others may need, or have, and of what several share."""
    own = own and len({*map(place, hosts)}) == len(hosts)
    found = [np.ascontiguousarray(host) if own else np.array(host, order="C") for host in hosts]
    return [each if each.flags.writeable else each.copy() for each in found]


def place(host: HostArray) -> int:
    """Where an array's memory begins."""
    return int(host.__array_interface__["data"][0])


def given(leaf: Any, gives: bool) -> Array:
    """What a rank adds: its gradient; of what replaces a weight that of one rank alone, and zeros of the others."""
    if not isinstance(leaf, Next):
        return leaf
    return leaf.value if gives else zeros_like(leaf.value)
