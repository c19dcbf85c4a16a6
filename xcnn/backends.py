"""What a backend is, and which one runs: the contract, and the selector.

A backend is a value: a library's arrays on one device, with its options. It begins as the reference implementation of
every primitive and overrides only what it makes faster, under the same signature. Plug-ins are found by the entry
point group "xcnn.backends" and imported when they are first asked for.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
from array_api_compat import device as device_of

from xcnn import html, loss_scaling, process, random, reference
from xcnn._arrays import is_floating, namespace
from xcnn._typing import Array, Pads, Pair, Shape, Weights
from xcnn.checks import check_flag
from xcnn.errors import BackendError, BackendUnavailable, DTypeError, OptionError, XcnnError
from xcnn.explain import Explanation, explained
from xcnn.losses import Loss, hits
from xcnn.optimizers import Optimizer, global_norm, reach
from xcnn.precision import Precision, type_name

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from xcnn.layers.layer import Layer

GROUP = "xcnn.backends"
AUTO_ORDER = ("cupy", "numpy")
"""What "auto" tries, best first."""

log = logging.getLogger("xcnn")
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
    """Those of xcnn.precision.PRECISIONS that it computes in."""

    def __post_init__(self) -> None:
        named = None if self.device is None else str(self.device)
        object.__setattr__(self, "device", None if named == self.first_device else named)
        if self.algorithm not in self.algorithms:
            raise OptionError(
                "X104",
                f'backend "{self.name}" has no algorithm {self.algorithm!r}.',
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

    def bring(self, x: Array, source: Backend) -> Array:
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
        return process.computing

    def synchronize(self) -> None:
        """Wait until the device has done what it was given."""

    @property
    def precisions_here(self) -> tuple[str, ...]:
        """Those of `precisions` that this device computes in."""
        return self.precisions

    def under(self, precision: Precision) -> Backend:
        """The backend that a model computes with in this precision: by default this one itself.

        Raises
        ------
        OptionError
            X104, where it has no such precision.
        """
        here = self.precisions_here
        if precision.name not in here:
            others = [f'backend "{name}"' for name in _backends_with(precision.name) if name != self.name]
            raise OptionError(
                "X104",
                f'backend "{self.spec}" does not compute in {precision.name}; it has {", ".join(here)}.',
                hint=" or ".join([f'use precision="{precision.dtype}"', *others]) + ".",
            )
        return self

    @property
    def spec(self) -> str:
        """What `backend()` takes to make this one: "numpy", "cupy:1"."""
        return self.name if self.device is None else f"{self.name}:{self.device}"

    def versions(self) -> dict[str, str]:
        """Versions of the libraries beneath."""
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

    correlate = staticmethod(reference.correlate)
    correlate_input_adjoint = staticmethod(reference.correlate_input_adjoint)
    correlate_kernel_adjoint = staticmethod(reference.correlate_kernel_adjoint)
    max_pool = staticmethod(reference.max_pool)
    max_pool_adjoint = staticmethod(reference.max_pool_adjoint)
    sum_pool = staticmethod(reference.sum_pool)
    sum_pool_adjoint = staticmethod(reference.sum_pool_adjoint)

    def correlate2d(self, x: Array, k: Array, mode: str = "valid") -> Array:
        """One kernel slid over one plane: by default by `correlate`."""
        return reference.correlate2d(x, k, mode, self.correlate)

    def convolve2d(self, x: Array, k: Array, mode: str = "valid") -> Array:
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

    def judge(
        self, loss: Loss, threshold: float | None, y: Array, t: Array, loss_scale: Array | None = None
    ) -> tuple[Array, Array, Array | None]:
        """The loss's value and gradient, and with the threshold of a classifier's loss how many samples are right.

        The gradient is multiplied by the loss's scale, where there is one (loss_scaling.py).
        """
        value, dy = loss(y, t)
        right = None if threshold is None else hits(y, t, threshold)
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
        weights, state = optimizer.update(grads, state, weights)
        return weights, state, global_norm(grads), reach(weights, state)


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


# Selection.

_default: Backend | None = None
_loaded: dict[str, type[Backend]] = {}
_owners: dict[str, type[Backend]] = {}
_told: set[str] = set()


def backend(name: str | Backend = "auto", **options: Any) -> Backend:
    """A backend by name: "auto", "numpy", "strict", "cupy", "cupy:1", "torch", "jax", or any plug-in's.

    Any other array library goes by its module's name, such as "dask.array", with the reference's primitives
    (libraries.py).

    `auto` takes CuPy where a CUDA device answers, else NumPy, and logs which and why. A name that is given never
    falls back. A backend object stands for itself, with these options changed.

    Raises
    ------
    BackendError
        X303, when there is no such backend.
    BackendUnavailable
        X302, when it can't be used here, with the reason.
    OptionError
        X104, when it has no such option, or the option no such value.
    """
    if isinstance(name, Backend):
        _check_options(name.name, type(name), options)
        return replace(name, **options)
    if not isinstance(name, str):
        raise BackendError("X303", f'a backend is a name such as "numpy", or an xcnn.Backend; got {name!r}.')
    if name == "auto":
        return _auto(options)
    try:
        return _make(name, options)
    except BackendUnavailable as error:
        raise BackendUnavailable(
            "X302",
            f'backend "{name}" was asked for; {error.summary}',
            *error.details,
            hint=error.hint or "see `xcnn backends`.",
        ) from error


def set_backend(name: str | Backend, **options: Any) -> Backend:
    """Choose the backend of this process: of every Model and array made from now on that names none."""
    global _default
    _default = backend(name, **options)
    return _default


def get_backend() -> Backend:
    """The backend of this process: what `set_backend` chose, else the variable XCNN_BACKEND, else "auto"."""
    global _default
    if _default is None:
        named = os.environ.get("XCNN_BACKEND", "")
        try:
            _default = backend(named or "auto")
        except (BackendError, BackendUnavailable) as error:
            if named:
                error.details = (*error.details, "the environment variable XCNN_BACKEND names it")
            raise
    return _default


@dataclass(frozen=True)
class BackendInfo:
    """What `available_backends` tells of one backend; `reason` says why it can't be used, `hint` what to do."""

    name: str
    available: bool
    device: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""
    hint: str = ""

    def __str__(self) -> str:
        return "  ".join(self.cells)

    @property
    def cells(self) -> tuple[str, str, str]:
        """Its row of the table: the name, the device, and the versions or the reason."""
        if self.available:
            return self.name, self.device, ", ".join(f"{library} {v}" for library, v in self.versions.items())
        return self.name, "not available", " ".join(filter(None, (self.reason, self.hint)))


