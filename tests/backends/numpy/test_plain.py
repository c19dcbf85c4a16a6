"""The fusions of NumPy's backend without the library (backends/xcnn_numpy/plain) against the layers they stand for."""

import tracemalloc
import weakref

import numpy as np
import pytest
from xcnn_host import threads
from xcnn_native import library as native
from xcnn_numpy.plain import FUSES, blas, convolution, lowering, samples
from xcnn_strided.fusion import rewrite

import xcnn
from xcnn.core import blas as blas_threads
from xcnn.core import tree
from xcnn.errors import ShapeError
from xcnn.layers.layer import Next, Run

KEY = (3, 1)
RELU, SIGMOID, HALVE = xcnn.ReLU(), xcnn.Sigmoid(), xcnn.MaxPool2D(2)


def layers_alone():
    return xcnn.backend("numpy", algorithm="gemm", fuse=False)


def plain(**options):
    """Algorithm "gemm" is what "auto" is where the compiled library is missing; these tests do without it."""
    return xcnn.backend("numpy", algorithm="gemm", **options)


def drawn(net, shape, n, dtype, seed=0):
    """Weights, none of them zero, a batch, and noise for dy that is shaped like y."""
    rng = np.random.default_rng(seed)
    weights, output = net.init(xcnn.core.random.generator(seed), shape)
    noise = {name: rng.normal(size=w.shape) * 0.3 + w for name, w in tree.items(weights)}
    weights = {name: np.abs(w) if "variance" in name else w for name, w in noise.items()}
    weights = tree.from_items({name: w.astype(dtype) for name, w in weights.items()})
    x, dy = rng.normal(size=(n, *shape)), rng.normal(size=(n, *output))
    return weights, x.astype(dtype), dy.astype(dtype)


def passes(net, backend, weights, x, dy, train=True):
    """Y, dX and the gradients, a weight's next value as it is."""
    net = backend.rewrite(net) if backend.fuse else net
    y, backward = net(weights, x, Run(backend, train, KEY))
    dx, grads = backward(dy)
    return y, dx, tree.map(lambda g: g.value if isinstance(g, Next) else g, grads)


def all_fused(net, weights, x, backend):
    """Whether every layer of the net but Flatten is in a fusion that takes x."""
    fused, n = backend.rewrite(net), 0
    for first, last, fusion in fused.plan:
        if fusion is None:
            n += sum(type(layer) is xcnn.Flatten for _, layer in fused.named[first:last])
        else:
            n += last - first
    first = fused.plan[0][2]
    return n == len(net.named) and (first is None or first.fits(weights, x))


def assert_alike(one, other, dtype):
    rtol, atol = (1e-10, 1e-10) if dtype == "float64" else (3e-5, 3e-4)
    for a, b in zip(one[:2], other[:2], strict=True):
        assert a.dtype == b.dtype == dtype
        np.testing.assert_allclose(a, b, rtol, atol)
    grads, expected = dict(tree.items(one[2])), dict(tree.items(other[2]))
    assert set(grads) == set(expected)
    for name, grad in expected.items():
        assert grads[name].dtype == grad.dtype == dtype
        np.testing.assert_allclose(grads[name], grad, rtol, atol * max(1, np.abs(grad).max()), err_msg=name)


