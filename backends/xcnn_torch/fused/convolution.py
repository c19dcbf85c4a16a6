"""Convolution, bias, activation and max-pooling, on the CPU a few images at a time, which stay in cache meanwhile.

ReLU does not change the order of cells: it follows the pooling, where there are fewer of them.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import pad

from xcnn.core.types import Array, Pair, Shape, Weights
from xcnn.core.windows import pair
from xcnn.layers import Conv2D, DepthwiseConv2D, MaxPool2D, ReLU
from xcnn.layers.layer import Layer, Run
from xcnn.training.precision import within
from xcnn_torch.convolution import Window, for_sums, gradients
from xcnn_torch.fused.common import (
    IN_PLACE,
    INTO,
    activation_after,
    aten,
    computes_in,
    followed_by,
    gives,
    holds,
    slope,
)
from xcnn_torch.memory import HALVES, arranged, empty, prefers_channels_last, typed
from xcnn_torch.pooling import MaxPool, of_first_nan

if TYPE_CHECKING:
    from xcnn_strided.fusion import FusedBackward, Named

    from xcnn_torch.host import Host

AT_ONCE = 5 * 2**19
"""Bytes of its output that a convolution makes at a time on the CPU. The next pass finds them in cache, and they lie in
memory that was just freed, where a large output would take fresh pages."""

LANES = 8
"""Channels that PyTorch's pooling takes at once, where they lie last."""
FEW = (5, 6, 7)
"""Filters for which it pays to make so many."""
ALL = slice(None)


def cut(x: Array, part: slice) -> Array:
    """Some of the images; all are no view."""
    return x if part is ALL else x[part]


@dataclass(frozen=True)
class Way:
    """What follows from the shapes: the convolution's window, height and width of its output, and the pooling."""

    window: Window
    sizes: Pair
    pool: MaxPool | None


@dataclass(frozen=True)
class Convolution:
    """Y = pool(f(B + X * K)), as far as there are a bias, an activation f and a max-pooling after none or ReLU."""

    backend: Host
    name: str
    outer: Layer
    """The Conv2D or DepthwiseConv2D, or a Cast around it."""
    activation: type | None
    pooling: MaxPool2D | None
    end: Layer
    """The last layer of the run."""
    known: dict[tuple[Shape, Shape], Way | None] = field(default_factory=dict, compare=False, repr=False)

    @property
    def layer(self) -> Conv2D | DepthwiseConv2D:
        """The layer itself."""
        return within(self.outer)  # type: ignore[return-value]

    def fits(self, weights: Weights, x: Array) -> bool:
        mine = weights[self.name]
        if not holds(self.outer, x, mine) or x.ndim != 4:
            return False
        way = self.way(x.shape, mine["kernel"].shape)
        return way is not None and (self.layer.bias != "untied" or mine["bias"].shape[1:] == way.sizes)

    def way(self, x_shape: Shape, k_shape: Shape) -> Way | None:
        """How images of this shape go through; None where they do not fit, or PyTorch can't place the pooling."""
        key = x_shape[1:], k_shape
        if key not in self.known:
            self.known[key] = self.planned(x_shape, k_shape)
        return self.known[key]

    def planned(self, x_shape: Shape, k_shape: Shape) -> Way | None:
        """The same, computed anew."""
        layer, pool = self.layer, None
        if isinstance(layer, DepthwiseConv2D):
            layer = layer.conv2d(k_shape[0] // layer.depth_multiplier)
        window = Window.of(**layer.window(x_shape[2:]), groups=layer.groups)
        sizes = window.output(window.padded_shape(x_shape), k_shape)
        if x_shape[1] != k_shape[1] * layer.groups or min(sizes) < 1:
            return None
        if self.pooling is not None:
            pool = MaxPool.of(pair("pool_size", self.pooling.pool_size), **self.pooling.window(sizes))
            if pool is None or min(pool.output(sizes)) < 1:
                return None
        return Way(window, sizes, pool)

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, FusedBackward]:
        mine, bias, x_type = weights[self.name], self.layer.bias, x.dtype
        dtype, way = computes_in(self.outer, mine["kernel"].dtype), self.way(x.shape, mine["kernel"].shape)
        assert way is not None
        work = Work(
            typed(x, dtype),
            typed(mine["kernel"], dtype),
            typed(mine["bias"], dtype) if bias else None,
            way,
            # an untied bias lies as it is indexed: beside channels last it would be read across
            bias != "untied" and prefers_channels_last(x.device, dtype, self.backend.tf32),
        )
        y, before = work.pooled(self.activation, way.pool) if way.pool else work.activated(self.activation)

        def backward(dy: Array, grads: Weights) -> Array | None:
            dx, *of_weights = work.backward(before(arranged(typed(dy, dtype), work.last)), run.wants_dx)
            named = zip(("kernel", "bias"), of_weights, strict=False)
            grads[self.name] = {name: typed(g, mine[name].dtype) for name, g in named}
            return None if dx is None else typed(dx, x_type)

        return typed(y, gives(self.end, dtype)), backward


Before = Callable[[Array], Callable[[slice], Array]]
"""From dY to the gradient before pooling and activation, for some of the images."""


