"""Sums over many cells, in both engines of NumPy's backend: their errors are bounded, however long the sums are.

A sum of n rounded terms is off by at most n spacings of the type; in one chain it comes near to that where the terms
are equal. By blocks of a few thousand along vectors, or a thousand in one chain, whose sums are then added, it stays
below a number of spacings that n has next to no part in.
"""

import numpy as np
import pytest
from xcnn_native import library as native

import xcnn
from xcnn.layers.layer import Next, Run

EPS = float(np.finfo("float32").eps)
FEW = 256 * EPS
"""Relative to the sum of the terms' absolute values: 3e-5, a quarter of a thousand roundings of half a spacing."""
ENGINES = ["native", "gemm"]


@pytest.fixture(params=ENGINES)
def engine(request):
    """NumPy's backend with the compiled library and without."""
    if request.param == "native" and native.library() is None:
        pytest.skip("the compiled library was not built, or is switched off")
    return xcnn.backend("numpy", algorithm=request.param, threads=2)


def run(backend, layer, weights, x, dy):
    y, backward = backend.rewrite(xcnn.Sequential(layer=layer))({"layer": weights}, x, Run(backend, True, (3, 1)))
    dx, grads = backward(dy)
    return y, dx, {name: g.value if isinstance(g, Next) else g for name, g in grads.get("layer", {}).items()}


def test_mean_of_a_large_plane(engine):
    x = np.full((1, 1, 4096, 4096), 0.1, "float32")
    y, dx, _ = run(engine, xcnn.GlobalAveragePool2D(), {}, x, np.ones((1, 1), "float32"))
    assert y[0, 0] == pytest.approx(float(x[0, 0, 0, 0]), rel=FEW)
    assert dx[0, 0, 5, 7] == 2.0**-24


def test_statistics_of_a_large_plane(engine, rng):
    """Of mean 1e4 and deviation 1: the variance is that of float64, and so are the sums of the gradients."""
    x = (1e4 + rng.standard_normal((1, 1, 2048, 2048))).astype("float32")
    dy = (0.1 + 0.01 * rng.standard_normal(x.shape)).astype("float32")
    weights = {
        "scale": np.ones(1, "float32"), "bias": np.zeros(1, "float32"), "running_mean": np.zeros(1, "float32"),
        "running_variance": np.zeros(1, "float32"),
    }  # fmt: skip
    y, _, grads = run(engine, xcnn.BatchNorm(momentum=0.0), weights, x, dy)
    wide, slope = x.astype("float64"), dy.astype("float64")
    mean, variance = wide.mean(), wide.var()
    assert grads["running_mean"][0] == pytest.approx(mean, rel=EPS)
    # the mean itself, as a float32, is off by half a spacing
    assert grads["running_variance"][0] == pytest.approx(variance, rel=FEW)
    assert grads["bias"][0] == pytest.approx(slope.sum(), rel=FEW)
    x_hat = (wide - mean) / np.sqrt(variance + 1e-3)
    off = abs(grads["scale"][0] - np.sum(slope * x_hat))
    assert off <= FEW * np.abs(slope * x_hat).sum() + slope.sum() * np.spacing(np.float32(1e4))
    assert np.abs(y - x_hat).max() <= 2 * np.spacing(np.float32(1e4))


@pytest.mark.parametrize(("equal", "bias"), [(True, True), (False, "untied")])
def test_gradients_of_a_convolution_of_a_large_plane(engine, rng, equal, bias):
    x = np.full((1, 1, 1024, 1024), 0.3, "float32") if equal else rng.random((1, 1, 1024, 1024), "float32")
    dy = np.full((1, 2, 1024, 1024), 0.1, "float32") if equal else rng.random((1, 2, 1024, 1024), "float32")
    b = np.zeros(2 if bias is True else (2, 1024, 1024), "float32")
    weights = {"kernel": np.ones((2, 1, 3, 3), "float32"), "bias": b}
    _, _, grads = run(engine, xcnn.Conv2D(2, 3, padding=1, bias=bias), weights, x, dy)
    padded, slope = np.pad(x[0, 0].astype("float64"), 1), dy[0].astype("float64")
    for o in range(2):
        expected = [[np.sum(padded[i : i + 1024, j : j + 1024] * slope[o]) for j in range(3)] for i in range(3)]
        np.testing.assert_allclose(grads["kernel"][o, 0], expected, rtol=FEW)
    expected = slope.sum(axis=(1, 2)) if bias is True else slope
    np.testing.assert_allclose(grads["bias"], expected, rtol=FEW)


