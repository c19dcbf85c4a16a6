"""Sums of shifted images are XLA's own convolutions, to rounding."""

import numpy as np
import pytest

pytest.importorskip("jax", reason="jax is not installed.")

import jax
from xcnn_jax import convolution, shifts
from xcnn_jax.how import How

MAPS = convolution.correlate, convolution.correlate_input_adjoint, convolution.correlate_kernel_adjoint
CASES = {  # images, channels, filters of each, kernel, sides, How
    "grey": (3, 1, 5, (3, 3), (9, 8), How((1, 1), ((0, 0), (0, 0)), (1, 1), 1, "highest")),
    "coloured, moved": (2, 3, 4, (2, 5), (9, 12), How((2, 1), ((1, 0), (2, 3)), (3, 2), 1, "highest")),
    "one cell": (2, 16, 3, (1, 1), (4, 5), How((1, 1), ((0, 1), (0, 0)), (1, 1), 1, "highest")),
    "stepping": (2, 17, 3, (2, 3), (7, 9), How((2, 3), ((1, 0), (-1, 2)), (2, 1), 1, "highest")),
    "small images": (2, 40, 5, (3, 3), (2, 1), How((1, 1), ((1, 1), (1, 2)), (1, 1), 1, "highest")),
    "small images, moved": (2, 40, 5, (3, 4), (4, 2), How((2, 3), ((2, 3), (4, 4)), (2, 1), 1, "highest")),
    "depthwise": (2, 4, 1, (3, 5), (7, 11), How((1, 1), ((1, 1), (2, 2)), (1, 1), 4, "highest")),
    "two of each, moved": (2, 3, 2, (3, 2), (12, 9), How((2, 3), ((2, 0), (1, 4)), (2, 1), 3, "highest")),
    "cells left out": (1, 2, 3, (2, 2), (10, 9), How((3, 2), ((-1, -2), (0, -1)), (1, 3), 2, "highest")),
    "wide padding": (2, 2, 1, (2, 2), (4, 4), How((2, 2), ((5, 3), (4, 6)), (1, 1), 2, "highest")),
}


@pytest.mark.parametrize("case", CASES)
def test_shifts_are_convolutions(case, rng):
    n, c, each, taps, sides, how = CASES[case]
    with jax.enable_x64(True):
        x, k = rng.normal(size=(n, c, *sides)), rng.normal(size=(each * how.groups, c // how.groups, *taps))
        y = convolution.correlate(x, k, how)
        dy = rng.normal(size=y.shape)
        here = how._replace(on_processor=True)
        assert shifts.fits(x, k, y.shape[2:], here) or (
            shifts.fits_products(x, k.shape, here) or shifts.fits_columns(x, k.shape, here)
        )
        assert shifts.fits_adjoints(dy, k.shape, here) == (how.groups > 1)
        for compute, given in zip(MAPS, ((x, k), (dy, k, x.shape), (x, dy, k.shape)), strict=True):
            np.testing.assert_allclose(compute(*given, here), compute(*given, how), rtol=1e-12, atol=1e-12)
