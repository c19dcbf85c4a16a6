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


def test_a_run_takes_flags_and_a_backend():
    numpy = xcnn.backend("numpy")
    for options in ({"train": "no"}, {"train": 1}, {"train": None}, {"wants_dx": 0}, {"wants_backward": "yes"}):
        with pytest.raises(OptionError, match=r"X104.*must be True or False"):
            Run(numpy, **options)
    with pytest.raises(OptionError, match=r"X104.*not on its name 'numpy'"):
        Run("numpy")
    assert Run(numpy, np.True_).train is True