CONVOLUTIONS = {
    "alone": ((2, 7, 9), (xcnn.Conv2D(3, 3),)),
    "no bias": ((2, 7, 9), (xcnn.Conv2D(3, (2, 3), bias=False), RELU)),
    "relu": ((3, 8, 5), (xcnn.Conv2D(4, 3), RELU)),
    "sigmoid, untied bias": ((1, 9, 8), (xcnn.Conv2D(5, 3, bias="untied"), SIGMOID)),
    "untied bias, pooling apart": ((2, 9, 8), (xcnn.Conv2D(4, 3, bias="untied"), RELU)),
    "pooled": ((2, 10, 12), (xcnn.Conv2D(4, 3), RELU, HALVE)),
    "pooled, odd": ((2, 9, 11), (xcnn.Conv2D(4, 3), RELU, HALVE)),
    "pooled, one window": ((1, 3, 3), (xcnn.Conv2D(2, 2), RELU, HALVE)),
    "pooled, padded": ((2, 9, 12), (xcnn.Conv2D(4, 5, padding=2), RELU, HALVE)),
    "same": ((3, 7, 6), (xcnn.Conv2D(4, 3, padding="same"), RELU)),
    "full": ((3, 4, 6), (xcnn.Conv2D(4, (3, 2), padding="full"), RELU)),
    "padding pairs": ((2, 6, 7), (xcnn.Conv2D(3, 3, padding=((0, 3), (4, 1))), RELU)),
    "padding on the right": ((2, 6, 7), (xcnn.Conv2D(3, 4, padding=((2, 0), (0, 3))),)),
    "stride 2": ((2, 9, 8), (xcnn.Conv2D(4, 3, stride=2, padding=1), RELU)),
    "stride 3 by 2, padding pairs": ((2, 11, 9), (xcnn.Conv2D(4, (3, 2), stride=(3, 2), padding=((1, 0), (0, 2))),)),
    "stride above the kernel": ((2, 9, 9), (xcnn.Conv2D(3, 1, stride=2, bias=False),)),
    "stride, pooled": ((2, 13, 12), (xcnn.Conv2D(4, 3, stride=2), RELU, HALVE)),
    "dilated": ((2, 11, 12), (xcnn.Conv2D(3, 3, dilation=(2, 3), padding=(1, 2)), RELU)),
    "dilated, stride": ((2, 11, 12), (xcnn.Conv2D(3, 2, dilation=2, stride=2, padding=1), SIGMOID)),
    "groups": ((4, 7, 6), (xcnn.Conv2D(6, 3, groups=2, padding=1), RELU)),
    "depthwise": ((3, 7, 6), (xcnn.Conv2D(6, 3, groups=3), RELU, HALVE)),
    "groups, stride": ((4, 7, 6), (xcnn.Conv2D(2, 3, groups=2, stride=2, bias=False),)),
    "one by one": ((3, 5, 4), (xcnn.Conv2D(4, 1), RELU)),
    "whole image": ((2, 5, 4), (xcnn.Conv2D(3, (5, 4)), SIGMOID)),
}
OTHERS = {
    "dense": ((7,), (xcnn.Dense(5),)),
    "dense, no bias": ((7,), (xcnn.Dense(1, bias=False), SIGMOID)),
    "dense, relu": ((5,), (xcnn.Dense(9), RELU)),
    "gelu": ((3, 5, 7), (xcnn.GELU(),)),
    "gelu, approximate": ((9,), (xcnn.GELU(approximate=True),)),
    "leaky relu": ((3, 5, 7), (xcnn.LeakyReLU(0.2),)),
    "tanh, silu": ((3, 5), (xcnn.Tanh(), xcnn.SiLU())),
    "dropout": ((3, 5, 7), (xcnn.Dropout(0.4),)),
    "norm": ((3, 5, 7), (xcnn.BatchNorm(),)),
    "norm, relu": ((3, 4, 5), (xcnn.BatchNorm(momentum=0.5), RELU)),
    "norm of signals": ((3, 9), (xcnn.BatchNorm(), RELU)),
    "shortcut": (
        (3, 5, 6),
        (xcnn.Residual(xcnn.Conv2D(3, 3, padding=1), RELU, xcnn.Conv2D(3, 3, padding=1)), RELU, xcnn.Conv2D(2, 1)),
    ),
    "shortcut with a layer": (
        (2, 7, 7),
        (
            xcnn.Residual(
                xcnn.Conv2D(3, 3, stride=2, padding=1), xcnn.BatchNorm(), shortcut=xcnn.Conv2D(3, 1, stride=2)
            ),
        ),
    ),
    "net": (
        (1, 12, 11),
        (
            xcnn.Conv2D(4, 3),
            RELU,
            xcnn.Conv2D(5, 3),
            RELU,
            HALVE,
            xcnn.Dropout(0.25),
            xcnn.Flatten(),
            xcnn.Dense(6),
            RELU,
        ),
    ),
}
CASES = CONVOLUTIONS | OTHERS


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("train", [True, False])
def test_fused_layers_agree_with_the_layers(name, n, dtype, train):
    shape, layers = CASES[name]
    net = xcnn.Sequential(*layers)
    weights, x, dy = drawn(net, shape, n, dtype)
    assert all_fused(net, weights, x, plain())
    ours = passes(net, plain(), weights, x, dy, train)
    assert_alike(ours, passes(net, layers_alone(), weights, x, dy, train), dtype)


