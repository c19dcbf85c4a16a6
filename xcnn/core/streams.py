"""Bytes and open files in the place of a file's name: what they hold goes through memory, whole."""

from __future__ import annotations

import io
import os
from typing import IO, Any, TypeAlias

from xcnn.errors import OptionError, short

Stream: TypeAlias = IO[bytes]
"""A file that is open for bytes, or what is read and written as one: io.BytesIO, a member of an archive."""

PIECE = 2**20
"""Bytes that are asked for at a time."""


def is_stream(given: object, method: str) -> bool:
    """Whether this is no name of a file but something that can be asked to `read`, or to `write`."""
    return not isinstance(given, str | os.PathLike) and callable(getattr(given, method, None))


def give(file: Any, content: memoryview) -> None:
    """Write all of it to an open file, at the place where that stands.

    Raises
    ------
    OptionError
        X104, for a file of text. Errors of the file itself pass through.
    """
    while len(content):
        try:
            written = file.write(content)
        except TypeError as error:
            raise of_text(file, "wb") from error
        if written == 0:
            raise OSError(f"{short(file)} takes no more bytes.")
        content = content[len(content) if written is None else written :]


def content_of(given: Any, most: int) -> io.BytesIO | None:
    """What bytes hold, or an open file from where it stands to its end; None where there are more than `most`.

    Raises
    ------
    OptionError
        X104, for a file of text.
    """
    if isinstance(given, bytes | bytearray | memoryview):
        return io.BytesIO(given) if memoryview(given).nbytes <= most else None
    room = io.BytesIO()
    while piece := given.read(PIECE):
        if not isinstance(piece, bytes | bytearray | memoryview):
            raise of_text(given, "rb")
        room.write(piece)
        if room.tell() > most:
            return None
    room.seek(0)
    return room


def name_of(given: Any) -> str:
    """What errors call a file: its own name, where it has one."""
    name = given if isinstance(given, str | os.PathLike) else getattr(given, "name", None)
    return os.path.basename(name) if isinstance(name, str | os.PathLike) and name else "the checkpoint"


def of_text(file: Any, mode: str) -> OptionError:
    """X104"""
    return OptionError("X104", f"{short(file)} is open for text.", hint=f'open it for bytes: open(path, "{mode}").')
