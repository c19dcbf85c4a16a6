"""The file of a checkpoint: safetensors, whose metadata holds a configuration as JSON and the sum of all bytes.

The sum is the SHA-256 of the file up to its tensors, its own 64 digits taken as zeros, and of the SHA-256 of each MiB
of the tensors: every byte counts, and all processors count. In the first version's files it was that of the whole file.
Reading checks sizes before it allocates, the sum before it believes, the type and range of each entry (schema.py)
before it uses it. Of a large file the configuration comes first: tensors are read where they are those of its net.

Files are written and read in pieces, and summed by threads beside that: nothing of a file's size is made but the
tensors themselves.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import cycle
from math import prod
from pathlib import Path
from typing import Any, NoReturn, cast

import numpy as np

from xcnn.core.aligned import aligned
from xcnn.core.checks import plain
from xcnn.core.files import FREE, IrregularFileError, is_hollow, open_regular, path_of, replacing, sync
from xcnn.core.process import processors
from xcnn.core.streams import Stream, content_of, give, is_stream, name_of
from xcnn.core.types import Shape
from xcnn.core.windows import is_whole
from xcnn.errors import CheckpointError
from xcnn.model import schema
from xcnn.model.schema import TooMuchError, short
from xcnn.training.state import HostArray

FORMAT, FIRST = "xcnn.checkpoint.2", "xcnn.checkpoint.1"
LARGEST = 2**33
"""Bytes of the largest file that is read: 8 GiB."""
LARGEST_HEADER = 2**24
PIECE = 2**20
"""Bytes that are summed together, and written or read at a time: they stay in cache. Files depend on it."""
ROOMS = 4
"""Pieces that are written before the first of them must be summed."""
BEHIND = 32
"""Pieces that are read before the first of them must be summed."""
SYNCED = 2**25
"""Bytes that are written before the file is brought to the disk for the first time."""
MOST_VALUES = 2**18
"""In a header, tensors and configuration together: as Python's objects they take up to a hundred times their text."""
MOST_TENSORS = 20_000
BLANK = "0" * 64
KINDS = {"F32": "float32", "F64": "float64", "I64": "int64"}
COUNTS = "counts/"
"""Before the names of what metrics have counted, which is the host's."""
PATH = re.compile(r"(weights|state|counts)(/(?!\.\.?(/|$))[^/\x00-\x1f]{1,255})+")
Tensors = dict[str, HostArray]


class Sum:
    """The sum of a file, within a `with` block that reads or writes it: threads sum its pieces meanwhile."""

    digest: Any
    whole: bool
    beside: ThreadPoolExecutor | None
    begun: deque[Future[bytes]]
    piece: list[memoryview]
    """What is given of the piece that is not whole yet."""
    room: int
    """Bytes that it lacks."""

    def __init__(self, begin: bytes, size: int, whole: bool = False) -> None:
        """Begin with a file's header, of one with so many bytes; `whole` for the first version's sum."""
        self.digest, self.whole = hashlib.sha256(begin), whole
        self.beside = ThreadPoolExecutor(1 if whole else processors(), "xcnn-sum") if size > FREE else None
        self.begun, self.piece, self.room = deque(), [], PIECE

    def __enter__(self) -> Sum:
        return self

    def __exit__(self, *error: object) -> None:
        if self.beside:
            self.beside.shutdown(cancel_futures=True)

    def add(self, cells: memoryview) -> None:
        """The next bytes of the tensors. They must stay as they are until they are summed."""
        while len(cells):
            part, cells = cells[: self.room], cells[self.room :]
            self.piece.append(part)
            self.room -= len(part)
            if not self.room:
                self._begin()

    def _begin(self) -> None:
        """Begin to sum the piece."""
        piece, self.piece, self.room = self.piece, [], PIECE
        if self.beside:
            try:
                self.begun.append(self.beside.submit(self._sum, piece))
                return
            except RuntimeError:  # the interpreter ends, and starts no thread any more
                self.wait()
        self.digest.update(self._sum(piece))

    def _sum(self, piece: list[memoryview]) -> bytes:
        """What is to be summed of a piece, if anything still is."""
        digest = self.digest if self.whole else hashlib.sha256()
        for part in piece:
            digest.update(part)
        return b"" if self.whole else digest.digest()

    def wait(self, left: int = 0) -> None:
        """Until so many pieces at most, the last ones, are not summed."""
        while len(self.begun) > left:
            self.digest.update(self.begun.popleft().result())

    def digits(self) -> str:
        """The sum, once all bytes are given."""
        if self.piece:
            self._begin()
        self.wait()
        return str(self.digest.hexdigest())


