"""Tars of pictures and their classes, read in sequence: many small files are read as a few large ones.

The layout is WebDataset's: files that belong together follow each other and have one name up to its first dot, as
"0001.jpg" and "0001.cls".
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from xcnn.core import random
from xcnn.core.checks import check_choice, check_whole
from xcnn.data.images import BYTES_PER_PIXEL, FORMATS, MAX_PIXELS, SPARE_BYTES, Room, check_image_options
from xcnn.data.photos import Reading, Skipped
from xcnn.data.shard import samples_of
from xcnn.data.source import Batch, Job, Pass, Source, digest
from xcnn.errors import DataError, counted, short

SHARDS, BUFFER = 0x7A4, 0x7A5
"""What tells the keys of the order of shards, and of samples, from others."""


class Record(NamedTuple):
    """A sample as it stands in a tar: its number, its name, the picture's bytes and its class."""

    number: int
    name: str
    content: bytes
    label: str


def tar(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    size: tuple[int, int],
    mode: str = "RGB",
    *,
    classes: Sequence[str] = (),
    buffer: int = 1000,
    bad: str = "raise",
    formats: Sequence[str] = FORMATS,
    max_pixels: int = MAX_PIXELS,
) -> Tar:
    """Pictures and their classes in tars, each read from its beginning to its end: a source for `fit` and the others.

    Of each sample there are a picture, such as "0001.jpg", and its class, "0001.cls": a whole number, or one of the
    `classes`. In training the tars have an order of their own each epoch, and so have the samples, of which each is
    drawn from a buffer; both follow from (seed, epoch). What an augmentation draws follows from a sample's place in its
    tar.

    Parameters
    ----------
    paths
        files, or a pattern such as "shards/*.tar"; they may be compressed, and several tars one behind the other
    size
        (height, width), to which each picture is stretched
    mode
        "L" for grey, one channel, "RGB" for colour
    bad
        what becomes of a file that can't be read: "raise" ends with an error that names it; "skip" leaves it out of its
        batch, with a warning, and counts it in `skipped`
    formats
        the names of the formats that Pillow may open, such as ("PNG", "TIFF", "WEBP")
    max_pixels
        how many pixels a file may hold before it is decoded
    classes
        the names of labels 0, 1, 2, ...
    buffer
        samples of which the next is drawn; they are kept as they are in the file

    Returns
    -------
    Tar

    Raises
    ------
    OptionError
        X104: an option that is none.
    DataError
        X209: there are no such files, or a sample lacks its class; X207: a file that can't be read.

    Examples
    --------
    >>> import io, tarfile
    >>> from PIL import Image
    >>> Image.new("L", (8, 8)).save("0001.png")
    >>> with tarfile.open("shard.tar", "w") as file:
    ...     label = tarfile.TarInfo("0001.cls")
    ...     label.size = 1
    ...     file.add("0001.png")
    ...     file.addfile(label, io.BytesIO(b"1"))
    >>> xcnn.data.tar("shard.tar", size=(8, 8), mode="L", classes=("cats", "dogs")).classes
    ('cats', 'dogs')
    """
    formats = check_image_options(size, mode, formats, max_pixels)
    check_choice("bad", bad, ("raise", "skip"))
    listed = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    files = [Path(found) for path in listed for found in matching(os.path.expanduser(path))]
    reading = Reading(size, mode, formats, max_pixels, bad)
    return Tar(files, reading, tuple(map(str, classes)), check_whole("buffer", buffer))


def matching(path: str) -> list[str]:
    """The file of this name, or those that a pattern names, sorted."""
    found = [path] if os.path.isfile(path) else sorted(filter(os.path.isfile, glob.glob(path)))
    if not found:
        raise DataError("X209", f"there is no tar {short(path)}.", hint='give files, or a pattern as "shards/*.tar".')
    return found


class Tar(Source):
    """Pictures in tars: what `tar` gives.

    Parameters
    ----------
    files
        the tars
    reading
        how pictures are made images
    classes
        their names
    buffer
        samples of which the next is drawn

    Raises
    ------
    DataError
        X207, X209, from `jobs` and what they give, for what can't be read or is not laid out so
    """

    of_bytes: bool | None = True

    def __init__(self, files: list[Path], reading: Reading, classes: tuple[str, ...], buffer: int) -> None:
        self.files: list[Path] = files
        self.reading: Reading = reading
        self.classes: tuple[str, ...] = classes
        self.buffer: int = buffer
        self.skipped: Skipped = Skipped()
        self.room: Room = Room(reading.max_pixels)

    def __repr__(self) -> str:
        shape = (len(self.reading.mode), *self.reading.size)
        return f"<Tar: {counted(len(self.files), 'file')}, pictures as {'x'.join(map(str, shape))}>"

    def told(self, number: int) -> str:
        """The tar, and the place of the sample in it."""
        return f"sample {number & 0xFFFFFFFF} of {self.files[number >> 32]}"

    def jobs(self, way: Pass) -> Iterator[Job]:
        """Batches in the order in which samples are read, or drawn from the buffer."""
        records = iter(drawn(self.records(way), self.buffer, way) if way.shuffle else self.records(way))
        number = 0
        while chosen := list(islice(records, way.batch_size)):
            number += 1
            if number > way.done:
                yield partial(self.decoded, chosen)

    def records(self, way: Pass) -> Iterator[Record]:
        """The samples of all tars."""
        order = np.arange(len(self.files))
        if way.shuffle:
            order = random.generator(way.seed, way.epoch, SHARDS).permutation(len(order))
        for shard in map(int, order):
            file, most = self.files[shard], BYTES_PER_PIXEL * self.reading.max_pixels + SPARE_BYTES
            for place, (name, content, label) in enumerate(samples_of(file, most)):
                yield Record((shard << 32) + place, f"{file}/{name}", content, label)

    def decoded(self, records: list[Record]) -> Batch:
        """A batch of pictures."""
        pictures = [(record.name, record.content) for record in records]
        x, kept = self.reading.images(pictures, len(records), self.room, self.skipped)
        labels = [self.label_of(records[place]) for place in kept]
        return Batch(x, np.array(labels, np.int64), np.array([records[place].number for place in kept], np.int64))

    def label_of(self, record: Record) -> int:
        """The number of a sample's class."""
        if record.label in self.classes:
            return self.classes.index(record.label)
        if not record.label.isdecimal() or len(record.label) > 18:  # beyond int64
            hint = "tar(..., classes=[...]) names them." if not self.classes else "mend the tar, or the classes."
            raise DataError(
                "X209", f"{record.name} has the class {short(record.label)}, which is no number.", hint=hint
            )
        return int(record.label)

    def fingerprint(self) -> str:
        """A checksum of how they are read, and of the names and sizes of the tars."""
        how = f"{self.reading.size} {self.reading.mode} {self.buffer}"
        return digest(how, *(f"{file.name} {file.stat().st_size} " for file in self.files))


def drawn(records: Iterator[Record], buffer: int, way: Pass) -> Iterator[Record]:
    """Samples in an order that is drawn: each is one of the buffer, whose place the next sample takes."""
    rng = random.generator(way.seed, way.epoch, BUFFER)
    held = list(islice(records, buffer))
    for record in records:
        place = int(rng.integers(len(held)))
        yield held[place]
        held[place] = record
    for place in rng.permutation(len(held)):
        yield held[place]
