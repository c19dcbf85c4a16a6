"""The plug-ins that are installed: found by entry points, imported when first asked for; and whose an array is."""

from __future__ import annotations

import logging
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

from xcnn.backends.contract import Backend
from xcnn.core.arrays import namespace
from xcnn.core.names import meant
from xcnn.core.types import Array
from xcnn.errors import BackendError, BackendUnavailable, printable, told_by

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "xcnn.backends"
OURS = {
    "numpy": "xcnn_numpy:NumpyBackend",
    "cupy": "xcnn_cupy:CupyBackend",
    "strict": "xcnn_strict:StrictBackend",
    "torch": "xcnn_torch:TorchBackend",
    "jax": "xcnn_jax:JaxBackend",
}
"""xcnn's own entry points, for where it was copied without its metadata: into a zip, or into a frozen app."""
log: logging.Logger = logging.getLogger("xcnn")

_loaded: dict[str, type[Backend]] = {}
_owners: dict[str, type[Backend]] = {}


def backend_names() -> list[str]:
    """The names of the installed backends, none of which is imported for it."""
    return sorted(_entries())


def names_with(precision: str) -> list[str]:
    """Installed backends that compute in this precision, whether or not they can be used here."""
    found = []
    for name in backend_names():
        try:
            if precision in plugin(name).precisions:
                found.append(name)
        except BackendUnavailable:
            continue
    return found


def backend_of(x: Array) -> Backend:
    """The backend whose library made this array, on the array's device; the reference where no plug-in claims it.

    Parameters
    ----------
    x
        an array of any library that follows the standard

    Examples
    --------
    >>> xcnn.backend_of(np.ones(3)).name
    'numpy'
    """
    library = type(x).__module__.partition(".")[0]
    if library not in _owners:
        _owners[library] = _owner(x, library)
    return _owners[library].of(x)


def _owner(x: Array, library: str) -> type[Backend]:
    for name in sorted(_entries(), key=lambda name: name != library):  # the plug-in of the library's own name first
        try:
            cls = plugin(name)
        except BackendUnavailable:
            continue
        if cls.library == library:
            return cls
    from xcnn.backends.libraries import library_backend

    try:
        found = library_backend(namespace(x).__name__.removeprefix("array_api_compat."))
        found.of(x)
    except (BackendError, BackendUnavailable, TypeError):
        return Backend
    return found


def _entries() -> dict[str, EntryPoint]:
    """Who brings which backend. A name that xcnn's own package brings is no other's to take."""
    from importlib.metadata import EntryPoint, entry_points  # a tenth of the time that `import xcnn` would take

    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=GROUP):
        other = found.setdefault(entry.name, entry)
        if other is not entry:
            found[entry.name], left = sorted((other, entry), key=lambda one: (_package(one) != "xcnn", _package(one)))
            _tell_once(
                f'the package {_package(left)} brings a backend "{entry.name}" too, {left.value}, which is left out: '
                f"that of {_package(found[entry.name])} goes by this name"
            )
    for name, value in OURS.items():
        if name not in found and find_spec(value.partition(":")[0]):
            found[name] = EntryPoint(name, value, GROUP)
    return found


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else "unknown"


@cache
def _tell_once(line: str) -> None:
    log.warning("%s", printable(line))


def plugin(name: str) -> type[Backend]:
    """Import a plug-in's class, once."""
    if name not in _loaded:
        entries = _entries()
        _loaded[name] = _imported(entries[name]) if name in entries else _by_library(name)
    return _loaded[name]


def _by_library(name: str) -> type[Backend]:
    """The backend of an array library that no plug-in goes by the name of."""
    from xcnn.backends.libraries import library_backend

    if not backend_names():
        raise BackendError("X303", f'there is no backend "{name}".', hint=_installed(name))
    try:
        return library_backend(name)
    except BackendError as error:
        error.hint = _installed(name) if meant("backend", name, backend_names()) else error.hint or _installed(name)
        raise


def _installed(name: str) -> str:
    """Which backend may be meant, and which there are."""
    names = backend_names()
    if not names:
        return "xcnn itself is not installed here: pip install xcnn."
    found = meant("backend", name, names)
    guess = f'did you mean "{found}"? I' if found else "i"
    return f'{guess}nstalled are {", ".join(names)}; other array libraries go by their module, as "dask.array".'


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
