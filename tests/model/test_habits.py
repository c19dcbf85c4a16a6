"""What users of Keras and PyTorch write by habit is told, or refused: never another net in silence."""

import copy
import pickle

import numpy as np
import pytest

import xcnn
from xcnn.errors import OptionError
from xcnn.layers import BatchNorm, Dense, ReLU, Residual, Run, Sequential
from xcnn.model.habits import READING


@pytest.fixture
def model():
    return xcnn.Model(Dense(2), (3,), backend="numpy")


@pytest.mark.parametrize("name", READING)
def test_attributes_of_others_are_told_what_is_meant(name, model):
    with pytest.raises(AttributeError) as told:
        getattr(model, name)
    assert str(told.value) == f"'Model' object has no attribute {name!r}: {READING[name]}"
    assert not hasattr(model, name)


def test_misspelt_ones_are_told_and_others_are_as_ever(model):
    with pytest.raises(AttributeError, match="did you mean 'predict'"):
        model.predic  # noqa: B018
    with pytest.raises(AttributeError, match=r"no attribute 'xyzzy'$"):
        model.xyzzy  # noqa: B018
    with pytest.raises(AttributeError, match=r"no attribute '_nothing'$"):
        model._nothing  # noqa: B018
    x = np.ones((1, 3), "float32")
    for twin in (copy.copy(model), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(twin.predict(x), model.predict(x))


@pytest.mark.parametrize("within", [lambda n: n, lambda n: Sequential(ReLU(), Residual(n))])
def test_a_momentum_of_pytorchs_is_told(within, tmp_path):
    with pytest.warns(UserWarning, match=r"momentum=0\.1\) keeps that share.*PyTorch's momentum=0\.1 is 0\.9 here"):
        model = xcnn.Model(within(BatchNorm(momentum=0.1)), (3,), loss="mse", backend="numpy")
    model.save(tmp_path / "m.xcnn")
    xcnn.Model.load(tmp_path / "m.xcnn")  # it was told
    for momentum in (0.0, 0.5, 0.9, 0.99):
        xcnn.Model(within(BatchNorm(momentum=momentum)), (3,), loss="mse", backend="numpy")


def test_a_loss_of_probabilities_behind_a_linear_layer_is_told():
    for loss, net in (("binary_cross_entropy", Dense(1)), ("nll", Sequential(Dense(2), xcnn.Flatten()))):
        with pytest.warns(UserWarning, match=f"^{loss} takes .*probabilities, but.* ends in Dense.*let it end in"):
            xcnn.Model(net, (3,), loss=loss, backend="numpy")
    for loss, net in (("binary_cross_entropy", xcnn.Sigmoid()), ("nll", xcnn.LogSoftmax()), ("mse", xcnn.ReLU())):
        xcnn.Model(Sequential(Dense(2), net), (3,), loss=loss, backend="numpy")


@pytest.mark.parametrize("name", ["m.h5", "m.keras", "m.pt", "m.onnx", "m.pkl", "m.npz"])
def test_a_checkpoint_under_another_formats_name_is_written_and_told(name, model, tmp_path):
    with pytest.warns(UserWarning, match=rf"^{name} is a checkpoint of xcnn's.*; call it \.xcnn\.$") as told:
        model.save(tmp_path / name)
    assert told[0].filename == __file__
    x = np.ones((1, 3), "float32")
    np.testing.assert_array_equal(xcnn.Model.load(tmp_path / name).predict(x), model.predict(x))
    model.save(tmp_path / "m.xcnn")
    model.save(tmp_path / "m")


def test_names_in_modules_are_told_as_elsewhere():
    for module, name, here in (
        (xcnn.losses, "CrossEntropyLoss", "cross_entropy"), (xcnn.losses, "MSELoss", "mse"),
        (xcnn.schedules, "StepLR", "Step"), (xcnn.optimizers, "Nadam", "NAdam"),
    ):  # fmt: skip
        with pytest.raises(AttributeError, match=f"no attribute '{name}'; did you mean '{here}'\\?$"):
            getattr(module, name)
        assert hasattr(module, here)
    assert not hasattr(xcnn.losses, "__wrapped__")


def test_what_is_given_at_the_wrong_place_is_told_where_it_goes(model):
    x = np.ones((2, 3), "float32")
    for call, hint in (
        (lambda: model.fit(x, [0, 1], lr=0.1), "model.learning_rate = 1e-3"),
        (lambda: model.fit(x, [0, 1], learning_rate=0.1), "xcnn.Adam\\(1e-3\\)"),
        (lambda: model.fit(x, [1, 2]), "y - 1"),
        (lambda: model.predict("digit.png"), "predict_images reads files"),
        (lambda: xcnn.Model(Dense(2), (3,), metrics=["accuracy"]), "leave it out"),
        (lambda: xcnn.Model(Dense(2), (3,), optimizer=xcnn.Adam), "xcnn.Adam\\(\\)"),
    ):
        with pytest.raises((OptionError, xcnn.errors.LabelError, xcnn.errors.DataError), match=f"hint: .*{hint}"):
            call()


def test_a_run_takes_flags_and_a_backend():
    numpy = xcnn.backend("numpy")
    for options in ({"train": "no"}, {"train": 1}, {"train": None}, {"wants_dx": 0}, {"wants_backward": "yes"}):
        with pytest.raises(OptionError, match=r"X104.*must be True or False"):
            Run(numpy, **options)
    with pytest.raises(OptionError, match=r"X104.*not on its name 'numpy'"):
        Run("numpy")
    assert Run(numpy, np.True_).train is True


# What reads as it does elsewhere.


def test_a_net_is_indexed_sliced_and_asked_for_its_layers():
    net = xcnn.Sequential(xcnn.Dense(4), xcnn.ReLU(), xcnn.Dense(3), head=xcnn.Dense(2))
    assert net[0] is net["dense1"]
    assert net[-1] is net["head"]
    part = net[1:]
    assert isinstance(part, xcnn.Sequential)
    assert [*part.layers] == ["relu1", "dense2", "head"]  # the names that their weights have
    assert "relu1" in net
    assert xcnn.Dense(3) in net
    assert "relu2" not in net
    assert xcnn.Dense(5) not in net
    with pytest.raises(IndexError):
        net[4]
    branches = xcnn.Concatenate(xcnn.Sequential(), xcnn.ReLU())
    assert branches[1] == xcnn.ReLU()


def test_a_model_is_called():
    model = xcnn.Model(xcnn.Dense(2), (3,), seed=1)
    x = np.ones((4, 3), "float32")
    np.testing.assert_array_equal(model(x), model.predict(x))
    model.fit(x, [0, 1, 0, 1], callbacks=None, progress=False)


@pytest.mark.parametrize("dtype", ["np.float64", "np.dtype('float64')", "float64", "torch.float64"])
def test_types_go_by_their_objects_too(dtype):
    torch = pytest.importorskip("torch") if "torch" in dtype else None
    model = xcnn.Model(xcnn.Dense(2), (3,), dtype=eval(dtype, {"np": np, "torch": torch, "float64": "float64"}))
    assert model.dtype == "float64"
    assert str(model.backend.to_numpy(model.weights["kernel"]).dtype) == "float64"


@pytest.mark.parametrize("dtype", [np.float16, np.int64, float, None, 32, "float", np.dtype("float16")])
def test_other_types_are_told(dtype):
    with pytest.raises(OptionError, match=r'X104.*dtype must be "float32" or "float64"'):
        xcnn.Model(xcnn.Dense(2), (3,), dtype=dtype)


def test_a_backend_is_used_for_a_while(monkeypatch):
    monkeypatch.setattr("xcnn.backends.selector._default", xcnn.backend("numpy"))
    before = xcnn.get_backend()
    with xcnn.use_backend("numpy", algorithm="gemm") as there:
        assert xcnn.get_backend() is there
        assert xcnn.Model(xcnn.Dense(2), (3,)).backend.algorithm == "gemm"
    assert xcnn.get_backend() is before
    with pytest.raises(ZeroDivisionError), xcnn.use_backend("numpy"):
        raise ZeroDivisionError
    assert xcnn.get_backend() is before
    with pytest.raises(OptionError, match="no option 'algoritm'"), xcnn.use_backend("numpy", algoritm="gemm"):
        raise AssertionError
    assert xcnn.get_backend() is before
