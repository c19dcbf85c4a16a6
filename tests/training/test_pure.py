"""What may change from step to step is seen in each, whatever a backend records, compiles or captures."""

from dataclasses import dataclass, field
from functools import partial, wraps
from types import SimpleNamespace

import numpy as np
import pytest

import xcnn
from xcnn.core.pure import Impure, is_fixed, made_of
from xcnn.errors import OptionError
from xcnn.losses import cross_entropy, mse

FACTOR = 1.0
HELD = SimpleNamespace(factor=1.0)


def times(loss, factor):
    """The gradient times a factor that is asked for in each call."""

    def scaled(y, t):
        value, dy = loss(y, t)
        return value, dy * factor()

    return scaled


def by_global(y, t):
    value, dy = mse(y, t)
    return value, dy * FACTOR


def by_default(y, t, held=[1.0]):  # noqa: B006 - that is the point
    value, dy = mse(y, t)
    return value, dy * held[0]


def by_argument(y, t, held):
    value, dy = mse(y, t)
    return value, dy * held[0]


@wraps(mse)
def in_disguise(y, t):
    return by_global(y, t)


class LossObject:
    """An object whose attribute is the factor."""

    factor = 1.0

    def __call__(self, y, t):
        value, dy = mse(y, t)
        return value, dy * self.factor

    def method(self, y, t):
        return self(y, t)


class Behind:
    """Y = X, dX = factor dY, of a global."""

    def init(self, rng, input_shape):
        return {}, input_shape

    def factor(self):
        return FACTOR

    def __call__(self, weights, x, run):
        factor = self.factor()
        return x, lambda dy: (dy * factor, {})


class ByClass(Behind):
    """The same of an attribute of the class."""

    number = 1.0

    def factor(self):
        return self.number


@dataclass
class ByAttribute(Behind):
    """The same of an attribute."""

    number: float = 1.0

    def factor(self):
        return self.number


class OwnDense(xcnn.Dense):
    """A layer of xcnn's, derived from."""

    def __call__(self, weights, x, run):
        y, backward = super().__call__(weights, x, run)
        return y, lambda dy: backward(dy * FACTOR)


class OwnSequential(xcnn.Sequential):
    """A container of xcnn's, derived from."""

    def __call__(self, weights, x, run):
        y, backward = super().__call__(weights, x, run)
        return y, lambda dy: backward(dy * FACTOR)


class OwnSGD(xcnn.SGD):
    """An optimizer of xcnn's, derived from."""

    def change(self, rate, step, w, g, *moments):
        return super().change(rate * FACTOR, step, w, g, *moments)


class ByFactor(xcnn.schedules.Schedule):
    """A schedule that reads a global."""

    def __call__(self, step):
        return 0.1 * FACTOR


DENSE = xcnn.Dense(2, bias=False)


def cases():
    """(net, loss, optimizer, how to set the factor) by name."""

    def set_global(value):
        globals()["FACTOR"] = value

    sgd, plain, cell, held = xcnn.SGD(0.1), xcnn.Sequential(DENSE), SimpleNamespace(factor=1.0), [1.0]
    thing, layer, within = LossObject(), ByAttribute(), ByAttribute()
    return {
        "loss: a global": (plain, by_global, sgd, set_global),
        "loss: a closure": (plain, times(mse, lambda: cell.factor), sgd, lambda v: setattr(cell, "factor", v)),
        "loss: a default": (plain, by_default, sgd, lambda v: by_default.__defaults__[0].__setitem__(0, v)),
        "loss: an argument": (plain, partial(by_argument, held=held), sgd, lambda v: held.__setitem__(0, v)),
        "loss: wraps": (plain, in_disguise, sgd, set_global),
        "loss: an object": (plain, thing, sgd, lambda v: setattr(thing, "factor", v)),
        "loss: a method": (plain, thing.method, sgd, lambda v: setattr(thing, "factor", v)),
        "layer: a global": (xcnn.Sequential(DENSE, Behind()), mse, sgd, set_global),
        "layer: a class": (xcnn.Sequential(DENSE, ByClass()), mse, sgd, lambda v: setattr(ByClass, "number", v)),
        "layer: an attribute": (xcnn.Sequential(DENSE, layer), mse, sgd, lambda v: setattr(layer, "number", v)),
        "layer: within a container": (
            xcnn.Sequential(DENSE, xcnn.Concatenate(xcnn.Sequential(within))), mse, sgd,
            lambda v: setattr(within, "number", v),
        ),
        "layer: derived": (xcnn.Sequential(OwnDense(2, bias=False)), mse, sgd, set_global),
        "container: derived": (OwnSequential(DENSE), mse, sgd, set_global),
        "optimizer: derived": (plain, mse, OwnSGD(0.1), set_global),
        "schedule: a global": (plain, mse, xcnn.SGD(ByFactor()), set_global),
    }  # fmt: skip


X, T = (np.random.default_rng(n).standard_normal((20, size)) for n, size in ((0, 3), (1, 2)))


