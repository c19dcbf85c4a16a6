"""Weights of PyTorch's put into a net's tree, and a net's tree as a state dict: by name, and all or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from xcnn.backends.registry import backend_of
from xcnn.core import tree
from xcnn.core.arrays import full
from xcnn.core.checks import check_flag
from xcnn.core.types import Shape, Weights
from xcnn.errors import ExchangeError, OptionError, counted, short
from xcnn.exchange.pytorch.files import reading
from xcnn.exchange.pytorch.names import STEPS, Twin, twins
from xcnn.exchange.pytorch.states import Rename, check_rename, renamed, unwrapped, without_prefix
from xcnn.exchange.pytorch.tensors import Numbers, Stored
from xcnn.layers.batch_norm import SETTLED
from xcnn.layers.layer import Layer

OF_MODULE = "give its weights: model.load_weights(net.state_dict())."
COUNTS = "num_batches_tracked"
"""What PyTorch's batch normalisation counts: statistics that are loaded count as those of many batches here."""


@dataclass(frozen=True)
class Loaded:
    """What was loaded, and what was not; it prints itself.

    Parameters
    ----------
    taken
        the net's weights that were loaded, by their names in PyTorch
    missing
        those that stay as they were: what `without` named, or what was not there
    unexpected
        names of the file's that the net does not have
    within
        keys of nested dicts that led to the weights
    prefix
        what all names of the file began with, and was dropped
    """

    taken: tuple[str, ...]
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    within: tuple[str, ...] = ()
    prefix: str = ""

    def __str__(self) -> str:
        told = [f"loaded {counted(len(self.taken), 'weight')}"]
        told += [f"from {' / '.join(map(repr, self.within))}"] * bool(self.within)
        told += [f"without {self.prefix!r} in front of each name"] * bool(self.prefix)
        told += [f"left as they were: {listed(self.missing)}"] * bool(self.missing)
        told += [f"not used: {listed(self.unexpected)}"] * bool(self.unexpected)
        return "; ".join(told)


@dataclass(frozen=True)
class How:
    """How weights are loaded.

    Parameters
    ----------
    rename
        names of the file's, or their beginnings, to PyTorch's names of the net's
    strict
        whether all weights must be there, and no others
    without
        beginnings of names that are neither wanted of the net nor taken of the file
    key
        which entry of a dict of dicts holds the weights; None finds it
    """

    rename: Rename
    strict: bool
    without: tuple[str, ...]
    key: str | None


def how_to(rename: object, strict: object, without: object, key: object) -> How:
    """The way as a value; raises X104 for what can't be one."""
    parts = (without,) if isinstance(without, str) else without
    if not isinstance(parts, tuple | list) or not all(isinstance(part, str) and part for part in parts):
        raise OptionError("X104", f'without must be a name or several, as "fc"; got {short(without)}.')
    if key is not None and not isinstance(key, str):
        raise OptionError("X104", f"key must be a string or None; got {short(key)}.")
    return How(check_rename(rename), check_flag("strict", strict), tuple(parts), key)


def load(net: Layer, weights: Weights, source: Any, how: How) -> tuple[dict[str, Any], Loaded]:
    """The leaves that take the place of a net's, from a file or a state dict; as `fitted`.

    Parameters
    ----------
    net, weights
        a layer and its tree
    source
        a file's name, or a dict of arrays by name
    how
        the way

    Raises
    ------
    OptionError
        X104, for a source that is neither.
    ExchangeError
        X416, X417
    """
    if isinstance(source, Mapping):
        return fitted(net, weights, source, how)
    if hasattr(source, "state_dict"):
        raise OptionError("X104", f"weights come from a file or a dict; got a {type(source).__name__}.", hint=OF_MODULE)
    with reading(source) as given:
        return fitted(net, weights, given, how)


def fitted(net: Layer, weights: Weights, given: Any, how: How) -> tuple[dict[str, Any], Loaded]:
    """The leaves that take the place of a net's, by path, and what is to be told of them.

    Parameters
    ----------
    net
        a layer
    weights
        its tree as it is
    given
        a state dict, or what a file holds
    how
        the way

    Raises
    ------
    ExchangeError
        X416, where there are no weights; X417, where they are not the net's, with all names.
    OptionError
        X104, for names in `rename` and `without` that nothing has.
    """
    of_net = twins(net, weights)
    state, within = unwrapped(given, how.key)
    state, prefix = without_prefix(state, {twin.name for twin in of_net.values()})
    state = {name: each for name, each in state.items() if name.rpartition(".")[2] != COUNTS}
    state = renamed(state, how.rename)
    asked = {path: twin for path, twin in of_net.items() if not begins(twin.name, how.without)}
    for part in how.without:
        if not any(begins(twin.name, (part,)) for twin in of_net.values()):
            raise OptionError("X104", f"without has {part!r}, which is no part of the net's.", _names_of(of_net))
    spare = {name for name in state if begins(name, how.without)}
    paths = {path: twin for path, twin in asked.items() if twin.name in state}
    missing = tuple(twin.name for path, twin in asked.items() if path not in paths)
    known = spare | {twin.name for twin in asked.values()}
    unexpected = tuple(name for name in state if name not in known)
    misshapen = {twin.name: (tuple(state[twin.name].shape), twin.shape) for twin in paths.values()}
    misshapen = {name: both for name, both in misshapen.items() if not same(*both)}
    if misshapen or not paths or (how.strict and (missing or unexpected)):
        raise misfit(missing, unexpected, misshapen, _names_of(of_net), prefix)
    here = dict(tree.items(weights))
    leaves = {path: as_ours(twin, state[twin.name], here[path]) for path, twin in paths.items()}
    leaves |= settled_steps(weights, leaves)
    left = tuple(twin.name for path, twin in of_net.items() if path not in paths)
    return leaves, Loaded(tuple(twin.name for twin in paths.values()), left, unexpected, within, prefix)


