"""Groups of parameters: other rates, no decay, other optimizers or none, by the names of weights."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, fields, replace
from fnmatch import fnmatchcase
from functools import cache, cached_property
from typing import Any, Self

from xcnn.core import tree
from xcnn.core.checks import check_rate
from xcnn.core.options import checked, nearest
from xcnn.core.types import Array, Weights
from xcnn.errors import OptionError, short
from xcnn.training.optimizer import Apply, Composite, Optimizer, clip_by_norm, global_norm, together
from xcnn.training.schedules import Scaled, Schedule


@checked
@dataclass(frozen=True)
class Group:
    """Weights by the pattern of their paths, and what is other for them.

    Parameters
    ----------
    pattern
        of paths such as "conv1/kernel", in which * stands for anything, slashes too: "*/bias", "conv1/*"; or several
    rate
        the learning rate by that of the others
    weight_decay
        instead of the optimizer's; None leaves that
    frozen
        whether the weights stay as they are, running statistics too
    optimizer
        another for these weights, or None; its rate is the whole's times `rate`, and its own learning rate counts for
        nothing

    Raises
    ------
    OptionError
        X104, for an option that it can't have.

    Examples
    --------
    >>> xcnn.optimizers.Groups(xcnn.Adam(), xcnn.optimizers.Group("conv1/*", rate=0.1)).groups[0].rate
    0.1
    """

    pattern: str | tuple[str, ...]
    _: KW_ONLY
    rate: float = 1.0
    weight_decay: float | None = None
    frozen: bool = False
    optimizer: Optimizer | None = None

    def __post_init__(self) -> None:
        check_rate("rate", self.rate)
        if self.weight_decay is not None:
            check_rate("weight_decay", self.weight_decay)
        if self.frozen and not (self.rate == 1 and self.weight_decay is None and self.optimizer is None):
            raise OptionError("X104", "what is frozen has no rate, decay or optimizer.", hint="give frozen=True alone.")
        rate = None if self.optimizer is None else self.optimizer.learning_rate
        if rate is not None and rate != usual_rate(self.optimizer):
            hint = f"leave its learning rate out: Group({self.pattern!r}, optimizer=..., rate=0.1) is a tenth of it."
            raise OptionError("X104", "a group's optimizer takes its rate from the whole, times `rate`.", hint=hint)

    def has(self, path: str) -> bool:
        """Whether a weight is of it."""
        patterns = (self.pattern,) if isinstance(self.pattern, str) else self.pattern
        return any(fnmatchcase(path, pattern) for pattern in patterns)


@checked
@dataclass(frozen=True)
class Groups(Composite):
    """An optimizer for all weights but those of groups, which go by their own: each weight by the first that has it.

    Parameters
    ----------
    optimizer
        for those of no group; its learning rate is the whole's, and its clip_norm is of all together
    groups
        one or more

    Raises
    ------
    OptionError
        X104, for an option that it can't have, and for a group whose pattern no weight of the net has.

    Examples
    --------
    No decay of biases and of what normalisations learn, and a first layer that stays:

    >>> groups = (xcnn.optimizers.Group(("*bias", "*scale"), weight_decay=0.0),
    ...           xcnn.optimizers.Group("conv1/*", frozen=True))
    >>> optimizer = xcnn.optimizers.Groups(xcnn.AdamW(1e-3, weight_decay=0.05), groups)
    """

    optimizer: Optimizer
    groups: tuple[Group, ...] | Group

    def __post_init__(self) -> None:
        given = (self.groups,) if isinstance(self.groups, Group) else tuple(self.groups)
        if not given or not all(isinstance(group, Group) for group in given):
            raise OptionError("X104", f"groups are values of xcnn.optimizers.Group; got {short(self.groups)}.")
        object.__setattr__(self, "groups", given)
        for optimizer in (self.optimizer, *(group.optimizer for group in given)):
            if isinstance(optimizer, Composite):
                hint = "wrap the groups instead: EMA(Groups(...))."
                raise OptionError("X104", f"{type(optimizer).__name__} can't stand within groups.", hint=hint)
        for group in given:
            self.part(group)  # what can't be is told now

    @property
    def learning_rate(self) -> float | Schedule:  # type: ignore[override]
        """That of the weights of no group."""
        return self.optimizer.learning_rate

    @property
    def clip_norm(self) -> float | None:  # type: ignore[override]
        """Of the gradients of all groups together, but for those that are frozen."""
        return self.optimizer.clip_norm

    def with_rate(self, rate: float | Schedule) -> Self:
        return replace(self, optimizer=self.optimizer.with_rate(rate))

    def part(self, group: Group) -> Optimizer | None:
        """The optimizer of a group; None for one that is frozen."""
        if group.frozen:
            return None
        chosen = group.optimizer or self.optimizer
        if group.weight_decay is not None:
            if "weight_decay" not in {field.name for field in fields(chosen)}:  # type: ignore[arg-type]
                raise OptionError("X104", f"{type(chosen).__name__} has no weight_decay.", hint="AdamW and SGD have.")
            chosen = replace(chosen, weight_decay=group.weight_decay)  # type: ignore[type-var]
        if group.optimizer is not None or group.rate != 1:
            chosen = chosen.with_rate(scaled(self.optimizer.learning_rate, group.rate))
        return replace(chosen, clip_norm=None)  # type: ignore[type-var]

    @cached_property
    def parts(self) -> tuple[Optimizer | None, ...]:
        """The optimizers of the groups, and of the rest."""
        groups = self.groups if isinstance(self.groups, tuple) else (self.groups,)
        return (*map(self.part, groups), replace(self.optimizer, clip_norm=None))  # type: ignore[type-var]

    @property
    def moments(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for part in self.parts if part is not None for name in part.moments))

    def members(self, weights: Weights) -> tuple[tuple[str, ...], ...]:
        """The paths of each group's weights, and of the rest."""
        groups = self.groups if isinstance(self.groups, tuple) else (self.groups,)
        return members(tuple(group.pattern for group in groups), tuple(path for path, _ in tree.items(weights)))

    def goes_on_from(self, before: Optimizer, weights: Weights) -> bool:
        if not isinstance(before, Groups) or before.members(weights) != self.members(weights):
            return False
        pairs = zip(self.parts, before.parts, strict=True)
        return all(mine is theirs or (mine and theirs and mine.goes_on_from(theirs, weights)) for mine, theirs in pairs)

    def init(self, weights: Weights) -> Weights:
        flat, kept = dict(tree.items(weights)), dict[str, dict[str, Any]]()
        for part, paths in zip(self.parts, self.members(weights), strict=True):
            state = {} if part is None else part.init({path: flat[path] for path in paths})
            for name, leaves in state.items():
                if name != "step":
                    kept.setdefault(name, {}).update(leaves)
        return {"step": 0, **{name: nested(kept.get(name, {}), flat) for name in self.moments}}

    def update_by(
        self, apply: Apply, grads: Weights, state: Weights, weights: Weights
    ) -> tuple[Weights, Weights, Array, Array]:
        flat, found = dict(tree.items(weights)), dict(tree.items(grads))
        moments = {name: dict(tree.items(state[name])) for name in self.moments}
        norms, sizes, members = [], [], self.members(weights)
        trained = [path for part, paths in zip(self.parts, members, strict=True) if part for path in paths]
        if self.clip_norm is not None:
            whole = {path: found[path] for path in trained}
            norms.append(global_norm(whole))
            found |= clip_by_norm(whole, self.clip_norm)
        for part, paths in zip(self.parts, members, strict=True):
            mine = {path: flat[path] for path in paths}
            if part is None or not paths:
                continue
            before = {name: {path: moments[name][path] for path in paths} for name in part.moments}
            new, after, norm, size = apply(
                part, {path: found[path] for path in paths}, {"step": state["step"], **before}, mine
            )
            flat |= new
            for name in part.moments:
                moments[name] |= after[name]
            sizes.append(size)
            if self.clip_norm is None:
                norms.append(norm)
        kept = {name: nested(leaves, flat) for name, leaves in moments.items()}
        return tree.filled(weights, flat), {"step": state["step"] + 1, **kept}, together(norms), together(sizes)


