"""Who takes what in a Graph: names checked, nodes put in an order in which each comes after what it takes."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

from xcnn.core.options import nearest
from xcnn.errors import OptionError, short

Names: TypeAlias = tuple[str, ...]


@dataclass(frozen=True)
class Wiring:
    """Of each node what it takes, in an order in which what is taken comes first.

    Parameters
    ----------
    takes
        by name
    inputs, outputs
        what the net is given, and what it gives
    """

    takes: dict[str, Names]
    inputs: Names
    outputs: Names

    @cached_property
    def last(self) -> dict[str, int]:
        """Of each value the number of the node that takes it last; that of no node where it is an output."""
        found = {name: n for n, taken in enumerate(self.takes.values()) for name in taken}
        return {**found, **dict.fromkeys(self.outputs, len(self.takes))}

    def chains(self) -> list[tuple[int, int]]:
        """Stretches of nodes, from one number to before another, in which nobody else takes what is between two.

        A node that takes several values stands alone.
        """
        times: dict[str, int] = dict.fromkeys(self.outputs, 1)
        for taken in self.takes.values():
            for name in taken:
                times[name] = times.get(name, 0) + 1
        found: list[tuple[int, int]] = []
        before: Names = ()
        for n, (name, taken) in enumerate(self.takes.items()):
            goes_on = taken == before and times[before[0]] == 1
            found.append((found.pop()[0] if goes_on else n, n + 1))
            before = (name,) if len(taken) == 1 else ()
        return found


def names_of(what: str, given: Any) -> Names:
    """One name, or several different ones, as a tuple; else raise X104."""
    names = (given,) if isinstance(given, str) else given
    fits = isinstance(names, tuple | list) and names and all(isinstance(name, str) for name in names)
    if not fits or len({*names}) < len(names):
        raise OptionError("X104", f"Graph's {what} must be a name or several different ones; got {short(given)}.")
    return tuple(names)


def wired(nodes: Mapping[str, Any], given: Any, asked: Any, takes: Sequence[Sequence[str]]) -> Wiring:
    """The wiring of nodes that are layers, or tuples of a layer and names, or layers whose names are in `takes`.

    `given` and `asked` are the inputs' and the outputs' names, one or several.

    Raises
    ------
    OptionError
        X104, for names that are none or stand for two, cycles, and what nobody takes.
    """
    if not nodes:
        raise OptionError("X104", "Graph has no nodes.", hint="Graph(head=Dense(10)) has one.")
    inputs, outputs = names_of("inputs", given), names_of("outputs", asked)
    if takes and len(takes) != len(nodes):
        raise OptionError("X104", f"Graph's takes tells of {len(takes)} nodes; there are {len(nodes)}.")
    both = [name for name in nodes if name in inputs]
    if both:
        raise OptionError("X104", f"Graph has an input and a node of the name {both[0]!r}.")
    found: dict[str, Names] = {}
    before = inputs[:1]
    for n, (name, node) in enumerate(nodes.items()):
        taken = takes[n] if takes else node[1:] if isinstance(node, tuple | list) and len(node) > 1 else before
        found[name], before = tuple(taken), (name,)
    check_known(found, inputs, outputs)
    ordered = in_order(found)
    check_used(found, inputs, outputs)
    return Wiring(ordered, inputs, outputs)


def check_known(takes: Mapping[str, Names], inputs: Names, outputs: Names) -> None:
    """Raise X104 where a node takes, or an output is, what there is not."""
    known = dict.fromkeys((*inputs, *takes))
    for name, taken in takes.items():
        for one in taken:
            if not isinstance(one, str) or one not in known:
                told = f"Graph's {name!r} takes {short(one)}, which is no input and no node."
                raise OptionError("X104", told, hint=meant(one, known))
        if not taken:
            raise OptionError("X104", f"Graph's {name!r} takes nothing.", hint=f"name what it takes: {inputs[0]!r}.")
    for name in outputs:
        if name not in takes:
            raise OptionError("X104", f"Graph's output {short(name)} is no node.", hint=meant(name, takes))


def meant(name: Any, known: Iterable[str]) -> str:
    """Which name may be meant, or which there are."""
    near = nearest(name, known) if isinstance(name, str) else ""
    return f"did you mean {near!r}?" if near else f"there are {short(list(known))}."


def check_used(takes: Mapping[str, Names], inputs: Names, outputs: Names) -> None:
    """Raise X104 for an input or a node that nobody takes and that is no output."""
    used = {*outputs, *(name for taken in takes.values() for name in taken)}
    for name in (*inputs, *takes):
        if name not in used:
            what = "input" if name in inputs else "node"
            hint = "leave it out" + (", or name it among the outputs." if what == "node" else ".")
            raise OptionError("X104", f"Graph's {what} {name!r} is taken by nobody.", hint=hint)


def in_order(takes: Mapping[str, Names]) -> dict[str, Names]:
    """The nodes with each behind what it takes, else as they were.

    Raises
    ------
    OptionError
        X104, naming the nodes of a cycle.
    """
    names = [*takes]
    number = {name: n for n, name in enumerate(names)}
    missing = [sum(one in number for one in {*taken}) for taken in takes.values()]
    takers: list[list[int]] = [[] for _ in names]
    for n, taken in enumerate(takes.values()):
        for one in {*taken} & {*number}:
            takers[number[one]].append(n)
    ready, order = [n for n, count in enumerate(missing) if not count], []
    while ready:
        order.append(heapq.heappop(ready))
        for n in takers[order[-1]]:
            missing[n] -= 1
            if not missing[n]:
                heapq.heappush(ready, n)
    if len(order) < len(names):
        ring = cycle(takes, (names[n] for n, count in enumerate(missing) if count))
        told = f"Graph goes round: {' takes '.join(map(repr, ring))}."
        raise OptionError("X104", told, hint="one of them must take something else.")
    return {names[n]: takes[names[n]] for n in order}


def cycle(takes: Mapping[str, Names], left: Iterable[str]) -> list[str]:
    """The names of a cycle among nodes that each take another one of them, the first again at the end."""
    rest = {*left}
    name, way = min(rest), dict[str, None]()
    while name not in way:
        way[name] = None
        name = next(one for one in takes[name] if one in rest)
    names = [*way]
    return [*names[names.index(name) :], name]
