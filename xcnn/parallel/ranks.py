"""The processes of an MPI job, and what all of them do together: each call here is made by all, in the same order."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, cached_property
from time import monotonic
from typing import Any, TypeVar

import numpy as np

from xcnn.errors import MissingDependency
from xcnn.parallel.window import Window, window
from xcnn.training.state import HostArray

Value = TypeVar("Value")
MESSAGE = 2**20
"""Bytes of an array that are sent at a time."""


class Ranks:
    """The processes of a communicator, numbered 0 .. size - 1.

    Parameters
    ----------
    comm
        a communicator of mpi4py's

    Notes
    -----
    Sums are the same bits on all ranks: MPI leaves their order open, MPICH and Open MPI add each cell in one order.
    """

    def __init__(self, comm: Any) -> None:
        self.comm = comm
        self.rank: int = comm.Get_rank()
        self.size: int = comm.Get_size()
        self.waiting_since: float | None = None
        """When this rank began to wait for the others; None where it does not."""
        self.left: float = monotonic()
        """When it last ended to wait."""

    def waiting(self) -> Waiting:
        """For a `with` block in which this rank may wait for all others."""
        return Waiting(self)

    def table(self, *numbers: float) -> HostArray:
        """(size, numbers) what each rank has, as float64."""
        return self.each(np.array(numbers, np.float64))

    def summed(self, *numbers: float) -> list[float]:
        """The sums over all ranks of numbers, in float64."""
        return [sum(column) for column in zip(*self.table(*numbers).tolist(), strict=True)]

    def each(self, array: HostArray) -> HostArray:
        """(size, ...) the array of each rank, which are of one shape and type."""
        found = np.empty((self.size, *array.shape), array.dtype)
        with self.waiting():
            self.comm.Allgather(np.ascontiguousarray(array), found)
        return found

    def total(self, array: HostArray) -> HostArray:
        """The sum of an array of a few cells over all ranks, cell by cell, in its type."""
        found = np.array(array, order="C")
        with self.waiting():
            self.comm.Allreduce(in_place(), found)
        return found

    def totals(self, arrays: Sequence[HostArray]) -> None:
        """Put sums over all ranks in the place of contiguous arrays.

        They go in pieces: for a long message MPICH takes memory each time, which costs more than the message.
        """
        with self.waiting():
            if self.window is not None:
                self.window.total([array.reshape(-1) for array in arrays])
                return
            for piece in pieces(arrays, MESSAGE):
                self.comm.Allreduce(in_place(), piece)

    def scatter(self, arrays: Sequence[HostArray]) -> None:
        """Put sums over all ranks in the place of this rank's parts of contiguous arrays, where there is a window."""
        assert self.window is not None
        with self.waiting():
            self.window.scatter(arrays)

    @cached_property
    def window(self) -> Window | None:
        """Through which long arrays are summed, where all ranks are on one machine; all ask at the same time first."""
        return window(self.comm)

    def gathered(self, value: Value) -> list[Value]:
        """What each rank has, a value that can be pickled."""
        with self.waiting():
            found: list[Value] = self.comm.allgather(value)
        return found

    def of_first(self, value: Value) -> Value:
        """What rank 0 has, a value that can be pickled; arrays in it are sent as they lie."""
        from mpi4py.util import pkl5

        with self.waiting():
            told: Value = pkl5.Intracomm(self.comm).bcast(value)
        return told


def pieces(arrays: Iterable[HostArray], most: int) -> Iterator[HostArray]:
    """Arrays as they lie, cut into some of one axis and so many bytes at most."""
    for array in arrays:
        flat, cells = array.reshape(-1), most // array.itemsize
        for first in range(0, flat.size, cells):
            yield flat[first : first + cells]


class Waiting:
    """A `with` block in which a rank may wait: one made of a generator takes longer."""

    __slots__ = ("ranks",)

    def __init__(self, ranks: Ranks) -> None:
        self.ranks: Ranks = ranks

    def __enter__(self) -> None:
        self.ranks.waiting_since = monotonic()

    def __exit__(self, *error: object) -> None:
        self.ranks.waiting_since, self.ranks.left = None, monotonic()


@cache
def in_place() -> Any:
    """What stands for an array that its sum takes the place of."""
    from mpi4py import MPI

    return MPI.IN_PLACE


def world() -> Any:
    """MPI's communicator of all processes that `mpiexec` began.

    Raises
    ------
    MissingDependency
        X601, without mpi4py or an MPI library.
    """
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        hint = 'pip install "xcnn[parallel]"'
        raise MissingDependency("X601", "training by several processes needs mpi4py and MPI.", hint=hint) from error
    return MPI.COMM_WORLD


def beside(comm: Any) -> int:
    """How many processes of the job share this one's processors: those of its machine, unless `mpiexec` bound them."""
    from mpi4py import MPI

    here = comm.Split_type(MPI.COMM_TYPE_SHARED)
    mine = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return sum(other == mine for other in here.allgather(mine))
