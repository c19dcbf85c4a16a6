"""Norms and the activations behind them: a pass for the sums and one that computes, forward and back.

With a and b for each channel, of the batch or of each image, z = x a + b and y = f(z). Back, dz = f'(z) dy; dscale and
dbias follow from the sums of dz and dz (x - m), m being the mean, and dx = u dz + x v + w.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from xcnn_host.buffers import empty
from xcnn_native.library import call
from xcnn_native.program import NEIGHBOURS, OWN_NEIGHBOURS, PLANES, Program
from xcnn_native.recording import aside, constant
from xcnn_native.trace import CHANNEL, Symbol, trace

from xcnn.core.types import Array, Shape, Weights
from xcnn.layers import BatchNorm, GroupNorm
from xcnn.layers.batch_norm import EARLY, RUNNING, SETTLED, unmoved
from xcnn.layers.layer import Layer, Next, Run
from xcnn_numpy.native.activations import Kept, chain
from xcnn_numpy.native.layout import as_lying, holds, lying, new
from xcnn_numpy.native.shares import rows, whole_slopes, whole_statistics

if TYPE_CHECKING:
    from xcnn_strided.fusion import FusedBackward, Named

    from xcnn_numpy.host import Host


@dataclass(frozen=True)
class Normal:
    """The programs of a norm with these activations behind it; in evaluation what goes back is dx = u dz.

    `slope` gives dz; None where that is dy. `keeps_y` says that it follows from y, which is kept.
    """

    forward: Program
    slope: Program | None
    backward: Program
    fixed_backward: Program
    keeps_y: bool


def normal(layers: tuple[Layer, ...], dtype: Any, beside: bool = False) -> Normal:
    """The programs for a type; with what lies `beside`, "r", z = x a + b + r."""
    x, dy, dz, r = (Symbol.of(name, dtype) for name in ("x", "dy", "dz", "r"))
    a, b, u, v, w = (Symbol.of(name, dtype, CHANNEL) for name in "abuvw")
    y, through = trace(layers, x * a + b + r if beside else x * a + b)
    slope, keeps_y = None, False
    if layers:
        result = {"dz": through(dy)}
        slope = Program(result, {"y": y})
        keeps_y = "b" not in slope.reads
        slope = slope if keeps_y else Program(result)
    return Normal(
        Program({"y": y}),
        slope,
        Program({"dx": dz * u + (x * v + w)}, None, ("dz",)),
        Program({"dx": dz * u}, None, ("dz",)),
        keeps_y,
    )


class Geometry(NamedTuple):
    """How a norm sees an array: as images of pixels of channels, or in planes of one channel each."""

    images: int
    pixels: int
    channels: int
    groups: int
    """Of each image's channels; 0 where the whole batch is normalised."""
    last: bool
    """Whether the channels of a pixel are neighbours."""

    @property
    def planes(self) -> tuple[int, int, int, int]:
        """For Program.run: planes, cells of each, channels that have numbers of their own, and how they lie."""
        own = self.groups > 0
        if self.last:
            return self.images, self.pixels * self.channels, self.channels, OWN_NEIGHBOURS if own else NEIGHBOURS
        count = self.images * self.channels
        return count, self.pixels, count if own else self.channels, PLANES


@lru_cache(maxsize=512)
def geometry(shape: Shape, last: bool, groups: int) -> Geometry:
    """Without axes for places, samples are pixels, or images of one pixel where each has its own statistics."""
    if len(shape) == 2:
        return Geometry(shape[0], 1, shape[1], groups, True) if groups else Geometry(1, *shape, groups, True)
    return Geometry(shape[0], prod(shape[2:]), shape[1], groups, last)


