"""Nets as scikit-learn's estimators: `Classifier` and `Regressor`, for its pipelines, searches and scores.

    from xcnn.sklearn import Classifier

    search = GridSearchCV(make_pipeline(StandardScaler(), Classifier(epochs=50)), {"classifier__batch_size": [16, 64]})

They take arrays (samples, features) as all estimators do, and images where `input_shape` says how a row is one. They
need the extra `sklearn`, and are tested by all of scikit-learn's own checks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from xcnn.core.types import DTypeName, LossName, Shape
from xcnn.errors import DataError, LabelError, MissingDependency, OptionError, short
from xcnn.layers import Dense, Layer, ReLU, Reshape, Sequential
from xcnn.model.model import Model

try:
    if not TYPE_CHECKING:
        from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, check_random_state, column_or_1d, validate_data
except ImportError as _error:
    hint = 'pip install "xcnn[sklearn]"'
    raise MissingDependency("X601", "xcnn.sklearn needs scikit-learn 1.6 or later.", hint=hint) from _error

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xcnn.core.estimators import BaseEstimator, ClassifierMixin, RegressorMixin

Net = Layer | Callable[[int], Layer] | None


def mlp(outputs: int) -> Sequential:
    """One hidden layer of 100, as scikit-learn's own nets have: what is taken where no net is given.

    Parameters
    ----------
    outputs
        classes, or numbers to be predicted
    """
    return Sequential(Dense(100), ReLU(), Dense(outputs))


class _Estimator(BaseEstimator):
    """What both have in common: options that are kept as they are given, and a model that `fit` makes."""

    _losses: tuple[str, ...]
    model_: Model

    def __init__(
        self,
        net: Net = None,
        *,
        input_shape: Shape | None = None,
        loss: LossName | Callable[..., Any] | None = None,
        optimizer: Any = "adam",
        epochs: int = 100,
        batch_size: int = 32,
        augment: Any = (),
        callbacks: Any = (),
        progress: Any = "none",
        backend: Any = None,
        dtype: DTypeName | None = None,
        random_state: Any = None,
    ) -> None:
        self.net = net
        self.input_shape = input_shape
        self.loss = loss
        self.optimizer = optimizer
        self.epochs = epochs
        self.batch_size = batch_size
        self.augment = augment
        self.callbacks = callbacks
        self.progress = progress
        self.backend = backend
        self.dtype = dtype
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.three_d_array = True, False
        return tags

    def _trained(
        self, x: NDArray[Any], y: NDArray[Any], weights: NDArray[Any] | None, outputs: int, loss: LossName
    ) -> Model:
        """A model of the net, trained on rows (samples, features)."""
        net = mlp if self.net is None else self.net
        if isinstance(net, type) or not isinstance(net, Layer):
            if not callable(net):
                hint = "give a layer, or a function of the number of outputs such as xcnn.nets.lenet."
                raise OptionError("X104", f"net must make a layer; got {short(net)}.", hint=hint)
            net = net(outputs)
        rows = (x.shape[1],)
        if self.input_shape is not None:
            net = Sequential(Reshape(tuple(self.input_shape)), net)
        seed = int(check_random_state(self.random_state).randint(2**31))
        dtype: DTypeName = self.dtype or ("float32" if x.dtype == np.float32 else "float64")
        options: dict[str, Any] = {"optimizer": self.optimizer, "backend": self.backend, "dtype": dtype, "seed": seed}
        model = Model(net, rows, loss=self.loss or loss, **options)
        if model.output_shape != (outputs,):
            told = f"the net has outputs of shape {model.output_shape}; these targets need ({outputs},)."
            hint = "give a function of the number of outputs instead: net=lambda outputs: ..."
            raise OptionError("X104", told, hint=hint)
        how: dict[str, Any] = {"epochs": self.epochs, "batch_size": self.batch_size, "progress": self.progress}
        how |= {"callbacks": self.callbacks, "augment": self.augment, "sample_weight": weights}
        model.fit(x.astype(dtype), y, **how)
        return model

    def _rows(self, x: Any) -> NDArray[Any]:
        """What is asked about, checked against what `fit` saw."""
        check_is_fitted(self)
        rows: NDArray[Any] = validate_data(self, x, reset=False, dtype=(np.float64, np.float32))
        return rows.astype(self.model_.dtype)


def _that_count(sample_weight: Any, x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """The samples that have a weight above 0, x, y and the weights; one of weight 0 is as one that was not given."""
    weights = np.asarray(sample_weight, np.float64)
    weights = np.full(len(x), weights) if weights.ndim == 0 else weights
    if weights.shape != (len(x),) or not np.isfinite(weights).all() or weights.min() < 0 or not weights.any():
        told = f"sample_weight must be {len(x)} finite numbers of at least zero, not all zero; got {weights.shape}."
        raise DataError("X203", told, hint="a sample that is not to count has the weight 0.")
    return x[weights > 0], y[weights > 0], weights[weights > 0]


class Classifier(ClassifierMixin, _Estimator):
    """A net that tells classes apart, as an estimator of scikit-learn.

    Parameters
    ----------
    net
        a layer, or a function of the number of classes that makes one, such as `xcnn.nets.lenet`; None is a hidden
        layer of 100 with ReLU
    input_shape
        of one sample as the net sees it, such as (1, 28, 28): the rows of X are reshaped so. None leaves them rows
    loss
        a name, or a function (y, t) -> (value, dy), as of `xcnn.Model`; None is cross-entropy of one logit a class
    optimizer
        a name, or a value such as xcnn.SGD(0.1, momentum=0.9)
    backend
        a name or an xcnn.Backend; None is the process's
    dtype
        "float32" or "float64", of the weights; None is that of X, as scikit-learn's own nets have it
    epochs, batch_size
        rounds through the data, and samples a step
    augment
        augmentations, as of `xcnn.data.augment`, which each training batch goes through in turn
    callbacks
        functions (model, history), called after each epoch; True ends training
    progress
        "auto", "live", "plain" or "none", on stderr
    random_state
        a seed, a RandomState or None, of the initial weights and the order of samples

    Attributes
    ----------
    model_ : xcnn.Model
        what was trained
    classes_ : (classes,)
        the labels, sorted
    n_features_in_ : int
        of a row

    Raises
    ------
    OptionError, ShapeError
        X104, X101, for options and nets that do not fit the data, when `fit` is called, as `xcnn.Model` does.
    LabelError
        X201, for labels of a single class. What is wrong with X and y else, scikit-learn says.

    Examples
    --------
    >>> from xcnn.sklearn import Classifier
    >>> x, y = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]] * 8), np.array(["even", "odd", "odd", "even"] * 8)
    >>> Classifier(epochs=200, random_state=0).fit(x, y).predict(x[:4]).tolist()
    ['even', 'odd', 'odd', 'even']
    """

    model_: Model
    classes_: NDArray[Any]

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Classifier:
        """Train a new model.

        Parameters
        ----------
        X : (samples, features)
            numbers
        y : (samples,)
            labels, numbers or strings
        sample_weight : (samples,)
            of each in the loss, at least 0: one of weight 0 is left out, one of weight 2 counts as two do in one batch
        """
        X, y = validate_data(self, X, y, dtype=(np.float64, np.float32))
        check_classification_targets(y)
        weights = None
        if sample_weight is not None:
            X, y, weights = _that_count(sample_weight, X, y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise LabelError("X201", f"needs samples of two classes; got 1 class, {self.classes_[0]!s}.", layer=self)
        self.model_ = self._trained(X, labels.astype(np.int64), weights, len(self.classes_), "cross_entropy")
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """The probability of each class, (samples, classes), in the order of `classes_`.

        Parameters
        ----------
        X : (samples, features)
            numbers
        """
        rows = self._rows(X)
        return self.model_.probabilities(rows)

    def predict(self, X: Any) -> NDArray[Any]:
        """The likeliest label of each sample, (samples,).

        Parameters
        ----------
        X : (samples, features)
            numbers
        """
        likeliest = self.predict_proba(X).argmax(axis=1)
        labels: NDArray[Any] = self.classes_[likeliest]
        return labels


class Regressor(RegressorMixin, _Estimator):
    """A net that predicts numbers, as an estimator of scikit-learn.

    Targets are taken as they are; `sklearn.compose.TransformedTargetRegressor` scales large ones.

    Parameters
    ----------
    net
        a layer, or a function of the number of outputs that makes one; None is a hidden layer of 100 with ReLU
    input_shape
        of one sample as the net sees it, such as (1, 28, 28): the rows of X are reshaped so. None leaves them rows
    loss
        a name, or a function (y, t) -> (value, dy), as of `xcnn.Model`; None is the mean squared error
    optimizer
        a name, or a value such as xcnn.SGD(0.1, momentum=0.9)
    backend
        a name or an xcnn.Backend; None is the process's
    dtype
        "float32" or "float64", of the weights; None is that of X, as scikit-learn's own nets have it
    epochs, batch_size
        rounds through the data, and samples a step
    augment
        augmentations, as of `xcnn.data.augment`, which each training batch goes through in turn
    callbacks
        functions (model, history), called after each epoch; True ends training
    progress
        "auto", "live", "plain" or "none", on stderr
    random_state
        a seed, a RandomState or None, of the initial weights and the order of samples

    Attributes
    ----------
    model_ : xcnn.Model
        what was trained
    n_features_in_ : int
        of a row

    Raises
    ------
    OptionError, ShapeError
        X104, X101, for options and nets that do not fit the data, when `fit` is called, as `xcnn.Model` does. What is
        wrong with X and y, scikit-learn says.

    Examples
    --------
    >>> from xcnn.sklearn import Regressor
    >>> x = np.linspace(-1, 1, 100)[:, None]
    >>> bool(Regressor(random_state=0).fit(x, x[:, 0] ** 2).score(x, x[:, 0] ** 2) > 0.95)
    True
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    model_: Model

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Regressor:
        """Train a new model.

        Parameters
        ----------
        X : (samples, features)
            numbers
        y : (samples,) or (samples, outputs)
            numbers
        sample_weight : (samples,)
            of each in the loss, at least 0: one of weight 0 is left out, one of weight 2 counts as two do in one batch
        """
        X, y = validate_data(self, X, y, dtype=(np.float64, np.float32), multi_output=True, y_numeric=True)
        y = column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y
        weights = None
        if sample_weight is not None:
            X, y, weights = _that_count(sample_weight, X, y)
        self._one = y.ndim == 1
        targets = y.reshape(len(y), -1)
        self.model_ = self._trained(X, targets, weights, targets.shape[1], "mse")
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:
        """The numbers predicted, (samples,) or (samples, outputs) as y was.

        Parameters
        ----------
        X : (samples, features)
            numbers
        """
        rows = self._rows(X)
        y: NDArray[np.float64] = self.model_.predict(rows).astype(np.float64)
        return y[:, 0] if self._one else y


__all__ = ["Classifier", "Regressor"]
