"""Callbacks: each training is their own, they are told when it begins and however it ends, and what can't work is told
before the first epoch."""

import json
from dataclasses import replace

import numpy as np
import pytest

from xcnn.core import tree
from xcnn.errors import DivergedError, OptionError
from xcnn.layers import GELU, Conv2D, Dense, Flatten, Sequential
from xcnn.model.model import Model
from xcnn.training.callbacks import Checkpoint, EarlyStopping, direction
from xcnn.training.history import History
from xcnn.training.optimizers import SGD, RMSprop

X = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
Y = np.arange(8) % 2
QUIET = {"progress": "none"}


def tiny(seed=0, backend="numpy", **options):
    return Model(Sequential(Dense(2)), (3,), **{"backend": backend, "optimizer": SGD(0.1), "seed": seed, **options})


def host(model):
    return {name: model.backend.to_numpy(w).copy() for name, w in tree.items(model.weights)}


class Script:
    """Replaces val_loss by what it is told, epoch by epoch of one training, and notes the weights."""

    def __init__(self, *losses):
        self.losses, self.seen = losses, []

    def start(self, model):
        self.seen = []

    def __call__(self, model, history):
        history.rows[-1]["val_loss"] = self.losses[len(self.seen)]
        self.seen.append(host(model))


class Diary:
    """Notes what it is called with; raises where it was told to."""

    def __init__(self, raises_in="", error=ValueError):
        self.told, self.raises_in, self.error = [], raises_in, error

    def note(self, what):
        self.told.append(what)
        if what.split()[0] == self.raises_in:
            raise self.error(f"in {what}")

    def start(self, model):
        self.note("start")

    def __call__(self, model, history):
        self.note(f"call {len(history)} {history.stopped}")

    def finish(self, model, history):
        self.note(f"finish {history.stopped}")


def test_one_object_for_two_models_and_two_trainings(backend):
    stopping = EarlyStopping(patience=2)
    script = Script(3.0, 1.0, 2.0, 2.0, 0.0)
    for model in (first := tiny(1, backend), tiny(2, backend), first):
        before = len(model.history)
        history = model.fit(X, Y, epochs=5, validation_data=(X, Y), callbacks=[script, stopping], **QUIET)
        assert (history.stopped, len(history) - before) == ("early", 4)
        for name, w in host(model).items():
            np.testing.assert_array_equal(w, script.seen[1][name], err_msg=name)


def test_an_interrupted_training_keeps_the_weights_that_it_is_resumed_with():
    model, whole = tiny(), tiny()
    script = Script(1.0, 2.0, 3.0)

    def interrupt(model, history):
        if len(history) == 2:
            raise KeyboardInterrupt

    history = model.fit(
        X, Y, epochs=3, validation_data=(X, Y), callbacks=[script, EarlyStopping(patience=9), interrupt], **QUIET
    )
    assert history.stopped == "interrupted"
    model.fit(X, Y, epochs=3, validation_data=(X, Y), resume=True, **QUIET)
    whole.fit(X, Y, epochs=3, validation_data=(X, Y), **QUIET)
    for name, w in host(model).items():
        np.testing.assert_array_equal(w, host(whole)[name])


def test_checkpoint_counts_its_own_training_and_a_resumed_one_whole(tmp_path):
    path, best = tmp_path / "m.xcnn", tmp_path / "best.xcnn"
    model = tiny()
    model.fit(X, Y, epochs=2, validation_data=(X, Y), callbacks=[Script(0.2, 0.1)], **QUIET)
    model.save(path)

    tuned = Model.load(path, backend="numpy")
    callbacks = [Script(9.0, 8.0, 8.5), Checkpoint(best, "val_loss")]
    tuned.fit(X, Y, epochs=3, validation_data=(X, Y), callbacks=callbacks, **QUIET)
    assert Model.load(best, backend="numpy").state.epoch == 4  # the second of its own
    tuned.save(path)

    resumed = Model.load(path, backend="numpy")
    best.unlink()
    callbacks = [Script(8.2, 7.0, 7.5), Checkpoint(best, "val_loss")]
    saved = []
    callbacks.append(lambda model, history: saved.append(best.exists()))
    resumed.fit(X, Y, epochs=8, validation_data=(X, Y), callbacks=callbacks, resume=True, **QUIET)
    assert saved == [False, True, True]  # 8.2 is worse than the 8.0 from before it was left
    assert Model.load(best, backend="numpy").state.epoch == 7
    assert resumed.plan["began"] == 2


