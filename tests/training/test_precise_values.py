"""Sigmoids and losses to all digits of their type, over its whole range; and logits of -inf, and far apart.

The oracles are the formulas in long double, of 64 binary digits, and PyTorch.
"""

import math
from functools import partial

import numpy as np
import pytest
from draws import draws
from engines import PAIRS
from whole import compiled, whole

import xcnn
from xcnn import article
from xcnn.layers import ELU, GELU, Conv2D, Flatten, MaxPool2D, Sequential, Sigmoid, SiLU, Softmax, Softplus, Tanh
from xcnn.training import losses

INF = math.inf
TYPES = {"float32": (80.0, 2.0**-23), "float64": (700.0, 2.0**-52)}
"""How far exp(-x), also a hundredth of it, is a normal number, and from 1 to the next number."""
ONE_EACH = list({name: (name, algorithm) for name, algorithm in PAIRS if name != "rehearsal"}.values())
"""A backend of each kind: losses do not ask for the algorithm."""


def long(x):
    return np.asarray(x).astype(np.longdouble)


def sigmoid(x):
    return 1 / (1 + np.exp(-long(x)))


def points(dtype, far):
    near = np.linspace(-20, 20, 81)
    return np.concatenate([np.linspace(-far, far, 175), near, [0.0, -1e-10, 1e-10, 1e-30]]).astype(dtype)


@pytest.mark.parametrize("any_backend", ONE_EACH, indirect=True)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("t", [0.0, 1.0, 0.25])
def test_sigmoid_cross_entropy_keeps_its_digits(any_backend, dtype, t):
    far, eps = TYPES[dtype]
    y = points(dtype, far)[:, None]
    loss = losses.binary_cross_entropy_with_logits
    judged = any_backend.loss_and_gradient(loss, 0.0, any_backend.asarray(y), any_backend.asarray(np.full_like(y, t)))
    value, dy = (any_backend.to_numpy(a) for a in judged[:2])
    s, rest = sigmoid(y), sigmoid(-long(y))
    expected = ((1 - long(t)) * s - long(t) * rest) / len(y)
    # where the two shares cancel, at 0.25, what is lost is lost of the larger
    size = np.maximum((1 - t) * s, t * rest) / len(y)
    assert np.all(np.abs(long(dy) - expected) <= 8 * eps * size)
    terms = (1 - long(t)) * -np.log(rest) + long(t) * -np.log(s)
    assert float(value) == pytest.approx(float(terms.mean()), rel=20 * eps)


@pytest.mark.parametrize("t", [0.0, 1.0])
def test_a_loss_near_0_keeps_its_digits(backend, t):
    y = np.array([[-20.0 if t == 0 else 20.0]], "float32")
    loss = compiled(losses.binary_cross_entropy_with_logits, backend)
    value, dy = loss(backend.asarray(y), backend.asarray(np.full_like(y, t)))
    exact = math.log1p(math.exp(-20))
    assert float(value) == pytest.approx(exact, rel=1e-6)
    assert float(backend.to_numpy(dy)[0, 0]) == pytest.approx((1 - 2 * t) / (1 + math.exp(20)), rel=1e-6)


@pytest.mark.parametrize("name", ["numpy", "strict", "torch", "jax"])
@pytest.mark.parametrize("net", ["layer", "dense", "convolution"])
@pytest.mark.parametrize("dtype", TYPES)
def test_sigmoid_keeps_its_digits_alone_and_fused(name, net, dtype):
    try:
        backend = xcnn.backend(name)
    except xcnn.errors.BackendUnavailable as error:
        pytest.skip(str(error))
    far, eps = TYPES[dtype]
    x = points(dtype, far)
    layers = {
        "layer": (Sequential(Sigmoid()), (1,)),
        "dense": (Sequential(xcnn.Dense(1), Sigmoid()), (1,)),
        "convolution": (Sequential(Conv2D(1, 1), Sigmoid(), MaxPool2D(1), Flatten()), (1, 1, 1)),
    }
    built, shape = layers[net]
    model = xcnn.Model(built, shape, loss="mse", backend=backend, dtype=dtype)
    model.weights = xcnn.core.tree.map(lambda w: backend.to_numpy(w) * 0 + (w.ndim > 1), model.weights)
    got = model.predict(x.reshape(-1, *shape)).ravel()
    np.testing.assert_allclose(long(got), sigmoid(x), rtol=6 * eps)


