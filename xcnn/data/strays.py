"""Files in a folder of pictures that are none, told by their names' endings: left out, counted and said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from xcnn.data.images import FORMATS
from xcnn.errors import counted, printable


class Strays:
    """What is left out of a folder.

    Parameters
    ----------
    formats
        the names of the formats whose pictures are wanted
    """

    def __init__(self, formats: Sequence[str] = FORMATS) -> None:
        self.formats: tuple[str, ...] = tuple(formats)
        self.files: Counter[str] = Counter()
        self.classes: list[str] = []

    def __bool__(self) -> bool:
        return bool(self.files or self.classes)

    def pictures(self, files: Sequence[Path]) -> list[Path]:
        """Those files that may be pictures: their ending is one of the formats', or they have none."""
        kept = []
        for file in files:
            ending = file.suffix.lower()
            if not ending or endings().get(ending) in self.formats or file.is_dir():
                kept.append(file)
            else:
                self.files[ending] += 1
        return kept

    def __str__(self) -> str:
        told = [f"{count:,} {printable(ending)}" for ending, count in sorted(self.files.items())]
        others = sorted({str(endings()[each]) for each in self.files if each in endings()})
        said = [f"left out: {', '.join(told)}"] if told else []
        if others:
            wanted = ",".join(name.lower() for name in (*self.formats, *others))
            said.append(f"--formats {wanted} reads {' and '.join(others)} too")
        if self.classes:
            said.append(
                f"{counted(len(self.classes), 'folder')} without pictures: {printable(', '.join(self.classes))}"
            )
        return "; ".join(said)


@cache
def endings() -> dict[str, str]:
    """The names of formats by the endings of their files, of those that Pillow can open here."""
    from PIL import Image

    Image.init()
    return {ending: name for ending, name in Image.registered_extensions().items() if name in Image.OPEN}
