"""Values added, multiplied or laid side by side by the compiled library, wherever branches or a Graph join them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import accumulate, pairwise
from math import prod

from xcnn.core.reference import NO_PADDING
from xcnn.core.types import Array
from xcnn.layers import Add, Concatenate, Multiply
from xcnn.layers.branches import Branches, Split
from xcnn.layers.layer import Layer
from xcnn_numpy.native.arithmetic import added, multiplied, scaled
from xcnn_numpy.native.copy import copy
from xcnn_numpy.native.layout import as_lying, holds, lying, new
from xcnn_numpy.native.pooling import sum_pool


class NativeBranches(Branches):
    """Branches whose outputs are joined by the library, where these are arrays that it knows."""

    threads: int

    def fits(self, ys: Sequence[Array]) -> bool:
        """Whether the library computes with these."""
        return all(holds(y) and y.size and y.dtype == ys[0].dtype for y in ys)

    def summed(self, dxs: Sequence[Array]) -> Array:
        if self.fits(dxs):
            return reduce(lambda a, b: added(a, b, self.threads), dxs)
        return super().summed(dxs)


class NativeConcatenate(NativeBranches, Concatenate):
    """In the first one's order of memory."""

    def joined(self, ys: Sequence[Array]) -> tuple[Array, Split]:
        if not self.fits(ys):
            return super().joined(ys)
        _, last = lying(ys[0], self.threads)
        edges = [0, *accumulate(y.shape[1] for y in ys)]
        whole = new((len(ys[0]), edges[-1], *ys[0].shape[2:]), ys[0].dtype, last)
        for first, y in zip(edges, ys, strict=False):
            copy(y, whole[:, first : first + y.shape[1]], self.threads)
        return whole, lambda dy: [dy[:, first:end] for first, end in pairwise(edges)]


class NativeAdd(NativeBranches, Add):
    """Of arrays of one shape."""

    def joined(self, ys: Sequence[Array]) -> tuple[Array, Split]:
        if not self.fits(ys) or any(y.shape != ys[0].shape for y in ys):
            return super().joined(ys)
        return reduce(lambda a, b: added(a, b, self.threads), ys), lambda dy: [dy] * len(ys)


class NativeMultiply(NativeBranches, Multiply):
    """Of two arrays of one shape, or of images and a factor for each of their channels."""

    def joined(self, ys: Sequence[Array]) -> tuple[Array, Split]:
        large, small = ys if len(ys) == 2 and prod(ys[0].shape) >= prod(ys[1].shape) else (*reversed(ys[:2]),)
        gates = large.ndim > 2 and small.size == prod(large.shape[:2]) and small.shape[:2] == large.shape[:2]
        if not self.fits(ys) or len(ys) > 2 or not (large.shape == small.shape or gates):
            return super().joined(ys)
        product = self.gated if gates and large.shape != small.shape else self.product
        turned = large is not ys[0]

        def split(dy: Array) -> list[Array]:
            by_small = product(dy, small)
            by_large = self.product(dy, large)
            if product == self.gated:
                by_large = self.total(by_large).reshape(small.shape)
            return [by_large, by_small] if turned else [by_small, by_large]

        return product(large, small), split

    def product(self, a: Array, b: Array) -> Array:
        """A b, cell by cell."""
        return multiplied(a, b, self.threads)

    def gated(self, a: Array, gate: Array) -> Array:
        """Each channel of an image times its own factor."""
        return scaled(a, as_lying(gate.reshape(a.shape[:2]), False), self.threads)

    def total(self, x: Array) -> Array:
        """The sum of each channel of each image."""
        x = x if x.ndim == 4 else x.reshape(*x.shape[:2], -1, 1)
        sizes = x.shape[2], x.shape[3]
        return sum_pool(x, sizes, sizes, NO_PADDING, self.threads)


KINDS: dict[type, type[NativeBranches]] = {Concatenate: NativeConcatenate, Add: NativeAdd, Multiply: NativeMultiply}


def native(layer: Layer, threads: int) -> Layer:
    """The same layer, whose values are joined by the library on so many threads, if it is one that joins some."""
    kind = KINDS.get(type(layer))
    if kind is None:
        return layer
    made = object.__new__(kind)
    vars(made).update(vars(layer), threads=threads)
    return made