def by_hand(weights, factors):
    """Gradient descent on the mean square, an epoch in batches of 5 for each factor."""
    for factor in factors:
        for at in range(0, 20, 5):
            x, t = X[at : at + 5], T[at : at + 5]
            weights = weights - 0.1 * factor * 2 / t.size * x.T @ (x @ weights - t)
    return weights


def kernel(model):
    return np.array(model.backend.to_numpy(next(iter(model.weights.values()))["kernel"]))


def trained(model, epochs, callback=(), **how):
    model.fit(X, T, epochs=epochs, batch_size=5, shuffle=False, callbacks=callback, progress="none", **how)


@pytest.mark.parametrize("case", cases())
def test_a_factor_that_a_callback_changes(case, backend):
    net, loss, optimizer, change = cases()[case]
    model = xcnn.Model(net, (3,), loss=loss, optimizer=optimizer, backend=backend, dtype="float64")
    first = kernel(model)

    def after(model, history):
        change({2: 0.25, 3: 0.0}.get(model.state.epoch, 1.0))

    change(1.0)
    trained(model, 5, after)
    np.testing.assert_allclose(kernel(model), by_hand(first, [1.0, 1.0, 0.25, 0.0, 1.0]), rtol=1e-9)
    change(0.5)
    for at in range(0, 20, 5):
        model.step(X[at : at + 5], T[at : at + 5])
    np.testing.assert_allclose(kernel(model), by_hand(first, [1.0, 1.0, 0.25, 0.0, 1.0, 0.5]), rtol=1e-9)
    change(1.0)


class Times(Behind):
    """Y = factor X, of a global."""

    def __call__(self, weights, x, run):
        return x * FACTOR, lambda dy: (dy * FACTOR, {})


def test_predictions_follow_too(backend, monkeypatch):
    model = xcnn.Model(xcnn.Sequential(DENSE, Times()), (3,), backend=backend, dtype="float64")
    for factor in (1.0, 3.0):
        monkeypatch.setitem(globals(), "FACTOR", factor)
        np.testing.assert_allclose(model.predict(X), factor * X @ kernel(model), rtol=1e-12)


# What is marked is kept, and its attributes are looked at.


def kept(model):
    """Whether the backend keeps what steps do, where it ever does."""
    return not getattr(model.compiled_step, "reason", "")


@xcnn.pure
@dataclass
class MarkedLoss:
    """The mean square, its gradient times factors that may be changed between epochs."""

    factor: float = 1.0
    more: dict = field(default_factory=lambda: {"factors": [1.0]})

    def __call__(self, y, t):
        value, dy = mse(y, t)
        return value, dy * (self.factor * self.more["factors"][0])


def test_attributes_of_what_is_marked_may_be_changed_between_epochs(backend):
    loss = MarkedLoss()
    model = xcnn.Model(
        xcnn.Sequential(DENSE), (3,), loss=loss, optimizer=xcnn.SGD(0.1), backend=backend, dtype="float64"
    )
    first = kernel(model)

    def after(model, history):
        assert kept(model)
        if model.state.epoch == 2:
            loss.factor = 0.25
        if model.state.epoch == 3:
            loss.more["factors"][0] = 2.0

    trained(model, 4, after)
    expected = [1.0, 1.0, 0.25, 0.5]
    np.testing.assert_allclose(kernel(model), by_hand(first, expected), rtol=1e-9)
    loss.factor = 1.0
    for at in range(0, 20, 5):
        model.step(X[at : at + 5], T[at : at + 5])
    np.testing.assert_allclose(kernel(model), by_hand(first, [*expected, 2.0]), rtol=1e-9)
    loss.more["other"] = np.ones(1)  # what may be changed unseen
    model.step(X[:5], T[:5])
    assert kept(model) is not hasattr(model.compiled_step, "reason")


def test_options_of_our_losses_are_kept_and_looked_at(backend):
    models = [
        xcnn.Model(
            xcnn.Sequential(DENSE), (3,), loss=partial(cross_entropy, label_smoothing=0.1), backend=b, dtype="float64"
        )
        for b in (backend, "numpy")
    ]
    labels = np.arange(20) % 2
    for model in models:

        def after(model, history):
            model.loss.keywords["label_smoothing"] = 0.6

        model.fit(X, labels, epochs=3, batch_size=5, callbacks=[after], progress="none")
        assert kept(model)
    np.testing.assert_allclose(kernel(models[0]), kernel(models[1]), rtol=1e-9)


def test_errors_that_are_raised_once_are_told_once(backend):
    """Of marked code too, also while it is recorded; the state is that from before it, and training goes on."""
    for mark in (xcnn.pure, lambda loss: loss):
        for last in (1, 2, 3):
            calls = []

            @mark
            def loss(y, t, calls=calls, last=last):
                calls.append(1)
                if len(calls) == last:
                    raise TypeError("once") if last % 2 else RuntimeError("once")
                return mse(y, t)

            model = xcnn.Model(
                xcnn.Sequential(DENSE), (3,), loss=loss, optimizer=xcnn.SGD(0.1), backend=backend, dtype="float64"
            )
            told, first = 0, kernel(model)
            for at in (0, 5, 10, 15, 15):
                before, error = model.state, None
                try:
                    model.step(X[at : at + 5], T[at : at + 5])
                except (TypeError, RuntimeError) as raised:
                    error = raised
                if error is not None:
                    assert str(error) == "once"
                    assert model.state is before
                    told += 1
                    model.step(X[at : at + 5], T[at : at + 5])
                if at == 15 and model.state.step == 4:
                    np.testing.assert_allclose(kernel(model), by_hand(first, [1.0]), rtol=1e-9)
            assert told == (len(calls) >= last)
            assert told or mark is xcnn.pure


