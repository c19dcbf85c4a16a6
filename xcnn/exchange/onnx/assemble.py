"""Steps as a net: one after another where they are, residual and side by side where they branch so, else a Graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from xcnn.core.types import Weights
from xcnn.exchange.onnx.flow import Step
from xcnn.layers import Add, Concatenate, Graph, Layer, Multiply, Residual, Sequential
from xcnn.layers.container import DEEPEST

MOST_CLIMBED = 200_000
"""Steps that are gone up in all to find where branches part; a net beyond it is a Graph."""

Part = tuple[str, Layer, Weights]
"""A layer with its name and its weights."""


class Tangled(Exception):
    """The branches of a net do not lie within each other."""


def assembled(steps: dict[str, Step], start: str, end: str) -> tuple[Layer, Weights]:
    """The net from the value `start` to the value `end`, and its weights."""
    try:
        return chained(Nest(steps, start).between(start, end, 0))
    except Tangled:
        pass
    ordered = needed(steps, end)
    nodes: dict[str, Any] = {step.name: (step.layer, *step.takes) for step in ordered}
    return Graph(inputs=start, outputs=end, **nodes), weighted([(s.name, s.layer, dict(s.weights)) for s in ordered])


def needed(steps: dict[str, Step], end: str) -> list[Step]:
    """The steps that a value follows from."""
    wanted, found = {end}, []
    for step in reversed(steps.values()):
        if step.name in wanted:
            wanted.update(step.takes)
            found.append(step)
    return found[::-1]


def chained(parts: Sequence[Part]) -> tuple[Sequential, Weights]:
    """Layers one after another."""
    return Sequential(**{name: layer for name, layer, _ in parts}), weighted(parts)


def weighted(parts: Sequence[Part]) -> Weights:
    """The weights of those that have any, by name."""
    return {name: weights for name, _, weights in parts if weights}


class Nest:
    """Finds for each value which one all ways to it go through last: branches begin there."""

    def __init__(self, steps: dict[str, Step], start: str) -> None:
        self.steps: dict[str, Step] = steps
        self.used: Counter[str] = Counter()
        self.climbed: int = 0
        self.above: dict[str, str] = {start: start}
        self.depth: dict[str, int] = {start: 0}
        for step in steps.values():
            self.above[step.name] = over = self.common([*step.takes])
            self.depth[step.name] = self.depth[over] + 1

    def common(self, names: Sequence[str]) -> str:
        """The last value that all ways to these go through."""
        first, *others = names
        for other in others:
            while first != other:
                if self.depth[first] >= self.depth[other]:
                    first = self.above[first]
                else:
                    other = self.above[other]
                self.climbed += 1
                if self.climbed > MOST_CLIMBED:
                    raise Tangled
        return first

    def between(self, start: str, end: str, depth: int) -> list[Part]:
        """The layers from one value to another; raises Tangled where a way leads past the first, or is taken twice."""
        parts: list[Part] = []
        while end != start:
            if self.depth.get(end, 0) <= self.depth[start] or depth > DEEPEST // 2:
                raise Tangled
            step = self.steps[end]
            self.used[end] += 1
            if self.used[end] > 1:
                raise Tangled
            before = self.above[end]
            if len(step.takes) == 1:
                before = step.takes[0]
                parts.append((step.name, step.layer, dict(step.weights)))
            else:
                parts.append(self.joined(step, [self.between(before, name, depth + 1) for name in step.takes]))
            end = before
        return parts[::-1]

    def joined(self, step: Step, branches: list[list[Part]]) -> Part:
        """Branches as a container, whose layers need not repeat its name."""
        if isinstance(step.layer, Graph) or not isinstance(step.layer, Add | Multiply | Concatenate):
            raise Tangled
        branches = [without_prefix(branch, step.name) for branch in branches]
        if isinstance(step.layer, Add) and len(branches) == 2 and any(branches) and step.alike:
            return (step.name, *residual(*sorted(branches, key=len, reverse=True)))
        inner = [alone(branch, f"branch{n}") for n, branch in enumerate(branches, 1)]
        if len({name for name, _, _ in inner}) < len(inner):
            inner = [(f"branch{n}", layer, weights) for n, (_, layer, weights) in enumerate(inner, 1)]
        container = type(step.layer)(**{name: layer for name, layer, _ in inner})
        return step.name, container, weighted(inner)


def residual(body: list[Part], beside: list[Part]) -> tuple[Layer, Weights]:
    """A chain beside a shortcut."""
    layers, weights = {name: layer for name, layer, _ in body}, weighted(body)
    if beside:
        _, layers["shortcut"], of_shortcut = alone(beside, "shortcut")
        weights |= {"shortcut": of_shortcut} if of_shortcut else {}
    shortcut = layers.pop("shortcut", None)
    return Residual(shortcut=shortcut, **layers), weights


def alone(parts: list[Part], name: str) -> Part:
    """A branch as one layer."""
    if len(parts) == 1:
        return parts[0]
    layer, weights = chained(parts)
    return name, layer, weights


def without_prefix(parts: list[Part], owner: str) -> list[Part]:
    """The parts, their names without that of the container that they are in."""
    names = [name.removeprefix(f"{owner}_") for name, _, _ in parts]
    fits = len({*names}) == len(names) and all(name.isidentifier() and name != "shortcut" for name in names)
    return [(new, layer, weights) for new, (_, layer, weights) in zip(names, parts, strict=True)] if fits else parts