@dataclass(frozen=True)
class Normalised:
    """Y = f(scale X_hat + bias), f being the activations behind the norm."""

    backend: Host
    named: Named
    kept: Kept = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "kept", Kept(tuple(layer for _, layer in self.named[1:]), normal))

    @property
    def norm(self) -> Any:
        """The norm itself."""
        return self.named[0][1]

    def fits(self, weights: Weights, x: Array) -> bool:
        mine = weights[self.named[0][0]]
        return (
            holds(x)
            and 2 <= x.ndim <= 4
            and x.size > 0
            and all(type(w) is np.ndarray and w.dtype == x.dtype for w in mine.values())
            and x.shape[1:2] == mine["scale"].shape
            and self.kept.of(x.dtype) is not None
        )

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, FusedBackward]:
        y, backward = self.computed(weights, x, run, self.kept.of(x.dtype))
        return y, lambda dy, grads: backward(dy, grads)[0]

    def computed(
        self, weights: Weights, x: Array, run: Run, programs: Normal, beside: Array | None = None
    ) -> tuple[Array, Callable[[Array, Weights], tuple[Array, Array]]]:
        """Y by these programs, with an array added before their activations; and what gives dx and that array's dz."""
        name, norm, threads = self.named[0][0], self.norm, self.backend.workers
        mine, dtype, (x, last) = weights[name], x.dtype, lying(x)
        seen = geometry(x.shape, last, getattr(norm, "groups", 0))
        sizes, of_batch = (seen.images, seen.channels, seen.groups), type(norm) is BatchNorm
        scale, bias = (constant(partial(np.ascontiguousarray, mine[key])) for key in ("scale", "bias"))
        train = run.train or not of_batch
        shared, count = run.share is not None and train and of_batch, run.batch_size(x.shape[0]) * prod(x.shape[2:])
        inverses: Any
        if train:
            statistics = empty((3, seen.images * seen.groups or seen.channels), np.float64)
            means, variances, inverses = rows(statistics)
            call("moments", dtype, x, seen.images, seen.pixels, *sizes[1:], seen.last, means, variances, threads)
            if shared:
                aside(whole_statistics, run, (statistics,), x.size // seen.channels)
        else:
            running = mine["running_mean"], mine["running_variance"]
            statistics = constant(lambda: np.stack(running).astype(np.float64))
            (means, variances), inverses = rows(statistics), empty(statistics.shape[1:], np.float64)
        lines = empty((3, seen.channels * (seen.images if seen.groups else 1)), dtype)
        m, a, b = rows(lines)
        call("normal", dtype, *sizes, norm.epsilon, means, variances, scale, bias, inverses, m, a, b)
        y = new(x.shape, dtype, last)
        r = None if beside is None else as_lying(beside, last, threads)
        programs.forward.run({"x": x, "y": y, "a": a, "b": b, "r": r}, threads, *seen.planes)
        following = self.following(mine, run.train, count, *statistics[:2]) if of_batch else {}
        kept = (y if programs.keeps_y else None, statistics, inverses, lines, None if programs.keeps_y else r)

        def backward(dy: Array, grads: Weights) -> tuple[Array, Array]:
            dy, dx = as_lying(dy, last), new(x.shape, dtype, last)
            sums, dz = empty((seen.images, seen.channels, 2), np.float64), dy
            slope: tuple[Any, Any] = (None, None)
            if programs.slope:  # dz takes the place of dx, unless it is wanted beside that
                dz = dx if beside is None else new(x.shape, dtype, last)
                arrays = {"x": x, "y": kept[0], "dy": dy, "dz": dz, "a": a, "b": b, "r": kept[-1]}
                slope = programs.slope.at, programs.slope.addresses(arrays)
            call("sums", dtype, *slope, x, dz, m, *seen[:3], seen.last, seen.groups > 0, sums, threads)
            back = empty((3 if seen.groups else 5, lines.shape[1]), dtype)
            gradients = empty((2, seen.channels), dtype) if seen.groups else back[3:]
            u, v, w = rows(back)[:3]
            call("normal_slopes", dtype, *seen[:4], sums, means, inverses, m, scale, u, v, w, *rows(gradients))
            grads[name] = {"scale": gradients[0], "bias": gradients[1], **following}
            if shared:
                aside(whole_slopes, run, (back, statistics), count)
            program = programs.backward if train else programs.fixed_backward
            program.run({"x": x, "dz": dz, "u": u, "v": v, "w": w, "dx": dx}, threads, *seen.planes)
            return dx, dz

        return y, backward

    def following(self, mine: Weights, train: bool, count: int, means: Array, variances: Array) -> Weights:
        """The running statistics after a batch of so many cells a channel, as BatchNorm.moved has them."""
        if not train or count < 2:
            return unmoved(mine)
        running = [mine[name] for name in RUNNING if name in mine]
        made = [empty(old.shape, old.dtype) for old in running]
        old, new = ([*map(np.ascontiguousarray, arrays), None][:3] for arrays in (running, made))
        share = count / (count - 1), 1 - self.norm.momentum, EARLY, SETTLED
        call("moved", mine["scale"].dtype, len(means), *share, means, variances, *old, *new)
        return {name: Next(value) for name, value in zip(RUNNING, made, strict=False)}


def fuse(backend: Host, layers: Named, n: int) -> tuple[int, Normalised] | None:
    """BatchNorm or GroupNorm, and the activations behind it."""
    if type(layers[n][1]) not in (BatchNorm, GroupNorm):
        return None
    named = (layers[n], *chain(layers, n + 1))
    return len(named), Normalised(backend, named)
