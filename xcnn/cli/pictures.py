"""The pictures that a command is given, and the model before them, which may be left out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xcnn.cli.options import tell
from xcnn.data.images import FORMATS, check_image_options, size_of
from xcnn.data.strays import Strays, endings
from xcnn.errors import OptionError, counted, short
from xcnn.model.image_files import files_in
from xcnn.nets.pretrained import TRAINED

USUAL = next(iter(TRAINED))
"""The net that is asked where none is named: it knows handwritten digits."""
MODEL_HELP = f"A checkpoint that `xcnn train` wrote, or {USUAL}, which comes with xcnn; by default that one."


def parted(arguments: Sequence[Path], formats: Sequence[str]) -> tuple[Path, list[Path]]:
    """The model, and what stands behind it: where the first argument is a picture or a folder, the usual model.

    Raises
    ------
    OptionError
        X104, where there is a model and no picture.
    """
    first, *others = arguments
    if is_picture(first, formats):
        return Path(USUAL), [first, *others]
    if not others:
        raise OptionError(
            "X104", f"{first} is a model, and no picture is given.", hint=f"name a picture behind it: {first} photo.png"
        )
    return first, others


def is_picture(path: Path, formats: Sequence[str]) -> bool:
    """Whether an argument stands for pictures: a folder, a name that ends as pictures' do, or a file that is one."""
    return path.is_dir() or path.suffix.lower() in endings() or (path.is_file() and size_of(path, formats) is not None)


def check_is_not_read(output: Path, read: Sequence[Path]) -> None:
    """Raise X104 where the file that is to be written is one of those that are read: it would be lost."""
    for path in read:
        if output.exists() and path.exists() and output.samefile(path):
            told = f"{short(str(output))} is what is read, and would be lost."
            raise OptionError("X104", told, hint="give what is written another name.")


def named_formats(limits: dict[str, Any]) -> tuple[str, ...]:
    """The formats that the command line names, or those that are read without a word."""
    return check_image_options(None, "L", limits.get("formats", FORMATS))


def listed(paths: Sequence[Path], limits: dict[str, Any]) -> list[Path]:
    """Files as they are, and the pictures in folders; what is left out there is counted and said.

    Raises
    ------
    OptionError
        X104, where there is none.
    """
    strays = Strays(named_formats(limits))
    files = [file for path in paths for file in files_in(path, strays)]
    if strays:
        tell(str(strays), silent=False)
    if not files:
        hint = "name files, or a folder of them."
        raise OptionError("X104", f"there is no picture in {counted(len(paths), 'folder')}.", hint=hint)
    return files
