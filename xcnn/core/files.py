"""Files that are written whole or not at all, and read only where they are files and not larger than they seem."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import secrets
import stat
import time
from contextlib import suppress
from pathlib import Path

from xcnn.errors import OptionError, short

try:
    import fcntl
except ImportError:  # Windows, where a file that is open can't be removed
    fcntl = None  # type: ignore[assignment]

BINARY = getattr(os, "O_BINARY", 0)
FREE, RATIO = 1 << 24, 200
"""What is compressed, or has holes, may unfold to 16 MiB, and beyond that to 200 times what it takes on the disk.

MNIST's files unfold to 5 times."""
ABANDONED = 3600.0
"""Seconds after which a temporary file is taken for a dead writer's, where the file system has no locks."""


def path_of(path: str | os.PathLike[str]) -> Path:
    """A file's name, "~" in it the user's folder; raise X104 for what is none."""
    try:
        fits = isinstance(path, str | os.PathLike) and b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        fits = False
    if not fits:
        raise OptionError("X104", f"a file's name must be a string or a path; got {short(path)}.")
    return Path(os.path.expanduser(path))


def check_path(path: str | Path) -> Path:
    """Where a file of this name can be written. A link is followed: what it leads to is replaced, and it stays.

    Raises
    ------
    FileNotFoundError, IsADirectoryError, PermissionError, OSError
        when its folder is missing or can't be written, or it is a folder, a read-only file, or no regular file (a FIFO,
        a device), which is never replaced.
    """
    path_of(path)
    target = Path(os.path.realpath(path))
    with suppress(FileNotFoundError, NotADirectoryError):
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "Is a folder, not a file", str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "Is no regular file, and is not replaced by one", str(path))
        if not mode & 0o222 or not os.access(path, os.W_OK):  # root may write all: what its owner protected stays
            raise PermissionError(errno.EACCES, "Is read-only, and is not replaced", str(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "No such folder", str(target.parent))
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "The folder can't be written", str(target.parent))
    return target


def write_whole(path: str | Path, text: bytes) -> None:
    """Write to a temporary file beside the path, sync it, and rename it to the path, whose permissions stay.

    What writers that were killed have left beside this path is removed. Errors name the path.
    """
    target = check_path(path)
    try:
        remove_dead(target)
        temporary, file = open_temporary(target)
        try:
            with file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
                if target.exists():
                    os.chmod(temporary, stat.S_IMODE(target.stat().st_mode))
                if fcntl:  # while the file is open, and so locked
                    os.replace(temporary, target)
            if not fcntl:
                os.replace(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(target.parent)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def open_temporary(target: Path) -> tuple[Path, io.BufferedWriter]:
    """A new file beside the target, locked for as long as it is open: so others see that its writer lives."""
    while True:
        temporary = target.with_name(f"{stem(target)}{secrets.token_hex(6)}.part")
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | BINARY, 0o666)
        try:
            file = os.fdopen(handle, "wb")
            if not fcntl or (lock(handle) is not False and is_at(temporary, handle)):
                return temporary, file
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        file.close()  # before it was locked, another writer took it for a dead one's


def stem(target: Path) -> str:
    """What the temporary files of a target begin with: its name, or where that is long, what it hashes to."""
    name = os.fsencode(target.name)
    return f".{target.name}." if len(name) <= 64 else f".xcnn-{hashlib.sha256(name).hexdigest()[:16]}."


def remove_dead(target: Path) -> None:
    """Remove the temporary files of this target whose writers are no more: who is killed lets go of the lock."""
    temporary = re.compile(re.escape(stem(target)) + r"[0-9a-f]{12}\.part", re.DOTALL)
    with suppress(OSError):
        for name in os.listdir(target.parent):
            if temporary.fullmatch(name):
                with suppress(OSError):
                    remove_if_dead(target.with_name(name))


def remove_if_dead(part: Path) -> None:
    """Remove a temporary file, unless somebody still writes it."""
    found = part.lstat()
    if not stat.S_ISREG(found.st_mode):
        return
    old = time.time() - found.st_mtime > ABANDONED
    if not fcntl:
        if old:
            part.unlink()
        return
    handle = os.open(part, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        locked = lock(handle)
        if locked or (locked is None and old):
            part.unlink()  # with the lock still held: its writer, if there is one, has not begun
    finally:
        os.close(handle)


def is_at(path: Path, handle: int) -> bool:
    """Whether this path still leads to the open file."""
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except FileNotFoundError:
        return False


def lock(handle: int) -> bool | None:
    """Lock an open file; False where another has it, None where the file system has no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def open_regular(path: str | Path) -> io.BufferedReader:
    """Open a file to read it, without waiting for a FIFO's writer.

    Raises
    ------
    IsADirectoryError, IrregularFileError
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | BINARY)
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(handle, "rb")
    os.close(handle)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "Is a folder, not a file", str(path))
    raise IrregularFileError(errno.EINVAL, "Is no regular file", str(path))


class IrregularFileError(OSError):
    """A FIFO, a device or a socket, which may never end."""


def is_hollow(file: io.BufferedReader) -> bool:
    """Whether a file is nearly all holes, so that a tiny one fills the memory: as a compressed file may."""
    found = os.fstat(file.fileno())
    stored = getattr(found, "st_blocks", 0) * 512  # 0 on file systems that do not count
    return stored > 0 and found.st_size > max(FREE, RATIO * stored)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself last, where the system lets a folder be synced."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
