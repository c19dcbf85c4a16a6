"""What changes weights in one pass: the types that updates by blocks and by loops share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from xcnn.core.types import Array
from xcnn.training.optimizers import Optimizer

Lines: TypeAlias = Sequence[Array]
Change: TypeAlias = Callable[[Lines, Lines], tuple[float, float]]
"""(weight, gradient, *moments), (new weight, *new moments) -> the sums of squares of the gradient and the new weight.

The latter is not finite where a moment is not. All are flat, of one size and type, and the new ones are written. Given
slices of them, it changes just those cells.
"""
MakeChange: TypeAlias = Callable[[Optimizer, float, int, float, int], Change]
"""(optimizer, learning rate, steps from 1, factor of the gradients, threads) -> what changes weights in this step."""
SumOfSquares: TypeAlias = Callable[[Array], float]
