"""A model is changed whole or not at all: refused, interrupted, or from within its own training."""

import copy
import logging
import pickle
import sys
import threading
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from draws import draws

from xcnn.core import tree
from xcnn.errors import BusyError, OptionError, XcnnError
from xcnn.layers import Dense, ReLU, Sequential
from xcnn.model.model import Model
from xcnn.training.callbacks import Checkpoint, EarlyStopping
from xcnn.training.optimizers import SGD, Adam
from xcnn.training.schedules import Cosine, Schedule, Step

X = np.random.default_rng(1).normal(size=(12, 3)).astype("float32")
Y = np.arange(12) % 2


def make(backend="numpy", **options):
    net = Sequential(Dense(4), ReLU(), Dense(2))
    return Model(net, (3,), **{"backend": backend, "optimizer": SGD(0.1, momentum=0.9), **options})


def trained(backend="numpy", **options):
    """A model that was left within its second epoch."""
    model = make(backend, **options)
    model.fit(X, Y, batch_size=4, progress="none")
    model.fit(X, Y, batch_size=4, progress=Leaving(2))
    assert (model.state.epoch, model.state.batch) == (1, 2)
    return model


class Leaving:
    """Progress that is interrupted when a batch has been done."""

    def __init__(self, batches):
        self.left = batches + 1

    def start(self, *_):
        pass

    finish = close = start

    def advance(self, *_):
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


def bits(model):
    """All numbers of a model, and how it goes on: the weights after one more step, also of what a file gives back."""
    arrays = tree.leaves({"w": model.state.weights, "s": model.state.optimizer_state})
    return [np.asarray(a if isinstance(a, int) else model.backend.to_numpy(a)).tobytes() for a in arrays]


def going_on(model, path):
    """What becomes of a copy and of a loaded one: they must agree."""
    model.save(path)
    ends = []
    for one in (copy.copy(model), Model.load(path, backend=model.backend)):
        targets = np.eye(2, dtype="float32")[Y]
        loss = one.step(X, targets)
        ends.append((bits(one), loss, type(one.optimizer), repr(one.trainer.optimizer), one.precision, one.backend))
    assert ends[0] == ends[1]
    return ends[0]


def weights(model, to):
    return tree.map(lambda w: np.full(w.shape, to, "float32"), model.state.weights)


def edited(model):
    with model.edit("dense1/kernel") as kernel:
        kernel[1, 2] = 7


CHANGES = {
    "loss": lambda m: setattr(m, "loss", "mse"),
    "optimizer": lambda m: setattr(m, "optimizer", "adam"),
    "learning rate": lambda m: setattr(m, "learning_rate", Step(0.5, 2)),
    "precision": lambda m: setattr(m, "precision", "float32"),
    "backend": lambda m: m.to("numpy", fuse=False),
    "weights": lambda m: setattr(m, "weights", weights(m, 0.5)),
    "one": lambda m: m.weights["dense1"].update(bias=[1, 2, 3, 4], kernel=np.ones((3, 4))),
    "cell": edited,
}


class At:
    """Raises KeyboardInterrupt at the n-th moment at which Python hears signals: a function begins, or C returns."""

    def __init__(self, n=None):
        self.left, self.seen = n, 0

    def __call__(self, frame, event, argument):
        if event in ("call", "c_return"):
            self.seen += 1
            if self.seen == self.left:
                sys.setprofile(None)
                raise KeyboardInterrupt

    def __enter__(self):
        sys.setprofile(self)
        return self

    def __exit__(self, *_):
        sys.setprofile(None)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("what", CHANGES)
def test_an_interrupt_finds_the_one_or_the_other(what, tmp_path):
    change, path = CHANGES[what], tmp_path / "m.xcnn"
    before, after = trained(), trained()
    with At() as counter:
        change(after)
    ends = [going_on(before, path), going_on(after, path)]
    found = set()
    for n in np.random.default_rng(0).choice(counter.seen - 1, min(draws(8), counter.seen - 1), replace=False):
        model = copy.copy(before)
        with suppress(KeyboardInterrupt), At(n + 1):  # Python drops it where a generator is let go
            change(model)
        found.add(ends.index(going_on(model, path)))
        beside = threading.Thread(target=change, args=(model,))  # free for another thread
        beside.start()
        beside.join()
        assert going_on(model, path) == ends[1]
    assert 0 in found or what in ("precision",)


