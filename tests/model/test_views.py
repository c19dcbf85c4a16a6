"""Predictions of several views, averaged."""

import numpy as np
import pytest

import xcnn
from xcnn import augment
from xcnn.errors import DTypeError, OptionError, ShapeError

rng = np.random.default_rng(3)
X = rng.random((7, 1, 6, 6), dtype="float32")


@pytest.fixture
def model(backend):
    net = xcnn.Sequential(xcnn.Conv2D(3, 3), xcnn.ReLU(), xcnn.Flatten(), xcnn.Dense(4))
    return xcnn.Model(net, (1, 6, 6), backend=backend, seed=2)


class Lazily:
    """The same samples, one at a time."""

    def __len__(self):
        return len(X)

    def __getitem__(self, n):
        return X[n]


def softmax(y):
    p = np.exp(y.astype("float64"))
    return p / p.sum(axis=1, keepdims=True)


def test_outputs_and_probabilities_are_the_mean_of_the_views(model):
    turned = [X, X[:, :, :, ::-1], X[:, :, ::-1]]
    views = [None, augment.Flip(1), augment.Flip(0, 1)]
    outputs = [model.predict(np.ascontiguousarray(x)) for x in turned]
    np.testing.assert_allclose(model.predict(X, views=views), np.mean(outputs, axis=0), rtol=1e-5, atol=1e-6)
    shares = np.mean([softmax(y) for y in outputs], axis=0)
    np.testing.assert_allclose(model.probabilities(X, views=views), shares, atol=1e-6)
    assert abs(shares - softmax(np.mean(outputs, axis=0))).max() > 1e-5  # which would be something else
    np.testing.assert_array_equal(model.predict(X, views=[None]), model.predict(X))


def test_what_a_view_draws_follows_from_the_seed_the_view_and_the_sample(model):
    view = augment.Translate(2)
    whole = model.predict(X, views=[view])
    np.testing.assert_allclose(model.predict(X, batch_size=2, views=[view]), whole, atol=1e-6)
    np.testing.assert_array_equal(model.predict(Lazily(), views=[view]), whole)
    twice = model.predict(X, views=[view, view])
    assert abs(twice - whole).max() > 1e-4  # the second one draws other moves
    other = xcnn.Model(model.net, (1, 6, 6), backend=model.backend, seed=3)
    other.weights = {name: {n: model.backend.to_numpy(w) for n, w in of.items()} for name, of in model.weights.items()}
    assert abs(other.predict(X, views=[view]) - whole).max() > 1e-4


@pytest.mark.parametrize(
    ("views", "error", "told"),
    [
        ([], OptionError, "views is empty"),
        (3, OptionError, "views are a list of augmentations; got 3"),
        ("flip", OptionError, "views are a list of augmentations"),
        ([augment.Flip], OptionError, "takes Flip"),
        ([augment.Mixup()], OptionError, "mixes samples"),
        ([lambda x, draws: x[:, :, 1:]], ShapeError, "changed the shape"),
        ([lambda x, draws: x.astype("float64")], DTypeError, "made float32 float64"),
    ],
)
def test_what_is_no_view_is_told(views, error, told):
    model = xcnn.Model(xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(2)), (1, 6, 6), backend="numpy")
    with pytest.raises(error, match=told):
        model.predict(X, views=views)
