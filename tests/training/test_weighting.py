"""Weights of samples and classes, labels that do not count, and batches that are computed in parts."""

from functools import partial

import numpy as np
import pytest
from whole import compiled

import xcnn
from xcnn.core import tree
from xcnn.errors import CheckpointError, DataError, OptionError, ShapeError
from xcnn.training import losses

QUIET = {"progress": "none"}
CLASSES = (0.5, 2.0, 1.0, 0.25)


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="PyTorch is the oracle; it is not installed")


def with_gradient(torch, loss, y):
    y = torch.tensor(y, requires_grad=True)
    value = loss(y)
    value.backward()
    return value.detach().numpy(), y.grad.numpy()


@pytest.mark.parametrize("shape", [(6, 4), (3, 4, 5, 2)], ids=["samples", "places"])
def test_labels_left_out_and_class_weights_against_pytorch(torch, backend, rng, shape):
    y, t = rng.normal(size=shape), rng.integers(0, 4, (shape[0], *shape[2:]))
    t[0] = t.reshape(-1)[-1] = -100
    weights = np.where(t == -100, 0, np.asarray(CLASSES)[np.where(t == -100, 0, t)])
    for ours, theirs in [
        ({"ignore_index": -100}, {}),
        ({"ignore_index": -100, "weights": backend.asarray(weights)}, {"weight": torch.tensor(CLASSES).double()}),
    ]:
        got = compiled(partial(losses.cross_entropy, **ours), backend)(backend.asarray(y), backend.asarray(t))
        expected = with_gradient(torch, lambda y: torch.nn.functional.cross_entropy(y, torch.tensor(t), **theirs), y)  # noqa: B023
        for one, other in zip(got, expected, strict=True):
            np.testing.assert_allclose(backend.to_numpy(one), other, rtol=1e-12, atol=1e-15)


PLAIN = {
    "mse": lambda f, y, t: f.mse_loss(y, t, reduction="none"),
    "mae": lambda f, y, t: f.l1_loss(y, t, reduction="none"),
    "huber": lambda f, y, t: f.huber_loss(y, t, reduction="none"),
    "binary_cross_entropy": lambda f, y, t: f.binary_cross_entropy(y, t, reduction="none"),
    "binary_cross_entropy_with_logits": lambda f, y, t: f.binary_cross_entropy_with_logits(y, t, reduction="none"),
    "cross_entropy": lambda f, y, t: f.cross_entropy(y, t, reduction="none")[:, None],
}


@pytest.mark.parametrize("name", PLAIN)
def test_weighted_means_against_pytorch(torch, backend, rng, name):
    y, t, w = rng.random((5, 3)), rng.random((5, 3)), rng.random(5)
    t /= t.sum(axis=1, keepdims=True)

    def theirs(y):
        terms = PLAIN[name](torch.nn.functional, y, torch.tensor(t))
        return (terms * torch.tensor(w)[:, None]).sum() / (w.sum() * terms.shape[1])

    got = compiled(partial(losses.LOSSES[name], weights=backend.asarray(w)), backend)(*map(backend.asarray, (y, t)))
    for one, other in zip(got, with_gradient(torch, theirs, y), strict=True):
        np.testing.assert_allclose(backend.to_numpy(one), other, rtol=1e-12)


