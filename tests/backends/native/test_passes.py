"""Runs that are passes over memory, held to the reference in float64: layouts, types, bits, hard numbers."""

from functools import partial

import numpy as np
import pytest
from draws import draws
from memory_layouts import channels_last, lying
from xcnn_native import library as native

import xcnn
from xcnn.checking.gradients import ReferenceBackend
from xcnn.core import random, reference, tree
from xcnn.core.windows import output_size
from xcnn.layers import (
    ELU,
    GELU,
    SELU,
    AveragePool2D,
    BatchNorm,
    ClippedReLU,
    Dropout,
    GlobalAveragePool2D,
    GlobalMaxPool2D,
    GroupNorm,
    HardSigmoid,
    HardSwish,
    LayerNorm,
    LeakyReLU,
    MaxPool2D,
    Mish,
    Next,
    ReLU,
    Residual,
    Run,
    Sequential,
    Sigmoid,
    SiLU,
    Softplus,
    Softsign,
    Tanh,
)

if native.library() is None:
    pytest.skip("the compiled library was not built, or is switched off", allow_module_level=True)

from xcnn_numpy.native import PASSES, pooling

ACTIVATIONS = [
    ReLU(), LeakyReLU(0.1), ELU(), Sigmoid(), Tanh(), SiLU(), Softplus(), GELU(), GELU(approximate=True), ClippedReLU(),
    SELU(), Mish(), HardSigmoid(), HardSwish(), Softsign(),
]  # fmt: skip
SHAPES = [(5,), (16, 7), (16, 7, 9), (64, 14, 14), (600, 3, 2), (1030, 2, 1), (3, 4, 1), (1, 33, 70), (8, 1, 1)]
EPS = {"float32": 2e-5, "float64": 1e-12}
IMAGE = [
    MaxPool2D(2, padding="same"), MaxPool2D(3, 2, padding=1), MaxPool2D((1, 5), (2, 1), padding=((0, 0), (2, 4))),
    MaxPool2D(20, 3, padding=((15, 4), (18, 19))), AveragePool2D(3, 2, padding=1),
    AveragePool2D((1, 2), padding="same"),
    AveragePool2D(17, 1, padding="same"), GlobalAveragePool2D(), GlobalMaxPool2D(), LayerNorm(axis=(2, 3)),
]  # fmt: skip


def backend(threads=2, algorithm="gemm"):
    return xcnn.backend("numpy", algorithm=algorithm, threads=threads)


def numbers_of(shape, rng):
    """A layer for inputs of this shape, and a few activations behind it."""
    c = shape[0]
    layers = [BatchNorm(), GroupNorm(1), GroupNorm(c), LayerNorm(), LayerNorm(axis=-1), LayerNorm(axis=1), Dropout(0.4)]
    layers += [Residual(Tanh(), ReLU()), Residual(ReLU(), shortcut=SiLU()), GELU()]
    layers += IMAGE if len(shape) == 3 else []
    behind = [ACTIVATIONS[n] for n in rng.integers(0, len(ACTIVATIONS), rng.integers(0, 3))]
    return Sequential(layers[rng.integers(len(layers))], *behind)


def given(net, shape, batch, dtype, rng, mean=3.0):
    """Weights, x and dy."""
    weights, output = net.init(random.generator(0), shape)
    weights = tree.map(lambda w: (0.5 + rng.random(w.shape)).astype(dtype), weights)
    x = (mean + 2 * rng.standard_normal((batch, *shape))).astype(dtype)
    return weights, x, rng.standard_normal((batch, *output)).astype(dtype)


def passes(net, weights, x, dy, run):
    y, backward = net(weights, x, run)
    dx, grads = backward(dy)
    leaves = tree.map(lambda g: g.value if isinstance(g, Next) else g, grads)
    return [y, dx, *(leaves[layer][name] for layer in sorted(leaves) for name in sorted(leaves[layer]))]


