"""What `fit`, `evaluate`, `predict` and `step` refuse: masks, targets that are no distributions, nothing at all."""

from functools import partial

import numpy as np
import pytest

import xcnn
from xcnn.errors import DataError, DTypeError, LabelError

X = np.ones((4, 1, 2, 2), "float32")
LABELS = np.array([0, 1, 0, 1])


def model(outputs=2, loss="cross_entropy", **options):
    net = xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(outputs))
    return xcnn.Model(net, (1, 2, 2), loss=loss, backend="numpy", **options)


MASKED = np.ma.array(X, mask=np.arange(16).reshape(X.shape) == 5)


@pytest.mark.parametrize(
    "work",
    [
        lambda m: m.fit(MASKED, LABELS, progress="none"),
        lambda m: m.fit(X, np.ma.array(LABELS), progress="none"),
        lambda m: m.fit(X, LABELS, validation_data=(MASKED, LABELS), progress="none"),
        lambda m: m.step(X, np.ma.array(LABELS, mask=[0, 0, 1, 0])),
        lambda m: m.evaluate(MASKED, LABELS),
        lambda m: m.predict(MASKED),
        lambda m: m.predict(list(MASKED)),
        lambda m: m.predict([list(sample) for sample in MASKED]),
        lambda m: m.probabilities(MASKED),
        lambda m: setattr(m, "weights", {"dense1": {"kernel": np.ma.ones((4, 2)), "bias": np.zeros(2)}}),
        lambda m: m.net(m.weights, MASKED, xcnn.Run(m.backend)),
    ],
)
def test_a_mask_is_refused_not_ignored(work):
    with pytest.raises(DataError, match=r"X203.*is a masked array, and its mask would be ignored(.|\n)*x\.filled"):
        work(model())


def test_a_mask_is_refused_by_each_backend(backend):
    for masked in (MASKED, [MASKED, MASKED], np.ma.masked):
        with pytest.raises(DataError, match="X203"):
            backend.asarray(masked)
    for function in (xcnn.correlate2d, xcnn.convolve2d):
        with pytest.raises(DataError, match=f"X203.*{function.__name__}: k is a masked array"):
            function(np.ones((2, 2)), np.ma.ones((2, 2)))
    assert backend.to_numpy(backend.asarray(MASKED.filled(7))).max() == 7


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # NumPy's, of matrices
def test_matrices_are_no_arrays_of_layers():
    """Their `*` is a product of matrices."""
    with pytest.raises(DataError, match=r"X203.*numpy.matrix"):
        xcnn.ReLU()({}, np.asmatrix(np.ones((2, 2))), xcnn.Run(xcnn.backend("numpy")))


@pytest.mark.parametrize("odd", [np.zeros((4, 1, 2, 2), [("a", "f4")]), X.astype(object), X > 0, X.astype(complex)])
def test_what_holds_no_real_numbers_is_refused(odd):
    with pytest.raises(DTypeError, match="X103"):
        model().predict(odd)


