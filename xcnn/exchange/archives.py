"""Zip archives of others, opened within limits: sizes are looked at before anything of their size is made."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from xcnn.core.files import FREE, RATIO, IrregularFileError, is_hollow, open_regular, path_of
from xcnn.errors import ExchangeError

MOST_DIRECTORY = 1 << 22
"""Bytes of an archive's list of records: those of twenty thousand. As Python's objects they take ten times as many."""
END, END_64 = b"PK\x05\x06", b"PK\x06\x06"
BROKEN = (
    OSError,
    zlib.error,
    zipfile.BadZipFile,
    EOFError,
    IndexError,
    KeyError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    ValueError,
)
"""What zipfile raises for archives that are damaged, encrypted or compressed in ways of their own."""


def refuse(path: str | Path, why: str, *details: str, hint: str = "", cause: BaseException | None = None) -> NoReturn:
    """X416"""
    raise ExchangeError("X416", f"{Path(path).name} can't be read: {why}", *details, hint=hint) from cause


@contextmanager
def opened(path: str | Path) -> Iterator[io.BufferedReader]:
    """A file of another framework's; FIFOs, devices, and files that are nearly all holes are refused.

    Raises
    ------
    ExchangeError
        X416
    FileNotFoundError, PermissionError, IsADirectoryError
    """
    path = path_of(path)
    try:
        file = open_regular(path)
    except IrregularFileError as error:
        refuse(path, "it is no regular file.", cause=error)
    with file:
        if is_hollow(file):
            refuse(path, "nearly all of it is holes.")
        yield file


def archive(path: str | Path, file: io.BufferedReader) -> zipfile.ZipFile:
    """An open file as an archive whose records have names of their own.

    Raises
    ------
    ExchangeError
        X416
    """
    size = directory_size(file)
    if size > MOST_DIRECTORY:
        refuse(path, f"its list of records has {size:,} bytes; at most {MOST_DIRECTORY:,} are read.")
    try:
        found = zipfile.ZipFile(file)
    except BROKEN as error:
        refuse(path, f"its archive is damaged ({type(error).__name__}: {error}).", cause=error)
    length = file.seek(0, io.SEEK_END)
    if any(info.header_offset + info.compress_size > length for info in found.infolist()):
        refuse(path, "a record of its archive reaches beyond the file.")  # to read it, room for all of it would be made
    if len({*found.namelist()}) < len(found.namelist()):
        refuse(path, "two records of its archive have one name.")
    return found


def directory_size(file: io.BufferedReader) -> int:
    """Bytes of the archive's list of records, as its end tells them; 0 where there is no such end."""
    length = file.seek(0, io.SEEK_END)
    file.seek(max(0, length - (1 << 16) - 128))
    tail = file.read()
    at = tail.rfind(END)
    size = int.from_bytes(tail[at + 12 : at + 16], "little") if at >= 0 else 0
    far = tail.rfind(END_64)
    return max(size if size < 0xFFFFFFFF else 0, int.from_bytes(tail[far + 40 : far + 48], "little") if far >= 0 else 0)


def member(path: str | Path, whole: zipfile.ZipFile, name: str, most: int) -> bytes:
    """A record, of at most so many bytes, which are counted before any is unfolded.

    Raises
    ------
    ExchangeError
        X416, where it is missing, damaged or too large.
    """
    try:
        info = whole.getinfo(name)
    except KeyError as error:
        refuse(path, f"it has no {name[:80]!r}.", cause=error)
    if info.file_size > min(most, max(FREE, RATIO * info.compress_size)):
        refuse(path, f"its {name[:80]!r} has {info.file_size:,} bytes; at most {most:,} are read.")
    try:
        with whole.open(info) as record:
            return record.read(info.file_size)
    except BROKEN as error:
        refuse(path, f"its {name[:80]!r} is damaged ({type(error).__name__}).", cause=error)
