"""Activations against SciPy: their values, their slopes, the ends of the number line, and NaN."""

import numpy as np
import pytest
from scipy import special

from xcnn.layers import (
    ELU,
    GELU,
    SELU,
    ClippedReLU,
    HardSigmoid,
    HardSwish,
    LeakyReLU,
    LogSoftmax,
    Mish,
    ReLU,
    Run,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Softsign,
    Tanh,
)
from xcnn.layers.gelu import normal

DENSITY = 1 / np.sqrt(2 * np.pi)


def tanh_argument(x):
    return np.sqrt(2 / np.pi) * (x + 0.044715 * x**3), np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * x**2)


def gelu_tanh_slope(x):
    u, du = tanh_argument(x)
    return special.expit(2 * u) + 2 * x * special.expit(2 * u) * special.expit(-2 * u) * du


ALPHA, SCALE = 1.6732632423543772, 1.0507009873554805


def mish_slope(x):
    s = np.logaddexp(0, x)
    return np.tanh(s) + x * special.expit(x) / np.cosh(np.minimum(s, 300)) ** 2


FUNCTIONS = [
    (ReLU(), lambda x: np.where(x > 0, x, 0), lambda x: np.where(x > 0, 1, 0)),
    (LeakyReLU(0.1), lambda x: np.where(x > 0, x, 0.1 * x), lambda x: np.where(x > 0, 1, 0.1)),
    (
        ELU(1.5),
        lambda x: np.where(x > 0, x, 1.5 * np.expm1(np.minimum(x, 0))),
        lambda x: np.where(x > 0, 1, 1.5 * np.exp(np.minimum(x, 0))),
    ),
    (Sigmoid(), special.expit, lambda x: special.expit(x) * special.expit(-x)),
    (Tanh(), np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    (
        SiLU(),
        lambda x: x * special.expit(x),
        lambda x: special.expit(x) + x * special.expit(x) * special.expit(-x),
    ),
    (Softplus(), lambda x: np.logaddexp(0, x), special.expit),
    (
        GELU(),
        lambda x: 0.5 * x * special.erfc(-x / np.sqrt(2)),
        lambda x: 0.5 * special.erfc(-x / np.sqrt(2)) + x * DENSITY * np.exp(-0.5 * np.minimum(x * x, 1e4)),
    ),
    (ClippedReLU(), lambda x: np.clip(x, 0, 6), lambda x: np.where((x > 0) & (x < 6), 1, 0)),
    (
        SELU(),
        lambda x: np.where(x > 0, SCALE * x, SCALE * ALPHA * np.expm1(np.minimum(x, 0))),
        lambda x: np.where(x > 0, SCALE, SCALE * ALPHA * np.exp(np.minimum(x, 0))),
    ),
    (Mish(), lambda x: x * np.tanh(np.logaddexp(0, x)), mish_slope),
    (HardSigmoid(), lambda x: np.clip(x / 6 + 0.5, 0, 1), lambda x: np.where(np.abs(x) < 3, 1 / 6, 0)),
    (
        HardSwish(),
        lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
        lambda x: np.where(x >= 3, 1, np.where(x <= -3, 0, x / 3 + 0.5)),
    ),
    (Softsign(), lambda x: x / (1 + np.abs(x)), lambda x: 1 / (1 + np.abs(x)) ** 2),
    (GELU(approximate=True), lambda x: x * special.expit(2 * tanh_argument(x)[0]), gelu_tanh_slope),
]


def evaluate(layer, backend, x):
    """Y and the slope, on the host."""
    y, backward = layer({}, backend.asarray(x), Run(backend))
    dx, _ = backward(backend.asarray(np.ones_like(x)))
    return backend.to_numpy(y), backend.to_numpy(dx)


@pytest.mark.parametrize(("layer", "value", "slope"), FUNCTIONS, ids=lambda v: repr(v)[:24])
def test_values_and_slopes(layer, value, slope, backend):
    x = np.concatenate([np.linspace(-30, 30, 2001), [1e-300, -1e-300, 1e-9, -1e-9]])
    y, dx = evaluate(layer, backend, x)
    np.testing.assert_allclose(y, value(x), rtol=1e-14, atol=1e-15)
    # XLA has a tanh of its own, 7e-16 off near 1, and 1 - y^2 cancels there
    np.testing.assert_allclose(dx, slope(x), rtol=1e-14, atol=2e-15 if backend.name == "jax" else 1e-15)


@pytest.mark.parametrize(("layer", "value", "slope"), FUNCTIONS, ids=lambda v: repr(v)[:24])
def test_the_ends_of_the_line_in_float32(layer, value, slope, backend):
    x = np.asarray([-3e38, -1e4, -100, -20, -1, 0, 1, 20, 100, 1e4, 3e38], dtype=np.float32)
    y, dx = evaluate(layer, backend, x)
    assert y.dtype == dx.dtype == np.float32
    far = np.clip(x.astype(np.float64), -1e5, 1e5)  # the oracles in float64 would overflow beyond
    inside = np.abs(x) <= 1e4
    np.testing.assert_allclose(y[inside], value(far)[inside], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(dx, slope(far), rtol=1e-6, atol=1e-6)
    assert y[-1] == x[-1] or isinstance(layer, ClippedReLU | HardSigmoid | SELU | Sigmoid | Softsign | Tanh)
    assert np.all(np.isfinite(y))


def test_a_leak_steeper_than_the_line(backend):
    y, dx = evaluate(LeakyReLU(2), backend, np.asarray([-1, 0, 2, 3e38], dtype=np.float32))
    np.testing.assert_array_equal(y, np.asarray([-2, 0, 2, 3e38], dtype=np.float32))
    np.testing.assert_array_equal(dx, [2, 2, 1, 1])


@pytest.mark.parametrize("layer", [*(row[0] for row in FUNCTIONS), Softmax(), LogSoftmax()], ids=repr)
def test_nan_stays_nan(layer, backend):
    y, _ = evaluate(layer, backend, np.full((2, 3), np.nan))
    assert np.all(np.isnan(y))


def test_the_normal_tail_against_the_scaled_error_function(backend):
    """Phi(-a) / phi(a) = sqrt(pi / 2) erfcx(a / sqrt(2)), which SciPy knows to a few units in the last place."""
    a = np.linspace(0, 37, 20011)
    density, tail = (backend.to_numpy(part) for part in normal(backend.xp, backend.asarray(-a)))
    ratio = np.sqrt(np.pi / 2) * special.erfcx(a / np.sqrt(2))
    np.testing.assert_allclose(tail / density, ratio, rtol=2e-15)


def test_the_normal_distribution_to_full_relative_precision(backend):
    mpmath = pytest.importorskip("mpmath", reason="mpmath is the oracle, in 40 digits")
    mpmath.mp.dps = 40
    x = np.concatenate([np.linspace(-37, 9, 800), np.random.default_rng(0).uniform(-6, 6, 400), [0.0, 1e-200]])
    density, distribution = (backend.to_numpy(part) for part in normal(backend.xp, backend.asarray(x)))
    exact = np.asarray([float(mpmath.ncdf(v)) for v in x])
    np.testing.assert_allclose(density, [float(mpmath.npdf(v)) for v in x], rtol=1e-15)
    np.testing.assert_allclose(distribution[x > -10], exact[x > -10], rtol=1e-15)
    np.testing.assert_allclose(distribution, exact, rtol=1.5e-15)


@pytest.mark.parametrize("axis", [1, 2, -1, -2])
def test_softmax_against_scipy(axis, backend, rng):
    x = 100 * rng.standard_normal((2, 4, 3))
    y, _ = evaluate(Softmax(axis), backend, x)
    np.testing.assert_allclose(y, special.softmax(x, axis=axis), rtol=1e-13)


@pytest.mark.parametrize("axis", [1, -1])
def test_log_softmax_against_scipy(axis, backend, rng):
    x = 100 * rng.standard_normal((2, 4, 3))
    y, _ = evaluate(LogSoftmax(axis), backend, x)
    np.testing.assert_allclose(y, special.log_softmax(x, axis=axis), rtol=1e-13, atol=1e-13)


def test_softmax_of_huge_scores(backend):
    y, dx = evaluate(Softmax(), backend, np.asarray([[1e4, -1e4, 1e4], [-1e4, -1e4, -1e4]], dtype=np.float32))
    np.testing.assert_allclose(y, [[0.5, 0, 0.5], [1 / 3, 1 / 3, 1 / 3]], rtol=1e-6)
    np.testing.assert_allclose(dx, np.zeros((2, 3)), atol=1e-7)
