"""Questions about few numbers, against NumPy's reductions."""

import warnings

import numpy as np
import pytest

from xcnn.model.few import FEW, FEWEST, all_finite, extremes


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("size", [0, 1, 5, FEW, FEW + 1])
def test_what_is_finite(dtype, size, rng):
    limits = np.finfo(dtype)
    x = rng.normal(size=size).astype(dtype)
    with warnings.catch_warnings(), np.errstate(all="raise"):
        warnings.simplefilter("error")
        assert all_finite(x)
        assert all_finite(x[::-1])
        for value in (limits.max, limits.min, limits.smallest_subnormal) if size else ():
            assert all_finite(np.full_like(x, value))
        for value in (np.nan, np.inf, -np.inf) if size else ():
            for place in {0, size // 2, size - 1}:
                wrong = x.copy()
                wrong[place] = value
                assert not all_finite(wrong)
                assert not all_finite(wrong[::-1])
                assert not all_finite(np.stack([x, wrong]))


@pytest.mark.parametrize("dtype", ["int64", "uint8", "int8", "bool"])
@pytest.mark.parametrize("shape", [(1,), (FEWEST,), (FEWEST + 1,), (3, 2)])
def test_extremes(dtype, shape, rng):
    numbers = rng.integers(0, 2 if dtype == "bool" else 99, shape).astype(dtype)
    assert extremes(numbers) == (numbers.min(), numbers.max())
