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
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
UNSYNCED = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EPERM, errno.EACCES)
"""What a file system says that syncs no folders, or nothing, or has no modes: there the file is as whole."""
TEMPORARY = re.compile(r"(\..+\.)[0-9a-f]{12}\.part", re.DOTALL)
"""The name of a temporary file."""
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
    check_planted(path)
    target = Path(os.path.realpath(path))
    found = None
    with suppress(FileNotFoundError, NotADirectoryError):
        found = os.stat(path)
        mode = found.st_mode
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
    if found is not None and hasattr(os, "geteuid") and found.st_uid != os.geteuid():
        temporary, file = open_temporary(target)  # who can't keep its owner hears of it now
        with file:
            try:
                inherit(file.fileno(), target)
            finally:
                temporary.unlink(missing_ok=True)
    return target


def check_planted(path: str | Path) -> None:
    """Raise PermissionError for a link or file that somebody else has put into a folder which all may write into.

    As Linux refuses to open such: in a sticky folder, /tmp, only its owner's and one's own are followed or replaced.
    """
    here, left = Path(os.path.abspath(os.sep)), list(reversed(Path(os.getcwd(), path).parts[1:]))
    for _ in range(1000 if hasattr(os, "geteuid") else 0):
        if not left:
            return
        step = here / left.pop()
        try:
            found, folder = step.lstat(), here.stat()
        except OSError:
            return  # there is nothing yet, or it will be told
        sticky = folder.st_mode & stat.S_ISVTX and folder.st_mode & stat.S_IWOTH
        if sticky and not stat.S_ISDIR(found.st_mode) and found.st_uid not in (os.geteuid(), folder.st_uid):
            raise PermissionError(errno.EACCES, "Was put by another user into a folder of everybody's", str(step))
        if stat.S_ISLNK(found.st_mode):
            leads = Path(os.readlink(step))
            left += reversed(leads.parts[leads.is_absolute() :])
            here = Path(leads.anchor) if leads.is_absolute() else here
        else:
            here = here.parent if step.name == ".." else step


def write_whole(path: str | Path, text: bytes) -> None:
    """Write a file whole or not at all."""
    with replacing(path) as file:
        file.write(text)


@contextmanager
def replacing(path: str | Path) -> Iterator[io.BufferedWriter]:
    """A temporary file beside the path, to be written within a `with` block.

    At its end it is synced and renamed to the path, whose permissions stay; where the block raises, it is removed. What
    writers that were killed have left beside this path is removed. Errors name the path.
    """
    target = check_path(path)
    try:
        remove_dead(target)
        temporary, file = open_temporary(target)
        try:
            with file:
                yield file
                file.flush()
                if target.exists():
                    inherit(file.fileno(), target)
                sync(file.fileno())
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


def inherit(handle: int, target: Path) -> None:
    """Give a new file the owner, the group and the permissions of that which it is to replace.

    Raises
    ------
    PermissionError
        where it would change hands.
    """
    was, new = target.stat(), os.fstat(handle)
    mode = was.st_mode & 0o777
    if (was.st_uid, was.st_gid) != (new.st_uid, new.st_gid):
        try:
            os.fchown(handle, was.st_uid, was.st_gid)
        except PermissionError:
            if was.st_uid != new.st_uid:
                raise PermissionError(
                    errno.EACCES, "Belongs to another user, and is not replaced", str(target)
                ) from None
            mode &= 0o707  # for a group that is another
    if hasattr(os, "fchmod") and stat.S_IMODE(new.st_mode) != mode:
        try:
            os.fchmod(handle, mode)
        except OSError as error:
            if error.errno not in UNSYNCED:  # of a file system that has no modes
                raise


def open_temporary(target: Path) -> tuple[Path, io.BufferedWriter]:
    """A new file beside the target, locked for as long as it is open: so others see that its writer lives.

    One that is to replace another is its owner's alone, until it inherits who may read it.
    """
    while True:
        temporary = temporary_path(target)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | BINARY, 0o600 if target.exists() else 0o666)
        try:
            file = os.fdopen(handle, "wb")
            if not fcntl or (lock(handle) is not False and is_at(temporary, handle)):
                return temporary, file
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        file.close()  # before it was locked, another writer took it for a dead one's


def temporary_path(target: Path) -> Path:
    """A name beside the target that `remove_dead` knows."""
    return target.with_name(f"{stem(target)}{secrets.token_hex(6)}.part")


def stem(target: Path) -> str:
    """What the temporary files of a target begin with: its name, or where that is long, what it hashes to.

    What a temporary file is itself made from begins as that file does.
    """
    name = os.fsencode(target.name)
    if temporary := TEMPORARY.fullmatch(target.name):
        return temporary[1]
    return f".{target.name}." if len(name) <= 64 else f".xcnn-{hashlib.sha256(name).hexdigest()[:16]}."


def remove_dead(target: Path) -> None:
    """Remove the temporary files of this target whose writers are no more: who is killed lets go of the lock."""
    begins = stem(target)
    with suppress(OSError):
        for name in os.listdir(target.parent):
            found = TEMPORARY.fullmatch(name)
            if found and found[1] == begins:
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


def sync(handle: int) -> None:
    """Bring an open file or folder to the disk, where its file system can be asked to."""
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in UNSYNCED:
            raise


def _sync_folder(folder: Path) -> None:
    """Make the rename itself last, where the folder can be opened and synced."""
    if hasattr(os, "O_DIRECTORY"):
        with suppress(PermissionError):  # a folder may be one to write into and not to read
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                sync(handle)
            finally:
                os.close(handle)
