"""Predictions of one net with weights that stay: recorded the second time, and from then on one call of the library."""

from __future__ import annotations

from collections import OrderedDict
from operator import is_
from typing import Any

import numpy as np
from xcnn_native.recording import Recorder, Recording
from xcnn_strided.fusion import FusedSequential

from xcnn.core import tree
from xcnn.core.pure import is_own
from xcnn.core.types import Array, Backward, Weights
from xcnn.layers.container import Container
from xcnn.layers.layer import Layer, Run, no_backward
from xcnn_numpy.native.layout import holds

MOST = 8
"""Shapes of batches whose recordings are kept, those that were asked for last."""
DRAWN = 4099
"""Numbers that the samples are filled with on which a recording is tried: a prime, so that no two rows are alike."""


class Met:
    """Weights that met samples of a shape, and the recording of their prediction, where there is one."""

    def __init__(self, leaves: list[Array]) -> None:
        self.leaves = leaves
        self.tried = False
        self.recording: Recording | None = None

    def same(self, leaves: list[Array]) -> bool:
        """Whether these are the weights, and nobody can have changed them."""
        return len(leaves) == len(self.leaves) and all(map(is_, leaves, self.leaves)) and sealed(leaves)


def sealed(leaves: list[Array]) -> bool:
    """Whether none of these can be written: NumPy's own arrays, read-only, whose memory is no other's."""
    return all(type(leaf) is np.ndarray and not leaf.flags.writeable and leaf.base is None for leaf in leaves)


class Predicting(FusedSequential):
    """A net whose predictions are recorded.

    The weights must be such as `model.frozen()` has. Other weights, in a net that was trained or edited, are other
    arrays, and then all begins anew. A recording is compared with the layers themselves, on samples that it has not
    seen, before it is used; another one that calls the same kernels in the same way is not.
    """

    def __init__(self, fused: FusedSequential) -> None:
        vars(self).update(vars(fused), own=own(fused), met=OrderedDict(), trusted={})

    own: bool
    met: OrderedDict[Any, Met]
    trusted: dict[Any, Any]

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        if run.wants_backward or run.train or run.hook is not None or not (self.own and plain(x)):
            if run.train:
                self.met.clear()  # the weights are about to be others
            return super().__call__(weights, x, run)
        leaves, key = tree.leaves(weights), (x.shape, x.dtype.char)
        met = self.met.get(key)
        if met is None or not met.same(leaves):
            self.remember(key, leaves)
            return super().__call__(weights, x, run)
        if met.recording is None:
            return super().__call__(weights, x, run) if met.tried else self.recorded(key, met, weights, x, run)
        return met.recording(x), no_backward

    def remember(self, key: Any, leaves: list[Array]) -> None:
        """Keep these weights, if they stay, and let go of others, and of the shapes that are too many."""
        if not all(met.same(leaves) for met in [*self.met.values()]):
            self.met.clear()
        if sealed(leaves):
            self.met[key] = Met(leaves)
        while len(self.met) > MOST:
            self.met.popitem(last=False)

    def recorded(self, key: Any, met: Met, weights: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        """What the layers give, recorded by the way."""
        met.tried = True
        recorder = Recorder(x, met.leaves)
        with recorder.listening():
            y, backward = super().__call__(weights, x, run)
        recording = recorder.made(y)
        if recording and (self.trusted.get(key) == recording.likeness or self.holds(recording, weights, x, run)):
            if len(self.trusted) >= MOST:
                self.trusted.clear()
            self.trusted[key], met.recording = recording.likeness, recording
        return y, backward

    def holds(self, recording: Recording, weights: Weights, x: Array, run: Run) -> bool:
        """Whether it gives what the layers give, bit for bit, of samples that it has not seen."""
        drawn = np.resize(np.random.default_rng(0).standard_normal(DRAWN), x.shape).astype(x.dtype)
        expected, _ = super().__call__(weights, drawn, run)
        whole = np.dtype(f"i{x.itemsize}")
        return np.array_equal(recording(drawn).view(whole), expected.view(whole))


def plain(x: Array) -> bool:
    """Whether x has cells, of a type that kernels compute in, in C's order."""
    return holds(x) and x.size > 0 and x.flags.c_contiguous and x.flags.aligned


def own(layer: Layer) -> bool:
    """Whether all layers are xcnn's own: others may compute by what changes from call to call."""
    return is_own(type(layer)) and all(map(own, layer if isinstance(layer, Container) else ()))
