"""Where the arrays of a model's layers stand in its file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any


def folders(layers: Iterator[Mapping[str, Any]]) -> dict[int, str]:
    """Where each layer's arrays stand: by class and count, conv2d, conv2d_1."""
    seen: Counter[str] = Counter()
    found = {}
    for layer in layers:
        name = snake_case(str(layer["class_name"]))
        found[id(layer)] = f"{name}_{seen[name]}" if seen[name] else name
        seen[name] += 1
    return found


def snake_case(name: str) -> str:
    """BatchNormalization -> batch_normalization, Conv2DTranspose -> conv2d_transpose."""
    parted = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", parted).lower()
