"""Optimizers that take each weight's step from the size of its gradients: Adagrad, NAdam, LAMB."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from xcnn.core import tree
from xcnn.core.arrays import full, namespace
from xcnn.core.options import checked
from xcnn.core.types import Array, Weights
from xcnn.training.optimizer import Optimizer, adam_moments, is_there
from xcnn.training.schedules import Schedule


@checked
@dataclass(frozen=True)
class Adagrad(Optimizer):
    """s = s + g²;  w -= rate g / (√s + ε). Duchi, Hazan and Singer 2011, figure 1, as PyTorch.

    Parameters
    ----------
    learning_rate
        a number of at least 0, or a schedule of steps
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
    >>> xcnn.Model(xcnn.Dense(2), (3,), optimizer=xcnn.Adagrad(0.05)).learning_rate
    0.05
    """

    learning_rate: float | Schedule = 0.01
    _: KW_ONLY
    epsilon: float = 1e-10
    weight_decay: float = 0.0
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        self.check()

    @property
    def moments(self) -> tuple[str, ...]:
        return ("square",)

    def change(self, rate: float, step: int, w: Array, g: Array, *moments: Array) -> tuple[Array, ...]:
        if is_there(self.weight_decay):
            g = g + self.weight_decay * w
        square = moments[0] + g * g
        return w - rate * (g / (namespace(w).sqrt(square) + self.epsilon)), square


@checked
@dataclass(frozen=True)
class NAdam(Optimizer):
    """Adam that looks ahead along its momentum: Dozat 2016, algorithm 2, as PyTorch.

    μ_t = β1 (1 - 0.96^(t ψ) / 2),  P_t = μ_1 ... μ_t;  m and v as Adam's;
    w -= rate ((1 - μ_t) / (1 - P_t) g + μ_(t+1) / (1 - P_(t+1)) m) / (√v̂ + ε).

    Parameters
    ----------
    learning_rate
        a number of at least 0, or a schedule of steps
    beta1, beta2
        the shares of m and v that stay, at least 0 and below 1
    epsilon
        keeps the quotient finite
    momentum_decay
        ψ, how soon μ reaches β1
    clip_norm
        the gradients' largest norm, all weights together; None does not clip

    Raises
    ------
    OptionError
        X104, for an option that it can't have.

    Examples
    --------
    >>> xcnn.Model(xcnn.Dense(2), (3,), optimizer=xcnn.NAdam(0.001)).learning_rate
    0.001
    """

    learning_rate: float | Schedule = 0.002
    _: KW_ONLY
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    momentum_decay: float = 0.004
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        self.check("beta1", "beta2")

    @property
    def moments(self) -> tuple[str, ...]:
        return "first", "second", "product"

    def init(self, weights: Weights) -> Weights:
        return {**super().init(weights), "product": tree.map(lambda w: full(w, (1,), 1.0), weights)}

    def change(self, rate: float, step: int, w: Array, g: Array, *moments: Array) -> tuple[Array, ...]:
        *of_adam, product = moments
        xp = namespace(w)
        now, then = (self.beta1 * (1 - 0.5 * 0.96 ** (t * self.momentum_decay)) for t in (step, step + 1))
        product = xp.astype(product * now, product.dtype, copy=False)
        so_far = xp.reshape(product, ())
        first, second, spread = adam_moments(self, step, g, *of_adam)
        ahead = (1 - now) / (1 - so_far) * g + then / (1 - so_far * then) * first
        return w - rate * (ahead / spread), first, second, product


@checked
@dataclass(frozen=True)
class LAMB(Optimizer):
    """r = m̂ / (√v̂ + ε) + λ w;  w -= rate |w| / |r| r, norms of each weight's array. You et al. 2020, algorithm 2.

    m̂ and v̂ are Adam's. Where |w| or |r| is 0 the quotient is 1.

    Parameters
    ----------
    learning_rate
        a number of at least 0, or a schedule of steps
    beta1, beta2
        the shares of m and v that stay, at least 0 and below 1
    epsilon
        keeps the quotient finite
    weight_decay
        λ, of the weights themselves
    clip_norm
        the gradients' largest norm, all weights together; None does not clip

    Raises
    ------
    OptionError
        X104, for an option that it can't have.

    Examples
    --------
    >>> xcnn.Model(xcnn.Dense(2), (3,), optimizer=xcnn.LAMB(0.002, weight_decay=0.02)).learning_rate
    0.002
    """

    learning_rate: float | Schedule = 0.001
    _: KW_ONLY
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-6
    weight_decay: float = 0.01
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        self.check("beta1", "beta2")

    @property
    def moments(self) -> tuple[str, ...]:
        return "first", "second"

    def change(self, rate: float, step: int, w: Array, g: Array, *moments: Array) -> tuple[Array, ...]:
        xp = namespace(w)
        first, second, spread = adam_moments(self, step, g, *moments)
        ratio = first / spread * (1 / (1 - self.beta1**step)) + self.weight_decay * w
        of_w, of_ratio = (xp.sqrt(xp.sum(a * a)) for a in (w, ratio))
        one = full(w, (), 1.0)
        sound = (of_w > 0) & (of_ratio > 0)
        trust = xp.where(sound, of_w / xp.where(sound, of_ratio, one), one)
        return w - rate * (trust * ratio), first, second