@pytest.mark.parametrize("algorithm", ["native", "gemm", "literal"])
def test_kernel_gradient_by_the_primitive(algorithm):
    """Layer by layer, all the algorithms that sum along the plane."""
    if algorithm == "native" and native.library() is None:
        pytest.skip("the compiled library was not built, or is switched off")
    x, dy = np.full((1, 1, 514, 514), 0.3, "float32"), np.full((1, 1, 512, 512), 0.1, "float32")
    how = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}
    dk = xcnn.backend("numpy", algorithm=algorithm).correlate_kernel_adjoint(x, dy, (1, 1, 3, 3), **how)
    assert dk.dtype == np.float32
    np.testing.assert_allclose(dk, float(x[0, 0, 0, 0]) * float(dy[0, 0, 0, 0]) * 512**2, rtol=FEW)


@pytest.mark.parametrize("algorithm", ["native", "gemm"])
@pytest.mark.parametrize(("filters", "cells"), [(1, 2), (2, 2), (2, 4), (16, 1)])
def test_sums_over_many_channels_by_the_primitives(algorithm, filters, cells):
    """Few outputs of long sums each, which BLAS may take in one chain: forward, and back over filters."""
    if algorithm == "native" and native.library() is None:
        pytest.skip("the compiled library was not built, or is switched off")
    backend, n, size = xcnn.backend("numpy", algorithm=algorithm), 8192, cells + 2
    how = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}
    x, k = np.full((1, n, size, size), 0.3, "float32"), np.full((filters, n, 3, 3), 0.7, "float32")
    term = float(x[0, 0, 0, 0]) * float(k[0, 0, 0, 0])
    np.testing.assert_allclose(backend.correlate(x, k, **how), term * 9 * n, rtol=FEW)
    dy, k = np.full((1, n, cells, cells), 0.3, "float32"), np.full((n, filters, 3, 3), 0.7, "float32")
    along = np.convolve(np.ones(cells), np.ones(3))
    for layer in (None, xcnn.Conv2D(n, 3, bias=False)):
        if layer is None:
            dx = backend.correlate_input_adjoint(dy, k, (1, filters, size, size), **how)
        else:
            _, dx, _ = run(backend, layer, {"kernel": k}, np.zeros((1, filters, size, size), "float32"), dy)
        np.testing.assert_allclose(dx, np.broadcast_to(term * n * np.outer(along, along), dx.shape), rtol=FEW)


@pytest.mark.parametrize("bias", [True, "untied"])
def test_gradients_of_a_convolution_of_many_images(engine, bias):
    """Equal images: a running sum in float32 errs to one side."""
    n = 20_000
    x, dy = np.full((n, 1, 4, 4), 0.3, "float32"), np.full((n, 1, 2, 2), 0.1, "float32")
    b = np.zeros(1 if bias is True else (1, 2, 2), "float32")
    _, _, grads = run(
        engine, xcnn.Conv2D(1, 3, bias=bias), {"kernel": np.ones((1, 1, 3, 3), "float32"), "bias": b}, x, dy
    )
    a, c = float(x[0, 0, 0, 0]), float(dy[0, 0, 0, 0])
    np.testing.assert_allclose(grads["kernel"], a * c * 4 * n, rtol=FEW)
    np.testing.assert_allclose(grads["bias"], c * n * (4 if bias is True else 1), rtol=FEW)


@pytest.mark.parametrize("units", [1, 5, 16, 37])
def test_gradients_of_a_dense_layer_of_many_samples(engine, units):
    n = 100_000
    x, dy = np.full((n, 3), 0.3, "float32"), np.full((n, units), 0.1, "float32")
    weights = {"kernel": np.ones((3, units), "float32"), "bias": np.zeros(units, "float32")}
    _, _, grads = run(engine, xcnn.Dense(units), weights, x, dy)
    a, c = float(x[0, 0]), float(dy[0, 0])
    np.testing.assert_allclose(grads["kernel"], a * c * n, rtol=FEW)
    np.testing.assert_allclose(grads["bias"], c * n, rtol=FEW)


