"""What `xcnn.testing.check_backend` puts a backend to: every layer, and every primitive in several configurations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from xcnn import layers
from xcnn.backends.contract import Backend
from xcnn.checking.gradients import (
    SAME,
    SINGLE,
    SMALL,
    HostArray,
    ReferenceBackend,
    Report,
    check_adjoint,
    check_equal,
    check_small,
)
from xcnn.core.reference import NO_PADDING
from xcnn.core.types import Array, Pair, Shape
from xcnn.core.windows import output_size
from xcnn.layers.layer import Layer

LAYERS: tuple[tuple[Layer, Shape], ...] = (
    (layers.Conv2D(4, 3), (2, 6, 7)),
    (layers.Conv2D(4, (2, 3), stride=(2, 1), padding="same", dilation=(1, 2), groups=2, bias="untied"), (2, 7, 6)),
    (layers.Conv2DTranspose(4, (3, 2), stride=(2, 3), padding="same", groups=2), (4, 3, 4)),
    (layers.DepthwiseConv2D((2, 3), depth_multiplier=2, stride=2, padding="same"), (2, 5, 6)),
    (layers.Conv1D(4, 3, stride=2, padding=1), (2, 8)),
    (layers.Conv1DTranspose(4, 3, stride=2, padding=1, output_padding=1), (2, 5)),
    (layers.StandardizedConv2D(4, 3, padding="same"), (2, 5, 6)),
    (layers.Dense(5), (4,)),
    (layers.MaxPool2D(3, stride=2, padding="same"), (2, 6, 7)),
    (layers.AveragePool2D(3, stride=2, padding="same"), (2, 6, 7)),
    (layers.MaxPool1D(3, stride=2, ceil_mode=True), (2, 8)),
    (layers.AveragePool1D(3, stride=2, padding=1, count_include_pad=True), (2, 8)),
    (layers.GlobalAveragePool1D(), (3, 5)),
    (layers.GlobalMaxPool1D(), (3, 5)),
    (layers.AdaptiveAveragePool2D((3, 2)), (3, 4, 5)),
    (layers.GlobalAveragePool2D(), (3, 4, 5)),
    (layers.GlobalMaxPool2D(), (3, 4, 5)),
    (layers.UpSampling2D((2, 3), interpolation="bilinear"), (2, 3, 4)),
    (layers.UpSampling1D(3), (2, 4)),
    (layers.Resize((5, 2), interpolation="bilinear"), (2, 3, 4)),
    (layers.PixelShuffle(2), (8, 2, 3)),
    (layers.ZeroPadding1D((2, 0)), (2, 4)),
    (layers.Cropping1D((0, 1)), (2, 4)),
    (layers.Cropping2D(((0, 1), (1, 0))), (2, 3, 4)),
    (layers.Permute((3, 1, 2)), (2, 3, 4)),
    (layers.Slice(1, 4, axis=2, step=2), (2, 5, 3)),
    (layers.ZeroPadding2D(((0, 2), (1, 0))), (2, 3, 4)),
    (layers.Padding1D((1, 2)), (2, 4)),
    (layers.Padding2D(((0, 2), (1, 1)), mode="wrap"), (2, 3, 4)),
    (layers.Flatten(), (2, 3, 4)),
    (layers.Reshape((4, -1, 2)), (2, 3, 4)),
    (layers.BatchNorm(), (3, 4, 5)),
    (layers.LayerNorm(), (2, 3, 4)),
    (layers.GroupNorm(2), (4, 3, 5)),
    (layers.InstanceNorm(), (4, 3, 5)),
    (layers.LocalResponseNorm(3, alpha=0.5), (4, 3, 5)),
    (layers.Dropout(0.4), (3, 4, 5)),
    (layers.SpatialDropout2D(0.5), (4, 3, 2)),
    (layers.StochasticDepth(0.5), (4, 3)),
    (layers.ReLU(), (2, 5, 5)),
    (layers.LeakyReLU(), (3, 4)),
    (layers.ELU(), (3, 4)),
    (layers.GELU(), (3, 4)),
    (layers.SiLU(), (7,)),
    (layers.Sigmoid(), (7,)),
    (layers.Tanh(), (7,)),
    (layers.Softplus(), (7,)),
    (layers.ClippedReLU(), (7,)),
    (layers.SELU(), (7,)),
    (layers.Mish(), (7,)),
    (layers.HardSigmoid(), (7,)),
    (layers.HardSwish(), (7,)),
    (layers.Softsign(), (7,)),
    (layers.PReLU(), (3, 4)),
    (layers.Scale(0.5, bias=True), (3, 4)),
    (layers.Softmax(), (5,)),
    (layers.LogSoftmax(), (5,)),
    (layers.Sequential(layers.Conv2D(3, 3), layers.Tanh(), layers.Flatten(), head=layers.Dense(2)), (1, 6, 6)),
    (layers.Residual(layers.Conv2D(2, 3, padding="same"), layers.Tanh()), (2, 4, 5)),
    (layers.Concatenate(layers.Conv2D(2, 1), layers.Sequential()), (2, 4, 5)),
    (layers.Add(layers.Conv2D(2, 1), layers.Sequential()), (2, 4, 5)),
    (layers.Multiply(layers.Sequential(), layers.GlobalAveragePool2D()), (2, 4, 5)),
    (layers.Graph(hidden=layers.Dense(4), both=(layers.Add(), "hidden", "input")), (4,)),
)

MAPS: tuple[tuple[Shape, Shape, dict[str, Any]], ...] = (
    ((2, 3, 7, 6), (4, 3, 3, 2), {}),
    ((3, 1, 5, 5), (2, 1, 5, 5), {}),
    ((2, 4, 6, 7), (2, 4, 1, 1), {"stride": (2, 3)}),
    ((2, 4, 8, 7), (6, 2, 3, 2), {"stride": (3, 2), "padding": ((1, 2), (0, 3)), "groups": 2}),
    ((1, 2, 4, 5), (4, 1, 2, 3), {"padding": ((4, 0), (1, 5)), "dilation": (3, 2), "groups": 2}),
    ((2, 2, 24, 23), (3, 2, 21, 20), {"padding": ((10, 10), (3, 0))}),
    ((0, 2, 5, 5), (3, 2, 3, 3), {"padding": ((1, 1), (1, 1))}),
)
"""Shapes of x and k, and options of `correlate`."""

POOLS: tuple[tuple[Shape, Pair, dict[str, Any]], ...] = (
    ((2, 3, 6, 8), (2, 2), {"stride": (2, 2)}),
    ((2, 2, 7, 6), (3, 2), {"stride": (2, 1), "padding": ((1, 2), (0, 1))}),
    ((1, 2, 8, 7), (2, 3), {"stride": (3, 4)}),
    ((0, 2, 4, 4), (2, 2), {"stride": (2, 2)}),
)
"""Shape of x, size of the window, and options of the poolings."""

Calls = Callable[[Backend, str], Iterator[Array]]
"""A primitive in every configuration: its results on a backend, in a type."""


def primitives(backend: Backend) -> Iterator[tuple[str, Callable[[], Report]]]:
    """Each primitive's name and its check."""
    for name, calls in CALLS.items():
        yield name, partial(check_primitive, name, calls, backend)


