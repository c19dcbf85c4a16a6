"""Machine code that Numba compiled, kept for other processes, and never run for other sources than its own.

Numba's own cache looks at the file of a function alone, not at those of the functions and numbers that were compiled
into it; and it numbers its files, so that two processes that begin together can exchange them. Here each file's name is
a digest of all that its code follows from: every module that can be compiled into it, versions, settings, processor,
types. What is kept is code that a later process runs: so the folder belongs to the user alone, or it is not used.
"""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
import pkgutil
import platform
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import CodeType
from typing import Any

import llvmlite
import llvmlite.binding
import numba
import numpy as np
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from xcnn.core.files import write_whole

log = logging.getLogger("xcnn")
REMEDY = "set NUMBA_CACHE_DIR to a folder that this user can write"
ROOTS = ("xcnn_numpy", "xcnn.core.random")
"""The package, and the modules outside of it, whose functions and numbers are compiled in."""
SETTINGS = ("OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "BOUNDSCHECK", "DEBUGINFO_DEFAULT", "CPU_NAME", "CPU_FEATURES")
"""Those of Numba's that make other code."""
UNUSED = 30 * 24 * 3600.0
"""Seconds after which what was compiled from other sources is removed."""
SEAL = hashlib.sha256().digest_size


class Kept(NullCache):  # type: ignore[misc]
    """What Numba asks of a cache, for one function: a file for the types of its arguments."""

    def __init__(self, function: Any, folder: Path) -> None:
        self.function, self.folder = function, folder

    @property
    def cache_path(self) -> str:
        """The folder."""
        return str(self.folder)

    def file(self, types: Any, codegen: Any) -> Path:
        """Where the code for these types of arguments is, or would be."""
        function = self.function
        key = function.__module__, function.__qualname__, described(function.__code__), types, codegen.magic_tuple()
        return self.folder / f"{function.__name__}-{hashlib.sha256(repr(key).encode()).hexdigest()[:32]}"

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled function; None where it is not kept, or its file is damaged."""
        target_context.refresh()
        try:
            sealed = self.file(sig, target_context.codegen()).read_bytes()
            if hashlib.sha256(sealed[SEAL:]).digest() == sealed[:SEAL]:
                return CompileResult._rebuild(target_context, *pickle.loads(sealed[SEAL:]))
        except Exception as error:
            if not isinstance(error, FileNotFoundError):
                log.debug("what Numba kept of %s can't be used: %r", self.function.__qualname__, error)
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled function, where the disk takes it."""
        if data.library.has_dynamic_globals:  # addresses of this process
            return
        content = dumps(data._reduce())
        try:
            write_whole(self.file(sig, data.codegen), hashlib.sha256(content).digest() + content)
        except OSError as error:
            tell(f"can't keep what it compiles ({error})")


def keep(dispatcher: Any) -> Any:
    """The compiled function, kept on disk for other processes where some folder can be written.

    Raises
    ------
    RuntimeError
        where Numba is switched off: nobody is served by loops that Python runs.
    """
    if numba.config.DISABLE_JIT:
        raise RuntimeError("NUMBA_DISABLE_JIT is set")
    folder = own_folder()
    if folder is None:
        tell("finds no folder to keep what it compiles")
    else:
        dispatcher._cache = Kept(dispatcher.py_func, folder)
    return dispatcher


@cache
def tell(what: str) -> None:
    """Say, once, what it costs."""
    log.warning("Numba %s, so each process compiles anew, which can take a minute: %s.", what, REMEDY)


@cache
def own_folder() -> Path | None:
    """A folder of this user alone for these sources; None where none can be had."""
    user = os.getuid() if hasattr(os, "getuid") else "here"
    for base in bases():
        with suppress(OSError):
            base.mkdir(mode=0o700, parents=True, exist_ok=True)
            ours = base / f"xcnn-numba-{user}"
            ours.mkdir(mode=0o700, exist_ok=True)
            folder = ours / digest()
            if is_stable(base) and is_ours(ours):
                folder.mkdir(mode=0o700, exist_ok=True)
                with tempfile.TemporaryFile(dir=folder):
                    os.utime(folder)
                    remove_unused(ours)
                    return folder
    return None


def bases() -> Iterator[Path]:
    """Where the folder may be: where the user wants Numba's, in the user's cache, among the temporary ones."""
    if numba.config.CACHE_DIR:
        yield Path(numba.config.CACHE_DIR)
    named = os.environ.get("LOCALAPPDATA" if os.name == "nt" else "XDG_CACHE_HOME")
    usual = "~/Library/Caches" if sys.platform == "darwin" else "~/.cache"
    yield Path(named or os.path.expanduser(usual))
    yield Path(tempfile.gettempdir())


def is_stable(folder: Path) -> bool:
    """Whether nobody else can put another folder into the place of one that is in it."""
    mode = folder.stat().st_mode
    return os.name == "nt" or not mode & stat.S_IWOTH or bool(mode & stat.S_ISVTX)


def is_ours(folder: Path) -> bool:
    """Whether it is a folder, no link to one, that belongs to this user and that others can't write or read."""
    told = folder.lstat()
    if not hasattr(os, "getuid"):  # Windows gives each user a temporary folder
        return stat.S_ISDIR(told.st_mode)
    return stat.S_ISDIR(told.st_mode) and told.st_uid == os.getuid() and stat.S_IMODE(told.st_mode) & 0o077 == 0


def remove_unused(ours: Path) -> None:
    """Remove what was compiled from sources that nobody has run for a while."""
    for other in ours.iterdir():
        if time.time() - other.stat().st_mtime > UNUSED:
            shutil.rmtree(other, ignore_errors=True)


@cache
def digest() -> str:
    """A name for all that compiled code follows from, but for its types."""
    cpu = llvmlite.binding
    whole = [
        *(getattr(numba.config, name, None) for name in SETTINGS),
        *(sys.implementation.cache_tag, sys.version, numba.__version__, llvmlite.__version__, np.__version__),
        *(platform.machine(), cpu.get_host_cpu_name(), cpu.get_host_cpu_features().flatten()),
        *(f"{name} {described(code(name))}" for root in ROOTS for name in modules(root)),
    ]
    return hashlib.sha256(repr(whole).encode()).hexdigest()[:32]


def modules(root: str) -> list[str]:
    """The names of a module and of all below it."""
    spec = find_spec(root)
    below = spec.submodule_search_locations if spec else None
    found = [] if below is None else [name for _, name, _ in pkgutil.iter_modules(below, f"{root}.")]
    return [root, *(name for one in sorted(found) for name in modules(one))]


def code(name: str) -> CodeType:
    """What a module runs, as an import finds it: from source or without, in a folder or a zip."""
    spec = find_spec(name)
    assert spec is not None
    found = getattr(spec.loader, "get_code")(name)  # noqa: B009
    assert isinstance(found, CodeType)
    return found


def described(value: Any) -> str:
    """Code and its constants as text, without the places that it comes from; the same in every process."""
    if isinstance(value, CodeType):
        names = value.co_names, value.co_varnames, value.co_freevars, value.co_cellvars, value.co_argcount
        return f"{value.co_code!r} {names} {value.co_flags} {value.co_exceptiontable!r} {described(value.co_consts)}"
    if isinstance(value, tuple):
        return f"({', '.join(map(described, value))})"
    if isinstance(value, frozenset):
        return f"{{{', '.join(sorted(map(described, value)))}}}"
    return repr(value)