class BackendTable(dict[str, BackendInfo]):
    """Backends by name; printed, a line for each."""

    def __repr__(self) -> str:
        rows = [info.cells for info in self.values()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)

    def _repr_html_(self) -> str:
        return html.table(("backend", "device", "versions, or why not"), [info.cells for info in self.values()], 3)


def available_backends() -> BackendTable:
    """Every installed backend by name: its device and versions, or the reason why it can't be used."""
    return BackendTable((name, probe(name)) for name in backend_names())


def backend_names() -> list[str]:
    """The names of the installed backends, none of which is imported for it."""
    return sorted(_entries())


def _backends_with(precision: str) -> list[str]:
    """Installed backends that compute in this precision, whether or not they can be used here."""
    found = []
    for name in backend_names():
        try:
            if precision in _plugin(name).precisions:
                found.append(name)
        except BackendUnavailable:
            continue
    return found


def probe(name: str) -> BackendInfo:
    """What one backend tells of itself, or the reason why it can't be used."""
    try:
        found = _make(name, {})
        return BackendInfo(name, True, found.device_name(), found.versions())
    except BackendUnavailable as error:
        return BackendInfo(name, False, reason=error.summary, hint=error.hint)
    except Exception as error:
        return BackendInfo(name, False, reason=f"it can't be asked: {told_by(error)}")


def backend_of(x: Array) -> Backend:
    """The backend whose library made this array, on the array's device; the reference where no plug-in claims it."""
    library = type(x).__module__.partition(".")[0]
    if library not in _owners:
        _owners[library] = _owner(x, library)
    return _owners[library].of(x)


def _owner(x: Array, library: str) -> type[Backend]:
    for name in sorted(_entries(), key=lambda name: name != library):  # the plug-in of the library's own name first
        try:
            cls = _plugin(name)
        except BackendUnavailable:
            continue
        if cls.library == library:
            return cls
    from xcnn.libraries import library_backend

    try:
        found = library_backend(namespace(x).__name__.removeprefix("array_api_compat."))
        found.of(x)
    except (BackendError, BackendUnavailable, TypeError):
        return Backend
    return found


def _auto(options: dict[str, Any]) -> Backend:
    reasons: list[str] = []
    for name in AUTO_ORDER:
        try:
            _make(name, {})  # is it here at all? only then do its options count
        except (BackendError, BackendUnavailable) as error:
            reasons.append(f"{name}: {error.summary}")
            continue
        chosen = _make(name, options)
        because = f" ({' '.join(reasons)})" if reasons else ""
        _tell(f"backend {chosen.spec} on {chosen.device_name()}{because}")
        return chosen
    raise BackendUnavailable("X302", "no backend can be used here.", *reasons, hint="see `xcnn backends`.")


def _tell(choice: str) -> None:
    """Log a choice the first time that it is made."""
    if choice not in _told:
        _told.add(choice)
        log.info("%s", choice)