class Work:
    """A convolution of certain images, part by part.

    Parameters
    ----------
    x, kernel, bias
        of the type that is computed in; the bias is one number a filter, or one for each output element
    last
        whether channels are to lie last in memory
    """

    def __init__(self, x: Array, kernel: Array, bias: Array | None, way: Way, last: bool) -> None:
        self.window, self.sizes, self.last = way.window, way.sizes, last
        self.x = arranged(way.window.padded(x), last)
        # kernels of one channel count as lying both ways; `to` makes them say that they have their channels last
        self.kernel = kernel.to(memory_format=torch.channels_last) if last else kernel.contiguous()
        self.shared = bias if bias is not None and bias.ndim == 1 else None
        self.untied = bias if self.shared is None else None
        self.y_shape = len(x), len(kernel), *self.sizes

    def parts(self) -> list[slice]:
        """The images that are computed together: on the CPU a few, else all."""
        count = some = len(self.x)
        if self.x.is_cpu:
            some = max(1, AT_ONCE // (prod(self.y_shape[1:]) * self.x.element_size()))
        return [ALL] if some >= count else [slice(first, first + some) for first in range(0, count, some)]

    def widened(self) -> Work:
        """The same with filters of zeros beside a few: PyTorch pools eight channels at once, or fewer one by one."""
        filters, channels = self.kernel.shape[:2]
        fits = self.last and self.x.is_cpu and self.x.dtype == torch.float32 and self.window.groups == 1
        if not (fits and filters in FEW and channels <= LANES):
            return self
        spare = LANES - filters
        wide = copy(self)
        wide.kernel = arranged(pad(self.kernel, (0, 0, 0, 0, 0, 0, 0, spare)), self.last)
        wide.shared = None if self.shared is None else pad(self.shared, (0, spare))
        wide.y_shape = len(self.x), LANES, *self.sizes
        return wide

    def made(self, part: slice) -> Array:
        """B + X * K, a new tensor."""
        z = aten.convolution(cut(self.x, part), self.kernel, self.shared, *self.window.arguments)
        return z if self.untied is None else z.add_(self.untied)

    def activated(self, activation: type | None) -> tuple[Array, Before]:
        """Y = f(B + X * K)."""
        self.done = self.parts() if activation else [ALL]  # without one, parts would only be copied
        if activation is None or len(self.done) == 1:
            y = IN_PLACE[activation](self.made(self.done[0]))
        else:
            y = empty(self.x, self.y_shape, self.last)
            for part in self.done:
                INTO[activation](self.made(part), out=y[part])
        return y, lambda dy: lambda part: slope(activation, cut(dy, part), cut(y, part))

    def pooled(self, activation: type | None, pool: MaxPool) -> tuple[Array, Before]:
        """Y = f(pool(B + X * K)), f being ReLU or nothing."""
        self.done, wide = self.parts(), self.widened()
        if len(self.done) == 1:
            y, places = pool(IN_PLACE[activation](wide.made(self.done[0])))
        else:
            shape = *wide.y_shape[:2], *pool.output(self.sizes)
            y, places = (empty(self.x, shape, self.last, dtype) for dtype in (self.x.dtype, torch.int64))
            for part in self.done:
                pool.into(IN_PLACE[activation](wide.made(part)), y[part], places[part])
        if wide is not self:
            y, places = (arranged(both[:, : len(self.kernel)], self.last) for both in (y, places))

        def before(dy: Array) -> Callable[[slice], Array]:
            dy = slope(activation, dy, y)
            how = self.kernel, self.shared, *self.window.arguments
            where = of_first_nan(places, y, self.x, pool.size, pool.stride, pool.padding, how, self.untied)

            def of_part(part: slice) -> Array:
                some = cut(dy, part)
                dx = empty(self.x, (len(some), *self.y_shape[1:]), self.last)
                return pool.backward(some, dx, cut(where, part))

            return of_part

        return y, before

    def backward(self, before: Callable[[slice], Array], wants_dx: bool) -> tuple[Any, ...]:
        """DX, dK, and dB where there is a bias, from the gradients before the activation."""
        wanted = wants_dx, True, self.shared is not None
        whole = empty(self.x, self.x.shape, self.last) if wants_dx and len(self.done) > 1 else None
        kernel, sums_in = for_sums(self.kernel), torch.float32 if self.x.dtype in HALVES else self.x.dtype
        sums: list[Array] = []
        for part in self.done:
            dz = before(part)
            dx, dk, db = gradients(for_sums(dz), for_sums(cut(self.x, part)), kernel, self.window, wanted)
            if self.untied is not None:
                db = dz.sum(0, dtype=sums_in)
            more = [typed(g, sums_in) for g in ((dk,) if db is None else (dk, db))]
            sums = [total.add_(one) for total, one in zip(sums, more, strict=True)] if sums else more
            if whole is not None:
                whole[part] = dx
                dx = whole
        return self.window.cropped(dx) if wants_dx else None, *sums


def fuse(backend: Host, layers: Named, n: int) -> tuple[int, Convolution] | None:
    """Conv2D or its depthwise kind, and the activation after it; after ReLU, or alone, and MaxPool2D."""
    name, outer = layers[n]
    if type(within(outer)) not in (Conv2D, DepthwiseConv2D):
        return None
    activation = activation_after(layers, n)
    length = 1 + (activation is not None)
    pooling = followed_by(layers, n + length - 1, MaxPool2D) if activation in (None, ReLU) else None
    length += pooling is not None
    inner = within(pooling) if pooling else None
    return length, Convolution(backend, name, outer, activation, inner, layers[n + length - 1][1])  # type: ignore[arg-type]
