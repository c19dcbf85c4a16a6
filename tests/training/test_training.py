"""Training: callbacks, interrupts, divergence, resuming."""

from dataclasses import dataclass

import numpy as np
import pytest

from xcnn.core import tree
from xcnn.errors import CheckpointError, DivergedError, OptionError
from xcnn.layers import BatchNorm, Conv2D, Dense, Dropout, Flatten, ReLU, Residual, Sequential
from xcnn.model.model import Model
from xcnn.training.callbacks import Checkpoint, EarlyStopping
from xcnn.training.history import History
from xcnn.training.optimizers import SGD, Adam
from xcnn.training.schedules import Step
from xcnn.training.trainer import Trainer

INTERRUPT: dict[str, int] = {}


@dataclass(frozen=True)
class Trap:
    """Passes x on; in its n-th training call it does what it was set to do."""

    what: str = "interrupt"
    at: int = 5

    def init(self, rng, input_shape):
        return {}, input_shape

    def __call__(self, weights, x, run):
        if run.train:
            INTERRUPT[self.what] = INTERRUPT.get(self.what, 0) + 1
        now = run.train and INTERRUPT[self.what] >= self.at
        if now and self.what == "interrupt" and INTERRUPT[self.what] == self.at:
            raise KeyboardInterrupt
        y = x * float("nan") if now and self.what == "nan" else x
        return y, lambda dy: (dy + float("inf") if now and self.what == "gradient" else dy, {})


@pytest.fixture(autouse=True)
def _reset():
    INTERRUPT.clear()


@pytest.fixture
def data(rng):
    x = rng.normal(size=(50, 2, 6, 6)).astype("float32")
    return x, (x[:, 0].mean(axis=(1, 2)) > 0).astype(int)


def build(*extra, **options):
    net = Sequential(
        Conv2D(3, 3),
        BatchNorm(),
        ReLU(),
        Residual(Conv2D(3, 3, padding="same"), ReLU()),
        *extra,
        Flatten(),
        Dropout(0.2),
        Dense(2),
    )
    return Model(net, (2, 6, 6), **{"backend": "numpy", "optimizer": Adam(Step(0.01, every=6)), "seed": 4, **options})


def host(model):
    return {
        name: model.backend.to_numpy(w) for name, w in tree.items({"w": model.weights, **model.state.optimizer_state})
    }


def assert_same(one, other):
    for name, w in host(one).items():
        np.testing.assert_array_equal(w, host(other)[name], err_msg=name)
    assert one.history.reproducible() == other.history.reproducible()


