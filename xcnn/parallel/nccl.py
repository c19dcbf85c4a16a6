"""Sums over ranks of CuPy's arrays, by NCCL: gradients in buckets, from the last layer on, beside the backward pass.

Its calls were tried with a stand-in on the host alone: on several GPUs nothing was run or measured.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xcnn.core import tree
from xcnn.core.types import Array, Weights
from xcnn.errors import BackendUnavailable
from xcnn.layers.layer import Hook, Next
from xcnn.parallel.ranks import Ranks
from xcnn.parallel.sums import Whole, given

BUCKET = 25 * 2**20
"""Bytes of gradients that are sent as one: so many hide the time of a message, and the first leave early."""
ALIGNED = 64
"""Cells at a multiple of which each array begins in its bucket."""


def buckets(weights: Weights, most: int) -> list[list[str]]:
    """The paths of the weights whose gradients are sent together, from the last on, each of one type.

    All ranks have the same, in whatever order they come by their gradients.
    """
    found: list[list[str]] = []
    last: dict[str, tuple[list[str], int]] = {}
    for path, leaf in reversed([*tree.items(weights)]):
        bucket, size = last.get(str(leaf.dtype), ([], most))
        if size >= most:
            bucket, size = [], 0
            found.append(bucket)
        bucket.append(path)
        last[str(leaf.dtype)] = bucket, size + int(leaf.nbytes)
    return found


class NcclSums(Whole):
    """Sums of CuPy's arrays.

    Parameters
    ----------
    backend
        whose arrays they are, on the device of this rank alone
    ranks
        over whom they are summed; NCCL's identifier goes to all of them by MPI
    cupy, nccl
        the modules

    Raises
    ------
    BackendUnavailable
        X302, where CuPy has no NCCL.
    """

    def __init__(self, backend: Any, ranks: Ranks, cupy: Any, nccl: Any) -> None:
        if not nccl.available:
            hint = "install the package of NCCL that goes with CuPy, or train on the CPU."
            raise BackendUnavailable("X302", "CuPy finds no NCCL, by which GPUs sum gradients.", hint=hint)
        self.backend: Any = backend
        self.ranks: Ranks = ranks
        self.cupy: Any = cupy
        self.nccl: Any = nccl
        identifier = ranks.of_first(nccl.get_unique_id() if ranks.rank == 0 else None)
        with backend.active(), ranks.waiting():
            self.comm: Any = nccl.NcclCommunicator(ranks.size, identifier, ranks.rank)
            self.stream: Any = cupy.cuda.Stream(non_blocking=True)
        self.kinds: dict[str, Any] = {"float32": nccl.NCCL_FLOAT32, "float64": nccl.NCCL_FLOAT64}
        self.begin({})

    def begin(self, weights: Weights) -> None:
        """Begin a step."""
        self.waiting: list[list[str]] = buckets(weights, BUCKET)
        self.ready: dict[str, Any] = {}
        """Gradients by path, as they came."""
        self.sums: dict[str, Array] = {}
        """What they come to, as far as they were sent."""

    def statistic(self, part: Array) -> Array:
        whole = part.astype("float64")
        self.all_reduce(whole, self.cupy.cuda.get_current_stream())
        return whole.astype(part.dtype)

    def each(self, part: Array) -> Array:
        found = self.cupy.zeros((self.ranks.size, *part.shape), "float64")
        found[self.ranks.rank] = part
        self.all_reduce(found, self.cupy.cuda.get_current_stream())
        return found.astype(part.dtype)

    def hook(self, weights: Weights, gives: bool) -> Hook | None:
        """What sees each layer's gradients as soon as they are there, and sends the buckets that are full."""
        self.begin(weights)

        def look(path: tuple[str, ...], layer: Any, y: Array, backward: Callable[..., Any]) -> Callable[..., Any]:
            def sending(dy: Array, *entered: Weights) -> Any:
                result = backward(dy, *entered)
                grads, above = (entered[0], path[:-1]) if entered else (result[1], path)
                for name, leaf in tree.items(grads, "".join(f"{each}/" for each in above)):
                    self.ready.setdefault(name, leaf)
                self.send(gives)
                return result

            return sending

        return Hook(look, of_runs=True)

    def gradients(self, grads: Weights, gives: bool, own: bool) -> Weights:
        if not self.waiting and not self.sums:  # nobody looked on
            self.begin(tree.map(lambda leaf: getattr(leaf, "value", leaf), grads))
        leaves = dict(tree.items(grads))
        early = {path for path in self.sums if self.ready[path] is not leaves[path]}
        assert not early, f"a container changed the gradients of {early}"
        self.ready.update(leaves)
        self.send(gives)
        self.cupy.cuda.get_current_stream().wait_event(self.stream.record())
        sums, ready = self.sums, self.ready
        self.begin({})
        made = {path: Next(total) if isinstance(ready[path], Next) else total for path, total in sums.items()}
        return tree.filled(grads, made)

    def send(self, gives: bool) -> None:
        """Send off the buckets whose gradients are all there, in their order."""
        while self.waiting and all(path in self.ready for path in self.waiting[0]):
            paths = self.waiting.pop(0)
            self.sums |= self.sent({path: given(self.ready[path], gives) for path in paths})

    def sent(self, leaves: dict[str, Array]) -> dict[str, Array]:
        """The sums of a bucket, made on the second stream once the first has made what is in it."""
        starts, cells = dict[str, int](), 0
        for path, leaf in leaves.items():
            starts[path], cells = cells, cells + -(-leaf.size // ALIGNED) * ALIGNED
        flat = self.cupy.zeros(cells, str(next(iter(leaves.values())).dtype))
        for path, leaf in leaves.items():
            flat[starts[path] : starts[path] + leaf.size] = leaf.ravel()
        self.stream.wait_event(self.cupy.cuda.get_current_stream().record())
        self.all_reduce(flat, self.stream)
        return {
            path: flat[starts[path] : starts[path] + leaf.size].reshape(leaf.shape) for path, leaf in leaves.items()
        }

    def all_reduce(self, array: Array, stream: Any) -> None:
        """Sum an array over all ranks in its place."""
        kind = self.kinds[str(array.dtype)]
        self.comm.allReduce(array.data.ptr, array.data.ptr, array.size, kind, self.nccl.NCCL_SUM, stream.ptr)