def test_a_file_from_before_trainings_were_counted_is_resumed_from_its_first_epoch(tmp_path):
    best = tmp_path / "best.xcnn"
    model = tiny()
    model.fit(X, Y, epochs=2, validation_data=(X, Y), callbacks=[Script(2.0, 1.0)], **QUIET)
    del model.plan["began"]
    model.save(tmp_path / "m.xcnn")
    resumed = Model.load(tmp_path / "m.xcnn", backend="numpy")
    callbacks = [Script(1.5), Checkpoint(best, "val_loss")]
    resumed.fit(X, Y, epochs=3, validation_data=(X, Y), callbacks=callbacks, resume=True, **QUIET)
    assert not best.exists()


@pytest.mark.parametrize(
    ("error", "stopped"),
    [(ValueError, "failed"), (SystemExit, "failed"), (KeyboardInterrupt, "interrupted"), (DivergedError, "diverged")],
)
@pytest.mark.parametrize("place", ["start", "call", "finish", "advance", "step"])
def test_however_training_ends_it_is_told(place, error, stopped, monkeypatch):
    if error is DivergedError:

        def error(text):
            return DivergedError("X501", text)

    model, before, after = tiny(), Diary(), Diary()
    faulty = Diary(place, error)
    options = dict(QUIET)
    if place == "advance":

        class Faulty:
            def start(self, *args): ...
            def finish(self, *args): ...
            def close(self): ...
            def advance(self, *args):
                raise error("in progress")

        options = {"progress": Faulty()}
    if place == "step":
        step = lambda *args: (_ for _ in ()).throw(error("in step"))  # noqa: E731
        monkeypatch.setattr(model, "trainer", replace(model.trainer, step=step))
    call = lambda: model.fit(X, Y, epochs=2, callbacks=[before, faulty, after], **options)  # noqa: E731
    if stopped == "interrupted":
        assert call() is model.history
    else:
        with pytest.raises((ValueError, SystemExit, DivergedError), match="in "):
            call()
    assert model.history.stopped == stopped
    assert before.told[0] == "start"
    how = "finished" if place == "finish" else stopped
    assert before.told[-1] == f"finish {how}"
    assert faulty.told[-1] == f"finish {how}"
    if place == "start":
        assert before.told == ["start", f"finish {stopped}"]
        assert after.told == []  # it was not begun
    else:
        assert after.told[-1] == f"finish {stopped}"
    assert [told for told in before.told if told.startswith("call")] == {
        "call": ["call 1 running"],
        "finish": ["call 1 running", "call 2 running"],
    }.get(place, [])
    monkeypatch.undo()
    again = model.fit(X, Y, epochs=1, **QUIET)  # nothing of it is left over
    assert again.stopped == "finished"


def test_the_first_error_goes_on_and_all_are_told():
    first, second, third = Diary("call"), Diary("finish", RuntimeError), Diary()
    with pytest.raises(ValueError, match="in call"):
        tiny().fit(X, Y, callbacks=[first, second, third], **QUIET)
    assert third.told == ["start", "finish failed"]