def fused(net, chosen, **_):
    """The net, all of it in passes: a run that is missing would make a test say nothing."""
    made = chosen.rewrite(net)
    modules = {fuse.__module__ for fuse in PASSES} | {"xcnn_numpy.native.dropout"}
    assert all(type(fusion).__module__ in modules for _, _, fusion in made.plan)
    return made


def near(got, expected, dtype, scale=1.0):
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        assert a.shape == b.shape
        assert a.dtype == dtype
        size = max(1.0, float(np.max(np.abs(b), initial=0.0)))
        assert np.max(np.abs(a - b), initial=0.0) <= scale * EPS[dtype] * size


@pytest.mark.parametrize("number", range(draws(60)))
def test_a_drawn_run_is_its_layers_in_double_precision(number):
    rng = np.random.default_rng((7, number))
    shape, dtype = SHAPES[rng.integers(len(SHAPES))], ("float32", "float64")[rng.integers(2)]
    net, train, batch = numbers_of(shape, rng), bool(rng.integers(2)), int(rng.integers(1, 4))
    weights, x, dy = given(net, shape, batch, dtype, rng)
    chosen = backend(threads=int(rng.integers(1, 4)))
    lain = [lying(a, rng) if rng.random() < 0.7 else a for a in (x, dy)]
    got = passes(fused(net, chosen), weights, *lain, Run(chosen, train, (3, 1)))
    wide = tree.map(lambda w: w.astype("float64"), weights)
    exact = [np.ascontiguousarray(a).astype("float64") for a in lain]
    near(got, passes(net, wide, *exact, Run(ReferenceBackend("numpy"), train, (3, 1))), dtype, 8)


NETS = {
    "activations": Sequential(SiLU(), Tanh()),
    "group norm": Sequential(GroupNorm(4), GELU()),
    "layer norm": Sequential(LayerNorm(axis=1)),
    "max": Sequential(MaxPool2D(3, 2, padding=1)),
    "large max": Sequential(MaxPool2D(9, 1, padding="same")),
    "mean": Sequential(AveragePool2D(3, 2, padding=1), ReLU()),
    "global mean": Sequential(GlobalAveragePool2D()),
    "residual": Sequential(Residual(Tanh()), SiLU()),
    "batch norm in evaluation": Sequential(BatchNorm(), Sigmoid()),
}


@pytest.mark.parametrize("order", [np.ascontiguousarray, partial(channels_last, rng=None)], ids=["planes", "pixels"])
@pytest.mark.parametrize("name", NETS)
def test_the_same_bits_for_any_number_of_threads_alone_and_in_a_batch(name, order, rng):
    net = NETS[name]
    weights, x, dy = given(net, (16, 41, 37), 3, "float32", rng)
    results = []
    for threads in (1, 2, 7):
        chosen = backend(threads)
        made, run = fused(net, chosen), Run(chosen, "evaluation" not in name, (1,))
        results.append(passes(made, weights, order(x), order(dy) if dy.ndim == 4 else dy, run))
        alone = [passes(made, weights, order(x[n : n + 1]), dy[n : n + 1], run)[:2] for n in range(3)]
        for got, part in zip(results[-1], zip(*alone, strict=True), strict=False):
            np.testing.assert_array_equal(got, np.concatenate(part))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("order", [np.ascontiguousarray, partial(channels_last, rng=None)], ids=["planes", "pixels"])
