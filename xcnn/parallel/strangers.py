"""Layers of a user's own in a net, of which nobody knows what they look at."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from xcnn.core.pure import is_own
from xcnn.layers.container import Container


def strangers(net: Any) -> dict[str, type]:
    """The classes by name, sorted."""
    kinds: set[Any] = {type(layer) for layer in within(net)}
    return dict(sorted((kind.__name__, kind) for kind in kinds if not is_own(kind)))


def within(layer: Any) -> Iterator[Any]:
    """A layer and all that it holds."""
    yield layer
    inner = layer if isinstance(layer, Container) else (vars(layer).get(name) for name in HOLDING)
    for each in inner:
        if each is not None:
            yield from within(each)


HOLDING = ("layer", "graph", "net")
"""Attributes by which layers hold another."""
