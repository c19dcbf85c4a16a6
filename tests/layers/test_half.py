"""Half precision where 16 bits end: each layer on sums and positions that they can't count, held to float64.

float16 counts to 2048 and ends at 65504, bfloat16 counts to 256. Layers are called with half arrays, as a user may, and
behind the cast of a model with precision="float16" or "bfloat16". What they should give is computed from the same
numbers in float64.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
from array_api_compat import array_namespace
from engines import USABLE
from whole import compiled, whole

import xcnn
from xcnn import layers
from xcnn.core import random, tree
from xcnn.layers import (
    ELU,
    GELU,
    SELU,
    AdaptiveAveragePool2D,
    Add,
    AveragePool1D,
    AveragePool2D,
    BatchNorm,
    ClippedReLU,
    Concatenate,
    Conv1D,
    Conv1DTranspose,
    Conv2D,
    Conv2DTranspose,
    Cropping1D,
    Cropping2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePool1D,
    GlobalAveragePool2D,
    GlobalMaxPool1D,
    GlobalMaxPool2D,
    Graph,
    GroupNorm,
    HardSigmoid,
    HardSwish,
    InstanceNorm,
    LayerNorm,
    LeakyReLU,
    LocalResponseNorm,
    LogSoftmax,
    MaxPool1D,
    MaxPool2D,
    Mish,
    Multiply,
    Next,
    Padding1D,
    Padding2D,
    Permute,
    PixelShuffle,
    PReLU,
    ReLU,
    Reshape,
    Residual,
    Resize,
    Run,
    Scale,
    Sequential,
    Sigmoid,
    SiLU,
    Slice,
    Softmax,
    Softplus,
    Softsign,
    SpatialDropout2D,
    StandardizedConv2D,
    StochasticDepth,
    Tanh,
    UpSampling1D,
    UpSampling2D,
    ZeroPadding1D,
    ZeroPadding2D,
    computes_in_half,
)
from xcnn.layers.half import may_compute_in_half
from xcnn.training import losses
from xcnn.training.precision import PRECISIONS, mixed

EPS = {"float16": 2.0**-10, "bfloat16": 2.0**-7}
TYPES = {"numpy": ("float16",)}
"""The half types of a backend's arrays; elsewhere those that it computes in, which are none on array-api-strict."""


@dataclass(frozen=True)
class Large:
    """A layer on so many samples of this shape, x near `level` and dy near 1."""

    layer: Any
    input_shape: tuple
    batch: int = 2
    level: float = 1.0
    scale: float = 1.0
    """Of the weights."""

    def __repr__(self):
        return f"{self.layer}-{self.batch}x{self.input_shape}"


