"""The JAX backend: how arrays come and go, and what XLA is given."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from math import prod
from typing import Any, ClassVar, cast

import array_api_compat
import jax
import jax.numpy as jnp
import numpy as np

from xcnn.backends.contract import Backend, Step
from xcnn.backends.explanation import Explanation, explained
from xcnn.core import memory, reference
from xcnn.core.aligned import aligned
from xcnn.core.arrays import unmasked
from xcnn.core.process import Survivor
from xcnn.core.random import Key
from xcnn.core.reference import NO_PADDING
from xcnn.core.types import Array, PaddingName, Pads, Pair, Shape, Weights
from xcnn.core.windows import output_size
from xcnn.errors import BackendUnavailable, DeviceMemoryError, DTypeError
from xcnn.layers.layer import Layer
from xcnn.training.losses import Loss
from xcnn.training.precision import Precision
from xcnn_jax import convolution, losses, pooling, random
from xcnn_jax.compiled import CompiledStep, Forward
from xcnn_jax.how import How
from xcnn_jax.norms import norm_of


def started() -> bool:
    """Whether JAX has begun to use a device in this process."""
    bridge = sys.modules.get("jax._src.xla_bridge")
    return bool(getattr(bridge, "backends_are_initialized", bool)())


THREADS = Survivor("JAX", started=started)


@dataclass(frozen=True, repr=False)
class JaxBackend(Backend):
    """JAX's arrays on one device: "jax" is JAX's first one, "jax:cpu", "jax:gpu:1" and "jax:tpu" name others.

    Parameters
    ----------
    compiles
        whether XLA compiles training steps and forward passes as a whole
    tf32
        whether products of float32 numbers may be rounded as the device's fastest are: TF32 on GPUs, bfloat16 on TPUs
    """

    compiles: bool = True
    tf32: bool = False

    name: ClassVar[str] = "jax"
    library: ClassVar[str] = "jaxlib"
    precisions: ClassVar[tuple[str, ...]] = ("float32", "tf32", "bfloat16", "float16", "float64")

    def __post_init__(self) -> None:
        super().__post_init__()
        THREADS.check()
        found = device_named(self.device)
        object.__setattr__(self, "device", None if found is jax.devices()[0] else name_of(found))

    @classmethod
    def of(cls, x: Array) -> Backend:
        return cls(name_of(next(iter(x.devices()))))

    @property
    def place(self) -> jax.Device:
        """JAX's own object for `device`."""
        return device_named(self.device)

    @property
    def xp(self) -> Any:
        return jnp

    def active(self) -> AbstractContextManager[object]:
        THREADS.check()
        return computing(self.place, self.products)

    def asarray(self, x: Any, dtype: str | None = None) -> Array:
        if array_api_compat.is_array_api_obj(x) and not isinstance(x, np.ndarray | np.generic | jax.Array):
            raise DTypeError(
                "X103",
                f"a {type(x).__name__} is neither a host array nor JAX's.",
                hint="other.to_numpy(x) brings it to the host.",
            )
        with self.active():
            if isinstance(x, jax.Array):
                return jax.device_put(x if dtype is None else x.astype(dtype), self.place)
            # jnp.asarray compiles a program for each new shape; what is put takes the bytes over: those of a copy
            host = np.asarray(unmasked(x))
            if host.dtype.hasobject:
                return jax.device_put(host)  # which says that it has no such type
            there = aligned(host.shape, dtype or host.dtype)
            np.copyto(there, host, casting="unsafe")
            return jax.device_put(there)

    def adopted(self, x: np.ndarray[Any, Any]) -> Array:
        with self.active():  # where they are aligned, JAX takes the bytes of the host over
            return jax.device_put(x, self.place)

    def to_numpy(self, x: Array) -> np.ndarray[Any, Any]:
        THREADS.check()  # it may wait for x to be computed
        return np.asarray(x)

    @property
    def precisions_here(self) -> tuple[str, ...]:
        return tuple(name for name in self.precisions if name != "tf32" or not self.on_processor)

    def with_precision(self, precision: Precision) -> Backend:
        super().with_precision(precision)
        return replace(self, tf32=precision.name == "tf32")

    @property
    def cells_at_once(self) -> int:
        return super().cells_at_once if self.on_processor else 2**31

    def free_memory(self) -> int | None:
        if self.on_processor:
            return memory.free()
        told = self.place.memory_stats() or {}
        return told["bytes_limit"] - told["bytes_in_use"] if "bytes_limit" in told else None

    def synchronize(self) -> None:
        for array in jax.live_arrays():  # type: ignore[no-untyped-call]
            array.block_until_ready()

    def versions(self) -> dict[str, str]:
        return {"jax": jax.__version__, "jaxlib": version("jaxlib")}

    def device_name(self) -> str:
        return str(self.place.device_kind)

    def explain(
        self, x_shape: Shape, k_shape: Shape, stride: Pair, padding: Pads, dilation: Pair, groups: int
    ) -> Explanation:
        output = output_size(x_shape[2:], (k_shape[2], k_shape[3]), stride, padding, dilation)
        return explained(
            x_shape, k_shape, stride, padding, dilation,
            algorithm="lax",
            reason="XLA compiles one convolution, with the channels last; how, is its own affair.",
            cells=prod(x_shape) + x_shape[0] * k_shape[0] * prod(output),
        )  # fmt: skip

    # Primitives.

    @property
    def products(self) -> str:
        """How exactly XLA multiplies float32 numbers."""
        return "default" if self.tf32 else "highest"

    @property
    def on_processor(self) -> bool:
        """Whether that is the host's."""
        return bool(self.place.platform == "cpu")

    def how(self, stride: Pair, padding: Pads, dilation: Pair, groups: int) -> How:
        """These options, and how XLA multiplies here."""
        return How(stride, padding, dilation, groups, self.products, self.on_processor)

    def correlate(
        self,
        x: Array,
        k: Array,
        *,
        stride: Pair = (1, 1),
        padding: Pads = NO_PADDING,
        dilation: Pair = (1, 1),
        groups: int = 1,
    ) -> Array:
        how = self.how(stride, padding, dilation, groups)
        return convolution.correlate(x, k, how)

    def correlate_input_adjoint(
        self,
        dy: Array,
        k: Array,
        x_shape: Shape,
        *,
        stride: Pair = (1, 1),
        padding: Pads = NO_PADDING,
        dilation: Pair = (1, 1),
        groups: int = 1,
    ) -> Array:
        how = self.how(stride, padding, dilation, groups)
        return convolution.correlate_input_adjoint(dy, k, x_shape, how)

    def correlate_kernel_adjoint(
        self,
        x: Array,
        dy: Array,
        k_shape: Shape,
        *,
        stride: Pair = (1, 1),
        padding: Pads = NO_PADDING,
        dilation: Pair = (1, 1),
        groups: int = 1,
    ) -> Array:
        how = self.how(stride, padding, dilation, groups)
        return convolution.correlate_kernel_adjoint(x, dy, k_shape, how)

    def correlate2d(self, x: Array, k: Array, mode: PaddingName = "valid") -> Array:
        return convolution.plane(reference.correlate2d, x, k, mode, self.products)

    def convolve2d(self, x: Array, k: Array, mode: PaddingName = "valid") -> Array:
        return convolution.plane(reference.convolve2d, x, k, mode, self.products)

    def max_pool(self, x: Array, size: Pair, *, stride: Pair, padding: Pads = NO_PADDING) -> tuple[Array, Array]:
        y, which = pooling.max_pool(x, size=size, stride=stride, padding=padding)
        return y, which

    def max_pool_adjoint(
        self, dy: Array, which: Array, x_shape: Shape, size: Pair, *, stride: Pair, padding: Pads = NO_PADDING
    ) -> Array:
        return pooling.max_pool_adjoint(dy, which, x_shape=x_shape, size=size, stride=stride, padding=padding)

    def sum_pool(self, x: Array, size: Pair, *, stride: Pair, padding: Pads = NO_PADDING) -> Array:
        return pooling.sum_pool(x, size=size, stride=stride, padding=padding)

    def sum_pool_adjoint(
        self, dy: Array, x_shape: Shape, size: Pair, *, stride: Pair, padding: Pads = NO_PADDING
    ) -> Array:
        return pooling.sum_pool_adjoint(dy, x_shape=x_shape, size=size, stride=stride, padding=padding)

    def random_bits(self, key: Key, shape: Shape) -> Array:
        with self.active():
            return random.bits(key, shape)

    # Seams.

    def rewrite(self, net: Layer) -> Layer:
        return Forward(net) if self.compiles else net

    def compile(self, step: Step) -> Step:
        return cast("Step", CompiledStep(self, cast("Any", step)))

    def norm(self, grads: Weights) -> Array:
        return norm_of(grads) if self.on_processor else super().norm(grads)

    def loss_and_gradient(
        self, loss: Loss, threshold: float | None, y: Array, t: Array, loss_scale: Array | None = None
    ) -> tuple[Array, Array, Array | None]:
        judge = super().loss_and_gradient
        compiled = losses.loss_and_gradient(judge, loss, threshold, y, t, loss_scale) if self.compiles else None
        return compiled or judge(loss, threshold, y, t, loss_scale)


