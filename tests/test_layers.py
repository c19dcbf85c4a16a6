"""What every layer must do, for each row of the table, and what errors it raises."""

import numpy as np
import pytest
from cases import CASES, EVALUATED
from whole import whole

import xcnn
from xcnn.testing import check_layer


@pytest.mark.parametrize(("layer", "input_shape"), CASES, ids=repr)
def test_layer(layer, input_shape, backend):
    report = check_layer(whole(layer, backend), input_shape, backend=backend, batch=3)
    assert set(report.errors) == {"gradient", "agreement", "float32"}


@pytest.mark.parametrize(("layer", "input_shape"), EVALUATED, ids=repr)
def test_layer_in_evaluation(layer, input_shape, backend):
    report = check_layer(whole(layer, backend), input_shape, backend=backend, batch=3, train=False)
    assert set(report.errors) == {"gradient", "agreement", "float32"}


def test_every_layer_is_in_the_table():
    named = {name for name in xcnn.layers.__all__ if name not in ("Layer", "Next", "Run")}
    assert {type(layer).__name__ for layer, _ in CASES} == named


@pytest.mark.parametrize("shortcut", [None, xcnn.Conv2D(1, 1)])
@pytest.mark.parametrize("fuse", [True, False])
def test_a_net_may_begin_with_a_residual(fuse, shortcut):
    """Nobody wants the first dX, and a convolution gives none then."""
    block = xcnn.Residual(xcnn.Conv2D(1, 3, padding="same"), shortcut=shortcut)
    net = xcnn.Sequential(block, xcnn.Flatten(), xcnn.Dense(2))
    model = xcnn.Model(net, (1, 4, 4), backend=xcnn.backend("numpy", fuse=fuse))
    before = model.weights["residual1"]["conv1"]["kernel"].copy()
    assert model.step(np.ones((3, 1, 4, 4), "float32"), np.array([0, 1, 0])) > 0
    assert not np.array_equal(model.weights["residual1"]["conv1"]["kernel"], before)
