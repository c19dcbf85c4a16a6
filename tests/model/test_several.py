"""Nets of several inputs and outputs as models: trained, asked, saved and loaded, and told where what is wrong."""

from functools import partial

import numpy as np
import pytest

import xcnn
from xcnn.core import tree
from xcnn.errors import CheckpointError, DataError, DTypeError, LabelError, OptionError, ShapeError

NET = xcnn.Graph(
    conv=(xcnn.Conv2D(3, 3, padding="same"), "image"),
    act=xcnn.ReLU(),
    pool=xcnn.GlobalAveragePool2D(),
    both=(xcnn.Concatenate(), "pool", "meta"),
    hidden=xcnn.Dense(6),
    tanh=xcnn.Tanh(),
    digit=(xcnn.Dense(3), "tanh"),
    angle=(xcnn.Dense(2), "tanh"),
    map=(xcnn.Conv2D(2, 1), "act"),
    inputs=("image", "meta"),
    outputs=("digit", "angle", "map"),
)
SHAPES = {"meta": (2,), "image": (1, 4, 5)}
LOSSES = {
    "digit": partial(xcnn.losses.cross_entropy, label_smoothing=0.1),
    "map": "cross_entropy",
    "angle": ("mse", 0.5),
}


def data(samples=24):
    rng = np.random.default_rng(0)
    x = {"image": rng.random((samples, 1, 4, 5)).astype("float32"), "meta": rng.random((samples, 2))}
    y = {
        "angle": rng.random((samples, 2)),
        "digit": rng.integers(0, 3, samples),
        "map": rng.integers(0, 2, (samples, 4, 5)),
    }
    return x, y


def built(backend="numpy", **options):
    return xcnn.Model(NET, SHAPES, **{"loss": LOSSES, "optimizer": xcnn.SGD(0.1), "backend": backend, **options})


def test_trained_by_each_loss_times_its_weight(backend):
    """One step by hand: the graph itself, its losses one by one, and the rule of SGD."""
    x, y = data()
    model = built(backend)
    before = tree.map(lambda w: backend.to_numpy(w).astype("float64"), model.weights)
    exact = xcnn.backend("numpy", algorithm="gemm", fuse=False)
    ys, backward = NET(before, (x["image"].astype("float64"), x["meta"]), xcnn.Run(exact, train=True))
    losses = (LOSSES["digit"], xcnn.losses.mse, xcnn.losses.cross_entropy)
    values, dys = zip(*(f(out, y[name]) for f, out, name in zip(losses, ys, NET.outputs, strict=True)), strict=True)
    _, grads = backward((dys[0], 0.5 * dys[1], dys[2]))
    loss = model.step(x, y)
    assert loss == pytest.approx(values[0] + 0.5 * values[1] + values[2], rel=1e-5)
    for name, w in tree.items(model.weights):
        expected = dict(tree.items(before))[name] - 0.1 * dict(tree.items(grads))[name]
        np.testing.assert_allclose(backend.to_numpy(w), expected, rtol=1e-4, atol=1e-6, err_msg=name)


def test_fit_tells_each_outputs_loss_and_accuracy(backend):
    (x, y), model = data(), built(backend)
    history = model.fit(x, y, epochs=2, batch_size=7, validation_data=(x, y), progress="none")
    row = history.rows[-1]
    names = ["digit_loss", "digit_accuracy", "angle_loss", "map_loss", "map_accuracy"]
    assert {"loss", *names, *(f"val_{name}" for name in names)} <= {*row}
    found = model.evaluate(x, y, batch_size=5)
    assert [*found] == ["loss", *names]
    whole = found["digit_loss"] + 0.5 * found["angle_loss"] + found["map_loss"]
    assert found["loss"] == pytest.approx(whole, rel=1e-5)
    said = model.predict(x)
    assert {name: a.shape for name, a in said.items()} == {"digit": (24, 3), "angle": (24, 2), "map": (24, 2, 4, 5)}
    assert found["digit_accuracy"] == pytest.approx(np.mean(said["digit"].argmax(1) == y["digit"]))
    assert found["map_accuracy"] == pytest.approx(np.mean(said["map"].argmax(1) == y["map"]))
    assert found["angle_loss"] == pytest.approx(np.mean((said["angle"] - y["angle"]) ** 2), rel=1e-5)
    assert row["val_loss"] == pytest.approx(found["loss"], rel=1e-5)
    assert getattr(model.compiled_step, "reason", "") in ("", None)


