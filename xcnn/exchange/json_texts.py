"""JSON of others, parsed within limits: as Python's objects, values take up to a hundred times their text."""

from __future__ import annotations

import json
from typing import Any

MOST_VALUES = 1 << 18
"""Values of one text: those of eight thousand layers of a net, or of twenty thousand tensors of a file of weights."""


def parsed(text: bytes) -> Any:
    """The value of a text.

    Raises
    ------
    ValueError, RecursionError
        where it is no JSON, too deep, or has too many values.
    """
    if sum(map(text.count, (b",", b"[", b"{"))) > MOST_VALUES:
        raise ValueError(f"more than {MOST_VALUES:,} values")
    return json.loads(text)
