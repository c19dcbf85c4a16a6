"""A fully connected layer and any activations after it in one pass; and its gradients."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from xcnn_host.buffers import empty
from xcnn_native.library import call
from xcnn_native.recording import constant

from xcnn.core.reference import NO_PADDING
from xcnn.core.types import Array, Shape, Weights
from xcnn.layers import Dense
from xcnn.layers.layer import Layer, Run
from xcnn_numpy.native.ending import Ending, ending, following
from xcnn_numpy.native.maps import LEAST, KeptKernel, packed_for, plain, table, way

if TYPE_CHECKING:
    from xcnn_strided.fusion import FusedBackward, Named

    from xcnn_numpy.host import Host


FEW = 4
"""Samples for which W is read as it lies: packing it would take longer than dX."""


class Plan:
    """Tables for samples as images of one pixel."""

    def __init__(self, x: Array, kernel: Array, end: Ending, threads: int) -> None:
        (n, features), units, size = x.shape, kernel.shape[1], x.itemsize
        found = way((n, features, 1, 1), (units, features, 1, 1), (1, 1), NO_PADDING, (1, 1), 1)
        self.end, self.threads = end, threads if found.work >= LEAST else 1

        def apart(strides: Shape) -> Shape:
            return (*strides, size, size)

        k, y = apart(kernel.strides[::-1]), apart((units * size, size))
        dx = apart((features * size, size))
        how = x.dtype.char, threads
        self.how = found, apart(x.strides), k, y, *how
        self.forward = table("forward", *self.how)
        self.gradient = table("gradient", found, apart(x.strides), apart((size, units * size)), y, *how)
        self.input = table("adjoint", found, dx, k, y, *how)

    @cached_property
    def kept(self) -> KeptKernel:
        """The forward table for a kernel that stays as it is."""
        return KeptKernel(table("kept forward", *self.how))


@dataclass(frozen=True)
class FusedDense:
    """Y = f(X W + B)."""

    backend: Host
    name: str
    layer: Dense
    activations: tuple[Layer, ...]
    known: dict[Any, Plan] = field(default_factory=dict, repr=False, compare=False)

    def fits(self, weights: Weights, x: Array) -> bool:
        kernel = weights[self.name]["kernel"]
        return (
            type(x) is np.ndarray
            and x.ndim == 2
            and x.dtype == kernel.dtype
            and x.dtype.char in "fd"
            and x.shape[1] == kernel.shape[0]
            and x.size > 0
        )

    def plan(self, x: Array, kernel: Array) -> Plan:
        """The plan for these arrays."""
        key = x.shape, x.strides, x.dtype.char, kernel.strides
        if key not in self.known:
            if len(self.known) >= 64:
                self.known.clear()
            end = ending(self.activations, self.layer.bias, x.dtype.char)
            self.known[key] = Plan(x, kernel, end, self.backend.workers)
        return self.known[key]

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, FusedBackward]:
        mine = weights[self.name]
        x, kernel = plain(x), plain(mine["kernel"])
        plan = self.plan(x, kernel)
        end, y = plan.end, empty((len(x), kernel.shape[1]), x.dtype)
        program = end.forward if run.wants_backward else end.alone
        kept = empty(y.shape, x.dtype) if end.keeps == "s" and program is end.forward else y
        forward, packed = packed_for(plan, mine["kernel"], kernel, run)
        if program:
            arrays = {"z": y, "y": y, "s": kept}
            if self.layer.bias:
                arrays["b"] = constant(partial(np.ascontiguousarray, mine["bias"]))
            forward(x, packed, y, (program.at, program.addresses(arrays), -1))
        else:
            forward(x, packed, y)
        y_shape = y.shape

        def backward(dy: Array, grads: Weights) -> Array:
            dz = np.ascontiguousarray(plain(dy))
            if end.backward:
                through = empty(y_shape, x.dtype)
                end.backward.run({"dy": dz, "dz": through, end.keeps: kept}, plan.threads, 1, dz.size)
                dz = through
            dw = empty(kernel.shape, x.dtype)
            grads[self.name] = {"kernel": dw}
            db = None
            if self.layer.bias:
                grads[self.name]["bias"] = db = empty(y_shape[1:], x.dtype)
            plan.gradient(x, dz, dw, db)
            if not run.wants_dx:
                return None
            dx = empty(x.shape, x.dtype)
            if len(x) <= FEW and kernel.flags.c_contiguous:
                call("times_rows", x.dtype, *kernel.shape, len(x), kernel, dz, dx, plan.threads)
            else:
                plan.input(dz, plan.input.pack(kernel), dx)
            return dx

        return y, backward


def fuse(backend: Host, layers: Named, n: int) -> tuple[int, FusedDense] | None:
    """Dense, and the activations after it."""
    name, layer = layers[n]
    if type(layer) is not Dense:
        return None
    activations = following(layers, n + 1)
    return 1 + len(activations), FusedDense(backend, name, layer, activations)