LARGE = [
    # Sums over the cells of a batch: the weights' gradients, means and variances.
    Large(Conv2D(2, 3), (1, 52, 52)),
    Large(Conv2D(2, 3), (1, 3, 4), batch=1500),
    Large(Conv2D(1, 1, bias="untied"), (1, 1, 2), batch=3000),
    Large(Conv2DTranspose(1, 3), (2, 50, 50)),
    Large(DepthwiseConv2D(3), (2, 52, 52)),
    Large(Conv1D(2, 3), (1, 2600)),
    Large(Dense(2), (2,), batch=3000),
    Large(BatchNorm(), (2, 190, 190), batch=1, level=30.0),
    Large(BatchNorm(), (2,), batch=3000),
    Large(LayerNorm(), (4,), batch=3000),
    Large(InstanceNorm(), (2, 190, 190), batch=1, level=30.0),
    Large(StandardizedConv2D(2, 3), (1, 30, 30)),
    Large(Conv1DTranspose(1, 3), (2, 2500)),
    Large(LocalResponseNorm(800, alpha=0.5), (900, 2, 2)),
    Large(GroupNorm(2), (4,), batch=3000),
    # Over features and channels.
    Large(Dense(2), (3000,), scale=0.5),
    Large(Conv2D(1, 2), (800, 2, 3), scale=0.5),
    Large(Conv1D(1, 3), (1000, 4), scale=0.5),
    Large(Conv2DTranspose(1, 2), (3000, 1, 1), scale=0.5),
    Large(LayerNorm(), (3, 160, 160), level=30.0),
    Large(GroupNorm(1), (2, 190, 190), batch=1, level=30.0),
    Large(Softmax(), (3000,)),
    Large(LogSoftmax(), (3000,)),
    Large(PReLU(), (1, 3000)),
    Large(PReLU(untied=True), (2,), batch=3000),
    Large(Scale(bias=True), (1, 3000)),
    # Over a kernel.
    Large(Conv2D(1, (1, 2100)), (1, 1, 2101)),
    Large(Conv2DTranspose(1, (1, 2100)), (1, 1, 2100), batch=1),
    Large(DepthwiseConv2D((1, 2100)), (1, 1, 2101)),
    # Over windows, whose sums float16 does not have, and windows over a cell.
    Large(AveragePool2D(32), (1, 64, 64), level=100.0),
    Large(AveragePool2D(46, stride=1), (1, 92, 92), batch=1),
    Large(MaxPool2D(50, stride=1), (1, 99, 99), batch=1),
    Large(MaxPool2D(2), (2, 9, 9)),
    Large(GlobalAveragePool2D(), (2, 260, 260)),
    Large(GlobalMaxPool2D(), (2, 60, 60)),
    Large(AdaptiveAveragePool2D(1), (2, 260, 260)),
    Large(GlobalAveragePool1D(), (2, 67600)),
    Large(GlobalMaxPool1D(), (2, 3600)),
    Large(AveragePool1D(2100), (1, 4200)),
    Large(MaxPool1D(50, stride=1), (1, 600)),
    # Positions, and copies of a cell.
    Large(UpSampling2D(2, "bilinear"), (1, 300, 3)),
    Large(UpSampling2D((1, 2), "bilinear"), (1, 1, 1100)),
    Large(UpSampling2D(56), (1, 1, 2)),
    # Cell by cell.
    Large(UpSampling1D(2, "bilinear"), (1, 1100)),
    Large(Resize((1, 2100), interpolation="bilinear"), (1, 1, 1100)),
    Large(PixelShuffle(), (4, 3, 300)),
    Large(Permute((2, 3, 1)), (3, 9, 300)),
    Large(Slice(1, -1, axis=3, step=3), (3, 9, 300)),
    Large(Cropping2D(2), (1, 9, 300)),
    Large(Cropping1D(2), (1, 300)),
    Large(ZeroPadding1D(2), (1, 300)),
    Large(ZeroPadding2D(2), (1, 3, 300)),
    Large(Padding1D(2), (1, 300)),
    Large(Padding2D((2, 2100), mode="edge"), (1, 3, 300)),
    Large(Flatten(), (2, 30, 50)),
    Large(Reshape((-1, 50)), (2, 30, 50)),
    Large(Dropout(0.4), (3000,)),
    Large(SpatialDropout2D(0.4), (300, 2, 2)),
    Large(StochasticDepth(0.4), (3000,)),
    *(Large(f(), (3000,)) for f in (ReLU, LeakyReLU, ELU, SiLU, Sigmoid, Tanh, Softplus)),
    *(Large(f(), (3000,)) for f in (ClippedReLU, SELU, Mish, HardSigmoid, HardSwish, Softsign)),
    Large(GELU(), (3000,), level=10.0),
    # Nets.
    Large(Sequential(Conv2D(2, 3), ReLU(), Flatten(), head=Dense(2)), (1, 40, 40), scale=0.2),
    Large(Residual(Dense(2), shortcut=Dense(2)), (2,), batch=3000),
    Large(Concatenate(Conv2D(1, 1), AveragePool2D(1)), (1, 52, 52)),
    Large(Add(Sequential(), GlobalAveragePool2D()), (1, 52, 52)),
    Large(Multiply(Sequential(), GlobalAveragePool2D()), (1, 52, 52), level=0.1),
    Large(Graph(one=Conv2D(1, 1), both=(Add(), "one", "input")), (1, 52, 52)),
]  # fmt: skip
TYPED = [
    (name, dtype) for name in USABLE for dtype in EPS if dtype in TYPES.get(name, xcnn.backend(name).precisions_here)
]
NAMES = [name for name in USABLE if name in {name for name, _ in TYPED}]
typed = pytest.mark.parametrize(("name", "dtype"), TYPED, ids=["-".join(pair) for pair in TYPED])
SLOW = {"jax": ("bfloat16", "Pool", "Norm", "Dense(units=2", "UpSampling", "kernel_size=3", "Softmax")}
"""Where each case is compiled: the one type, and the cases whose sums are the layer's own."""
CASES = [
    pytest.param(name, dtype, case, id=f"{case}-{name}-{dtype}")
    for name, dtype in TYPED
    for case in LARGE
    if name not in SLOW or (dtype == SLOW[name][0] and any(part in repr(case.layer)[:30] for part in SLOW[name][1:]))
]