class Syncing:
    """A file whose bytes a thread of a `with` block brings to the disk meanwhile, so that little is left at its end."""

    file: io.BufferedIOBase
    beside: ThreadPoolExecutor | None
    begun: Future[None] | None
    written: int

    def __init__(self, file: io.BufferedIOBase, size: int) -> None:
        beside = size > SYNCED and isinstance(file, io.BufferedWriter)
        self.file, self.begun, self.written = file, None, 0
        self.beside = ThreadPoolExecutor(1, "xcnn-sync") if beside else None

    def __enter__(self) -> Syncing:
        return self

    def __exit__(self, error: type[BaseException] | None, *more: object) -> None:
        if self.beside:
            self.beside.shutdown()
        if self.begun and error is None:
            self.begun.result()  # what the disk refuses it may tell only once

    def write(self, piece: memoryview) -> None:
        """Write a piece, and begin to bring the file to the disk where there is much that is not there yet."""
        self.file.write(piece)
        self.written += len(piece)
        if self.beside and self.written >= SYNCED and (not self.begun or self.begun.done()):
            if self.begun:
                self.begun.result()
            with suppress(RuntimeError):  # as the interpreter ends
                self.begun, self.written = self.beside.submit(sync, self.file.fileno()), 0


def put(
    path: str | Path | Stream, tensors: Mapping[str, Any], text: str, fetch: Callable[[Any], HostArray] = np.asarray
) -> None:
    """Write tensors and a configuration that `read_back` has read; `fetch` brings one tensor after another to the host.

    An open file is given all bytes once there are all.
    """
    if is_stream(path, "write"):
        room = io.BytesIO()
        write(room, tensors, text, fetch)
        give(path, room.getbuffer())
        return
    with replacing(cast("str | Path", path)) as file:
        write(file, tensors, text, fetch)


def write(file: io.BufferedIOBase, tensors: Mapping[str, Any], text: str, fetch: Callable[[Any], HostArray]) -> None:
    """Write a file from its beginning. What is written is what is summed, whoever else holds the tensors."""
    header, promised = header_of({name: (_kind(tensor), tuple(tensor.shape)) for name, tensor in tensors.items()}, text)
    begin = len(header).to_bytes(8, "little") + header
    rooms = cycle([memoryview(bytearray(min(promised, PIECE))) for _ in range(ROOMS)])
    with Sum(begin, promised) as summed, Syncing(file, promised) as synced:
        file.write(begin)
        cells = (cells_of(np.asarray(sent(name, tensor, fetch), order="C")) for name, tensor in tensors.items())
        for piece in gathered(cells, rooms, lambda: summed.wait(ROOMS - 1)):
            summed.add(piece)
            synced.write(piece)
        digits = summed.digits()
        file.seek(begin.index(BLANK.encode()))
        file.write(digits.encode())


def gathered(
    parts: Iterable[memoryview], rooms: Iterator[memoryview], free: Callable[[], None]
) -> Iterator[memoryview]:
    """Copies of some bytes in one room after another, each full but the last; `free` waits until there is one."""
    used = 0
    for part in parts:
        while len(part):
            if not used:
                free()
                room = next(rooms)
            taken = part[: len(room) - used]
            room[used : used + len(taken)] = taken
            part, used = part[len(taken) :], used + len(taken)
            if used == len(room):
                yield room
                used = 0
    if used:
        yield room[:used]


def cells_of(tensor: HostArray) -> memoryview:
    """The bytes of a tensor without gaps."""
    return tensor.reshape(-1).view(np.uint8).data


def _kind(tensor: Any) -> str:
    """The name of its type, also where the library says "torch.float32"."""
    return str(tensor.dtype).rpartition(".")[2]


def header_of(shapes: Mapping[str, tuple[str, Shape]], text: str) -> tuple[bytes, int]:
    """The header of a file of such tensors, a multiple of 8 bytes, and how many bytes the tensors have."""
    entries: dict[str, Any] = {"__metadata__": {"xcnn": text}}
    end, kinds = 0, {name: kind for kind, name in KINDS.items()}
    for name, (kind, shape) in shapes.items():
        begin, end = end, end + prod(shape) * np.dtype(kind).itemsize
        entries[name] = {"dtype": kinds[kind], "shape": shape, "data_offsets": (begin, end)}
    header = json.dumps(entries).encode()
    return header + b" " * (-len(header) % 8), end


