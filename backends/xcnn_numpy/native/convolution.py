"""Convolution, bias and any activations in one pass; and its gradients: one pass of dY, then the two adjoints."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from xcnn_host.buffers import empty
from xcnn_native.library import call
from xcnn_native.program import NEIGHBOURS, PLANES, Program
from xcnn_native.recording import constant

from xcnn.core.types import Array, Shape, Weights
from xcnn.core.windows import within
from xcnn.errors import ShapeError
from xcnn.layers import Conv1D, Conv2D, Conv2DTranspose, DepthwiseConv2D
from xcnn.layers.layer import Layer, Run
from xcnn_numpy.native.algorithm import Native
from xcnn_numpy.native.copy import copy, zeros
from xcnn_numpy.native.ending import Ending, ending, following
from xcnn_numpy.native.maps import (
    SPREAD,
    KeptKernel,
    Way,
    array_strides,
    image_strides,
    images,
    packed_for,
    plain,
    table,
    way,
)

if TYPE_CHECKING:
    from xcnn_strided.fusion import FusedBackward, Named

    from xcnn_numpy.host import Host


class Plan:
    """What arrays of one shape, order of memory and type need, computed once.

    Parameters
    ----------
    way
        how the images of the correlation meet the kernel
    turned
        whether the layer goes the other way: its input is the correlation's result, as that of Conv2DTranspose
    """

    def __init__(self, way: Way, turned: bool, x: Array, k: Array, end: Ending, threads: int) -> None:
        self.way, self.turned, self.end, self.dtype, self.threads = way, turned, end, x.dtype, threads
        self.y_shape: Shape = way.x_shape if turned else way.y_shape
        self.dx_shape: Shape = way.y_shape if turned else way.x_shape
        self.last, self.dx_last = (way.x_last, way.y_last) if turned else (way.y_last, way.x_last)
        self.y, self.k = image_strides(self.y_shape, x.itemsize, self.last), k.strides
        wide, narrow = (self.y, x.strides) if turned else (x.strides, self.y)
        how = x.dtype.char, threads
        self.how = "adjoint" if turned else "forward", (way, wide, k.strides, narrow, *how)
        self.forward = table(self.how[0], *self.how[1])
        self.gradient = table("gradient", way, wide, array_strides(k.shape, k.itemsize), narrow, *how)
        dx = image_strides(self.dx_shape, x.itemsize, self.dx_last)
        wide, narrow = (self.y, dx) if turned else (dx, self.y)
        self.input = table("forward" if turned else "adjoint", way, wide, k.strides, narrow, *how)
        self.neighbours = self.y[1] == x.itemsize
        """Whether channels are neighbours in Y's memory."""
        columns = self.y[3] == x.itemsize
        phased = turned and way.stride != (1, 1) and not self.neighbours
        ends = SPREAD not in {one.kind for one in self.forward.maps}
        self.inline = ends and (self.neighbours or (columns and not phased)) and self.covers(turned)
        """Whether the ending runs on what units have just written, not in a pass of its own."""

    @cached_property
    def kept(self) -> KeptKernel:
        """The same for a kernel that stays as it is."""
        return KeptKernel(table(f"kept {self.how[0]}", *self.how[1]))

    def covers(self, adjoint: bool) -> bool:
        """Whether a map writes all cells of its result."""
        return self.way.covers or not adjoint

    def finish(self, program: Program | None, arrays: dict[str, Array]) -> None:
        """The ending, in a pass of its own."""
        n, o, rows, columns = self.y_shape
        planes, cells = (1, n * o * rows * columns) if self.neighbours else (n * o, rows * columns)
        if program:
            program.run(arrays, self.threads, planes, cells, o, NEIGHBOURS if self.neighbours else PLANES)

    def sums(self, dz: Array) -> Array:
        """The sums of dY for each filter."""
        n, o, rows, columns = self.y_shape
        if self.neighbours:
            return added(dz, n * rows * columns, o, self.threads)
        sums = empty((o,), dz.dtype)
        call("add_planes", dz.dtype, n, o, rows * columns, dz, sums, self.threads)
        return sums


