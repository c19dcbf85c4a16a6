"""Arrays copied from one order of memory into another: cell by cell what NumPy copies."""

import itertools

import numpy as np
import pytest
from xcnn_native.library import library
from xcnn_numpy.native.copy import axes, copy
from xcnn_numpy.native.layer_norm import Rows

import xcnn
from xcnn.layers.layer import Run

pytestmark = pytest.mark.skipif(library() is None, reason="there is no compiled library")

SHAPES = [(3, 5, 7), (17, 16, 16), (16, 1, 150), (40, 8, 32), (33, 16, 64), (2, 20, 4, 33)]
"""Below, at and beyond squares and strips; rows that lie a power of two apart."""


def numbered(shape, dtype):
    return np.arange(np.prod(shape), dtype=dtype).reshape(shape)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_order_into_every_other(shape, dtype):
    for one, other in itertools.product(itertools.permutations(range(len(shape))), repeat=2):
        x = numbered([shape[n] for n in one], dtype).transpose(np.argsort(one))
        room = np.full(x.size + 2, -1, dtype)
        y = room[1:-1].reshape([shape[n] for n in other]).transpose(np.argsort(other))
        for threads in (1, 3):
            y[...] = -1
            copy(x, y, threads)
            np.testing.assert_array_equal(y, x)
        assert room[0] == room[-1] == -1


def test_neighbours_in_y_come_last_and_neighbours_in_x_before_them():
    """Else a copy from channels that are neighbours takes eighteen times as long."""
    y, x = np.empty((8, 6, 4)), np.empty((6, 4, 8)).transpose(2, 0, 1)
    found = axes(y.shape, *(tuple(stride // 8 for stride in array.strides) for array in (x, y))).owner
    assert [*found.size[-2:]] == [8, 24]
    assert [*found.y[-2:]] == [24, 1]
    assert [*found.x[-2:]] == [1, 8]


@pytest.mark.parametrize("rows", [1, 3, 140])
@pytest.mark.parametrize("threads", [1, 3])
def test_layer_norm_of_long_rows(rows, threads):
    """Its gradients are those of float64 by the formula; 4,500 cells a row are more than a unit's."""
    rng, shape = np.random.default_rng(rows), (rows, 5, 30, 30)
    layer = xcnn.LayerNorm()
    x, dy = (rng.standard_normal(shape).astype("float32") for _ in range(2))
    weights = {"norm": {key: rng.standard_normal(shape[1:]).astype("float32") for key in ("scale", "bias")}}
    backend = xcnn.backend("numpy", threads=threads)
    y, backward = Rows(backend, "norm", layer)(weights, x, Run(backend, train=True))
    grads = {}
    dx = backward(dy, grads)
    wide, slope = x.astype("float64").reshape(rows, -1), dy.astype("float64").reshape(rows, -1)
    inverse = 1 / np.sqrt(wide.var(1, keepdims=True) + layer.epsilon)
    hat = (wide - wide.mean(1, keepdims=True)) * inverse
    scale, bias = (weights["norm"][key].astype("float64").reshape(-1) for key in ("scale", "bias"))
    g = slope * scale
    expected = (g - g.mean(1, keepdims=True) - hat * (g * hat).mean(1, keepdims=True)) * inverse
    np.testing.assert_allclose(y.reshape(rows, -1), hat * scale + bias, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(dx.reshape(rows, -1), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(grads["norm"]["scale"].reshape(-1), (slope * hat).sum(0), rtol=1e-5, atol=2e-5)
    np.testing.assert_allclose(grads["norm"]["bias"].reshape(-1), slope.sum(0), rtol=1e-5, atol=2e-5)
