"""Files of PyTorch's weights: safetensors, and what `torch.save` writes, in its archives and in its older form.

What a file says is checked against its size first; tensors are read when they are asked for, while it is open.
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

from xcnn.core.files import write_whole
from xcnn.core.windows import is_whole
from xcnn.errors import ExchangeError
from xcnn.exchange.archives import BROKEN, archive, member, opened, refuse
from xcnn.exchange.json_texts import parsed
from xcnn.exchange.pytorch.pickles import MOST_BYTES, RefusedError, loads
from xcnn.exchange.pytorch.tensors import MOST_AXES, MOST_CELLS, SIZES, Numbers, Order, Storage, Stored, numbers

SAFETENSORS = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
MOST_HEADER = 1 << 22
"""Bytes of a safetensors file's header: those of thirty thousand tensors."""
MAGIC = 0x1950A86A20F9469CFC6C
"""The number that torch.save's older files begin with, as a pickle."""
WHOLE = "in PyTorch, save the weights alone: torch.save(model.state_dict(), path), or as safetensors."
DAMAGED = (
    ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, EOFError, struct.error,
)  # fmt: skip
"""What bytes in disorder make of a reader."""


@contextmanager
def reading(path: str | Path) -> Iterator[Any]:
    """What a file of weights holds, its tensors as `Stored`, to be read within the block.

    Parameters
    ----------
    path
        of the file

    Raises
    ------
    ExchangeError
        X416, for what is no such file, damaged, larger inside than it is, or asks for anything to be called.
    FileNotFoundError, PermissionError, IsADirectoryError
        as the file system says.
    """
    with opened(path) as file:
        begin = file.read(16)
        if begin.startswith(b"PK\x03\x04"):
            with archive(path, file) as whole:
                yield _checked(path, lambda: of_archive(path, whole))
        elif begin[8:9] == b"{":
            yield _checked(path, lambda: of_safetensors(path, file))
        elif begin.startswith(b"\x80"):
            yield _checked(path, lambda: of_older(path, file))
        else:
            kind = "a tar file, as PyTorch wrote before version 0.4" if _is_tar(file) else "neither of these"
            refuse(
                path, f"weights are read from safetensors and from what torch.save writes; it is {kind}.", hint=WHOLE
            )


def _is_tar(file: io.BufferedReader) -> bool:
    file.seek(257)
    return file.read(5) == b"ustar"


def _checked(path: str | Path, read: Any) -> Any:
    """What is read; whatever disorder there is becomes X416."""
    try:
        return read()
    except ExchangeError:
        raise
    except RefusedError as error:
        refuse(path, f"{error}.", hint=WHOLE, cause=error)
    except (*DAMAGED, *BROKEN) as error:
        refuse(path, f"it is damaged ({type(error).__name__}: {str(error)[:200]}).", cause=error)


def of_archive(path: str | Path, whole: zipfile.ZipFile) -> Any:
    """What torch.save has written since version 1.6: a pickle, and a record for each storage."""
    pickled = [name for name in whole.namelist() if re.fullmatch(r"([^/]+/)?data\.pkl", name)]
    if len(pickled) != 1:
        refuse(path, "it is an archive, but not one of torch.save's.", hint=WHOLE)
    folder = pickled[0].removesuffix("data.pkl")
    if any(name.startswith((f"{folder}constants.pkl", f"{folder}code/")) for name in whole.namelist()):
        refuse(path, "it is a TorchScript program, which xcnn does not run.", hint=WHOLE)
    told = f"{folder}byteorder"
    order: Order = ">" if told in whole.namelist() and member(path, whole, told, 16) == b"big" else "<"

    def storage_of(said: tuple[Any, ...]) -> Storage:
        dtype, key, cells, *_ = said
        info, size = whole.getinfo(f"{folder}data/{key}"), SIZES[dtype]
        if info.compress_type != zipfile.ZIP_STORED or info.file_size < cells * size:
            raise ValueError(f"a storage of {cells:,} numbers has {info.file_size:,} bytes")

        def read(first: int, count: int) -> bytes:
            with whole.open(info) as record:
                if count < cells:
                    record.seek(first * size)
                    return record.read(count * size)
                return record.read()[: count * size]  # to its end, where its sum is held to it

        return Storage(dtype, cells, _reader(path, read))

    return loads(io.BytesIO(member(path, whole, pickled[0], MOST_BYTES)), storage_of, order)