def test_tuples_are_in_the_order_of_the_names():
    (x, y), model = data(), built()
    by_name, pair = model.evaluate(x, y), (x["image"], x["meta"])
    assert model.evaluate(pair, [y[name] for name in NET.outputs]) == by_name
    hot = {**y, "digit": np.eye(3)[y["digit"]], "map": np.moveaxis(np.eye(2)[y["map"]], -1, 1)}
    assert model.evaluate(pair, hot) == by_name
    for name, a in model.predict(pair).items():
        np.testing.assert_array_equal(a, model.predict(x)[name])
    turned = built(loss=tuple(LOSSES[name] for name in NET.outputs))
    assert turned.loss == model.loss


def test_saved_and_loaded(tmp_path, backend):
    (x, y), model = data(), built(backend)
    model.fit(x, y, epochs=1, progress="none")
    model.save(tmp_path / "net.xcnn")
    back = xcnn.Model.load(tmp_path / "net.xcnn", backend="numpy")
    assert back.net.graph == NET
    assert back.net.input_shapes == ((1, 4, 5), (2,))
    assert back.metrics == model.metrics
    for name, a in back.predict(x).items():
        np.testing.assert_allclose(a, model.predict(x)[name], rtol=1e-4, atol=1e-6)
    assert back.evaluate(x, y)["loss"] == pytest.approx(model.evaluate(x, y)["loss"], rel=1e-5)
    assert back.fit(x, y, epochs=2, resume=True, progress="none").rows[-1]["epoch"] == 2
    assert [*back.frozen().predict(x)] == [*NET.outputs]
    assert "digit" in str(back.summary())
    own = built(loss={**LOSSES, "angle": lambda y, t: xcnn.losses.mse(y, t)})
    own.save(tmp_path / "own.xcnn")
    with pytest.raises(CheckpointError, match="a loss of its user's own"):
        xcnn.Model.load(tmp_path / "own.xcnn")


def test_a_net_of_one_output_has_a_loss_as_any_other(backend):
    net = xcnn.Graph(sum=(xcnn.Add(), "a", "b"), head=xcnn.Dense(2), inputs=("a", "b"))
    model = xcnn.Model(net, ((3,), (3,)), backend=backend)
    rng = np.random.default_rng(0)
    x, y = tuple(rng.random((2, 10, 3)).astype("float32")), np.arange(10) % 2
    history = model.fit(x, y, epochs=2, progress="none")
    assert history.rows[-1]["accuracy"] <= 1
    assert model.predict({"b": x[1], "a": x[0]}).shape == (10, 2)
    assert model.probabilities(x).shape == (10, 2)


def test_a_net_of_one_input_takes_it_as_any_other(backend):
    net = xcnn.Graph(a=xcnn.Dense(2), b=(xcnn.Dense(1), "a"), outputs=("a", "b"))
    model = xcnn.Model(net, (3,), loss={"a": "hinge", "b": "mae"}, backend=backend)
    x = np.random.default_rng(0).random((6, 3)).astype("float32")
    model.fit(x, (np.arange(6) % 2, np.ones((6, 1))), progress="none")
    assert {name: a.shape for name, a in model.predict(x).items()} == {"a": (6, 2), "b": (6, 1)}
    model.loss = {"a": "cross_entropy", "b": "mse"}
    assert [*model.evaluate(x, (np.arange(6) % 2, np.ones((6, 1))))] == ["loss", "a_loss", "a_accuracy", "b_loss"]


