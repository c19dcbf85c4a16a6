"""The checks themselves: right layers and backends pass, and every planted mistake is found."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

import xcnn
from xcnn.checking import cases as testing_cases
from xcnn.checking.backend import Row, check_backend
from xcnn.checking.gradients import (
    GRADIENT,
    CheckFailed,
    ReferenceBackend,
    Report,
    check_adjoint,
    check_layer,
)
from xcnn.core import reference
from xcnn.layers import Next


@dataclass(frozen=True)
class Linear:
    """Y = X W + B, with its mistakes as options."""

    units: int = 3
    mistake: str = ""

    def init(self, rng, input_shape):
        weights = {"kernel": rng.standard_normal((*input_shape, self.units)), "bias": np.zeros(self.units)}
        return weights, (self.units + (self.mistake == "promised shape"),)

    def __call__(self, weights, x, run):
        xp, kernel, bias, mistake = run.backend.xp, weights["kernel"], weights["bias"], self.mistake
        if mistake == "shape of a batch of zero" and x.shape[0] == 0:
            x = xp.zeros((1, *x.shape[1:]), dtype=x.dtype)
        if mistake == "writes into x":
            x *= 1.0 + 1e-15
            x += 1.0
        y = x @ kernel + bias
        if mistake == "type of y":
            y = xp.astype(y, xp.float64)
        if mistake == "computes in float32":
            y = xp.astype(xp.astype(y, xp.float32), y.dtype)
        if mistake == "computes in float16":
            y = y if y.dtype == np.float64 else xp.astype(xp.astype(y, xp.float16), y.dtype)
        if mistake == "needs contiguous arrays":
            y = y + (0.0 if x.flags.c_contiguous else 1.0)
        if mistake == "another result each time":
            y = y + next(NOISE)

        def backward(dy):
            grads = {"kernel": x.T @ dy, "bias": xp.sum(dy, axis=0)}
            dx = dy @ kernel.T
            match mistake:
                case "sign of dx":
                    dx = -dx
                case "sign of the kernel's gradient":
                    grads["kernel"] = -grads["kernel"]
                case "mean for sum":
                    grads["bias"] = xp.mean(dy, axis=0) if dy.shape[0] else grads["bias"]
                case "no gradient for the bias":
                    del grads["bias"]
                case "a gradient of zeros for the bias":
                    grads["bias"] = xp.zeros_like(bias)
                case "a gradient too many":
                    grads["scale"] = grads["bias"]
                case "shape of the bias's gradient":
                    grads["bias"] = dy
                case "shape of dx":
                    dx = xp.reshape(dx, (*dx.shape, 1))
                case "type of dx":
                    dx = xp.astype(dx, xp.float64)
                case "type of a gradient":
                    grads["kernel"] = xp.astype(grads["kernel"], xp.float64)
                case "gradients of a batch of zero" if x.shape[0] == 0:
                    grads["bias"] = xp.sum(dy)
                case "one cell of dx":
                    dx = dx * (1 - 1e-3 * (xp.arange(dx.shape[1], dtype=dx.dtype) == 0))
                case "a millionth of dx":
                    dx = dx * (1 + 1e-5)
                case "NaN in dx":
                    dx = dx * float("nan")
                case "writes into dy":
                    dy += 1.0
                case "writes into the weights":
                    kernel[...] = 0
            return dx, grads

        return y, backward


NOISE = iter(np.random.default_rng(0).random(10_000))

MISTAKES = {
    "promised shape": "y's shape for a batch of 2",
    "shape of a batch of zero": "y's shape for a batch of 0",
    "gradients of a batch of zero": "shapes for a batch of zero",
    "writes into x": "writes into an array that it was given",
    "writes into dy": "writes into an array that it was given",
    "writes into the weights": "writes into an array that it was given",
    "type of y": "types for float32",
    "type of dx": "types for float32",
    "type of a gradient": "types for float32",
    "computes in float32": "gradient of",
    "computes in float16": "in float32 against float64",
    "needs contiguous arrays": "with non-contiguous arrays",
    "another result each time": "gradient of",
    "sign of dx": "gradient of x",
    "sign of the kernel's gradient": "gradient of kernel",
    "mean for sum": "gradient of bias",
    "no gradient for the bias": "names and shapes of the gradients",
    "a gradient of zeros for the bias": "gradient of bias",
    "a gradient too many": "names and shapes of the gradients",
    "shape of the bias's gradient": "names and shapes of the gradients",
    "shape of dx": "dx's shape",
    "one cell of dx": "gradient of x",
    "a millionth of dx": "gradient of x",
    "NaN in dx": "gradient of x",
}
NUMPY = xcnn.backend("numpy")


def test_a_right_layer_passes(backend):
    report = check_layer(Linear(), (4,), backend=backend)
    assert list(report.errors) == ["gradient", "agreement", "float32"]
    assert 0 < report.errors["gradient"] < GRADIENT
    assert report.errors["float32"] > 1e-9
    assert str(report).startswith("Linear(units=3, mistake=''): gradient ")


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found(mistake, seed):
    with pytest.raises(CheckFailed, match=MISTAKES[mistake]):
        check_layer(Linear(mistake=mistake), (4,), backend=NUMPY, seed=seed)


def test_check_failed_is_an_assertion():
    assert issubclass(CheckFailed, AssertionError)


NOTHING = {"stride": (1, 1), "dilation": (1, 1), "padding": ((0, 0), (0, 0))}


@dataclass(frozen=True)
class Forgetful(xcnn.Conv2D):
    """A convolution whose gradient of x forgets one of its options."""

    forgets: str = ""

    def __call__(self, weights, x, run):
        y, right = super().__call__(weights, x, run)
        how = self.window(x.shape[2:])

        def backward(dy):
            _, grads = right(dy)
            wrong = how | {name: nothing for name, nothing in NOTHING.items() if name == self.forgets}
            return run.backend.correlate_input_adjoint(dy, weights["kernel"], x.shape, **wrong), grads

        return y, backward


@pytest.mark.parametrize("option", NOTHING)
def test_a_forgotten_option_is_found(option):
    layer = Forgetful(2, 3, padding=1) if option == "padding" else Forgetful(2, 3, stride=2, padding=2, dilation=2)
    assert check_layer(layer, (2, 9, 9), backend=NUMPY).errors["gradient"] < GRADIENT
    with pytest.raises(CheckFailed, match="gradient of x"):
        check_layer(replace(layer, forgets=option), (2, 9, 9), backend=NUMPY)


class MeanlessPool(xcnn.AveragePool2D):
    """An average whose gradient is a sum's."""

    def __call__(self, weights, x, run):
        y, _ = super().__call__(weights, x, run)
        size, how = (2, 2), self.window(x.shape[2:])
        return y, lambda dy: (run.backend.sum_pool_adjoint(dy, x.shape, size, **how), {})