def _make(name: str, options: dict[str, Any]) -> Backend:
    """An instance of a plug-in's class. Whatever goes wrong in the plug-in, it can't be used here: X302."""
    kind, _, device = name.partition(":")
    cls = _plugin(kind)
    _check_options(kind, cls, options)
    if device and "device" in options:
        raise OptionError("X104", f"{name!r} names a device, and so does the option device={options['device']!r}.")
    try:
        return cls(device, **options) if device else cls(**options)
    except XcnnError:
        raise
    except Exception as error:
        raise BackendUnavailable("X302", f"it can't be started: {told_by(error)}") from error


def _check_options(name: str, cls: type[Backend], options: dict[str, Any]) -> None:
    known = [f.name for f in fields(cls)]
    for option in options:
        if option not in known:
            raise OptionError(
                "X104", f'backend "{name}" has no option {option!r}.', hint=f"its options are {', '.join(known)}."
            )


def told_by(error: BaseException) -> str:
    """An error of another library in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _entries() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points  # a tenth of the time that `import xcnn` would take

    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _plugin(name: str) -> type[Backend]:
    """Import a plug-in's class, once."""
    if name not in _loaded:
        entries = _entries()
        _loaded[name] = _imported(entries[name]) if name in entries else _by_library(name)
    return _loaded[name]


def _by_library(name: str) -> type[Backend]:
    """The backend of an array library that no plug-in goes by the name of."""
    from xcnn.libraries import library_backend

    if not backend_names():
        raise BackendError("X303", f'there is no backend "{name}".', hint=_installed())
    try:
        return library_backend(name)
    except BackendError as error:
        error.hint = error.hint or _installed()
        raise


def _installed() -> str:
    names = ", ".join(backend_names())
    if not names:
        return "xcnn itself is not installed here: pip install xcnn."
    return f'installed are {names}; other array libraries go by their module, as "dask.array".'


def _imported(entry: EntryPoint) -> type[Backend]:
    try:
        cls = entry.load()
    except BackendUnavailable:
        raise
    except (Exception, SystemExit) as error:
        raise BackendUnavailable("X302", f"it can't be imported: {told_by(error)}") from error
    if not (isinstance(cls, type) and issubclass(cls, Backend)):
        raise BackendUnavailable("X302", f"{entry.value} is no xcnn.Backend but {cls!r}.")
    return cls


# Single planes.


def correlate2d(x: Array, k: Array, mode: str = "valid") -> Array:
    """The article's X * K: one plane (H, W) correlated with one kernel (h, w), by the array's own library.

    scipy.signal runs it for NumPy arrays, cupyx.scipy.signal for CuPy arrays, `correlate` of their backend for others.
    The result has the type of x and k where both have one floating-point type; halves are summed in float32. All else
    that is real is computed in float64: two types give that, whole numbers and bools int64, exact up to 2^53.

    Parameters
    ----------
    mode
        "valid" keeps the kernel inside: (H - h + 1, W - w + 1). "full" takes every overlap: (H + h - 1, W + w - 1).
        "same" is the centre of "full": (H, W).

    Raises
    ------
    ShapeError
        X101 when an array is no plane, X102 when the kernel does not fit into a "valid" correlation.
    BackendError
        X301 when the arrays are of different libraries.
    DTypeError
        X103 for complex numbers, whose correlation has a conjugate or none, and for what are no numbers.
    """
    return _of_planes("correlate2d", x, k, mode)


def convolve2d(x: Array, k: Array, mode: str = "valid") -> Array:
    """One plane convolved with one kernel: `correlate2d` with the kernel rotated by 180 degrees."""
    return _of_planes("convolve2d", x, k, mode)


def _of_planes(name: str, x: Array, k: Array, mode: str) -> Array:
    from xcnn.checks import check_planes

    check_planes(name, x, k, mode)
    backend, wide = backend_of(x), _plane_type(name, x, k)
    with backend.active():
        if not wide:
            return getattr(backend, name)(x, k, mode)
        xp = namespace(x)
        y = getattr(backend, name)(*(xp.astype(array, getattr(xp, wide)) for array in (x, k)), mode)
        if not (is_floating(x) or is_floating(k)):
            return xp.astype(y, xp.int64)
        return xp.astype(y, x.dtype) if wide == "float32" else y


def _plane_type(name: str, x: Array, k: Array) -> str:
    """The type to compute two planes in; "" where it is that of both."""
    for label, array in (("x", x), ("k", k)):
        if not (is_floating(array) or namespace(array).isdtype(array.dtype, ("bool", "integral"))):
            hint = "give real and imaginary parts by themselves." if "complex" in str(array.dtype) else ""
            raise DTypeError("X103", f"{name} takes real numbers; {label} is {type_name(array)}.", hint=hint)
    if x.dtype != k.dtype or not is_floating(x):
        return "float64"
    return "float32" if type_name(x) in ("float16", "bfloat16") else ""


rot180 = reference.rot180
