"""Nets whose predictions and training passes are recorded, and from then on are a few calls of the library."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import isfinite
from threading import get_ident
from typing import Any

from xcnn_host.buffers import elsewhere, empty, recycler
from xcnn_native.library import address, kernel
from xcnn_native.recording import Recorder
from xcnn_native.replay import Recording, made
from xcnn_native.room import Piece, in_room, side_by_side
from xcnn_strided.fusion import FusedGraph, FusedSequential

from xcnn.core import tree
from xcnn.core.process import Present
from xcnn.core.pure import is_own
from xcnn.core.types import Array, Backward, Weights
from xcnn.layers import BatchNorm, Dropout
from xcnn.layers.container import Container
from xcnn.layers.layer import Layer, Run, no_backward
from xcnn_numpy.native.arithmetic import added
from xcnn_numpy.native.layout import holds
from xcnn_numpy.native.met import Met, is_kind, kind_of
from xcnn_numpy.native.through import Sums, Through, numbered
from xcnn_numpy.native.trial import digests, filled, made_up, made_up_of_each

MOST = 8
"""Shapes of batches whose recordings are kept, those that were asked for last."""
SHARE = 2
"""The memory of a training pass that is recorded is at most the kept memory divided by this: it is one array."""
ROOM = 12 * 2**20
"""The memory of a prediction up to which a batch is computed as a whole: what is beyond it falls out of processors'
caches before the next layer reads it."""
FEW = 2
"""Samples that tell how much memory each of a batch takes."""
SMALL = 2**21
"""Bytes at most of a prediction's memory that is recorded with weights that may change: a larger one takes its time in
kernels, and layer by layer it takes less memory."""


class Recorded:
    """A net whose predictions and training passes are recorded.

    Weights that are read-only, as `model.frozen()` has them, are part of a recording: other weights, in a net that was
    trained or edited, are other arrays, and then all begins anew. Weights that may change, as in training, are given to
    each replay. A recording is compared with the layers themselves, on numbers that it has not seen, before it is used;
    another one that calls the same kernels in the same way is not.
    """

    own: bool
    normed: bool
    """Whether layers ask for sums over the batch, which several processes may have."""
    draws: bool
    """Whether layers draw by a cell's number in the batch."""
    met: OrderedDict[Any, Met]
    trusted: dict[Any, Any]
    most: dict[Any, int]
    """Samples that a prediction takes at once, by their shape and type."""

    def __init__(self, fused: Any) -> None:
        asks = {"normed": holding(fused, BatchNorm), "draws": holding(fused, Dropout)}
        vars(self).update(vars(fused), own=own(fused), **asks, met=OrderedDict(), trusted={}, most={})

    def by_layers(self, weights: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        """What the net gives without a recording."""
        return super().__call__(weights, x, run)  # type: ignore[misc,no-any-return]

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        trains = run.train and run.wants_backward and not run.wants_dx
        if not (trains or not (run.train or run.wants_backward)) or not self.can(x, run):
            return self.by_layers(weights, x, run)
        if not trains and len(x) > self.samples_at_once(weights, x, run):
            return self.in_parts(weights, x, run), no_backward
        key = self.key_of(x, trains, run)
        met = self.met.get(key)
        if met is None or (leaves := met.given(weights)) is None:
            self.remember(key, weights, trains)
            return self.by_layers(weights, x, run)
        if not met.tried:
            return self.first(key, met, weights, leaves, x, run)
        if met.waiting is not None:
            self.try_out(key, met, weights, leaves, x, run)
        if met.recording is None:
            return self.by_layers(weights, x, run)
        if not trains:
            return met.predicted(x, leaves, run), no_backward
        sums = Sums(run.share) if run.share and self.normed else None
        replay = met.recording.begin((x, *leaves), run.key, sums.heard(run) if sums else run)
        replay.run(0)
        replay.asked = run
        return replay.result(0), Through(replay, met.dy, met.grads, self.by_layers, (weights, x, run), sums)

    def in_parts(self, weights: Weights, x: Array, run: Run) -> Array:
        """The prediction of a batch that is too large for what caches hold, some samples at a time."""
        y, parts = None, -(-len(x) // self.samples_at_once(weights, x, run))
        for part in range(parts):
            begin, end = (len(x) * n // parts for n in (part, part + 1))
            made, _ = self(weights, x[begin:end], run)
            y = empty((len(x), *made.shape[1:]), made.dtype) if y is None else y
            y[begin:end] = made
        return y

    def samples_at_once(self, weights: Weights, x: Array, run: Run) -> int:
        """How many samples like these a prediction takes at once: all where that could change a bit.

        A recording calls nothing but kernels to which it makes no difference which samples are a batch. One of a few
        tells how much memory each takes. Weights that take more than caches hold are to be read for as many samples as
        take as much.
        """
        kind = x.shape[1:], x.dtype.char
        if kind not in self.most and len(x) > FEW and self.can(x, run):
            met = Met(weights)
            self.by_layers(weights, x[:FEW], run)  # who plans for a shape when it is new is not recorded
            recording, _ = self.recording_of(met, weights, met.given(weights) or [], x[:FEW], run)
            heavy = max(ROOM, sum(leaf.nbytes for leaf in tree.leaves(weights)))
            self.most[kind] = max(1, FEW * heavy // recording.size) if recording and recording.size else sys.maxsize
        return self.most.get(kind, sys.maxsize)

    def recording_of(
        self, met: Met, weights: Weights, leaves: list[Array], x: Array, run: Run
    ) -> tuple[Recording | None, Array]:
        """That of a prediction, and what the layers give."""
        recorder = Recorder((x, *leaves), met.leaves or (), met.leaves is None, run.key)
        with recorder.listening():
            y, _ = self.by_layers(weights, x, run)
        return made(recorder, [y], [True]), y

    def key_of(self, x: Array, trains: bool, run: Run) -> Any:
        """What a recording is kept by: how x lies, and which samples of the batch it has, where layers ask."""
        share = run.share if self.draws or self.normed else None
        return x.shape, x.dtype.char, trains, share and (share.first, share.whole)

    def replayed(self, weights: Weights, x: Array, run: Run) -> Array | None:
        """A prediction by the library alone, which asks nothing of NumPy.

        None where there is no recording of it, or x is not finite.
        """
        met = self.met.get(self.key_of(x, False, run))
        if met is None or met.recording is None or met.waiting is not None or not self.can(x, run):
            return None
        leaves = met.given(weights)
        if leaves is None or not isfinite(kernel("sum_of_squares", x.dtype)(x.size, address(x))):
            return None
        with Present():
            return met.predicted(x, leaves, run)

    def can(self, x: Array, run: Run) -> bool:
        """Whether nobody looks on, or gives arrays, and x is an array that kernels read in place."""
        return self.own and run.hook is None and plain(x) and elsewhere.get(get_ident()) is None

    def remember(self, key: Any, weights: Weights, trains: bool) -> None:
        """Keep these weights, and let go of others that were to stay, and of the shapes that are too many."""
        new, leaves = Met(weights, trains), tree.leaves(weights)
        if trains or not all(met.leaves is None or met.stays(weights) for met in [*self.met.values()]):
            for other, met in [*self.met.items()]:
                if met.leaves is not None:
                    self.met.pop(other, None)
        if new.leaves is not None or all(is_kind(leaf, kind_of(leaf)) and leaf.size for leaf in leaves):
            self.met[key] = new
        while len(self.met) > MOST:
            self.met.popitem(last=False)

    def first(
        self, key: Any, met: Met, weights: Weights, leaves: list[Array], x: Array, run: Run
    ) -> tuple[Array, Backward]:
        """What the layers give, recorded by the way."""
        met.tried = True
        if not run.wants_backward:
            recording, y = self.recording_of(met, weights, leaves, x, run)
            self.keep(key, met, recording)
            return y, no_backward
        recorder = Recorder((x, *leaves), (), True, run.key)
        with recorder.listening():
            y, backward = self.by_layers(weights, x, run)

        def noted(dy: Array) -> tuple[Array, Weights]:
            if met.waiting or met.recording or not holds(dy):
                return backward(dy)
            given, met.grads, recording = recorded_backward(recorder, y, backward, dy)
            met.dy = dy
            self.keep(key, met, recording)
            return given

        return y, noted

    def replayed_passes(
        self, weights: Weights, x: Array, run: Run, gradient: Callable[[Array], Array]
    ) -> ReplayedPasses | None:
        """What a summary asks of a training step's passes; None where they are not recorded."""
        if not self.can(x, run):
            return None
        recorder = Recorder((x, *tree.leaves(weights)), (), True, run.key)
        with recorder.listening():
            y, backward = self.by_layers(weights, x, run)
        dy = gradient(y)
        _, _, recording = recorded_backward(recorder, y, backward, dy)
        return ReplayedPasses(recorder.room.pieces, x.nbytes + dy.nbytes) if recording else None

    def keep(self, key: Any, met: Met, recording: Recording | None) -> None:
        """Keep a recording that is not too large, to be tried out unless one like it was."""
        most = recycler.most_bytes // SHARE
        if recording is None or (
            met.leaves is None and recording.size > (min(SMALL, most) if met.dy is None else most)
        ):
            return
        if key in self.trusted and self.trusted[key] == recording.likeness:
            met.recording = recording
        else:
            met.waiting = recording

    def try_out(self, key: Any, met: Met, weights: Weights, leaves: list[Array], x: Array, run: Run) -> None:
        """Hold the recording that waits against the layers, bit for bit, on numbers that it has not seen.

        Other processes, who may have other recordings, know nothing of it: what would be their sums is made up.
        """
        recording, met.waiting = met.waiting, None
        if recording is None:  # another thread has it
            return
        given, dy = filled(x, 0), None if met.dy is None else filled(met.dy, 1)
        share = run.share and replace(run.share, sum=made_up, each=made_up_of_each)
        run = replace(run, key=(*run.key[:-1], run.key[-1] + 1), share=share)
        expected = digests(*self.by_layers(weights, given, run), dy)
        recycler.give_back()  # a replay's memory is one array, in the place of what the layers have had
        replay = recording.begin((given, *leaves), run.key, run)
        replay.run(0)
        back: Backward = no_backward
        if dy is not None:
            back = Through(replay, met.dy, met.grads, self.by_layers, (weights, given, run))
        if digests(replay.result(0), back, dy) != expected:
            return
        if len(self.trusted) >= MOST:
            self.trusted.clear()
        if met.leaves is not None:
            self.trusted[key] = recording.likeness
        met.recording = recording


def recorded_backward(
    recorder: Recorder, y: Array, backward: Backward, dy: Array
) -> tuple[tuple[Array, Weights], Any, Recording | None]:
    """What a backward pass gives, the places of its gradients among the results, and the recording of both passes."""
    recorder.give(dy)
    with recorder.listening():
        dx, grads = backward(dy)
    places, results = numbered(grads)
    follows = [follows for _, follows in tree.leaves(places)]  # what weights become stays longer than a step
    return (dx, grads), places, made(recorder, [y, *results], [False, *follows])


class ReplayedPasses:
    """A training step's passes, for batches of any size."""

    def __init__(self, pieces: Sequence[Piece], copies: int) -> None:
        self.pieces, self.copies = pieces, copies
        self.sizes = [piece.size for piece in pieces]

    def memories(self, sizes: Sequence[int]) -> Sequence[int]:
        """The bytes of a replay's memories."""
        scaled = [replace(piece, size=size) for piece, size in zip(self.pieces, sizes, strict=True)]
        between = in_room(scaled)
        if between > recycler.most_bytes // SHARE:
            return ()
        return side_by_side(piece for piece in scaled if piece.base is not None), between


class RecordedSequential(Recorded, FusedSequential):
    """A Sequential whose passes are recorded."""


class RecordedGraph(Recorded, FusedGraph):
    """A Graph whose passes are recorded."""

    def added(self, a: Array, b: Array) -> Array:
        if holds(a) and holds(b) and a.dtype == b.dtype and a.size:
            return added(a, b, 1)
        return super().added(a, b)


def recorded(net: Layer) -> Layer:
    """The same net, whose passes are recorded, if it is one that knows how."""
    kind: Any = {FusedSequential: RecordedSequential, FusedGraph: RecordedGraph}.get(type(net))
    made: Layer = kind(net) if kind else net
    return made


def plain(x: Array) -> bool:
    """Whether x has cells, of a type that kernels compute in, in C's order."""
    return holds(x) and x.size > 0 and x.flags.c_contiguous and x.flags.aligned


def holding(layer: Layer, kind: type) -> bool:
    """Whether any layer is of this kind."""
    inner = layer if isinstance(layer, Container) else ()
    return isinstance(layer, kind) or any(holding(each, kind) for each in inner)


def own(layer: Layer) -> bool:
    """Whether all layers are xcnn's own: others may compute by what changes from call to call."""
    return is_own(type(layer)) and all(map(own, layer if isinstance(layer, Container) else ()))
