"""The parity report: correct backends are explained by rounding, planted faults are not, and are named."""

import json
from dataclasses import dataclass
from itertools import groupby
from math import inf, nan
from typing import ClassVar

import numpy as np
import pytest
from cases import CASES
from engines import PAIRS
from half_numpy import HalfNumpy

import xcnn
from xcnn import backends as registry
from xcnn.backends import BackendInfo
from xcnn.checking import parity, rounding
from xcnn.checking.gradients import ReferenceBackend
from xcnn.checking.rounding import FORMATS, Imitation, RandomRounding, ShortFactors, error
from xcnn.cli import reports
from xcnn.core import tree
from xcnn.errors import BackendError, DataError, ShapeError
from xcnn.layers import (
    AveragePool2D,
    BatchNorm,
    Concatenate,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    MaxPool2D,
    ReLU,
    Residual,
    Sequential,
    Tanh,
)
from xcnn.nets import recipes as nets

CORRECT = [xcnn.backend(name, algorithm=algorithm) for name, algorithm in PAIRS if name in ("numpy", "strict")]
FEWER = [backend for backend in CORRECT if getattr(backend, "algorithm", "") not in ("literal", "fft")]
"""For layers that correlate nothing, and in float64: the others differ in their correlations alone, these in what they
fuse too."""
NET = Sequential(
    Conv2D(4, 3), ReLU(), MaxPool2D(2), Residual(Conv2D(4, 3, padding="same"), Tanh()), Flatten(), Dense(3)
)
PRODUCTS = {"conv1", "residual1.conv1", "dense1"}


def model_of(net, input_shape=(1, 10, 9), **options):
    """A model on NumPy whose weights are nowhere zero."""
    model = xcnn.Model(net, input_shape, **{"loss": "mse", "backend": "numpy"} | options)
    rng = np.random.default_rng(1)
    model.weights = tree.map(lambda w: np.asarray(w) + 0.2 * rng.random(w.shape), model.weights)
    return model


def batch_of(model, samples=3):
    return np.random.default_rng(2).standard_normal((samples, *model.input_shape))


def odd_layers(comparison):
    return {row.layer for row in comparison if not row.ok}


# Backends with faults.


class Short(np.ndarray):
    """A NumPy array whose products of matrices round what they multiply."""

    digits = "tf32"

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        inputs = [a.view(np.ndarray) if isinstance(a, Short) else a for a in inputs]
        if ufunc is np.matmul:
            inputs = [FORMATS[self.digits].rounded(a.astype("float64")).astype(a.dtype) for a in inputs]
        result = getattr(ufunc, method)(*inputs, **options)
        if out is not None:
            out[0].view(np.ndarray)[...] = result
            return out[0]
        return np.asarray(result).view(type(self))

    def __array_function__(self, function, types, arguments, options):
        result = super().__array_function__(function, types, arguments, options)
        return result.view(type(self)) if isinstance(result, np.ndarray) else result


class Shorter(Short):
    digits = "bfloat16"


@dataclass(frozen=True, repr=False)
class Tf32(ReferenceBackend):
    name = "short"
    library = "cupy"
    precisions = ("float32", "tf32", "float64")
    arrays = Short

    def asarray(self, x, dtype=None):
        return np.array(x, dtype=dtype).view(self.arrays)


@dataclass(frozen=True, repr=False)
class Bfloat16(Tf32):
    name = "shorter"
    arrays = Shorter


