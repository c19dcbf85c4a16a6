"""Picture files as samples of a classifier, which other processes can read."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from xcnn.data.source import Batch, Numbered, Numbers, digest
from xcnn.model.image_files import from_file


class Pictures(Numbered):
    """Files of pictures, prepared one by one as `xcnn predict` does it.

    Parameters
    ----------
    model
        which they are prepared for
    files
        any
    limits
        options of reading

    Raises
    ------
    DataError
        X207, X208, from `batch`, for a file that can't be read; its message names the file
    """

    travels: bool = True

    def __init__(self, model: Any, files: Sequence[Path], limits: dict[str, Any]) -> None:
        self.files: list[Path] = [*files]
        self.limits: dict[str, Any] = limits
        self.taken_by: SimpleNamespace = SimpleNamespace(
            input_shape=model.input_shape, info={"data": model.info.get("data")}
        )

    def __len__(self) -> int:
        return len(self.files)

    def told(self, number: int) -> str:
        """The file."""
        return str(self.files[number])

    def batch(self, numbers: Numbers) -> Batch:
        """These pictures, read and prepared."""
        read: Any = [from_file(self.taken_by, self.files[number], self.limits)[0] for number in numbers]
        return Batch(np.stack(read), None, numbers)

    def part(self, numbers: Numbers) -> Pictures:
        """Some of them."""
        made = copy(self)
        made.files = [self.files[number] for number in numbers]
        return made

    def fingerprint(self) -> str:
        """A checksum of the names and sizes of all files, and of how they are read."""
        sizes = np.array([file.stat().st_size for file in self.files], np.int64)
        return digest(f"{vars(self.taken_by)} {self.limits}", "\0".join(map(str, self.files)), sizes)
