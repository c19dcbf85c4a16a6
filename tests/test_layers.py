"""What every layer must do, for each row of the table, and what errors it raises."""

import pytest
from cases import CASES, EVALUATED

import xcnn
from xcnn.testing import check_layer


@pytest.mark.parametrize(("layer", "input_shape"), CASES, ids=repr)
def test_layer(layer, input_shape, backend):
    report = check_layer(layer, input_shape, backend=backend, batch=3)
    assert set(report.errors) == {"gradient", "agreement", "float32"}


@pytest.mark.parametrize(("layer", "input_shape"), EVALUATED, ids=repr)
def test_layer_in_evaluation(layer, input_shape, backend):
    report = check_layer(layer, input_shape, backend=backend, batch=3, train=False)
    assert set(report.errors) == {"gradient", "agreement", "float32"}


def test_every_layer_is_in_the_table():
    named = {name for name in xcnn.layers.__all__ if name not in ("Layer", "Next", "Run")}
    assert {type(layer).__name__ for layer, _ in CASES} == named
