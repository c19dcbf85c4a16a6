"""Layers against closed forms and NumPy: what needs no other framework."""

import numpy as np
import pytest
from whole import whole

from xcnn.core import tree
from xcnn.layers import (
    AveragePool2D,
    Concatenate,
    Conv1D,
    Conv2D,
    Conv2DTranspose,
    Dense,
    DepthwiseConv2D,
    Dropout,
    GlobalAveragePool2D,
    GlobalMaxPool2D,
    MaxPool2D,
    ReLU,
    Reshape,
    Residual,
    Run,
    Sequential,
    Tanh,
    UpSampling2D,
    ZeroPadding2D,
)


def drawn(layer, input_shape, seed=0):
    """The layer's weights, its biases too away from zero."""
    rng = np.random.default_rng(seed)
    return tree.map(lambda w: w + rng.standard_normal(w.shape), layer.init(rng, input_shape)[0])


def apply(layer, backend, x, weights=None, dy=None):
    """Y, dx and the gradients on the host, for dy = 1 if none is given."""
    weights = drawn(layer, x.shape[1:]) if weights is None else weights
    y, backward = whole(layer, backend)(
        tree.map(backend.asarray, weights), backend.asarray(x), Run(backend, True, (5,))
    )
    y = backend.to_numpy(y)
    dx, grads = backward(backend.asarray(np.ones_like(y) if dy is None else dy))
    return y, backend.to_numpy(dx), tree.map(backend.to_numpy, grads)