def read_back(shapes: Mapping[str, tuple[str, Shape]], text: str) -> dict[str, Any]:
    """The configuration as a file gives it back: what could not be read again is not written.

    Raises
    ------
    CheckpointError
        X403, X404, for names, shapes, sizes and values that a file can't have.
    """
    header, end = header_of(shapes, text)
    if len(header) > LARGEST_HEADER or len(header) + end > LARGEST:
        whole = len(header) + end
        raise CheckpointError("X404", f"the checkpoint would have {whole:,} bytes, {len(header):,} of them its header.")
    config = parse(Path("the checkpoint"), header)[2]
    check_config("the checkpoint", config)
    return config


def written(config: Mapping[str, Any]) -> str:
    """The configuration as JSON, NumPy's numbers as Python's.

    Raises
    ------
    CheckpointError
        X403, naming the entry that holds something else.
    """

    def text_of(value: Any) -> str:
        return json.dumps(value, default=_number)

    try:
        return text_of({"sha256": BLANK, **config})
    except (TypeError, ValueError, RecursionError) as error:
        for name, value in config.items():
            try:
                text_of(value)
            except (TypeError, ValueError, RecursionError) as fault:
                hints = {"info": "keep plain values in model.info.", "history": "a callback put it into a row."}
                what, hint = {"info": "model.info", "history": "the history"}.get(name, name), hints.get(name, "")
                raise CheckpointError("X403", f"{what} can't be written: {fault}", hint=hint) from error
        raise CheckpointError("X403", f"the configuration can't be written: {error}") from error


def _number(value: Any) -> Any:
    """A number of NumPy's as Python's, for JSON; TypeError for what is none."""
    found = plain(value)
    if not isinstance(found, bool | int | float | str):
        raise TypeError(f"{type(value).__name__} is no plain value")
    return found


def read(path: str | Path | bytes | Stream) -> tuple[Tensors, dict[str, Any]]:
    """The tensors and the configuration of a checkpoint.

    Raises
    ------
    CheckpointError
        X401 incomplete, X402 altered, X403 not one of ours, X404 too large. FileNotFoundError passes through.
    """
    with opened(path) as contents:
        return contents.tensors(), contents.config


@contextmanager
def opened(source: str | Path | bytes | Stream) -> Iterator[Contents]:
    """What a checkpoint holds, sizes and configuration checked; the sum too, where the file is small."""
    path, opened_file = file_of(source)
    with opened_file as file:
        contents = _contents(path, file)
        if contents.promised <= FREE:
            contents.known = contents.read()  # so that damage is told as such
        check_config(path, contents.config)
        yield contents


def file_of(source: Any) -> tuple[Path, io.BufferedIOBase]:
    """The file's name, as errors tell it, and the file; of bytes and of open files a copy in memory."""
    if isinstance(source, bytes | bytearray | memoryview) or is_stream(source, "read"):
        path, content = Path(name_of(source)), content_of(source, LARGEST)
        if content is None:
            raise too_large(path, "more")
        return path, content
    path = path_of(source)
    try:
        return path, open_regular(path)
    except IrregularFileError:
        refuse(path, "it is no regular file.")


def too_large(path: Path, size: str) -> CheckpointError:
    """X404"""
    return CheckpointError("X404", f"{path.name} has {size} bytes; checkpoints have at most {LARGEST:,}.")


def _contents(path: Path, file: io.BufferedIOBase) -> Contents:
    """What the header says, its sizes checked."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if size > LARGEST:
        raise too_large(path, f"{size:,}")
    if isinstance(file, io.BufferedReader) and is_hollow(file):
        raise CheckpointError("X404", f"{path.name} has {size:,} bytes, nearly all of them holes.")
    length = int.from_bytes(file.read(8), "little")
    if size < 10 or length > LARGEST_HEADER:
        refuse(path, "it is not a safetensors file.")
    if size < 8 + length:
        raise CheckpointError("X401", f"{path.name} is incomplete: its header has {length:,} bytes, the file {size:,}.")
    header = file.read(length)
    shapes, promised, config = parse(path, header)
    if size != 8 + length + promised:
        raise CheckpointError(
            "X401" if size < 8 + length + promised else "X402",
            f"{path.name} is {'incomplete' if size < 8 + length + promised else 'altered'}: its header promises "
            f"{8 + length + promised:,} bytes, the file has {size:,}.",
            hint="use an older checkpoint, or copy the file again.",
        )
    digest = config.pop("sha256")
    begin = length.to_bytes(8, "little") + header.replace(digest.encode(), BLANK.encode(), 1)
    return Contents(path, file, shapes, promised, config, digest, begin)


def as_it_is(tensor: HostArray) -> HostArray:
    """A host array stays one."""
    return tensor


@dataclass
class Contents:
    """A checkpoint whose header was read: its tensors' types and shapes by name, in the order of their bytes."""

    path: Path
    file: io.BufferedIOBase
    shapes: dict[str, tuple[str, Shape]]
    promised: int
    config: dict[str, Any]
    digest: str
    begin: bytes
    """The file up to the tensors, without its digest."""
    known: Tensors | None = None
    """The tensors of a small file."""

    def tensors(self, send: Callable[[HostArray], Any] = as_it_is) -> dict[str, Any]:
        """The tensors by name, each sent on, if the file's sum is right; counts of metrics stay here."""
        if self.known is None:
            return self.read(send)
        return {name: sent(name, tensor, send) for name, tensor in self.known.items()}

    def read(self, send: Callable[[HostArray], Any] = as_it_is) -> dict[str, Any]:
        """The same from the file; each is sent as soon as it is read, so that it need not stay on the host."""
        tensors, size = {}, 0
        with Sum(self.begin, self.promised, self.config["format"] == FIRST) as summed:
            for name, (kind, shape) in self.shapes.items():
                tensor = aligned(shape, kind)
                cells = cells_of(tensor)
                for at in range(0, len(cells), PIECE):
                    piece = cells[at : at + PIECE]
                    size += self.file.readinto(piece)
                    summed.add(piece)
                    summed.wait(BEHIND)
                tensors[name] = sent(name, tensor, send)
            digits = summed.digits()
        if size < self.promised or digits != self.digest:
            raise CheckpointError(
                "X402",
                f"{self.path.name} was altered: its SHA-256 is not the one that it names.",
                hint="copy the file again.",
            )
        return tensors