@pytest.mark.parametrize("name", CASES)
def test_batch_of_no_samples(name):
    shape, layers = CASES[name]
    net = xcnn.Sequential(*layers)
    weights, x, dy = drawn(net, shape, 0, "float64")
    assert_alike(passes(net, plain(), weights, x, dy), passes(net, layers_alone(), weights, x, dy), "float64")


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("cells", [1, 1500])
def test_a_few_images_at_a_time_on_threads(name, cells, monkeypatch):
    """Workspaces so small that batches are cut, unequally, and every pass on three threads."""
    from xcnn_numpy.plain import cells as of_cells
    from xcnn_numpy.plain import lowering, normalisation

    monkeypatch.setattr(of_cells, "BLOCK", cells)
    monkeypatch.setattr(lowering, "WORKSPACE", cells)
    monkeypatch.setattr(normalisation, "BLOCK", cells)
    monkeypatch.setattr(blas, "LEAST", 0)
    lowering.lowering.cache_clear()
    shape, layers = CASES[name]
    net = xcnn.Sequential(*layers)
    weights, x, dy = drawn(net, shape, 11, "float64")
    first, again = (passes(net, plain(threads=3), weights, x, dy) for _ in range(2))
    lowering.lowering.cache_clear()
    assert_alike(first, passes(net, layers_alone(), weights, x, dy), "float64")
    for (name, grad), (_, same) in zip(tree.items(first[2]), tree.items(again[2]), strict=True):
        np.testing.assert_array_equal(grad, same, err_msg=name)


BY_SAMPLES = {
    "channels": xcnn.LayerNorm(axis=1),
    "whole samples": xcnn.LayerNorm(),
    "groups": xcnn.GroupNorm(4),
    "each channel": xcnn.InstanceNorm(),
    "neighbours": xcnn.LocalResponseNorm(),
}


@pytest.mark.parametrize("name", BY_SAMPLES)
def test_a_prediction_normalises_a_few_samples_at_a_time(name):
    """What is made on the way is not of the whole batch, and Y is the layer's."""
    net = xcnn.Sequential(BY_SAMPLES[name])
    weights, x, dy = drawn(net, (8, 32, 32), 64, "float32")
    alone = plain(threads=1)
    fused, asking = rewrite(alone, net, FUSES), Run(alone, wants_backward=False)
    assert isinstance(fused.plan[0][2], samples.BySamples)
    with alone.active():
        fused(weights, x[:1], asking)
        tracemalloc.start()
        y, _ = fused(weights, x, asking)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert most < 1.7 * x.nbytes  # Y itself, and scratch; by the whole batch it is four times and more
    np.testing.assert_allclose(y, net(weights, x, Run(layers_alone()))[0], 1e-5, 1e-6)
    y, backward = fused(weights, x, Run(alone, True, KEY))
    dx, grads = backward(dy)
    assert_alike((y, dx, grads), passes(net, layers_alone(), weights, x, dy), "float32")


