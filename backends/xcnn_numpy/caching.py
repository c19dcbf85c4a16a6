"""Where Numba keeps what it compiled: beside the source or in the user's own cache, as ever; else in a folder of ours.

A container's user may have neither. What is kept there is code that a later process runs: so the folder belongs to the
user alone, or it is not used. Its name follows from the sources, so that it holds nothing stale.
"""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

import numba

log = logging.getLogger("xcnn")
REMEDY = "set NUMBA_CACHE_DIR to a folder that this user can write"
_redirected = Lock()


def keep(dispatcher: Any) -> Any:
    """The compiled function, kept on disk for other processes where some folder can be written."""
    try:
        dispatcher.enable_caching()
        return dispatcher
    except RuntimeError:  # it finds no folder
        pass
    folder = own_folder()
    if folder is None:
        tell()
        return dispatcher
    with _redirected:
        before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(folder)
        try:
            dispatcher.enable_caching()
        except (RuntimeError, OSError):
            tell()
        finally:
            numba.config.CACHE_DIR = before
    return dispatcher


@cache
def tell() -> None:
    """Say, once, what it costs."""
    log.warning(
        "Numba finds no folder to keep what it compiles, so each process compiles anew, which can take a minute: %s.",
        REMEDY,
    )


@cache
def own_folder() -> Path | None:
    """A folder of this user alone among the system's temporary ones; None where none can be had."""
    user = os.getuid() if hasattr(os, "getuid") else "here"
    try:
        base = Path(tempfile.gettempdir()) / f"xcnn-numba-{user}"
        base.mkdir(mode=0o700, exist_ok=True)
        if not is_ours(base):
            return None
        folder = base / digest(Path(__file__).parent.rglob("*.py"))
        folder.mkdir(mode=0o700, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        return None


def is_ours(folder: Path) -> bool:
    """Whether it is a folder, no link to one, that belongs to this user and that others can't write or read."""
    told = folder.lstat()
    if not hasattr(os, "getuid"):  # Windows gives each user a temporary folder
        return stat.S_ISDIR(told.st_mode)
    return stat.S_ISDIR(told.st_mode) and told.st_uid == os.getuid() and stat.S_IMODE(told.st_mode) & 0o077 == 0


def digest(files: Iterable[Path]) -> str:
    """A name for what these files hold, with Numba's version."""
    whole = hashlib.sha256(numba.__version__.encode())
    for file in sorted(files):
        whole.update(file.name.encode() + b"\0" + file.read_bytes())
    return whole.hexdigest()[:16]
