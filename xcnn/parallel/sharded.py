"""Updates of which each rank makes a part, where ranks share memory: stage 1 of ZeRO, Rajbhandari et al. 2020.

A rank sums its part of each long gradient, and updates its part of the weight and of the moments. The new arrays lie in
memory that all share: they are whole on all ranks, the same bits, and stay as they are for who holds them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from xcnn.core import tree
from xcnn.core.types import Array, Weights
from xcnn.layers.layer import Next
from xcnn.parallel.memory import Blocks
from xcnn.parallel.ranks import Ranks
from xcnn.parallel.window import LINE, shares
from xcnn.training.optimizers import Optimizer
from xcnn.training.squares import gradients_norm, weights_norm
from xcnn.training.state import HostArray

LONG = 2**13
"""Cells of an array from which on each rank updates a part; of shorter ones each updates all."""
LARGEST = {np.dtype(kind): float(np.finfo(kind).max) for kind in (np.float32, np.float64)}

Updated: TypeAlias = tuple[Weights, Weights, Array, Array, float]
"""New weights and state, the norms of the gradients and of the new weights, and the sum of the ranks' losses."""


@dataclass(slots=True)
class Line:
    """Arrays that are updated together: a weight, its gradient, its moments.

    Parameters
    ----------
    path
        the weight's
    grad
        this rank's gradient, or what replaces the weight
    before
        the weight and its moments, in C's order
    """

    path: str
    grad: Any
    before: list[HostArray]

    @property
    def long(self) -> bool:
        """Whether each rank updates a part of it."""
        return not isinstance(self.grad, Next) and self.grad.size >= LONG

    @property
    def room(self) -> int:
        """Bytes that the arrays after it take, each from the beginning of a line of memory on."""
        return len(self.before) * -(-self.before[0].nbytes // LINE) * LINE

    def after(self, memory: HostArray | None) -> list[HostArray]:
        """The arrays after it, to be written: in this memory, or in some of their own."""
        first, kind = self.before[0], self.before[0].dtype
        if memory is None:
            return [np.empty(first.shape, kind) for _ in self.before]
        parts = np.split(memory, len(self.before))
        return [part[: first.nbytes].view(kind).reshape(first.shape) for part in parts]


class ShardedUpdate:
    """The update of the weights of a host's backend, of whose cells each rank has its part.

    Parameters
    ----------
    backend
        whose arrays they are
    ranks
        who update them
    """

    def __init__(self, backend: Any, ranks: Ranks) -> None:
        self.backend: Any = backend
        self.ranks: Ranks = ranks
        self.blocks: Blocks = Blocks(ranks.comm)

    def __call__(
        self, optimizer: Optimizer, grads: Weights, state: Weights, weights: Weights, value: float, free: int,
        whole: Callable[[dict[str, Any]], dict[str, Any]], own: Callable[[list[HostArray]], list[HostArray]],
    ) -> Updated | None:  # fmt: skip
        """The update by the sums of all ranks' gradients; None where it is to be made of all of them at once.

        Blocks that all ranks said to be `free` are used again. `whole` sums short gradients, and `own` gives arrays to
        sum in the place of long ones.
        """
        lines = self.lines(optimizer, grads, state, weights)
        long = [line for line in lines if line.long]
        if not long or (block := self.blocks.taken(sum(line.room for line in long), free)) is None:
            return None
        sums = whole({line.path: line.grad for line in lines if not line.long})
        parts = [array.reshape(-1) for array in own([line.grad for line in long])]
        self.ranks.scatter(parts)
        sums |= {line.path: part for line, part in zip(long, parts, strict=True)}
        ends = np.cumsum([line.room for line in long])[:-1]
        memory = {line.path: part for line, part in zip(long, np.split(block, ends), strict=True)}
        news = {line.path: line.after(memory.get(line.path)) for line in lines}
        numbers = self.written(optimizer, state["step"], lines, sums, news, value)
        for line in lines:
            if isinstance(line.grad, Next):
                news[line.path] = [sums[line.path].value, *line.before[1:]]
        trees = [
            tree.filled(weights, {path: new[n] for path, new in news.items()}) for n in range(len(lines[0].before))
        ]
        moments = dict(zip(optimizer.moments, trees[1:], strict=True))
        return trees[0], {"step": state["step"] + 1, **moments}, *numbers

    def lines(self, optimizer: Optimizer, grads: Weights, state: Weights, weights: Weights) -> list[Line]:
        """What is updated together, in an order that is the same on all ranks; nothing where it can't be in parts."""
        if {*state} != {"step", *optimizer.moments} or self.backend.update_lines(optimizer, 0, 1.0, [], []) is None:
            return []
        trees = [weights, *(state[name] for name in optimizer.moments)]
        flat, found = [dict(tree.items(each)) for each in trees], list[Line]()
        for path, grad in sorted(tree.items(grads)):
            before = [each[path] for each in flat]
            arrays = [getattr(grad, "value", grad), *before]
            kinds = {(type(a), a.dtype, a.shape) for a in arrays}
            if len(kinds) > 1 or type(arrays[0]) is not np.ndarray or arrays[0].dtype not in LARGEST:
                return []
            found.append(Line(path, grad, [np.require(a, None, ["C", "A"]) for a in before]))
        return found

    def written(
        self, optimizer: Optimizer, taken: int, lines: list[Line], sums: dict[str, Any],
        news: dict[str, list[HostArray]], value: float,
    ) -> tuple[float, float, float]:  # fmt: skip
        """The norms of the gradients and of the new weights, which are written, and the sum of the ranks' losses."""
        olds, there = zip(*(self.cells(line, sums[line.path], news[line.path]) for line in lines), strict=True)
        slopes, scale = [old[1] if len(old) > 1 else old[0][:0] for old in olds], 1.0
        if optimizer.clip_norm is not None:
            alone = self.backend.update_lines(optimizer, taken, 1.0, [[g] for g in slopes], [()] * len(lines))
            _, squares = self.of_all(lines, 0.0, [found for _, found in alone])
            scale = optimizer.clip_norm / max(self.norm(lines, squares, slopes), optimizer.clip_norm)
        found = self.backend.update_lines(optimizer, taken, scale, olds, there)
        value, of_slopes, of_weights = self.of_all(lines, value, *zip(*found, strict=True))  # here all have written
        size = weights_norm(zip(of_weights, (LARGEST[line.before[0].dtype] for line in lines), strict=True))
        return self.norm(lines, of_slopes, slopes), size, value

    def cells(self, line: Line, total: Any, news: list[HostArray]) -> tuple[list[HostArray], list[HostArray]]:
        """What this rank reads of the arrays before, the gradient second, and what it writes of those after."""
        if isinstance(total, Next):
            return [total.value], []
        weight, *moments = line.before
        olds, here = [weight, total, *moments], slice(None)
        if line.long:
            here = slice(*shares(weight.size, self.ranks.size, weight.itemsize)[self.ranks.rank])
        return [array.reshape(-1)[here] for array in olds], [array.reshape(-1)[here] for array in news]

    def of_all(self, lines: list[Line], value: float, *columns: Sequence[float]) -> tuple[Any, ...]:
        """The sum over ranks of a number; and columns of one for each line, which of long ones are of all ranks."""
        mine = [each for column in columns for each, line in zip(column, lines, strict=True) if line.long]
        value, *sums = self.ranks.summed(value, *mine)
        left = iter(sums)
        whole = [
            [next(left) if line.long else each for each, line in zip(column, lines, strict=True)] for column in columns
        ]
        return value, *whole

    def norm(self, lines: list[Line], squares: list[float], slopes: list[HostArray]) -> float:
        """The gradients' norm from sums of their squares, or where those overflowed from the gradients themselves."""

        def largest() -> float:
            return float(self.ranks.table(np.max([np.max(np.abs(g), initial=0) for g in slopes])).max())

        def scaled(most: float) -> float:
            parts = [float(np.vdot(g / most, g / most)) for g in slopes]
            return float(sum(self.of_all(lines, 0.0, parts)[1]))

        return gradients_norm(sum(squares), LARGEST[slopes[0].dtype], largest, scaled)