def added(x: Array, rows: int, cells: int, threads: int) -> Array:
    """The sums of the columns of a matrix that fills x's memory."""
    sums = empty((cells,), x.dtype)
    call("add_rows", x.dtype, rows, cells, x, sums, threads)
    return sums


@dataclass(frozen=True)
class Convolution:
    """Y = f(B + X * K), as far as there are a bias and activations f."""

    backend: Host
    name: str
    layer: Layer
    activations: tuple[Layer, ...]
    known: dict[Any, Plan | None] = field(default_factory=dict, repr=False, compare=False)

    def fits(self, weights: Weights, x: Array) -> bool:
        return type(x) is np.ndarray and self.plan(weights[self.name], x) is not None

    def plan(self, mine: Weights, x: Array) -> Plan | None:
        """The plan for these arrays; None where the layers are to be called one by one."""
        kernel = mine["kernel"]
        key = x.shape, x.strides, x.dtype, kernel.shape, kernel.strides, kernel.dtype, x.flags.aligned
        if key not in self.known:
            if len(self.known) >= MOST_KNOWN:
                self.known.clear()
            self.known[key] = self.made(mine, *flattened(x, kernel))
        return self.known[key]

    def output(self, weights: Weights, x: Array) -> Shape:
        """The shape of Y for one sample."""
        plan = self.plan(weights[self.name], x)
        assert plan is not None
        return plan.y_shape[1:] if x.ndim == 4 else (plan.y_shape[1], plan.y_shape[3])

    def made(self, mine: Weights, x: Array, kernel: Array) -> Plan | None:
        """A new plan, if all fits."""
        bias = self.layer.bias  # type: ignore[attr-defined]
        if not (x.ndim == 4 and kernel.ndim == 4 and x.dtype == kernel.dtype and x.dtype.char in "fd"):
            return None
        turned = isinstance(self.layer, Conv2DTranspose)
        conv = convolution(self.layer, kernel.shape[0])
        if x.shape[1] != kernel.shape[0 if turned else 1] * (1 if turned else conv.groups):
            return None
        try:
            how = conv.window(x.shape[2:])
            if turned:
                shape = (x.shape[0], kernel.shape[1] * conv.groups, *self.layer.output_size(x.shape[2:]))  # type: ignore[attr-defined]
                how["stride"] = within(how["stride"], shape[2:], how["padding"])
        except ShapeError:
            return None
        found = way(shape if turned else x.shape, kernel.shape, **how, groups=conv.groups)
        if found.nothing or min(found.output) < 1 or (turned and found.y_shape != x.shape):
            return None
        chosen = self.backend.chosen(found.x_shape, kernel.shape, **how, groups=conv.groups)
        if not isinstance(chosen, Native):
            return None
        x, kernel = plain(x), plain(kernel)
        plan = Plan(found, turned, x, kernel, self.ending(x.dtype.char), chosen.threads)
        if bias == "untied" and (not plan.inline or mine["bias"].size != np.prod(plan.y_shape[1:])):
            return None
        return plan

    def ending(self, char: str) -> Ending:
        """What follows the sums of products, for a type."""
        return ending(self.activations, self.layer.bias, char)  # type: ignore[attr-defined]

    def numbers(self, weights: Weights, plan: Plan) -> dict[str, Array]:
        """The arrays of the ending that belong to channels, or with an untied bias to places."""
        if (bias := weights[self.name].get("bias")) is None:
            return {}
        places = bias.ndim > 1 and plan.neighbours
        if places:
            bias = bias.reshape(plan.y_shape[1:]).transpose(1, 2, 0)
        return {"b": constant(partial(np.ascontiguousarray, bias))}

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, FusedBackward]:
        return self.computed(weights, x, run)

    def computed(
        self, weights: Weights, x: Array, run: Run, beside: Array | None = None
    ) -> tuple[Array, FusedBackward]:
        """Y, with what the ending adds before the activations, in predictions."""
        mine = weights[self.name]
        plan = self.plan(mine, x)
        assert plan is not None
        y_flat = x.ndim == 3
        x_shape, kernel_shape = x.shape, mine["kernel"].shape
        x, kernel = flattened(x, mine["kernel"])
        x, kernel, end = plain(x), plain(kernel), plan.end
        y = images(plan.y_shape, x.dtype, plan.last)
        program = end.forward if run.wants_backward else end.alone
        kept = images(plan.y_shape, x.dtype, plan.last) if end.keeps == "s" and program is end.forward else y
        arrays, bias = {"z": y, "y": y, "s": kept, **self.numbers(weights, plan)}, mine.get("bias")
        if beside is not None:
            r = beside[:, :, None] if y_flat else beside
            arrays["r"] = (
                r if r.strides == y.strides else copy(r, images(plan.y_shape, x.dtype, plan.last), plan.threads)
            )
        if not plan.covers(plan.turned):
            zeros(y, plan.threads)
        forward, packed = packed_for(plan, mine["kernel"], kernel, run)
        if plan.inline and program:
            forward(x, packed, y, (program.at, program.addresses(arrays), end.repeated(program)))
        else:
            forward(x, packed, y)
            plan.finish(program, arrays)
        out = y[:, :, 0] if y_flat else y

        def backward(dy: Array, grads: Weights) -> Array:
            dz = plain(dy.reshape(plan.y_shape))
            if dz.strides != plan.y:
                dz = copy(dz, images(plan.y_shape, x.dtype, plan.last), plan.threads)
            if end.backward:
                through = images(plan.y_shape, x.dtype, plan.last)
                end.backward.run({"dy": dz, "dz": through, end.keeps: kept}, plan.threads, 1, dz.size)
                dz = through
            dk = empty(kernel.shape, kernel.dtype)
            grads[self.name] = {"kernel": dk.reshape(kernel_shape)}
            db = None
            if bias is not None and bias.ndim == 1 and not plan.turned:
                db = empty(bias.shape, x.dtype)
            if plan.turned:
                plan.gradient(dz, x, dk, None)
            else:
                plan.gradient(x, dz, dk, db)
            if bias is not None and db is None:
                db = self.of_bias(plan, dz, bias)
            if db is not None:
                grads[self.name]["bias"] = db
            if not run.wants_dx:
                return None
            dx = images(plan.dx_shape, x.dtype, plan.dx_last)
            if not plan.covers(not plan.turned):
                zeros(dx, plan.threads)
            plan.input(dz, plan.input.pack(kernel), dx)
            return dx.reshape(x_shape)

        return out, backward

    def of_bias(self, plan: Plan, dz: Array, bias: Array) -> Array:
        """DB, of an untied bias or of a map that is turned round."""
        if bias.ndim == 1:
            return plan.sums(dz)
        o, rows, columns = plan.y_shape[1:]
        db = added(dz, plan.y_shape[0], o * rows * columns, plan.threads)
        return (db.reshape(rows, columns, o).transpose(2, 0, 1) if plan.neighbours else db).reshape(bias.shape)


MOST_KNOWN = 64
"""Plans that a run of layers keeps."""


def flattened(x: Array, kernel: Array) -> tuple[Array, Array]:
    """Signals and their kernels as images of one row."""
    return (x[:, :, None], kernel[:, :, None]) if x.ndim == 3 and kernel.ndim == 3 else (x, kernel)


def convolution(layer: Any, filters: int) -> Any:
    """The layer that knows windows and groups."""
    if isinstance(layer, Conv1D):
        return layer.conv2d()
    return layer.conv2d(filters // layer.depth_multiplier) if isinstance(layer, DepthwiseConv2D) else layer


def fuse(backend: Host, layers: Named, n: int) -> tuple[int, Convolution] | None:
    """A convolution of any kind, and the activations after it."""
    name, layer = layers[n]
    if type(layer) not in (Conv2D, Conv1D, Conv2DTranspose, DepthwiseConv2D):
        return None
    activations = following(layers, n + 1)
    return 1 + len(activations), Convolution(backend, name, layer, activations)
