"""Dropout: how many cells fall, which, and that every backend drops the same."""

import numpy as np
import pytest

import xcnn
from xcnn.core import random
from xcnn.layers import Dropout, Residual, Run, Sequential, SpatialDropout2D, StochasticDepth


def drop(layer, backend, x, key=(3, 1), train=True):
    y, backward = layer({}, backend.asarray(x), Run(backend, train, key))
    dx, grads = backward(backend.asarray(np.ones_like(x)))
    assert grads == {}
    return backend.to_numpy(y), backend.to_numpy(dx)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_share_that_falls_and_the_scale_of_the_rest(rate, backend):
    x = np.ones((100, 400))
    y, dx = drop(Dropout(rate), backend, x)
    fallen = np.mean(y == 0)
    assert abs(fallen - rate) < 4 * np.sqrt(rate * (1 - rate) / x.size)
    np.testing.assert_array_equal(y[y != 0], 1 / (1 - rate))
    np.testing.assert_array_equal(dx, y)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [(Dropout(0.3), (3, 5, 7)), (SpatialDropout2D(0.3), (8, 6, 2, 3)), (StochasticDepth(0.3), (50, 2, 3))],
    ids=repr,
)
def test_the_mask_is_the_keys_on_every_backend(layer, shape, backend):
    """M follows from the generator alone, bit by bit."""
    masked = {Dropout: shape, SpatialDropout2D: (*shape[:2], 1, 1), StochasticDepth: (shape[0], 1, 1)}[type(layer)]
    mask = random.bits(np, None, (3, 1), masked) >= int(0.3 * 2**32)
    y, _ = drop(layer, backend, np.ones(shape, dtype=np.float32))
    np.testing.assert_array_equal(y != 0, np.broadcast_to(mask, shape))
    np.testing.assert_array_equal(y, drop(layer, xcnn.backend("numpy"), np.ones(shape, dtype=np.float32))[0])


def test_another_key_drops_other_cells(backend):
    x = np.ones((10, 50))
    masks = [drop(Dropout(0.5), backend, x, key)[0] for key in ((0,), (1,), (0, 0))]
    agreements = [np.mean(masks[a] == masks[b]) for a, b in ((0, 1), (0, 2), (1, 2))]
    assert max(abs(share - 0.5) for share in agreements) < 0.1  # independent masks agree in half of the cells


def test_two_dropouts_in_one_net_drop_differently(backend):
    x = np.ones((10, 50))
    y, _ = drop(Residual(Dropout(0.5), shortcut=Dropout(0.5)), backend, x)
    assert set(np.unique(y)) == {0.0, 2.0, 4.0}
    y, _ = drop(Sequential(Dropout(0.5), Dropout(0.5)), backend, x)
    assert abs(np.mean(y != 0) - 0.25) < 0.1


def test_whole_channels_fall(backend):
    y, _ = drop(SpatialDropout2D(0.5), backend, np.ones((20, 30, 2, 3)))
    means = y.mean(axis=(2, 3))
    assert set(np.unique(means)) == {0.0, 2.0}
    assert abs(np.mean(means == 0) - 0.5) < 0.1


def test_whole_samples_fall(backend):
    y, dx = drop(StochasticDepth(0.25), backend, np.ones((400, 2, 3)))
    assert {*map(tuple, y.reshape(400, -1))} == {(0.0,) * 6, (1 / 0.75,) * 6}
    assert abs(np.mean(y == 0) - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 400)
    np.testing.assert_array_equal(dx, y)


@pytest.mark.parametrize("layer", [Dropout(0.9), SpatialDropout2D(0.9), StochasticDepth(0.9)], ids=repr)
@pytest.mark.parametrize("train", [False, True])
def test_nothing_falls_in_evaluation_or_at_rate_0(layer, train, backend, rng):
    x = rng.standard_normal((2, 3, 4, 5))
    y, dx = drop(type(layer)(0) if train else layer, backend, x, train=train)
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(dx, np.ones_like(x))


@pytest.mark.parametrize("name", ["numpy", "strict"])
def test_each_step_draws_by_its_own_number(name):
    """The mask of a step is that of the key (seed, step, the layer's number), on through the epochs."""
    seen = []

    def loss(y, t):
        seen.append(np.array(model.backend.to_numpy(y)))
        return xcnn.losses.mse(y, t)

    net = Sequential(Dropout(0.5), xcnn.Flatten())
    model = xcnn.Model(net, (40,), loss=loss, backend=xcnn.backend(name, fuse=False), seed=11)
    x = np.ones((6, 40), "float32")
    model.fit(x, x, batch_size=2, epochs=2, progress="none")
    assert len(seen) == 6
    for step, y in enumerate(seen):
        kept = random.bits(np, None, (11, step, 0), (2, 40)) >= 2**31
        np.testing.assert_array_equal(y != 0, kept, err_msg=f"step {step}")
