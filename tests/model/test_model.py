"""The model: what it takes and refuses, one seed on every backend, agreement with a training loop in PyTorch."""

import copy
import pickle

import numpy as np
import pytest

import xcnn
from xcnn.core import tree
from xcnn.errors import BackendError, DataError, DTypeError, LabelError, OptionError, ShapeError
from xcnn.layers import (
    BatchNorm,
    Conv1D,
    Conv2D,
    Conv2DTranspose,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GroupNorm,
    MaxPool2D,
    ReLU,
    Reshape,
    Sequential,
    Sigmoid,
    UpSampling2D,
    ZeroPadding2D,
)
from xcnn.model.model import Model
from xcnn.training.optimizers import SGD, Adam
from xcnn.training.schedules import Step


def small_net():
    return Sequential(Conv2D(3, 3), ReLU(), MaxPool2D(2), Dropout(0.3), Flatten(), Dense(4))


def flat_net():
    """For what does not depend on the layers: soon compiled where steps are."""
    return Sequential(Flatten(), Dropout(0.3), Dense(4))


@pytest.fixture
def data(rng):
    """64 images of 4 classes, each with a bright corner of its own."""
    x, y = 0.1 * rng.random((64, 1, 8, 8)), rng.integers(0, 4, 64)
    for image, label in zip(x, y, strict=True):
        row, column = divmod(int(label), 2)
        image[0, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 0.8
    return x.astype("float32"), y


def make(backend, net=None, **options):
    return Model(net or small_net(), (1, 8, 8), backend=backend, **{"optimizer": Adam(0.01), **options})


def host(model):
    return {name: model.backend.to_numpy(w) for name, w in tree.items(model.weights)}


def test_it_learns(backend, data):
    model = make(backend, optimizer=Adam(0.03))
    history = model.fit(*data, epochs=10, batch_size=16, validation_data=data, progress="none")
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert model.evaluate(*data)["accuracy"] > 0.95
    assert history["val_accuracy"][-1] == model.evaluate(*data)["accuracy"]
    assert [row["epoch"] for row in history] == list(range(1, 11))
    assert history.stopped == "finished"


def test_one_seed_gives_one_training_on_every_backend(backend, data):
    one, other = make("numpy", dtype="float64", seed=3), make(backend, dtype="float64", seed=3)
    for name, w in host(one).items():
        np.testing.assert_array_equal(w, host(other)[name])
    for model in (one, other):
        model.fit(*data, epochs=2, batch_size=16, progress="none")
    for name, w in host(one).items():
        np.testing.assert_allclose(host(other)[name], w, rtol=1e-8, atol=1e-12)
    assert [row["accuracy"] for row in one.history] == [row["accuracy"] for row in other.history]


def test_twice_is_bit_identical(backend, data):
    models = [make(backend, seed=5) for _ in range(2)]
    for model in models:
        model.fit(*data, epochs=2, batch_size=16, validation_data=data, progress="none")
    for name, w in host(models[0]).items():
        np.testing.assert_array_equal(w, host(models[1])[name])
    assert models[0].history.reproducible() == models[1].history.reproducible()
    other = make(backend, seed=6)
    assert any(np.any(w != host(other)[name]) for name, w in host(models[0]).items())


def test_against_a_training_loop_in_pytorch(backend, rng):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle; it is not installed")
    net = Sequential(Conv2D(3, 3, bias="untied"), Sigmoid(), MaxPool2D(2), Flatten(), Dense(5), ReLU(), Dense(2))
    model = Model(
        net,
        (1, 8, 8),
        loss="cross_entropy",
        optimizer=SGD(0.3, momentum=0.9, nesterov=True),
        backend=backend,
        dtype="float64",
    )
    x, y = rng.random((24, 1, 8, 8)), rng.integers(0, 2, 24)
    p = {name: torch.tensor(w, requires_grad=True) for name, w in host(model).items()}
    f = torch.nn.functional
    optimizer = torch.optim.SGD(p.values(), 0.3, momentum=0.9, nesterov=True)
    for at in range(0, 24, 4):
        z = f.conv2d(torch.tensor(x[at : at + 4]), p["conv1/kernel"]) + p["conv1/bias"]
        z = f.max_pool2d(torch.sigmoid(z), 2).flatten(1) @ p["dense1/kernel"] + p["dense1/bias"]
        z = torch.relu(z) @ p["dense2/kernel"] + p["dense2/bias"]
        expected = f.cross_entropy(z, torch.tensor(y[at : at + 4]))
        optimizer.zero_grad()
        expected.backward()
        optimizer.step()
        assert model.step(x[at : at + 4], y[at : at + 4]) == pytest.approx(expected.item(), rel=1e-12)
    for name, w in host(model).items():
        np.testing.assert_allclose(w, p[name].detach().numpy(), rtol=1e-10, atol=1e-13)


def test_a_last_smaller_batch_counts_by_its_size(backend, data):
    net = Sequential(Flatten(), Dense(4))
    model = Model(net, (1, 8, 8), optimizer=SGD(0.0), backend=backend)
    row = model.fit(*data, epochs=1, batch_size=24, progress="none").rows[0]  # 24 + 24 + 16
    whole = model.evaluate(*data, batch_size=64)
    assert row["loss"] == pytest.approx(whole["loss"], rel=1e-5)
    assert row["accuracy"] == whole["accuracy"]
    assert model.evaluate(*data, batch_size=17)["loss"] == pytest.approx(whole["loss"], rel=1e-5)


def test_predict_in_batches_is_predict_at_once(backend, data):
    model = make(backend)
    at_once = model.predict(data[0], batch_size=100)
    assert isinstance(at_once, np.ndarray)
    assert at_once.shape == (64, 4)
    np.testing.assert_allclose(model.predict(data[0], batch_size=9), at_once, rtol=1e-5, atol=1e-6)
    assert model.predict(data[0][:0]).shape == (0, 4)


def test_dropout_is_off_outside_training(backend, data):
    model = make(backend)
    np.testing.assert_array_equal(model.predict(data[0]), model.predict(data[0]))


def test_a_model_moves_with_its_optimizer(backend, data):
    model, stayed = (make("numpy", flat_net(), dtype="float64") for _ in range(2))
    for each in (model, stayed):
        each.fit(*data, epochs=1, progress="none")
    assert model.to(backend) is model
    assert model.backend == backend
    for each in (model, stayed):
        each.fit(*data, epochs=1, progress="none")
    for name, w in host(stayed).items():
        np.testing.assert_allclose(host(model)[name], w, rtol=1e-8, atol=1e-12)


def test_weights_can_be_assigned(backend, data):
    model, other = make(backend, seed=1), make("numpy", seed=2)
    model.weights = other.weights
    np.testing.assert_allclose(model.predict(data[0]), other.predict(data[0]), rtol=1e-5, atol=1e-6)
    with pytest.raises(ShapeError, match=r"these weights are not the net's.*'conv1/kernel' differs"):
        model.weights = {**other.weights, "conv1": {"kernel": np.zeros((1, 1, 3, 3)), "bias": np.zeros(3)}}


def test_another_optimizer_may_be_assigned(backend, data):
    model = make(backend, flat_net(), optimizer=SGD(0.1, momentum=0.9))
    model.step(*data)
    model.optimizer = SGD(0.01, momentum=0.9)
    assert model.state.optimizer_state["step"] == 1
    assert np.any(backend.to_numpy(model.state.optimizer_state["velocity"]["dense1"]["kernel"]) != 0)
    model.optimizer = "adam"
    model.step(*data)
    assert set(model.state.optimizer_state) == {"step", "first", "second"}


def test_one_output_tells_two_classes_apart(backend, data):
    x, y = data[0], data[1] % 2
    net = Sequential(Flatten(), Dense(1), Sigmoid())
    model = Model(net, (1, 8, 8), loss="binary_cross_entropy", optimizer=Adam(0.05), backend=backend)
    model.fit(x, y, epochs=10, progress="none")
    assert model.evaluate(x, y)["accuracy"] > 0.95
    np.testing.assert_allclose(model.probabilities(x).sum(axis=1), 1)
    assert np.mean(model.probabilities(x).argmax(axis=1) == y) > 0.95


def test_options_from_numpy_leave_the_weights_float32(data, tmp_path):
    net = Sequential(
        Conv2D(3, 3), BatchNorm(momentum=np.float64(0.9)), ReLU(), Flatten(), Dropout(np.float64(0.5)), Dense(4)
    )
    optimizer = SGD(np.logspace(-3, -1, 2)[0], momentum=np.float64(0.5), weight_decay=np.float32(0.5), clip_norm=1)
    model = Model(net, (1, 8, 8), optimizer=optimizer, backend="numpy")
    model.fit(*data, progress="none")
    model.optimizer = SGD(Step(np.float64(0.1), 3))
    model.fit(*data, progress="none")
    assert {w.dtype for w in host(model).values()} == {np.dtype("float32")}
    model.save(tmp_path / "m.xcnn")
    assert Model.load(tmp_path / "m.xcnn", backend="numpy").net == net


def test_whole_numbers_from_numpy_are_taken_and_saved(data, tmp_path):
    """As in Dense(labels.max() + 1), and sizes that were computed."""
    one, two, three = np.int64(1), np.uint8(2), np.int32(3)
    net = Sequential(
        ZeroPadding2D((one, 1)), Conv2D(np.int64(4), (three, 3), stride=two, groups=one), UpSampling2D(two),
        MaxPool2D(two),
        Conv2DTranspose(two, three), DepthwiseConv2D(three, depth_multiplier=two), GroupNorm(two), Reshape((two, -1)),
        Conv1D(three, three), Flatten(), Dense(data[1].max() + 1),
    )  # fmt: skip
    model = Model(net, (one, np.int64(8), 8), backend="numpy", seed=np.int64(3))
    model.fit(*data, epochs=np.int64(1), batch_size=np.int64(7), progress="none")
    assert model.evaluate(*data, batch_size=two)["loss"] == pytest.approx(model.evaluate(*data)["loss"], rel=1e-5)
    model.save(tmp_path / "m.xcnn")
    loaded = Model.load(tmp_path / "m.xcnn", backend="numpy")
    assert (loaded.net, loaded.input_shape, loaded.seed) == (net, (1, 8, 8), 3)
    assert {type(n) for n in (*model.input_shape, model.seed, net["dense1"].units)} == {int}
    with pytest.raises(OptionError, match=r"X104.*units must be a whole number"):
        Dense(np.float64(3))


def test_a_loss_of_another_type_is_refused_before_it_spoils_the_weights(data):
    model = Model(small_net(), (1, 8, 8), loss=lambda y, t: (y.sum(), np.ones(y.shape)), backend="numpy")
    with pytest.raises(
        OptionError, match=r"X104.*the loss must give a pair.*\n.*of float64 on numpy, predictions .*float32"
    ):
        model.step(data[0], np.zeros((64, 4)))


def test_accuracy_of_dense_prediction_counts_places(backend, rng):
    x, t = rng.random((6, 2, 4, 4)), rng.integers(0, 3, (6, 4, 4))
    model = Model(Sequential(Conv2D(3, 3, padding="same")), (2, 4, 4), backend=backend, dtype="float64")
    right = np.mean(model.predict(x).argmax(axis=1) == t)
    assert model.evaluate(x, t)["accuracy"] == pytest.approx(right)
    model.optimizer = SGD(0.0)
    row = model.fit(x, t, batch_size=2, progress="none").rows[0]
    assert row["accuracy"] == pytest.approx(right)


def test_one_output_can_not_be_a_softmax():
    with pytest.raises(OptionError, match=r"X104.*\n.*binary_cross_entropy_with_logits"):
        Model(Sequential(Dense(1)), (4,))


def test_the_precision_is_that_of_the_weights_unless_another_is_asked_for(backend, data):
    assert make(backend).precision == "float32"
    model = make(backend, flat_net(), dtype="float64", precision="float64")
    assert (model.precision, model.summary().precision) == ("float64", "float64")
    model.step(*data)
    assert {w.dtype for w in host(model).values()} == {np.dtype("float64")}
    assert model.predict(data[0]).dtype == "float64"


def test_another_loss_may_be_assigned(backend, data):
    model, other = make(backend, flat_net()), make(backend, flat_net(), loss="mse")
    model.loss = "mse"
    targets = np.eye(4)[data[1]]
    assert model.step(data[0], targets) == other.step(data[0], targets)
    assert set(model.evaluate(data[0], targets)) == {"loss"}


def test_a_model_can_be_pickled_and_copied(data):
    model = make("numpy")
    for twin in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        np.testing.assert_array_equal(twin.predict(data[0]), model.predict(data[0]))
        twin.step(*data)
        assert twin.precision == "float32"
    assert model.state.step == 0


def test_assigned_weights_are_copied():
    kernel = np.ones((3, 2), "float32")
    model = Model(Sequential(Dense(2, bias=False)), (3,), backend="numpy")
    model.weights = {"dense1": {"kernel": kernel}}
    kernel[:] = 7
    assert model.weights["dense1"]["kernel"].max() == 1


def test_summary_of_a_single_layer():
    summary = Model(Dense(3), (4,), backend="numpy").summary()
    assert [(row.kind, row.parameters) for row in summary.rows] == [("Dense", 15)]


def test_regression_has_no_accuracy(backend, rng):
    x = rng.normal(size=(40, 3)).astype("float32")
    t = x @ np.array([[1.0], [-2.0], [0.5]], dtype="float32")
    model = Model(Sequential(Dense(1)), (3,), loss="mse", optimizer=SGD(0.3), backend=backend)
    model.fit(x, t, epochs=40, progress="none")
    assert set(model.evaluate(x, t)) == {"loss"}
    np.testing.assert_allclose(host(model)["dense1/kernel"][:, 0], [1, -2, 0.5], atol=1e-3)
    with pytest.raises(OptionError, match="no probabilities"):
        model.probabilities(x)


REFUSED = {
    "whole numbers": (lambda x, y: ((x * 127).astype("int8"), y), DTypeError, r"X103.*x is int8.*\n.*\) / 127"),
    "no channel axis": (lambda x, y: (x[:, 0], y), ShapeError, r"X101.*\n.*got x \(64, 8, 8\).*\n.*x\[:, None\]"),
    "channels last": (lambda x, y: (np.ones((64, 8, 8, 1), "f4"), y), ShapeError, r"transpose\(0, 3, 1, 2\)"),
    "other size": (lambda x, y: (x[:, :, :7], y), ShapeError, r"input_shape=\(1, 7, 8\)"),
    "one sample": (lambda x, y: (x[0], y[:1]), ShapeError, r"x\[None\]"),
    "lengths": (lambda x, y: (x, y[:-1]), DataError, r"X203.*x has 64 samples, y 63"),
    "nothing": (lambda x, y: (x[:0], y[:0]), DataError, r"X203.*empty"),
    "label above": (lambda x, y: (x, np.where(np.arange(64) == 12, 7, y)), LabelError,
                    r"0\.\.3 for 4 outputs; found 7 at index 12 \(and 0 more\)"),
    "label below": (lambda x, y: (x, y - 1), LabelError, r"found -1"),
    "half labels": (lambda x, y: (x, y + 0.5), LabelError, r"X201"),
    "words": (lambda x, y: (x, np.array(["a"] * 64)), LabelError, r"X201.*1 class \('a'\), the net 4 outputs"),
    "NaN": (lambda x, y: (np.where(np.arange(64)[:, None, None, None] == 3, np.nan, x), y), DataError,
            r"sample 3 \(1 such"),
    "one-hot of -1": (lambda x, y: (x, 2 * np.eye(4)[y] - 1), LabelError, r"X201.*0\.\.1"),
    "NaN targets": (lambda x, y: (x, np.full((64, 4), np.nan)), DataError, r"X203.*y must hold finite numbers"),
    "no y": (lambda x, y: (x, None), OptionError, r"X104.*y is missing"),
    "too large": (lambda x, y: (x.astype("f8") * 1e300, y), DataError, r"numbers beyond float32 in sample 0"),
    "ragged": (lambda x, y: ([[1.0], [1.0, 2.0]], y), DataError, r"no regular array"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_fit_refuses_before_it_starts(case, data):
    change, error, message = REFUSED[case]
    model = make("numpy")
    before = host(model)
    with pytest.raises(error, match=message):
        model.fit(*change(*data), progress="none")
    assert model.state.step == 0
    np.testing.assert_array_equal(host(model)["conv1/kernel"], before["conv1/kernel"])


def test_arrays_of_another_library_are_refused_by_name(data):
    strict = xcnn.backend("strict")
    with pytest.raises(BackendError, match=r"X301.*x is an array of array_api_strict.*\n.*to_numpy"):
        make("numpy").predict(strict.asarray(data[0]))


def test_a_net_that_does_not_fit_names_the_layer():
    with pytest.raises(ShapeError, match=r"X102.*Conv2D 'conv2' has a 5x5 kernel but its input is only 3x3"):
        Model(Sequential(Conv2D(2, 6), ReLU(), Conv2D(2, 5)), (1, 8, 8))
    with pytest.raises(ShapeError, match=r"X101.*Dense 'dense1' expects \(features\).*\n.*\n.*Flatten"):
        Model(Sequential(Conv2D(2, 3), Dense(2)), (1, 8, 8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "quantile"}, "no loss 'quantile'"),
        ({"optimizer": "newton"}, "no optimizer 'newton'"),
        ({"dtype": "float16"}, 'must be "float32" or "float64"'),
        ({"precision": "half"}, "there is no precision 'half'"),
        ({"precision": "bfloat16"}, 'backend "numpy" does not compute in bfloat16; it has float32, float64'),
        ({"precision": "float64"}, "goes with weights of float64"),
        ({"dtype": "float64", "precision": "float32"}, "goes with weights of float32"),
        ({"seed": -1}, "seed must be a whole number"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(OptionError, match=message):
        make("numpy", **options)


def test_a_list_of_layers_is_no_net():
    with pytest.raises(OptionError, match="net must be a layer"):
        Model([Dense(2)], (4,))


def test_summary_counts_what_pytorch_counts_and_what_a_step_holds():
    model = Model(xcnn.nets.article(), (1, 28, 28), loss="binary_cross_entropy", backend="numpy")
    summary = model.summary(batch_size=32)
    assert summary.parameters == (5 * 9 + 5 * 26 * 26) + (5 * 26 * 26 * 100 + 100) + (100 * 2 + 2) == 341_727
    assert summary.weight_bytes == 4 * 341_727
    assert summary.optimizer_bytes == 2 * summary.weight_bytes
    rows = {row.name: row for row in summary.rows}
    assert rows["conv1"].output_shape == (5, 26, 26)
    assert rows["conv1"].kept_bytes == 4 * 28 * 28  # x, for the kernel's gradient
    assert rows["sigmoid1"].kept_bytes == 4 * 5 * 26 * 26  # y, for y (1 - y)
    assert rows["flatten1"].kept_bytes == 0
    assert rows["dense1"].kept_bytes == 0  # its x is the sigmoid's y
    text = str(summary)
    assert "341,727 parameters" in text
    assert "conv1" in text
    assert summary.to_dict()["layers"][0]["name"] == "conv1"


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("lr", 9, r"no attribute 'lr' to set.*\n.*model.learning_rate"),
        ("los", "mse", r"no attribute 'los' to set.*\n.*model.loss"),
        ("trainable", False, r"no attribute 'trainable' to set"),
        ("tags", [1], r"no attribute 'tags' to set.*\n.*model.info"),
        ("device", "cuda", r"\n.*model.to"),
        ("backend", "torch", r"backend can't be changed.*\n.*model.to"),
        *(
            (name, 3, rf"{name} can't be changed")
            for name in ("dtype", "seed", "input_shape", "output_shape", "net", "history")
        ),
    ],
)
def test_what_would_do_nothing_is_refused(name, value, told):
    model = Model(Sequential(Dense(2)), (3,), backend="numpy")
    before = vars(model).copy()
    with pytest.raises(OptionError, match=f"X104.*{told}"):
        setattr(model, name, value)
    assert vars(model) == before


def test_the_learning_rate_can_be_set():
    """The moments go on: as if the optimizer had been replaced by one of another rate."""
    x, y = np.eye(3, dtype="float32"), [0, 1, 0]
    models = [Model(Sequential(Dense(2)), (3,), backend="numpy", optimizer=xcnn.Adam(0.1)) for _ in range(2)]
    for model in models:
        model.step(x, y)
    models[0].learning_rate = 0.01
    models[1].optimizer = xcnn.Adam(0.01)
    assert models[0].learning_rate == 0.01
    for model in models:
        model.step(x, y)
    np.testing.assert_array_equal(*(model.weights["dense1"]["kernel"] for model in models))
    models[0].learning_rate = xcnn.schedules.Step(0.5, 1, factor=0.1)
    assert models[0].learning_rate == pytest.approx(0.005)  # after two steps
    with pytest.raises(OptionError, match="learning_rate must be a number"):
        models[0].learning_rate = "fast"


def test_a_model_of_ones_own_has_its_own_attributes():
    class Mine(Model):
        """One that remembers."""

        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            self.notes = []

    assert Mine(Sequential(Dense(2)), (3,), backend="numpy").notes == []
