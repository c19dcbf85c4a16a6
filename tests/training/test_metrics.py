"""Metrics against scikit-learn's, however the samples are cut into batches; over epochs, checkpoints and backends."""

import numpy as np
import pytest

import xcnn
from xcnn.errors import CheckpointError, OptionError, ShapeError
from xcnn.training import metrics as m
from xcnn.training.callbacks import Checkpoint, EarlyStopping
from xcnn.training.history import header, line

QUIET = {"progress": "none"}


@pytest.fixture
def sk():
    return pytest.importorskip("sklearn.metrics", reason="scikit-learn is the oracle; it is not installed")


def over(metric, y, t, cuts):
    """The metric of samples that come in batches."""
    counts = ()
    for part in np.split(np.arange(len(y)), cuts):
        counts = m.merged((metric,), counts, m.counts_of((metric,), y[part], t[part]))
    return metric.result(*counts)


CUTS = [[], [1, 30], [7, 8, 50]]
OF_PAIRS = {"precision": m.Precision, "recall": m.Recall, "f1": m.F1}


@pytest.mark.parametrize("cuts", CUTS, ids=len)
@pytest.mark.parametrize("average", ["macro", "micro", "each"])
@pytest.mark.parametrize("name", OF_PAIRS)
def test_classes_against_scikit_learn(sk, rng, name, average, cuts):
    y, t = rng.normal(size=(60, 5)), rng.choice([0, 1, 3, 4], 60)
    y[:, 4] -= 5  # never predicted
    y[:, 2] -= 50  # neither given nor predicted
    expected = getattr(sk, f"{name}_score")(
        t, y.argmax(1), average=None if average == "each" else average, zero_division=0
    )
    got = over(OF_PAIRS[name](average), y, t, cuts)
    if average == "each":
        np.testing.assert_allclose([got[c] for c in (0, 1, 3, 4)], expected)
        assert got[2] == 0
    else:
        assert got == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", OF_PAIRS)
def test_two_classes_by_one_output_and_by_two(sk, rng, name):
    score, t = rng.normal(size=80), rng.integers(0, 2, 80)
    expected = getattr(sk, f"{name}_score")(t, score > 0.25)
    one = over(OF_PAIRS[name](threshold=0.25), score[:, None], t, [11])
    shaped = over(OF_PAIRS[name](threshold=0.25), score[:, None], t[:, None].astype("float32"), [11])
    two = over(OF_PAIRS[name](), np.stack([0.25 - score, score - 0.25], 1), t, [11])
    assert one == shaped == two == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("average", ["macro", "micro"])
def test_several_classes_at_once_against_scikit_learn(sk, rng, average):
    y, t = rng.normal(size=(40, 3)), rng.integers(0, 2, (40, 3)).astype("float64")
    got = over(m.F1(average, multilabel=True), y, t, [13])
    assert got == pytest.approx(sk.f1_score(t, y > 0, average=average), rel=1e-12)
    with pytest.raises(ShapeError, match="X202"):
        m.F1(multilabel=True).counts(y, t[:, 0])


def test_intersection_over_union_of_places_against_scikit_learn(sk, rng):
    y, t = rng.normal(size=(6, 3, 4, 5)), rng.integers(0, 3, (6, 4, 5))
    t[0, :2] = 255
    kept = t != 255
    expected = sk.jaccard_score(t[kept], y.argmax(1)[kept], average="macro")
    assert over(m.IoU(ignore_index=255), y, t, [2]) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("cuts", CUTS, ids=len)
def test_top_k_and_confusion_against_scikit_learn(sk, rng, cuts):
    y, t = rng.normal(size=(60, 7)), rng.integers(0, 7, 60)
    for k in (1, 2, 5):
        expected = sk.top_k_accuracy_score(t, y, k=k, labels=range(7))
        assert over(m.TopK(k), y, t, cuts) == pytest.approx(expected, rel=1e-12)
    assert over(m.ConfusionMatrix(), y, t, cuts) == sk.confusion_matrix(t, y.argmax(1), labels=range(7)).tolist()


