"""Trees of arrays: nested dicts whose leaves are arrays, or Next(array) among gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

from xcnn.core.types import Weights
from xcnn.errors import OptionError


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
            yield f"{prefix}{name}", leaf


def leaves(tree: Weights) -> list[Any]:
    """The leaves in order."""
    found: list[Any] = []
    for leaf in tree.values():
        if isinstance(leaf, dict):
            found += leaves(leaf)
        else:
            found.append(leaf)
    return found


def filled(pattern: Weights, flat: Mapping[str, Any], prefix: str = "") -> Weights:
    """The tree of the pattern's names, in its order, with the leaves of these `items`."""
    return {
        name: filled(leaf, flat, f"{prefix}{name}/") if isinstance(leaf, dict) else flat[prefix + name]
        for name, leaf in pattern.items()
    }


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


class Guarded(dict[str, Any]):
    """A tree whose owner is asked before anything in it is set: `change(path, entries)` sets them, or raises.

    It gives the branch at the path as it is then, which this shows, each leaf as `show(leaf, its path)`. Copies are
    plain dicts, and nobody's.
    """

    change: Callable[[str, Weights], Weights]
    show: Callable[[Any, str], Any]
    path: str

    def __init__(
        self,
        shown: Weights,
        change: Callable[[str, Weights], Weights],
        show: Callable[[Any, str], Any] = lambda leaf, path: leaf,
        path: str = "",
    ) -> None:
        self.change, self.show, self.path = change, show, path
        super().__init__(self._guarded(shown))

    def _guarded(self, shown: Weights) -> Weights:
        return {
            name: Guarded(leaf, self.change, self.show, f"{self.path}{name}/")
            if isinstance(leaf, dict)
            else self.show(leaf, f"{self.path}{name}")
            for name, leaf in shown.items()
        }

    def __setitem__(self, name: str, value: Any) -> None:
        self.update({name: value})

    def update(self, *given: Any, **named: Any) -> None:
        """Set some entries, all or none."""
        super().update(self._guarded(self.change(self.path, dict(*given, **named))))

    def __ior__(self, given: Any) -> Guarded:  # type: ignore[override, misc]
        self.update(given)
        return self

    def setdefault(self, name: str, value: Any = None) -> Any:
        """What stands there: there is no other name."""
        if name not in self:
            self[name] = value
        return self[name]

    def _kept(self) -> NoReturn:
        raise OptionError("X104", "a tree of weights keeps its names: none can be taken out.", hint="set zeros there.")

    def __delitem__(self, name: str) -> NoReturn:
        self._kept()

    def pop(self, *_: Any) -> NoReturn:
        """Raises."""
        self._kept()

    def popitem(self) -> NoReturn:
        """Raises."""
        self._kept()

    def clear(self) -> NoReturn:
        """Raises."""
        self._kept()

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)
