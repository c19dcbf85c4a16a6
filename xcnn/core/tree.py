"""Trees of arrays: nested dicts whose leaves are arrays, or Next(array) among gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from xcnn.core.types import Weights


def map(f: Callable[..., Any], tree: Weights, *others: Weights) -> Weights:
    """Apply f to each leaf of the first tree together with the leaves of the others at the same place."""
    return {
        name: map(f, leaf, *(other[name] for other in others))
        if isinstance(leaf, dict)
        else f(leaf, *(other[name] for other in others))
        for name, leaf in tree.items()
    }


def items(tree: Weights, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves with their paths: ("conv1/kernel", array)."""
    for name, leaf in tree.items():
        if isinstance(leaf, dict):
            yield from items(leaf, f"{prefix}{name}/")
        else:
            yield prefix + name, leaf


def leaves(tree: Weights) -> list[Any]:
    """The leaves in order."""
    found: list[Any] = []
    for leaf in tree.values():
        if isinstance(leaf, dict):
            found += leaves(leaf)
        else:
            found.append(leaf)
    return found


def from_items(flat: Mapping[str, Any]) -> Weights:
    """The tree whose `items` these are."""
    tree: Weights = {}
    for path, leaf in flat.items():
        *parents, name = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = leaf
    return tree
