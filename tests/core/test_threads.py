"""Work on several threads: ranges, results in order, exceptions, forks, several callers at once, interrupts."""

import os
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
from xcnn_host import threads
from xcnn_native.library import library

import xcnn
from xcnn.errors import OptionError

needs_library = pytest.mark.skipif(library() is None, reason="the compiled library was not built, or is switched off")


@pytest.mark.parametrize("parts", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 8, 64])
def test_ranges_are_consecutive_and_even(count, parts):
    ranges = threads.ranges(count, parts)
    assert [n for first, last in ranges for n in range(first, last)] == list(range(count))
    sizes = [last - first for first, last in ranges]
    assert max(sizes) - min(sizes) <= 1
    assert len(ranges) == max(1, min(parts, count))


def test_there_is_a_processor():
    assert 1 <= threads.available() <= os.cpu_count()


@pytest.fixture
def as_before():
    yield
    xcnn.set_threads(None)


def test_threads_that_are_set_are_those_of_backends_without_a_number_of_their_own(as_before):
    before, own = threads.available(), xcnn.backend("numpy", threads=2)
    xcnn.set_threads(np.int64(5))
    assert (xcnn.backend("numpy").workers, own.workers) == (5, 2)
    with pytest.raises(OptionError, match="number must be a whole number of at least 1"):
        xcnn.set_threads(0)
    assert xcnn.backend("numpy").workers == 5
    xcnn.set_threads(None)
    assert xcnn.backend("numpy").workers == before


# Python functions.


def test_results_are_in_order():
    """Also when the first range takes longest."""
    released = threading.Event()

    def work(first, last):
        if first == 0:
            assert released.wait(300)
        elif last == 7:
            released.set()
        return first, last

    assert threads.share(work, 7, 3) == threads.ranges(7, 3)


def test_ranges_run_beside_each_other():
    meeting = threading.Barrier(3, timeout=300)
    names = threads.share(lambda first, last: (meeting.wait(), threading.current_thread().name)[1], 3, 3)
    assert names[0] == threading.current_thread().name
    assert len(set(names)) == 3


def test_work_within_work_stays_in_its_thread():
    def inner(first, last):
        return threading.current_thread().name

    for names in threads.share(lambda first, last: threads.share(inner, 8, 4), 2, 2)[1:]:
        assert len(set(names)) == 1


def test_numpys_error_state_is_the_callers():
    with np.errstate(divide="ignore", invalid="raise"):
        states = threads.share(lambda first, last: np.geterr(), 3, 3)
    assert all((state["divide"], state["invalid"]) == ("ignore", "raise") for state in states)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_an_exception_comes_out_once_all_are_done(at, error):
    done = []

    def work(first, last):
        if first == at:
            raise error(f"at {first}")
        done.append(first)

    with pytest.raises(error, match=f"at {at}"):
        threads.share(work, 3, 3)
    assert sorted(done) == [n for n in range(3) if n != at]
    assert threads.share(lambda first, last: first, 3, 3) == [0, 1, 2]


# Compiled work.


def problem(seed):
    """A correlation that is worth several threads: arrays, and how it is computed."""
    rng = np.random.default_rng(seed)
    x, k = rng.standard_normal((12, 8, 24, 22)).astype("float32"), rng.standard_normal((16, 8, 3, 3)).astype("float32")
    return x, k


@needs_library
def test_callers_at_once():
    """Several Python threads use one backend, and each gets what it would get alone."""
    backend = xcnn.backend("numpy", algorithm="native", threads=2)
    problems = [problem(seed) for seed in range(4)]
    alone = [backend.correlate(*arrays) for arrays in problems]
    adjoints = [
        backend.correlate_kernel_adjoint(arrays[0], y, arrays[1].shape)
        for arrays, y in zip(problems, alone, strict=True)
    ]
    faults, start = [], threading.Barrier(4, timeout=300)

    def repeat(n):
        start.wait()
        for _ in range(25):
            y = backend.correlate(*problems[n])
            dk = backend.correlate_kernel_adjoint(problems[n][0], y, problems[n][1].shape)
            if not (np.array_equal(y, alone[n]) and np.array_equal(dk, adjoints[n])):
                faults.append(n)

    callers = [threading.Thread(target=repeat, args=(n,)) for n in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(300)
    assert not any(caller.is_alive() for caller in callers)
    assert not faults


@needs_library
def test_more_threads_than_images_or_processors():
    x, k = problem(0)
    one, many = (xcnn.backend("numpy", algorithm="native", threads=n) for n in (1, 40))
    np.testing.assert_array_equal(many.correlate(x, k), one.correlate(x, k))
    np.testing.assert_array_equal(many.correlate(x[:0], k), one.correlate(x[:0], k))


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "2", True])
def test_threads_are_counted(wrong):
    with pytest.raises(OptionError, match=r"X104.*threads must be a whole number of at least 1"):
        xcnn.backend("numpy", threads=wrong)


PRELUDE = """
    import os, signal, sys
    import numpy as np
    import xcnn

    backend = xcnn.backend("numpy", algorithm="native", threads=2)
    rng = np.random.default_rng(0)
    x, k = rng.standard_normal((12, 8, 24, 22)), rng.standard_normal((16, 8, 3, 3))
    exact = xcnn.backend("numpy", algorithm="gemm").correlate(x, k)

    def is_right():
        return np.allclose(backend.correlate(x, k), exact, rtol=0, atol=1e-12)

    assert is_right()
"""


def run(script):
    """Run a script in a process of its own, after the prelude; it must end well, and soon."""
    text = textwrap.dedent(PRELUDE) + textwrap.dedent(script)
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", text],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_library
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has neither fork nor timers")
def test_a_forked_child_computes_and_an_interrupt_leaves_the_next_call_right():
    """The workers of the parent don't exist in the child, and the parent goes on with them.

    Then Ctrl-C at any moment of many calls: KeyboardInterrupt comes out, and nothing is left behind by it.
    """
    told = run("""
        for _ in range(3):
            child = os.fork()
            if child == 0:
                signal.alarm(200)  # rather than wait for ever
                os._exit(0 if is_right() and is_right() else 1)
            _, status = os.waitpid(child, 0)
            assert os.waitstatus_to_exitcode(status) == 0
            assert is_right()
        interrupted = 0
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        for n in range(40):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.002 + 0.0003 * n)
                while True:
                    backend.correlate(x, k)
            except KeyboardInterrupt:
                interrupted += 1
            assert is_right()
        print(interrupted)
    """)
    assert int(told) == 40