@pytest.mark.parametrize("name", PLAIN)
def test_equal_weights_change_nothing_and_none_are_zero(name, rng):
    y, t = rng.random((5, 3)), rng.random((5, 3))
    for one, other in zip(losses.LOSSES[name](y, t), losses.LOSSES[name](y, t, weights=np.full(5, 7.0)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-13)
    value, dy = losses.LOSSES[name](y, t, weights=np.zeros(5))
    assert value == 0
    assert not dy.any()
    with pytest.raises(ShapeError, match="X202"):
        losses.LOSSES[name](y, t, weights=np.ones((5, 3)))


def net():
    return xcnn.Sequential(xcnn.Conv2D(3, 3), xcnn.ReLU(), xcnn.Flatten(), xcnn.Dense(4))


def tiny(backend="numpy", **options):
    options = {"optimizer": xcnn.SGD(0.1, momentum=0.9), "dtype": "float64", **options}
    return xcnn.Model(net(), (1, 5, 5), backend=backend, **options)


@pytest.fixture
def data(rng):
    return rng.normal(size=(22, 1, 5, 5)), rng.choice([0, 1, 1, 1, 2, 3], 22)


def weights(model):
    return [model.backend.to_numpy(w) for w in tree.leaves(model.weights)]


def alike(one, other, **tolerance):
    for a, b in zip(weights(one), weights(other), strict=True):
        np.testing.assert_allclose(a, b, **{"rtol": 1e-9, "atol": 1e-12, **tolerance})


def test_a_weight_of_two_is_a_sample_twice(backend, data):
    x, y = data
    w = np.where(np.arange(22) < 5, 2.0, 1.0)
    twice = np.concatenate([np.arange(22), np.arange(5)])
    one, other = tiny(backend), tiny(backend)
    one.fit(x, y, batch_size=22, epochs=3, sample_weight=w, **QUIET)
    other.fit(x[twice], y[twice], batch_size=27, epochs=3, **QUIET)
    alike(one, other)
    assert one.history["loss"] == pytest.approx(other.history["loss"], rel=1e-9)
    assert one.evaluate(x, y, 7, sample_weight=w)["loss"] == pytest.approx(
        other.evaluate(x[twice], y[twice])["loss"], rel=1e-9
    )


def test_a_weight_of_nothing_is_a_sample_left_out(data):
    x, y = data
    w = (np.arange(22) % 3 > 0).astype("float32")
    one, other = tiny(), tiny()
    one.fit(x, y, batch_size=22, epochs=3, sample_weight=w, **QUIET)
    other.fit(x[w > 0], y[w > 0], batch_size=22, epochs=3, **QUIET)
    alike(one, other)


def test_class_weights_in_all_their_forms(data):
    x, y = data
    models = [tiny() for _ in range(4)]
    models[3].info["classes"] = ["a", "b", "c", "d"]
    forms = [CLASSES, {0: 0.5, 1: 2, 3: 0.25}, None, {"a": 0.5, "b": 2, "d": 0.25}]
    for model, form in zip(models, forms, strict=True):
        given = {"class_weight": form} if form else {"sample_weight": np.asarray(CLASSES)[y]}
        model.fit(x, y, batch_size=8, epochs=2, **given, **QUIET)
        alike(model, models[0])
    one_hot = tiny()
    one_hot.fit(x, np.eye(4)[y], batch_size=8, epochs=2, class_weight=CLASSES, **QUIET)
    alike(one_hot, models[0])
    found = [model.evaluate(x, y, class_weight=CLASSES)["loss"] for model in models]
    assert found == pytest.approx([found[0]] * 4)


def test_balanced_weights_against_scikit_learn(data):
    sk = pytest.importorskip("sklearn.utils.class_weight", reason="scikit-learn is the oracle; it is not installed")
    x, y = data
    expected = sk.compute_class_weight("balanced", classes=np.arange(4), y=y)
    model = tiny()
    model.fit(x, y, class_weight="balanced", **QUIET)
    np.testing.assert_allclose(model.plan["class_weight"], expected, rtol=1e-12)
    model.fit(x, np.eye(4)[y], class_weight="balanced", **QUIET)
    np.testing.assert_allclose(model.plan["class_weight"], expected, rtol=1e-12)


def test_balanced_weights_of_a_single_output(data):
    x, y = data
    model = xcnn.Model(
        xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(1)), (1, 5, 5), loss="binary_cross_entropy_with_logits"
    )
    few = (y == 0).astype(int)
    for t in (few, few[:, None].astype("float32")):
        model.fit(x, t, class_weight="balanced", **QUIET)
        np.testing.assert_allclose(model.plan["class_weight"], [22 / (2 * n) for n in (22 - few.sum(), few.sum())])


def dense(backend="numpy", **options):
    layers = xcnn.Sequential(xcnn.Conv2D(4, 3, padding="same"))
    loss = partial(losses.cross_entropy, ignore_index=255)
    return xcnn.Model(layers, (1, 4, 4), loss=loss, backend=backend, dtype="float64", **options)