def rounded(a, dtype):
    """The nearest numbers of a half type, in float64."""
    a = np.asarray(a, "float32")
    if dtype == "float16":
        return a.astype("float16").astype("float64")
    bits = a.view("uint32").astype("uint64")
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype("uint32").view("float32").astype("float64")


def value(leaf):
    return leaf.value if isinstance(leaf, Next) else leaf


def on_host(backend, a):
    return np.asarray(backend.to_numpy(backend.astype(value(a), "float32")), "float64")


def results(layer, backend, weights, x, dy, key=(7, 0)):
    """Y, dx and the gradients by name."""
    y, backward = layer(weights, x, Run(backend, train=True, key=key))
    dx, grads = backward(dy)
    return dict(tree.items({"y": y, "dx": dx, **grads}))


@cache
def given(case, dtype):
    """Weights, x and dy in float64, which a half type has, and what comes of them."""
    exact = xcnn.backend("numpy", algorithm="gemm", fuse=False)
    rng = np.random.default_rng(0)
    drawn, output = case.layer.init(random.generator(0), case.input_shape)
    weights = tree.map(lambda w: rounded(case.scale * np.abs(w), dtype), drawn)
    x = rounded(case.level * (1 + 0.25 * rng.random((case.batch, *case.input_shape))), dtype)
    dy = rounded(1 + 0.25 * rng.random((case.batch, *output)), dtype)
    with np.errstate(all="raise", under="ignore"):
        return weights, x, dy, results(case.layer, exact, weights, x, dy)


def hold(got, expected, dtype, backend):
    """Each result within a few units of the type's last place, relative to the largest cell."""
    assert got.keys() == expected.keys()
    for part, leaf in got.items():
        want, found = value(expected[part]), on_host(backend, leaf)
        assert np.abs(want).max() < 60000  # else float16 has no such number, and the case is no good
        assert np.abs(found - want).max() <= 3 * EPS[dtype] * np.abs(want).max(), part


@pytest.mark.parametrize(("name", "dtype", "case"), CASES)
def test_each_layer_where_half_precision_ends(name, dtype, case):
    backend = xcnn.backend(name)
    weights, x, dy, expected = given(case, dtype)
    with backend.active():
        there = tree.map(lambda a: backend.asarray(a, "float32"), {"w": weights, "x": x, "dy": dy})
        halves = tree.map(lambda a: backend.astype(a, dtype), there)
        layer, cast = case.layer, mixed(case.layer, PRECISIONS[dtype], last=False)
        alone = results(whole(layer, backend), backend, *halves.values())
        assert {str(value(a).dtype).rpartition(".")[2] for a in alone.values()} == {dtype}
        hold(alone, expected, dtype, backend)
        if name not in SLOW:
            hold(results(cast, backend, there["w"], halves["x"], halves["dy"]), expected, dtype, backend)
        if backend.fuse and backend.name == "torch":  # elsewhere nothing that computes in half precision is fused
            fused = backend.rewrite(Sequential(it=cast))
            got = results(fused, backend, {"it": there["w"]}, halves["x"], halves["dy"], key=(7,))
            hold({key.removeprefix("it/"): a for key, a in got.items()}, expected, dtype, backend)


def test_every_layer_is_among_them():
    named = {name for name in layers.__all__ if name not in ("Layer", "Next", "Run")}
    assert {type(case.layer).__name__ for case in LARGE} == named


# A layer that says nothing.