def test_a_kernel_of_ones_sums_its_window(backend, rng):
    x = rng.standard_normal((2, 3, 5, 4))
    weights = {"kernel": np.ones((2, 3, 5, 4)), "bias": np.asarray([1.0, -1.0])}
    y, dx, grads = apply(Conv2D(2, (5, 4)), backend, x, weights)
    np.testing.assert_allclose(y[:, :, 0, 0], x.sum(axis=(1, 2, 3))[:, None] + [1, -1], rtol=1e-12)
    np.testing.assert_allclose(dx, np.full_like(x, 2))
    np.testing.assert_allclose(grads["kernel"][1], x.sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(grads["bias"], [2, 2])


def test_a_delta_shifts_the_image(backend, rng):
    """A kernel that is 1 in one cell takes the image from there: correlation, not convolution."""
    x = rng.standard_normal((1, 1, 5, 6))
    kernel = np.zeros((1, 1, 3, 3))
    kernel[0, 0, 0, 2] = 1
    y, _, _ = apply(Conv2D(1, 3, bias=False), backend, x, {"kernel": kernel})
    np.testing.assert_array_equal(y, x[:, :, :3, 2:])


def test_transposed_convolution_lays_kernels_down(backend):
    x = np.asarray([[[[1.0, 2.0]]]])
    kernel = np.asarray([[[[1.0, 10.0, 100.0]]]])
    y, _, _ = apply(Conv2DTranspose(1, (1, 3), stride=(1, 2), bias=False), backend, x, {"kernel": kernel})
    np.testing.assert_array_equal(y, [[[[1, 10, 102, 20, 200]]]])


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
def test_same_transposed_convolution_makes_n_times_stride(stride, kernel):
    layer = Conv2DTranspose(1, kernel, stride=stride, padding="same")
    assert layer.init(np.random.default_rng(0), (2, 4, 5))[1] == (1, 4 * stride, 5 * stride)
    assert Conv2D(2, kernel, stride=stride, padding="same").init(np.random.default_rng(0), (1, 4 * stride, 5 * stride))[
        1
    ] == (2, 4, 5)


@pytest.mark.parametrize("padding", ["valid", "same", "full", 1, ((1, 0), (2, 1))])
def test_transposed_convolution_is_the_adjoint_of_convolution(padding, backend, rng):
    """<conv(x), y> = <x, transposed(y)>, with one kernel and one set of options."""
    x = rng.standard_normal((2, 3, 8, 6))
    conv = Conv2D(4, (3, 2), stride=2, padding=padding, bias=False)
    weights = drawn(conv, (3, 8, 6))
    image, _, _ = apply(conv, backend, x, weights)
    y = rng.standard_normal(image.shape)
    sizes = Conv2DTranspose(3, (3, 2), stride=2, padding=padding).output_size(image.shape[2:])
    extra = 0 if padding == "same" else tuple(n - m for n, m in zip((8, 6), sizes, strict=True))
    back, _, _ = apply(
        Conv2DTranspose(3, (3, 2), stride=2, padding=padding, output_padding=extra, bias=False), backend, y, weights
    )
    np.testing.assert_allclose(np.sum(image * y), np.sum(x * back), rtol=1e-12)


def test_depthwise_convolution_is_one_convolution_a_channel(backend, rng):
    x = rng.standard_normal((2, 3, 5, 6))
    layer = DepthwiseConv2D((2, 3), depth_multiplier=2)
    weights = drawn(layer, (3, 5, 6))
    y, dx, _ = apply(layer, backend, x, weights)
    for c in range(3):
        own = {name: w[2 * c : 2 * c + 2] for name, w in weights.items()}
        one, dx_one, _ = apply(Conv2D(2, (2, 3)), backend, x[:, c : c + 1], own)
        np.testing.assert_allclose(y[:, 2 * c : 2 * c + 2], one, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(dx[:, c : c + 1], dx_one, rtol=1e-12, atol=1e-12)


def test_one_dimensional_convolution_against_numpy(backend, rng):
    x, kernel = rng.standard_normal((1, 1, 9)), rng.standard_normal((1, 1, 4))
    for mode in ("valid", "full"):
        y, _, _ = apply(Conv1D(1, 4, padding=mode, bias=False), backend, x, {"kernel": kernel})
        np.testing.assert_allclose(y[0, 0], np.correlate(x[0, 0], kernel[0, 0], mode), rtol=1e-12, atol=1e-12)


def test_pools_of_a_ramp(backend):
    x = np.arange(24.0).reshape(1, 1, 4, 6)
    np.testing.assert_array_equal(apply(MaxPool2D(), backend, x)[0], [[[[7, 9, 11], [19, 21, 23]]]])
    np.testing.assert_array_equal(apply(AveragePool2D(), backend, x)[0], [[[[3.5, 5.5, 7.5], [15.5, 17.5, 19.5]]]])


def test_padded_cells_count_for_nothing_in_pools(backend):
    x = np.full((1, 1, 3, 3), -5.0)
    for layer in (
        MaxPool2D(3, 1, padding=1),
        AveragePool2D(3, 1, padding=1),
        MaxPool2D(2, 2, padding="same"),
        AveragePool2D(2, 2, padding="same"),
    ):
        y, dx, _ = apply(layer, backend, x)
        np.testing.assert_array_equal(y, np.full_like(y, -5.0))
        np.testing.assert_allclose(dx.sum(), y.size)  # no gradient is lost on the padding


def test_the_first_of_equal_maxima_gets_the_gradient(backend):
    x = np.asarray([[[[1.0, 3.0], [3.0, 0.0]], [[2.0, 2.0], [2.0, 2.0]]]])
    first = [[[[0, 1], [0, 0]], [[1, 0], [0, 0]]]]
    for layer in (GlobalMaxPool2D(), MaxPool2D()):
        np.testing.assert_array_equal(apply(layer, backend, x)[1], first)


def test_global_pools_against_numpy(backend, rng):
    x = rng.standard_normal((2, 3, 4, 5))
    y, dx, _ = apply(GlobalAveragePool2D(), backend, x)
    np.testing.assert_allclose(y, x.mean(axis=(2, 3)), rtol=1e-12)
    np.testing.assert_allclose(dx, np.full_like(x, 1 / 20))
    np.testing.assert_array_equal(apply(GlobalMaxPool2D(), backend, x)[0], x.max(axis=(2, 3)))


def test_nearest_upsampling_against_numpy(backend, rng):
    x = rng.standard_normal((2, 3, 4, 5))
    y, dx, _ = apply(UpSampling2D((2, 3)), backend, x)
    np.testing.assert_array_equal(y, x.repeat(2, axis=2).repeat(3, axis=3))
    np.testing.assert_array_equal(dx, np.full_like(x, 6))


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_bilinear_upsampling_of_a_ramp(size, backend):
    """A plane stays a plane, held at its outermost cells."""
    rows, columns = (np.clip((np.arange(n * size) + 0.5) / size - 0.5, 0, n - 1) for n in (4, 6))
    x = 2.0 * np.arange(4)[:, None] - 3.0 * np.arange(6)
    y, dx, _ = apply(UpSampling2D(size, "bilinear"), backend, x[None, None])
    np.testing.assert_allclose(y[0, 0], 2 * rows[:, None] - 3 * columns, atol=1e-13)
    np.testing.assert_allclose(dx.sum(), 24 * size**2)


def test_zero_padding_and_reshape_against_numpy(backend, rng):
    x = rng.standard_normal((2, 3, 4, 5))
    y, dx, _ = apply(ZeroPadding2D(((1, 2), (0, 3))), backend, x)
    np.testing.assert_array_equal(y, np.pad(x, ((0, 0), (0, 0), (1, 2), (0, 3))))
    np.testing.assert_array_equal(dx, np.ones_like(x))
    np.testing.assert_array_equal(apply(Reshape((5, -1)), backend, x)[0], x.reshape(2, 5, 12))
    assert apply(Reshape((5, -1)), backend, x[:0])[0].shape == (0, 5, 12)


def test_residual_adds_its_shortcut(backend, rng):
    x = rng.standard_normal((3, 4))
    net = Residual(Dense(4), Tanh(), head=Dense(2), shortcut=Dense(2))
    weights = drawn(net, (4,))
    assert list(weights) == ["dense1", "head", "shortcut"]
    y, dx, grads = apply(net, backend, x, weights)
    body, beside = Sequential(Dense(4), Tanh(), head=Dense(2)), Dense(2)
    y_body, dx_body, grads_body = apply(body, backend, x, {name: weights[name] for name in ("dense1", "head")})
    y_beside, dx_beside, grads_beside = apply(beside, backend, x, weights["shortcut"])
    np.testing.assert_allclose(y, y_body + y_beside, rtol=1e-12)
    np.testing.assert_allclose(dx, dx_body + dx_beside, rtol=1e-12)
    expected = dict(tree.items({**grads_body, "shortcut": grads_beside}))
    assert list(dict(tree.items(grads))) == list(expected)
    for name, gradient in tree.items(grads):
        np.testing.assert_allclose(gradient, expected[name], rtol=1e-12, atol=1e-12)


def test_residual_without_a_shortcut_adds_its_input(backend, rng):
    x = rng.standard_normal((3, 4))
    y, dx, _ = apply(Residual(ReLU()), backend, x)
    np.testing.assert_array_equal(y, np.maximum(x, 0) + x)
    np.testing.assert_array_equal(dx, 1.0 + (x > 0))


def test_residual_body_draws_as_sequential_does(backend, rng):
    """The same keys, so that a Residual without a shortcut is a Sequential plus its input."""
    x = rng.standard_normal((3, 40))
    inside, _, _ = apply(Sequential(Tanh(), Dropout(0.5)), backend, x)
    y, _, _ = apply(Residual(Tanh(), Dropout(0.5)), backend, x)
    np.testing.assert_allclose(y, inside + x, rtol=1e-12)


def test_concatenate_joins_channels(backend, rng):
    x = rng.standard_normal((2, 3, 4, 5))
    net = Concatenate(Conv2D(2, 1), Sequential(), ReLU(), wide=Conv2D(4, 3, padding="same"))
    weights = drawn(net, (3, 4, 5))
    assert list(weights) == ["conv1", "wide"]
    dy = rng.standard_normal((2, 12, 4, 5))
    y, dx, grads = apply(net, backend, x, weights, dy)
    parts = [
        apply(layer, backend, x, weights.get(name, {}), dy[:, start:stop])
        for (name, layer), (start, stop) in zip(net.named, ((0, 2), (2, 5), (5, 8), (8, 12)), strict=True)
    ]
    np.testing.assert_allclose(y, np.concatenate([part[0] for part in parts], axis=1), rtol=1e-12)
    np.testing.assert_allclose(dx, sum(part[1] for part in parts), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(grads["wide"]["kernel"], parts[3][2]["kernel"], rtol=1e-12, atol=1e-12)