@pytest.mark.parametrize("units", [1, 5, 16, 37])
def test_sums_of_a_dense_layer_over_many_features(engine, units):
    """And, its gradient turned round, over many units."""
    x, dy = np.full((2, 50_000), 0.3, "float32"), np.full((2, units), 0.1, "float32")
    weights = {"kernel": np.full((50_000, units), 0.7, "float32"), "bias": np.zeros(units, "float32")}
    y, _, _ = run(engine, xcnn.Dense(units), weights, x, dy)
    np.testing.assert_allclose(y, float(x[0, 0]) * float(weights["kernel"][0, 0]) * 50_000, rtol=FEW)
    weights = {"kernel": np.full((units, 50_000), 0.7, "float32"), "bias": np.zeros(50_000, "float32")}
    _, dx, _ = run(engine, xcnn.Dense(50_000), weights, np.ones((2, units), "float32"), x)
    np.testing.assert_allclose(dx, float(x[0, 0]) * float(weights["kernel"][0, 0]) * 50_000, rtol=FEW)


@pytest.mark.parametrize("side", [53, 48])
def test_sums_of_a_convolution_over_many_taps(engine, side):
    """Kernels nearly as large as the images: on rows of whole half vectors and on others."""
    x = np.full((1, 1, side + 15, side + 15), 0.3, "float32")
    weights = {"kernel": np.full((1, 1, side, side), 0.7, "float32"), "bias": np.zeros(1, "float32")}
    layer = xcnn.Conv2D(1, side)
    y, dx, _ = run(engine, layer, weights, x, np.full((1, 1, 16, 16), 0.1, "float32"))
    np.testing.assert_allclose(y, float(x[0, 0, 0, 0]) * float(weights["kernel"][0, 0, 0, 0]) * side**2, rtol=FEW)
    along = np.convolve(np.ones(16), np.ones(side))  # how many windows a row of x lies in
    expected = float(np.float32(0.1)) * float(weights["kernel"][0, 0, 0, 0]) * np.outer(along, along)
    np.testing.assert_allclose(dx[0, 0], expected, rtol=FEW)


@pytest.mark.parametrize("stride", [1, 64])
def test_average_of_large_windows(engine, stride):
    x = np.full((1, 1, 256, 256), 0.1, "float32")
    layer = xcnn.AveragePool2D(128, stride=stride)
    size = (256 - 128) // stride + 1
    y, dx, _ = run(engine, layer, {}, x, np.full((1, 1, size, size), 0.1, "float32"))
    value = float(x[0, 0, 0, 0])
    np.testing.assert_allclose(y, np.full((1, 1, size, size), value), rtol=FEW)
    along = np.array([sum(0 <= n - s * stride < 128 for s in range(size)) for n in range(256)])
    np.testing.assert_allclose(dx[0, 0], value * np.outer(along, along) / 128**2, rtol=FEW)


def test_the_norm_that_clips(rng):
    """Of equal gradients, in blocks and as compiled loops."""
    from xcnn_numpy import update

    for size in (50_000, 2**20 + 77):
        g = np.full(size, 0.1, "float32")
        ways = [update.sum_of_squares, update.implementation()[1]]
        for squares in ways:
            assert squares(g) == pytest.approx(size * float(g[0]) ** 2, rel=16 * EPS)


# Where sums are cut, no term is left out and none counts twice: whole numbers, whose sums are exact.


def whole(rng, *shape):
    return rng.integers(-2, 3, shape).astype("float32")


