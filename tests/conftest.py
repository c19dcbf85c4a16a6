"""Every test that takes `backend` runs on each backend; one that is not available is skipped with its reason.

`any_backend` runs on each algorithm of each backend, for the tests of primitives. What CuPy's backend computes with is
among them, rehearsed on NumPy arrays.
"""

import os
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import scipy.signal
from xcnn_cupy.literal import Literal
from xcnn_numpy import NumpyBackend
from xcnn_strided import Gemm

import xcnn
from xcnn.errors import BackendUnavailable

ALGORITHMS = {"numpy": ["literal", "gemm", "fft"], "strict": ["auto"], "cupy": ["literal", "gemm"]}
REQUIRED = os.environ.get("XCNN_TEST_BACKENDS", "").replace(",", " ").split()
BACKENDS = REQUIRED or list(ALGORITHMS)


@dataclass(frozen=True, repr=False)
class Rehearsal(NumpyBackend):
    """The algorithms of CuPy's backend on NumPy arrays, with so small a workspace that batches are cut."""

    algorithms: ClassVar[tuple[str, ...]] = ("literal", "gemm")

    def chosen(self, x_shape, k_shape, stride, padding, dilation, groups):
        return Literal(scipy.signal) if self.algorithm == "literal" else Gemm(workspace=700)


def made(name, **options):
    """A backend. One that XCNN_TEST_BACKENDS names must be there; another is skipped where it can't be used."""
    try:
        return xcnn.backend(name, **options)
    except BackendUnavailable as error:
        if REQUIRED:
            raise
        pytest.skip(error.summary)


@pytest.fixture(params=BACKENDS)
def backend(request):
    """A backend, active."""
    chosen = made(request.param)
    with chosen.active():
        yield chosen


PAIRS = [(name, algorithm) for name in BACKENDS for algorithm in ALGORITHMS.get(name.partition(":")[0], ["auto"])]
if "numpy" in BACKENDS:
    PAIRS += [("rehearsal", algorithm) for algorithm in Rehearsal.algorithms]


@pytest.fixture(params=PAIRS, ids="-".join)
def any_backend(request):
    """A backend with one of its algorithms, active."""
    name, algorithm = request.param
    chosen = Rehearsal(algorithm=algorithm) if name == "rehearsal" else made(name, algorithm=algorithm)
    with chosen.active():
        yield chosen


@pytest.fixture
def rng():
    """A generator with a fixed seed."""
    return np.random.default_rng(0)