def test_a_backward_pass_can_be_run_again():
    shape, layers = OTHERS["net"]
    net = xcnn.Sequential(*layers)
    weights, x, dy = drawn(net, shape, 3, "float64")
    before = x.copy()
    _, backward = plain().rewrite(net)(weights, x, Run(plain(), True, KEY))
    (dx, grads), (again, grads_again) = backward(dy), backward(dy)
    np.testing.assert_array_equal(dx, again)
    np.testing.assert_array_equal(grads["conv1"]["kernel"], grads_again["conv1"]["kernel"])
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("name", ["pooled, odd", "same", "stride 2", "dense, relu", "norm, relu", "dropout"])
def test_arrays_that_are_not_contiguous_or_not_writable(name):
    shape, layers = CASES[name]
    net = xcnn.Sequential(*layers)
    weights, x, dy = drawn(net, shape, 3, "float64")
    expected = passes(net, layers_alone(), weights, x, dy)
    turned = [np.asfortranarray(array) for array in (x, dy)]
    for array in turned:
        array.flags.writeable = False
    assert_alike(passes(net, plain(), weights, *turned), expected, "float64")


def test_no_gradient_of_x_where_nobody_wants_it():
    net = xcnn.Sequential(xcnn.Conv2D(3, 3), RELU)
    weights, x, dy = drawn(net, (2, 6, 7), 3, "float64")
    _, backward = plain().rewrite(net)(weights, x, Run(plain(), True, KEY, None, False))
    dx, grads = backward(dy)
    assert dx is None
    expected = passes(net, layers_alone(), weights, x, dy)[2]["conv1"]["kernel"]
    np.testing.assert_allclose(grads["conv1"]["kernel"], expected, 1e-10, 1e-10)


def test_equal_cells_and_nan_are_pooled_as_by_the_layers():
    """Weights and images of few whole numbers make ties, among them windows of zeros; then a NaN."""
    rng = np.random.default_rng(1)
    net = xcnn.Sequential(xcnn.Conv2D(3, 2), RELU, HALVE)
    weights = {"conv1": {"kernel": rng.integers(-1, 2, (3, 2, 2, 2)) * 1.0, "bias": np.array([0.0, 1.0, -1.0])}}
    x = rng.integers(-1, 2, (4, 2, 9, 9)) * 1.0
    dy = rng.normal(size=(4, 3, 4, 4))
    ours, layers = (passes(net, backend, weights, x, dy) for backend in (plain(), layers_alone()))
    assert_alike(ours, layers, "float64")
    x[1, 0, 4, 4] = np.nan
    ours, layers = (passes(net, backend, weights, x, dy) for backend in (plain(), layers_alone()))
    assert np.isnan(ours[0]).any()
    np.testing.assert_array_equal(np.isnan(ours[0]), np.isnan(layers[0]))
    np.testing.assert_allclose(ours[1], layers[1], 1e-10, 1e-10)


def test_small_and_large_numbers_through_a_sigmoid():
    net = xcnn.Sequential(xcnn.Dense(1, bias=False), SIGMOID)
    x = np.array([[-1000.0], [-100.0], [-88.0], [-20.0], [0.0], [20.0], [100.0], [1000.0], [np.nan]], "float32")
    weights = {"dense1": {"kernel": np.ones((1, 1), "float32")}}
    with np.errstate(over="raise"):
        ours, layers = (passes(net, b, weights, x, np.ones_like(x)) for b in (plain(), layers_alone()))
    np.testing.assert_array_equal(ours[0], layers[0])
    np.testing.assert_allclose(ours[1], layers[1], 1e-6)


def test_other_types_go_layer_by_layer():
    net = xcnn.Sequential(xcnn.Conv2D(2, 2), RELU, xcnn.BatchNorm())
    weights, x, _ = drawn(net, (1, 4, 4), 2, "float64")
    weights["batchnorm1"] = {name: w[:1] for name, w in weights["batchnorm1"].items()}
    for _, _, fusion in plain().rewrite(net).plan:
        assert fusion.fits(weights, x)
        assert not fusion.fits(weights, x.astype("float32"))
        assert not fusion.fits(weights, x[:, 0, 0])