@dataclass(frozen=True, repr=False)
class OneCell(ReferenceBackend):
    """One cell of y, of middling size, is wrong by a thousandth."""

    def correlate(self, x, k, **how):
        y = super().correlate(x, k, **how).copy()
        y.flat[np.argsort(np.abs(y), axis=None)[y.size // 2]] *= 1.001
        return y


@dataclass(frozen=True, repr=False)
class NoMean(ReferenceBackend):
    """Gradients of windows are too large by the count of their cells."""

    def sum_pool_adjoint(self, dy, x_shape, size, **how):
        return super().sum_pool_adjoint(dy * (size[0] * size[1]), x_shape, size, **how)


@dataclass(frozen=True, repr=False)
class NotANumber(ReferenceBackend):
    def correlate_kernel_adjoint(self, x, dy, k_shape, **how):
        dk = super().correlate_kernel_adjoint(x, dy, k_shape, **how)
        dk[0, 0, 0, 0] = nan
        return dk


@dataclass(frozen=True, repr=False)
class Raises(ReferenceBackend):
    def max_pool(self, x, size, **how):
        raise RuntimeError("out of\npaper")


@dataclass(frozen=True, repr=False)
class Widens(ReferenceBackend):
    def sum_pool(self, x, size, **how):
        return super().sum_pool(x, size, **how).astype("float64")


@dataclass(frozen=True)
class Forgets:
    """A net that forgets a gradient."""

    net: object

    def init(self, rng, input_shape):
        return self.net.init(rng, input_shape)

    def __call__(self, weights, x, run):
        y, backward = self.net(weights, x, run)
        return y, lambda dy: (backward(dy)[0], {"bias": backward(dy)[1]["bias"]})


@dataclass(frozen=True, repr=False)
class FusesLess(ReferenceBackend):
    def rewrite(self, net):
        return Forgets(net)


@dataclass(frozen=True)
class Doubled:
    """A net whose gradients are twice too large."""

    net: object

    def init(self, rng, input_shape):
        return self.net.init(rng, input_shape)

    def __call__(self, weights, x, run):
        y, backward = self.net(weights, x, run)
        return y, lambda dy: backward(2 * dy)


@dataclass(frozen=True, repr=False)
class FusesBadly(ReferenceBackend):
    def rewrite(self, net):
        return Doubled(net)


# Correct backends.


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rounding_explains_every_layer_on_correct_backends_with_a_margin(dtype):
    for layer, input_shape in CASES:
        model = model_of(layer, input_shape, dtype=dtype)
        comparison = xcnn.compare(
            model, batch_of(model), backends=CORRECT if dtype == "float32" and "Conv" in repr(layer) else FEWER
        )
        assert comparison.ok, f"{layer}\n{comparison}"
        assert comparison.worst.excess < 0.5, comparison.worst


def test_rounding_explains_half_precision():
    for layer, input_shape in CASES:
        model = model_of(layer, input_shape, backend=HalfNumpy(), precision="float16")
        comparison = xcnn.compare(model, batch_of(model), backends=HalfNumpy())
        assert comparison.ok, f"{layer}\n{comparison}"
        assert comparison.precision == "float16"


@pytest.mark.parametrize("name", ["article", "lenet", "small-resnet"])
def test_rounding_explains_nets_on_images(name):
    recipe = nets.RECIPES[name]
    (x, y), _ = xcnn.datasets.mnist01()
    side = 28 if name == "lenet" else 14  # the others are made for any size
    model = xcnn.Model(recipe.net(2), (1, side, side), loss=recipe.loss, backend="numpy")
    comparison = xcnn.compare(model, x[:2, :, -side:, -side:], y[:2], backends=["numpy", "strict"])
    assert comparison.ok, comparison
    assert {row.layer for row in comparison} >= {"conv1", parity.WHOLE}


def test_the_same_masks_are_drawn_everywhere():
    model = model_of(Sequential(Dropout(0.5), Residual(Dropout(0.5), Dense(5))), (5,))
    comparison = xcnn.compare(model, batch_of(model), backends=["numpy", "strict"])
    assert comparison.ok, comparison
    assert {row.layer for row in comparison} == {"dropout1", "residual1.dropout1", "residual1.dense1", parity.WHOLE}


def test_what_cancels_is_explained():
    """Two cells have no gradient through their normalisation but rounding's; nor has a bias before it, in the net."""
    model = model_of(Sequential(Dense(4), BatchNorm(epsilon=1e-9)), (4,))
    comparison = xcnn.compare(model, batch_of(model, 2), backends=["numpy", "strict"])
    assert comparison.ok, comparison


@dataclass(frozen=True)
class Own:
    """A layer of a user's own, with a function that is no ufunc, and a layer within."""

    def init(self, rng, input_shape):
        return {"kernel": rng.standard_normal((*input_shape, 3))}, (3,)

    def __call__(self, weights, x, run):
        xp, kernel = np, weights["kernel"]
        h = xp.where(x > 0, x, 0.1 * x)
        y, inner = Tanh()({}, xp.tensordot(h, kernel, axes=1), run)

        def backward(dy):
            dz, _ = inner(dy)
            dh = xp.tensordot(dz, kernel.T, axes=1)
            return xp.where(x > 0, dh, 0.1 * dh), {"kernel": xp.tensordot(h.T, dz, axes=1)}

        return y, backward


def test_a_users_own_layer_is_measured_as_it_is():
    model = model_of(Sequential(Own(), Dense(2)), (40,))
    comparison = xcnn.compare(model, batch_of(model), backends=["numpy", FusesBadly()])
    assert {row.layer for row in comparison if row.backend == "numpy"} == {"own1", "dense1", parity.WHOLE}
    assert {row.layer for row in comparison if row.backend == "numpy" and not row.ok} == set()
    assert odd_layers(comparison) == {"own1", "dense1", parity.WHOLE}, "each as the backend rewrites it"


# Faults.


@dataclass(frozen=True, repr=False)
class AsStored(ReferenceBackend):
    """Takes images in the order in which they lie in memory."""

    def correlate(self, x, k, **how):
        return super().correlate(x.ravel(order="K").reshape(x.shape), k, **how)


@dataclass(frozen=True, repr=False)
class LeftOver(ReferenceBackend):
    """Gives what its memory holds from the last time, and writes there for the next."""

    memory: ClassVar[dict] = {}

    def correlate(self, x, k, **how):
        y = super().correlate(x, k, **how)
        before = self.memory.get(y.shape, y)
        self.memory[y.shape] = y
        return before


@pytest.mark.parametrize("backend", [AsStored(), LeftOver()], ids=["as stored", "left over"])
@pytest.mark.parametrize("net", [NET, Sequential(NET)], ids=["layers", "within"])
def test_faults_of_layouts_and_of_memory_are_seen(backend, net):
    """Also where what the memory holds is the right result of the same numbers, as after a first comparison."""
    model = model_of(net)
    for _ in range(2):
        odd = odd_layers(xcnn.compare(model, batch_of(model), backends=backend))
        assert {name.rpartition(".")[2] for name in odd} >= {"conv1", parity.WHOLE}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("backend", "cause"), [(Tf32(), "tf32"), (Bfloat16(), "bfloat16")])
def test_products_of_fewer_digits_are_named(backend, cause, dtype):
    model = model_of(NET, dtype=dtype)
    comparison = xcnn.compare(model, batch_of(model), backends=backend)
    by_layer = {name: [row for row in comparison if row.layer == name] for name in PRODUCTS}
    for name, rows in by_layer.items():
        of_products = [row for row in rows if row.quantity != "dbias"]
        assert [row.quantity for row in of_products] == ["y", "dx", "dkernel"], name
        assert {row.cause for row in of_products} == {cause}
        assert not any(row.ok for row in of_products)
        assert "CUPY_TF32" in of_products[0].hint
    assert odd_layers(comparison) == PRODUCTS | {parity.WHOLE}


def test_tf32_is_found_also_where_long_sums_round_as_much():
    model = model_of(Dense(2), (60_000,))
    comparison = xcnn.compare(model, batch_of(model), backends=[Tf32(), "numpy"])
    y, numpy = (next(row for row in comparison if row.backend == name) for name in ("short", "numpy"))
    assert y.error < y.explained
    assert (y.verdict, y.cause, numpy.verdict) == ("not explained", "tf32", "explained")


def test_tf32_is_no_fault_of_a_model_that_asks_for_it():
    model = model_of(NET, backend=Tf32(), precision="tf32")
    comparison = xcnn.compare(model, batch_of(model), backends=[Tf32(), "numpy"])
    assert all(row.ok for row in comparison if row.backend == "short"), comparison
    failures = [row for row in comparison if row.backend == "numpy"]
    assert [row.verdict for row in failures] == ["failed"]
    assert 'backend "numpy" does not compute in tf32' in failures[0].cause


@pytest.mark.parametrize(
    ("backend", "layer", "quantities"),
    [(OneCell(), "conv1", {"y"}), (NoMean(), "averagepool1", {"dx"}), (NotANumber(), "conv1", {"dkernel"})],
)
def test_a_fault_stands_in_its_row(backend, layer, quantities):
    model = model_of(Sequential(Conv2D(3, 3), AveragePool2D(2), Flatten(), Dense(2)))
    comparison = xcnn.compare(model, batch_of(model), backends=[backend, "numpy"])
    odd = [row for row in comparison if not row.ok]
    assert {row.quantity for row in odd if row.layer == layer} == quantities
    assert {row.layer for row in odd} == {layer, parity.WHOLE}
    assert {row.backend for row in odd} == {"reference"}
    assert {row.cause for row in odd if row.layer == layer} == (
        {"NaN or infinity"} if layer == "conv1" and "dkernel" in quantities else {""}
    )
    assert not comparison.ok


def test_what_a_backend_makes_of_the_net_is_measured_as_the_whole_net():
    model = model_of(NET)
    comparison = xcnn.compare(model, batch_of(model), backends=FusesBadly())
    odd = {row.quantity: row.error for row in comparison if not row.ok and row.layer == parity.WHOLE}
    assert parity.WHOLE in odd_layers(comparison)
    assert "y" not in odd
    assert odd["dx"] == pytest.approx(1, rel=1e-3)
    assert odd["ddense1/kernel"] == pytest.approx(1, rel=1e-3)


def test_a_backend_that_raises_does_not_stop_the_report():
    model = model_of(NET)
    comparison = xcnn.compare(model, batch_of(model), backends=[Raises(), "numpy"])
    failures = [row for row in comparison if row.verdict == "failed"]
    assert [(row.layer, row.cause) for row in failures] == [
        ("maxpool1", "RuntimeError: out of paper"),
        (parity.WHOLE, "RuntimeError: out of paper"),
    ]
    assert not comparison.ok
    assert comparison.worst in failures
    assert "failed: RuntimeError: out of paper" in str(comparison)
    assert all(row.ok for row in comparison if row.backend == "numpy")


def test_a_result_of_another_type_is_a_failure():
    model = model_of(AveragePool2D(2), (1, 4, 4))
    (layer, net) = xcnn.compare(model, batch_of(model), backends=Widens())
    assert layer.cause == net.cause == "AveragePool2D got a gradient of float32, its output was float64."


def test_a_gradient_that_is_missing_is_a_failure():
    model = model_of(Dense(2), (4,))
    layer, net = xcnn.compare(model, batch_of(model), backends=FusesLess())
    assert not layer.ok
    assert (net.layer, net.cause) == (parity.WHOLE, "Dense gives y, dx, dbias for y, dx, dkernel, dbias.")


def test_a_backend_that_is_not_here_has_its_row_and_one_that_is_unknown_is_an_error():
    model = model_of(Dense(2), (4,))
    comparison = xcnn.compare(model, batch_of(model), backends=["strict:nowhere", "numpy"])
    assert [(row.backend, row.layer) for row in comparison if not row.ok] == [("strict:nowhere", parity.WHOLE)]
    with pytest.raises(BackendError, match="X303"):
        xcnn.compare(model, batch_of(model), backends="no-such-library")


def test_nothing_compared_is_not_ok():
    model = model_of(Dense(2), (4,))
    comparison = xcnn.compare(model, batch_of(model), backends=[])
    assert len(comparison) == 0
    assert not comparison.ok
    assert comparison.worst is None


# What is asked.


def test_by_default_all_backends_that_have_the_precision_are_compared(monkeypatch):
    told = {name: BackendInfo(name, name != "cupy") for name in ("cupy", "numpy", "strict")}
    monkeypatch.setattr(registry, "available_backends", lambda: told)
    model = model_of(Dense(2), (4,))
    assert {row.backend for row in xcnn.compare(model, batch_of(model))} == {"numpy", "strict"}
    halves = model_of(Dense(2), (4,), backend=HalfNumpy(), precision="float16")
    assert len(xcnn.compare(halves, batch_of(halves))) == 0


def test_options_of_backends_tell_them_apart():
    model = model_of(Conv2D(2, 3), (1, 5, 5))
    comparison = xcnn.compare(model, batch_of(model), backends=[xcnn.backend("numpy", algorithm="fft"), "numpy"])
    assert {row.backend for row in comparison} == {"numpy (algorithm=fft)", "numpy"}


def test_labels_give_the_gradients_that_go_backward():
    seen = []

    @dataclass(frozen=True, repr=False)
    class Looks(ReferenceBackend):
        def correlate_kernel_adjoint(self, x, dy, k_shape, **how):
            seen.append(dy)
            return super().correlate_kernel_adjoint(x, dy, k_shape, **how)

    model = model_of(Sequential(Conv2D(2, 3), Flatten()), (1, 3, 3), loss="cross_entropy")
    x, y = batch_of(model), np.array([0, 1, 1])
    assert xcnn.compare(model, x, y, backends=Looks()).ok
    _, expected = xcnn.losses.cross_entropy(model.predict(x).astype("float64"), y)
    dy = seen[1][:, :, 0, 0]  # before it the layer had other numbers
    np.testing.assert_allclose(dy / np.abs(dy).max(), expected / np.abs(expected).max(), rtol=1e-5)
    assert 0.5 <= np.abs(dy).max() <= 1


def test_layers_run_as_in_training_with_the_keys_that_they_have_in_the_net():
    seen = []

    @dataclass(frozen=True, repr=False)
    class Looks(ReferenceBackend):
        def random_bits(self, key, shape):
            seen.append(key)
            return super().random_bits(key, shape)

    model = model_of(Sequential(Dropout(0.5), Dropout(0.5)), (4,))
    assert xcnn.compare(model, batch_of(model), backends=Looks()).ok
    assert [key for key, _ in groupby(seen)][:2] == [(0, 0), (0, 1)]  # each by itself
    assert seen[-2:] == [(0, 0), (0, 1)]  # then in the whole net


def test_the_backend_computes_under_the_models_precision():
    @dataclass(frozen=True, repr=False)
    class Raised(Raises):
        def with_precision(self, precision):
            return ReferenceBackend()

    model = model_of(MaxPool2D(2), (1, 4, 4))
    assert xcnn.compare(model, batch_of(model), backends=Raised()).ok


def test_the_input_is_checked_as_predict_does():
    model = model_of(Dense(2), (4,))
    with pytest.raises(ShapeError, match="X101"):
        xcnn.compare(model, np.zeros((2, 5)))
    with pytest.raises(DataError, match="X203"):
        xcnn.compare(model, np.zeros((0, 4)))
    with pytest.raises(DataError, match="X203"):
        xcnn.compare(model, np.zeros((2, 4)), np.zeros((3, 2)))


def test_the_model_stays_as_it_was():
    model = model_of(NET)
    weights, backend, at = tree.map(np.copy, model.weights), model.backend, model.state
    xcnn.compare(model, batch_of(model), backends=["strict", "numpy"])
    assert model.state is at
    assert model.backend is backend
    assert all(map(np.array_equal, tree.leaves(weights), tree.leaves(model.weights)))


# How it is told.


def test_the_table_has_a_line_for_each_layer_and_backend():
    model = model_of(
        Sequential(left=Concatenate(wide=Conv2D(2, 1), direct=Sequential(ReLU())), flat=Flatten()), (1, 3, 3)
    )
    comparison = xcnn.compare(model, batch_of(model), backends=[Tf32(), "numpy"])
    titles, rule, *lines = str(comparison).splitlines()
    at = titles.index("verdict")
    assert set(rule) == {"-", " "}
    assert [line.split()[:3] for line in lines[:4]] == [
        ["left.wide", "Conv2D", "short"],
        ["left.wide", "Conv2D", "numpy"],
        ["left.direct.relu1", "ReLU", "short"],
        ["left.direct.relu1", "ReLU", "numpy"],
    ]
    assert [line[at:] for line in lines[:3]] == ["NOT explained: tf32", "explained", "explained"]
    assert "  dx " in lines[0]
    assert any(line.startswith("2 of 8 not explained, or failed (float32, 3 samples") for line in lines)
    assert lines[-1].startswith("short, tf32: unset the variable CUPY_TF32")


def test_rows_are_plain_values_for_json():
    model = model_of(Dense(2), (4,))
    row = parity.failed("dense1", "Dense", "numpy", RuntimeError("no"))
    assert row.to_dict()["error"] is None
    assert row.excess == inf
    for row in xcnn.compare(model, batch_of(model), backends="numpy"):
        assert json.loads(json.dumps(row.to_dict(), allow_nan=False))["explained"] == row.explained


# Rounding.


def test_formats_round_as_the_types_do():
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes has NumPy's bfloat16")
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.standard_normal(5000) * 2.0 ** rng.integers(-30, 15, 5000), [0, -0.0, inf, -inf, nan, 1.5]])
    halfway = np.array([1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-11, 1 + 3 * 2**-11, 2**-25, 3 * 2**-25])
    x = np.concatenate([x, halfway]).astype("float32").astype("float64")
    for name, kind in (("float16", "float16"), ("float32", "float32"), ("bfloat16", ml_dtypes.bfloat16)):
        np.testing.assert_array_equal(FORMATS[name].rounded(x), x.astype("float32").astype(kind).astype("float64"))
    longer = rng.standard_normal(1000)
    np.testing.assert_array_equal(FORMATS["float32"].rounded(longer), longer.astype("float32").astype("float64"))
    np.testing.assert_array_equal(FORMATS["float64"].rounded(longer), longer)
    bits = x.astype("float32").view("uint32")
    nearest = ((bits + 0xFFF + (bits >> 13 & 1)) & 0xFFFFE000).view("float32")  # 13 bits of 23 go, ties to even
    finite = np.isfinite(x)
    np.testing.assert_array_equal(FORMATS["tf32"].rounded(x)[finite], nearest[finite])


