"""The backward passes of replays, and the gradients that they give."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from xcnn_native.replay import Replay

from xcnn.core import tree
from xcnn.core.types import Array, Backward, Weights
from xcnn.layers.layer import Next, Run, Share

Ask: TypeAlias = Callable[[Array], Array]


class Sums:
    """What several processes have told each other in a forward pass, to be had again by this one alone."""

    def __init__(self, share: Share) -> None:
        self.share, self.found = share, list[Array]()
        self.left: Iterator[Array] = iter(())

    def kept(self, ask: Ask, part: Array) -> Array:
        """An answer of all processes, which is kept."""
        self.found.append(ask(part))
        return self.found[-1]

    def again(self, ask: Ask, part: Array) -> Array:
        """The next of those that were kept; those of the backward pass, which follow, of all processes."""
        found = next(self.left, None)
        return ask(part) if found is None else found

    def heard(self, run: Run) -> Run:
        """The same run, whose answers are kept."""
        return self.answered(run, self.kept)

    def repeated(self, run: Run) -> Run:
        """The same run, which asks nobody for what was told."""
        self.left = iter(self.found)
        return self.answered(run, self.again)

    def answered(self, run: Run, by: Callable[[Ask, Array], Array]) -> Run:
        """The same run, in which this answers what is asked of all processes."""
        asked = self.share.sum, self.share.each
        return replace(run, share=Share(self.share.first, self.share.whole, *(partial(by, ask) for ask in asked)))


class Through:
    """The backward pass of a replay, once; called again, or with a gradient that lies otherwise, the layers' own.

    Parameters
    ----------
    replay
        whose forward pass was run
    dy, grads
        a gradient such as it takes, and the tree of gradients: the number of a result and whether it is a Next
    by_layers, given
        what the net gives without a recording, and of what
    sums
        what several processes have summed in the forward pass
    """

    def __init__(
        self,
        replay: Replay,
        dy: Array,
        grads: Any,
        by_layers: Callable[[Weights, Array, Run], tuple[Array, Backward]],
        given: tuple[Weights, Array, Run],
        sums: Sums | None = None,
    ) -> None:
        self.dy, self.grads, self.by_layers, self.given, self.sums = dy, grads, by_layers, given, sums
        self.replay: Replay | None = replay

    def __call__(self, dy: Array) -> tuple[Any, Weights]:
        replay, self.replay = self.replay, None
        if replay is None or type(dy) is not np.ndarray or like(dy) != like(self.dy):
            weights, x, run = self.given
            _, backward = self.by_layers(weights, x, self.sums.repeated(run) if self.sums else run)
            return backward(dy)
        replay.give(dy)
        replay.run(1)
        return None, grown(self.grads, replay)


def numbered(grads: Weights) -> tuple[Any, list[Array]]:
    """The tree of gradients with (number, whether it is a Next) at each place, and the arrays, the first being 1."""
    found: list[Array] = []

    def one(leaf: Any) -> tuple[int, bool]:
        follows = isinstance(leaf, Next)
        found.append(leaf.value if follows else leaf)
        return len(found), follows

    return tree.map(one, grads), found


def grown(numbers: Any, replay: Replay) -> Weights:
    """The tree of gradients of a replay."""

    def one(place: tuple[int, bool]) -> Any:
        array = replay.result(place[0])
        return Next(array) if place[1] else array

    return tree.map(one, numbers)


def like(dy: Array) -> Any:
    """How an array lies."""
    return dy.shape, dy.dtype, dy.strides, dy.flags.aligned
