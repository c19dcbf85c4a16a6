"""The samples in one tar, or in several that stand one behind the other in a file, as `cat a.tar b.tar` makes it."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from xcnn.errors import DataError, counted, short

PICTURES = ("jpg", "jpeg", "png", "bmp", "gif", "webp", "tif", "tiff", "ppm", "pgm")
MOST_TEXT = 1 << 16
"""Bytes of a class's file."""
COMPRESSED: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open, b"\x5d\0\0\x80": lzma.open
}  # fmt: skip
"""What opens a file that begins so, whose streams may follow each other; tarfile itself ends with the first of them."""


def samples_of(path: Path, most: int) -> Iterator[tuple[str, bytes, str]]:
    """The samples of a file: name, picture, of so many bytes at most, and class.

    Raises
    ------
    DataError
        X207, X209, for what can't be read or is not laid out so
    """
    try:
        with ExitStack() as opened, shard_in(path, opened) as shard:
            for name, parts in grouped(shard, path, most):
                picture = next((parts[ending] for ending in PICTURES if ending in parts), None)
                if picture is None or "cls" not in parts:
                    has = ", ".join(sorted(parts)) or "nothing"
                    told = f"sample {short(name)} of {path} must have a picture and its class (cls); it has {has}"
                    hint = 'files of a sample follow each other, as "1.jpg", "1.cls".'
                    raise DataError("X209", f"{told}.", hint=hint)
                yield name, picture, parts["cls"].decode("utf-8", "replace").strip()
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        raise DataError("X207", f"{path} can't be read as a tar: {error}.", hint="make it anew.") from error


def shard_in(path: Path, opened: ExitStack) -> Shard:
    """The file, to be read from its beginning to its end."""
    with path.open("rb") as file:
        start = file.read(6)
    for magic, open_ in COMPRESSED.items():
        if start.startswith(magic):
            return Shard.open(fileobj=opened.enter_context(open_(path)), mode="r|")
    return Shard.open(path, "r|*")


class Member(tarfile.TarInfo):
    """A file of a tar. A tar ends with a block of zeros; of another end, where tarfile stops in silence, is told."""

    @classmethod
    def fromtarfile(cls, shard: tarfile.TarFile) -> Self:
        """The next one; what tarfile raises for the end, or for zeros, which are passed by."""
        assert isinstance(shard, Shard)
        try:
            found = super().fromtarfile(shard)
        except tarfile.HeaderError as error:
            kind = type(error).__name__  # classes that tarfile has and does not document
            shard.ended |= kind == "EOFHeaderError"
            if kind == "EOFHeaderError" or (kind == "EmptyHeaderError" and shard.ended):
                raise
            told = "what follows its end is no tar" if shard.ended else "it was cut or damaged, and has no end"
            raise tarfile.ReadError(f"{told} ({error})") from error
        shard.number += shard.ended
        shard.ended = False
        return found


class Shard(tarfile.TarFile):
    """Tars in a file: which of them is read, and whether it has come to its end."""

    tarinfo: type[tarfile.TarInfo] = Member
    ignore_zeros: bool = True
    number: int = 0
    ended: bool = False


def grouped(shard: Shard, path: Path, most: int) -> Iterator[tuple[str, dict[str, bytes]]]:
    """The files of each sample, by what follows the first dot of their names."""
    last, parts = (0, ""), dict[str, bytes]()
    for member in shard:
        folder, _, base = member.name.rpartition("/")
        if not member.isfile() or base.startswith("."):
            continue
        stem, _, ending = base.partition(".")
        name, ending = f"{folder}/{stem}" if folder else stem, ending.lower()
        if (shard.number, name) != last and parts:
            yield last[1], parts
            parts = {}
        last = shard.number, name
        if ending not in (*PICTURES, "cls"):
            parts.setdefault(ending, b"")
        elif ending in parts:
            raise DataError("X209", f"sample {short(name)} of {path} has two files {ending}.", hint="leave one out.")
        else:
            parts[ending] = read(shard, member, path, MOST_TEXT if ending == "cls" else most)
    if parts:
        yield last[1], parts


def read(shard: tarfile.TarFile, member: tarfile.TarInfo, path: Path, most: int) -> bytes:
    """What a file of a tar holds, if that is not too much."""
    if member.size > most:
        told = f"{member.name} of {path} has {counted(member.size, 'byte')}, more than the {most:,} allowed"
        raise DataError("X207", f"{told}.", hint="max_pixels allows larger pictures.")
    file = shard.extractfile(member)
    return file.read() if file else b""
