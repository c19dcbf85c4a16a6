"""Every test that takes `backend` runs on each backend that can be used here.

One that can't is named with its reason by a single skipped test in test_backends.py, or fails the whole run where
XCNN_TEST_BACKENDS names it. `any_backend` runs on each algorithm of each backend, for the tests of primitives; one that
can't be used here, as `native` without the compiled library, is named in the same way. What CuPy's backend computes
with is among them, rehearsed on NumPy arrays: its algorithms, and its kernels, compiled for the host.
"""

import os
from dataclasses import dataclass
from typing import ClassVar

import pytest
import quick_jax
import scipy.signal
from cuda_on_host.emulator import COMPILER
from cuda_on_host.rehearsal import RehearsedGpu
from xcnn_cupy.literal import Literal
from xcnn_numpy import NumpyBackend
from xcnn_strided import Gemm

import xcnn
from xcnn.errors import BackendUnavailable

quick_jax.set_variables()

ALGORITHMS = {
    "numpy": ["literal", "gemm", "fft", "native"],
    "strict": ["auto"],
    "cupy": ["literal", "gemm", "cudnn"],
    "torch": ["auto"],
    "jax": ["auto"],
}
REQUIRED = os.environ.get("XCNN_TEST_BACKENDS", "").replace(",", " ").split()
BACKENDS = REQUIRED or list(ALGORITHMS)


@dataclass(frozen=True, repr=False)
class Rehearsal(NumpyBackend):
    """The algorithms of CuPy's backend on NumPy arrays, with so small a workspace that batches are cut."""

    algorithms: ClassVar[tuple[str, ...]] = ("literal", "gemm")

    def chosen(self, x_shape, k_shape, stride, padding, dilation, groups):
        return Literal(scipy.signal) if self.algorithm == "literal" else Gemm(workspace=700)


def find():
    """The names of the backends that can be used here, and the reasons of the others."""
    usable, reasons = [], {}
    for name in BACKENDS:
        try:
            xcnn.backend(name)
            usable.append(name)
        except BackendUnavailable as error:
            if REQUIRED:
                raise pytest.UsageError(f"XCNN_TEST_BACKENDS names {name}. {error}") from error
            reasons[name] = error.summary
    return usable, reasons


def algorithms(name):
    """The algorithms of a backend that can be used here; REASONS learns of the others."""
    usable = []
    for algorithm in ALGORITHMS.get(name.partition(":")[0], ["auto"]):
        try:
            xcnn.backend(name, algorithm=algorithm)
            usable.append(algorithm)
        except BackendUnavailable as error:
            REASONS[f"{name} with algorithm {algorithm}"] = error.summary
    return usable


USABLE, REASONS = find()
quick_jax.share_contexts()
PAIRS = [(name, algorithm) for name in USABLE for algorithm in algorithms(name)]
if "numpy" in USABLE:
    PAIRS += [("rehearsal", algorithm) for algorithm in Rehearsal.algorithms]
if COMPILER:
    PAIRS += [("kernels", algorithm) for algorithm in ("gemm", "cudnn")]
else:
    REASONS["kernels"] = "there is no C++ compiler to run CUDA kernels with."
MADE = {"rehearsal": Rehearsal, "kernels": RehearsedGpu}


@pytest.fixture(params=USABLE)
def backend(request):
    """A backend, active."""
    chosen = xcnn.backend(request.param)
    with chosen.active():
        yield chosen


@pytest.fixture(params=PAIRS, ids="-".join)
def any_backend(request):
    """A backend with one of its algorithms, active."""
    name, algorithm = request.param
    chosen = MADE[name](algorithm=algorithm) if name in MADE else xcnn.backend(name, algorithm=algorithm)
    with chosen.active():
        yield chosen


FEW = {"jax": 4}
"""Shapes that a test may draw on a backend that compiles each anew."""


@pytest.fixture
def enough(request):
    """For tests that draw shapes: a function that tells whether this backend has had its share."""
    params = request.node.callspec.params
    name = params["backend"] if "backend" in params else params["any_backend"][0]
    left = FEW.get(name.partition(":")[0], 10**9)

    def enough():
        nonlocal left
        left -= 1
        return left < 0

    return enough


@pytest.fixture
def backend_reasons():
    """The backends that can't be used here, with the reasons."""
    return REASONS