def test_batch_statistics_have_the_same_bits_for_any_number_of_threads(order, rng):
    net = Sequential(BatchNorm(), ReLU())
    weights, x, dy = given(net, (16, 41, 37), 3, "float32", rng)
    first, *others = (
        passes(fused(net, backend(n)), weights, order(x), order(dy), Run(backend(n), True)) for n in (1, 2, 7)
    )
    for other in others:
        for a, b in zip(first, other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", sorted(set(NETS) - {"global mean", "layer norm"}))
def test_results_lie_as_x_does(name, rng):
    net = NETS[name]
    weights, x, dy = given(net, (8, 5, 6), 2, "float32", rng)
    for order in (np.ascontiguousarray, partial(channels_last, rng=None)):
        y, dx, *_ = passes(fused(net, backend()), weights, order(x), dy, Run(backend(), False))
        for a in (y, dx):
            np.testing.assert_array_equal(np.argsort(a.strides), np.argsort(order(a).strides))


@pytest.mark.parametrize("shape", [(5,), (3, 5, 7), (37, 3), (1100, 1, 3)], ids=str)
@pytest.mark.parametrize("net", [Sequential(BatchNorm(), SiLU()), Sequential(GroupNorm(1), ReLU())], ids=["b", "g"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_channels_that_fill_no_vectors(net, shape, dtype, rng):
    """Side by side: a tile's end is cells of some channels."""
    weights, x, dy = given(net, shape, 3, dtype, rng)
    x, dy = (channels_last(a, rng) if a.ndim > 2 else a for a in (x, dy))
    got = passes(fused(net, backend()), weights, x, dy, Run(backend(), True))
    wide = tree.map(lambda w: w.astype("float64"), weights)
    exact = passes(net, wide, x.astype("float64"), dy.astype("float64"), Run(ReferenceBackend("numpy"), True))
    near(got, exact, dtype, 8)


@pytest.mark.parametrize("layer", [BatchNorm(), GroupNorm(2), LayerNorm(axis=1), LayerNorm()], ids=repr)
@pytest.mark.parametrize("order", [np.ascontiguousarray, partial(channels_last, rng=None)], ids=["planes", "pixels"])
def test_far_from_zero_a_norm_is_as_exact_as_its_input(layer, order, rng):
    """Of mean 1e3 and deviation 1, one cell 1e5: the variance is that of float64, wherever the odd cell lies."""
    net = Sequential(layer)
    weights, x, dy = given(net, (8, 31, 30), 2, "float32", rng, mean=1e3)
    x[0, :, 0, 0] = x[1, :, 17, 2] = 1e5
    got = passes(fused(net, backend()), weights, order(x), order(dy), Run(backend(), True))
    wide = tree.map(lambda w: w.astype("float64"), weights)
    exact = passes(net, wide, x.astype("float64"), dy.astype("float64"), Run(ReferenceBackend("numpy"), True))
    near(got, exact, "float32", 50)  # units of 1e3 are 6e-5, which x_hat inherits where the deviation is small


@pytest.mark.parametrize("last", [False, True], ids=["planes", "pixels"])
@pytest.mark.parametrize("channels", [1, 3, 19])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("size", "stride", "padding"),
    [
        ((2, 2), (2, 2), ((0, 0), (0, 0))),
        ((3, 3), (2, 2), ((1, 1), (1, 1))),
        ((2, 2), (3, 2), ((1, 0), (3, 1))),
        ((3, 2), (1, 3), ((2, 0), (0, 1))),
        ((5, 7), (3, 2), ((6, 9), (8, 0))),
        ((40, 45), (6, 7), ((20, 21), (30, 0))),
    ],
    ids=repr,
)
def test_the_first_of_equal_cells_and_the_first_nan(size, stride, padding, channels, dtype, last, rng):
    """Cells of five values, minus infinity among them, and NaN: y, taps and dx are the reference's to the bit."""
    values, shares = [-np.inf, -1.0, 0.0, 2.0, np.inf, np.nan], [0.3, 0.2, 0.2, 0.25, 0.03, 0.02]
    x = rng.choice(values, (2, channels, 23, 26), p=shares)
    x[1] = -np.inf
    x = channels_last(x.astype(dtype), rng) if last else x.astype(dtype)
    how = {"stride": stride, "padding": padding}
    chosen = backend()
    y, which = chosen.max_pool(x, size, **how)
    y_, which_ = reference.max_pool(x.astype("float64"), size, **how)
    np.testing.assert_array_equal(y, y_)
    dy = rng.integers(-4, 5, y.shape).astype(dtype)
    dx = chosen.max_pool_adjoint(dy, which, x.shape, size, **how)
    np.testing.assert_array_equal(dx, reference.max_pool_adjoint(dy.astype("float64"), which_, x.shape, size, **how))


def test_a_window_of_thousands_of_cells_takes_two_steps(rng):
    """300 x 300 windows on 340 x 340: each of 41 x 41 is a sum of 300 sums, and not of 90000 cells."""
    x = np.full((1, 1, 340, 340), 0.1, "float32")
    y = backend().sum_pool(x, (300, 300), stride=(1, 1))
    assert y.shape == (1, 1, 41, 41)
    np.testing.assert_allclose(y, 9e4 * np.float64(x[0, 0, 0, 0]), rtol=128 * 2**-24)
    x = rng.standard_normal((1, 1, 340, 340)).astype("float32")
    y, which = backend().max_pool(x, (300, 300), stride=(1, 1))
    assert which.dtype == np.uint32
    rows, columns = np.divmod(which[0, 0].astype(int), 300)
    at = np.arange(41)
    np.testing.assert_array_equal(x[0, 0, rows + at[:, None], columns + at], y[0, 0])


def test_nan_and_infinity_stay_where_they_are(rng):
    net = Sequential(GroupNorm(8), SiLU())
    weights, x, dy = given(net, (8, 9, 20), 2, "float32", rng)
    clean = passes(fused(net, backend()), weights, x, dy, Run(backend(), True))[0]
    x[0, 3, 2, 1], x[1, 5, 0, 0] = np.nan, np.inf
    y, dx, *_ = passes(fused(net, backend()), weights, x, dy, Run(backend(), True))
    for n, c in np.ndindex(2, 8):
        odd = (n, c) in ((0, 3), (1, 5))
        assert np.isnan(y[n, c]).all() == np.isnan(dx[n, c]).all() == odd
        if not odd:
            np.testing.assert_array_equal(y[n, c], clean[n, c])


@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_an_empty_batch(net):
    weights, x, dy = given(net, (16, 12, 13), 0, "float32", np.random.default_rng(0))
    y, dx, *grads = passes(backend().rewrite(net), weights, x, dy, Run(backend(), True))
    assert (y.shape, dx.shape) == (dy.shape, x.shape)
    assert all(np.all(np.isfinite(g)) for g in grads)


def test_dropout_falls_by_a_cells_number_wherever_it_lies(rng):
    for shape in ((3, 7, 5, 11), (1, 9, 4, 1), (2, 40, 3, 3)):
        x = np.ones(shape, "float32")
        bits = random.bits(np, None, (5, 0), shape) >= int(0.3 * 2**32)
        for order in (np.ascontiguousarray, partial(channels_last, rng=None), np.asfortranarray):
            y, dx, *_ = passes(fused(Sequential(Dropout(0.3)), backend()), {}, order(x), x, Run(backend(), True, (5,)))
            np.testing.assert_array_equal(y != 0, bits)
            np.testing.assert_array_equal(y, dx)


def test_a_gradient_of_another_shape_names_the_layer(rng):
    net = Sequential(GroupNorm(4), SiLU(), MaxPool2D(2))
    weights, x, dy = given(net, (4, 6, 6), 2, "float32", rng)
    _, backward = fused(net, backend())(weights, x, Run(backend(), True))
    with pytest.raises(xcnn.errors.ShapeError, match="MaxPool2D 'maxpool1' got a gradient") as raised:
        backward(dy[:, :, 1:])
    assert raised.value.code == "X101"


def test_windows_and_programs_are_made_once():
    x = np.zeros((2, 3, 8, 8), "float32")
    backend().max_pool(x, (2, 2), stride=(2, 2))
    before = pooling.pooling.cache_info().misses
    backend().max_pool(x, (2, 2), stride=(2, 2))
    assert pooling.pooling.cache_info().misses == before
    assert output_size((8, 8), (2, 2), (2, 2), ((0, 0), (0, 0))) == (4, 4)
