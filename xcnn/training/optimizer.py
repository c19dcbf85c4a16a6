"""What an optimizer is: hyper-parameters in a frozen dataclass, moments in a state that goes in and comes out.

    state = optimizer.init(weights)
    weights, state = optimizer.update(grads, state, weights)

The state is {"step": steps taken, moment: a tree like the weights, ...}. Where the gradient's leaf is Next(value), that
value replaces the weight, and decay, clipping and moments pass it by.

A gradient whose square leaves its type's range, 5.8e20 by Adam's defaults in float32, would make a moment infinite, and
every later update of its weight 0. So moments that are not finite are divergence, as weights are: `weight_norm`
tells it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import hypot, inf
from typing import Any, ClassVar, Protocol, Self, TypeAlias

from xcnn.core import tree
from xcnn.core.arrays import full, is_floating, namespace, zeros_like
from xcnn.core.checks import check_between, check_positive
from xcnn.core.types import Array, Weights
from xcnn.layers.layer import Next
from xcnn.training.schedules import Schedule, learning_rate


class Optimizer:
    """A subclass names its `moments` and gives `change`, the rule for one array.

    Raises
    ------
    OptionError
        X104, for an option of a subclass that can't be.

    Examples
    --------
    >>> class Sign(xcnn.optimizers.Optimizer):
    ...     learning_rate, clip_norm, moments = 0.5, None, ()
    ...     def change(self, rate, step, w, g, *moments):
    ...         return (w - rate * np.sign(g),)
    >>> optimizer, weights = Sign(), {"kernel": np.array([1.0, 2.0])}
    >>> optimizer.update({"kernel": np.array([3.0, -0.1])}, optimizer.init(weights), weights)[0]
    {'kernel': array([0.5, 2.5])}
    """

    learning_rate: float | Schedule
    clip_norm: float | None

    structure: ClassVar[tuple[str, ...]] = ()
    """Options that say which code runs, as a number of iterations does: compiled code takes them for constants."""
    followers: ClassVar[tuple[str, ...]] = ()
    """Moments that follow the weights: where a user sets a weight, they are set too."""

    @property
    def moments(self) -> tuple[str, ...]:
        """What it remembers of each weight."""
        raise NotImplementedError

    @property
    def shown(self) -> tuple[str, ...]:
        """Moments that are not finite only where the new weight is not either."""
        return ()

    def change(self, rate: float, step: int, w: Array, g: Array, *moments: Array) -> tuple[Array, ...]:
        """(new weight, *new moments); steps count from 1.

        A compiled step has arrays without axes for `rate` and `step`: operators take them, Python's math does not.
        """
        raise NotImplementedError

    def init(self, weights: Weights) -> Weights:
        """The state before the first step: every moment zero."""
        zero = {name: tree.map(zeros_like, weights) for name in self.moments}
        return {"step": 0, **zero}

    def update(self, grads: Weights, state: Weights, weights: Weights) -> tuple[Weights, Weights]:
        """The weights and the state after a step."""
        rate, step = learning_rate(self.learning_rate, state["step"]), state["step"] + 1
        if self.clip_norm is not None:
            grads = clip_by_norm(grads, self.clip_norm)

        def of_leaf(w: Array, g: Any, *moments: Array) -> tuple[Array, ...]:
            if isinstance(g, Next):
                return g.value, *moments
            new = self.change(rate, step, w, g, *moments)
            if w.ndim or isinstance(rate, float):
                return new
            return tuple(
                namespace(w).astype(n, w.dtype) for n in new
            )  # a compiled step's rate is as much an array as w

        changed = tree.map(of_leaf, weights, grads, *(state[name] for name in self.moments))
        weights, *moments = (tree.map(lambda leaf, n=n: leaf[n], changed) for n in range(1 + len(self.moments)))
        return weights, {"step": step, **dict(zip(self.moments, moments, strict=True))}

    @property
    def following(self) -> tuple[str, ...]:
        """Those of `followers`, and of the optimizers within."""
        return self.followers

    def goes_on_from(self, before: Optimizer, weights: Weights) -> bool:
        """Whether it can go on with the moments of another, for these weights."""
        return type(before) is type(self) and before.moments == self.moments

    def asked(self, weights: Weights, state: Weights) -> Weights:
        """The weights that predictions are made with: by default those that are trained."""
        return weights

    def with_rate(self, rate: float | Schedule) -> Self:
        """The same optimizer with another learning rate."""
        return replace(self, learning_rate=rate)  # type: ignore[type-var]  # every optimizer is a dataclass

    def check(self, *below_one: str) -> None:
        """Raise X104 where an option can't be; those named must be below 1."""
        for name, value in vars(self).items():
            if name in ("clip_norm", "epsilon"):
                if value is not None or name == "epsilon":
                    check_positive(name, value)
            elif not isinstance(value, Schedule | bool):
                check_between(name, value, 0, 1 if name in below_one else inf)


Apply: TypeAlias = Callable[["Optimizer", Weights, Weights, Weights], tuple[Weights, Weights, Array, Array]]
"""(optimizer, gradients, state, weights) -> (weights, state, the norms of both), as `Backend.update` gives them."""


