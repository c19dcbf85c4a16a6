"""The file of what was chosen of NVIDIA's libraries: JSON, for one GPU, a section for each library."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from xcnn.errors import BackendError

FORMAT = 1
log = logging.getLogger("xcnn")
T = TypeVar("T")


def taken(
    path: str | Path, expected: Mapping[str, Any], take: Callable[[dict[str, Any]], dict[str, T]]
) -> dict[str, T]:
    """What `take` makes of a file's content; nothing where there is no file yet, or where it is for something else.

    Parameters
    ----------
    expected
        what the file must have: "format", "device", and maybe versions
    take
        raises ValueError, KeyError or the like for content that is none

    Raises
    ------
    BackendError
        X307, for a file that is damaged or something else.
    """
    try:
        text = Path(path).read_bytes()
    except FileNotFoundError:
        return {}
    try:
        content = json.loads(text)
        found = {name: content[name] for name in expected}
        if found != expected:
            log.warning("the plans of %s are passed over: they are for %s, this is %s.", path, found, dict(expected))
            return {}
        return take(content)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BackendError(
            "X307",
            f"{path} is damaged, or no file of cuDNN's plans.",
            f"{type(error).__name__}: {error}",
            hint="delete it: it is written anew.",
        ) from error