def test_labels_of_a_single_unit_are_its_0_and_1():
    net = xcnn.Graph(a=xcnn.Dense(1), b=(xcnn.Dense(2), "a"), outputs=("a", "b"))
    model = xcnn.Model(net, (3,), loss=("binary_cross_entropy_with_logits", "mse"), backend="numpy")
    x, bits, numbers = np.random.default_rng(0).random((6, 3)), np.arange(6) % 3 // 2, np.ones((6, 2))
    found = model.evaluate(x, (bits, numbers))
    said = model.predict(x)["a"].astype("float64")
    expected, _ = xcnn.losses.binary_cross_entropy_with_logits(said, bits)
    assert found["a_loss"] == pytest.approx(float(expected), rel=1e-6)
    assert found["a_accuracy"] == np.mean((said[:, 0] > 0) == bits)
    assert model.evaluate(x, (bits[:, None], numbers)) == found


def test_labels_that_an_output_leaves_out_count_nowhere(backend, tmp_path):
    """Of each output the mean is over its own labels: held to the losses on what counts, one by one."""
    (x, y), losses = data(), xcnn.losses
    out = {"digit": np.arange(24) % 3 == 1, "map": np.random.default_rng(1).random((24, 4, 5)) < 0.4}
    y |= {"digit": np.where(out["digit"], 0, y["digit"] % 2 + 1), "map": np.where(out["map"], 255, y["map"])}
    left = {
        "digit": partial(losses.cross_entropy, ignore_index=0, label_smoothing=0.1),
        "map": (partial(losses.focal, ignore_index=255), 2.0),
        "angle": ("mse", 0.5),
    }
    model = built(backend, loss=left, dtype="float64")
    given = {name: backend.asarray(a.astype("float64")) for name, a in model.predict(x).items()}
    found, hosts = model.evaluate(x, y, batch_size=24), {n: backend.to_numpy(a) for n, a in given.items()}
    places = np.moveaxis(hosts["map"], 1, -1)[~out["map"]]
    expected = {
        "digit": losses.cross_entropy(hosts["digit"][~out["digit"]], y["digit"][~out["digit"]], label_smoothing=0.1)[0],
        "map": losses.focal(places, y["map"][~out["map"]])[0],
        "angle": losses.mse(hosts["angle"], y["angle"])[0],
    }
    for name, value in expected.items():
        assert found[f"{name}_loss"] == pytest.approx(value, rel=1e-6)
    whole = expected["digit"] + 2 * expected["map"] + 0.5 * expected["angle"]
    assert found["loss"] == pytest.approx(whole, rel=1e-6)
    of_digit = hosts["digit"].argmax(1) == y["digit"]
    assert found["digit_accuracy"] == pytest.approx(of_digit[~out["digit"]].mean())
    assert found["map_accuracy"] == pytest.approx((places.argmax(1) == y["map"][~out["map"]]).mean())

    other = built(backend, loss=left, dtype="float64")
    noise = {**y, "angle": y["angle"]}
    assert model.step(x, y) == pytest.approx(whole, rel=1e-6)
    weights = np.where(out["digit"], 0.0, 1.0)
    weighed = other.fit(x, noise, batch_size=24, sample_weight=weights, progress="none")
    kept = {name: a[weights > 0] for name, a in x.items()}, {name: a[weights > 0] for name, a in y.items()}
    assert weighed["loss"][0] == pytest.approx(built(backend, loss=left, dtype="float64").step(*kept), rel=1e-6)
    with pytest.raises(OptionError, match=r"X104.*parts of a batch"):
        other.fit(x, y, accumulate=2, progress="none")
    other.save(tmp_path / "net.xcnn")
    assert xcnn.Model.load(tmp_path / "net.xcnn", backend="numpy").evaluate(x, y).keys() == found.keys()


def test_samples_may_have_weights():
    (x, y), model = data(8), built()
    some = np.array([1.0, 2.0] + [0.0] * 6)
    part = {name: a[[0, 1, 1]] for name, a in x.items()}, {name: a[[0, 1, 1]] for name, a in y.items()}
    assert model.evaluate(x, y, sample_weight=some)["loss"] == pytest.approx(model.evaluate(*part)["loss"], rel=1e-5)


