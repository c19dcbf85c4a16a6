"""What a backend is, and which one runs: the contract, and the selector.

A backend is a value: a library's arrays on one device, with its options. It begins as the reference implementation of
every primitive and overrides only what it makes faster, under the same signature. Plug-ins are found by the entry
point group "xcnn.backends" and imported when they are first asked for.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from xcnn import random, reference
from xcnn._typing import Array, Shape
from xcnn.errors import BackendError, BackendUnavailable, OptionError

if TYPE_CHECKING:
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
    the reference.

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
    algorithms: ClassVar[tuple[str, ...]] = ("auto",)

    def __post_init__(self) -> None:
        if self.algorithm not in self.algorithms:
            raise OptionError(
                "X104",
                f'backend "{self.name}" has no algorithm {self.algorithm!r}.',
                hint="use one of " + ", ".join(self.algorithms) + ".",
            )

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

    def synchronize(self) -> None:
        """Wait until the device has done what it was given."""

    @property
    def spec(self) -> str:
        """What `backend()` takes to make this one: "numpy", "cupy:1"."""
        return self.name if self.device is None else f"{self.name}:{self.device}"

    def versions(self) -> dict[str, str]:
        """Versions of the libraries beneath."""
        return {}

    def device_name(self) -> str:
        """The device in words."""
        return "cpu"

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
    correlate2d = staticmethod(reference.correlate2d)
    convolve2d = staticmethod(reference.convolve2d)

    def random_bits(self, key: random.Key, shape: Shape) -> Array:
        """Random whole numbers 0 .. 2^32 - 1, the same for a key on every backend (random.py)."""
        return random.bits(self.xp, getattr(self.asarray(0.0), "device", None), key, shape)

    # Seams for speed that spans layers and steps.

    def rewrite(self, net: Layer) -> Layer:
        """Replace runs of layers by fused ones with the same weights, outputs and gradients; by default none."""
        return net

    def compile(self, step: Step) -> Step:
        """Compile or capture a training step; by default leave it alone."""
        return step


def is_default(value: Any, name: str) -> bool:
    """Whether a dataclass instance's field has its default value."""
    default = {f.name: f.default for f in fields(value)}[name]
    return bool(getattr(value, name) == default)


# Selection.

_default: Backend | None = None
_loaded: dict[str, type[Backend]] = {}


def backend(name: str | Backend = "auto", **options: Any) -> Backend:
    """A backend by name: "auto", "numpy", "strict", "cupy", "cupy:1", or any plug-in's.

    `auto` takes CuPy where a CUDA device answers, else NumPy, and logs which and why. A name that is given never
    falls back.

    Raises
    ------
    BackendError
        X303, when there is no such backend.
    BackendUnavailable
        X302, when it can't be used here, with the reason.
    """
    if isinstance(name, Backend):
        return name
    if name == "auto":
        return _auto(options)
    kind, _, device = name.partition(":")
    cls = _plugin(kind)
    unknown = set(options) - {f.name for f in fields(cls)}
    if unknown:
        raise OptionError(
            "X104",
            f'backend "{kind}" has no option {min(unknown)!r}.',
            hint="its options are " + ", ".join(f.name for f in fields(cls)) + ".",
        )
    return cls(device or None, **options)


def set_backend(name: str | Backend, **options: Any) -> Backend:
    """Choose the backend of this process: of every Model and array made from now on that names none."""
    global _default
    _default = backend(name, **options)
    return _default


def get_backend() -> Backend:
    """The backend of this process: what `set_backend` chose, else the variable XCNN_BACKEND, else "auto"."""
    global _default
    if _default is None:
        _default = backend(os.environ.get("XCNN_BACKEND") or "auto")
    return _default


@dataclass(frozen=True)
class BackendInfo:
    """What `available_backends` tells of one backend; `reason` says why it can't be used."""

    name: str
    available: bool
    device: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""

    def __str__(self) -> str:
        libraries = ", ".join(f"{library} {version}" for library, version in self.versions.items())
        return (
            f"{self.name}: {self.device} ({libraries})"
            if self.available
            else f"{self.name}: not available. {self.reason}"
        )


def available_backends() -> dict[str, BackendInfo]:
    """Every installed backend by name: its device and versions, or the reason why it can't be used."""
    return {name: _probe(name) for name in sorted(_entries())}


def backend_of(x: Array) -> Backend:
    """The backend whose library made this array; the bare reference where no plug-in claims it."""
    library = type(x).__module__.partition(".")[0]
    for name in sorted(_entries(), key=lambda name: name != library):  # the plug-in of the library's own name first
        try:
            cls = _plugin(name)
        except BackendUnavailable:
            continue
        if cls.library == library:
            return cls()
    return Backend()


def _auto(options: dict[str, Any]) -> Backend:
    reasons = []
    for name in AUTO_ORDER:
        try:
            chosen = backend(name, **options)
        except (BackendUnavailable, OptionError) as error:
            reasons.append(error.summary)
        else:
            log.info(
                "backend %s on %s%s", chosen.spec, chosen.device_name(), f" ({' '.join(reasons)})" if reasons else ""
            )
            return chosen
    raise BackendUnavailable("X302", "no backend can be used here.", *reasons, hint="see `xcnn backends`.")


def _probe(name: str) -> BackendInfo:
    try:
        found = backend(name)
        return BackendInfo(name, True, found.device_name(), found.versions())
    except BackendUnavailable as error:
        return BackendInfo(name, False, reason=error.summary)


def _entries() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _plugin(name: str) -> type[Backend]:
    """Import a plug-in's class, once."""
    if name not in _loaded:
        entries = _entries()
        if name not in entries:
            raise BackendError(
                "X303", f'there is no backend "{name}".', hint="installed are " + ", ".join(sorted(entries)) + "."
            )
        try:
            cls = entries[name].load()
        except Exception as error:
            raise BackendUnavailable(
                "X302",
                f'backend "{name}" can\'t be imported: {type(error).__name__}: {error}',
                hint="see `xcnn backends`.",
            ) from error
        if not (isinstance(cls, type) and issubclass(cls, Backend)):
            raise BackendUnavailable("X302", f'backend "{name}" is no xcnn.Backend: {cls!r}.')
        _loaded[name] = cls
    return _loaded[name]


# Single planes.


def correlate2d(x: Array, k: Array, mode: str = "valid") -> Array:
    """The article's X * K: one plane (H, W) correlated with one kernel (h, w), by the array's own library.

    scipy.signal runs it for NumPy arrays, cupyx.scipy.signal for CuPy arrays, the reference for all others.

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
    """
    return _plane_backend("correlate2d", x, k, mode).correlate2d(x, k, mode)


def convolve2d(x: Array, k: Array, mode: str = "valid") -> Array:
    """One plane convolved with one kernel: `correlate2d` with the kernel rotated by 180 degrees."""
    return _plane_backend("convolve2d", x, k, mode).convolve2d(x, k, mode)


rot180 = reference.rot180


def _plane_backend(name: str, x: Array, k: Array, mode: str) -> Backend:
    from xcnn.checks import check_planes

    check_planes(name, x, k, mode)
    return backend_of(x)
