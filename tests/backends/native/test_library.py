"""The compiled library: found, chosen by the processor, shared by threads and forks, and done without."""

import ctypes
import math
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from xcnn_host import random as host
from xcnn_native import library as native

import xcnn
from xcnn.core import random

LIBRARY = native.library()
needed = pytest.mark.skipif(LIBRARY is None, reason="the compiled library was not built, or is switched off")


@pytest.fixture
def sets():
    """The library once for each instruction set that this processor has."""
    loaded = ctypes.CDLL(str(native.PATH))
    return [native.Library(loaded, name) for name in native.SETS[loaded.instruction_set()]]


def squares(kernels, cells):
    return kernels.sum_of_squares_f32(cells.size, native.address(cells))


def draw(kernels, counters, threads):
    drawn = np.full(2 * counters, -1, "int64")
    kernels.random_bits_u32(*random.fold((7, 3)), counters, native.address(drawn), threads)
    return drawn


@needed
@pytest.mark.parametrize("counters", [0, 1, 5, 4096, 20_001])
def test_every_instruction_set_draws_the_same_bits(counters, sets):
    expected = random.bits(np, None, (7, 3), (2 * counters,))
    for kernels in sets:
        for threads in (1, 3):
            np.testing.assert_array_equal(draw(kernels, counters, threads), expected)


@needed
def test_every_instruction_set_sums_to_the_same_bits(sets, rng):
    cells = rng.normal(size=5003).astype("float32")
    (total,) = {squares(kernels, cells) for kernels in sets}
    assert total == pytest.approx(math.fsum(float(x) ** 2 for x in cells), rel=1e-13)


@needed
def test_python_s_threads_share_one_team():
    """A caller that finds the team at work does its own, and each gets all of its units done."""
    expected, wrong = draw(LIBRARY, 30_000, 1), []

    def call():
        wrong.extend(1 for _ in range(30) if not np.array_equal(draw(LIBRARY, 30_000, 3), expected))

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert wrong == []


FORK = """
import os, numpy as np
from pathlib import Path
from xcnn_native import library as native
drawn = np.zeros((2, 60_000), "int64")
def draw(to):
    native.library().random_bits_u32(1, 2, 30_000, native.address(to), 3)
draw(drawn[0])
child = os.fork()
draw(drawn[1])
tasks = Path("/proc/self/task")
assert not tasks.is_dir() or len([*tasks.iterdir()]) > 1  # the child's own workers
same = np.array_equal(*drawn)
if child == 0:
    os._exit(0 if same else 1)
print(same, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@needed
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_has_a_team_of_its_own():
    done = subprocess.run([sys.executable, "-P", "-c", FORK], capture_output=True, text=True, timeout=600, check=True)
    assert done.stdout.split() == ["True", "0"]


@pytest.fixture
def anew(monkeypatch):
    """The library is looked for anew, in the test and after it."""
    native.library.cache_clear()
    yield
    monkeypatch.undo()
    native.library.cache_clear()


@needed
@pytest.mark.parametrize("wish", ["0", "v2", "v9"])
def test_the_switch(wish, sets, anew, monkeypatch, caplog):
    """`0` leaves the library out, a set's name takes that one, and a name of none is told."""
    monkeypatch.setenv("XCNN_NATIVE", wish)
    able = wish in {kernels.instructions for kernels in sets}
    assert xcnn.backend("numpy").versions()["kernels"] == (native.NAMES[wish] if able else "none")
    assert ("XCNN_NATIVE=v9" in caplog.text) == (wish == "v9")


def test_the_backend_tells_the_instruction_set():
    assert xcnn.backend("numpy").versions()["kernels"] == (native.NAMES[LIBRARY.instructions] if LIBRARY else "none")


def test_bits_without_the_library(monkeypatch):
    drawn = host.bits((5,), (70_001,))
    monkeypatch.setattr(host, "library", lambda: None)
    np.testing.assert_array_equal(host.bits((5,), (70_001,)), drawn)


@needed
def test_a_file_that_is_no_library_is_not_used(anew, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(native, "PATH", tmp_path / "libkernels.so")
    native.PATH.write_bytes(b"no library")
    assert native.library() is None
    assert "can't be used" in caplog.text


@needed
def test_a_library_of_other_sources_is_not_used(anew, monkeypatch, caplog):
    """Its functions may take other arguments, which ctypes can't know."""
    monkeypatch.setattr(native, "digest", lambda folder: "0" * 64)
    assert native.library() is None
    assert "of other sources" in caplog.text
