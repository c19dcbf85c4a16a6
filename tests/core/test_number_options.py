"""Numbers among options: NumPy's as Python's, in range, and in the type that they are computed in."""

from functools import partial

import numpy as np
import pytest

import xcnn
from xcnn import layers
from xcnn.errors import OptionError
from xcnn.training import losses, schedules
from xcnn.training.optimizers import SGD, Adam, AdamW, RMSprop

X, Y = np.ones((4, 2), "float32"), np.array([0, 1, 0, 1])


def model(*inner, **options):
    return xcnn.Model(xcnn.Sequential(*inner, xcnn.Dense(2)), (2,), backend=options.pop("backend", "numpy"), **options)


@pytest.mark.parametrize(
    ("optimizer", "loss"),
    [
        (SGD(schedules.Cosine(0.1, np.int64(50))), "mse"),
        (SGD(schedules.Step(np.float32(0.5), np.int8(3), factor=np.float16(0.5))), "mse"),
        (Adam(schedules.Exponential(np.float32(0.5), np.int8(3), factor=np.float64(0.5))), "mae"),
        (
            AdamW(
                schedules.OneCycle(
                    np.float32(0.5), np.int64(9), rise=np.float32(0.5), start=np.int32(5), end=np.float32(7)
                )
            ),
            "mse",
        ),
        (RMSprop(schedules.WarmUp(np.int64(3), np.float32(0.5)), rho=np.float32(0.5)), "mse"),
        (SGD(schedules.WarmUp(3, schedules.Constant(np.float32(0.5)))), "mse"),
        (
            SGD(np.float32(0.1), momentum=np.float32(0.5), clip_norm=np.int64(2)),
            partial(losses.huber, delta=np.float32(1)),
        ),
        (SGD(), partial(losses.cross_entropy, label_smoothing=np.float64(0.25))),
    ],
    ids=["cosine", "step", "exponential", "one cycle", "warm-up", "warm-up to a constant", "huber", "smoothing"],
)
def test_numpys_numbers_train_and_are_saved(optimizer, loss, tmp_path, backend):
    trained = model(layers.LeakyReLU(np.float32(0.25)), optimizer=optimizer, loss=loss, backend=backend)
    trained.step(X, np.eye(2)[Y])
    assert {str(backend.to_numpy(w).dtype) for w in trained.weights["dense1"].values()} == {"float32"}
    trained.save(tmp_path / "m.xcnn")
    loaded = xcnn.Model.load(tmp_path / "m.xcnn", backend="numpy")
    assert loaded.optimizer == optimizer
    assert getattr(loaded.loss, "keywords", {}) == getattr(trained.loss, "keywords", {})
    assert all(type(v) in (int, float) for v in getattr(loaded.loss, "keywords", {}).values())


def test_smoothing_by_numpys_number_leaves_float32(backend):
    y = backend.asarray(np.ones((1, 2)), "float32")
    value, dy = losses.cross_entropy(y, backend.asarray(np.array([1])), label_smoothing=np.float64(0.1))
    assert {backend.to_numpy(a).dtype for a in (value, dy)} == {np.dtype("float32")}


@pytest.mark.parametrize("make", [schedules.Step, schedules.Exponential])
@pytest.mark.parametrize("factor", [-0.5, float("nan"), float("inf"), "0.1", None, True])
def test_factors_are_finite_numbers(make, factor):
    with pytest.raises(OptionError, match=r"X104.*factor must be (at least 0|a number)"):
        make(0.1, 2, factor=factor)


class Odd(schedules.Schedule):
    def __init__(self, rate):
        self.rate = rate

    def __call__(self, step):
        return self.rate


@pytest.mark.parametrize("rate", [float("nan"), -1.0, float("inf"), "0.1", None, np.ones(2)])
def test_a_schedule_that_gives_no_rate_is_told(rate, backend):
    with pytest.raises(OptionError, match=r"X104.*the learning rate of step 0 is"):
        model(optimizer=SGD(Odd(rate)), backend=backend).fit(X, Y, progress="none")


