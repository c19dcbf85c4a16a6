"""How much memory tensors take while something runs."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from xcnn_host.metering import noting, of_recycler

from xcnn.core.memory import Meter, alone


class Storages(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees each operation's results, and counts PyTorch's own memory that is alive after it.

    Memory of other libraries is not PyTorch's to resize, which tells it apart.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.known: dict[int, weakref.ref[torch.UntypedStorage]] = {}
        self.now = self.most = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(results):
            if isinstance(leaf, torch.Tensor) and leaf.is_cpu:
                self.note(leaf.untyped_storage())
        self.most = max(self.most, self.now)
        return results

    def note(self, storage: torch.UntypedStorage) -> None:
        """Count a storage for as long as it is alive."""
        number, size = storage._cdata, storage.nbytes()
        if number not in self.known and storage.resizable():
            self.known[number] = weakref.ref(storage, partial(self.gone, number, size))
            self.now += size

    def gone(self, number: int, size: int, _: object) -> None:
        """A storage is no longer alive."""
        del self.known[number]
        self.now -= size

    def read(self) -> tuple[int, int]:
        """What is alive, and was at most since the last reset."""
        return self.now, self.most

    def reset(self) -> None:
        """Let the most begin anew."""
        self.most = self.now


@contextmanager
def on_host() -> Iterator[Meter]:
    """A block in which tensors on the CPU are counted, those of recycled memory as it notes them."""
    storages = Storages()
    meter = Meter(storages.read, storages.reset, of_recycler())
    with alone(), noting(meter), storages:
        yield meter


@contextmanager
def on_cuda(place: torch.device) -> Iterator[Meter]:
    """A block in which PyTorch's allocator for this device counts."""

    def read() -> tuple[int, int]:
        return torch.cuda.memory_allocated(place), torch.cuda.max_memory_allocated(place)

    yield Meter(read, partial(torch.cuda.reset_peak_memory_stats, place))
