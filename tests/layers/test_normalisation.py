"""Normalising layers: what they promise of mean and variance, and the running statistics."""

from math import comb

import numpy as np
import pytest
from whole import whole

from xcnn import SGD, Adam, Model, nets
from xcnn.core import tree
from xcnn.layers import BatchNorm, Dense, Flatten, GroupNorm, LayerNorm, Next, ReLU, Run, Sequential
from xcnn.layers.batch_norm import RUNNING


def apply(layer, backend, x, *, train=True, weights=None):
    """Y, the gradients for dy = 1, and the weights, all on the host."""
    weights = layer.init(np.random.default_rng(0), x.shape[1:])[0] if weights is None else weights
    y, backward = whole(layer, backend)(tree.map(backend.asarray, weights), backend.asarray(x), Run(backend, train))
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
    """By PyTorch's rule where they have seen many batches, or are somebody's who does not count them."""
    x, before = (
        3 + 2 * rng.standard_normal((4, 2, 3, 5)),
        {"running_mean": rng.random(2), "running_variance": np.ones(2)},
    )
    mean, variance = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3), ddof=1)
    for steps in ({}, {"running_steps": np.zeros(1)}, {"running_steps": np.full(1, 81.0)}):
        weights = {"scale": np.ones(2), "bias": np.zeros(2), **before, **steps}
        _, grads, _ = apply(BatchNorm(momentum=0.9), backend, x, weights=weights)
        assert grads.keys() == weights.keys()
        np.testing.assert_allclose(grads["running_mean"].value, 0.9 * before["running_mean"] + 0.1 * mean, rtol=1e-13)
        np.testing.assert_allclose(grads["running_variance"].value, 0.9 + 0.1 * variance, rtol=1e-13)


def share_of_each(n, momentum):
    """How much of each of n batches the running statistics have in them: C(i + 7, 8) / C(n + 8, 9) while they begin."""
    early = min(n, round(9 * momentum / (1 - momentum)))
    shares = [comb(i + 7, 8) / comb(early + 8, 9) for i in range(1, early + 1)]
    late = np.arange(n - early)[::-1]
    return np.asarray([*(momentum ** (n - early) * np.asarray(shares)), *((1 - momentum) * momentum**late)])


def trained(backend, x, momentum=0.9, batch=8):
    """A model with its statistics after a step on each batch of these samples, in order."""
    net = Sequential(BatchNorm(momentum=momentum), ReLU(), Flatten(), Dense(1))
    model = Model(net, x.shape[1:], loss="mse", optimizer=SGD(1e-3), dtype="float64", backend=backend)
    step_on(model, x, batch)
    return model


def step_on(model, x, batch=8):
    model.fit(x, np.zeros((len(x), 1)), epochs=1, batch_size=batch, shuffle=False, progress="none")


def running(model):
    """The running mean, variance and steps, on the host."""
    return [model.backend.to_numpy(model.weights["batchnorm1"][name]) for name in RUNNING]


def hold_statistics(model, x, momentum=0.9, batch=8):
    """To the closed form in the batches' own statistics, and to the data's as far as chance explains."""
    cells = np.moveaxis(x, 1, -1).reshape(len(x) // batch, -1, x.shape[1])
    shares = share_of_each(len(cells), momentum)
    mean, variance, steps = running(model)
    assert steps == len(cells)
    np.testing.assert_allclose(mean, shares @ cells.mean(axis=1), rtol=1e-10)
    np.testing.assert_allclose(variance, shares @ cells.var(axis=1, ddof=1), rtol=1e-10)
    spread = 5 * np.sqrt((shares**2).sum() / cells.shape[1])
    assert np.all(np.abs(mean - 3) < spread * 0.1)
    assert np.all(np.abs(variance / 0.01 - 1) < spread * np.sqrt(2.5))


@pytest.mark.parametrize("steps", [1, 20, 50])
@pytest.mark.parametrize("shape", [(2,), (2, 3, 1)], ids=str)
def test_few_steps_leave_nothing_of_the_start(steps, shape, backend, rng):
    x = 3 + 0.1 * rng.standard_normal((8 * steps, *shape))
    hold_statistics(trained(backend, x), x)


@pytest.mark.parametrize("steps", [500, 5000])
def test_many_steps_remember_as_momentum_says(steps, rng):
    x = 3 + 0.1 * rng.standard_normal((4 * steps, 2))
    hold_statistics(trained("numpy", x, 0.99, 4), x, 0.99, 4)


@pytest.mark.parametrize("how", ["all", "without steps", "after some steps", "loaded", "by hand"])
def test_statistics_that_are_set_stay(how, backend, rng, tmp_path):
    """The next step moves them by 1 - momentum, as PyTorch and Keras do, whatever the steps before."""
    x, mine = (
        3 + 0.1 * rng.standard_normal((8, 2)),
        {"running_mean": np.full(2, 7.0), "running_variance": np.full(2, 5.0)},
    )
    model = Model(Sequential(BatchNorm(momentum=0.9)), (2,), loss="mse", dtype="float64", backend=backend)
    moved = 0.9 * 7 + 0.1 * x.mean(axis=0), 0.9 * 5 + 0.1 * x.var(axis=0, ddof=1)
    if how == "after some steps":
        model.fit(np.repeat(x, 3, axis=0), np.zeros((24, 2)), batch_size=8, progress="none")
    own = {name: model.backend.to_numpy(w) for name, w in model.weights["batchnorm1"].items()} | mine
    if how == "by hand":
        grads = apply(BatchNorm(momentum=0.9), model.backend, x, weights=own)[1]
        got = [grads[name].value for name in mine]
    else:
        model.weights = {"batchnorm1": {k: w for k, w in own.items() if how != "without steps" or k != "running_steps"}}
        if how == "loaded":
            model.save(tmp_path / "m.xcnn")
            model = Model.load(tmp_path / "m.xcnn", backend=backend)
        model.fit(x, np.zeros((8, 2)), batch_size=8, progress="none")
        got = running(model)[:2]
    for value, wanted in zip(got, moved, strict=True):
        np.testing.assert_allclose(value, wanted, rtol=1e-12)


def test_best_weights_come_back_with_their_steps(rng):
    """Whole trees of the model's own, as EarlyStopping sets them, keep the steps that they have."""
    model = trained("numpy", 3 + 0.1 * rng.standard_normal((24, 2)))
    before, x = model.weights, 3 + 0.1 * rng.standard_normal((16, 2))
    step_on(model, x)
    model.weights = before
    assert running(model)[2] == 3


def test_a_net_of_few_steps_tests_as_it_trains(rng):
    """40 steps of a residual net on stripes, evaluated on the very pictures that it was trained on."""
    y = rng.integers(0, 2, 128)
    stripes = np.where(y[:, None] == 0, np.sin(np.arange(8)), 0.0)
    x = stripes[:, None, :, None] + np.where(y == 1, 1, 0)[:, None, None, None] * np.sin(np.arange(8))
    x = (x + 0.3 * rng.standard_normal((128, 1, 8, 8))).astype("float32")
    model = Model(nets.small_resnet(2), (1, 8, 8), optimizer=Adam(3e-3), backend="numpy")
    history = model.fit(x, y, epochs=5, batch_size=16, progress="none")
    assert history["accuracy"][-1] > 0.9
    assert model.evaluate(x, y)["accuracy"] > 0.9


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
    np.testing.assert_allclose(grads["running_mean"].value, x.mean((0, 2, 3)), rtol=1e-12)


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