@pytest.mark.parametrize(
    ("layer", "exact"),
    [
        (Sigmoid(), sigmoid),
        (SiLU(), lambda x: long(x) * sigmoid(x)),
        (Softplus(), lambda x: np.maximum(long(x), 0) + np.log1p(np.exp(-np.abs(long(x))))),
        (ELU(), lambda x: np.where(x > 0, long(x), np.expm1(np.minimum(long(x), 0)))),
        (Tanh(), lambda x: np.tanh(long(x))),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("dtype", TYPES)
def test_activations_keep_their_digits_over_the_whole_range(backend, layer, exact, dtype):
    far, eps = TYPES[dtype]
    x = points(dtype, far)[:, None]
    y, _ = whole(layer, backend)({}, backend.asarray(x), xcnn.Run(backend))
    np.testing.assert_allclose(long(backend.to_numpy(y)), exact(x), rtol=8 * eps)


@pytest.mark.parametrize("dtype", TYPES)
def test_the_slopes_of_sigmoid_and_softplus(backend, dtype):
    """Sigmoid's follows from y, which is rounded to half a unit in the last place of 1 (docs/equations.md)."""
    far, eps = TYPES[dtype]
    x = points(dtype, far)[:, None]
    run = xcnn.Run(backend)
    slopes = {}
    for layer in (Sigmoid(), Softplus()):
        _, backward = whole(layer, backend)({}, backend.asarray(x), run)
        slopes[type(layer)] = long(backend.to_numpy(backward(backend.asarray(np.ones_like(x)))[0]))
    np.testing.assert_allclose(slopes[Softplus], sigmoid(x), rtol=8 * eps)
    s, rest = sigmoid(x), sigmoid(-long(x))
    assert np.all(np.abs(slopes[Sigmoid] - s * rest) <= 8 * eps * s * rest + eps * s)
    below = x < 0
    np.testing.assert_allclose(slopes[Sigmoid][below], (s * rest)[below], rtol=8 * eps)


def test_the_articles_sigmoid_keeps_its_digits_both_ways(backend):
    x = points("float64", 700.0)[:, None]
    layer = article.Sigmoid()
    y = backend.to_numpy(layer.forward(backend.asarray(x)))
    np.testing.assert_allclose(long(y), sigmoid(x), rtol=1e-15)
    dx = backend.to_numpy(layer.backward(backend.asarray(np.ones_like(x)), 0.1))
    np.testing.assert_allclose(long(dx), sigmoid(x) * sigmoid(-long(x)), rtol=2e-15)


@pytest.mark.parametrize("units", [1, 3])
def test_probabilities_keep_their_digits(units):
    loss = "binary_cross_entropy_with_logits"
    model = xcnn.Model(Sequential(xcnn.Dense(units)), (1,), loss=loss, backend="numpy", dtype="float64")
    model.weights = {"dense1": {"kernel": np.ones((1, units)), "bias": np.zeros(units)}}
    x = points("float64", 700.0)[:, None]
    p = model.probabilities(x)
    expected = np.concatenate([sigmoid(-long(x)), sigmoid(x)], axis=1) if units == 1 else np.tile(sigmoid(x), 3)
    np.testing.assert_allclose(long(p), expected, rtol=1e-15)


# Logits that leave classes out

LOGITS = {
    "a class left out": ([0.0, 1.0, -INF], 0),
    "the target left out": ([0.0, 1.0, -INF], 2),
    "far apart": ([0.0, 1.0, -3e38], 0),
    "two at the top": ([3e38, 3e38, -3e38], 1),
    "farther than the type": ([3e38, -3e38, 0.0], 1),
    "all left out": ([-INF, -INF, -INF], 0),
    "one is infinite": ([INF, 0.0, 0.0], 1),
    "one is left": ([-INF, 2.0, -INF], 1),
}


def pytorchs(y, t, **options):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle; it is not installed")
    y_t = torch.tensor(y, requires_grad=True)
    value = torch.nn.functional.cross_entropy(y_t, torch.tensor(t), **options)
    value.backward()
    return value.item(), y_t.grad.numpy()


@pytest.mark.parametrize("any_backend", ONE_EACH, indirect=True)
@pytest.mark.parametrize("name", LOGITS)
@pytest.mark.parametrize("kind", ["labels", "one-hot"])
def test_cross_entropy_of_logits_that_leave_classes_out_is_pytorchs(any_backend, name, kind):
    """By `judge` and by the loss itself, so that a step and `evaluate` agree."""
    row, label = LOGITS[name]
    y, t = np.array([[1.0, -2.0, 0.5], row], "float32"), np.array([2, label])
    expected, slope = pytorchs(y, t)
    given = t if kind == "labels" else np.eye(3, dtype="float32")[t]
    for judged in (any_backend.loss_and_gradient, lambda loss, _, *arrays: (*loss(*arrays), None)):
        value, dy, _ = judged(losses.cross_entropy, 0.0, any_backend.asarray(y), any_backend.asarray(given))
        np.testing.assert_allclose(float(any_backend.to_numpy(value)), expected, rtol=1e-6)
        np.testing.assert_allclose(any_backend.to_numpy(dy), slope, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("any_backend", ONE_EACH, indirect=True)
def test_cross_entropy_of_drawn_masks_is_pytorchs(any_backend, rng):
    for _ in range(draws(3)):
        n, classes = rng.integers(1, 6), rng.integers(2, 8)
        y = (rng.normal(size=(n, classes)) * 10.0 ** rng.integers(-2, 3)).astype("float32")
        t = rng.integers(0, classes, n)
        y[rng.random(y.shape) < 0.3] = -INF
        if rng.random() < 0.8:
            y[np.arange(n), t] = rng.normal(size=n)
        expected, slope = pytorchs(y, t)
        value, dy, _ = any_backend.loss_and_gradient(
            losses.cross_entropy, 0.0, any_backend.asarray(y), any_backend.asarray(t)
        )
        np.testing.assert_allclose(float(any_backend.to_numpy(value)), expected, rtol=2e-6)
        np.testing.assert_allclose(any_backend.to_numpy(dy), slope, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("any_backend", ONE_EACH, indirect=True)
def test_smoothing_gives_each_class_a_share_also_those_left_out(any_backend):
    y, t = np.array([[0.0, 1.0, -INF]], "float32"), np.array([0])
    assert pytorchs(y, t, label_smoothing=0.1)[0] == INF
    loss = partial(losses.cross_entropy, label_smoothing=0.1)
    value, *_ = any_backend.loss_and_gradient(loss, 0.0, any_backend.asarray(y), any_backend.asarray(t))
    assert float(any_backend.to_numpy(value)) == INF


@pytest.mark.parametrize("any_backend", ONE_EACH, indirect=True)
@pytest.mark.parametrize(
    ("y", "t", "value", "slope"), [(-INF, 0, 0, 0), (INF, 1, 0, 0), (-INF, 1, INF, -1), (INF, 0, INF, 1)]
)
def test_infinite_logits_of_single_units(any_backend, y, t, value, slope):
    given = any_backend.asarray(np.array([[y]], "float32")), any_backend.asarray(np.array([[t]], "float32"))
    got, dy, _ = any_backend.loss_and_gradient(losses.binary_cross_entropy_with_logits, 0.0, *given)
    assert (float(any_backend.to_numpy(got)), float(any_backend.to_numpy(dy)[0, 0])) == (value, slope)


@pytest.mark.parametrize("name", LOGITS)
def test_softmax_and_probabilities_are_pytorchs(backend, name):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle; it is not installed")
    y = np.array([LOGITS[name][0]], "float32")
    expected = torch.softmax(torch.tensor(y), 1).numpy()
    got, backward = Softmax()({}, backend.asarray(y), xcnn.Run(backend))
    np.testing.assert_allclose(backend.to_numpy(got), expected, rtol=1e-6)
    dx = backend.to_numpy(backward(backend.asarray(np.ones_like(y)))[0])
    assert np.isfinite(dx).all() == np.isfinite(expected).all()

    class Outputs:
        def predict(self, x, batch_size, views=None):
            return y

        loss = staticmethod(losses.cross_entropy)

    np.testing.assert_allclose(xcnn.Model.probabilities(Outputs(), y), expected, rtol=1e-6)


def test_a_mask_of_minus_infinity_trains(backend):
    """A net whose last layer leaves a class out learns the others."""

    class Masked(xcnn.Dense):
        def __call__(self, weights, x, run):
            y, backward = super().__call__(weights, x, run)
            return y + run.backend.asarray(np.array([0, 0, -INF], "float32")), backward

    model = xcnn.Model(Sequential(Masked(3)), (2,), optimizer=xcnn.SGD(0.5), backend=backend)
    x, y = np.array([[1, 0], [0, 1]] * 4, "float32"), np.array([0, 1] * 4)
    history = model.fit(x, y, epochs=5, batch_size=8, progress="none")
    assert history["loss"][-1] < 0.7 * history["loss"][0]
    assert math.isfinite(model.evaluate(x, y)["loss"])
    assert np.all(model.probabilities(x)[:, 2] == 0)


# What NumPy was told to raise


@pytest.mark.parametrize("size", [1.0, 50.0, 1e4])
def test_layers_losses_and_optimizers_run_where_numpy_raises(backend, size, rng):
    """Within `active`, in which all calls of a Model are, numbers too small for their type are 0."""
    x = (rng.normal(size=(4, 6, 5, 5)) * size).astype("float32")
    layers = [GELU(), GELU(approximate=True), ELU(), Softmax(), Softplus(), Sigmoid(), SiLU(), Tanh()]
    layers += [xcnn.LayerNorm(), xcnn.GroupNorm(2), xcnn.BatchNorm(), xcnn.ReLU(), xcnn.LeakyReLU()]
    net = Sequential(GELU(), Softplus(), Flatten(), xcnn.Dense(3))
    optimizer = xcnn.AdamW(1e-3, clip_norm=1.0)
    with np.errstate(all="raise"):
        with backend.active():
            for layer in layers:
                drawn, _ = layer.init(xcnn.core.random.generator(0), (6, 5, 5))
                weights = xcnn.core.tree.map(lambda w: backend.asarray(w, "float32"), drawn)
                y, backward = whole(layer, backend)(weights, backend.asarray(x), xcnn.Run(backend, train=True))
                dx, _ = backward(y)
                assert np.isfinite(backend.to_numpy(y)).all()
                assert np.isfinite(backend.to_numpy(dx)).all()
            for loss in losses.LOSSES.values():
                y = backend.asarray(np.abs(x[:, :3, 0, 0]) / (np.abs(x[:, :3, 0, 0]) + 1))
                value, _ = compiled(loss, backend)(y, backend.asarray(np.eye(3, dtype="float32")[[0, 1, 2, 0]]))
                assert math.isfinite(float(value))
            tiny = {"kernel": backend.asarray(np.full(5, 1e-30), "float32")}
            for rule in (xcnn.SGD(0.1, momentum=0.9), xcnn.Adam(clip_norm=1.0), xcnn.AdamW(), xcnn.RMSprop()):
                backend.update(rule, tiny, rule.init(tiny), tiny)
        model = xcnn.Model(net, (6, 5, 5), optimizer=optimizer, backend=backend)
        model.fit(x, np.array([0, 1, 2, 0]), epochs=2, progress="none", validation_data=(x, np.array([0, 1, 2, 0])))
        assert np.isfinite(model.probabilities(x)).all()
        with pytest.raises(FloatingPointError):
            np.exp(np.float32(-200.0))  # what the process asked for holds outside
