"""Weights that a net was computed with, and how it is told whether others are the same, or such weights."""

from __future__ import annotations

from typing import Any

import numpy as np
from xcnn_host.buffers import is_sealed
from xcnn_native.replay import Recording

from xcnn.core import tree
from xcnn.core.types import Array, Weights
from xcnn.layers.layer import Run


class Met:
    """Weights that met samples of a shape, and the recording of what they give, where there is one.

    Attributes
    ----------
    leaves
        the weights, where they are part of the recording
    tried
        whether it was recorded
    waiting
        a recording that was not held against the layers yet
    dy
        a gradient such as the backward pass is given
    grads
        the tree of gradients, with the number of a result and whether it is a Next at each place
    """

    def __init__(self, weights: Weights, trains: bool = False) -> None:
        leaves = tree.leaves(weights)
        stay = not trains and all(map(is_sealed, leaves))
        self.leaves = leaves if stay else None
        self.kinds = [kind_of(leaf) for leaf in leaves]
        self.weights = tree.map(lambda leaf: leaf, weights) if stay else None  # who has the other tree may change it
        self.locked = stay and all(leaf.base is not None for leaf in leaves)
        self.tried = False
        self.waiting: Recording | None = None
        self.recording: Recording | None = None
        self.dy: Any = None
        self.grads: Any = None

    def given(self, weights: Weights) -> list[Array] | None:
        """What a replay is given beside x, of such weights; None where they are no such weights."""
        if self.leaves is not None:
            return [] if self.stays(weights) else None
        leaves = tree.leaves(weights)
        return leaves if len(leaves) == len(self.kinds) and all(map(is_kind, leaves, self.kinds)) else None

    def stays(self, weights: Weights) -> bool:
        """Whether these are the weights of the recording, and nobody can have changed them."""
        try:  # by the identity of each, of which nothing is as quick as dicts; arrays of other cells have no truth
            if self.leaves is None or self.weights != weights:
                return False
        except ValueError:
            return False
        return self.locked or not any(leaf.flags.writeable for leaf in self.leaves)

    def predicted(self, x: Array, leaves: list[Array], run: Run) -> Array:
        """What the recording of a prediction gives."""
        assert self.recording is not None
        if self.leaves is not None:
            return self.recording(x)
        replay = self.recording.begin((x, *leaves), run.key)
        replay.run(0)
        return replay.result(0)


def kind_of(leaf: Array) -> Any:
    """What a replay asks of an array in this one's place."""
    return getattr(leaf, "shape", None), getattr(leaf, "dtype", None)


def is_kind(leaf: Array, kind: Any) -> bool:
    """Whether this array may stand in the place of another."""
    if type(leaf) is not np.ndarray or leaf.shape != kind[0] or leaf.dtype is not kind[1]:
        return False
    flags = leaf.flags
    return flags.c_contiguous and flags.aligned
