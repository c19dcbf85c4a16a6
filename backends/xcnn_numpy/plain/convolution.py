"""Convolution, bias, activation and max-pooling a few images at a time; and all their gradients likewise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from xcnn_host.buffers import empty, growing
from xcnn_strided import Gemm

from xcnn.core.types import Array, Shape, Weights
from xcnn.core.windows import output_size, pair
from xcnn.layers import Conv2D, MaxPool2D, ReLU
from xcnn.layers.layer import Run
from xcnn_numpy.plain import activations, blas
from xcnn_numpy.plain.gemm import BlasGemm
from xcnn_numpy.plain.lowering import WORKSPACE, Lowering, Workspace, lowering
from xcnn_numpy.plain.pooling import pool, unpool

if TYPE_CHECKING:
    from xcnn_strided.fusion import FusedBackward, Named

    from xcnn_numpy.host import Host

T = TypeVar("T")


@dataclass(frozen=True)
class Convolution:
    """Y = pool(f(B + X * K)), as far as there is a bias, an activation f and, after ReLU, a pooling by two."""

    backend: Host
    name: str
    layer: Conv2D
    activation: type | None
    pools: bool
    known: dict[tuple[Shape, Shape], Lowering | None] = field(default_factory=dict)

    def fits(self, weights: Weights, x: Array) -> bool:
        mine = weights[self.name]
        kernel = mine["kernel"]
        if not (
            type(x) is np.ndarray
            and x.ndim == 4
            and x.dtype == kernel.dtype
            and x.dtype.char in "fd"
            and x.shape[1] == kernel.shape[1] * self.layer.groups
        ):
            return False
        way = self.way(x.shape, kernel.shape)
        return way is not None and (self.layer.bias != "untied" or mine["bias"].shape == (kernel.shape[0], *way.output))

    def way(self, x_shape: Shape, k_shape: Shape) -> Lowering | None:
        """How images of this shape are lowered; None where another algorithm is better."""
        key = x_shape[1:], k_shape
        if key not in self.known:
            how = {**self.layer.window(x_shape[2:]), "groups": self.layer.groups}
            (rows, columns), (h, w) = x_shape[2:], k_shape[2:]
            sizes = output_size((rows, columns), (h, w), how["stride"], how["padding"], how["dilation"])
            possible = min(sizes) >= (2 if self.pools else 1)
            gemm = possible and isinstance(self.backend.chosen(x_shape, k_shape, **how), Gemm)
            self.known[key] = lowering(x_shape[1:], k_shape, **how) if gemm else None
        return self.known[key]

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, FusedBackward]:
        mine = weights[self.name]
        kernel, shared = mine["kernel"], self.layer.bias is True
        way = self.way(x.shape, kernel.shape)
        assert way is not None
        x = np.ascontiguousarray(x)
        (n, o), sizes = (len(x), len(kernel)), way.output
        products, threads = n * way.work, self.backend.workers
        matrix = self.matrix(way, mine)
        y = empty((n, o, *(size // 2 for size in sizes)) if self.pools else (n, o, *sizes), x.dtype)
        which = empty(y.shape if self.pools and run.wants_backward else (0,), np.uint8)

        def forward(first: int, last: int) -> Workspace | None:
            room, some = None, way.at_once(last - first)
            for a in range(first, last, some):
                b = min(a + some, last)
                if room is None or room.n != b - a:
                    room = Workspace(way, b - a, x.dtype, shared)
                room.take(x[a:b])
                for seen, product in room.laid_out():
                    for g in range(way.groups):
                        blas.product(matrix[g], seen[g], product[g])
                cells = way.cells(room.output)
                if self.layer.bias == "untied":
                    cells += mine["bias"]
                activations.apply(self.activation, room.output)
                if self.pools:
                    pool(cells, y[a:b], which[a:b] if run.wants_backward else None)
                else:
                    np.copyto(y[a:b], cells)
            return room  # alive until all threads are done: that they hold as much does not depend on which is first

        blas.share(by_workspaces(way, forward), n, products, threads)
        kept = None if self.pools or self.activation is None else y

        def before(dy: Array) -> Array:
            """The gradient at the sums."""
            slope = np.zeros((n, o, *sizes), x.dtype)
            if self.pools:
                unpool(dy, which, slope)
            else:
                activations.slope(self.activation, dy, kept, slope)
            return slope

        def backward(dy: Array, grads: Weights) -> Array:
            dx = empty(x.shape, x.dtype) if run.wants_dx else None
            # (groups, h w C / groups, O / groups): a kernel cell after the other, so that its products lie together
            adjoint = kernel.reshape(way.groups, -1, *kernel.shape[1:]).transpose(0, 3, 4, 2, 1)
            adjoint = np.ascontiguousarray(adjoint).reshape(way.groups, way.taps, -1)

            def part(first: int, last: int) -> tuple[Array, Array | None, Workspace | None]:
                dk = np.zeros((way.groups, matrix.shape[2], matrix.shape[1]))  # sums over many images are doubles
                more, room, some = np.empty(dk.shape, x.dtype), None, way.at_once(last - first)
                db = np.zeros(mine["bias"].shape) if self.layer.bias == "untied" else None
                for a in range(first, last, some):
                    b = min(a + some, last)
                    if room is None or room.n != b - a:
                        room = Workspace(way, b - a, x.dtype, shared)
                    cells = way.cells(room.output)
                    if self.pools:
                        unpool(dy[a:b], which[a:b], cells)
                    else:
                        activations.slope(self.activation, dy[a:b], None if kept is None else kept[a:b], cells)
                    if db is not None:
                        db += cells.sum(axis=0, dtype=np.float64)
                    room.take(x[a:b])
                    for seen, gradient in room.laid_out():
                        for g in range(way.groups):
                            blas.product(seen[g], gradient[g].T, more[g])
                        dk += more
                    if dx is not None:
                        room.input_gradient(adjoint, dx[a:b])
                return dk, db, room  # as in `forward`

            parts = blas.share(by_workspaces(way, part), n, 3 * products, threads)
            dk, db, _ = parts[0]
            for more_dk, more_db, _ in parts[1:]:
                dk += more_dk
                if db is not None:
                    db += more_db
            dk = dk.astype(x.dtype)
            grads[self.name] = {"kernel": dk[:, : way.taps].swapaxes(1, 2).reshape(kernel.shape)}
            if shared:
                grads[self.name]["bias"] = dk[:, way.taps].reshape(-1)
            elif db is not None:
                grads[self.name]["bias"] = db.astype(x.dtype)
            if not np.isfinite(dk).all():
                grads[self.name]["kernel"] = self.by_windows(x, kernel.shape, before(dy))
            return dx

        return y, backward

    def by_windows(self, x: Array, k_shape: Shape, dy: Array) -> Array:
        """DK from the windows alone.

        In the matrix lie cells between two rows of windows too, and meet zeros: one that is not finite makes NaN also
        of taps that it never meets.
        """
        how = {**self.layer.window(x.shape[2:]), "groups": self.layer.groups}
        return BlasGemm(WORKSPACE).correlate_kernel_adjoint(x, dy, k_shape, **how)

    def matrix(self, way: Lowering, mine: Weights) -> Array:
        """The kernels (groups, O / groups, taps), a bias that windows share being one more tap."""
        kernel = mine["kernel"].reshape(way.groups, -1, way.taps)
        if self.layer.bias is not True:
            return np.ascontiguousarray(kernel)
        return np.concatenate([kernel, mine["bias"].reshape(way.groups, -1, 1)], axis=2)


def by_workspaces(way: Lowering, work: Callable[[int, int], T]) -> Callable[[int, int], T]:
    """The work on some images, whose arrays are of those images that are treated together."""

    def done(first: int, last: int) -> T:
        images = last - first

        def growth(times: float) -> float:
            return way.at_once(round(images * times)) / way.at_once(images)

        with growing(growth):
            return work(first, last)

    return done


def fuse(backend: Host, layers: Named, n: int) -> tuple[int, Convolution] | None:
    """Conv2D, and the activation after it; and after ReLU MaxPool2D(2)."""
    name, conv = layers[n]
    if type(conv) is not Conv2D:
        return None
    following = [type(layer) for _, layer in layers[n + 1 : n + 2]]
    activation = following[0] if following and following[0] in activations.FUSED else None
    pools = activation is ReLU and len(layers) > n + 2 and pools_by_two(layers[n + 2][1])
    return 1 + (activation is not None) + pools, Convolution(backend, name, conv, activation, pools)


def pools_by_two(layer: object) -> bool:
    """Whether a layer is max-pooling by windows of two by two, side by side, without padding."""
    if type(layer) is not MaxPool2D or pair("pool_size", layer.pool_size) != (2, 2):
        return False
    return layer.window((2, 2)) == {"stride": (2, 2), "padding": ((0, 0), (0, 0))} and layer.padding != "same"
