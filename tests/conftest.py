"""Every test that takes `backend` runs on each backend that can be used here.

One that can't is named with its reason by a single skipped test in test_backends.py, or fails the whole run where
XCNN_TEST_BACKENDS names it. `any_backend` runs on each algorithm of each backend, for the tests of primitives; one that
can't be used here, as `native` without the compiled library, is named in the same way. What CuPy's backend computes
with is among them, rehearsed on NumPy arrays: its algorithms, and its kernels, compiled for the host.
"""

import gc
import os
import sys
from dataclasses import dataclass
from threading import get_ident
from typing import ClassVar

import numpy as np
import pytest
import quick_jax
import scipy.signal
from cuda_on_host.emulator import COMPILER
from cuda_on_host.rehearsal import RehearsedGpu
from xcnn_cupy.literal import Literal
from xcnn_numpy import NumpyBackend
from xcnn_strided import Gemm

import xcnn
from xcnn import cli
from xcnn.backends import selector
from xcnn.core import process
from xcnn.errors import BackendUnavailable

# Where tests run side by side, each process keeps to a core: threads that wait for each other's cores take far longer.
worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
if worker and hasattr(os, "sched_setaffinity"):
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[int(worker) % len(cores)]})

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


@pytest.fixture(autouse=True)
def default(monkeypatch):
    """The process's backend is after a test what it was before, also where XCNN_BACKEND named another meanwhile."""
    monkeypatch.setattr(selector, "_default", selector._default)


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


@pytest.fixture
def run(capsys, monkeypatch):
    """Run the command line in this process: (exit code, stdout, stderr)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["xcnn", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return ended.value.code or 0, out, err

    return run


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """One window for all tests of a module: it takes seconds to start."""
    from browser import Browser

    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture
def rng():
    """A generator with a fixed seed."""
    return np.random.default_rng(0)


@pytest.hookimpl(wrapper=True)
def pytest_collection(session):
    """Without garbage collections, which look at all 18,000 tests again and again; nor do later ones."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items):
    """Jobs of several processes first: a worker that has done its own takes the last tests of another.

    They wait for one job of twenty seconds, which would then be run on both.
    """
    items.sort(key=lambda item: item.path.parent.name != "parallel")


@pytest.fixture(autouse=True)
def _nothing_is_left_computing():
    """A block that a test leaves open would hold BLAS's threads for all tests after it."""

    def blocks():
        return {*process.crowd.blocks.get(get_ident(), ())}

    before = blocks()
    yield
    if blocks() != before:
        gc.collect()  # an interrupted block goes with its traceback
    assert blocks() == before, "a block of `Computing` was left open"