def begins(name: str, parts: Iterable[str]) -> bool:
    """Whether a name is one of these, or within one: "fc.weight" is within "fc"."""
    return any(name == part or name.startswith(part if part.endswith(".") else f"{part}.") for part in parts)


def same(shape: Shape, twin: Shape) -> bool:
    """Whether shapes are equal but for axes of one cell, as a Linear's (out, in) is a 1x1 kernel's (out, in, 1, 1)."""
    return shape == twin or (len(shape) != len(twin) and _long(shape) == _long(twin))


def _long(shape: Shape) -> Shape:
    return tuple(n for n in shape if n != 1)


def as_ours(twin: Twin, given: Any, leaf: Any) -> Numbers:
    """A tensor of PyTorch's as the net has it."""
    array: Numbers = given.read() if isinstance(given, Stored) else on_host(given)
    return twin.turned(array.reshape(twin.shape)).reshape(np.shape(leaf))


def on_host(given: Any) -> Numbers:
    """An array of any library's as NumPy's."""
    return given if isinstance(given, np.ndarray) else backend_of(given).to_numpy(given)


def settled_steps(weights: Weights, leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Running statistics that are loaded move from then on by their momentum alone, as PyTorch's do."""
    return {
        path: full(steps, steps.shape, SETTLED)
        for path, steps in tree.items(weights)
        if path.endswith(STEPS) and path.removesuffix(STEPS) + "running_mean" in leaves
    }


def state_dict(net: Layer, weights: Weights, fetch: Callable[[Any], Numbers]) -> dict[str, Numbers]:
    """The weights by PyTorch's names, in its layouts, as NumPy arrays of their own.

    Parameters
    ----------
    net
        a layer
    weights
        its tree
    fetch
        brings an array to the host

    Raises
    ------
    ExchangeError
        X417, where two weights would have one name.
    """
    of_net = twins(net, weights)
    if len({twin.name for twin in of_net.values()}) < len(of_net):
        raise ExchangeError("X417", "two weights of the net would have one name in PyTorch.", _names_of(of_net))
    leaves = dict(tree.items(weights))
    return {
        twin.name: twin.turned(fetch(leaves[path])).copy(order="C").reshape(twin.shape) for path, twin in of_net.items()
    }


def misfit(
    missing: tuple[str, ...],
    unexpected: tuple[str, ...],
    misshapen: Mapping[str, tuple[Shape, Shape]],
    names: str,
    prefix: str,
) -> ExchangeError:
    """X417, with all names in attributes of the error, and as many in its lines as fit."""
    told = [f"{name} {got}, not {expected}" for name, (got, expected) in misshapen.items()]
    details = [
        f"{what} ({len(each):,}): {listed(each)}"
        for what, each in (("missing", missing), ("unexpected", unexpected), ("misshapen", told))
        if each
    ]
    count = ", ".join(
        f"{len(each):,} {what}"
        for what, each in (("missing", missing), ("unexpected", unexpected), ("misshapen", told))
        if each
    )
    hint = 'rename={"theirs.": "ours."} maps names, without="fc" leaves a head as it is'
    hint += (
        ", strict=False takes what is there." if not misshapen else "; build the net with their classes or channels."
    )
    if prefix:
        details.append(f"each name began with {prefix!r}, which was dropped")
    error = ExchangeError("X417", f"these weights are not the net's: {count}.", *(details or [names]), hint=hint)
    error.missing, error.unexpected, error.misshapen = missing, unexpected, dict(misshapen)  # type: ignore[attr-defined]
    return error


def listed(names: Iterable[str], most: int = 12) -> str:
    """Some of many names."""
    names = [*names]
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + more


def _names_of(of_net: Mapping[str, Twin]) -> str:
    return f"the net has {listed(twin.name for twin in of_net.values())}"
