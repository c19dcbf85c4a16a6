"""What every layer must do, for each row of the table."""

import pytest
from cases import CASES

from xcnn.testing import check_layer


@pytest.mark.parametrize(("layer", "input_shape"), CASES, ids=repr)
def test_layer(layer, input_shape, backend):
    report = check_layer(layer, input_shape, backend=backend)
    assert set(report.errors) == {"gradient", "agreement", "float32"}
