"""Poolings of channels that lie side by side: whole vectors of them, half of one, and fewer."""

import numpy as np
import pytest
from xcnn_native import library as native

import xcnn

if native.library() is None:
    pytest.skip("the compiled library was not built, or is switched off", allow_module_level=True)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("channels", [2, 3, 4, 7, 8, 9, 12, 15, 16, 17, 24])
def test_channels_side_by_side_are_planes(channels, dtype):
    """The largest cells, which of them, and the gradient: bit for bit those of planes, ties and NaN among them."""
    rng, backend = np.random.default_rng(channels), xcnn.backend("numpy")
    x = rng.integers(-9, 9, (2, channels, 9, 7)).astype(dtype)
    x[0, -1, 3, 3] = np.nan
    for size, stride in (((2, 2), (2, 2)), ((3, 2), (2, 1))):
        how = {"stride": stride, "padding": ((1, 0), (0, 1))}
        y, which = backend.max_pool(x, size, **how)
        beside, which_beside = backend.max_pool(side_by_side(x), size, **how)
        np.testing.assert_array_equal(beside, y)
        np.testing.assert_array_equal(which_beside, which)
        dy = rng.integers(-9, 9, y.shape).astype(dtype)
        dx = backend.max_pool_adjoint(dy, which, x.shape, size, **how)
        dx_beside = backend.max_pool_adjoint(side_by_side(dy), side_by_side(which), x.shape, size, **how)
        np.testing.assert_array_equal(dx_beside, dx)


def side_by_side(a):
    """The same images, channels last in memory."""
    return np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
