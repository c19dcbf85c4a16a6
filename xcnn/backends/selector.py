"""Which backend runs: by name, by the process's choice, or the best that is here."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any

from xcnn.backends.contract import Backend
from xcnn.backends.registry import names_with, plugin
from xcnn.core.names import meant
from xcnn.errors import BackendError, BackendUnavailable, OptionError, XcnnError, short, told_by
from xcnn.training.precision import Precision

AUTO_ORDER = ("cupy", "numpy")
"""What "auto" tries, best first."""

log: logging.Logger = logging.getLogger("xcnn")

_default: Backend | None = None
_told: set[str] = set()


def backend(name: str | Backend = "auto", **options: Any) -> Backend:
    """A backend by name: "auto", "numpy", "strict", "cupy", "cupy:1", "torch", "jax", or any plug-in's.

    Any other array library goes by its module's name, such as "dask.array", with the reference's primitives
    (libraries.py).

    `auto` takes CuPy where a CUDA device answers, else NumPy, and logs which and why. A name that is given never
    falls back. A backend object stands for itself, with these options changed.

    Parameters
    ----------
    name
        a backend's, with a device behind a colon; a module's; or a Backend
    **options
        the backend's own: algorithm, fuse and others

    Raises
    ------
    BackendError
        X303, when there is no such backend.
    BackendUnavailable
        X302, when it can't be used here, with the reason.
    OptionError
        X104, when it has no such option, or the option no such value.

    Examples
    --------
    >>> xcnn.backend("numpy", algorithm="gemm").algorithm
    'gemm'
    """
    if isinstance(name, Backend):
        _check_options(name.name, type(name), options)
        return replace(name, **options)
    if not isinstance(name, str) or not name:
        raise BackendError("X303", f'a backend is a name such as "numpy", or an xcnn.Backend; got {short(name)}.')
    if name == "auto":
        return _auto(options)
    try:
        return make(name, options)
    except BackendUnavailable as error:
        raise BackendUnavailable(
            "X302",
            f'backend "{name}" was asked for; {error.summary}',
            *error.details,
            hint=_other_device(name) or error.hint or "see `xcnn backends`.",
        ) from error


def _other_device(name: str) -> str:
    """The name that others have for a device, as "torch:gpu"."""
    found = meant("device", name, ())
    return f'did you mean "{found}"?' if found else ""


def set_backend(name: str | Backend, **options: Any) -> Backend:
    """Choose the backend of this process: of every Model and array made from now on that names none.

    Parameters
    ----------
    name
        a backend's, such as "numpy", "torch" or "cupy:1", its device behind the colon; "auto"; or a Backend
    **options
        the backend's own: algorithm, fuse and others

    Raises
    ------
    BackendError, BackendUnavailable, OptionError
        as `backend` does.

    Examples
    --------
    >>> xcnn.set_backend("numpy").name
    'numpy'
    """
    global _default
    _default = backend(name, **options)
    return _default


@contextmanager
def use_backend(name: str | Backend, **options: Any) -> Iterator[Backend]:
    """Another backend for the process within a `with` block, and the one before again at its end.

    As `set_backend` does, it chooses for all threads: one that makes models of its own names its backend.

    Parameters
    ----------
    name
        a backend's, such as "numpy", "torch" or "cupy:1", its device behind the colon; "auto"; or a Backend
    **options
        the backend's own: algorithm, fuse and others

    Raises
    ------
    BackendError, BackendUnavailable, OptionError
        as `backend` does.

    Examples
    --------
    >>> with xcnn.use_backend("numpy", algorithm="literal"):
    ...     layer = xcnn.Model(xcnn.Sequential(xcnn.Dense(2)), (3,))
    >>> layer.backend.algorithm
    'literal'
    """
    global _default
    before, _default = _default, backend(name, **options)
    try:
        yield _default
    finally:
        _default = before


def get_backend() -> Backend:
    """The backend of this process: what `set_backend` chose, else the variable XCNN_BACKEND, else "auto".

    Raises
    ------
    BackendError, BackendUnavailable
        as `backend` does, for what XCNN_BACKEND names.

    Examples
    --------
    >>> xcnn.get_backend().name
    'numpy'
    """
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


def _auto(options: dict[str, Any]) -> Backend:
    reasons: list[str] = []
    for name in AUTO_ORDER:
        try:
            make(name, {})  # is it here at all? only then do its options count
        except (BackendError, BackendUnavailable) as error:
            reasons.append(f"{name}: {error.summary}")
            continue
        chosen = make(name, options)
        because = f" ({' '.join(reasons)})" if reasons else ""
        _tell(f"backend {chosen.spec} on {chosen.device_name()}{because}")
        return chosen
    raise BackendUnavailable("X302", "no backend can be used here.", *reasons, hint="see `xcnn backends`.")


def make(name: str, options: dict[str, Any]) -> Backend:
    """An instance of a plug-in's class. Whatever goes wrong in the plug-in, it can't be used here: X302."""
    kind, _, device = name.partition(":")
    cls = plugin(kind)
    _check_options(kind, cls, options)
    if device and "device" in options:
        raise OptionError("X104", f"{short(name)} names a device, and so does the option device={options['device']!r}.")
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
                "X104", f'backend "{name}" has no option {short(option)}.', hint=f"its options are {', '.join(known)}."
            )


def _tell(choice: str) -> None:
    """Log a choice the first time that it is made."""
    if choice not in _told:
        _told.add(choice)
        log.info("%s", choice)


def with_precision(chosen: Backend, precision: Precision) -> Backend:
    """The backend under this precision; where it refuses, the hint names the backends that have it.

    Raises
    ------
    OptionError
        X104
    """
    try:
        return chosen.with_precision(precision)
    except OptionError as error:
        others = [f'backend "{name}"' for name in names_with(precision.name) if name != chosen.name]
        error.hint = " or ".join([error.hint.removesuffix("."), *others]) + "."
        raise