def sent(name: str, tensor: HostArray, send: Callable[[HostArray], Any]) -> Any:
    """A tensor, sent on if it is one of the backend's."""
    return tensor if name.startswith(COUNTS) else send(tensor)


def check_config(path: str | Path, config: Mapping[str, Any]) -> None:
    """Raise X403 or X404 unless each entry of the configuration is of its type and in its range."""
    try:
        schema.CONFIG(config, "")
    except TooMuchError as error:
        raise CheckpointError("X404", f"{Path(path).name} is not read, or not written: {error}.") from error
    except ValueError as error:
        raise CheckpointError(
            "X403",
            f"{Path(path).name} is not a checkpoint that xcnn can read: its configuration is not valid.",
            str(error),
            hint="model.save(path) writes one.",
        ) from error


def parse(path: Path, header: bytes) -> tuple[dict[str, tuple[str, tuple[int, ...]]], int, dict[str, Any]]:
    """Types and shapes by name in the order of their bytes, the number of those bytes, and the configuration."""
    values = sum(map(header.count, (b",", b"[", b"{")))
    if values > MOST_VALUES:
        raise CheckpointError(
            "X404", f"{path.name} has {values:,} values in its header; at most {MOST_VALUES:,} are read."
        )
    try:
        entries = json.loads(header, object_pairs_hook=_unique)
        text = entries.pop("__metadata__")["xcnn"]
        try:
            config = json.loads(text, object_pairs_hook=_unique)
        except RecursionError as error:  # in some versions of Python: others read on, and its net is refused
            raise CheckpointError("X404", f"{path.name} is not read: it is nested too deep.") from error
        if config["format"] not in (FORMAT, FIRST) or not re.fullmatch(r"[0-9a-f]{64}", config["sha256"]):
            refuse(path, f"its format is {short(config['format'])}; this version reads {FORMAT!r}.")
        if len(entries) > MOST_TENSORS:
            raise CheckpointError(
                "X404", f"{path.name} has {len(entries):,} tensors; at most {MOST_TENSORS:,} are read."
            )
        shapes, at = {}, 0
        for name, entry in sorted(entries.items(), key=lambda item: (item[1]["data_offsets"], item[0])):
            kind, shape, (begin, end) = KINDS[entry["dtype"]], tuple(entry["shape"]), entry["data_offsets"]
            sound = all(is_whole(n) and 0 <= n < 2**40 for n in (*shape, begin, end)) and len(shape) <= 8
            if (
                not sound
                or not PATH.fullmatch(name)
                or begin != at
                or end - at != prod(shape) * np.dtype(kind).itemsize
            ):
                refuse(path, f"its tensor {name[:80]!r} is not valid.")
            shapes[name], at = (kind, shape), end
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        refuse(path, f"its header is not one of a checkpoint ({type(error).__name__}).")
    return shapes, at, config


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


def refuse(path: str | Path, why: str, cause: BaseException | None = None) -> NoReturn:
    raise CheckpointError(
        "X403", f"{Path(path).name} is not a checkpoint that xcnn can read: {why}", hint="model.save(path) writes one."
    ) from cause