BAD_ROWS = {
    "zeros": (np.zeros((4, 2)), 0),
    "ones": (np.ones((4, 2)), 0),
    "whole ones": (np.ones((4, 2), int), 0),
    "one of them": (np.array([[0.5, 0.5], [1, 0], [0.5, 0.4], [0, 1]]), 2),
    "two labels": (np.array([[1, 0], [1, 1], [0, 1], [0, 1]], bool), 1),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_rows_that_are_no_distributions_are_refused(name):
    rows, at = BAD_ROWS[name]
    for work in (model().step, model().evaluate, lambda x, y: model().fit(x, y, progress="none")):
        with pytest.raises(LabelError, match=rf"X201.*the sum 1 over the classes; found .* at index {at} \("):
            work(X, rows)
    with pytest.raises(LabelError, match="X201"):
        model().fit(X, LABELS, validation_data=(X, rows), progress="none")


@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
@pytest.mark.parametrize("classes", [2, 3, 10, 1000])
def test_rows_that_are_rounded_are_distributions(kind, classes, rng):
    rows = rng.dirichlet(np.ones(classes), 4).astype(kind)
    assert np.isfinite(model(classes).step(X, rows))
    assert np.isfinite(model(classes).step(X, rows.astype("float32").astype("float64")))


def test_negative_shares_are_refused_though_they_sum_to_1():
    with pytest.raises(LabelError, match=r"X201.*must be 0\.\.1"):
        model().step(X, np.array([[1.5, -0.5]] * 4))


def test_rows_of_images_are_looked_at_along_the_classes():
    net = xcnn.Sequential(xcnn.Conv2D(3, 1))
    images = xcnn.Model(net, (1, 2, 2), backend="numpy")
    rows = np.moveaxis(np.eye(3)[np.arange(16).reshape(4, 2, 2) % 3], 3, 1).copy()
    assert np.isfinite(images.step(X, rows))
    rows[2, :, 1, 0] = 0.5
    with pytest.raises(LabelError, match=r"found 1\.5 at index 2, 1, 0 \(and 0 more\)"):
        images.step(X, rows)


@pytest.mark.filterwarnings("ignore:binary_cross_entropy takes probabilities:UserWarning")
@pytest.mark.parametrize("loss", ["binary_cross_entropy", "binary_cross_entropy_with_logits"])
def test_several_units_need_no_sum_but_shares_between_0_and_1(loss):
    assert np.isfinite(model(loss=loss).evaluate(X, np.ones((4, 2)))["loss"])
    for outside in (1.5, -0.25):
        with pytest.raises(LabelError, match=r"X201.*must be 0\.\.1"):
            model(loss=loss).step(X, np.full((4, 2), outside))


def test_a_single_output_is_told_as_one():
    single = model(1, "binary_cross_entropy_with_logits")
    with pytest.raises(LabelError, match=r"labels must be 0\.\.1 for a single output; found 2 at index 1"):
        single.step(X, LABELS * 2)
    with pytest.raises(LabelError, match=r"labels must be 0\.\.1 for 2 outputs; found 2 at index 1"):
        model().step(X, LABELS * 2)


def test_nothing_is_told_as_nothing():
    for work in (lambda: model().fit([], []), lambda: model().predict([]), lambda: model().evaluate([], [])):
        with pytest.raises(
            DataError, match=r"\[X203\] x is empty\.\n  hint: give samples, x of shape \(any, 1, 2, 2\)"
        ):
            work()
    with pytest.raises(DataError, match="x and y are empty"):
        model().fit(X[:0], LABELS[:0])
    assert model().predict(X[:0]).shape == (0, 2)


def test_targets_are_finite_in_the_models_type():
    with pytest.raises(DataError, match=r"X203.*finite numbers of float32"):
        model(loss="mse").step(X, np.full((4, 2), 1e300))
    assert model(loss="mae", dtype="float64").step(X.astype("float64"), np.full((4, 2), 1e300)) == pytest.approx(1e300)


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_samples_that_are_not_finite_are_refused_and_the_hint_leaves_them_out(kind):
    """In the model's type: 1e300 is infinite in float32."""
    asked = model()
    x = np.random.default_rng(0).standard_normal((5, 1, 2, 2)).astype(kind)
    x[1, 0, 0, 1], x[3, 0, 1, 1] = np.nan, -np.inf if kind == "float32" else 1e300
    with pytest.raises(DataError, match=r"X203.*in sample 1 \(2 such samples\)") as refused:
        asked.predict(x)
    with np.errstate(over="ignore"):
        rest = eval(refused.value.hint.rpartition(": ")[2].rstrip("."), {"x": x, "numpy": np})
    np.testing.assert_array_equal(rest, x[[0, 2, 4]])
    assert asked.predict(rest).shape == (3, 2)


def test_a_net_whose_logits_are_bounded_is_told_when_it_is_built():
    """The number is the softmax or sigmoid of what such a net can give at most."""
    cases = [
        (xcnn.Softmax(), "cross_entropy", 2, np.exp(1) / (np.exp(1) + 1)),
        (xcnn.Softmax(), "cross_entropy", 10, np.exp(1) / (np.exp(1) + 9)),
        (xcnn.Tanh(), "cross_entropy", 3, np.exp(1) / (np.exp(1) + 2 * np.exp(-1))),
        (xcnn.Sigmoid(), "binary_cross_entropy_with_logits", 1, 1 / (1 + np.exp(-1))),
        (
            xcnn.Sequential(xcnn.Softmax(), xcnn.Reshape((2,))),
            partial(xcnn.losses.cross_entropy, label_smoothing=0.1),
            2,
            0.7311,
        ),
    ]
    for last, loss, outputs, most in cases:
        with pytest.warns(UserWarning, match=f"takes logits.*above {most:.4f}") as told:
            xcnn.Model(xcnn.Sequential(xcnn.Dense(outputs), last), (3,), loss=loss, backend="numpy")
        assert told[0].filename == __file__
    quiet = xcnn.Model(
        xcnn.Sequential(xcnn.Dense(2), xcnn.Softmax()), (3,), loss="mse", backend="numpy"
    )  # says nothing
    with pytest.warns(UserWarning, match="takes logits") as told:
        quiet.loss = "cross_entropy"
    assert told[0].filename == __file__
    for last, loss in (
        (xcnn.ReLU(), "cross_entropy"),
        (xcnn.Sigmoid(), "binary_cross_entropy"),
        (xcnn.Dense(2), "cross_entropy"),
    ):
        xcnn.Model(xcnn.Sequential(xcnn.Dense(2), last), (3,), loss=loss, backend="numpy")