def _reader(path: str | Path, read: Any) -> Any:
    """The same, which tells X416 where the file is damaged."""
    return lambda first, count: _checked(path, lambda: read(first, count))


def of_older(path: str | Path, file: io.BufferedReader) -> Any:
    """What torch.save wrote before version 1.6: pickles one after another, then the storages."""
    length = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = io.BytesIO(file.read(MOST_BYTES))
    places: dict[str, tuple[str, int]] = {}
    starts: dict[str, int] = {}

    def no_storage(said: tuple[Any, ...]) -> Storage:
        raise ValueError("a storage stands where none belongs")

    def storage_of(said: tuple[Any, ...]) -> Storage:
        dtype, key, cells, *part = said
        if part not in ([], [None]) or places.setdefault(key, (dtype, cells)) != (dtype, cells):
            raise ValueError("a storage is told in two ways, or is a part of another")
        if cells * SIZES[dtype] > length:
            raise ValueError(f"a storage has {cells:,} numbers, the file {length:,} bytes")

        def read(first: int, count: int) -> bytes:
            file.seek(starts[key] + first * SIZES[dtype])
            return file.read(count * SIZES[dtype])

        return Storage(dtype, cells, _reader(path, read))

    if loads(head, no_storage) != MAGIC:
        raise RefusedError("it is a pickle, but none of torch.save's")
    loads(head, no_storage)
    system = loads(head, no_storage)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise RefusedError("it was written by a big-endian machine")
    value, keys = loads(head, storage_of), loads(head, no_storage)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or sorted(keys) != sorted(places):
        raise ValueError("its storages are not those that its tensors are of")
    at = head.tell()
    for key in keys:
        file.seek(at)
        dtype, cells = places[key]
        if int.from_bytes(file.read(8), "little") != cells:
            raise ValueError(f"a storage of {cells:,} numbers is told to be of another size")
        starts[key], at = at + 8, at + 8 + cells * SIZES[dtype]
    if at > length:
        raise ValueError(f"it is incomplete: its tensors end at {at:,}, the file has {length:,} bytes")
    return value


def of_safetensors(path: str | Path, file: io.BufferedReader) -> dict[str, Stored]:
    """The tensors of a safetensors file."""
    length = file.seek(0, io.SEEK_END)
    file.seek(0)
    header = int.from_bytes(file.read(8), "little")
    if header > min(MOST_HEADER, length - 8):
        refuse(
            path,
            f"its header would have {header:,} bytes; the file has {length:,}, and at most {MOST_HEADER:,} are read.",
        )
    entries = parsed(file.read(header))
    if isinstance(entries, dict):
        entries.pop("__metadata__", None)
    return {name: _stored(path, file, name, entry, 8 + header, length) for name, entry in entries.items()}


def _stored(path: str | Path, file: io.BufferedReader, name: str, entry: Any, start: int, length: int) -> Stored:
    """A tensor of a safetensors file, by its entry in the header."""
    shape, (begin, end) = tuple(entry["shape"]), entry["data_offsets"]
    if entry["dtype"] not in SAFETENSORS:
        raise RefusedError(f"its tensor {name[:80]!r} is of the type {str(entry['dtype'])[:20]}, which is not read")
    dtype = SAFETENSORS[entry["dtype"]]
    if not all(is_whole(n) and 0 <= n < MOST_CELLS for n in (*shape, begin, end)) or len(shape) > MOST_AXES:
        raise ValueError(f"its tensor {name[:80]!r} has a shape or a place that can't be")
    if end - begin != prod(shape) * SIZES[dtype] or start + end > length:
        raise ValueError(f"its tensor {name[:80]!r} has {end - begin:,} bytes, or reaches beyond the file")
    return Stored(dtype, shape, partial(_read, file, start + begin, end - begin, dtype, shape))


def _read(file: io.BufferedReader, at: int, count: int, dtype: str, shape: tuple[int, ...]) -> Numbers:
    """So many bytes of a file, from `at` on, as numbers."""
    file.seek(at)
    return numbers(file.read(count), dtype).reshape(shape)


def write(path: str | Path, tensors: Mapping[str, Numbers]) -> None:
    """Write tensors as a safetensors file, whole or not at all.

    Parameters
    ----------
    path
        of the file
    tensors
        by name
    """
    from safetensors.numpy import save

    write_whole(path, save(dict(tensors), metadata={"format": "pt"}))
