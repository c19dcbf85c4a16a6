"""What all tests have. Their backends are fixtures of tests/engines.py."""

import atexit
import gc
import os
import sys
from importlib import import_module
from threading import get_ident

import numpy as np
import pytest

from xcnn import cli
from xcnn.backends import selector
from xcnn.core import process

# Where tests run side by side, each process keeps to a core: threads that wait for each other's cores take far longer.
worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
if worker and hasattr(os, "sched_setaffinity"):
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[int(worker) % len(cores)]})


def leave():
    """End this process when all else is done that is asked for at its end, and free nothing one by one."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(0)


if worker:  # all that it found is told; thousands of programs that JAX compiled take seconds to free
    atexit.register(leave)


def pytest_configure(config):
    """The backends, for whoever runs tests: who only gives them to workers need not wait until JAX is imported.

    Where some are named by XCNN_TEST_BACKENDS, it is who says which of them is not there.
    """
    gives = getattr(config.option, "dist", "no") != "no" and not hasattr(config, "workerinput")
    if not gives or os.environ.get("XCNN_TEST_BACKENDS"):
        config.pluginmanager.register(import_module("engines"), "engines")


@pytest.fixture(autouse=True)
def default(monkeypatch):
    """The process's backend is after a test what it was before, also where XCNN_BACKEND named another meanwhile."""
    monkeypatch.setattr(selector, "_default", selector._default)


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