def test_a_gradient_of_another_shape_is_refused_by_the_layer_s_name():
    net = plain().rewrite(xcnn.Sequential(xcnn.Conv2D(2, 2), RELU, xcnn.Flatten(), xcnn.Dense(3)))
    weights, _ = net.init(xcnn.core.random.generator(0), (1, 4, 4))
    weights = tree.map(lambda w: w.astype("float32"), weights)
    y, backward = net(weights, np.ones((2, 1, 4, 4), "float32"), Run(plain(), True, KEY))
    with pytest.raises(ShapeError, match=r"Dense 'dense1' got a gradient"):
        backward(y[:, 1:])


def test_blas_has_its_threads_back_after_overlapping_blocks():
    libraries = blas_threads.libraries()[0]
    before = [library.get_num_threads() for library in libraries]
    assert libraries, "NumPy's BLAS is not one that threadpoolctl knows"
    outer, inner = blas_threads.alone(), blas_threads.alone()
    outer.__enter__()
    inner.__enter__()
    outer.__exit__(None, None, None)
    assert {library.get_num_threads() for library in libraries} == {1}
    inner.__exit__(None, None, None)
    assert [library.get_num_threads() for library in libraries] == before


@pytest.mark.parametrize(
    ("options", "alone"), [({"threads": 2}, True), ({"threads": 1}, False), ({"fuse": False}, False)]
)
def test_blas_keeps_to_its_caller_in_a_step_that_our_threads_share(options, alone):
    libraries = blas_threads.libraries()[0]
    before = [library.get_num_threads() for library in libraries]
    seen = []

    def loss(y, t):
        seen.append([library.get_num_threads() for library in libraries])
        return xcnn.losses.mse(y, t)

    model = xcnn.Model(xcnn.Sequential(xcnn.Dense(2)), (3,), loss=loss, backend=plain(**options))
    model.fit(np.ones((4, 3), "float32"), np.ones((4, 2), "float32"), epochs=1, progress="none")
    assert seen[-1] == ([1] * len(libraries) if alone else before)
    assert [library.get_num_threads() for library in libraries] == before


def test_plain_fusions_are_chosen_where_the_library_is_missing(monkeypatch):
    from xcnn_numpy import backend as module

    monkeypatch.setattr(module.native, "library", lambda: None)
    net = xcnn.backend("numpy").rewrite(xcnn.Sequential(xcnn.Conv2D(2, 2), RELU))
    assert type(net.plan[0][2]).__module__ == "xcnn_numpy.plain.convolution"
    assert len(FUSES) >= 4


