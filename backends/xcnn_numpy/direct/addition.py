"""The sum at a shortcut's end and the ReLU after it, compiled, on all threads."""

from __future__ import annotations

from typing import Any

from xcnn_host.buffers import empty
from xcnn_strided.shortcut import fuse_shortcut

from xcnn.core.types import Array
from xcnn_numpy.direct import lines
from xcnn_numpy.direct.algorithm import flat
from xcnn_numpy.direct.lines import NONE, RELU
from xcnn_numpy.direct.thread_pool import Shared
from xcnn_numpy.runs import HostShortcut


@Shared
def add(out: Any, a: Any, b: Any, activation: int, part: int, first: int, last: int) -> None:
    """Out = f(a + b) in cells first to last - 1."""
    lines.add(out, first, 0, a, first, 0, b, first, 0, activation, 1, last - first)


@Shared
def slope(out: Any, dy: Any, y: Any, activation: int, part: int, first: int, last: int) -> None:
    """Out = dy f' in cells first to last - 1, from y."""
    lines.slope(out, first, 0, dy, first, 0, y, first, 0, activation, 1, last - first)


class Addition(HostShortcut):
    """Its sums by compiled loops."""

    def sum(self, a: Array, b: Array, relu: bool) -> Array:
        out, a_, b_ = empty((a.size,), a.dtype), flat(a), flat(b)
        self.backend.direct.share(add, a.size, a.size, out, a_, b_, RELU if relu else NONE)
        return out.reshape(a.shape)

    def slope(self, dy: Array, y: Array) -> Array:
        out, dy_, y_ = empty((y.size,), dy.dtype), flat(dy), flat(y)
        self.backend.direct.share(slope, y.size, y.size, out, dy_, y_, RELU)
        return out.reshape(y.shape)


fuse = fuse_shortcut(Addition)
"""Residual, and the ReLU after it."""
