"""The PyTorch backend: how tensors come and go, and what computes on them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from typing import Any, ClassVar, cast

import array_api_compat
import numpy as np
import torch
from xcnn_host import buffers
from xcnn_strided.fusion import rewrite

from xcnn.backends.contract import Backend, Step
from xcnn.backends.explanation import Explanation
from xcnn.core import memory
from xcnn.core.arrays import unmasked
from xcnn.core.checks import check_whole
from xcnn.core.process import Survivor
from xcnn.core.random import Key, bits
from xcnn.core.types import Array, Pads, Pair, Shape, Weights
from xcnn.errors import BackendUnavailable, DTypeError, OptionError
from xcnn.layers.layer import Layer
from xcnn.training.loss_scaling import entries_of
from xcnn.training.losses import Loss
from xcnn.training.optimizers import Optimizer
from xcnn.training.precision import Precision
from xcnn.training.step import TrainingStep
from xcnn_torch import convolution, metering, pooling, random, update
from xcnn_torch import loss as losses
from xcnn_torch.capture import CapturedStep, CudaGraphs
from xcnn_torch.explain import explain
from xcnn_torch.from_host import bfloat16, from_host
from xcnn_torch.fused import FUSES
from xcnn_torch.precision import float32_as, undisturbed
from xcnn_torch.recorded import RecordedStep

LACKING = {"cpu": ("tf32",), "mps": ("tf32", "float64")}
"""The precisions that a kind of device does not compute in."""
THREADS = Survivor("PyTorch", ", or let the child call torch.set_num_threads(1) first")


def check_threads() -> None:
    """Raise X308 where PyTorch would wait for threads that a fork has lost; on one thread it waits for none."""
    if not THREADS.lost or torch.get_num_threads() > 1:
        THREADS.check()


@dataclass(frozen=True, repr=False)
class TorchBackend(Backend):
    """PyTorch's tensors on one device: "torch" is the CPU, "torch:cuda:1" the second GPU, "torch:mps" an Apple GPU.

    Parameters
    ----------
    tf32
        whether products of float32 numbers may be rounded to TF32's 10 bits on CUDA; without it float32 is strict,
        whatever PyTorch's switches say
    compiles
        whether training steps are captured as CUDA graphs on CUDA, and on the CPU run as straight-line code
    kept_memory
        MiB on the host that the process keeps for the next tensors at most, until its last model is gone; 0 keeps none.
        By default
        512, and more where that is asked for again
    """

    tf32: bool = False
    compiles: bool = True
    kept_memory: int | None = None

    name: ClassVar[str] = "torch"
    library: ClassVar[str] = "torch"
    precisions: ClassVar[tuple[str, ...]] = ("float32", "tf32", "bfloat16", "float16", "float64")

    def __post_init__(self) -> None:
        device = None if self.device is None else found(str(self.device))
        object.__setattr__(self, "device", device)
        super().__post_init__()
        if self.kept_memory is not None:
            check_whole("kept_memory", self.kept_memory, least=0)
        if self.tf32 and self.place.type != "cuda":
            raise OptionError("X104", f"there is no TF32 on {self.place}.", hint="leave tf32 out.")

    @classmethod
    def of(cls, x: Array) -> Backend:
        return cls(str(x.device))

    @cached_property
    def place(self) -> torch.device:
        """PyTorch's own object for `device`."""
        return torch.device(self.device or "cpu")

    @property
    def xp(self) -> Any:
        return import_module("array_api_compat.torch")

    def asarray(self, x: Any, dtype: str | None = None) -> Array:
        if type(x) is np.ndarray and dtype is None and self.place.type == "cpu":
            return from_host(x)
        if not isinstance(x, torch.Tensor):
            if not isinstance(x, np.ndarray | np.generic) and array_api_compat.is_array_api_obj(x):
                raise DTypeError(
                    "X103",
                    f"a {type(x).__name__} is neither a host array nor PyTorch's.",
                    hint="other.to_numpy(x) brings it to the host.",
                )
            x = from_host(np.asarray(unmasked(x)))
            if dtype is None and self.place.type == "cpu":
                return x
        check_threads()
        return x.detach().to(self.place, None if dtype is None else getattr(torch, dtype))

    def astype(self, x: Array, dtype: str) -> Array:
        return x.to(getattr(torch, dtype))

    def to_numpy(self, x: Array) -> np.ndarray[Any, Any]:
        x = x.detach().cpu() if x.requires_grad or not x.is_cpu else x
        if x.dtype is torch.bfloat16:
            return self.to_numpy(x.view(torch.int16)).view(bfloat16())
        host: np.ndarray[Any, Any] = x.numpy()
        return host

    def to_number(self, x: Array) -> float:
        return float(x.item())

    def active(self) -> AbstractContextManager[object]:
        check_threads()
        buffers.limit(self.kept_memory)
        block = self.on_cuda() if self.place.type == "cuda" else float32_as(self.place.type, tf32=False)
        return undisturbed(self.place, block)

    @contextmanager
    def on_cuda(self) -> Iterator[None]:
        """For a block: CUDA's current device, and what float32 means on it."""
        with torch.cuda.device(self.place), float32_as("cuda", self.tf32):
            yield

    @property
    def cells_at_once(self) -> int:
        return super().cells_at_once if self.place.type == "cpu" else 2**31

    def metered(self) -> AbstractContextManager[memory.Meter] | None:
        if self.place.type == "cuda":
            return metering.on_cuda(self.place)
        return metering.on_host() if self.place.type == "cpu" else None

    def free_memory(self) -> int | None:
        return torch.cuda.mem_get_info(self.place)[0] if self.place.type == "cuda" else super().free_memory()

    def synchronize(self) -> None:
        if self.place.type == "cuda":
            torch.cuda.synchronize(self.place)
        elif self.place.type == "mps":
            torch.mps.synchronize()

    @property
    def precisions_here(self) -> tuple[str, ...]:
        return tuple(name for name in self.precisions if name not in LACKING.get(self.place.type, ()))

    def with_precision(self, precision: Precision) -> Backend:
        """The same backend, computing float32 strictly or as TF32."""
        super().with_precision(precision)
        return replace(self, tf32=precision.name == "tf32")

    def versions(self) -> dict[str, str]:
        return {"torch": torch.__version__}

    def device_name(self) -> str:
        return torch.cuda.get_device_name(self.place) if self.place.type == "cuda" else str(self.place)

    def explain(
        self, x_shape: Shape, k_shape: Shape, stride: Pair, padding: Pads, dilation: Pair, groups: int
    ) -> Explanation:
        return explain(self.place, x_shape, k_shape, stride, padding, dilation, groups)

    # Primitives.

    correlate = staticmethod(convolution.correlate)
    correlate_input_adjoint = staticmethod(convolution.correlate_input_adjoint)
    correlate_kernel_adjoint = staticmethod(convolution.correlate_kernel_adjoint)
    max_pool = staticmethod(pooling.max_pool)
    max_pool_adjoint = staticmethod(pooling.max_pool_adjoint)
    sum_pool = staticmethod(pooling.sum_pool)
    sum_pool_adjoint = staticmethod(pooling.sum_pool_adjoint)

    def random_bits(self, key: Key, shape: Shape) -> Array:
        if self.place.type != "cpu" or random.is_counted(key):
            return bits(self.xp, self.place, key, shape)
        return random.bits(key, shape)

    def kept(self, key: Key, shape: Shape, rate: float, dtype: torch.dtype) -> Array:
        """Dropout's mask: 0 for the cells that are left out, else 1 / (1 - rate)."""
        if self.place.type != "cpu" or random.is_counted(key) or dtype not in (torch.float32, torch.float64):
            return (self.random_bits(key, shape) >= int(rate * 2**32)).to(dtype) / (1 - rate)
        return random.mask(key, shape, rate, dtype)

    # Seams.

    def rewrite(self, net: Layer) -> Layer:
        return rewrite(self, net, FUSES)

    def compile(self, step: Step) -> Step:
        """On CUDA a step captured as a graph, on the CPU one that is written down; elsewhere the step itself."""
        whole = cast("TrainingStep", step)
        if self.place.type == "cuda":
            return cast("Step", CapturedStep(self, whole, CudaGraphs(self.place)))
        return cast("Step", RecordedStep(self, whole)) if self.place.type == "cpu" else step

    def loss_and_gradient(
        self, loss: Loss, threshold: float | None, y: Array, t: Array, loss_scale: Array | None = None
    ) -> tuple[Array, Array, Array | None]:
        if self.fuse and losses.fits(loss, y, t):
            value, dy, right = losses.judged(y, t, counts=threshold is not None)
            return value, dy if loss_scale is None else dy * loss_scale, right
        value, dy, right = super().loss_and_gradient(loss, threshold, y, t, loss_scale)
        if dy.dtype != y.dtype:  # PyTorch's products take no two types
            raise DTypeError(
                "X103",
                f"the loss gives gradients of {dy.dtype} for outputs of {y.dtype}.",
                hint="let a loss of yours compute in the type of y.",
            )
        return value, dy, right

    def update(
        self, optimizer: Optimizer, grads: Weights, state: Weights, weights: Weights
    ) -> tuple[Weights, Weights, Array, Array]:
        at_once = None
        if self.fuse and not entries_of(state):
            at_once = update.update(optimizer, grads, state, weights)
        return at_once or super().update(optimizer, grads, state, weights)


def found(device: str) -> str:
    """PyTorch's full name of a device, "cuda" being "cuda:0".

    Raises
    ------
    BackendUnavailable
        X302, where PyTorch has no such device, or can't use it.
    """
    try:
        place = torch.device(device)
        if place.type not in ("cpu", "cuda", "mps") or (place.type != "cuda" and place.index):
            raise RuntimeError("devices are cpu, cuda, cuda:1, ... and mps.")
        there = torch.empty(1, device=place).device
        return str(there) if there.type == "cuda" else there.type
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = " ".join(str(error).split("\n")[0].split())
        raise BackendUnavailable("X302", f"PyTorch {torch.__version__} can't use {device!r}: {reason}") from error