def scaled(rate: float | Schedule, factor: float) -> float | Schedule:
    """A learning rate times a factor."""
    return Scaled(rate, factor) if isinstance(rate, Schedule) else rate * factor


def usual_rate(optimizer: Any) -> Any:
    """The learning rate that an optimizer has where none is given."""
    return next((field.default for field in fields(optimizer) if field.name == "learning_rate"), None)


def nested(leaves: dict[str, Any], order: dict[str, Any]) -> Weights:
    """The tree of leaves by their paths, in the order of the weights."""
    return tree.from_items({path: leaves[path] for path in order if path in leaves})


@cache
def members(patterns: tuple[str | tuple[str, ...], ...], paths: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """The paths that each pattern has first, and those that none has.

    Raises
    ------
    OptionError
        X104, for a pattern that no path has.
    """
    groups = [Group(pattern) for pattern in patterns]
    for group in groups:
        if not any(map(group.has, paths)):
            first = group.pattern if isinstance(group.pattern, str) else next(iter(group.pattern), "")
            meant = nearest(first, paths)
            hint = f"did you mean {meant!r}?" if meant else f"the net has {', '.join(paths[:6])}, ..."
            raise OptionError("X104", f"no weight of the net has the pattern {short(group.pattern)}.", hint=hint)
    firsts = [next((n for n, group in enumerate(groups) if group.has(path)), len(groups)) for path in paths]
    return tuple(tuple(p for p, n in zip(paths, firsts, strict=True) if n == g) for g in range(len(groups) + 1))
