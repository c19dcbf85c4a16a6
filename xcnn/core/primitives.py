"""What a layer may ask of a backend, as a protocol: the three maps of a convolution, poolings, random bits, types.

Layers, precision and the loop of training are typed against this page; reference.py defines what each primitive gives;
`xcnn.Backend` has them all, and a plug-in overrides those that it makes faster.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

from xcnn.core.random import Key
from xcnn.core.types import Array, Pads, Pair, Shape

if TYPE_CHECKING:
    import numpy as np


class Primitives(Protocol):
    """The operations that layers are made of, beside those of the array API standard."""

    def correlate(
        self, x: Array, k: Array, *, stride: Pair = ..., padding: Pads = ..., dilation: Pair = ..., groups: int = ...
    ) -> Array:
        """Y = X * K, (N, C, H, W) and (O, C / groups, h, w) -> (N, O, H', W')."""
        ...

    def correlate_input_adjoint(
        self,
        dy: Array,
        k: Array,
        x_shape: Shape,
        *,
        stride: Pair = ...,
        padding: Pads = ...,
        dilation: Pair = ...,
        groups: int = ...,
    ) -> Array:
        """DX, shaped as x_shape."""
        ...

    def correlate_kernel_adjoint(
        self,
        x: Array,
        dy: Array,
        k_shape: Shape,
        *,
        stride: Pair = ...,
        padding: Pads = ...,
        dilation: Pair = ...,
        groups: int = ...,
    ) -> Array:
        """DK, shaped as k_shape."""
        ...

    def max_pool(self, x: Array, size: Pair, *, stride: Pair, padding: Pads = ...) -> tuple[Array, Array]:
        """The largest cell of each window, and which of the window's cells it is."""
        ...

    def max_pool_adjoint(
        self, dy: Array, which: Array, x_shape: Shape, size: Pair, *, stride: Pair, padding: Pads = ...
    ) -> Array:
        """DX: dY at the largest cells."""
        ...

    def sum_pool(self, x: Array, size: Pair, *, stride: Pair, padding: Pads = ...) -> Array:
        """The sum of each window."""
        ...

    def sum_pool_adjoint(self, dy: Array, x_shape: Shape, size: Pair, *, stride: Pair, padding: Pads = ...) -> Array:
        """DX: the sum of the dY of all windows that a cell is in."""
        ...

    def random_bits(self, key: Key, shape: Shape) -> Array:
        """Random whole numbers 0 .. 2^32 - 1, the same for a key on every backend."""
        ...

    def astype(self, x: Array, dtype: str) -> Array:
        """A floating-point array in the type of this name; x itself where it has that."""
        ...


class HostPort(Protocol):
    """How arrays go to a backend's device and come back."""

    def asarray(self, x: Any, dtype: str | None = None) -> Array:
        """A host array, list or number as an array of the backend."""
        ...

    def to_numpy(self, x: Array) -> np.ndarray[Any, Any]:
        """An array of the backend on the host."""
        ...

    def to_number(self, x: Array) -> float:
        """A scalar array of the backend as a number."""
        ...

    def active(self) -> AbstractContextManager[object]:
        """For a `with` block around calls of layers."""
        ...
