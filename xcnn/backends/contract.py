"""What a backend is: the contract that every plug-in keeps.

A backend is a value: a library's arrays on one device, with its options. It begins as the reference implementation of
every primitive and overrides only what it makes faster, under the same signature. Plug-ins are found by the entry
point group "xcnn.backends" and imported when they are first asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
from array_api_compat import device as device_of

from xcnn.backends.explanation import Explanation, explained
from xcnn.core import memory, process, random, reference
from xcnn.core.arrays import namespace
from xcnn.core.checks import check_flag
from xcnn.core.types import Array, PaddingName, Pads, Pair, Shape, Weights
from xcnn.errors import OptionError, short
from xcnn.training import loss_scaling
from xcnn.training.losses import Loss, count_correct, ignored, value_and_gradient
from xcnn.training.optimizers import Composite, Optimizer, global_norm, weight_norm
from xcnn.training.precision import Precision

if TYPE_CHECKING:
    from xcnn.layers.layer import Layer, Run

log: logging.Logger = logging.getLogger("xcnn")
Step = TypeVar("Step", bound=Callable[..., Any])


@dataclass(frozen=True)
class Backend:
    """A library's arrays on one device, and the primitives that run on them.

    A plug-in derives from this class, sets `name` and `library`, says in `xp`, `asarray` and `to_numpy` how its
    arrays come and go, and overrides the primitives that it makes faster. `xcnn.testing.check_backend` holds it to
    the reference. A constructor raises BackendUnavailable, with the reason as a sentence, where it can't run.

    Parameters
    ----------
    device
        what the library calls it; None is its default. The 1 of "cupy:1".
    algorithm
        one of `algorithms`
    fuse
        whether `rewrite` may replace runs of layers by faster ones

    Raises
    ------
    BackendUnavailable
        X302, where it can't run here, with the reason.
    OptionError
        X104, for an option that it can't have.

    Examples
    --------
    >>> backend = xcnn.backend("numpy", algorithm="literal")
    >>> backend.name, backend.algorithm, isinstance(backend, xcnn.Backend)
    ('numpy', 'literal', True)
    """

    device: str | None = None
    algorithm: str = "auto"
    fuse: bool = True

    name: ClassVar[str] = "reference"
    library: ClassVar[str] = ""
    """The package that this backend's array type comes from."""
    first_device: ClassVar[str] = "cpu"
    """What the library calls its first device: naming it is the same as naming none."""
    algorithms: ClassVar[tuple[str, ...]] = ("auto",)
    precisions: ClassVar[tuple[str, ...]] = ("float32", "float64")
    """Those of xcnn.training.precision.PRECISIONS that it computes in."""

    def __post_init__(self) -> None:
        named = None if self.device is None else str(self.device)
        object.__setattr__(self, "device", None if named == self.first_device else named)
        if self.algorithm not in self.algorithms:
            raise OptionError(
                "X104",
                f'backend "{self.name}" has no algorithm {short(self.algorithm)}.',
                hint="use one of " + ", ".join(self.algorithms) + ".",
            )
        for option in fields(self):
            if option.type in (bool, "bool"):
                check_flag(option.name, getattr(self, option.name))

    # Arrays come and go.

    @property
    def xp(self) -> Any:
        """The array API namespace."""
        raise NotImplementedError

    def asarray(self, x: Any, dtype: str | None = None) -> Array:
        """A host array, list or number as an array of this backend; `dtype` is a name such as "float32"."""
        raise NotImplementedError

    def to_numpy(self, x: Array) -> np.ndarray[Any, Any]:
        """An array of this backend as a NumPy array on the host."""
        raise NotImplementedError

    def adopted(self, x: np.ndarray[Any, Any]) -> Array:
        """A host array that nobody else holds or will write as one of this backend, on the same memory if it can be."""
        return self.asarray(x)

    def to_number(self, x: Array) -> float:
        """A scalar array of this backend as a number."""
        return float(self.to_numpy(x))

    def frozen(self, x: Array) -> Array:
        """A weight that nobody changes in place, so that what is made of it may be kept; itself by default."""
        return x

    def shown(self, x: Array, path: str) -> Array:
        """A weight as its model shows it to users: on the same memory, read-only where the library can do that."""
        return x

    def from_other(self, x: Array, source: Backend) -> Array:
        """An array of another backend as one of this.

        Where both hold their arrays on one device it is the same memory, by DLPack: nothing is copied, and a change in
        place by one library is seen by the other. Elsewhere, and where a library refuses that (an address that it would
        not have chosen, memory that must not be written, a type that DLPack does not have), it is a copy by way of the
        host.
        """
        if shares(x, self.asarray(0.0)):
            try:
                with self.active():
                    return self.xp.from_dlpack(x)
            except Exception:  # each library has its own errors for what it refuses
                log.debug("%s takes no memory of %s's", self.name, source.name, exc_info=True)
        return self.asarray(source.to_numpy(x))

    def astype(self, x: Array, dtype: str) -> Array:
        """A floating-point array of this backend in the type of this name; x itself where it has that."""
        xp = namespace(x)
        return xp.astype(x, getattr(xp, dtype), copy=False)

    @classmethod
    def of(cls, x: Array) -> Backend:
        """The backend of this class on the device of one of its arrays."""
        return cls()

    def active(self) -> AbstractContextManager[object]:
        """For a `with` block around calls of layers: compute on this backend's device, under its rules.

        Numbers that overflow, or are too small for their type, are then what the type has for them, whatever the
        process has told NumPy (np.errstate): many libraries compute with it. Blocks of several threads overlap: what is
        set for one must stand that (process.py).
        """
        return process.Computing()

    def at_once(self, net: Layer, weights: Weights, x: Array, run: Run) -> Array | None:
        """The output for samples on the host, without `active`; None where it can't be, or x is not finite.

        For small nets, of which the block takes a part that is seen.
        """
        return None

    def synchronize(self) -> None:
        """Wait until the device has done what it was given."""

    @property
    def cells_at_once(self) -> int:
        """Cells that a batch makes of all layers when predictions are fast: more gain less than 5 %, on two cores."""
        return 2**27

    def metered(self) -> AbstractContextManager[memory.Meter] | None:
        """A block in which the memory of this backend's arrays is counted: see memory.py; None where it can't be."""
        return None

    def free_memory(self) -> int | None:
        """Bytes that are free for arrays, the host's unless the device has its own; None where nobody tells."""
        return memory.free() if (self.device or self.first_device) == "cpu" else None

    @property
    def precisions_here(self) -> tuple[str, ...]:
        """Those of `precisions` that this device computes in."""
        return self.precisions

    def with_precision(self, precision: Precision) -> Backend:
        """The backend that a model computes with in this precision: by default this one itself.

        Raises
        ------
        OptionError
            X104, where it has no such precision.
        """
        here = self.precisions_here
        if precision.name not in here:
            raise OptionError(
                "X104",
                f'backend "{self.spec}" does not compute in {precision.name}; it has {", ".join(here)}.',
                hint=f'use precision="{precision.dtype}".',
            )
        return self

    @property
    def spec(self) -> str:
        """What `backend()` takes to make this one: "numpy", "cupy:1"."""
        return self.name if self.device is None else f"{self.name}:{self.device}"

    def versions(self) -> dict[str, str]:
        """Versions of the libraries beneath, and the instruction set of kernels that are compiled for several."""
        return {}

    def device_name(self) -> str:
        """The device in words."""
        return self.device or self.first_device

    def __repr__(self) -> str:
        options = "".join(
            f", {f.name}={getattr(self, f.name)!r}" for f in fields(self)[1:] if not is_default(self, f.name)
        )
        return f"xcnn.backend({self.spec!r}{options})"

    # Primitives: see reference.py.

    correlate: ClassVar[staticmethod[..., Array]] = staticmethod(reference.correlate)
    correlate_input_adjoint: ClassVar[staticmethod[..., Array]] = staticmethod(reference.correlate_input_adjoint)
    correlate_kernel_adjoint: ClassVar[staticmethod[..., Array]] = staticmethod(reference.correlate_kernel_adjoint)
    max_pool: ClassVar[staticmethod[..., tuple[Array, Array]]] = staticmethod(reference.max_pool)
    max_pool_adjoint: ClassVar[staticmethod[..., Array]] = staticmethod(reference.max_pool_adjoint)
    sum_pool: ClassVar[staticmethod[..., Array]] = staticmethod(reference.sum_pool)
    sum_pool_adjoint: ClassVar[staticmethod[..., Array]] = staticmethod(reference.sum_pool_adjoint)

    def correlate2d(self, x: Array, k: Array, mode: PaddingName = "valid") -> Array:
        """One kernel slid over one plane: by default by `correlate`."""
        return reference.correlate2d(x, k, mode, self.correlate)

    def convolve2d(self, x: Array, k: Array, mode: PaddingName = "valid") -> Array:
        """The same with the kernel rotated by 180 degrees."""
        return reference.convolve2d(x, k, mode, self.correlate)

    def random_bits(self, key: random.Key, shape: Shape) -> Array:
        """Random whole numbers 0 .. 2^32 - 1, the same for a key on every backend (random.py)."""
        return random.bits(self.xp, device_of(self.asarray(0.0)), key, shape)

    def explain(
        self, x_shape: Shape, k_shape: Shape, stride: Pair, padding: Pads, dilation: Pair, groups: int
    ) -> Explanation:
        """How `correlate` and its adjoints are computed for images and kernels of these shapes, and why so."""
        return explained(
            x_shape, k_shape, stride, padding, dilation,
            algorithm="reference",
            reason="one product of matrices for each cell of the kernel.",
            cells=reference.workspace(x_shape, k_shape, stride, padding, dilation),
        )  # fmt: skip

    # Seams for speed that spans layers and steps.

    def rewrite(self, net: Layer) -> Layer:
        """Replace runs of layers by fused ones with the same weights, outputs and gradients; by default none."""
        return net

    def compile(self, step: Step) -> Step:
        """Compile or capture a training step; by default leave it alone."""
        return step

    def loss_and_gradient(
        self, loss: Loss, threshold: float | None, y: Array, t: Array, loss_scale: Array | None = None
    ) -> tuple[Array, Array, Array | None]:
        """The loss's value and gradient, and with the threshold of a classifier's loss how many samples are right.

        The gradient is multiplied by the loss's scale, where there is one (loss_scaling.py).
        """
        value, dy = value_and_gradient(loss, y, t)
        right = None if threshold is None else count_correct(y, t, threshold, ignored(loss))
        return value, dy if loss_scale is None else dy * loss_scale, right

    def update(
        self, optimizer: Optimizer, grads: Weights, state: Weights, weights: Weights
    ) -> tuple[Weights, Weights, Array, Array]:
        """The optimizer's new weights and state, the norm of the gradients before clipping, that of the new weights.

        A norm is a scalar array or a number, and not finite where an array is not; that of the weights is NaN where a
        moment is not finite. Where the state has a loss_scale, the gradients are scaled by it: see loss_scaling.py.
        """
        if loss_scaling.entries_of(state):
            return loss_scaling.update(optimizer, grads, state, weights)
        if isinstance(optimizer, Composite):
            return optimizer.update_by(self.update, grads, state, weights)
        weights, state = optimizer.update(grads, state, weights)
        return weights, state, self.norm(grads), weight_norm(weights, state, optimizer.shown)

    def update_lines(
        self,
        optimizer: Optimizer,
        taken: int,
        scale: float,
        olds: Sequence[Sequence[Array]],
        news: Sequence[Sequence[Array]],
    ) -> Sequence[tuple[float, float]] | None:
        """Write what an optimizer makes of arrays of one axis after so many steps, each cell by itself.

        Of [(weight, gradient, *moments)] the gradients times a scale make [(new weight, *new moments)]. It gives the
        sums of squares of each gradient, unscaled, and of each new weight, which is not finite where a moment is not;
        of an array that stands alone, with nothing to be written, its own as the second. None, always, where the
        optimizer looks at more than a cell, or the backend can't write.
        """
        return None

    def norm(self, grads: Weights) -> Array:
        """The norm of all gradients together, as `xcnn.optimizers.global_norm` has it."""
        return global_norm(grads)


def shares(x: Array, y: Array) -> bool:
    """Whether another library may take over x's memory: on one device, as DLPack numbers them, and without gaps.

    At reversed axes, which DLPack allows, PyTorch ends the process.
    """
    try:
        dense = x.is_contiguous() if hasattr(x, "is_contiguous") else getattr(x, "flags", DENSE).c_contiguous
        return bool(dense and x.__dlpack_device__() == y.__dlpack_device__())
    except Exception:  # an array that has no such method, or no device yet
        return False


DENSE = SimpleNamespace(c_contiguous=True)
"""Of arrays whose library has no others."""


def is_default(value: Any, name: str) -> bool:
    """Whether a dataclass instance's field has its default value."""
    default = {f.name: f.default for f in fields(value)}[name]
    return bool(getattr(value, name) == default)