def test_places_left_out_count_nowhere(backend, rng, tmp_path):
    x, y = rng.normal(size=(9, 1, 4, 4)), rng.integers(0, 4, (9, 4, 4))
    y[:, :2] = 255
    y[3] = 255  # a sample without labels
    model = dense(backend, metrics="iou")
    history = model.fit(x, y, batch_size=4, epochs=2, validation_data=(x, y), class_weight="balanced", **QUIET)
    found, kept = model.evaluate(x, y, 2), y != 255
    said = model.predict(x).argmax(1)
    assert found["accuracy"] == pytest.approx((said == y)[kept].mean())
    assert found["iou"] == history["val_iou"][-1]
    p = model.probabilities(x)
    own = np.take_along_axis(p, np.where(kept, y, 0)[:, None], 1)[:, 0]
    assert found["loss"] == pytest.approx(-np.log(own[kept]).mean(), rel=1e-9)
    assert model.evaluate(x, np.where(kept, y, 255), 9)["loss"] == pytest.approx(found["loss"], rel=1e-9)
    model.save(tmp_path / "m.xcnn")
    assert xcnn.Model.load(tmp_path / "m.xcnn").loss.keywords == {"ignore_index": 255}


def test_an_epochs_loss_is_that_of_its_samples_and_not_of_its_batches(data):
    """At a rate of 0 all batches meet the same weights."""
    x, y = data
    w = np.arange(22.0)
    model = tiny(optimizer=xcnn.SGD(0.0))
    row = model.fit(x, y, batch_size=5, sample_weight=w, class_weight=CLASSES, **QUIET).rows[-1]
    whole = model.evaluate(x, y, sample_weight=w, class_weight=CLASSES)
    assert row["loss"] == pytest.approx(whole["loss"], rel=1e-12)
    assert row["accuracy"] == whole["accuracy"]


def test_an_epoch_goes_on_exactly_with_weights(data, tmp_path):
    x, y = data
    w = np.arange(22.0)
    how = {"batch_size": 5, "class_weight": "balanced", "sample_weight": w, "accumulate": 2, **QUIET}
    whole, half = tiny(), tiny()
    whole.fit(x, y, epochs=2, **how)
    after_step = half.trainer.accumulating(2).after_step

    def stopping(state, *batch, **options):
        if state.step == 7:
            raise KeyboardInterrupt
        return after_step(state, *batch, **options)

    half.plan = {"accumulate": 2}
    half.learning_rate = 0.1  # makes the trainer, which is then that of the training
    object.__setattr__(half.trainer, "after_step", stopping)
    half.fit(x, y, epochs=2, **how)
    assert half.state.batch == 2
    half.save(tmp_path / "m.xcnn")
    loaded = xcnn.Model.load(tmp_path / "m.xcnn", backend="numpy")
    for change in ({"sample_weight": w + 1}, {"class_weight": None}, {"accumulate": 1}):
        with pytest.raises(CheckpointError, match="X405"):
            loaded.fit(x, y, epochs=2, resume=True, **{**how, **change})
    loaded.fit(x, y, epochs=2, resume=True, **how)
    assert loaded.history.reproducible() == whole.history.reproducible()
    alike(loaded, whole, rtol=0, atol=0)


@pytest.mark.parametrize("accumulate", [3, 40])
def test_parts_are_the_whole_batch(backend, data, accumulate):
    if backend.name == "jax" and accumulate > 3:
        pytest.skip("JAX compiles each part by itself")
    whole, parts = tiny(backend, metrics="f1"), tiny(backend, metrics="f1")
    whole.fit(*data, batch_size=10, epochs=2, **QUIET)
    parts.fit(*data, batch_size=10, epochs=2, accumulate=accumulate, **QUIET)
    alike(whole, parts)
    for name in ("loss", "accuracy", "f1"):
        assert parts.history[name] == pytest.approx(whole.history[name], rel=1e-9)
    assert not getattr(parts.compiled_step, "reason", "")


def test_parts_of_spans_and_of_weighted_batches_are_the_whole(backend, rng, data):
    whole, parts = tiny(backend), tiny(backend)
    for model, how in ((whole, {}), (parts, {"accumulate": 3})):
        model.fit(*data, batch_size=10, epochs=1, **how, **QUIET)
        model.fit(*data, batch_size=10, epochs=1, class_weight=CLASSES, **how, **QUIET)
    alike(whole, parts)
    x, y = rng.normal(size=(9, 1, 4, 4)), rng.integers(0, 4, (9, 4, 4))
    y[:5] = 255
    pair = dense(backend), dense(backend)
    for model, how in zip(pair, ({}, {"accumulate": 4}), strict=True):
        model.fit(x, y, batch_size=9, shuffle=False, **how, **QUIET)
    alike(*pair)