@pytest.mark.parametrize("algorithm", ["gemm", "native"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "layers",
    [(xcnn.Conv2D(3, 2, stride=2),), (xcnn.Conv2D(3, 2, stride=2), RELU), (xcnn.Conv2D(3, 2, stride=2), RELU, HALVE)],
    ids=["alone", "relu", "pooled"],
)
def test_a_cell_that_no_window_meets_may_be_anything(layers, dtype, algorithm):
    """The last row and column, which a stride leaves over, have no part in Y and in no gradient, be they not finite."""
    if algorithm == "native" and native.library() is None:
        pytest.skip("the compiled library was not built, or is switched off")
    backend = xcnn.backend("numpy", algorithm=algorithm)
    net = xcnn.Sequential(*layers)
    weights, x, dy = drawn(net, (2, 9, 9), 3, dtype)
    expected = passes(net, backend, weights, x, dy)
    assert_alike(expected, passes(net, layers_alone(), weights, x, dy), dtype)
    x[0, 0, :, 8], x[1, 1, 8, :], x[2] = np.inf, np.nan, np.where(np.arange(9) == 8, -np.inf, x[2])
    assert_alike(passes(net, backend, weights, x, dy), expected, dtype)


@pytest.mark.parametrize("algorithm", ["gemm", "native"])
def test_a_tap_that_does_not_meet_a_cell_knows_nothing_of_it(algorithm):
    """An infinite cell in the first column meets the kernel's first column alone."""
    if algorithm == "native" and native.library() is None:
        pytest.skip("the compiled library was not built, or is switched off")
    backend, net = xcnn.backend("numpy", algorithm=algorithm), xcnn.Sequential(xcnn.Conv2D(2, 3), RELU)
    weights, x, _ = drawn(net, (1, 6, 6), 2, "float64")
    x[1, 0, 2, 0] = np.inf
    weights["conv1"]["kernel"][:, :, :, 0] = np.abs(weights["conv1"]["kernel"][:, :, :, 0])
    with np.errstate(invalid="ignore"):
        grads = passes(net, backend, weights, x, np.ones((2, 2, 4, 4)))[2]
    np.testing.assert_array_equal(np.isfinite(grads["conv1"]["kernel"]), [[[[False, True, True]] * 3]] * 2)


def test_the_first_of_equal_cells_gets_the_gradient():
    """Held to NumPy's argmax, which takes the first, and not to layers that pool by the same code."""
    from xcnn_numpy.plain.pooling import pool, unpool

    rng = np.random.default_rng(0)
    x = rng.integers(-1, 3, (3, 2, 8, 6)).astype("float32")
    y, which, dx = np.empty((3, 2, 4, 3), "float32"), np.empty((3, 2, 4, 3), "uint8"), np.zeros_like(x)
    pool(x, y, which)
    cells = np.stack([x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)])
    np.testing.assert_array_equal(y, cells.max(axis=0))
    first, alive = cells.argmax(axis=0), cells.max(axis=0) > 0
    np.testing.assert_array_equal(which[alive], first[alive])
    dy = rng.normal(size=y.shape).astype("float32")
    unpool(dy, which, dx)
    for tap in range(4):
        i, j = divmod(tap, 2)
        np.testing.assert_array_equal(dx[:, :, i::2, j::2], np.where((first == tap) & alive, dy, 0))


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("some", [4, 5])
def test_a_last_block_of_fewer_images(name, some, monkeypatch):
    """Eleven images by fours leave three over, by fives one, which NumPy would spread over a room for more."""
    from xcnn_numpy.plain.lowering import Lowering

    monkeypatch.setattr(Lowering, "at_once", lambda way, images: some)
    shape, layers = CONVOLUTIONS[name]
    net = xcnn.Sequential(*layers)
    weights, x, dy = drawn(net, shape, 11, "float64")
    got = passes(net, plain(threads=1), weights, x, dy)
    assert_alike(got, passes(net, layers_alone(), weights, x, dy), "float64")


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_rows_of_an_image_by_bands(name, rows, monkeypatch):
    shape, layers = CONVOLUTIONS[name]
    net = xcnn.Sequential(*layers)
    weights, x, dy = drawn(net, shape, 3, "float64")
    expected = passes(net, layers_alone(), weights, x, dy)
    monkeypatch.setattr(lowering, "WORKSPACE", 1)
    way = plain().rewrite(net).plan[0][2].way(x.shape, weights["conv1"]["kernel"].shape)
    cells = way.output_pitch * (way.groups * way.taps + way.kernel[0])
    lowering.lowering.cache_clear()
    monkeypatch.setattr(lowering, "LARGEST", rows * cells)
    try:
        assert_alike(passes(net, plain(), weights, x, dy), expected, "float64")
        way = plain().rewrite(net).plan[0][2].way(x.shape, weights["conv1"]["kernel"].shape)
        assert sum(n for _, n in way.bands) == way.output[0]
        assert max(n for _, n in way.bands) <= rows
    finally:
        lowering.lowering.cache_clear()