def test_errors_never_hide_what_is_not_finite():
    one = np.array([1.0, -4.0, inf, nan])
    assert error(one, one.copy()) == 0
    assert error(np.array([1.5, -4.0, inf, nan]), one) == 0.5 / 4
    for other in ([nan, -4, inf, nan], [1, -4, -inf, nan], [1, -4, inf, 0], [1, inf, inf, nan], [1, -4, 9, nan]):
        assert error(np.array(other), one) == inf
    assert error(np.zeros(3), np.zeros((3, 1))) == inf
    assert error(np.array([0.0, 2e-3]), np.zeros(2)) == 2e-3
    assert error(np.zeros((0, 2)), np.zeros((0, 2))) == 0


def imitated_errors(work, *arrays, compute="float32", precision="float32"):
    rng = np.random.default_rng(3)
    arithmetic = rounding.random_rounding(precision, compute, 1.0, rng)
    return np.asarray(work(*(Imitation.of(a, arithmetic) for a in arrays))) - work(*arrays)


@pytest.mark.parametrize("offset", [0.0, 1.0], ids=["random signs", "one sign"])
def test_imitated_sums_err_as_sums_of_one_term_after_another(offset):
    """Somewhat more, by SUMS above all."""
    terms = (np.random.default_rng(0).standard_normal((500, 1000)) + offset).astype("float32")
    exact = terms.sum(axis=1, dtype="float64")
    true = np.cumsum(terms, axis=1)[:, -1] - exact
    ones = np.ones(1000)
    for work in (lambda a: np.sum(a, axis=1), lambda a: a @ ones, lambda a: np.tensordot(a, ones, axes=1)):
        imitated = imitated_errors(work, terms.astype("float64"))
        assert 1 < np.std(imitated) / np.std(true) < 3 * rounding.SUMS


