"""Optimizers as values, each a formula: its class docstring, and `change`, which is the formula for one array.

`OPTIMIZERS` has those that go by a name. What is made of others stands in wrappers.py (Lookahead, an average of the
weights) and groups.py (groups of parameters), what all of them share in optimizer.py.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING

from xcnn.core.arrays import namespace
from xcnn.core.names import absent, unknown
from xcnn.core.options import checked
from xcnn.core.types import Array
from xcnn.errors import OptionError
from xcnn.training.adaptive import LAMB, Adagrad, NAdam
from xcnn.training.groups import Group, Groups
from xcnn.training.muon import Muon
from xcnn.training.optimizer import Composite as Composite
from xcnn.training.optimizer import Optimizer, adam_moments, clip_by_norm, global_norm
from xcnn.training.optimizer import is_there as is_there
from xcnn.training.optimizer import moments_of as moments_of
from xcnn.training.optimizer import weight_norm as weight_norm
from xcnn.training.schedules import Schedule
from xcnn.training.wrappers import EMA, Lookahead


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

    @property
    def shown(self) -> tuple[str, ...]:
        """v, by which each weight has moved: a rate of 0 makes NaN of what is infinite. A subclass has its own rule."""
        return self.moments if type(self) is SGD else ()

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

    Examples
    --------
    >>> xcnn.Model(xcnn.Dense(2), (3,), optimizer=xcnn.Adam(3e-4, clip_norm=1.0)).learning_rate
    0.0003
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
        first, second, spread = adam_moments(self, step, g, *moments)
        unbiased = rate / (1 - self.beta1**step)
        return w - unbiased * (first / spread), first, second


@checked
@dataclass(frozen=True)
class AdamW(Adam):
    """Adam, and the weights shrink by themselves: w -= rate λ w first. Loshchilov and Hutter 2019, algorithm 2.

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
    weight_decay
        λ, taken off the weights themselves

    Raises
    ------
    OptionError
        X104, for an option that it can't have.

    Examples
    --------
    >>> xcnn.Model(xcnn.Dense(2), (3,), optimizer=xcnn.AdamW(1e-3, weight_decay=0.05)).learning_rate
    0.001
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

    Examples
    --------
    >>> xcnn.Model(xcnn.Dense(2), (3,), optimizer=xcnn.RMSprop(0.001, momentum=0.9)).learning_rate
    0.001
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


OPTIMIZERS: dict[str, type[Optimizer]] = {
    cls.__name__: cls for cls in (Adagrad, Adam, AdamW, LAMB, Muon, NAdam, RMSprop, SGD)
}
WRAPPERS: dict[str, type] = {cls.__name__: cls for cls in (EMA, Group, Groups, Lookahead)}
"""What is made of an optimizer, and the parts of that."""


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

    Examples
    --------
    >>> xcnn.optimizers.optimizer("sgd").learning_rate
    0.01
    """
    if isinstance(choice, Optimizer):
        return choice
    for name, cls in OPTIMIZERS.items():
        if isinstance(choice, str) and choice.lower() == name.lower():
            made: Optimizer = cls()
            return made
    if isinstance(choice, type) and issubclass(choice, Optimizer):
        hint = f"make one of it: xcnn.{choice.__name__}()."
        raise OptionError("X104", f"an optimizer is a value, and {choice.__name__} is a class.", hint=hint)
    raise unknown("optimizer", choice, OPTIMIZERS)


__all__ = [
    "EMA",
    "LAMB",
    "OPTIMIZERS",
    "SGD",
    "WRAPPERS",
    "Adagrad",
    "Adam",
    "AdamW",
    "Group",
    "Groups",
    "Lookahead",
    "Muon",
    "NAdam",
    "Optimizer",
    "RMSprop",
    "clip_by_norm",
    "global_norm",
    "optimizer",
]

if not TYPE_CHECKING:
    __getattr__ = absent("xcnn.optimizers", "optimizer", __all__)