@contextmanager
def computing(place: jax.Device, products: str) -> Iterator[None]:
    """JAX with 64-bit numbers, on this device, with products as exact as this; where memory runs out, told as X304."""
    try:
        with jax.enable_x64(True), jax.default_device(place), jax.default_matmul_precision(products), promoting():
            yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise DeviceMemoryError(
            "X304", f"{place.device_kind} has no memory left for this step.", hint="try a smaller batch_size."
        ) from error


def promoting() -> AbstractContextManager[object]:
    """JAX's usual rules for arrays of several types and ranks, where the user has set stricter ones."""
    config, block = jax.config, ExitStack()
    if config.jax_numpy_dtype_promotion != "standard":  # type: ignore[attr-defined]
        block.enter_context(jax.numpy_dtype_promotion("standard"))
    if config.jax_numpy_rank_promotion != "allow":  # type: ignore[attr-defined]
        block.enter_context(jax.numpy_rank_promotion("allow"))
    return block


def device_named(name: str | None) -> jax.Device:
    """JAX's device of the name "cpu", "gpu:1", "tpu"; its first one for None.

    Raises
    ------
    BackendUnavailable
        X302, where JAX has none.
    """
    if name is None:
        return jax.devices()[0]
    platform, _, number = str(name).partition(":")
    try:
        devices = jax.devices(platform)
    except RuntimeError as error:
        have = ", ".join(sorted({one.platform for one in jax.devices()}))
        raise BackendUnavailable(
            "X302",
            f"JAX {jax.__version__} has no device {name!r}: it sees {have} here.",
            hint='for NVIDIA GPUs: pip install "jax[cuda13]".' if platform in ("gpu", "cuda") else "",
        ) from error
    if number and not (number.isdecimal() and int(number) < len(devices)):
        raise BackendUnavailable("X302", f"JAX sees {platform} devices 0 to {len(devices) - 1}, but no {name!r}.")
    return devices[int(number or 0)]


def name_of(device: jax.Device) -> str:
    """What `device_named` takes for this device."""
    number = jax.devices(device.platform).index(device)
    return device.platform if number == 0 else f"{device.platform}:{number}"