def test_a_tie_counts_no_class_twice():
    tied = np.zeros((4, 3))
    assert over(m.TopK(1), tied, np.array([0, 1, 2, 0]), []) == 0.5  # as argmax has it
    assert over(m.TopK(2), tied, np.array([0, 1, 2, 2]), []) == 0.5


@pytest.mark.parametrize("cuts", CUTS, ids=len)
def test_numbers_against_scikit_learn(sk, rng, cuts):
    t = rng.normal(size=(60, 2)) * [1, 1e-4] + [3, 1e6]
    y = t + rng.normal(size=(60, 2)) * [0.5, 1e-5]
    pairs = [
        (m.MAE(), sk.mean_absolute_error),
        (m.MSE(), sk.mean_squared_error),
        (m.RMSE(), lambda t, y: sk.mean_squared_error(t, y) ** 0.5),
    ]
    for metric, oracle in pairs:
        assert over(metric, y, t, cuts) == pytest.approx(oracle(t, y), rel=1e-12)
    assert over(m.R2(), y, t, cuts) == pytest.approx(sk.r2_score(t, y), rel=1e-6)
    with pytest.raises(ShapeError, match="X202"):
        m.MAE().counts(y, t[:, 0])


def test_r2_of_targets_that_are_all_the_same(sk):
    t, y = np.ones((4, 1)), np.array([[1.0], [1.0], [1.0], [2.0]])
    assert over(m.R2(), t, t, [1]) == sk.r2_score(t, t) == 1
    assert over(m.R2(), y, t, [1]) == sk.r2_score(t, y) == 0


def hits(y, t):
    return float((y.argmax(1) == t).mean())


class Largest:
    """An object of a user's own: the largest output."""

    higher_is_better = True

    def __init__(self):
        self.value = -1e9

    def update(self, y, t):
        self.value = max(self.value, float(y.max()))

    def result(self):
        return self.value


def tiny(backend="numpy", **options):
    net = xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(3))
    return xcnn.Model(net, (1, 3, 3), backend=backend, optimizer=xcnn.SGD(0.1), **options)


@pytest.fixture
def data(rng):
    return rng.normal(size=(22, 1, 3, 3)).astype("float32"), rng.integers(0, 3, 22)


def test_a_model_measures_them_everywhere(backend, data):
    model = tiny(backend, metrics=["top2", "f1_macro", "confusion", hits, Largest()])
    history = model.fit(*data, epochs=2, batch_size=8, validation_data=data, **QUIET)
    row, found = history.rows[-1], model.evaluate(*data)
    assert row["accuracy"] == pytest.approx(row["val_accuracy"], abs=0.5)
    y = model.predict(data[0])
    assert found["accuracy"] == found["accuracy"] == hits(y, data[1])
    assert found["largest"] == y.max()
    for name in ("top2", "f1_macro", "confusion", "hits", "largest"):
        assert found[name] == row[f"val_{name}"], name
    assert np.sum(row["confusion"]) == 22
    assert np.trace(row["confusion"]) == round(row["accuracy"] * 22)


def test_training_is_the_same_with_metrics(backend, data):
    plain, measured = tiny(backend), tiny(backend, metrics=["f1"])
    rows = [each.fit(*data, epochs=2, batch_size=8, **QUIET).reproducible() for each in (plain, measured)]
    np.testing.assert_allclose(plain.predict(data[0]), measured.predict(data[0]), rtol=1e-6, atol=1e-7)
    assert [row["accuracy"] for row in rows[0]] == [row["accuracy"] for row in rows[1]]


class Stop:
    """Interrupts a training at a step of it."""

    def __init__(self, model, step):
        self.after_step, self.step = model.trainer.after_step, step

    def __call__(self, state, *batch, **options):
        if state.step == self.step:
            raise KeyboardInterrupt
        return self.after_step(state, *batch, **options)