def check_primitive(name: str, calls: Calls, backend: Backend) -> Report:
    """A primitive in float64 and in float32 against the reference in float64, and an adjoint against its map.

    Raises
    ------
    CheckFailed
        with the largest error.
    """
    expected = list(calls(ReferenceBackend(), "float64"))
    errors = {}
    with backend.active():
        for what, dtype, limit in (("agreement", "float64", SAME), ("float32", "float32", SINGLE)):
            got = [backend.to_numpy(y) for y in calls(backend, dtype)]
            errors[what] = max(
                compare(f"{name} in {dtype}", a, b, dtype, limit) for a, b in zip(got, expected, strict=True)
            )
        if name in ADJOINTS:
            errors["adjoint"] = max(report.errors["adjoint"] for report in ADJOINTS[name](backend))
    return Report(name, errors)


def compare(what: str, got: HostArray, expected: HostArray, dtype: str, limit: float) -> float:
    """The relative error in the Euclidean norm; shapes must be equal, whole numbers too, and floats of this type."""
    check_equal(f"{what}: shape", got.shape, expected.shape)
    if expected.dtype.kind == "f":
        check_equal(f"{what}: type", str(got.dtype), dtype)
    error = float(np.linalg.norm(got.astype("float64") - expected)) / max(float(np.linalg.norm(expected)), SMALL)
    check_small(f"{what} differs from the reference", error, limit if expected.dtype.kind == "f" else 0.0)
    return error


def drawn(*shapes: Shape) -> list[HostArray]:
    """Normal numbers, always the same for the same shapes."""
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape) for shape in shapes]


def y_shape(x_shape: Shape, k_shape: Shape, how: dict[str, Any]) -> Shape:
    """The shape of correlate(x, k, **how)."""
    where = {"stride": (1, 1), "padding": NO_PADDING, "dilation": (1, 1)} | how
    size = output_size(x_shape[2:], (k_shape[2], k_shape[3]), where["stride"], where["padding"], where["dilation"])
    return (x_shape[0], k_shape[0], *size)


def correlate(b: Backend, dtype: str) -> Iterator[Array]:
    """Y"""
    for x_shape, k_shape, how in MAPS:
        x, k = (b.asarray(a, dtype) for a in drawn(x_shape, k_shape))
        yield b.correlate(x, k, **how)


def correlate_input_adjoint(b: Backend, dtype: str) -> Iterator[Array]:
    """DX"""
    for x_shape, k_shape, how in MAPS:
        dy, k = (b.asarray(a, dtype) for a in drawn(y_shape(x_shape, k_shape, how), k_shape))
        yield b.correlate_input_adjoint(dy, k, x_shape, **how)


