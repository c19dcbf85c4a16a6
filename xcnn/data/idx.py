"""IDX files, the format of MNIST: what the header promises is checked before anything is allocated."""

from __future__ import annotations

import gzip
import io
import os
import zlib
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xcnn.core.files import FREE, RATIO, IrregularFileError, is_hollow, open_regular, path_of
from xcnn.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
MAX_AXES = 32
MAX_BYTES = 1 << 32
STEP = 1 << 20


def load_idx(path: str | os.PathLike[str], max_bytes: int = MAX_BYTES) -> NDArray[Any]:
    """The array in an IDX file, which may be compressed with gzip, in the machine's own byte order.

    file = 0, 0, type, number of axes (a byte each); the size of each axis (4 bytes, big-endian); the cells.

    Parameters
    ----------
    path
        of the file; "~" stands for the user's folder
    max_bytes
        the largest array, in bytes

    Raises
    ------
    DataError
        X204: not an IDX file, cut short, too long, larger than `max_bytes`, or compressed beyond belief.

    Examples
    --------
    >>> from pathlib import Path
    >>> written = Path("labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1]))
    >>> xcnn.datasets.load_idx("labels-idx1-ubyte")
    array([7, 2, 1], dtype=uint8)
    """
    _, array = read(path, max_bytes)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def read(path: str | os.PathLike[str], max_bytes: int = MAX_BYTES) -> tuple[bytes, NDArray[Any]]:
    """The header of an IDX file, and its cells as they stand there."""
    path = path_of(path)
    if not path.is_file():
        raise _error(path, "is not there." if not path.exists() else "is not a file.")
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if is_hollow(file):
                hint = "if you trust it, copy it with cp --sparse=never."
                raise _error(path, f"has {size:,} bytes, nearly all of them holes.", hint)
            if file.peek(2)[:2] != b"\x1f\x8b":
                return _read(path, file, max_bytes, size)
            limit = min(max_bytes, max(FREE, RATIO * size))
            with gzip.GzipFile(fileobj=file) as plain:
                return _read(path, plain, limit, None)
    except IrregularFileError:
        raise _error(path, "is not a file.") from None
    except (OSError, EOFError, zlib.error) as error:
        raise _error(path, f"can't be read: {error}") from error


def _read(path: Path, file: io.BufferedIOBase, limit: int, size: int | None) -> tuple[bytes, NDArray[Any]]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in TYPES or not 1 <= magic[3] <= MAX_AXES:
        raise _error(path, f"is not an IDX file: it begins with {magic!r}, not with 0, 0, type, number of axes.")
    axes = file.read(4 * magic[3])
    if len(axes) < 4 * magic[3]:
        raise _error(path, "ends within its header.")
    dtype = np.dtype(TYPES[magic[2]])
    shape = tuple(int(n) for n in np.frombuffer(axes, dtype=">u4"))
    promised = len(magic) + len(axes) + prod(shape) * dtype.itemsize
    what = f"{' x '.join(f'{n:,}' for n in shape)} cells of {dtype.newbyteorder('=')}, {promised:,} bytes in all"
    if size is not None and size != promised:
        raise _error(path, f"promises {what}, but has {size:,}.")
    if prod(max(n, 1) for n in shape) * dtype.itemsize > limit:
        raise _error(path, f"promises {what}, more than the {limit:,} allowed here.", hint=_limit_hint(size))
    array = np.empty(shape, dtype)
    cells = array.reshape(-1).view(np.uint8).data
    done = 0
    while done < len(cells):
        count = file.readinto(cells[done : done + STEP])
        if not count:
            raise _error(path, f"promises {what}, but ends {len(cells) - done:,} bytes before.")
        done += count
    if file.read(1):
        raise _error(path, f"promises {what}, but goes on after them.")
    return magic + axes, array


def _limit_hint(size: int | None) -> str:
    return "if you trust it, " + ("pass max_bytes." if size is not None else "decompress it first.")


def _error(path: Path, message: str, hint: str = "") -> DataError:
    return DataError("X204", f"{path} {message}", hint=hint)