def test_imitated_operations_on_cells_err_by_the_unit_roundoff():
    x = np.random.default_rng(0).uniform(1, 2, 4000)
    for name, unit in (("float32", 2.0**-24), ("bfloat16", 2.0**-8), ("float16", 2.0**-11)):
        relative = np.abs(imitated_errors(np.exp, x, compute=name)) / np.exp(x)
        assert 0.9 * unit < relative.max() <= unit
    tiny = np.abs(imitated_errors(lambda a: a * a, np.full(4000, 2.0**-13), compute="float16"))
    assert 0.4 * 2.0**-24 < tiny.max() < 0.6 * 2.0**-24  # half of float16's smallest number
    for exact in (lambda a: np.maximum(a, 1.5), lambda a: -a, lambda a: np.where(a > 1.5, a, -a), lambda a: a[::-1]):
        assert not imitated_errors(exact, x).any()


def test_tf32_rounds_factors_and_nothing_else():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 50, 50))
    rounded = FORMATS["tf32"].rounded
    short = Imitation.of(a, ShortFactors(FORMATS["tf32"]))
    np.testing.assert_array_equal(np.asarray(short @ b), rounded(a) @ rounded(b))
    np.testing.assert_array_equal(np.asarray(short * b + short), a * b + a)
    imitated, true = imitated_errors(np.matmul, a, b, precision="tf32"), rounded(a) @ rounded(b) - a @ b
    assert 0.7 < np.std(imitated) / np.std(true) < 1.5