@pytest.mark.parametrize("terms", [1023, 1024, 1025, 2051, 4095, 4097, 8193])
@pytest.mark.parametrize("units", [1, 5, 16, 37])
def test_a_dense_layer_s_pieces(engine, rng, units, terms):
    for n, features, out in ((3, terms, units), (terms, 4, units), (2, 5, terms)):
        x, dy, kernel, bias = whole(rng, n, features), whole(rng, n, out), whole(rng, features, out), whole(rng, out)
        y, dx, grads = run(engine, xcnn.Dense(out), {"kernel": kernel, "bias": bias}, x, dy)
        np.testing.assert_array_equal(y, x.astype(int) @ kernel.astype(int) + bias)
        np.testing.assert_array_equal(dx, dy.astype(int) @ kernel.astype(int).T)
        np.testing.assert_array_equal(grads["kernel"], x.astype(int).T @ dy.astype(int))
        np.testing.assert_array_equal(grads["bias"], dy.sum(axis=0))


@pytest.mark.parametrize("channels", [113, 114, 128, 229])
@pytest.mark.parametrize("size", [(7, 9), (8, 16)])
def test_a_convolution_s_pieces(engine, rng, channels, size):
    """About a thousand taps forward and back; also where rows have whole half vectors."""
    x, kernel = whole(rng, 2, channels, *size), whole(rng, 3, channels, 3, 3)
    dy = whole(rng, 2, 3, *size)
    y, dx, grads = run(engine, xcnn.Conv2D(3, 3, padding=1, bias=False), {"kernel": kernel}, x, dy)
    seen = np.lib.stride_tricks.sliding_window_view(np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))), (3, 3), (2, 3))
    np.testing.assert_array_equal(y, np.einsum("ncuvij,ocij->nouv", seen, kernel, optimize=True))
    np.testing.assert_array_equal(grads["kernel"], np.einsum("ncuvij,nouv->ocij", seen, dy, optimize=True))
    turned = np.pad(dy, ((0, 0), (0, 0), (1, 1), (1, 1)))
    turned = np.lib.stride_tricks.sliding_window_view(turned, (3, 3), (2, 3))
    expected = np.einsum("nouvij,ocij->ncuv", turned, kernel[:, :, ::-1, ::-1], optimize=True)
    np.testing.assert_array_equal(dx, expected)


@pytest.mark.parametrize("size", [(64, 64), (64, 65), (63, 65), (65, 129), (90, 91)])
def test_a_plane_s_pieces(engine, rng, size):
    """Around 4096 cells, and twice as many: gradients of a convolution, means, and sums of a normalisation.

    These are not of whole numbers: 4096 cells along vectors are at most 128 additions to a lane.
    """
    x, dy = whole(rng, 1, 1, size[0] + 2, size[1] + 2), whole(rng, 1, 2, *size)
    weights = {"kernel": whole(rng, 2, 1, 3, 3), "bias": whole(rng, 2)}
    _, _, grads = run(engine, xcnn.Conv2D(2, 3), weights, x, dy)
    seen = np.lib.stride_tricks.sliding_window_view(x[0, 0], (3, 3))
    np.testing.assert_array_equal(grads["kernel"][:, 0], np.einsum("uvij,ouv->oij", seen, dy[0]))
    np.testing.assert_array_equal(grads["bias"], dy[0].sum(axis=(1, 2)))
    y, _, _ = run(engine, xcnn.GlobalAveragePool2D(), {}, x, np.ones((1, 1), "float32"))
    assert y[0, 0] == np.float32(x.sum(dtype="float64") / x.size)
    weights = {"scale": 1.0, "bias": 0.0, "running_mean": 0.0, "running_variance": 0.0}
    weights = {name: np.full(1, value, "float32") for name, value in weights.items()}
    slope = whole(rng, *x.shape)
    _, _, grads = run(engine, xcnn.BatchNorm(momentum=0.0), weights, x, slope)
    assert grads["running_mean"][0] == np.float32(x.sum(dtype="float64") / x.size)
    assert grads["running_variance"][0] == pytest.approx(x.var(ddof=1, dtype="float64"), rel=64 * EPS)
    assert grads["bias"][0] == slope.sum(dtype="float64")
    wide = x.astype("float64")
    x_hat = (wide - wide.mean()) / np.sqrt(wide.var() + 1e-3)
    assert grads["scale"][0] == pytest.approx(np.sum(slope * x_hat), abs=64 * EPS * np.sum(np.abs(slope * x_hat)))