X, Y = data(6)
WRONG = {
    "an input that lacks": (lambda m: m.predict({"image": X["image"]}), OptionError, "x lacks 'meta'"),
    "another input": (
        lambda m: m.predict({**X, "mete": 1}),
        OptionError,
        "x has 'mete', which is none.*did you mean 'meta'",
    ),
    "one array": (lambda m: m.predict(X["image"]), OptionError, "x must be 2 values, for 'image', 'meta'"),
    "another shape": (
        lambda m: m.predict({**X, "meta": np.ones((6, 3))}),
        ShapeError,
        r"shape \(2,\) for 'meta'.*got meta \(6, 3\)",
    ),
    "bytes": (lambda m: m.predict({**X, "image": np.ones((6, 1, 4, 5), "uint8")}), DTypeError, "image is uint8.*/ 255"),
    "other counts": (lambda m: m.predict({**X, "meta": X["meta"][:4]}), DataError, "image has 6, meta has 4"),
    "a NaN": (lambda m: m.predict({**X, "meta": X["meta"] * np.nan}), DataError, "NaN or infinity in sample 0"),
    "a label beyond": (
        lambda m: m.evaluate(X, {**Y, "digit": Y["digit"] + 1}),
        LabelError,
        r"digit: labels must be 0..2 for 3 outputs",
    ),
    "targets of another shape": (
        lambda m: m.evaluate(X, {**Y, "angle": np.ones((6, 3))}),
        ShapeError,
        "the angle: targets do not fit the predictions",
    ),
    "no distribution": (
        lambda m: m.evaluate(X, {**Y, "digit": np.ones((6, 3))}),
        LabelError,
        "digit: targets must be distributions",
    ),
    "a target that lacks": (lambda m: m.fit(X, {"digit": Y["digit"]}, progress="none"), OptionError, "y lacks 'angle'"),
    "augmentations": (
        lambda m: m.fit(X, Y, augment=[xcnn.augment.Translate(1)], progress="none"),
        OptionError,
        "augment goes with nets of one input",
    ),
    "one loss": (lambda m: built(loss="mse"), OptionError, "3 outputs, and wants a loss for each"),
    "no such loss": (lambda m: built(loss={**LOSSES, "map": "mes"}), OptionError, "no loss 'mes'"),
    "a loss of labels": (lambda m: built(loss={**LOSSES, "map": "contrastive"}), OptionError, "of a net of one output"),
    "one class": (
        lambda m: xcnn.Model(
            xcnn.Graph(a=xcnn.Dense(1), b=(xcnn.Dense(1), "a"), outputs=("a", "b")), (2,), loss=("nll", "mse")
        ),
        OptionError,
        r"'a': nll can't tell classes apart by an output of shape \(1,\)",
    ),
    "a weight below 0": (
        lambda m: built(loss={**LOSSES, "map": ("mse", -1.0)}),
        OptionError,
        "weight must be at least 0",
    ),
    "a shape that lacks": (lambda m: xcnn.Model(NET, {"image": (1, 4, 5)}), OptionError, "input_shape lacks 'meta'"),
    "one shape": (lambda m: xcnn.Model(NET, (1, 4, 5)), ShapeError, "Graph takes 2 inputs: image, meta"),
    "losses by name": (
        lambda m: xcnn.Model(xcnn.Dense(2), (3,), loss={"a": "mse"}),
        OptionError,
        "for a Graph of several outputs",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_told_by_name(case):
    call, error, words = WRONG[case]
    with pytest.raises(error, match=words.replace(".*", r"(.|\n)*")):
        call(built())


def test_hostile_losses_in_a_file_are_refused():
    from xcnn.model.checkpoint import _losses_from
    from xcnn.model.config import to_config

    good = to_config(built().loss)
    assert _losses_from("net", good) == built().loss
    for change in (
        {"loss": "os.system"},
        {"options": [["label_smoothing", 7.0]]},
        {"options": [["no_such", 1.0]]},
        {"weight": -1.0},
        {"weight": "much"},
    ):
        with pytest.raises(CheckpointError, match="X403"):
            _losses_from("net", {**good, "parts": [{**good["parts"][0], **change}, *good["parts"][1:]]})
    for other in (None, [], {"class": "Dense", "units": 3}, {"class": "OutputLosses", "parts": [3]}):
        with pytest.raises(CheckpointError, match="X403"):
            _losses_from("net", other)