# What values are made of.


@xcnn.pure
@dataclass
class Number:
    """An option."""

    value: object = 1.0


@xcnn.pure
class Bare:
    """No dataclass."""

    def __init__(self, value):
        self.value = value


@pytest.mark.parametrize("kind", [Number, Bare])
def test_what_differs_is_made_of_something_else(kind):
    values = [
        1,
        True,
        1.0,
        -1.0,
        0.0,
        -0.0,
        None,
        "1",
        (1,),
        [1],
        {"a": 1},
        {"a": 2},
        1j,
        b"1",
        mse,
        Number(),
        Number(2.0),
    ]
    found = [made_of(kind(value)) for value in values]
    assert len({*found}) == len(values)
    assert found == [made_of(kind(value)) for value in values]
    assert made_of(kind(float("nan"))) == made_of(kind(float("nan")))
    assert made_of(kind(np.float64(0.5))) == made_of(kind(0.5))


@xcnn.pure
class Marked(Behind):
    """A layer that is said to be pure."""


class Derived(Marked):
    """It says nothing."""


IMPURE = {
    "a layer": (Behind(), "Behind is not marked as pure"),
    "derived of one that is marked": (Derived(), "Derived is not marked"),
    "derived of ours": (OwnDense(2), "OwnDense is not marked"),
    "within": (xcnn.Sequential(xcnn.Residual(Behind())), "Behind is not marked"),
    "a function": (by_global, "by_global is not marked"),
    "that looks like ours": (in_disguise, "mse is not marked"),
    "a partial": (partial(by_global), "by_global is not marked"),
    "an array": (Number(np.ones(2)), "ndarray is not marked"),
    "a set": (Number({1}), "set is not marked"),
    "a class": (Number(xcnn.Dense), "Dense is not marked"),
}


@pytest.mark.parametrize("case", IMPURE)
def test_what_is_not_known_to_be_pure(case):
    value, reason = IMPURE[case]
    with pytest.raises(Impure, match=f"^{reason}"):
        made_of(value)


def test_an_initializer_has_no_part_in_steps():
    drawn = xcnn.Dense(2, kernel_initializer=lambda rng, shape, *fans: rng.standard_normal(shape))
    assert made_of(drawn) == made_of(xcnn.Dense(2))


def test_marks_are_for_classes_and_functions():
    with pytest.raises(OptionError, match=r"X104.*pure marks a class or a function(.|\n)*mark the object's class"):
        xcnn.pure(Number())


def derived():
    @dataclass(frozen=True)
    class Own(xcnn.Dense):
        pass

    return Own(2)


MUTABLE = {
    "a list": [1],
    "a dict": {"a": 1},
    "options of a loss": partial(cross_entropy, label_smoothing=0.1),
    "an object": LossObject(),
    "a function of a user's": by_global,
    "a tuple of such": (1, (2, [3])),
    "a class of a user's": derived(),
    "a net that holds one": xcnn.Sequential(xcnn.ReLU(), derived()),
    "a callback": xcnn.EarlyStopping(),
}


def test_only_what_is_frozen_throughout_is_not_looked_at_again():
    """Then nobody can change it, and a step need not be compared with what it was."""
    net = xcnn.Sequential(xcnn.Conv2D(2, 3), xcnn.Residual(xcnn.BatchNorm()), head=xcnn.Dense(2))
    own = xcnn.Adam(xcnn.schedules.Cosine(0.1, steps=9)), xcnn.backend("numpy"), cross_entropy, None, (1, "a", 2.0)
    for value in (net, *own):
        assert is_fixed(value), value
    for name, value in MUTABLE.items():
        assert not is_fixed(value), name


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_a_fixed_step_is_looked_at_once(name, monkeypatch):
    pytest.importorskip(name, reason=f"{name} is not installed")
    from xcnn.training import step

    seen = []
    monkeypatch.setattr(step, "made_of", lambda *given: [seen.append(given), made_of(*given)][1])
    x, y = np.ones((4, 3), "float32"), np.asarray([0, 1, 0, 1])
    fixed = xcnn.Model(xcnn.Sequential(xcnn.Dense(2)), (3,), backend=name)
    assert len(seen) == 2
    for _ in range(3):
        fixed.step(x, y)
    assert len(seen) == 2
    loss = partial(cross_entropy, label_smoothing=0.1)
    other = xcnn.Model(xcnn.Sequential(xcnn.Dense(2)), (3,), loss=loss, backend=name)
    for _ in range(3):
        other.step(x, y)
    assert len(seen) == 10
