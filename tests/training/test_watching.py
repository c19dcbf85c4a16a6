"""Rates that go down by themselves or are looked for, callbacks of steps, and what writes training down."""

import csv
import json
import sys
import warnings

import numpy as np
import pytest

import xcnn
from xcnn.core import tree
from xcnn.errors import MissingDependency, OptionError
from xcnn.training.history import History
from xcnn.training.plateau import ReduceOnPlateau
from xcnn.training.schedules import Cosine, Scaled, cosine_by_epochs

QUIET = {"progress": "none"}


def tiny(backend="numpy", **options):
    options = {"optimizer": xcnn.SGD(0.1), **options}
    return xcnn.Model(xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(3)), (1, 3, 3), backend=backend, **options)


@pytest.fixture
def data(rng):
    return rng.normal(size=(22, 1, 3, 3)).astype("float32"), rng.integers(0, 3, 22)


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="PyTorch is the oracle; it is not installed")


def theirs(torch, make, steps):
    """The rates of PyTorch's schedule, beginning at 0.4."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.4)
    schedule = make(optimizer)
    for value in steps:
        yield optimizer.param_groups[0]["lr"]
        optimizer.step()
        schedule.step(*value)


def test_a_cosine_by_epochs_with_warm_up_against_pytorch(torch):
    ours = cosine_by_epochs(0.4, epochs=4, samples=22, batch_size=5, warm_up=0.6, final=0.1)
    kinds = torch.optim.lr_scheduler

    def make(optimizer):
        parts = [kinds.LinearLR(optimizer, 1 / 3, 1.0, 2), kinds.CosineAnnealingLR(optimizer, 17, 0.1)]
        return kinds.SequentialLR(optimizer, parts, [3])

    with warnings.catch_warnings():  # of PyTorch's own way to chain them
        warnings.simplefilter("ignore")
        expected = [*theirs(torch, make, [()] * 20)]
    np.testing.assert_allclose([ours(n) for n in range(20)], expected, rtol=1e-9)
    assert ours(20) == ours(99) == pytest.approx(0.1)


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize(("patience", "cooldown"), [(1, 0), (2, 0), (3, 2)])
def test_reductions_against_pytorch(torch, rng, mode, patience, cooldown):
    values = rng.normal(size=30).tolist()
    expected = [
        *theirs(
            torch,
            lambda optimizer: torch.optim.lr_scheduler.ReduceLROnPlateau(
                optimizer, mode, 0.5, patience - 1, 0.1, "abs", cooldown, 0.01
            ),
            [(value,) for value in values],
        )
    ]
    model, history, got = tiny(optimizer=xcnn.SGD(0.4)), History(), []
    callback = ReduceOnPlateau(
        "score", patience, factor=0.5, min_delta=0.1, cooldown=cooldown, min_rate=0.01, mode=mode
    )
    for value in values:
        got.append(model.learning_rate)
        history.rows.append({"score": value})
        vars(model)["state"] = model.state.__class__(**{**vars(model.state), "epoch": len(history)})
        callback(model, history)
    np.testing.assert_allclose(got, expected, rtol=1e-9)
    assert len({*got}) > 2


@pytest.mark.parametrize("first", [0, 1], ids=["saved before", "saved behind"])
def test_a_plateau_goes_on_from_a_file(data, tmp_path, first):
    """However a checkpoint and the reduction follow each other."""

    def callbacks(path):
        both = [xcnn.Checkpoint(path), ReduceOnPlateau("loss", 2, factor=0.5, min_delta=0.2)]
        return both if first == 0 else both[::-1]

    whole = tiny()
    whole.fit(*data, epochs=9, callbacks=callbacks(tmp_path / "w.xcnn"), **QUIET)
    rates = whole.history["learning_rate"]
    assert len({*rates}) > 2
    changes = [n for n in range(1, 9) if rates[n] != rates[n - 1]]
    for epochs in (changes[0] - 1, changes[0], changes[0] + 1):
        half = tiny()
        half.fit(*data, epochs=epochs, callbacks=callbacks(tmp_path / "m.xcnn"), **QUIET)
        loaded = xcnn.Model.load(tmp_path / "m.xcnn", backend="numpy")
        if first == 0:  # it was not called for the last epoch: it is, before the next one
            ReduceOnPlateau("loss", 2, factor=0.5, min_delta=0.2)(loaded, loaded.history)
        loaded.fit(*data, epochs=9, resume=True, callbacks=callbacks(tmp_path / "n.xcnn"), **QUIET)
        assert loaded.history.reproducible() == whole.history.reproducible()


def test_a_schedule_goes_on_under_the_factor():
    callback = ReduceOnPlateau(factor=0.5, min_rate=0.03)
    rate = callback.reduced(callback.reduced(Cosine(0.4, steps=10), 0.5), 0.5)
    assert rate == Scaled(Cosine(0.4, steps=10), 0.25, least=0.03)
    assert [rate(n) for n in (0, 5, 10)] == pytest.approx([0.1, 0.05, 0.0])
    assert rate(8) == pytest.approx(0.03)


def test_what_it_lacks_is_told_at_once(data):
    for callback in (ReduceOnPlateau(), xcnn.EarlyStopping(), xcnn.Checkpoint("m.xcnn", "val_loss")):
        model = tiny()
        with pytest.raises(OptionError, match="does not measure") as error:
            model.fit(*data, callbacks=callback, **QUIET)
        assert "give validation_data" in str(error.value)
        assert model.state.step == 0


class Steps:
    """Notes the steps that it is told of; ends training at one of them."""

    def __init__(self, last=99):
        self.rows, self.last = [], last

    def __call__(self, model, history):
        self.rows.append("epoch")

    def step(self, model, row):
        self.rows.append(row)
        return row["step"] == self.last


def test_callbacks_are_told_of_each_step(backend, data):
    model, steps = tiny(backend), Steps()
    model.fit(*data, epochs=2, batch_size=8, callbacks=steps, **QUIET)
    assert [row if row == "epoch" else row["step"] for row in steps.rows] == [1, 2, 3, "epoch", 4, 5, 6, "epoch"]
    weights, losses = (8, 8, 6), [row["loss"] for row in steps.rows[:3]]
    assert np.average(losses, weights=weights) == pytest.approx(model.history["loss"][0], rel=1e-6)
    assert {row["learning_rate"] for row in steps.rows if row != "epoch"} == {0.1}


def test_a_step_may_be_the_last(data):
    model = tiny()
    model.fit(*data, epochs=2, batch_size=8, callbacks=Steps(last=4), **QUIET)
    assert (model.history.stopped, model.state.step, model.state.batch, len(model.history)) == ("early", 4, 1, 1)
    whole = tiny()
    whole.fit(*data, epochs=2, batch_size=8, **QUIET)
    model.fit(*data, epochs=2, batch_size=8, resume=True, **QUIET)
    assert model.history.reproducible() == whole.history.reproducible()


@pytest.mark.parametrize(("logger", "name"), [(xcnn.CSVLogger, "log.csv"), (xcnn.JSONLogger, "log.jsonl")])
def test_epochs_are_written_whole(data, tmp_path, logger, name):
    model = tiny(metrics=["f1", "confusion"])
    model.fit(*data, epochs=2, validation_data=data, callbacks=logger(tmp_path / name), **QUIET)
    model.save(tmp_path / "m.xcnn")
    model = xcnn.Model.load(tmp_path / "m.xcnn", backend="numpy")
    model.fit(*data, epochs=3, callbacks=logger(tmp_path / name), resume=True, **QUIET)
    text = (tmp_path / name).read_text("utf-8")
    if logger is xcnn.CSVLogger:
        rows = list(csv.DictReader(text.splitlines()))
        assert rows[2]["val_loss"] == ""
    else:
        rows = [json.loads(line) for line in text.splitlines()]
    for row, known in zip(rows, model.history.rows, strict=True):
        assert float(row["loss"]) == known["loss"]
        assert float(row["f1"]) == known["f1"]
        found = json.loads(row["confusion"]) if logger is xcnn.CSVLogger else row["confusion"]
        assert found == known["confusion"]


@pytest.mark.parametrize(("logger", "name"), [(xcnn.CSVLogger, "log.csv"), (xcnn.JSONLogger, "log.jsonl")])
def test_steps_are_appended_and_resumed(data, tmp_path, logger, name):
    def fit(model, path, **how):
        model.fit(*data, batch_size=8, callbacks=logger(path, steps=True), **how, **QUIET)

    whole = tiny()
    fit(whole, tmp_path / "whole", epochs=3)
    model = tiny()
    fit(model, tmp_path / name, epochs=1)
    model.save(tmp_path / "m.xcnn")
    fit(model, tmp_path / name, epochs=1)  # what was written behind the checkpoint is lost with it
    with open(tmp_path / name, "a", encoding="utf-8") as file:
        file.write("7,3,0.5" if logger is xcnn.CSVLogger else '{"step": 7, "ep')  # and a line that was cut
    fit(xcnn.Model.load(tmp_path / "m.xcnn", backend="numpy"), tmp_path / name, epochs=3, resume=True)
    assert (tmp_path / name).read_text("utf-8") == (tmp_path / "whole").read_text("utf-8")
    assert len((tmp_path / name).read_text("utf-8").splitlines()) == 9 + (logger is xcnn.CSVLogger)


def test_scalars_for_tensorboard(data, tmp_path):
    pytest.importorskip("tensorboardX", reason="tensorboardX writes them; it is not installed")
    from tensorboardX.proto.event_pb2 import Event

    model = tiny(metrics="f1")
    board = xcnn.TensorBoard(tmp_path / "runs", steps=True)
    model.fit(*data, epochs=2, batch_size=8, validation_data=data, callbacks=board, **QUIET)
    (path,) = (tmp_path / "runs").iterdir()
    content, found = path.read_bytes(), {}
    while content:
        size = int.from_bytes(content[:8], "little")
        event = Event.FromString(content[12 : 12 + size])
        content = content[16 + size :]
        for value in event.summary.value:
            found[value.tag, event.step] = value.simple_value
    for epoch in (1, 2):
        row = model.history.rows[epoch - 1]
        assert found["loss/training", epoch] == pytest.approx(row["loss"], rel=1e-6)
        assert found["f1/validation", epoch] == pytest.approx(row["val_f1"], rel=1e-6)
    assert {step for tag, step in found if tag == "step/loss"} == {*range(1, 7)}


def test_tensorboard_names_its_extra(data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(MissingDependency, match=r"X601.*tensorboardX"):
        tiny().fit(*data, callbacks=xcnn.TensorBoard(tmp_path), **QUIET)


def test_a_rate_is_found_and_the_model_stays(backend, rng):
    x = rng.normal(size=(160, 1, 3, 3)).astype("float32")
    data = x, x[:, 0, 0].argmax(1)
    model = tiny(backend, metrics="f1")
    model.fit(*data, **QUIET)
    before, trainer = model.state, model.trainer
    weights = [model.backend.to_numpy(w).copy() for w in tree.leaves(model.weights)]
    found = model.find_learning_rate(*data, first=1e-4, last=1e3, steps=40, batch_size=8)
    assert model.state is before
    assert model.trainer is trainer
    for old, new in zip(weights, tree.leaves(model.weights), strict=True):
        np.testing.assert_array_equal(old, model.backend.to_numpy(new))
    assert 1e-3 < found.suggestion < 30
    assert found.diverged
    np.testing.assert_allclose(found.rates, 1e-4 * (1e7 ** (np.arange(len(found.rates)) / 39)), rtol=1e-9)
    assert len(found.rates) == len(found.losses) == len(found.smoothed)
    assert f"{found.suggestion:.2g}" in str(found)
    assert "<svg" in found._repr_html_()


def test_the_suggestion_is_below_what_diverges():
    """Of a parabola, whose largest rate that converges is known: 2 over its curvature."""
    x = np.ones((64, 1), "float32")
    net = xcnn.Sequential(xcnn.Dense(1, bias=False))
    model = xcnn.Model(net, (1,), loss="mse", optimizer=xcnn.SGD(0.1), backend="numpy")
    found = model.find_learning_rate(x, 5 * x, first=1e-5, last=100.0, steps=80)  # E = (w - 5)², curvature 2
    assert 1e-3 < found.suggestion < 1.0
    assert found.diverged


def test_a_search_that_finds_nothing_says_so(data):
    model = tiny()
    model.weights = tree.map(np.zeros_like, tree.map(np.asarray, dict(model.weights)))
    found = model.find_learning_rate(np.zeros_like(data[0]), data[1], first=1e-12, last=1e-11, steps=10)
    assert found.suggestion is None
    assert "did not fall" in str(found)
    with pytest.raises(OptionError, match="below the last"):
        model.find_learning_rate(*data, first=1.0, last=0.5)
    with pytest.raises(OptionError, match="steps"):
        model.find_learning_rate(*data, steps=2)


def test_a_search_is_drawn(data, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib draws it; it is not installed")
    tiny().find_learning_rate(*data, first=1e-3, last=10.0, steps=20).plot(tmp_path / "rates.png")
    assert (tmp_path / "rates.png").read_bytes().startswith(b"\x89PNG")