WRONG = {
    "val_loss without data": (EarlyStopping(), r"EarlyStopping monitors 'val_loss'.*\n.*measures epoch, loss, acc.*\n.*"
                              r"give validation_data\."),
    "a name that is nearly right": (EarlyStopping("los"), r"'los'.*\n.*\n.*did you mean 'loss'\?"),
    "another name of it": (EarlyStopping("val_acc"), r"'val_acc'.*\n.*\n.*the column is then 'val_accuracy'"),
    "a metric": (EarlyStopping("val_f1"), r"'val_f1'.*\n.*\n.*model\.metrics = \[\"f1\"\], and give validation_data\."),
    "behind xcnn's own": ([EarlyStopping("loss"), EarlyStopping()], r"'val_loss'"),
    "a class": ([EarlyStopping], r"EarlyStopping is a class.*\n.*EarlyStopping\(\.\.\.\), not EarlyStopping"),
    "a class alone": (Checkpoint, r"Checkpoint is a class"),
    "a number": ([3], r"must be functions \(model, history\); got 3"),
    "a function of one": (lambda model: None, r"called with \(model, history\)"),
    "a function of three": ([lambda a, b, c: None], r"called with \(model, history\)"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_can_not_work_is_refused_before_the_first_step(case):
    callbacks, match = WRONG[case]
    model = tiny()
    with pytest.raises(OptionError, match=f"X104.*{match}"):
        model.fit(X, Y, callbacks=callbacks, **QUIET)
    assert (model.state.step, model.history.stopped) == (0, "finished")


def test_a_column_of_the_users_own_can_be_monitored(tmp_path):
    def measure(model, history):
        history.rows[-1]["f1"] = np.float32(0.5) + len(history)

    model = tiny()
    model.fit(X, Y, epochs=3, callbacks=[measure, EarlyStopping("f1", patience=1, mode="min")], **QUIET)
    assert len(model.history) == 2  # it grows
    model.save(tmp_path / "m.xcnn")
    assert Model.load(tmp_path / "m.xcnn", backend="numpy").history["f1"] == [1.5, 2.5]

    def write_text(model, history):
        history.rows[-1]["f1"] = "good"

    with pytest.raises(OptionError, match=r"'f1' can't be monitored: it must be a number, and is 'good'"):
        tiny().fit(X, Y, callbacks=[write_text, EarlyStopping("f1", mode="max")], **QUIET)
    with pytest.raises(OptionError, match="monitor must be a string"):
        EarlyStopping(3)


@pytest.mark.parametrize(("mode", "best"), [("max", 1), ("min", 2)])
def test_the_mode_says_which_epoch_is_the_best(mode, best, tmp_path):
    """Of 0.5, 0.9, 0.3 and 0.4: the weights that are kept, and those that are saved."""
    seen = []

    def measure(model, history):
        history.rows[-1]["f1"] = [0.5, 0.9, 0.3, 0.4][len(seen)]
        seen.append(host(model))

    saver = Checkpoint(tmp_path / "best.xcnn", "f1", mode=mode)
    model = tiny()
    model.fit(X, Y, epochs=4, callbacks=[measure, EarlyStopping("f1", patience=9, mode=mode), saver], **QUIET)
    for kept in (model, Model.load(tmp_path / "best.xcnn", backend="numpy")):
        for name, weight in host(kept).items():
            np.testing.assert_array_equal(weight, seen[best][name])


@pytest.mark.parametrize("make", [EarlyStopping, lambda monitor, **how: Checkpoint("m.xcnn", monitor, **how)])
def test_a_name_that_does_not_tell_its_direction_needs_a_mode(make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = tiny()
    with pytest.raises(OptionError, match=r"X104.*'val_f1' does not tell.*\n.*mode=\"max\""):
        model.fit(X, Y, callbacks=[lambda model, history: None, make("val_f1")], **QUIET)
    assert model.state.step == 0
    for monitor in ("loss", "val_accuracy", "top5_accuracy", "seconds"):
        assert direction(monitor) == ("max" if "accuracy" in monitor else "min")
    with pytest.raises(OptionError, match='mode must be "min", "max" or None'):
        make("val_f1", mode="most")


def test_a_row_that_can_not_be_written_is_told_as_such(tmp_path):
    from xcnn.errors import CheckpointError

    model = tiny()
    model.fit(X, Y, callbacks=lambda model, history: history.rows[-1].update(odd=object()), **QUIET)
    with pytest.raises(CheckpointError, match=r"X403.*the history can't be written.*\n.*callback"):
        model.save(tmp_path / "m.xcnn")
    with pytest.raises(OptionError, match=r"X104.*can't be written as JSON"):
        model.history.to_json()
    model.history.rows[-1].pop("odd")
    model.info = {"n": np.int64(3), "of": [np.float32(0.5)]}
    model.save(tmp_path / "m.xcnn")
    assert Model.load(tmp_path / "m.xcnn", backend="numpy").info == {"n": 3, "of": [0.5]}


@pytest.mark.parametrize(
    "wrong",
    [
        lambda flag: tiny().fit(X, Y, shuffle=flag, **QUIET),
        lambda flag: tiny().fit(X, Y, resume=flag, **QUIET),
        lambda flag: EarlyStopping(restore_best=flag),
        lambda flag: Dense(2, bias=flag),
        lambda flag: Conv2D(2, 3, bias=flag),
        lambda flag: GELU(approximate=flag),
        lambda flag: SGD(momentum=0.9, nesterov=flag),
        lambda flag: tiny(backend=__import__("xcnn").backend("numpy", fuse=flag)),
    ],
)
@pytest.mark.parametrize("flag", ["no", "yes", 2, None, [True]])
def test_options_that_are_true_or_false_take_nothing_else(wrong, flag):
    with pytest.raises(OptionError, match="X104"):
        wrong(flag)


def test_flags_of_numpy_are_flags():
    assert tiny().fit(X, Y, shuffle=np.True_, resume=np.False_, **QUIET).stopped == "finished"
    assert GELU(approximate=np.bool_(1)) == GELU(approximate=True)
    with pytest.raises(OptionError, match="momentum must be"):  # and numbers are not flags
        RMSprop(momentum=True)


def test_columns_that_come_and_go_stay_below_their_names(capsys):
    model = tiny()
    model.fit(X, Y, epochs=1, **QUIET)
    model.fit(X, Y, epochs=1, validation_data=(X, Y), **QUIET)
    history = model.fit(X, Y, epochs=1, **QUIET)
    lines = str(history).splitlines()
    ends = {name: lines[0].index(name) + len(name) for name in lines[0].split()}
    assert list(ends) == ["epoch", "loss", "accuracy", "val_loss", "val_accuracy", "rate", "images/s", "seconds"]
    for text, row in zip(lines[1:], history.rows, strict=True):
        assert len(text) == len(lines[0])
        assert text[: ends["epoch"]].split() == [str(row["epoch"])]
        assert text[ends["accuracy"] : ends["val_loss"]].strip() == format(row.get("val_loss", 0), ".4f") * (
            "val_loss" in row
        )
        assert text[ends["loss"] : ends["accuracy"]].strip() == format(row["accuracy"], ".2%")

    def add(model, history):
        if len(history) == 2:
            history.rows[-1]["val_loss"] = 1.0

    tiny().fit(X, Y, epochs=3, callbacks=add, progress="plain")
    told = capsys.readouterr().err.splitlines()
    assert [line.split()[0] for line in told] == ["epoch", "1", "epoch", "2", "epoch", "3"]
    assert ["val_loss" in line for line in told if line.startswith("epoch")] == [False, True, False]


def test_columns_are_asked_for_by_their_names():
    history = History([{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0, "val_loss": 3.0}])
    assert (history["loss"], history["val_loss"]) == ([2.0, 1.0], [3.0])
    assert ("val_loss" in history, "val_acc" in history, history.columns) == (
        True,
        False,
        ("epoch", "loss", "val_loss"),
    )
    for wrong, match in [
        (
            "val_los",
            r"there is no column 'val_los'; the history has epoch, loss, val_loss\.\n.*did you mean 'val_loss'",
        ),
        ("val_acc", r"give validation_data; the column is then 'val_accuracy'"),
        (0, r"columns have names; got 0.*\n.*history\.rows\[0\]"),
    ]:
        with pytest.raises(OptionError, match=match):
            history[wrong]
    assert History()["val_loss"] == []
    with pytest.raises(OptionError, match="no epoch yet"):
        History()["val_los"]


def test_json_is_json(tmp_path):
    rows = [{"epoch": 1, "loss": float("nan"), "own": [np.float32(0.5), float("inf")], "n": np.int64(2)}]
    text = History(rows).to_json(tmp_path / "h.json")

    def never(name):
        raise AssertionError(name)

    for whole in (text, (tmp_path / "h.json").read_text()):
        read = json.loads(whole, parse_constant=never)
        assert read["epochs"] == [{"epoch": 1, "loss": None, "own": [0.5, None], "n": 2}]


def test_a_history_that_is_too_long_for_a_file_keeps_its_last_rows(tmp_path, monkeypatch):
    from xcnn.model import checkpoint

    monkeypatch.setattr(checkpoint, "MOST_OF_HISTORY", 30)
    model = tiny()
    model.fit(X, Y, epochs=6, **QUIET)
    with pytest.warns(UserWarning, match="keeps the last 4 of 6 epochs"):
        model.save(tmp_path / "m.xcnn")
    loaded = Model.load(tmp_path / "m.xcnn", backend="numpy")
    assert loaded.history.rows == model.history.rows[-4:]
    loaded.fit(X, Y, epochs=8, resume=True, **QUIET)
    model.fit(X, Y, epochs=8, resume=True, **QUIET)
    assert [row["epoch"] for row in loaded.history] == [3, 4, 5, 6, 7, 8]
    assert loaded.history.reproducible()[-2:] == model.history.reproducible()[-2:]


def test_flatten_has_nothing_to_watch():
    model = Model(Sequential(Flatten(), Dense(1)), (3,), loss="mse", backend="numpy")
    with pytest.raises(OptionError, match=r"monitors 'accuracy', which this training does not measure"):
        model.fit(X, X[:, :1], callbacks=EarlyStopping("accuracy"), **QUIET)


class CountedRow(dict):
    """A row that counts how often its values are asked for."""

    asked = 0

    def get(self, *key):
        CountedRow.asked += 1
        return super().get(*key)

    def __getitem__(self, key):
        CountedRow.asked += 1
        return super().__getitem__(key)


class Unsaved:
    """A model of which nothing is written."""

    plan = {"began": 0}  # noqa: RUF012

    def __init__(self):
        self.state, self.saved = replace(tiny().state, rows=()), 0

    def check_save(self):
        pass

    def save(self, path):
        self.saved += 1


@pytest.mark.parametrize("make", [EarlyStopping, lambda *how, **more: Checkpoint("m.xcnn", *how)], ids=["stop", "save"])
def test_each_epoch_looks_at_its_own_row(make):
    """The work of an epoch does not grow with the number of those before it."""
    model, history, callback = Unsaved(), History(), make("loss", **{"patience": 10**6, "restore_best": False})
    callback.start(model)
    CountedRow.asked = 0
    for epoch in range(500):
        history.rows.append(CountedRow(epoch=epoch, loss=float((epoch * 7919) % 1000)))
        before = CountedRow.asked
        callback(model, history)
        assert CountedRow.asked - before == 1
    assert callback.seen.at == 0
    assert model.saved in (0, 1)


def test_a_resumed_checkpoint_looks_at_the_rows_of_its_training_once(tmp_path):
    path = tmp_path / "m.xcnn"
    model = tiny()
    model.fit(X, Y, epochs=2, **QUIET)
    script = Script(9.0, 3.0, 5.0)
    model.fit(X, Y, epochs=3, validation_data=(X, Y), callbacks=[script, Checkpoint(path, "val_loss")], **QUIET)
    again = Model.load(path, backend="numpy")
    assert len(again.state.rows) == 4
    later = Checkpoint(path, "val_loss")
    again.fit(X, Y, epochs=7, resume=True, validation_data=(X, Y), callbacks=[Script(4.0, 2.0, 2.5), later], **QUIET)
    assert [row["val_loss"] for row in Model.load(path, backend="numpy").state.rows[3:]] == [3.0, 4.0, 2.0]
    assert (later.seen.value, later.seen.at) == (2.0, 5)


def test_rows_are_entered_one_by_one(tmp_path):
    """The list of a training's rows grows; one that a callback has cut or swapped is made anew."""
    lists = []

    def note(model, history):
        lists.append(history.rows)
        if len(lists) == 3:
            history.rows = []

    history = tiny().fit(X, Y, epochs=5, callbacks=note, **QUIET)
    assert lists[0] is lists[1] is lists[2]
    assert lists[3] is lists[4] is not lists[0]
    assert [row["epoch"] for row in history] == [1, 2, 3, 4, 5]


WISHES = {
    "True": (True, "early"),
    "NumPy's": (np.True_, "early"),
    "an array of none": (np.array(True), "early"),
    "an array of one": (np.array([True]), "early"),
    "False": (np.array([False]), "finished"),
    "a number": (1, "finished"),
    "an array of a number": (np.array(1), "finished"),
    "words": ("yes", "finished"),
    "nothing": (None, "finished"),
}


class Wishing:
    """Answers each step so."""

    def __init__(self, wish):
        self.wish = wish

    def __call__(self, model, history):
        return None

    def step(self, model, row):
        return self.wish


@pytest.mark.parametrize("wish", WISHES)
def test_a_true_of_any_kind_ends_training_and_nothing_else_does(wish):
    answer, stopped = WISHES[wish]
    assert tiny().fit(X, Y, epochs=2, callbacks=lambda model, history: answer, **QUIET).stopped == stopped
    assert tiny().fit(X, Y, epochs=2, callbacks=Wishing(answer), **QUIET).stopped == stopped


def test_one_true_of_another_library_ends_training_and_several_are_refused():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    assert tiny().fit(X, Y, epochs=2, callbacks=lambda model, history: torch.tensor(True), **QUIET).stopped == "early"
    with pytest.raises(OptionError, match=r"X104.*one True"):
        tiny().fit(X, Y, epochs=2, callbacks=lambda model, history: torch.ones(2, dtype=bool), **QUIET)