def test_running_statistics_go_through_all_parts(backend, data):
    x, y = data
    layers = xcnn.Sequential(xcnn.BatchNorm(momentum=0.5), xcnn.Flatten(), xcnn.Dense(4))
    model = xcnn.Model(layers, (1, 5, 5), backend=backend, dtype="float64", optimizer=xcnn.SGD(0.0))
    model.fit(x, y, batch_size=22, accumulate=2, shuffle=False, **QUIET)
    one = xcnn.Model(layers, (1, 5, 5), backend=backend, dtype="float64", optimizer=xcnn.SGD(0.0))
    one.fit(x, y, batch_size=11, shuffle=False, **QUIET)
    alike(model, one)


@pytest.mark.parametrize(
    ("given", "error", "told"),
    [
        ({"class_weight": [1, 2]}, OptionError, "must be 4 finite numbers"),
        ({"class_weight": [0, 0, 0, 0]}, OptionError, "not all 0"),
        ({"class_weight": [1, 1, 1, -1]}, OptionError, "at least 0"),
        ({"class_weight": {7: 1}}, OptionError, r"no class 7.*\n?.*0\.\.3"),
        ({"class_weight": "even"}, OptionError, 'is "balanced"'),
        ({"sample_weight": np.ones(3)}, DataError, "22 finite numbers"),
        ({"sample_weight": np.full(22, np.nan)}, DataError, "22 finite numbers"),
        ({"sample_weight": np.ones(22), "validation_split": 0.2}, OptionError, "can't be given together"),
        ({"accumulate": 0}, OptionError, "accumulate"),
    ],
)
def test_what_cannot_be_a_weight_is_told(data, given, error, told):
    with pytest.raises(error, match=told):
        tiny().fit(*data, **given, **QUIET)


def test_a_loss_that_knows_no_weights_says_so(data):
    model = tiny(loss=lambda y, t: losses.cross_entropy(y, t))
    with pytest.raises(OptionError, match="takes no weights"):
        model.fit(*data, sample_weight=np.ones(22), **QUIET)

    def own(y, t, *, weights=None):
        return losses.cross_entropy(y, t, weights=weights)

    one, other = tiny(loss=own), tiny()
    for each in (one, other):
        each.fit(*data, sample_weight=np.arange(22), batch_size=8, **QUIET)
    alike(one, other)


def test_validation_data_have_weights_of_their_own(data):
    x, y = data
    w = np.arange(22.0)
    model = tiny()
    row = model.fit(x, y, validation_data=(x, y, w), class_weight=CLASSES, **QUIET).rows[-1]
    assert row["val_loss"] == pytest.approx(model.evaluate(x, y, sample_weight=w)["loss"], rel=1e-12)


@pytest.mark.parametrize(("loss", "outputs", "ignored"), [("cross_entropy", 3, 1), ("nll", 3, 0), ("focal", 1, 0)])
def test_accuracy_leaves_out_a_class_that_does_not_count(loss, outputs, ignored, backend, rng):
    """The label that is left out is one of the classes: whoever says it is neither right nor wrong."""
    t = rng.integers(0, max(outputs, 2), 23)
    net = xcnn.Sequential(xcnn.Dense(outputs), *([xcnn.LogSoftmax()] if loss == "nll" else []))
    loss = partial(losses.LOSSES[loss], ignore_index=ignored)
    model = xcnn.Model(net, (4,), loss=loss, optimizer=xcnn.SGD(0.0), backend=backend, seed=1)
    x = rng.standard_normal((23, 4)).astype("float32")
    y = model.predict(x)
    said = y.argmax(axis=1) if outputs > 1 else (y[:, 0] > 0).astype(int)
    expected = (said == t)[t != ignored].mean()
    rows = model.fit(x, t, batch_size=6, progress="none").rows
    assert rows[0]["accuracy"] == pytest.approx(expected, rel=1e-12)
    assert model.evaluate(x, t)["accuracy"] == pytest.approx(expected, rel=1e-12)
