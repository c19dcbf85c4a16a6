"""Optimizers as values: hyper-parameters in a frozen dataclass, moments in a state that goes in and comes out.

    state = optimizer.init(weights)
    weights, state = optimizer.update(grads, state, weights)

The state is {"step": steps taken, moment: a tree like the weights, ...}. Where the gradient's leaf is Next(value), that
value replaces the weight, and decay, clipping and moments pass it by.

A gradient whose square leaves its type's range, 5.8e20 by Adam's defaults in float32, would make a moment infinite, and
every later update of its weight 0. So moments that are not finite are divergence, as weights are: `weight_norm`
tells it.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace
from math import inf
from typing import Any, Self

from xcnn.core import tree
from xcnn.core.arrays import full, is_floating, namespace, zeros_like
from xcnn.core.checks import check_between, check_positive
from xcnn.core.names import unknown
from xcnn.core.options import checked
from xcnn.core.types import Array, Weights
from xcnn.errors import OptionError
from xcnn.layers.layer import Next
from xcnn.training.schedules import Schedule, learning_rate


class Optimizer:
    """A subclass names its `moments` and gives `change`, the rule for one array.

    Raises
    ------
    OptionError
        X104, for an option of a subclass that can't be.
    """

    learning_rate: float | Schedule
    clip_norm: float | None

    @property
    def moments(self) -> tuple[str, ...]:
        """What it remembers of each weight."""
        raise NotImplementedError

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


@checked
@dataclass(frozen=True)
class SGD(Optimizer):
    """v = momentum v + g;  w -= rate v, or with Nesterov w -= rate (g + momentum v). Sutskever et al. 2013, as PyTorch.

    Parameters
    ----------
    learning_rate
        a number of at least 0, or a schedule of steps
    momentum
        the share of v that stays, at least 0 and below 1
    nesterov
        whether to look ahead along v, which needs momentum
    weight_decay
        λ, adds λ w to g (L2)
    clip_norm
        the gradients' largest norm, all weights together; None does not clip

    Raises
    ------
    OptionError
        X104, for an option that it can't have.

    Examples
    --------
    >>> xcnn.SGD(xcnn.schedules.Cosine(0.1, steps=1000), momentum=0.9).moments
    ('velocity',)
    """

    learning_rate: float | Schedule = 0.01
    _: KW_ONLY
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        self.check("momentum")
        if self.nesterov and not self.momentum:
            hint = "give momentum=0.9, or leave nesterov out."
            raise OptionError("X104", "nesterov looks ahead along the momentum, which is 0.", hint=hint)

    @property
    def moments(self) -> tuple[str, ...]:
        return ("velocity",) if is_there(self.momentum) else ()

    def change(self, rate: float, step: int, w: Array, g: Array, *moments: Array) -> tuple[Array, ...]:
        if is_there(self.weight_decay):
            g = g + self.weight_decay * w
        if not is_there(self.momentum):
            return (w - rate * g,)
        v = self.momentum * moments[0] + g
        return w - rate * (g + self.momentum * v if self.nesterov else v), v


@checked
@dataclass(frozen=True)
class Adam(Optimizer):
    """m = β1 m + (1 - β1) g,  v = β2 v + (1 - β2) g²;  w -= rate m̂ / (√v̂ + ε). Kingma and Ba 2015, algorithm 1.

    Parameters
    ----------
    learning_rate
        a number of at least 0, or a schedule of steps
    beta1, beta2
        the shares of m and v that stay, at least 0 and below 1
    epsilon
        keeps the quotient finite
    clip_norm
        the gradients' largest norm, all weights together; None does not clip

    Raises
    ------
    OptionError
        X104, for an option that it can't have.
    """

    learning_rate: float | Schedule = 0.001
    _: KW_ONLY
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        self.check("beta1", "beta2")

    @property
    def moments(self) -> tuple[str, ...]:
        return "first", "second"

    def change(self, rate: float, step: int, w: Array, g: Array, *moments: Array) -> tuple[Array, ...]:
        first, second = moments
        first = self.beta1 * first + (1 - self.beta1) * g
        second = self.beta2 * second + (1 - self.beta2) * g * g
        unbiased = rate / (1 - self.beta1**step)
        spread = namespace(w).sqrt(second) * (1 / (1 - self.beta2**step) ** 0.5) + self.epsilon
        return w - unbiased * (first / spread), first, second


@checked
@dataclass(frozen=True)
class AdamW(Adam):
    """Adam, and the weights shrink by themselves: w -= rate λ w first. Loshchilov and Hutter 2019, algorithm 2.

    Parameters
    ----------
    weight_decay
        λ, taken off the weights themselves; the other options are Adam's

    Raises
    ------
    OptionError
        X104, for an option that it can't have.
    """

    _: KW_ONLY
    weight_decay: float = 0.01

    def change(self, rate: float, step: int, w: Array, g: Array, *moments: Array) -> tuple[Array, ...]:
        return super().change(rate, step, w * (1 - rate * self.weight_decay), g, *moments)


@checked
@dataclass(frozen=True)
class RMSprop(Optimizer):
    """s = ρ s + (1 - ρ) g²;  v = momentum v + g / (√s + ε);  w -= rate v. Tieleman and Hinton 2012, as PyTorch.

    Parameters
    ----------
    learning_rate
        a number of at least 0, or a schedule of steps
    rho
        the share of s that stays, at least 0 and below 1
    momentum
        the share of v that stays, at least 0 and below 1
    epsilon
        keeps the quotient finite
    weight_decay
        λ, adds λ w to g (L2)
    clip_norm
        the gradients' largest norm, all weights together; None does not clip

    Raises
    ------
    OptionError
        X104, for an option that it can't have.
    """

    learning_rate: float | Schedule = 0.001
    _: KW_ONLY
    rho: float = 0.99
    momentum: float = 0.0
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        self.check("rho", "momentum")

    @property
    def moments(self) -> tuple[str, ...]:
        return ("square", "velocity") if is_there(self.momentum) else ("square",)

    def change(self, rate: float, step: int, w: Array, g: Array, *moments: Array) -> tuple[Array, ...]:
        if is_there(self.weight_decay):
            g = g + self.weight_decay * w
        square = self.rho * moments[0] + (1 - self.rho) * g * g
        v = g / (namespace(w).sqrt(square) + self.epsilon)
        if not is_there(self.momentum):
            return w - rate * v, square
        v = self.momentum * moments[1] + v
        return w - rate * v, square, v


OPTIMIZERS = {cls.__name__: cls for cls in (Adam, AdamW, RMSprop, SGD)}


def optimizer(choice: str | Optimizer) -> Optimizer:
    """An optimizer by name, with its defaults: "adam", "sgd"; an Optimizer stands for itself.

    Parameters
    ----------
    choice
        a name in OPTIMIZERS, in small letters or large, or an Optimizer

    Raises
    ------
    OptionError
        X104
    """
    if isinstance(choice, Optimizer):
        return choice
    for name, cls in OPTIMIZERS.items():
        if isinstance(choice, str) and choice.lower() == name.lower():
            made: Optimizer = cls()
            return made
    raise unknown("optimizer", choice, OPTIMIZERS)


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
    """
    norms = [_norm(g) for g in tree.leaves(grads) if not isinstance(g, Next)]
    return _norm(namespace(norms[0]).stack(norms)) if norms else 0.0


def weight_norm(weights: Weights, state: Weights) -> Array:
    """The norm of new weights, a scalar array (or 0.0 where there are none).

    It is infinite where the type can't hold its square, and NaN where one of the optimizer's moments is not finite.
    """
    arrays = [w for w in tree.leaves(weights) if 0 not in w.shape]
    moments = [m for m in tree.leaves(moments_of(state)) if 0 not in m.shape and is_floating(m)]
    if not arrays:
        return 0.0
    xp = namespace(arrays[0])
    squares = sum(xp.sum(w * w) for w in arrays)
    return sum((0 * xp.max(xp.abs(m)) for m in moments), squares) ** 0.5  # 0 times what is not finite is NaN


def clip_by_norm(grads: Weights, limit: float) -> Weights:
    """Scale all gradients together, so that their norm is at most the limit: Pascanu et al. 2013, algorithm 1.

    Parameters
    ----------
    grads
        a tree of arrays; Next is passed by
    limit
        the largest norm, above 0
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


__all__ = [
    "OPTIMIZERS",
    "SGD",
    "Adam",
    "AdamW",
    "Optimizer",
    "RMSprop",
    "clip_by_norm",
    "global_norm",
    "optimizer",
]
