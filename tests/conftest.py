"""Every test that takes `backend` runs on each backend; one that is not available is skipped with its reason."""

import os

import numpy as np
import pytest

import xcnn
from xcnn.errors import BackendUnavailable

BACKENDS = ["numpy", "strict", "cupy"]
REQUIRED = [name for name in os.environ.get("XCNN_TEST_BACKENDS", "").replace(",", " ").split() if name]


@pytest.fixture(params=REQUIRED or BACKENDS)
def backend(request):
    """A backend. One that XCNN_TEST_BACKENDS names must be there; another is skipped where it can't be used."""
    try:
        return xcnn.backend(request.param)
    except BackendUnavailable as error:
        if REQUIRED:
            raise
        pytest.skip(str(error))


@pytest.fixture
def rng():
    """A generator with a fixed seed."""
    return np.random.default_rng(0)
