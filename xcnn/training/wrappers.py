"""Optimizers around another one: Lookahead, and an average of the weights that predictions are made with."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, ClassVar, Self

from xcnn.core import tree
from xcnn.core.arrays import namespace
from xcnn.core.checks import check_between, check_whole
from xcnn.core.options import checked
from xcnn.core.types import Array, Weights
from xcnn.errors import OptionError
from xcnn.layers.layer import Next
from xcnn.training.optimizer import Apply, Composite, Optimizer
from xcnn.training.schedules import Schedule


class Wrapper(Composite):
    """What those around one optimizer share: a tree that follows the weights, one of `followers`."""

    optimizer: Optimizer

    @property
    def learning_rate(self) -> float | Schedule:  # type: ignore[override]
        """The wrapped one's."""
        return self.optimizer.learning_rate

    @property
    def clip_norm(self) -> float | None:  # type: ignore[override]
        """The wrapped one's."""
        return self.optimizer.clip_norm

    @property
    def moments(self) -> tuple[str, ...]:
        return (*self.optimizer.moments, *(name for name in self.followers if name not in self.optimizer.moments))

    def init(self, weights: Weights) -> Weights:
        return {**self.optimizer.init(weights), **dict.fromkeys(self.own, weights)}

    @property
    def following(self) -> tuple[str, ...]:
        return (*self.optimizer.following, *self.own)

    def goes_on_from(self, before: Optimizer, weights: Weights) -> bool:
        same = super().goes_on_from(before, weights)
        return same and isinstance(before, Wrapper) and self.optimizer.goes_on_from(before.optimizer, weights)

    @property
    def own(self) -> tuple[str, ...]:
        """The moments that this class adds."""
        return tuple(vars(type(self))["followers"])

    def with_rate(self, rate: float | Schedule) -> Self:
        return replace(self, optimizer=self.optimizer.with_rate(rate))  # type: ignore[type-var]

    def asked(self, weights: Weights, state: Weights) -> Weights:
        return self.optimizer.asked(weights, state)

    def inner(self, state: Weights) -> Weights:
        """The wrapped one's state."""
        return {name: leaf for name, leaf in state.items() if name not in self.own}


@checked
@dataclass(frozen=True)
class EMA(Wrapper):
    """a = w after the first step, then a = decay a + (1 - decay) w: predictions and evaluations are made with a.

    Polyak and Juditsky 1992, in the form that PyTorch's AveragedModel has with an exponential average. What is no
    trained weight, as running statistics, is taken as it is. Checkpoints keep a beside w; `model.weights` is w.

    Parameters
    ----------
    optimizer
        what trains w
    decay
        the share of a that stays, at least 0 and below 1

    Raises
    ------
    OptionError
        X104, for an option that it can't have.

    Examples
    --------
    >>> xcnn.optimizers.EMA(xcnn.SGD(0.1, momentum=0.9), decay=0.99).moments
    ('velocity', 'average')
    """

    optimizer: Optimizer
    _: KW_ONLY
    decay: float = 0.999

    followers: ClassVar[tuple[str, ...]] = ("average",)

    def __post_init__(self) -> None:
        check_inner(self, "average")
        check_between("decay", self.decay, 0, 1)

    def asked(self, weights: Weights, state: Weights) -> Weights:
        average: Weights = state["average"]
        return average

    def update_by(
        self, apply: Apply, grads: Weights, state: Weights, weights: Weights
    ) -> tuple[Weights, Weights, Array, Array]:
        new, inner, *norms = apply(self.optimizer, grads, self.inner(state), weights)
        begun, decay = inner["step"] > 1, self.decay

        def averaged(a: Array, w: Array, g: Any) -> Array:
            return w if isinstance(g, Next) else chosen(begun, lambda: decay * a + (1 - decay) * w, w)

        average = tree.map(averaged, state["average"], new, grads)
        return new, {**inner, "average": average}, norms[0], norms[1]


@checked
@dataclass(frozen=True)
class Lookahead(Wrapper):
    """After each k steps of the wrapped optimizer s = s + α (w - s), and w = s: Zhang et al. 2019, algorithm 1.

    Parameters
    ----------
    optimizer
        what makes the steps
    k
        of them, at least 1
    alpha
        α, how far the slow weights go, from 0 to 1

    Raises
    ------
    OptionError
        X104, for an option that it can't have.

    Examples
    --------
    >>> xcnn.Model(xcnn.Dense(2), (3,), optimizer=xcnn.Lookahead(xcnn.Adam(0.002), k=6)).learning_rate
    0.002
    """

    optimizer: Optimizer
    _: KW_ONLY
    k: int = 5
    alpha: float = 0.5

    followers: ClassVar[tuple[str, ...]] = ("slow",)

    def __post_init__(self) -> None:
        check_inner(self, "slow")
        check_whole("k", self.k)
        check_between("alpha", self.alpha, 0, 1)

    def update_by(
        self, apply: Apply, grads: Weights, state: Weights, weights: Weights
    ) -> tuple[Weights, Weights, Array, Array]:
        new, inner, *norms = apply(self.optimizer, grads, self.inner(state), weights)
        due = inner["step"] % self.k == 0

        def slower(s: Array, w: Array, g: Any) -> Array:
            return w if isinstance(g, Next) else chosen(due, lambda: s + self.alpha * (w - s), s)

        slow = tree.map(slower, state["slow"], new, grads)
        new = tree.map(lambda w, s: chosen(due, lambda: s, w), new, slow)
        return new, {**inner, "slow": slow}, norms[0], norms[1]


def chosen(due: Any, then: Any, otherwise: Array) -> Array:
    """What `then` gives, or the other array; where compiled code has an array for the answer, cell by cell."""
    if isinstance(due, bool):
        return then() if due else otherwise
    xp, value = namespace(otherwise), then()
    return xp.astype(xp.where(due, value, otherwise), otherwise.dtype, copy=False)


def check_inner(wrapper: Wrapper, moment: str) -> None:
    """Raise X104 for a wrapper in one of its kind, whose moments would be the same."""
    if moment in wrapper.optimizer.moments:
        name = type(wrapper).__name__
        raise OptionError("X104", f"{name} stands within another {name}.", hint="one is enough.")