def test_growth_beyond_all_numbers_is_told():
    for schedule in (schedules.Step(1.0, 1, factor=10.0), schedules.Exponential(1.0, 1, factor=10.0)):
        assert schedules.learning_rate(schedule, 300) == pytest.approx(1e300)
        with pytest.raises(OptionError, match="learning rate of step 400 is inf"):
            schedules.learning_rate(schedule, 400)
    assert schedules.learning_rate(Odd(np.float32(0.5)), 3) == 0.5


SMALL = {
    "epsilon": lambda v: model(optimizer=Adam(epsilon=v)),
    "beta1": lambda v: model(optimizer=AdamW(beta1=v)),
    "learning_rate": lambda v: model(optimizer=SGD(v)),
    "rate": lambda v: model(optimizer=SGD(schedules.WarmUp(3, schedules.Constant(v)))),
    "then": lambda v: model(optimizer=SGD(schedules.WarmUp(3, v))),
    "weight_decay": lambda v: model(optimizer=RMSprop(weight_decay=v)),
    "delta": lambda v: model(loss=partial(losses.huber, delta=v)),
    "label_smoothing": lambda v: model(loss=partial(losses.cross_entropy, label_smoothing=v)),
    "negative_slope": lambda v: model(layers.LeakyReLU(v)),
    "alpha": lambda v: model(layers.Residual(layers.ELU(v))),
}
NORMS = (layers.BatchNorm, layers.LayerNorm, partial(layers.GroupNorm, 1))


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("value", [1e-46, 1e-40])
def test_what_would_be_0_in_float32_is_refused(name, value):
    with pytest.raises(
        OptionError, match=rf"X104.*: {name}={value} is 0 in float32(.|\n)*between 1.2e-38 and 3.4e\+38"
    ):
        SMALL[name](value)
    SMALL[name](1.2e-38)


@pytest.mark.parametrize("norm", NORMS)
def test_the_norms_epsilons_are_numbers_of_their_type(norm):
    for value in (1e-46, 1e39):
        with pytest.raises(OptionError, match=r"X104.*epsilon=.* in float32"):
            model(norm(epsilon=value))
        model(norm(epsilon=value), dtype="float64")
    model(norm(epsilon=1e-12), precision="bfloat16", backend=any_half())


def any_half():
    """A backend that computes in half precision here."""
    return pytest.importorskip("torch") and "torch"


@pytest.mark.parametrize("value", [1e300, 10**300, 1e39])
def test_what_would_be_infinite_is_refused_on_every_backend_alike(value, backend):
    with pytest.raises(OptionError, match=r"X104.*SGD: clip_norm=1.* is infinite in float32"):
        model(optimizer=SGD(clip_norm=value), backend=backend)
    wide = model(optimizer=SGD(clip_norm=1e300), dtype="float64", backend=backend)
    assert np.isfinite(wide.step(X.astype("float64"), Y))


def test_halves_have_limits_of_their_own():
    half = any_half()
    with pytest.raises(OptionError, match=r"negative_slope=100000.0 is infinite in float16"):
        model(layers.LeakyReLU(1e5), precision="float16", backend=half)
    built = model(layers.LeakyReLU(1e5), backend=half)
    with pytest.raises(OptionError, match="infinite in float16"):
        built.precision = "float16"
    assert built.precision == "float32"
    model(layers.LeakyReLU(1e5), precision="bfloat16", backend=half)


def test_what_is_refused_changes_nothing():
    built = model()
    before = built.optimizer, built.loss
    with pytest.raises(OptionError, match="X104"):
        built.optimizer = Adam(epsilon=1e-46)
    with pytest.raises(OptionError, match="X104"):
        built.loss = partial(losses.huber, delta=1e-46)
    assert (built.optimizer, built.loss) == before


def test_seeds_have_64_bits(backend):
    with pytest.raises(
        OptionError, match=r"X104.*seed must be below 2\^64; got 18446744073709551621\.\n  hint: seed=5"
    ):
        model(seed=2**64 + 5, backend=backend)
    largest = model(layers.Dropout(0.5), seed=2**64 - 1, backend=backend)
    assert np.isfinite(largest.step(X, Y))
    for n in (2**64, -(2**63) - 1):
        with pytest.raises(OptionError, match=r"X104.*random key have 64 bits"):
            backend.random_bits((n,), (2,))
