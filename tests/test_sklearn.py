"""The estimators, by all of scikit-learn's own checks, and in its pipelines, searches and copies."""

import importlib
import pickle
import re
import sys

import numpy as np
import pytest

pytest.importorskip("sklearn", "1.6", reason="scikit-learn 1.6 or later is not installed")

from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import xcnn
from xcnn.sklearn import Classifier, Regressor


@parametrize_with_checks([Classifier(), Regressor()])
def test_all_of_scikit_learn_s_checks(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    return train_test_split(x[:600] / 16, np.array([f"digit {n}" for n in y])[:600], random_state=0)


def small(classes):
    return xcnn.Sequential(
        xcnn.Conv2D(8, 3), xcnn.ReLU(), xcnn.MaxPool2D(2), xcnn.Flatten(), xcnn.Dense(classes)
    )  # fmt: skip


def test_images_are_rows_and_labels_are_strings(digits):
    x, x_test, y, y_test = digits
    made = Classifier(small, input_shape=(1, 8, 8), optimizer=xcnn.Adam(0.01), epochs=25, random_state=0).fit(x, y)
    assert made.score(x_test, y_test) > 0.9
    assert made.model_.net["sequential1"]["conv1"].filters == 8
    p = made.predict_proba(x_test)
    np.testing.assert_array_equal(made.classes_[p.argmax(axis=1)], made.predict(x_test))
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-12)


def test_a_pipeline_is_searched(digits):
    x, x_test, y, y_test = digits
    pipeline = make_pipeline(StandardScaler(), Classifier(epochs=10, random_state=0))
    search = GridSearchCV(pipeline, {"classifier__optimizer": ["sgd", xcnn.Adam(0.01)]}, cv=2).fit(x, y)
    assert search.best_params_["classifier__optimizer"] == xcnn.Adam(0.01)
    assert search.score(x_test, y_test) > 0.9


def test_two_regressions_at_once_are_those_of_their_closed_form():
    """A single linear layer, trained to the end, is the least squares."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3))
    y = x @ rng.normal(size=(3, 2)) + rng.normal(size=(60, 2)) * 0.1 + 1
    options = {"optimizer": xcnn.SGD(0.3), "batch_size": 60, "epochs": 300, "dtype": "float64"}
    made = Regressor(xcnn.Dense, **options).fit(x, y)
    expected, *_ = np.linalg.lstsq(np.c_[x, np.ones(60)], y, rcond=None)
    np.testing.assert_allclose(made.predict(x), np.c_[x, np.ones(60)] @ expected, atol=1e-8)
    assert cross_val_score(clone(made), x, y[:, 0], cv=3).min() > 0.9


def test_weighted_regression_is_that_of_its_closed_form():
    """Weights are those of the squares; a sample of weight 0 is as one that was not given."""
    rng = np.random.default_rng(0)
    x, y, w = rng.normal(size=(40, 3)), rng.normal(size=40), rng.uniform(0, 2, 40) * (rng.random(40) > 0.2)
    made = Regressor(xcnn.Dense, optimizer=xcnn.SGD(0.3), batch_size=40, epochs=400).fit(x, y, sample_weight=w)
    root, columns = np.sqrt(w), np.c_[x, np.ones(40)]
    expected, *_ = np.linalg.lstsq(root[:, None] * columns, root * y, rcond=None)
    np.testing.assert_allclose(made.predict(x), columns @ expected, atol=1e-8)
    u, v = w @ (y - made.predict(x)) ** 2, w @ (y - np.average(y, weights=w)) ** 2
    assert made.score(x, y, sample_weight=w) == pytest.approx(1 - u / v, rel=1e-12)
    assert made.model_.plan["samples"] == (w > 0).sum()
    for bad in (w[:-1], -w, np.where(w > 1, np.nan, w), 0 * w):
        with pytest.raises(xcnn.errors.DataError, match=r"X203.*sample_weight"):
            made.fit(x, y, sample_weight=bad)


def test_the_type_is_that_of_x(digits):
    x, _, y, _ = digits
    for kind, dtype in (("float64", None), ("float32", None), ("float32", "float64")):
        made = Classifier(epochs=1, dtype=dtype).fit(x.astype(kind), y)
        assert made.model_.dtype == (dtype or kind)


def test_one_seed_gives_one_estimator(digits):
    x, x_test, y, _ = digits
    first, second, other = (Classifier(epochs=2, random_state=seed).fit(x, y) for seed in (1, 1, 2))
    again = pickle.loads(pickle.dumps(first))
    for same in (second, again):
        np.testing.assert_array_equal(first.predict_proba(x_test), same.predict_proba(x_test))
    assert (first.predict_proba(x_test) != other.predict_proba(x_test)).any()


def test_errors_say_what_to_give(digits):
    x, _, y, _ = digits
    with pytest.raises(xcnn.errors.OptionError, match=r"outputs of shape \(3,\); these targets need \(10,\)"):
        Classifier(xcnn.Dense(3)).fit(x, y)
    with pytest.raises(xcnn.errors.OptionError, match="net must make a layer; got 'lenet'"):
        Classifier("lenet").fit(x, y)
    with pytest.raises(xcnn.errors.ShapeError, match="reshape1"):
        Classifier(small, input_shape=(1, 7, 7)).fit(x, y)
    with pytest.raises(xcnn.errors.LabelError, match="needs samples of two classes; got 1 class, digit 0"):
        Classifier().fit(x[:3], ["digit 0"] * 3)
    for method in ("predict", "predict_proba"):
        with pytest.raises(NotFittedError):
            getattr(Classifier(), method)(x)


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    monkeypatch.delitem(sys.modules, "xcnn.sklearn")
    with pytest.raises(xcnn.errors.MissingDependency, match=re.escape('pip install "xcnn[sklearn]"')):
        importlib.import_module("xcnn.sklearn")