def correlate_kernel_adjoint(b: Backend, dtype: str) -> Iterator[Array]:
    """DK"""
    for x_shape, k_shape, how in MAPS:
        x, dy = (b.asarray(a, dtype) for a in drawn(x_shape, y_shape(x_shape, k_shape, how)))
        yield b.correlate_kernel_adjoint(x, dy, k_shape, **how)


def max_pool(b: Backend, dtype: str) -> Iterator[Array]:
    """Y, and which cells were largest"""
    for x_shape, size, how in POOLS:
        yield from b.max_pool(b.asarray(drawn(x_shape)[0], dtype), size, **how)


def max_pool_adjoint(b: Backend, dtype: str) -> Iterator[Array]:
    """DX"""
    for x_shape, size, how in POOLS:
        y, which = b.max_pool(b.asarray(drawn(x_shape)[0], dtype), size, **how)
        yield b.max_pool_adjoint(b.asarray(drawn(y.shape)[0], dtype), which, x_shape, size, **how)


def sum_pool(b: Backend, dtype: str) -> Iterator[Array]:
    """Y"""
    for x_shape, size, how in POOLS:
        yield b.sum_pool(b.asarray(drawn(x_shape)[0], dtype), size, **how)


def sum_pool_adjoint(b: Backend, dtype: str) -> Iterator[Array]:
    """DX"""
    for x_shape, size, how in POOLS:
        dy = drawn((*x_shape[:2], *output_size(x_shape[2:], size, how["stride"], how.get("padding", NO_PADDING))))[0]
        yield b.sum_pool_adjoint(b.asarray(dy, dtype), x_shape, size, **how)


def planes(b: Backend, dtype: str) -> Iterator[Array]:
    """correlate2d and convolve2d, in every mode"""
    for mode in ("valid", "full", "same"):
        for k_shape in ((3, 3), (2, 4)):
            x, k = (b.asarray(a, dtype) for a in drawn((6, 7), k_shape))
            yield b.correlate2d(x, k, mode)
            yield b.convolve2d(x, k, mode)


def random_bits(b: Backend, dtype: str) -> Iterator[Array]:
    """Whole numbers, an odd and an even count of them"""
    for key, shape in (((0,), (3, 5)), ((7, 2**40, 1), (4, 2, 3)), ((1, 2), (0, 3))):
        yield b.random_bits(key, shape)


CALLS: dict[str, Calls] = {
    "correlate": correlate,
    "correlate_input_adjoint": correlate_input_adjoint,
    "correlate_kernel_adjoint": correlate_kernel_adjoint,
    "max_pool": max_pool,
    "max_pool_adjoint": max_pool_adjoint,
    "sum_pool": sum_pool,
    "sum_pool_adjoint": sum_pool_adjoint,
    "correlate2d and convolve2d": planes,
    "random_bits": random_bits,
}


def host(b: Backend, primitive: Callable[..., Array], *others: Any, **how: Any) -> Callable[[HostArray], HostArray]:
    """A primitive as a function of its first argument, from NumPy array to NumPy array."""
    return lambda first: b.to_numpy(primitive(b.asarray(first), *others, **how))


def input_adjoints(b: Backend) -> Iterator[Report]:
    """<correlate(x, k), dy> = <x, DX>"""
    for x_shape, k_shape, how in MAPS:
        k = b.asarray(drawn(k_shape)[0])
        forward, adjoint = host(b, b.correlate, k, **how), host(b, b.correlate_input_adjoint, k, x_shape, **how)
        yield check_adjoint(f"correlate_input_adjoint, {x_shape}, {k_shape}, {how}", forward, adjoint, x_shape)


def kernel_adjoints(b: Backend) -> Iterator[Report]:
    """<correlate(x, k), dy> = <k, DK>"""
    for x_shape, k_shape, how in MAPS:
        x = b.asarray(drawn(x_shape)[0])

        def forward(k: HostArray, x: Array = x, how: dict[str, Any] = how) -> HostArray:
            return b.to_numpy(b.correlate(x, b.asarray(k), **how))

        def adjoint(dy: HostArray, x: Array = x, k_shape: Shape = k_shape, how: dict[str, Any] = how) -> HostArray:
            return b.to_numpy(b.correlate_kernel_adjoint(x, b.asarray(dy), k_shape, **how))

        yield check_adjoint(f"correlate_kernel_adjoint, {x_shape}, {k_shape}, {how}", forward, adjoint, k_shape)


def sum_pool_adjoints(b: Backend) -> Iterator[Report]:
    """<sum_pool(x), dy> = <x, DX>"""
    for x_shape, size, how in POOLS:
        forward, adjoint = host(b, b.sum_pool, size, **how), host(b, b.sum_pool_adjoint, x_shape, size, **how)
        yield check_adjoint(f"sum_pool_adjoint, {x_shape}, {size}, {how}", forward, adjoint, x_shape)


ADJOINTS: dict[str, Callable[[Backend], Iterator[Report]]] = {
    "correlate_input_adjoint": input_adjoints,
    "correlate_kernel_adjoint": kernel_adjoints,
    "sum_pool_adjoint": sum_pool_adjoints,
}