@pytest.mark.parametrize("batches", [1, 4, 5, 6, 9])
def test_an_interrupted_training_goes_on_bit_by_bit(batches, data, tmp_path):
    whole = build(Trap("none"))
    whole.fit(*data, epochs=3, batch_size=10, validation_data=data, progress="none")
    stopped = build(Trap("interrupt", at=batches + 1))
    history = stopped.fit(*data, epochs=3, batch_size=10, validation_data=data, progress="none")
    assert history.stopped == "interrupted"
    assert stopped.state.step == batches
    assert (stopped.state.epoch, stopped.state.batch) in {divmod(batches, 5), (batches // 5 - 1, 5)}
    stopped.save(tmp_path / "part.xcnn")
    loaded = Model.load(tmp_path / "part.xcnn", backend="numpy", layers={"Trap": Trap})
    again = loaded.fit(*data, epochs=3, batch_size=10, validation_data=data, progress="none", resume=True)
    assert again.stopped == "finished"
    assert_same(whole, loaded)


def test_training_in_two_fits_is_training_in_one(data):
    one, two = build(), build()
    one.fit(*data, epochs=3, progress="none")
    two.fit(*data, epochs=1, progress="none")
    two.fit(*data, epochs=2, progress="none")
    assert_same(one, two)
    assert len(two.fit(*data, epochs=3, resume=True, progress="none")) == 3  # nothing is left to do


def test_an_epoch_resumes_only_as_it_was(data):
    model = build(Trap("interrupt", at=3))
    model.fit(*data, epochs=1, batch_size=10, progress="none")
    with pytest.raises(CheckpointError, match=r"X405.*\n.*'batch_size': 20.*\n.*resume"):
        model.fit(*data, epochs=1, batch_size=20, progress="none", resume=True)
    model.fit(*data, epochs=1, batch_size=20, progress="none")  # without resume the epoch begins anew
    assert (model.state.epoch, model.state.step) == (1, 2 + 3)


@pytest.mark.parametrize(
    ("what", "place"),
    [("nan", r"output of 'trap1'"), ("gradient", r"gradient of the input of 'trap1'")],
)
def test_divergence_names_the_layer_and_keeps_the_weights_before(what, place, data):
    model, stopped = build(Trap(what, at=7)), build(Trap("none"))
    with (
        np.errstate(invalid="ignore"),
        pytest.raises(DivergedError, match=rf"X501.*at epoch 2, batch 2; first non-finite value: {place}") as caught,
    ):
        model.fit(*data, epochs=3, batch_size=10, progress="none")
    assert "learning rate 0.001" in str(caught.value)
    assert model.state.step == 6
    INTERRUPT.clear()
    stopped.fit(*data, epochs=1, batch_size=10, progress="none")
    order = np.random.Generator(np.random.Philox(np.random.SeedSequence(4, spawn_key=(1,)))).permutation(50)
    stopped.step(data[0][order[:10]], data[1][order[:10]])
    for name, w in host(stopped).items():
        np.testing.assert_array_equal(w, host(model)[name])


def test_a_learning_rate_that_explodes_is_caught(data):
    model = Model(Sequential(Flatten(), Dense(8), ReLU(), Dense(2)), (2, 6, 6), optimizer=SGD(1e30), backend="numpy")
    with np.errstate(all="ignore"), pytest.raises(DivergedError, match=r"X501.*the weights became too large"):
        model.fit(*data, epochs=5, progress="none")
    assert all(np.isfinite(w).all() for w in host(model).values())


def test_a_nan_within_a_residual_is_named_by_its_path(data):
    net = Sequential(Residual(Trap("nan", at=1), block=Conv2D(2, 3, padding="same")), Flatten(), Dense(2))
    with pytest.raises(DivergedError, match=r"output of 'residual1\.trap1'"):
        Model(net, (2, 6, 6), backend="numpy").fit(*data, progress="none")


def test_early_stopping_waits_and_restores_the_best(data):
    seen = []

    def make_worse(model, history):
        seen.append(host(model))
        history.rows[-1]["val_loss"] = [5.0, 3.0, 4.0, 3.5, 1.0][len(history) - 1]

    model = build()
    history = model.fit(
        *data,
        epochs=9,
        validation_data=data,
        callbacks=[make_worse, EarlyStopping(patience=2)],
        progress="none",
    )
    assert history.stopped == "early"
    assert len(history) == 4
    for name, w in tree.items(model.weights):
        np.testing.assert_array_equal(w, seen[1]["w/" + name])


def test_early_stopping_on_accuracy_looks_upwards():
    history, stop = History(), EarlyStopping("accuracy", patience=2, restore_best=False)
    stops = []
    for epoch, accuracy in enumerate([0.5, 0.7, 0.6, 0.6]):
        history.rows.append({"epoch": epoch, "accuracy": accuracy})
        stops.append(stop(None, history))
    assert stops == [False, False, False, True]
    with pytest.raises(OptionError, match=r"'val_loss' is not monitored"):
        EarlyStopping()(None, history)


def test_the_best_weights_are_restored_where_the_epochs_run_out(data):
    seen = []

    def make_worse(model, history):
        seen.append(host(model))
        history.rows[-1]["val_loss"] = [5.0, 3.0, 4.0][len(history) - 1]

    model, stopping = build(), EarlyStopping(patience=5)
    model.fit(*data, epochs=3, validation_data=data, callbacks=[make_worse, stopping], progress="none")
    for name, w in tree.items(model.weights):
        np.testing.assert_array_equal(w, seen[1]["w/" + name])


def test_early_stopping_counts_only_what_it_saw(data):
    model = build()
    model.fit(*data, epochs=3, progress="none")  # rows without val_loss
    history = model.fit(*data, epochs=2, validation_data=data, callbacks=[EarlyStopping(patience=2)], progress="none")
    assert len(history) == 5
    with pytest.raises(OptionError, match="patience must be a whole number"):
        EarlyStopping(patience=0)


def test_steps_by_hand_leave_the_epoch_alone(data):
    one, two = build(), build()
    one.fit(*data, epochs=2, batch_size=10, progress="none")
    two.fit(*data, epochs=1, batch_size=10, progress="none")
    two.step(data[0][:8], data[1][:8])
    two.fit(*data, epochs=2, batch_size=10, progress="none", resume=True)
    assert (one.state.step, two.state.step) == (10, 11)
    assert two.state.epoch == 2


@pytest.mark.parametrize("optimizer", [SGD(3e38), SGD(0.1, weight_decay=3e38)])
def test_weights_that_explode_are_never_installed(optimizer, data):
    model = build(optimizer=optimizer)
    before = host(model)
    with np.errstate(all="ignore"), pytest.raises(DivergedError, match="X501"):
        model.fit(*data, progress="none")
    assert model.history.stopped == "diverged"
    for name, w in host(model).items():
        np.testing.assert_array_equal(w, before[name])


def test_checkpoint_of_the_best(data, tmp_path):
    path = tmp_path / "best.xcnn"
    values = iter([2.0, 1.0, 3.0])

    def replace_loss(model, history):
        history.rows[-1]["val_loss"] = next(values)

    model = build()
    model.fit(
        *data,
        epochs=3,
        validation_data=data,
        callbacks=[replace_loss, Checkpoint(path, "val_loss")],
        progress="none",
    )
    assert Model.load(path, backend="numpy").state.epoch == 2


def test_a_function_ends_training(data):
    history = build().fit(*data, epochs=9, callbacks=[lambda model, history: len(history) == 2], progress="none")
    assert (len(history), history.stopped) == (2, "early")


def test_the_schedule_counts_steps(data):
    history = build(optimizer=SGD(Step(0.1, every=5, factor=0.5))).fit(*data, epochs=3, batch_size=10, progress="none")
    assert history["learning_rate"] == [0.1, 0.05, 0.025]


def test_shuffling_is_by_seed_and_epoch(data, monkeypatch):
    orders = []

    after_step = Trainer.after_step

    def note(trainer, state, x, t):
        orders.append(x[:, 0, 0, 0].copy())
        return after_step(trainer, state, x, t)

    monkeypatch.setattr(Trainer, "after_step", note)
    build().fit(*data, epochs=2, batch_size=50, progress="none")
    build().fit(*data, epochs=1, batch_size=50, progress="none")
    build().fit(*data, epochs=1, batch_size=50, progress="none", shuffle=False)
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(data[0][:, 0, 0, 0])
    assert not np.array_equal(orders[0], orders[1])
    np.testing.assert_array_equal(orders[0], orders[2])
    np.testing.assert_array_equal(orders[3], data[0][:, 0, 0, 0])


def test_progress_off_a_terminal_is_plain_lines(data, capsys):
    build().fit(*data, epochs=2, validation_data=data, progress="auto")
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert lines[0].split() == ["epoch", "loss", "accuracy", "val_loss", "val_accuracy", "rate", "images/s", "seconds"]
    assert [line.split()[0] for line in lines[1:]] == ["1", "2"]
    assert "\r" not in err
    assert "\x1b" not in err


def test_live_progress_leaves_one_row_an_epoch(data, capsys, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    build().fit(*data, epochs=2, progress="live")
    rows = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert len([row for row in rows if row.split()[0] in ("1", "2")]) == 2


def test_bad_progress(data):
    with pytest.raises(OptionError, match=r"progress must be .*'loud'"):
        build().fit(*data, progress="loud")


def test_history_prints_writes_and_plots(data, tmp_path):
    import json

    history = build().fit(*data, epochs=2, validation_data=data, progress="none")
    assert str(history).splitlines()[1].split()[0] == "1"
    history.to_json(tmp_path / "history.json")
    read = json.loads((tmp_path / "history.json").read_text())
    assert read["epochs"] == history.rows
    assert str(History()) == "no epoch was finished"
    pytest.importorskip("matplotlib", reason="the extra xcnn[plot] is not installed")
    figure = history.plot(tmp_path / "history.png")
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss", "accuracy"]
    assert (tmp_path / "history.png").stat().st_size > 1000