class Composite(Optimizer):
    """An optimizer that is made of others. A backend updates by each of those as it does by them alone."""

    def update_by(
        self, apply: Apply, grads: Weights, state: Weights, weights: Weights
    ) -> tuple[Weights, Weights, Array, Array]:
        """What `apply` gives, by what it gives for the parts."""
        raise NotImplementedError

    def update(self, grads: Weights, state: Weights, weights: Weights) -> tuple[Weights, Weights]:
        """The weights and the state after a step."""
        weights, state, _, _ = self.update_by(plainly, grads, state, weights)
        return weights, state


def plainly(
    optimizer: Optimizer, grads: Weights, state: Weights, weights: Weights
) -> tuple[Weights, Weights, Array, Array]:
    """An Apply by the optimizer's own update, whose norms nobody asks for."""
    return *optimizer.update(grads, state, weights), 0.0, 0.0


class OfTwoMoments(Protocol):
    """What the moments of Adam and its kin follow from."""

    @property
    def beta1(self) -> float: ...
    @property
    def beta2(self) -> float: ...
    @property
    def epsilon(self) -> float: ...


def adam_moments(by: OfTwoMoments, step: int, g: Array, first: Array, second: Array) -> tuple[Array, Array, Array]:
    """Adam's m = β1 m + (1 - β1) g and v = β2 v + (1 - β2) g²; beside them √v̂ + ε, v̂ = v / (1 - β2^step)."""
    first = by.beta1 * first + (1 - by.beta1) * g
    second = by.beta2 * second + (1 - by.beta2) * g * g
    return first, second, namespace(g).sqrt(second) * (1 / (1 - by.beta2**step) ** 0.5) + by.epsilon


def is_there(number: Any) -> bool:
    """Whether a term with this factor is there. Compiled code has arrays for numbers, but for 0."""
    return not isinstance(number, int | float) or number != 0


def moments_of(state: Weights) -> Weights:
    """What an optimizer's state has beside the number of its steps: the arrays."""
    return {name: leaf for name, leaf in state.items() if name != "step"}


def global_norm(grads: Weights) -> Array:
    """The Euclidean norm of all gradients together, a scalar array (or 0.0 where there are none).

    It is finite where the gradients are and their type holds it: squares are taken of g over its largest cell, or over
    so large a number that its reciprocal is still a normal one.

    Parameters
    ----------
    grads
        a tree of arrays; Next is passed by

    Examples
    --------
    >>> float(xcnn.optimizers.global_norm({"kernel": np.array([3.0]), "bias": np.array([4.0])}))
    5.0
    """
    norms = [_norm(g) for g in tree.leaves(grads) if not isinstance(g, Next)]
    return _norm(namespace(norms[0]).stack(norms)) if norms else 0.0


def weight_norm(weights: Weights, state: Weights, shown: tuple[str, ...] = ()) -> Array:
    """The norm of new weights, a scalar array (or 0.0 where there are none).

    It is infinite where the type can't hold its square, and NaN where one of the optimizer's moments is not finite; at
    those that are `shown` by the weights it does not look.
    """
    arrays = [w for w in tree.leaves(weights) if 0 not in w.shape]
    hidden = {name: leaf for name, leaf in moments_of(state).items() if name not in shown}
    moments = [m for m in tree.leaves(hidden) if 0 not in m.shape and is_floating(m)]
    if not arrays:
        return 0.0
    xp = namespace(arrays[0])
    flat, others = ([xp.reshape(a, (-1,)) for a in some] for some in (arrays, moments))
    squares = sum(xp.vecdot(w, w) for w in flat)
    return sum((xp.vecdot(m, 0 * m) for m in others), squares) ** 0.5  # 0 times what is not finite is NaN


def together(norms: list[Array]) -> Array:
    """The norm of all arrays from those of some of them each: numbers, or scalar arrays."""
    arrays = [norm for norm in norms if not isinstance(norm, float | int)]
    if not arrays:
        return hypot(*norms)
    numbers = [norm for norm in norms if isinstance(norm, float | int)]
    return global_norm({str(n): each for n, each in enumerate([*arrays, *(full(arrays[0], (), n) for n in numbers)])})


def clip_by_norm(grads: Weights, limit: float) -> Weights:
    """Scale all gradients together, so that their norm is at most the limit: Pascanu et al. 2013, algorithm 1.

    Parameters
    ----------
    grads
        a tree of arrays; Next is passed by
    limit
        the largest norm, above 0

    Examples
    --------
    >>> xcnn.optimizers.clip_by_norm({"kernel": np.array([3.0, 4.0])}, 1.0)["kernel"].round(3).tolist()
    [0.6, 0.8]
    """
    if all(isinstance(g, Next) for g in tree.leaves(grads)):
        return grads
    norm = global_norm(grads)
    scale = limit / namespace(norm).maximum(norm, full(norm, (), limit))
    return tree.map(lambda g: g if isinstance(g, Next) else g * scale, grads)


def _norm(g: Array) -> Array:
    xp = namespace(g)
    if 0 in g.shape:
        return full(g, (), 0.0)
    largest = xp.max(xp.abs(g))
    unit = xp.minimum(largest, full(g, (), float(xp.finfo(g.dtype).max) / 16))
    unit = xp.where(xp.isfinite(largest) & (largest > 0), unit, full(g, (), 1.0))
    part = g / unit
    return unit * xp.sqrt(xp.sum(part * part))
