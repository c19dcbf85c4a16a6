"""Muon: momentum whose matrices are made orthogonal."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from math import prod
from typing import ClassVar

from xcnn.core.arrays import namespace
from xcnn.core.checks import check_whole
from xcnn.core.options import checked
from xcnn.core.types import Array
from xcnn.training.optimizer import Optimizer, is_there
from xcnn.training.schedules import Schedule

QUINTIC = (3.4445, -4.775, 2.0315)
"""Coefficients of a X + b (X Xᵀ) X + c (X Xᵀ)² X, which takes singular values of 0 to 1 near 1 in few iterations."""
TINY = 1e-7


@checked
@dataclass(frozen=True)
class Muon(Optimizer):
    """v = μ v + (1 - μ) g;  w -= rate √max(1, rows / columns) orth(v), or with Nesterov orth(μ v + (1 - μ) g).

    orth is Newton and Schulz's iteration. Jordan et al. 2024 (kellerjordan.github.io/posts/muon). A kernel of a
    convolution is the matrix (out, in · height · width), that of Dense is (out, in). Weights with fewer than two axes,
    such as biases, take the step without orth; `Groups` gives them an optimizer of their own.

    Parameters
    ----------
    learning_rate
        a number of at least 0, or a schedule of steps
    momentum
        μ, the share of v that stays, at least 0 and below 1
    nesterov
        whether to look ahead along v
    steps
        iterations, at least 1
    weight_decay
        λ, taken off the weights themselves: w -= rate λ w first
    clip_norm
        the gradients' largest norm, all weights together; None does not clip

    Raises
    ------
    OptionError
        X104, for an option that it can't have.

    Examples
    --------
    >>> xcnn.Model(xcnn.Dense(2), (3,), optimizer=xcnn.Muon(0.01)).learning_rate
    0.01
    """

    learning_rate: float | Schedule = 0.02
    _: KW_ONLY
    momentum: float = 0.95
    nesterov: bool = True
    steps: int = 5
    weight_decay: float = 0.0
    clip_norm: float | None = None

    structure: ClassVar[tuple[str, ...]] = ("steps",)

    def __post_init__(self) -> None:
        self.check("momentum")
        check_whole("steps", self.steps)

    @property
    def moments(self) -> tuple[str, ...]:
        return ("velocity",)

    def change(self, rate: float, step: int, w: Array, g: Array, *moments: Array) -> tuple[Array, ...]:
        v = self.momentum * moments[0] + (1 - self.momentum) * g
        move = self.momentum * v + (1 - self.momentum) * g if self.nesterov else v
        if w.ndim > 1:
            move = self.orthogonal(move)
        if is_there(self.weight_decay):
            w = w * (1 - rate * self.weight_decay)
        return w - rate * move, v

    def orthogonal(self, move: Array) -> Array:
        """The same with singular values near 1, times the root of rows by columns where there are more rows."""
        xp, shape = namespace(move), tuple(move.shape)
        if 0 in shape:
            return move
        matrix = move if move.ndim == 2 else xp.reshape(move, (shape[0], prod(shape[1:])))
        out, wide = (shape[1], shape[0]) if move.ndim == 2 else (shape[0], prod(shape[1:]))
        rows = tuple(matrix.shape)
        x = matrix.T if rows[0] > rows[1] else matrix
        x = x / (xp.sqrt(xp.sum(x * x)) + TINY)
        a, b, c = QUINTIC
        for _ in range(self.steps):
            square = x @ x.T
            x = a * x + (b * square + c * (square @ square)) @ x
        x = x.T if rows[0] > rows[1] else x
        return xp.reshape(x, shape) * max(1.0, out / wide) ** 0.5