def test_windows_of_a_large_image_take_no_more_memory_than_a_band_of_them():
    net = xcnn.Sequential(xcnn.Conv2D(4, 5, padding=2), RELU)
    weights, x, dy = drawn(net, (8, 300, 300), 1, "float32")
    fused, run = plain(kept_memory=0, threads=1), Run(plain(), True, KEY)
    net = fused.rewrite(net)
    with fused.active():
        tracemalloc.start()
        try:
            _, backward = net(weights, x, run)
            backward(dy)
            taken = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert taken < 60 * 2**20  # all windows of it are 69 MiB, and there are two arrays of that kind


@pytest.mark.parametrize("sizes", [(3, 9), (9, 3), (3, 3)])
def test_too_few_rows_to_pool_are_told_as_by_the_layers(sizes):
    net = xcnn.Sequential(xcnn.Conv2D(2, 3), RELU, HALVE)
    weights, _, _ = drawn(net, (1, 8, 8), 1, "float64")
    for backend in (plain(), layers_alone()):
        made = backend.rewrite(net) if backend.fuse else net
        with pytest.raises(ShapeError, match=r"X102.*MaxPool2D"):
            made(weights, np.ones((2, 1, *sizes)), Run(backend, True, KEY))


@pytest.mark.parametrize("terms", [0, 1, 7, 8, 9, 16, 17, 23])
def test_a_product_in_pieces_leaves_no_term_out(terms, monkeypatch, rng):
    monkeypatch.setattr(blas, "LONGEST", 8)
    a, b, out = rng.normal(size=(3, terms)), rng.normal(size=(terms, 5)), np.full((3, 5), np.nan)
    blas.product(a, b, out)
    np.testing.assert_allclose(out, [[np.dot(row, column) for column in b.T] for row in a], atol=1e-13)


@pytest.mark.parametrize("cells", [1, 7, 8, 9, 15, 16, 17])
def test_sums_of_lines_in_pieces_leave_no_cell_out(cells, monkeypatch, rng):
    from xcnn_numpy.plain import normalisation

    monkeypatch.setattr(normalisation, "LONGEST", 8)
    a, b = rng.normal(size=(3, 2, cells)), rng.normal(size=(3, 2, cells))
    np.testing.assert_allclose(normalisation.dot(a, b), np.einsum("ncx,ncx->c", a, b), atol=1e-13)
    np.testing.assert_allclose(normalisation.total(a), np.einsum("ncx->c", a), atol=1e-13)


def test_a_word_that_is_the_least_is_kept():
    """As the layer has it: word >= rate 2^32. One word in 2^32 is at the edge, so that the edge is put at a word."""
    from xcnn_numpy.plain.dropout import FusedDropout

    words = xcnn.core.random.bits(np, None, (3, 1, 0), (40,))
    fused = FusedDropout(plain(), "dropout1", xcnn.Dropout(0.5), 0)
    for least in (int(words[5]), int(words[33])):
        masked = fused.drawn(np.ones(40), Run(plain()), xcnn.core.random.fold((3, 1, 0)), least, 2.0)
        np.testing.assert_array_equal(masked(np.ones(40)), np.where(words >= least, 2.0, 0.0))


def test_each_thread_has_a_workspace_whichever_is_first(monkeypatch):
    """So what a process takes does not depend on the machine's load: here the ranges are computed one after another."""
    alive, most = weakref.WeakSet(), []

    class Counted(lowering.Workspace):
        def __init__(self, *options):
            super().__init__(*options)
            alive.add(self)
            most[-1] = max(most[-1], len(alive))

    def in_turn(work, count, parts):
        most.append(0)
        return [work(*each) for each in threads.ranges(count, parts)]

    monkeypatch.setattr(convolution, "Workspace", Counted)
    monkeypatch.setattr(blas.threads, "share", in_turn)
    net = xcnn.Sequential(xcnn.Conv2D(32, 3), xcnn.ReLU())
    passes(net, plain(threads=2), *drawn(net, (32, 28, 28), 8, "float32"))
    assert most == [2, 2]  # forward, backward
    assert not alive
