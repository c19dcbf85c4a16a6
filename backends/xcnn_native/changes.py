"""What changes weights in one pass: the types that updates by blocks and by loops share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from xcnn.core.types import Array
from xcnn.training.optimizers import Optimizer

Lines: TypeAlias = Sequence[Array]
Change: TypeAlias = Callable[[Sequence[Lines], Sequence[Lines]], Sequence[tuple[float, float]]]
"""[(weight, gradient, *moments)], [(new weight, *new moments)] -> of each the squares' sums of gradient and new weight.

The latter is not finite where a moment is not. Arrays are in C's order, all of one type, those that go together of one
size, and the new ones are written. Of an array that stands alone, with nothing to be written, the squares are summed.
"""
MakeChange: TypeAlias = Callable[[Optimizer, float, int, float, int], Change]
"""(optimizer, learning rate, steps from 1, factor of the gradients, threads) -> what changes weights in this step."""
SumOfSquares: TypeAlias = Callable[[Array], float]
