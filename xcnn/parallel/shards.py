"""A shard of a prediction: some samples, whose outputs one process computes and writes into a file of their own."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from xcnn.backends.contract import Backend
from xcnn.core.files import write_whole
from xcnn.data.source import Source
from xcnn.errors import DataError, XcnnError, printable
from xcnn.model.model import Model
from xcnn.training.state import HostArray


@dataclass(frozen=True)
class Loading:
    """How a process comes by the model: by its file, once.

    Parameters
    ----------
    path
        of the checkpoint
    digest
        that tells it from another of this name
    backend
        where it computes
    own
        the classes of layers that are not xcnn's, and the loss, if it is none of xcnn's
    """

    path: Path
    digest: str
    backend: Backend
    layers: tuple[tuple[str, type], ...] = ()
    loss: Any = None

    def loaded(self) -> Model:
        """The model."""
        return load(self)


@lru_cache(maxsize=2)
def load(how: Loading) -> Model:
    """The model of a file, frozen: the last two stay."""
    layers: Mapping[str, type] = dict(how.layers)
    return Model.load(how.path, backend=how.backend, layers=layers, loss=how.loss, metrics=()).frozen()


@dataclass(frozen=True, eq=False)
class Shard:
    """What one process is given.

    Parameters
    ----------
    number
        of the shard
    samples
        how many it has
    x
        them: an array, or a source that can be sent
    batch_size
        samples that are computed at once
    model
        how it is loaded
    path
        of the file that is written
    """

    number: int
    samples: int
    x: HostArray | Source
    batch_size: int
    model: Loading
    path: Path

    def __repr__(self) -> str:
        return f"shard {self.number}"

    def __call__(self) -> Done:
        """Compute the outputs and write them, the whole file or none. Of a shard that is there nothing is done.

        An error of the data is told as a value: it would come again.
        """
        try:
            if written(self.path, self.samples) is None:
                y = self.model.loaded().predict(self.x, batch_size=self.batch_size)
                write(self.path, y)
        except XcnnError as error:
            return Done(self.number, f"{type(error).__name__}{error}")
        return Done(self.number)


@dataclass(frozen=True)
class Done:
    """What came of a shard: its error in words, or none."""

    number: int
    error: str = ""


def write(path: Path, y: HostArray) -> None:
    """Write outputs as a .npy file, whole or not at all."""
    content = io.BytesIO()
    np.lib.format.write_array(content, np.ascontiguousarray(y), allow_pickle=False)
    write_whole(path, content.getvalue())


def written(path: Path, samples: int) -> HostArray | None:
    """The outputs in a file, as a memory map; None where there is none, or not of so many samples."""
    try:
        found: HostArray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return found if found.ndim and len(found) == samples else None


@dataclass
class Shards:
    """The outputs of a prediction in a folder, a file for each shard; what `xcnn.parallel.predict` gives.

    Parameters
    ----------
    folder
        where they lie
    sizes
        samples of each shard
    failed
        the errors of those that could not be computed, in words, by their numbers
    kept_by
        what the folder is gone with; None where somebody named it

    Raises
    ------
    DataError
        X210, from `outputs`, where shards failed.
    """

    folder: Path
    sizes: list[int]
    failed: dict[int, str] = field(default_factory=dict)
    kept_by: Any = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.sizes)

    def path(self, number: int) -> Path:
        """The file of a shard."""
        return self.folder / f"shard-{number:06}.npy"

    def range(self, number: int) -> tuple[int, int]:
        """The first sample of a shard, and the first of the next."""
        first = sum(self.sizes[:number])
        return first, first + self.sizes[number]

    def outputs(self) -> HostArray:
        """The outputs of all samples, (samples, *output_shape), as one array in memory.

        Raises
        ------
        DataError
            X210, where shards failed: it names them.
        """
        if self.failed:
            number, error = next(iter(self.failed.items()))
            first, end = self.range(number)
            told = f"{len(self.failed)} of {len(self)} shards failed; samples {first} to {end - 1}: {printable(error)}"
            raise DataError("X210", told, hint="mend what they name; the same call computes those alone.")
        parts = [written(self.path(number), size) for number, size in enumerate(self.sizes)]
        lost = next((number for number, part in enumerate(parts) if part is None), None)
        if lost is not None:
            hint = "all processes need one folder: that of a file system which they share."
            raise DataError("X210", f"the file of shard {lost} is not there: {self.path(lost)}.", hint=hint)
        return np.concatenate([part for part in parts if part is not None])