def test_a_missing_mean_is_found():
    with pytest.raises(CheckFailed, match="gradient of x"):
        check_layer(MeanlessPool(), (2, 4, 4), backend=NUMPY)


@dataclass(frozen=True)
class Running:
    """Y = X - mean, the running mean following the batch's, with its mistakes as options."""

    mistake: str = ""

    def init(self, rng, input_shape):
        return {"mean": np.zeros(input_shape)}, input_shape

    def __call__(self, weights, x, run):
        xp, mean = run.backend.xp, weights["mean"]
        count = max(x.shape[0], 1)
        moved = 0.9 * mean + 0.1 * xp.sum(x, axis=0) / count
        if self.mistake == "type":
            moved = xp.astype(moved, xp.float64)
        if self.mistake == "shape":
            moved = xp.sum(moved)
        return x - mean, lambda dy: (dy, {"mean": Next(moved)})


def test_weights_that_are_not_trained():
    assert check_layer(Running(), (4,), backend=NUMPY).errors["gradient"] < GRADIENT
    with pytest.raises(CheckFailed, match="types for float32"):
        check_layer(Running("type"), (4,), backend=NUMPY)
    with pytest.raises(CheckFailed, match="names and shapes of the gradients"):
        check_layer(Running("shape"), (4,), backend=NUMPY)


def test_a_gradient_that_cancels_to_zero_passes():
    """A bias before a BatchNorm has no effect: its slopes are rounding, and must not count as an error."""
    net = xcnn.Sequential(xcnn.Conv2D(2, 3), xcnn.BatchNorm())
    for seed in range(5):
        assert check_layer(net, (1, 6, 6), backend=NUMPY, batch=4, seed=seed).errors["gradient"] < GRADIENT


@dataclass(frozen=True)
class Faint:
    """Y = 1 + X / 10^6, whose gradient is small beside its rounding, and wrong by a tenth where asked."""

    wrong: bool = False

    def init(self, rng, input_shape):
        return {}, input_shape

    def __call__(self, weights, x, run):
        return 1 + x * 1e-6, lambda dy: (dy * (1.1e-6 if self.wrong else 1e-6), {})


def test_a_faint_gradient_is_still_held_to_its_value():
    assert check_layer(Faint(), (5,), backend=NUMPY).errors["gradient"] < GRADIENT
    with pytest.raises(CheckFailed, match="gradient of x"):
        check_layer(Faint(wrong=True), (5,), backend=NUMPY)


def test_the_default_backend_is_the_processs(monkeypatch):
    class Seen(Exception):
        pass

    @dataclass(frozen=True)
    class Spy(Linear):
        def __call__(self, weights, x, run):
            raise Seen(run.backend.spec, run.train)

    monkeypatch.setattr("xcnn.backends.selector._default", xcnn.backend("strict"))
    with pytest.raises(Seen, match="strict"):
        check_layer(Spy(), (4,))
    with pytest.raises(Seen, match="False"):
        check_layer(Spy(), (4,), train=False)


# Adjoints.