@dataclass(frozen=True)
class Share:
    """Y = X / sum of X over all cells of a sample, in the type of x; dX is not asked for."""

    def init(self, rng, input_shape):
        return {}, input_shape

    def __call__(self, weights, x, run):
        xp = array_namespace(x)  # NumPy 2.0 itself has no cumulative_sum
        ones = xp.cumulative_sum(xp.ones_like(x), axis=1)  # counts as no type of 16 bits does
        return x / ones[:, -1:], lambda dy: (dy, {})


@computes_in_half
@dataclass(frozen=True)
class Halved(Share):
    """The same, whose author says that 16 bits do."""


@dataclass(frozen=True)
class Derived(Dense):
    """A layer that is derived from one of xcnn's."""


@typed
def test_a_layer_that_says_nothing_computes_in_the_weights_type(name, dtype):
    backend = xcnn.backend(name)
    x = np.ones((1, 6000))
    with backend.active():
        there = backend.astype(backend.asarray(x, "float32"), dtype)
        for layer, right in ((Share(), True), (Halved(), False)):
            cast = mixed(layer, PRECISIONS[dtype], last=False)
            assert cast.compute == ("float32" if right else dtype)
            y, _ = cast({}, there, Run(backend))
            if right:
                np.testing.assert_allclose(on_host(backend, y), x / 6000, rtol=EPS[dtype])
            assert str(y.dtype).rpartition(".")[2] == dtype


def test_who_computes_in_half_precision_says_so_itself():
    assert may_compute_in_half(Dense(2))
    assert may_compute_in_half(Halved())
    for layer in (Share(), Derived(2), GELU(), BatchNorm(), Sequential()):
        assert not may_compute_in_half(layer)


def test_a_layer_of_xcnn_says_so_or_is_called_in_float32():
    for name in layers.__all__:
        kind = getattr(layers, name)
        if name in ("Layer", "Next", "Run") or issubclass(kind, layers.container.Container):
            continue
        says = "_computes_in_half" in vars(kind)
        assert says != hasattr(kind.__call__, "__wrapped__"), name


# Losses.


@cache
def judged(loss, dtype):
    """Y and t in float64, which a half type has, and the loss of them with its gradient."""
    rng = np.random.default_rng(0)
    y = rounded(0.1 + 0.8 * rng.random((3000, 30)), dtype)
    t = rounded(rng.random(y.shape) * 3 if loss in ("mse", "mae", "huber") else rng.random(y.shape) > 0.5, dtype)
    return y, t, *losses.LOSSES[loss](y, t)


@pytest.mark.parametrize("loss", losses.LOSSES)
@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, dtype) for name, dtype in TYPED if name not in SLOW or dtype == SLOW[name][0]],
    ids=str,
)
def test_losses_of_many_numbers(name, dtype, loss):
    """3000 samples of 30 outputs: sums that float16 does not have, counts that bfloat16 does not."""
    backend = xcnn.backend(name)
    y, t, expected, expected_dy = judged(loss, dtype)
    with backend.active():
        halves = [backend.astype(backend.asarray(a, "float32"), dtype) for a in (y, t)]
        value, dy = compiled(losses.LOSSES[loss], backend)(*halves)
        assert {str(a.dtype).rpartition(".")[2] for a in (value, dy)} == {dtype}
        np.testing.assert_allclose(on_host(backend, value), expected, rtol=2 * EPS[dtype])
        largest = np.abs(expected_dy).max()
        np.testing.assert_allclose(on_host(backend, dy), expected_dy, rtol=0, atol=2 * EPS[dtype] * largest + 6e-8)


def test_a_sure_probability_in_half_precision_has_a_finite_loss():
    y, t = np.asarray([[1.0, 0.0]], "float16"), np.asarray([[0.0, 1.0]], "float16")
    value, dy = losses.binary_cross_entropy(y, t)
    assert np.isfinite(value)
    assert np.all(np.isfinite(dy))


@typed
def test_labels_given_as_half_numbers_name_one_class_each(name, dtype):
    backend = xcnn.backend(name)
    with backend.active():
        y = backend.asarray(np.zeros((2, 4000)), "float32")
        t = backend.astype(backend.asarray([256.0, 2048.0], "float32"), dtype)
        found = backend.to_numpy(losses.targets(y, t))
    np.testing.assert_array_equal(found.sum(axis=1), 1)
    np.testing.assert_array_equal(found.argmax(axis=1), [256, 2048])