class Negative(Schedule):
    """No rate."""

    def __call__(self, step):
        return -1.0


REFUSED = {
    "loss": lambda m: setattr(m, "loss", "quantile"),
    "loss that can't be": lambda m: setattr(m, "loss", "cross_entropy"),
    "optimizer": lambda m: setattr(m, "optimizer", "newton"),
    "optimizer's numbers": lambda m: setattr(m, "optimizer", Adam(epsilon=1e-46)),
    "learning rate": lambda m: setattr(m, "learning_rate", -1),
    "precision": lambda m: setattr(m, "precision", "float16"),
    "backend": lambda m: m.to("strict", fuse=3),
    "backend without the type": lambda m: m.to("nowhere"),
    "weights": lambda m: setattr(m, "weights", {}),
    "one of two": lambda m: m.weights["dense1"].update(kernel=np.ones((3, 1)), bias=[1, 2]),
    "cell": lambda m: m.edit("dense9/kernel").__enter__(),
    "monitor": lambda m: m.fit(X, Y, callbacks=EarlyStopping("val_loss"), progress="none"),
    "path": lambda m: m.fit(X, Y, callbacks=Checkpoint("/nowhere/m.xcnn"), progress="none"),
    "rate": lambda m: m.fit(X, Y, progress="none"),
    "targets": lambda m: m.fit(X, Y[:3], progress="none"),
    "info": lambda m: setattr(m, "info", [1]),
    "plan": lambda m: setattr(m, "plan", None),
    "state": lambda m: setattr(m, "state", m.weights),
    "trainer": lambda m: setattr(m, "trainer", None),
    "policy": lambda m: setattr(m, "policy", "float32"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused_changes_nothing(what, tmp_path):
    net = Sequential(Dense(1, bias=False)) if what == "loss that can't be" else Sequential(Dense(1), Dense(1))
    model = Model(net, (3,), loss="mse", optimizer=SGD(0.1), backend="numpy")
    if what == "loss that can't be":
        y = X[:, :1]
    else:
        model, y = trained(), Y
    if what == "rate":
        model.learning_rate = Negative()
    model.info["mine"] = 1
    before = {**vars(model)}
    rows, info = copy.deepcopy(model.state.rows), dict(model.info)
    with pytest.raises((XcnnError, OSError)):
        REFUSED[what](model)
    after = {name: value for name, value in vars(model).items() if name != "history"}
    assert {name for name, value in after.items() if value is not before[name]} == set()
    assert (model.state.rows, model.info, model.turn.owner) == (rows, info, None)
    if what != "rate":
        model.save(tmp_path / "m.xcnn")
        Model.load(tmp_path / "m.xcnn", backend="numpy").step(X, y)


# Within a training.


def test_a_training_within_a_training_is_refused():
    model, twin, told = make(), make(), []

    def callback(one, history):
        for call in (lambda: one.fit(X, Y, progress="none"), lambda: one.step(X, Y)):
            with pytest.raises(
                BusyError, match=r"X502.*this model is being trained: a.* would mix.*\n.*deepcopy"
            ) as error:
                call()
            told.append(error.value)

    for one, callbacks in ((model, callback), (twin, ())):
        one.fit(X, Y, epochs=2, batch_size=4, callbacks=callbacks, progress="none")
    assert len(told) == 4
    assert (bits(model), model.state.step) == (bits(twin), twin.state.step)


def test_what_the_next_step_would_overwrite_is_refused_and_a_callback_may_do_it():
    class Within(Leaving):
        def advance(self, *_):
            for change in CHANGES.values() if model.state.seen else ():
                with pytest.raises(BusyError, match="X502"):
                    change(model)
                self.left -= 1

    model, twin = make(), make()
    progress = Within(98)
    model.fit(X, Y, batch_size=4, progress=progress, callbacks=lambda one, _: setattr(one, "learning_rate", 0.01))
    assert progress.left == 99 - 3 * len(CHANGES)
    twin.fit(X, Y, batch_size=4, progress="none")
    assert bits(model) == bits(twin)
    assert model.learning_rate == 0.01
    model.optimizer = "adam"  # and afterwards too


def test_asking_within_a_callback_changes_no_bit(tmp_path):
    model, twin = make(), make()

    def ask(one, history):
        one.evaluate(X, Y), one.predict(X), one.save(tmp_path / "m.xcnn"), one.summary(), one.check_save()
        copy.copy(one).step(X, Y), copy.deepcopy(one).fit(X, Y, progress="none"), pickle.loads(pickle.dumps(one))

    model.fit(X, Y, epochs=3, batch_size=5, callbacks=ask, progress="none")
    twin.fit(X, Y, epochs=3, batch_size=5, progress="none")
    assert bits(model) == bits(twin)
    assert model.history.reproducible() == twin.history.reproducible()


def test_a_layer_that_changes_its_model_within_a_step_is_told():
    model = make()
    step = model.trainer.step

    def odd(*arguments):
        model.weights = weights(model, 0.0)
        return step(*arguments)

    model.trainer = replace(model.trainer, step=odd)
    with pytest.raises(BusyError, match="other weights would mix"):
        model.step(X, Y)


# Histories and copies.


def test_each_fit_has_a_history_of_its_own():
    model = make()
    first = model.fit(X, Y, epochs=2, progress="none")
    kept = copy.deepcopy(first)

    def note(one, history):
        for row in history.rows:
            row["note"] = len(history)

    second = model.fit(X, Y, progress="none", callbacks=note)
    assert first is not second is model.history
    assert (first.rows, first.stopped, len(second)) == (kept.rows, kept.stopped, 3)
    assert [row["note"] for row in model.state.rows] == [3, 3, 3]
    assert [row["epoch"] for row in second] == [1, 2, 3]


@pytest.mark.parametrize("make_twin", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_shares_nothing_that_can_change(make_twin):
    model = trained()
    model.info["classes"] = ["a"]
    twin, before, row = make_twin(model), bits(model), dict(model.history.rows[0])
    twin.history.rows[0]["note"] = 1
    twin.history.stopped = "failed"
    twin.info["classes"].append("b")
    twin.info["more"] = 1
    twin.plan["samples"] = 3
    twin.weights["dense1"]["bias"] = [1, 2, 3, 4]
    twin.fit(X, Y, progress="none")
    twin.optimizer, twin.loss = "adam", "mse"
    assert bits(model) == before
    assert (model.history.rows, model.state.rows) == ([row], (row,))
    assert (model.history.stopped, model.info, model.plan["samples"]) == ("interrupted", {"classes": ["a"]}, 12)
    assert type(model.optimizer) is SGD


# Schedules.


def rates(model, steps=3):
    """Those that the next steps of a copy take."""
    model, found = copy.copy(model), []
    for _ in range(steps):
        found.append(model.learning_rate)
        model.step(X, Y)
    return found


LINE = [0.1 * (1 + np.cos(np.pi * n / 50)) / 2 for n in range(60)]
"""Loshchilov and Hutter 2017, equation 5, over 50 steps."""


@pytest.mark.parametrize("before", [SGD(0.1), Adam(0.1), SGD(Cosine(0.1, 50)), Adam(Cosine(0.1, 50))])
@pytest.mark.parametrize("kind", [SGD, Adam])
def test_a_new_optimizers_schedule_begins_anew(before, kind, tmp_path):
    model = make(optimizer=before)
    model.fit(X, Y, epochs=25, batch_size=6, progress="none")
    model.optimizer = kind(Cosine(0.1, 50))
    np.testing.assert_allclose(rates(model), LINE[:3], rtol=1e-12)
    row = model.fit(X, Y, epochs=2, batch_size=4, progress="none").rows[-1]
    assert row["learning_rate"] == pytest.approx(LINE[5])
    model.save(tmp_path / "m.xcnn")
    for one in (model, copy.deepcopy(model), Model.load(tmp_path / "m.xcnn", backend="numpy")):
        np.testing.assert_allclose(rates(one), LINE[6:9], rtol=1e-12)


@pytest.mark.parametrize("kind", [SGD, Adam])
def test_a_schedule_goes_on_where_that_is_asked_for(kind):
    model = make(optimizer=SGD(Cosine(0.1, 50)))
    for _ in range(7):
        model.step(X, Y)
    model.optimizer = kind(model.optimizer.learning_rate, clip_norm=1.0)  # the very schedule
    np.testing.assert_allclose(rates(model), LINE[7:10], rtol=1e-12)
    model.step(X, Y)
    model.learning_rate = Cosine(0.2, 50)
    np.testing.assert_allclose(rates(model), 2 * np.array(LINE[8:11]), rtol=1e-12)
    model.precision, model.loss = None, "mse"
    assert model.to("numpy", fuse=False).learning_rate == pytest.approx(2 * LINE[8])


def test_each_backend_takes_the_steps_of_a_schedule_that_began_later(backend):
    model = Model(Sequential(Dense(2)), (3,), backend=backend, optimizer=SGD(0.1), dtype="float64")
    model.step(X, Y)
    model.optimizer = SGD(Cosine(0.1, 4))
    twin = Model(Sequential(Dense(2)), (3,), backend=backend, optimizer=SGD(Cosine(0.1, 4)), dtype="float64")
    twin.weights = model.weights
    for one in (model, twin):
        one.fit(X, Y, epochs=1, batch_size=4, shuffle=False, progress="none")
    assert bits(model)[0] == bits(twin)[0]


@pytest.mark.parametrize("rate", [0.0, Cosine(0.0, 50)])
def test_a_training_at_rate_0_says_so(rate, caplog):
    model = make(optimizer=SGD(rate))
    with caplog.at_level(logging.WARNING, "xcnn"):
        model.fit(X, Y, epochs=2, batch_size=4, progress="none")
    assert "learning rate is 0 at every step of this training (6 steps)" in caplog.text
    assert repr(model.optimizer) in caplog.text


@pytest.mark.parametrize("rate", [0.1, Cosine(0.1, 3), Step(0.1, 1, factor=0.0)])
def test_a_training_that_has_a_rate_says_nothing(rate, caplog):
    model = make(optimizer=SGD(rate))
    with caplog.at_level(logging.WARNING, "xcnn"):
        model.fit(X, Y, epochs=2, batch_size=4, progress="none")
        model.fit(X, Y, epochs=0, progress="none")
    assert not caplog.text
    model.fit(X, Y, epochs=1, batch_size=4, progress="none")
    assert ("(3 steps)" in caplog.text) == isinstance(rate, Schedule)


@pytest.mark.parametrize(
    "value", [-0.1, float("nan"), float("inf"), None, 1j, "0.1", True, np.array([0.1, 0.2]), [0.1]]
)
@pytest.mark.parametrize("first", [0, 2])
def test_what_a_schedule_gives_is_held_to_a_rate(value, first):
    class Mine(Schedule):
        def __call__(self, step):
            return value if step >= first else 0.1

    model = make(optimizer=SGD(Mine()))
    with pytest.raises(OptionError, match=rf"X104.*Mine: the learning rate of step {first} is"):
        model.fit(X, Y, batch_size=4, progress="none")
    assert model.state.step == first


@pytest.mark.parametrize("value", [np.float32(0.25), np.array(0.25)])
def test_numbers_of_numpy_are_rates(value):
    class Mine(Schedule):
        def __call__(self, step):
            return value

    assert make(optimizer=SGD(Mine())).learning_rate == 0.25