@pytest.mark.parametrize("own", [[], [hits]], ids=["xcnn's", "and a user's own"])
def test_an_epoch_goes_on_exactly_from_a_file(data, tmp_path, own):
    chosen = ["f1", "confusion", "top2", *own]
    whole = tiny(metrics=chosen).fit(*data, epochs=2, batch_size=5, **QUIET)
    model = tiny(metrics=chosen)
    object.__setattr__(model.trainer, "after_step", Stop(model, 7))
    model.fit(*data, epochs=2, batch_size=5, **QUIET)
    assert model.history.stopped == "interrupted"
    assert model.state.batch == 2
    model.save(tmp_path / "m.xcnn")
    if own:
        with pytest.raises(CheckpointError, match=r"metric of its user's own, 'hits'") as error:
            xcnn.Model.load(tmp_path / "m.xcnn", backend="numpy")
        assert "metrics=[...]" in str(error.value) or own
    loaded = xcnn.Model.load(tmp_path / "m.xcnn", backend="numpy", metrics=chosen if own else None)
    again = loaded.fit(*data, epochs=2, batch_size=5, resume=True, **QUIET)
    assert again.reproducible() == whole.reproducible()


def test_they_are_monitored_by_what_they_know(data, tmp_path):
    model = tiny(metrics=["f1", xcnn.metrics.TopK(2, name="second"), "confusion"])
    stops = [EarlyStopping("val_f1"), Checkpoint(tmp_path / "m.xcnn", "second")]
    model.fit(*data, epochs=2, validation_data=data, callbacks=stops, **QUIET)
    assert stops[0].seen.mode == "max"
    with pytest.raises(OptionError, match="more of it is better") as error:
        model.fit(*data, callbacks=EarlyStopping("confusion"), **QUIET)
    assert "mode=" in str(error.value)
    with pytest.raises(OptionError, match="X104"):
        model.fit(*data, callbacks=EarlyStopping("val_f2"), **QUIET)


def test_they_are_printed_beside_their_losses():
    row = {"epoch": 1, "loss": 0.5, "accuracy": 0.25, "f1": 0.5, "confusion": [[1]], "val_loss": 1.0, "val_f1": 0.75}
    assert header(row).split() == ["epoch", "loss", "accuracy", "f1", "val_loss", "val_f1"]
    assert line(row).split() == ["1", "0.5000", "25.00%", "0.5000", "1.0000", "0.7500"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("f11", "did you mean 'f1'"),
        (["f1", "f1"], "two metrics are named 'f1'"),
        ("accuracy_2", "there is no metric"),
        (m.F1, r"call it: F1\(\)"),
        (m.F1(name="loss"), "no metric of yours"),
        (m.F1(name="a/b"), "without a slash"),
        (3, "metrics are names"),
    ],
)
def test_what_is_no_metric_is_told(given, told):
    with pytest.raises(OptionError, match=told):
        tiny(metrics=given)


def test_metrics_of_classes_want_a_classifiers_loss():
    with pytest.raises(OptionError, match="tells classes apart"):
        tiny(loss="mse", metrics="f1")
    with pytest.raises(OptionError, match="average must be"):
        m.F1("mean")


def test_others_are_taken_between_epochs(data):
    model = tiny()
    model.metrics = ["f1"]
    assert "f1" in model.fit(*data, **QUIET)
    assert [metric.column for metric in model.metrics] == ["f1"]


def test_a_matrix_that_no_history_has_room_for_leaves_the_history_out(data, tmp_path):
    model = tiny(metrics="confusion")
    model.fit(*data, **QUIET)
    model.history.rows[0]["confusion"] = vars(model)["state"].rows[0]["confusion"] = [[0] * 400] * 400
    with pytest.warns(UserWarning, match="keeps the last 0 of 1 epochs"):
        model.save(tmp_path / "m.xcnn")
    assert len(xcnn.Model.load(tmp_path / "m.xcnn", backend="numpy").history) == 0
