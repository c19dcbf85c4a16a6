"""From what a file holds to a dict of tensors by name: dicts within dicts are unwrapped, names changed as asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn, TypeAlias

from xcnn.core.options import nearest
from xcnn.errors import ExchangeError, OptionError, short
from xcnn.exchange.pytorch.tensors import Stored

Rename: TypeAlias = Mapping[str, str | None]

USUAL = ("state_dict", "model_state_dict", "model", "net", "weights", "params", "module", "network")
"""Keys under which trainings keep weights, the likeliest first."""
DEEPEST = 4


def unwrapped(given: Any, key: str | None) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The dict of tensors within nested ones, and the keys that led there.

    Parameters
    ----------
    given
        what a file holds, or a state dict
    key
        which of the first dict's entries to take; None finds the one that has tensors

    Raises
    ------
    ExchangeError
        X416, where there is none, or several and no key.
    """
    path: tuple[str, ...] = ()
    while True:
        if not isinstance(given, Mapping):
            _no_weights(f"it holds {_described(given)}, not a dict of tensors by name.")
        tensors = {name: each for name, each in given.items() if isinstance(name, str) and is_tensor(each)}
        inner = {name: each for name, each in given.items() if isinstance(name, str) and isinstance(each, Mapping)}
        if key is not None and not path:
            if key not in inner:
                _no_weights(f"it has no dict {key!r}; there are {_listed(inner)}.")
            chosen = key
        elif tensors or not inner:
            if not tensors:
                _no_weights(f"none of its {len(given):,} entries is a tensor.")
            return tensors, path
        else:
            chosen = _chosen(inner)
        given, path = inner[chosen], (*path, chosen)
        if len(path) > DEEPEST:
            _no_weights(f"its dicts are more than {DEEPEST} deep within each other.")


def _chosen(inner: Mapping[str, Any]) -> str:
    """The entry that is the weights."""
    for name in USUAL:
        if name in inner:
            return name
    able = [name for name, each in inner.items() if any(map(is_tensor, each.values()))] or [*inner]
    if len(able) > 1:
        _no_weights(f"it holds several dicts: {_listed(able)}.", hint=f"say which: key={able[0]!r}.")
    return able[0]


def is_tensor(value: Any) -> bool:
    """Whether it has numbers and a shape: one that stands in a file, or an array of any library."""
    return isinstance(value, Stored) or (hasattr(value, "shape") and hasattr(value, "dtype"))


def without_prefix(tensors: Mapping[str, Any], wanted: set[str]) -> tuple[dict[str, Any], str]:
    """The tensors without the first parts that all their names share and no name of the net begins with; those parts.

    "module." comes from DataParallel, "_orig_mod." from torch.compile, "model." from Lightning.
    """
    found, gone = dict(tensors), ""
    while found and len(heads := {name.partition(".")[0] for name in found}) == 1:
        (head,) = heads
        if any(name.partition(".")[0] == head for name in wanted) or any("." not in name for name in found):
            break
        found, gone = {name.partition(".")[2]: each for name, each in found.items()}, f"{gone}{head}."
    return found, gone


def renamed(tensors: Mapping[str, Any], rename: Rename) -> dict[str, Any]:
    """The tensors under other names: `rename` has whole names, or beginnings that end in a point. None leaves out.

    Raises
    ------
    OptionError
        X104, for what no name begins with, and where two tensors would have one name.
    """
    found: dict[str, Any] = {}
    used: set[str] = set()
    for name, each in tensors.items():
        old = name if name in rename else max((p for p in rename if _begins(name, p)), key=len, default=None)
        if old is None:
            new: str | None = name
        else:
            used.add(old)
            new = rename[old]
            if new is not None and old != name:
                new += name[len(old) :]
        if new is None:
            continue
        if new in found:
            raise OptionError("X104", f"rename gives two weights the name {new!r}.")
        found[new] = each
    for old in rename:
        if old not in used:
            meant = nearest(old, tensors)
            hint = f"did you mean {meant!r}?" if meant else "a beginning of names ends in a point: {'backbone.': ''}."
            raise OptionError(
                "X104", f"rename has {old!r}, which is no name of the file's, and none begins so.", hint=hint
            )
    return found


def check_rename(rename: object) -> Rename:
    """Raise X104 unless it goes from names to names or None."""
    if rename is None:
        return {}
    if not isinstance(rename, Mapping) or not all(
        isinstance(old, str) and (new is None or isinstance(new, str)) for old, new in rename.items()
    ):
        raise OptionError("X104", f"rename must be a dict from names to names or None; got {short(rename)}.")
    return rename


def _begins(name: str, old: str) -> bool:
    return (old.endswith(".") or not old) and name.startswith(old)


def _listed(names: Any) -> str:
    return ", ".join(f"{str(name)[:40]!r}" for name in [*names][:8]) or "none"


def _described(value: Any) -> str:
    return f"a {type(value).__name__}" if not isinstance(value, Stored) else "a single tensor"


def _no_weights(why: str, hint: str = "") -> NoReturn:
    hint = hint or "in PyTorch: torch.save(model.state_dict(), path)."
    raise ExchangeError("X416", f"there are no weights to load: {why}", hint=hint)
