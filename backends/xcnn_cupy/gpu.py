"""The CuPy backend but for CuPy itself: which algorithm runs, what is fused, how a training step is put together.

It is written against a Device, and so is rehearsed on the host by the tests; backend.py adds CuPy's arrays.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import ClassVar, cast

from xcnn_strided import Algorithm, StridedBackend
from xcnn_strided.fusion import rewrite

from xcnn.backends.contract import Backend, Step
from xcnn.backends.explanation import Explanation
from xcnn.core.checks import check_whole
from xcnn.core.random import Key
from xcnn.core.reference import NO_PADDING
from xcnn.core.types import Array, Pads, Pair, Shape, Weights
from xcnn.layers.layer import Layer
from xcnn.training.losses import Loss, loss_name
from xcnn.training.optimizers import Optimizer
from xcnn.training.precision import Precision
from xcnn.training.step import TrainingStep
from xcnn_cupy import loss as losses
from xcnn_cupy import pooling, random, update
from xcnn_cupy.algorithms import Auto
from xcnn_cupy.capture import CapturedStep, NotCaptured, Recording
from xcnn_cupy.convolutions import Convolutions
from xcnn_cupy.device import MOST_AXES, MOST_CELLS, Device, is_channels_last
from xcnn_cupy.explain import explain
from xcnn_cupy.fused import FUSES
from xcnn_cupy.fused.prepared import prepared
from xcnn_cupy.gemm import CudaGemm
from xcnn_cupy.kernels.instances import FLOATS
from xcnn_cupy.layout import converted
from xcnn_cupy.products import Products
from xcnn_cupy.rows import Rows

FLOAT32 = 4
"""Bytes."""


@dataclass(frozen=True, repr=False)
class GpuBackend(StridedBackend):
    """Arrays on one GPU.

    Parameters
    ----------
    tf32
        whether products of float32 numbers may be rounded to TF32's 10 bits, as PyTorch's switches allow; without it
        float32 is strict
    deterministic
        whether equal inputs give equal bits in every run, for which some of cuDNN's fast plans are left out
    workspace
        bytes that one convolution may take beside its arrays
    compiles
        whether training steps are captured as CUDA graphs
    """

    tf32: bool = False
    deterministic: bool = False
    workspace: int = 2**28
    compiles: bool = True

    algorithms: ClassVar[tuple[str, ...]] = ("auto", "literal", "gemm", "cudnn")
    precisions: ClassVar[tuple[str, ...]] = ("float32", "tf32", "bfloat16", "float16", "float64")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("workspace", self.workspace, least=0)

    # What a subclass gives.

    @property
    def gpu(self) -> Device:
        """What everything runs on."""
        raise NotImplementedError

    def holds(self, x: Array) -> bool:
        """Whether x is an array of this device's."""
        raise NotImplementedError

    def literal(self) -> Algorithm:
        """The article's correlations by the library's scipy.signal."""
        raise NotImplementedError

    # Precision and algorithms.

    def astype(self, x: Array, dtype: str) -> Array:
        if not self.counts(x) or x.ndim > MOST_AXES:
            return super().astype(x, dtype)
        with self.beside(x):
            return converted(self.gpu, x, dtype, is_channels_last(x))

    @property
    def cells_at_once(self) -> int:
        return 2**31

    def free_memory(self) -> int | None:
        return self.gpu.free_memory()

    def with_precision(self, precision: Precision) -> Backend:
        """The same backend, computing float32 strictly or as TF32."""
        super().with_precision(precision)  # raises X104 where it is not one of `precisions`
        return replace(self, tf32=precision.name == "tf32")

    @cached_property
    def convolutions(self) -> Convolutions:
        """CuDNN's."""
        return Convolutions(self.gpu, self.tf32, self.deterministic, self.workspace)

    @cached_property
    def products(self) -> CudaGemm:
        """Convolutions as products of matrices."""
        return CudaGemm(self.workspace // FLOAT32, self.gpu, self.matrices)

    @cached_property
    def matrices(self) -> Products:
        """Products of matrices by cublasLt."""
        return Products(self.gpu, self.tf32, self.deterministic, self.workspace)

    @cached_property
    def rows(self) -> Rows:
        """The products of dense layers, by the libraries that this algorithm asks."""
        products = None if self.algorithm == "cudnn" else self.matrices
        return Rows(products, self.convolutions if self.asks_cudnn else None)

    @property
    def asks_cudnn(self) -> bool:
        """Whether runs of layers are given to cuDNN."""
        return self.algorithm in ("auto", "cudnn")

    def chosen(
        self, x_shape: Shape, k_shape: Shape, stride: Pair, padding: Pads, dilation: Pair, groups: int
    ) -> Algorithm:
        match self.algorithm:
            case "literal":
                return self.literal()
            case "gemm":
                return self.products
            case "cudnn":
                return self.convolutions
        return Auto(self.convolutions, self.products)

    def explain(
        self, x_shape: Shape, k_shape: Shape, stride: Pair, padding: Pads, dilation: Pair, groups: int
    ) -> Explanation:
        return explain(self, x_shape, k_shape, {"stride": stride, "padding": padding, "dilation": dilation}, groups)

    # Primitives.

    def random_bits(self, key: Key, shape: Shape) -> Array:
        with self.active():
            if prod(shape) > MOST_CELLS:
                return super().random_bits(key, shape)
            return random.random_bits(self.gpu, key, shape)

    def max_pool(self, x: Array, size: Pair, *, stride: Pair, padding: Pads = NO_PADDING) -> tuple[Array, Array]:
        if not self.counts(x):
            return super().max_pool(x, size, stride=stride, padding=padding)
        with self.beside(x):
            return pooling.max_pool(self.gpu, x, size, stride=stride, padding=padding)

    def max_pool_adjoint(
        self, dy: Array, which: Array, x_shape: Shape, size: Pair, *, stride: Pair, padding: Pads = NO_PADDING
    ) -> Array:
        if not self.counts(dy, x_shape):
            return super().max_pool_adjoint(dy, which, x_shape, size, stride=stride, padding=padding)
        with self.beside(dy):
            return pooling.max_pool_adjoint(self.gpu, dy, which, x_shape, size, stride=stride, padding=padding)

    def sum_pool(self, x: Array, size: Pair, *, stride: Pair, padding: Pads = NO_PADDING) -> Array:
        if not self.counts(x):
            return super().sum_pool(x, size, stride=stride, padding=padding)
        with self.beside(x):
            return pooling.sum_pool(self.gpu, x, size, stride=stride, padding=padding)

    def sum_pool_adjoint(
        self, dy: Array, x_shape: Shape, size: Pair, *, stride: Pair, padding: Pads = NO_PADDING
    ) -> Array:
        if not self.counts(dy, x_shape):
            return super().sum_pool_adjoint(dy, x_shape, size, stride=stride, padding=padding)
        with self.beside(dy):
            return pooling.sum_pool_adjoint(self.gpu, dy, x_shape, size, stride=stride, padding=padding)

    def counts(self, x: Array, *shapes: Shape) -> bool:
        """Whether kernels take an array of this type and size, and others of these shapes."""
        return str(x.dtype) in FLOATS and max(x.size, *map(prod, shapes), 0) <= MOST_CELLS

    # Seams.

    def rewrite(self, net: Layer) -> Layer:
        return prepared(self, rewrite(self, net, FUSES))

    def compile(self, step: Step) -> Step:
        return cast("Step", CapturedStep(self, cast("TrainingStep", step)))

    def loss_and_gradient(
        self, loss: Loss, threshold: float | None, y: Array, t: Array, loss_scale: Array | None = None
    ) -> tuple[Array, Array, Array | None]:
        """The loss, its gradient and what is right, for a classifier's losses in two launches."""
        name, options = loss_name(loss), getattr(loss, "keywords", {})
        if name in losses.RULES and set(options) <= {"label_smoothing"} and losses.fits(y, t) and self.holds(y):
            value, dy, right = losses.loss(self.gpu, name, y, t, **options, loss_scale=loss_scale)
        else:
            value, dy, right = super().loss_and_gradient(loss, threshold, y, t, loss_scale)
        if self.recordings:
            if not self.holds(value):
                raise NotCaptured("the loss's value is no array of the device.")
            self.recordings[-1].loss, self.recordings[-1].right = value, right
        return value, dy, right

    def update(
        self, optimizer: Optimizer, grads: Weights, state: Weights, weights: Weights
    ) -> tuple[Weights, Weights, Array, Array]:
        if self.recordings:
            return self.recordings[-1].update(optimizer, grads, state, weights)
        at_once = update.update(self.gpu, optimizer, grads, state, weights) if self.fuse else None
        return at_once or super().update(optimizer, grads, state, weights)

    # Capture.

    @cached_property
    def recordings(self) -> list[Recording]:
        """Of the step that is being captured, if one is."""
        return []

    @contextmanager
    def recording(self, one: Recording) -> Iterator[None]:
        """Let the seams tell of a step that is captured in this block."""
        self.recordings.append(one)
        try:
            yield
        finally:
            self.recordings.pop()
