"""Normalising layers: what they promise of mean and variance, and the running statistics."""

import numpy as np
import pytest

from xcnn.core import tree
from xcnn.layers import BatchNorm, GroupNorm, LayerNorm, Next, Run


def apply(layer, backend, x, *, train=True, weights=None):
    """Y, the gradients for dy = 1, and the weights, all on the host."""
    weights = layer.init(np.random.default_rng(0), x.shape[1:])[0] if weights is None else weights
    y, backward = layer(tree.map(backend.asarray, weights), backend.asarray(x), Run(backend, train))
    _, grads = backward(backend.asarray(np.ones_like(x)))
    fetch = backend.to_numpy
    return fetch(y), tree.map(lambda g: Next(fetch(g.value)) if isinstance(g, Next) else fetch(g), grads), weights


@pytest.mark.parametrize(
    ("layer", "shape", "axes"),
    [
        (BatchNorm(epsilon=1e-9), (4, 3, 5, 6), (0, 2, 3)),
        (BatchNorm(epsilon=1e-9), (6, 3), (0,)),
        (LayerNorm(epsilon=1e-9), (2, 3, 4, 5), (1, 2, 3)),
        (LayerNorm(axis=1, epsilon=1e-9), (2, 3, 4, 5), (1,)),
        (GroupNorm(1, epsilon=1e-9), (2, 4, 3, 5), (1, 2, 3)),
        (GroupNorm(4, epsilon=1e-9), (2, 4, 3, 5), (2, 3)),
    ],
    ids=repr,
)
def test_mean_is_0_and_variance_1(layer, shape, axes, backend, rng):
    y, _, _ = apply(layer, backend, 50 + 7 * rng.standard_normal(shape))
    np.testing.assert_allclose(y.mean(axis=axes), 0, atol=1e-12)
    np.testing.assert_allclose(y.var(axis=axes), 1, rtol=1e-7)


def test_batch_norm_moves_its_running_statistics(backend, rng):
    x = 3 + 2 * rng.standard_normal((4, 2, 3, 5))
    _, grads, _ = apply(BatchNorm(momentum=0.9), backend, x)
    mean, variance = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3), ddof=1)
    np.testing.assert_allclose(grads["running_mean"].value, 0.1 * mean, rtol=1e-13)
    np.testing.assert_allclose(grads["running_variance"].value, 0.9 + 0.1 * variance, rtol=1e-13)


def test_running_statistics_converge_to_the_data(backend):
    rng = np.random.default_rng(1)
    weights = None
    for _ in range(60):
        _, grads, weights = apply(
            BatchNorm(momentum=0.9), backend, 3 + 2 * rng.standard_normal((200, 2)), weights=weights
        )
        weights = {name: g.value if isinstance(g := grads[name], Next) else w for name, w in weights.items()}
    np.testing.assert_allclose(weights["running_mean"], 3, atol=0.15)
    np.testing.assert_allclose(weights["running_variance"], 4, atol=0.4)
    y, _, _ = apply(BatchNorm(), backend, np.asarray([[3.0, 5.0]]), train=False, weights=weights)
    np.testing.assert_allclose(y, [[0, 1]], atol=0.1)


@pytest.mark.parametrize(("batch", "train"), [(0, True), (1, True), (0, False), (5, False)])
def test_batch_norm_keeps_its_running_statistics(batch, train, backend, rng):
    """Where there is nothing to learn from: fewer than two cells a channel, or evaluation."""
    weights = {name: 0.5 + rng.random(3) for name in ("scale", "bias", "running_mean", "running_variance")}
    y, grads, _ = apply(BatchNorm(), backend, rng.standard_normal((batch, 3)), train=train, weights=weights)
    assert y.shape == (batch, 3)
    assert np.all(np.isfinite(y))
    for name in ("running_mean", "running_variance"):
        np.testing.assert_array_equal(grads[name].value, weights[name])
    np.testing.assert_array_equal(grads["bias"], np.full(3, batch))


def test_a_batch_of_one_image_normalises_its_channels(backend, rng):
    x = rng.standard_normal((1, 2, 4, 4))
    y, grads, _ = apply(BatchNorm(), backend, x)
    np.testing.assert_allclose(y, (x - x.mean((2, 3), keepdims=True)) / np.sqrt(x.var((2, 3), keepdims=True) + 1e-3))
    np.testing.assert_allclose(grads["running_mean"].value, 0.01 * x.mean((0, 2, 3)), rtol=1e-12)


def test_a_constant_channel_stays_finite_in_float32(backend):
    x = np.full((4, 2, 3, 3), 1e4, dtype=np.float32)
    for layer in (BatchNorm(), LayerNorm(), GroupNorm(2)):
        weights = {
            name: w.astype(np.float32) for name, w in layer.init(np.random.default_rng(0), x.shape[1:])[0].items()
        }
        y, grads, _ = apply(layer, backend, x, weights=weights)
        np.testing.assert_array_equal(y, np.zeros_like(x))
        assert np.all(np.isfinite(grads["scale"]))


def test_layer_norm_of_all_axes_equals_group_norm_of_one_group(backend, rng):
    x = rng.standard_normal((2, 4, 3, 3))
    np.testing.assert_allclose(apply(LayerNorm(), backend, x)[0], apply(GroupNorm(1), backend, x)[0], rtol=1e-12)