def test_an_imitation_stays_one():
    arithmetic = RandomRounding(*[FORMATS["float32"]] * 3, 1.0, np.random.default_rng(0))
    a = Imitation.of(np.ones((2, 3)), arithmetic)
    b = a.copy()
    b += 1
    for made in (a + 1, 1 - a, a.T, a[0], np.concat([a, a]), np.where(a > 0, a, 0.0), np.mean(a, axis=0), np.sum(a), b):
        assert isinstance(made, Imitation)
        assert made.arithmetic is arithmetic
    assert not isinstance(a > 0, Imitation)


# The command.


@pytest.fixture
def run(run, monkeypatch, tmp_path):
    """Run the command line in this process, in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    model = xcnn.Model(Sequential(Conv2D(2, 3, stride=3), Flatten(), Dense(2)), (1, 28, 28), backend="numpy")
    model.save("untold.xcnn")
    model.info = {"data": "mnist01", "classes": ["0", "1"]}
    model.save("digits.xcnn")
    return run


def test_the_command_prints_the_table_of_a_models_data(run):
    code, out, err = run("compare", "digits.xcnn", "--backends", "numpy,strict", "--samples", 2)
    assert (code, err) == (0, "")
    assert out.splitlines()[-1].startswith("rounding explains all (float32, 2 samples")
    (x, y) = xcnn.datasets.mnist01().test
    model = xcnn.Model.load("digits.xcnn", backend="numpy")
    assert out.strip() == str(xcnn.compare(model, x[:2], y[:2], backends=["numpy", "strict"]))


def test_the_command_takes_random_images_and_gives_json(run):
    for arguments in (["untold.xcnn"], ["digits.xcnn", "random"]):
        code, out, _ = run("compare", *arguments, "--backends", "strict", "--json", "--samples", 1)
        rows = [json.loads(line) for line in out.splitlines()]
        assert code == 0
        assert {row["schema"] for row in rows} == {"xcnn.compare.1"}
        assert {(row["layer"], row["quantity"]) for row in rows} >= {("conv1", "dkernel"), (parity.WHOLE, "dx")}


def test_the_commands_exit_codes(run):
    code, out, _ = run("compare", "untold.xcnn", "--backends", "numpy,strict:nowhere", "--samples", 1)
    assert code == 1
    assert 'failed: backend "strict:nowhere" was asked for' in out
    assert run("compare", "untold.xcnn", "--backends", "numpy,no-such-library")[0] == reports.UNAVAILABLE
    assert run("compare", "untold.xcnn", "no-such-data", "--backends", "numpy")[0] == reports.BAD_DATA
