"""Samples that are held back: of each class alike, none in both parts, the same for a seed."""

import numpy as np
import pytest

import xcnn
from xcnn.datasets import split
from xcnn.errors import DataError, OptionError

rng = np.random.default_rng(3)


def drawn(samples, classes):
    """Samples that are their own numbers, and labels of uneven counts."""
    return np.arange(samples)[:, None] + np.zeros(2), np.sort(rng.integers(0, classes, samples) ** 2 // classes)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.9])
@pytest.mark.parametrize(("samples", "classes"), [(50, 2), (97, 5), (1000, 10)])
def test_each_class_gives_its_share(samples, classes, share):
    x, y = drawn(samples, classes)
    (xt, yt), (xv, yv) = split(x, y, share)
    assert sorted([*xt[:, 0], *xv[:, 0]]) == [*range(samples)]
    np.testing.assert_array_equal(yt, y[xt[:, 0].astype(int)])
    np.testing.assert_array_equal(yv, y[xv[:, 0].astype(int)])
    assert (np.diff(xt[:, 0]) > 0).all()
    assert (np.diff(xv[:, 0]) > 0).all()
    for label, count in zip(*np.unique(y, return_counts=True), strict=True):
        assert (yt == label).any()
        assert abs((yv == label).sum() - share * count) <= 1.5
    assert abs(len(xv) - share * samples) <= classes


def test_it_follows_from_the_seed_and_all_samples_come_to_be_held_back():
    x, y = drawn(40, 3)
    first = split(x, y, 0.3, seed=1)[1].x
    np.testing.assert_array_equal(split(x, y, 0.3, seed=1)[1].x, first)
    seen = [split(x, y, 0.3, seed=seed)[1].x[:, 0] for seed in range(60)]
    assert not np.array_equal(seen[1], seen[2])
    counts = np.bincount(np.concatenate(seen).astype(int), minlength=40)
    often = np.array([c for c, n in zip(counts, y, strict=True) if (y == n).sum() > 4])
    assert often.min() > 4
    assert often.max() < 40


@pytest.mark.parametrize("kind", ["text", "one-hot", "column", "floats"])
def test_classes_of_any_kind_are_shared_alike(kind):
    labels = np.arange(60) % 3
    y = {
        "text": np.array(["cat", "dog", "owl"])[labels],
        "one-hot": np.eye(3)[labels],
        "column": labels[:, None].astype("float32"),
        "floats": labels.astype("float32"),
    }[kind]
    _, (_, yv) = split(labels, y, 0.2)
    assert sorted(np.unique(yv, axis=0, return_counts=True)[1]) == [4, 4, 4]


def test_quantities_are_parted_without_classes():
    x = np.arange(30)
    for y in (rng.random(30), rng.integers(0, 1000, 30), rng.random((30, 1, 2, 2))):
        (xt, _), (xv, _) = split(x, y, 0.3)
        assert (len(xt), len(xv)) == (21, 9)
    lone = np.array([0] * 10 + [1])
    assert 1 not in split(np.arange(11), lone, 0.5)[1].y  # a class of one is trained on


def test_fit_measures_what_it_does_not_train_on():
    x = rng.random((40, 1, 4, 4), dtype="float32")
    y = (x.mean(axis=(1, 2, 3)) > 0.5).astype(int)
    made = [
        xcnn.Model(
            xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(2)), (1, 4, 4), loss="cross_entropy", seed=8, backend="numpy"
        )
        for _ in range(2)
    ]
    train, held = split(x, y, 0.25, seed=8)
    one = made[0].fit(x, y, epochs=3, validation_split=0.25, progress="none")
    other = made[1].fit(*train, epochs=3, validation_data=held, progress="none")
    assert one["val_loss"] == other["val_loss"]
    assert one["loss"] == other["loss"]
    assert made[0].plan["samples"] == 30


def test_what_can_not_be_split_is_told():
    x, y = np.zeros((4, 1, 2, 2), "float32"), np.zeros(4, int)
    for share in (0, 1, 1.5, -0.1, "0.2", True, None):
        with pytest.raises(OptionError, match="share that is held back must be above 0 and below 1"):
            split(x, y, share)
    with pytest.raises(DataError, match=r"X203.*holds none back"):
        split(x[:2], np.arange(2), 0.1)
    with pytest.raises(DataError, match="x has 4 samples, y 3"):
        split(x, y[:3])
    model = xcnn.Model(xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(2)), (1, 2, 2), loss="cross_entropy", backend="numpy")
    with pytest.raises(OptionError, match="two ways to say the same"):
        model.fit(x, y, validation_split=0.5, validation_data=(x, y), progress="none")
    with pytest.raises(OptionError, match="got 2"):
        model.fit(x, y, validation_split=2, progress="none")
