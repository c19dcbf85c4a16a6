"""The NumPy backend: which algorithm runs, and how arrays come and go."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, ClassVar, cast

import array_api_compat
import numpy as np
import scipy
from xcnn_host import buffers, metering, random
from xcnn_host.shown import shown
from xcnn_host.threads import available
from xcnn_native import library as native
from xcnn_strided import Algorithm, StridedBackend
from xcnn_strided.fusion import Fuse, rewrite

from xcnn.backends.explanation import Explanation
from xcnn.core import blas
from xcnn.core.arrays import rounded_once, unmasked
from xcnn.core.checks import check_whole
from xcnn.core.memory import Meter
from xcnn.core.random import Key
from xcnn.core.reference import NO_PADDING
from xcnn.core.types import Array, PaddingName, Pads, Pair, Shape, Weights
from xcnn.errors import BackendUnavailable, DTypeError
from xcnn.layers.layer import Layer, Run
from xcnn.training.losses import Loss
from xcnn.training.optimizers import Optimizer
from xcnn_numpy import fft, literal, plain, update
from xcnn_numpy import loss as judge
from xcnn_numpy.explain import explain
from xcnn_numpy.native import FUSES, PASSES, Native, joins, pooling
from xcnn_numpy.native.layout import holds
from xcnn_numpy.native.recorded import Recorded, recorded
from xcnn_numpy.plain.gemm import BlasGemm

GEMM = BlasGemm(workspace=2**19)  # 2 MiB of float32, which stays in cache
ALGORITHMS: dict[str, Algorithm] = {"literal": literal, "gemm": GEMM, "fft": fft}


@cache
def compiled(threads: int) -> Algorithm:
    """The algorithm `native` on so many threads."""
    return Native(threads, GEMM)


FEW = 2**16
"""Cells of samples that are looked at on one thread before a prediction."""


@dataclass(frozen=True, repr=False)
class NumpyBackend(StridedBackend):
    """NumPy arrays on the CPU.

    `literal` is the article's scipy.signal, a plane at a time; `gemm` lays windows out as columns of matrix products;
    `fft` multiplies Fourier transforms; `native` sums in registers, by the compiled library. `auto` is `native`, or
    `gemm` without the library. `fft` is taken only by name: it is faster for large kernels, but its error in every cell
    follows the largest cell of all, and one that is not finite makes NaN of all.

    Parameters
    ----------
    threads
        how many this backend's own work is shared out to; by default as many as the process has processors
    kept_memory
        MiB that the process keeps for the next arrays at most, until its last model is gone; 0 keeps none. By default
        512, and more where that is asked for again
    """

    threads: int | None = None
    kept_memory: int | None = None

    name: ClassVar[str] = "numpy"
    library: ClassVar[str] = "numpy"
    algorithms: ClassVar[tuple[str, ...]] = ("auto", *ALGORITHMS, "native")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.device is not None:
            raise BackendUnavailable("X302", f'its only device is "cpu", not {self.device!r}.')
        if self.threads is not None:
            check_whole("threads", self.threads)
        if self.kept_memory is not None:
            check_whole("kept_memory", self.kept_memory, least=0)
        if self.algorithm == "native" and self.native is None:
            raise BackendUnavailable(
                "X302",
                'its algorithm "native" needs the compiled library.',
                hint='install xcnn again, or algorithm="auto".',
            )

    @property
    def xp(self) -> Any:
        return np

    def asarray(self, x: Any, dtype: str | None = None) -> Array:
        if type(x) is np.ndarray and (dtype is None or x.dtype == dtype):
            return x
        if array_api_compat.is_array_api_obj(x) and not array_api_compat.is_numpy_array(x):
            raise DTypeError(
                "X103", f"a {type(x).__name__} is no host array.", hint="other.to_numpy(x) brings it to the host."
            )
        return np.asarray(unmasked(x), dtype=dtype)

    def frozen(self, x: Array) -> Array:
        """A copy that nobody can write to."""
        return buffers.sealed(x)

    def shown(self, x: Array, path: str) -> Array:
        return shown(x, path) if type(x) is np.ndarray else x

    def to_numpy(self, x: Array) -> np.ndarray[Any, Any]:
        return np.asarray(x)

    def versions(self) -> dict[str, str]:
        return {"numpy": np.__version__, "scipy": scipy.__version__, **native.versions()}

    def chosen(
        self, x_shape: Shape, k_shape: Shape, stride: Pair, padding: Pads, dilation: Pair, groups: int
    ) -> Algorithm:
        if self.algorithm == "auto":
            return self.native or GEMM
        return cast("Algorithm", self.native) if self.algorithm == "native" else ALGORITHMS[self.algorithm]

    def explain(
        self, x_shape: Shape, k_shape: Shape, stride: Pair, padding: Pads, dilation: Pair, groups: int
    ) -> Explanation:
        return explain(self, x_shape, k_shape, stride, padding, dilation, groups)

    @property
    def native(self) -> Algorithm | None:
        """The algorithm `native` on this backend's threads; None without the compiled library."""
        return compiled(self.workers) if native.library() else None

    @property
    def workers(self) -> int:
        """How many threads share work."""
        return self.threads or available()

    def fuses(self) -> tuple[Fuse, ...]:
        """What knows runs of layers to fuse: with the library its passes first, then what the algorithm has."""
        if self.algorithm in ("auto", "native") and self.native:
            return FUSES
        own = self.own_fuses()
        return (*PASSES, *own) if own and native.library() else own

    def own_fuses(self) -> tuple[Fuse, ...]:
        """What knows runs of layers to fuse with this algorithm, without the library."""
        return plain.FUSES if self.algorithm in ("auto", "gemm") else ()

    def rewrite(self, net: Layer) -> Layer:
        if not self.fuses():
            return net
        made = rewrite(self, net, self.fuses())
        return recorded(made) if native.library() else made

    def joins(self, layer: Layer) -> Layer:
        """A layer that joins values, as the compiled library does where it is asked to compute."""
        return joins.native(layer, self.workers) if native.library() and self.fuses() else layer

    def active(self) -> AbstractContextManager[object]:
        """Where this package's threads share out the work without the library, BLAS keeps to the thread that calls it.

        With the library hardly anything calls BLAS; without threads of ours, BLAS's own are welcome. In which order a
        product is summed follows from their number: so blocks of both kinds take turns.
        """
        buffers.limit(self.kept_memory)
        return blas.alone() if self.shares_by_blas and self.workers > 1 else blas.free()

    def at_once(self, net: Layer, weights: Weights, x: Array, run: Run) -> Array | None:
        if x.size > FEW or not isinstance(net, Recorded):
            return None
        buffers.limit(self.kept_memory)
        return net.replayed(weights, x, run)

    @cached_property
    def shares_by_blas(self) -> bool:
        """Whether its own threads, without the library, each call BLAS."""
        return self.fuse and self.own_fuses() is plain.FUSES and self.fuses() is not FUSES

    def metered(self) -> AbstractContextManager[Meter] | None:
        return metering.metered()

    correlate = rounded_once(StridedBackend.correlate)
    correlate_input_adjoint = rounded_once(StridedBackend.correlate_input_adjoint)
    correlate_kernel_adjoint = rounded_once(StridedBackend.correlate_kernel_adjoint)

    def max_pool(self, x: Array, size: Pair, *, stride: Pair, padding: Pads = NO_PADDING) -> tuple[Array, Array]:
        if self.in_passes(x):
            return pooling.max_pool(x, size, stride, padding, self.workers)
        return super().max_pool(x, size, stride=stride, padding=padding)

    @rounded_once
    def max_pool_adjoint(
        self, dy: Array, which: Array, x_shape: Shape, size: Pair, *, stride: Pair, padding: Pads = NO_PADDING
    ) -> Array:
        if self.in_passes(dy):
            return pooling.max_pool_adjoint(dy, which, x_shape, size, stride, padding, self.workers)
        return super().max_pool_adjoint(dy, which, x_shape, size, stride=stride, padding=padding)

    @rounded_once
    def sum_pool(self, x: Array, size: Pair, *, stride: Pair, padding: Pads = NO_PADDING) -> Array:
        if self.in_passes(x):
            return pooling.sum_pool(x, size, stride, padding, self.workers)
        return super().sum_pool(x, size, stride=stride, padding=padding)

    @rounded_once
    def sum_pool_adjoint(
        self, dy: Array, x_shape: Shape, size: Pair, *, stride: Pair, padding: Pads = NO_PADDING
    ) -> Array:
        if self.in_passes(dy):
            return pooling.sum_pool_adjoint(dy, x_shape, size, stride, padding, self.workers)
        return super().sum_pool_adjoint(dy, x_shape, size, stride=stride, padding=padding)

    def in_passes(self, x: Array) -> bool:
        """Whether the compiled library computes with this array."""
        return native.library() is not None and holds(x)

    def correlate2d(self, x: Array, k: Array, mode: PaddingName = "valid") -> Array:
        from scipy.signal import correlate2d  # which takes a second to be imported

        return correlate2d(x, k, mode)

    def convolve2d(self, x: Array, k: Array, mode: PaddingName = "valid") -> Array:
        from scipy.signal import convolve2d

        return convolve2d(x, k, mode)

    def random_bits(self, key: Key, shape: Shape) -> Array:
        return random.bits(key, shape, self.workers)

    def loss_and_gradient(
        self, loss: Loss, threshold: float | None, y: Array, t: Array, loss_scale: Array | None = None
    ) -> tuple[Array, Array, Array | None]:
        fits = self.fuse and loss_scale is None
        at_once = judge.judged(loss, threshold, y, t, self.workers) if fits else None
        return at_once or super().loss_and_gradient(loss, threshold, y, t, loss_scale)

    def update(
        self, optimizer: Optimizer, grads: Weights, state: Weights, weights: Weights
    ) -> tuple[Weights, Weights, Array, Array]:
        at_once = update.update(optimizer, grads, state, weights, self.workers) if self.fuse else None
        return at_once or super().update(optimizer, grads, state, weights)

    def update_lines(
        self,
        optimizer: Optimizer,
        taken: int,
        scale: float,
        olds: Sequence[Sequence[Array]],
        news: Sequence[Sequence[Array]],
    ) -> Sequence[tuple[float, float]] | None:
        if not self.fuse or type(optimizer) not in update.RULES:
            return None
        return update.update_lines(optimizer, taken, scale, olds, news, self.workers)
