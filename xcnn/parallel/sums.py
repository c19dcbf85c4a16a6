"""Sums over ranks of a backend's arrays: by way of the host, whose arrays MPI takes."""

from __future__ import annotations

from collections import Counter
from typing import Any, Protocol

import numpy as np

from xcnn.core import tree
from xcnn.core.arrays import zeros_like
from xcnn.core.types import Array, Weights
from xcnn.layers.layer import Hook, Next
from xcnn.parallel.ranks import Ranks
from xcnn.training.state import HostArray

SMALL = 2**13
"""Cells of an array at most that is sent together with others: then the time is that of a message, not of its cells."""


class Sums(Protocol):
    """How arrays are summed over ranks: the same bits on all of them."""

    def statistic(self, part: Array) -> Array:
        """A few numbers, as a layer takes them of its batch, summed in float64."""
        ...

    def hook(self, weights: Weights, gives: bool) -> Hook | None:
        """What looks on in a step, to sum gradients as soon as they are there; None where nothing is gained so."""
        ...

    def gradients(self, grads: Weights, gives: bool, own: bool) -> Weights:
        """A tree of gradients; of a weight that is replaced it is what that rank has which `gives` it.

        They are our `own` where layers of others, who may still need them, have not made them.
        """
        ...


class HostSums:
    """Sums of host arrays.

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

    def statistic(self, part: Array) -> Array:
        if type(part) is np.ndarray and part.dtype == np.float64:  # between two kernels each call of Python counts
            return self.ranks.total(part)
        total = self.ranks.total(np.asarray(self.backend.to_numpy(part), np.float64))
        return self.backend.asarray(total, str(part.dtype).rpartition(".")[2])

    def hook(self, weights: Weights, gives: bool) -> Hook | None:
        """None: on processors that compute, messages hide behind nothing."""
        return None

    def gradients(self, grads: Weights, gives: bool, own: bool) -> Weights:
        leaves = dict(sorted(tree.items(grads)))  # who has no samples may come by them in another order
        hosts = {path: np.asarray(self.backend.to_numpy(given(leaf, gives))) for path, leaf in leaves.items()}
        summed: dict[str, Any] = {}
        for kind in dict.fromkeys(host.dtype for host in hosts.values()):
            few = {path: host for path, host in hosts.items() if host.dtype == kind and host.size <= SMALL}
            summed |= self.together(few)
        times = Counter(map(place, hosts.values()))
        summed |= {
            path: self.ranks.total(host, own and times[place(host)] == 1)
            for path, host in hosts.items()
            if path not in summed
        }
        return tree.filled(grads, {path: self.back(leaf, summed[path]) for path, leaf in leaves.items()})

    def together(self, few: dict[str, Any]) -> dict[str, Any]:
        """The sums of small arrays of one type, sent as one."""
        if not few:
            return {}
        whole = self.ranks.total(np.concatenate([host.ravel() for host in few.values()]))
        ends = np.cumsum([host.size for host in few.values()])[:-1]
        parts = zip(few.items(), np.split(whole, ends), strict=True)
        return {path: part.reshape(host.shape) for (path, host), part in parts}

    def back(self, leaf: Any, host: Any) -> Any:
        """A sum as the leaf was: an array of the backend, or what replaces a weight."""
        array = self.backend.adopted(np.ascontiguousarray(host))
        return Next(array) if isinstance(leaf, Next) else array


def place(host: HostArray) -> int:
    """Where an array's memory begins."""
    return host.ctypes.data


def given(leaf: Any, gives: bool) -> Array:
    """What a rank adds: its gradient; of what replaces a weight that of one rank alone, and zeros of the others."""
    if not isinstance(leaf, Next):
        return leaf
    return leaf.value if gives else zeros_like(leaf.value)