def test_check_adjoint():
    a = np.random.default_rng(0).standard_normal((3, 4))
    report = check_adjoint("a", lambda x: a @ x, lambda y: a.T @ y, (4,))
    assert report.errors["adjoint"] < 1e-15
    with pytest.raises(CheckFailed, match=r"a: <A x, y> = .* but <x, A\* y> = "):
        check_adjoint("a", lambda x: a @ x, lambda y: 1.001 * a.T @ y, (4,))
    with pytest.raises(CheckFailed, match="shape of the adjoint's result"):
        check_adjoint("a", lambda x: a @ x, lambda y: y, (4,))
    with pytest.raises(CheckFailed, match="nan"):
        check_adjoint("a", lambda x: a @ x, lambda y: np.nan * a.T @ y, (4,))


# Backends.


def test_every_layer_occurs_among_the_cases():
    named = {name for name in xcnn.layers.__all__ if name not in ("Layer", "Next", "Run")}
    assert {type(layer).__name__ for layer, _ in testing_cases.LAYERS} == named


def test_every_primitive_is_checked():
    contract = {name for name in reference.__all__ if hasattr(xcnn.Backend, name)} | {"random_bits"}
    assert {part for name in testing_cases.CALLS for part in name.split(" and ")} == contract


def test_right_backends_pass(any_backend):
    # JAX compiles each operation of each layer; test_layers.py puts all of them to the same checks on it
    simple = [
        case for case in testing_cases.LAYERS if type(case[0]).__name__ in ("Dense", "ReLU", "GlobalAveragePool2D")
    ]
    layers = testing_cases.LAYERS if any_backend.name != "jax" else simple
    rows = list(check_backend(any_backend, layers))
    assert [(row.name, row.message) for row in rows if not row.ok] == []
    assert len(rows) == len(testing_cases.CALLS) + len(layers)
    assert all(row.agreement is not None and row.float32 is not None for row in rows)
    measured = {row.name for row in rows if row.gradient is not None}
    assert measured >= {"correlate_input_adjoint", "correlate_kernel_adjoint", "sum_pool_adjoint"}
    assert measured >= {repr(layer) for layer, _ in layers}


def test_rows_come_one_by_one():
    class Unwilling(ReferenceBackend):
        def sum_pool(self, *args, **how):
            raise RuntimeError("not today")

    rows = check_backend(Unwilling(), [])
    assert next(rows).name == "correlate"
    later = {row.name: row for row in rows}
    assert later["sum_pool"] == Row("sum_pool", ok=False, message="RuntimeError: not today")
    assert later["max_pool"].ok


def test_own_layers_take_the_place_of_xcnns():
    rows = list(check_backend(NUMPY, [(Linear(), (4,)), (Linear(mistake="sign of dx"), (4,)), (Linear(), (2, 2))]))
    assert [row.name for row in rows[-3:]] == [repr(Linear()), repr(Linear(mistake="sign of dx")), repr(Linear())]
    assert [row.ok for row in rows[-3:]] == [True, False, False]
    assert "gradient of x" in rows[-2].message
    assert rows[-2].gradient is None
    assert rows[-1].message  # a layer that raises is a row too


def wrong(primitive, change):
    """A backend with one primitive changed."""

    def changed(self, *args, **how):
        return change(getattr(ReferenceBackend(), primitive)(*args, **how))

    return type("Wrong", (ReferenceBackend,), {primitive: changed})()


IMAGES = [name for name in testing_cases.CALLS if "pool" in name or name.endswith("adjoint")]
SLIPS = {
    "a little more": lambda y: y * (1 + 1e-9),
    "shifted": lambda y: np.roll(y, 1, axis=-1),
    "in float64": lambda y: y.astype("float64"),
    "another shape": lambda y: y[..., None],
    "NaN": lambda y: y * np.nan,
}


@pytest.mark.parametrize("slip", SLIPS)
@pytest.mark.parametrize("primitive", IMAGES)
def test_a_wrong_primitive_is_found(primitive, slip, monkeypatch):
    """And with one of the mistakes it is seen that no other is blamed, without which one row is enough."""
    if slip != "a little more":
        monkeypatch.setattr(testing_cases, "CALLS", {primitive: testing_cases.CALLS[primitive]})

    def change(result):
        return (SLIPS[slip](result[0]), result[1]) if primitive == "max_pool" else SLIPS[slip](result)

    rows = {row.name: row for row in check_backend(wrong(primitive, change), [])}
    failed = {name for name, row in rows.items() if not row.ok}
    assert primitive in failed
    assert failed <= {primitive, f"{primitive}_adjoint"}


def test_wrong_random_bits_are_found():
    rows = {row.name: row for row in check_backend(wrong("random_bits", lambda bits: bits ^ 1), [])}
    assert [name for name, row in rows.items() if not row.ok] == ["random_bits"]


def test_a_wrong_plane_is_found():
    rows = {row.name: row for row in check_backend(wrong("convolve2d", lambda y: -y), [])}
    assert [name for name, row in rows.items() if not row.ok] == ["correlate2d and convolve2d"]


def test_reports_print_their_errors():
    assert str(Report("thing", {"gradient": 2e-9, "float32": 3e-7})) == "thing: gradient 2.0e-09, float32 3.0e-07"
