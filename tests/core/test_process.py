"""Threads and forks: what is trained or asked beside other threads is as if alone, and settings come back.

The oracle of most scenes is the same work done alone. What may wait for ever runs in a process with a time limit.
"""

import copy
import logging
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from threading import get_ident

import numpy as np
import pytest
from draws import draws
from xcnn_native.library import library

import xcnn
from xcnn.core import blas, process, tree
from xcnn.errors import BackendError, BusyError

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
rng = np.random.default_rng(0)
X, Y = rng.standard_normal((96, 1, 28, 28)).astype("float32"), rng.integers(0, 10, 96)
ENGINES = ["gemm", *(["auto"] if library() else [])]
"""NumPy's: `gemm` is what `auto` is without the compiled library."""
SECONDS = 300.0


def model(backend, seed=0, **options):
    """Its products are large enough for BLAS to share them out among its threads, in another order of sums."""
    net = xcnn.Sequential(xcnn.Conv2D(4, 3, stride=3), xcnn.ReLU(), xcnn.Flatten(), xcnn.Dense(300), xcnn.Dense(10))
    return xcnn.Model(net, (1, 28, 28), backend=backend, seed=seed, **options)


def fit(one, epochs=1, **options):
    one.fit(X, Y, epochs=epochs, batch_size=48, progress="none", **options)
    return weights(one)


def weights(one):
    return {name: np.array(one.backend.to_numpy(w)) for name, w in tree.items(one.weights)}


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def beside(*works):
    """Run these in threads of their own, begun at once; their results."""
    start = threading.Barrier(len(works), timeout=SECONDS)

    def run(work):
        start.wait()
        return work()

    with ThreadPoolExecutor(len(works)) as pool:
        return [future.result(SECONDS) for future in [pool.submit(run, work) for work in works]]


class Going:
    """A thread that does something again and again for a block."""

    def __init__(self, work):
        self.work, self.stop, self.fault = work, False, None

    def __enter__(self):
        begun = threading.Event()

        def go():
            try:
                while not self.stop:
                    self.work()
                    begun.set()
            except BaseException as fault:
                self.fault = fault
                begun.set()

        self.thread = threading.Thread(target=go)
        self.thread.start()
        assert begun.wait(SECONDS)
        return self

    def __exit__(self, *error):
        self.stop = True
        self.thread.join(SECONDS)
        assert not self.thread.is_alive()
        assert self.fault is None


@pytest.fixture(params=ENGINES)
def numpys(request):
    """NumPy's backend with either engine, on two threads."""
    return xcnn.backend("numpy", algorithm=request.param, threads=2)


# Two models, or one asked by many.


def test_models_trained_at_once_are_as_if_alone(backend):
    backend = xcnn.backend(backend)
    alone = [fit(model(backend, seed)) for seed in range(2)]
    got = beside(*(lambda seed=seed: fit(model(backend, seed)) for seed in range(2)))
    assert all(map(same, got, alone))


@pytest.mark.parametrize("repeat", range(draws(1)))
def test_eight_workers_train_models_of_their_own(numpys, repeat):
    alone = [fit(model(numpys, seed)) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda seed: fit(model(numpys, seed)), range(8), timeout=SECONDS))
    assert all(map(same, got, alone))


@pytest.mark.parametrize("repeat", range(draws(1)))
def test_predictions_beside_training_are_as_if_alone(numpys, repeat):
    asked, trained = model(numpys), model(numpys, 1)
    expected, measured = asked.predict(X), asked.evaluate(X, Y)
    with Going(lambda: trained.step(X, Y)):
        for _ in range(5):
            np.testing.assert_array_equal(asked.predict(X), expected)
            assert asked.evaluate(X, Y) == measured


@pytest.mark.parametrize("repeat", range(draws(1)))
def test_fifty_threads_ask_one_model(numpys, repeat):
    one = model(numpys)
    expected = one.predict(X)
    assert all(np.array_equal(got, expected) for got in beside(*[lambda: one.predict(X)] * 50))


@pytest.mark.parametrize("others", [{"algorithm": "gemm", "threads": 1}, {"algorithm": "gemm", "fuse": False}])
def test_engines_that_let_blas_have_its_threads_take_turns_with_those_that_do_not(others):
    """They would sum in another order while the others keep BLAS to one thread."""
    first, other = xcnn.backend("numpy", algorithm="gemm", threads=2), xcnn.backend("numpy", **others)
    alone = [fit(model(first)), fit(model(other, 1))]
    assert all(map(same, beside(lambda: fit(model(first)), lambda: fit(model(other, 1))), alone))


def test_batches_asked_while_the_model_is_trained_meet_one_step_s_weights(backend):
    one, x = model(xcnn.backend(backend), optimizer=xcnn.SGD(0.1)), np.repeat(X[:1], 6, axis=0)
    with Going(lambda: one.step(X[:8], Y[:8])):
        for _ in range(4):
            y = one.predict(x, batch_size=1)
            np.testing.assert_array_equal(y, np.repeat(y[:1], 6, axis=0))


# One model, one trainer.


CHANGES = {
    "a second fit": lambda one: fit(one),
    "a step": lambda one: one.step(X, Y),
    "other weights": lambda one: setattr(one, "weights", weights(one)),
    "another loss": lambda one: setattr(one, "loss", "cross_entropy"),
    "another optimizer": lambda one: setattr(one, "optimizer", "sgd"),
    "another precision": lambda one: setattr(one, "precision", None),
    "another backend": lambda one: one.to("numpy"),
}


def test_a_second_thread_is_told_that_the_model_is_being_trained():
    one, told, answered = model("numpy"), {}, threading.Event()

    def ask(name):
        try:
            CHANGES[name](one)
        except BusyError as error:
            told[name] = str(error)

    def callback(model, history):
        beside(*(lambda name=name: ask(name) for name in CHANGES))
        one.optimizer = one.optimizer  # the thread that trains may
        answered.set()

    expected = fit(model("numpy"))
    assert same(fit(one, callbacks=callback), expected)
    assert answered.is_set()
    for name in CHANGES:
        assert told[name].startswith(f"[X502] another thread is training this model: {name} would mix")
        assert "copy.deepcopy(model)" in told[name]
    for change in CHANGES.values():  # and now any thread may
        beside(lambda change=change: change(one))


def test_a_fit_that_fails_leaves_the_model_free():
    one = model("numpy")
    with pytest.raises(ZeroDivisionError):
        fit(one, callbacks=lambda model, history: 1 / 0)
    beside(lambda: fit(one))


@pytest.mark.parametrize("repeat", range(draws(1)))
def test_a_checkpoint_saved_while_another_thread_trains_goes_on_to_the_same_weights(numpys, tmp_path, repeat):
    straight, one = fit(model(numpys), 4), model(numpys)
    copies = []
    with ThreadPoolExecutor(1) as pool:
        training = pool.submit(fit, one, 4)
        while not training.done():
            one.save(tmp_path / f"{len(copies)}.xcnn")
            copies.append(xcnn.Model.load(tmp_path / f"{len(copies)}.xcnn", backend=numpys))
            copies.append(pickle.loads(pickle.dumps(one)))
            copies.append(copy.deepcopy(one))
            assert len(copies[-1].history) == copies[-1].state.epoch
        assert same(training.result(SECONDS), straight)
    middle = [c for c in copies if c.state.step] or copies
    for c in middle[:: max(1, len(middle) // 6)]:
        assert same(fit(c, 4, resume=True), straight)


# Settings of the process.


def settings():
    """All that libraries keep for the whole process and that a computation might change."""
    libraries = [library for group in blas.libraries() for library in group]
    found = {
        "blas": [library.get_num_threads() for library in libraries],
        "environment": dict(os.environ),
        "errors": np.geterr(),
        "warnings": list(warnings.filters),
        "signals": {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)},
        "logging": (logging.root.level, list(logging.root.handlers), logging.getLogger("xcnn").level),
        "recursion": sys.getrecursionlimit(),
        "switch": sys.getswitchinterval(),
        "excepthook": (sys.excepthook, threading.excepthook),
        "random": np.random.get_state()[1].tolist(),  # noqa: NPY002
        "printing": np.get_printoptions(),
    }
    if "array_api_strict" in sys.modules:
        found["strict"] = sys.modules["array_api_strict"].get_array_api_strict_flags()
    if torch := sys.modules.get("torch"):
        found["torch"] = [
            torch.get_num_threads(),
            torch.are_deterministic_algorithms_enabled(),
            torch.is_grad_enabled(),
            torch.get_default_dtype(),
            torch.get_float32_matmul_precision(),
            torch.backends.cudnn.benchmark,
            torch.backends.mkldnn.enabled,
            torch.get_rng_state().tolist(),
            [getattr(at, "fp32_precision", None) for at in (torch.backends.mkldnn.matmul, torch.backends.mkldnn.conv)],
        ]
    if jax := sys.modules.get("jax"):
        names = ("jax_enable_x64", "jax_default_matmul_precision", "jax_default_device", "jax_debug_nans")
        found["jax"] = [getattr(jax.config, name, None) for name in names]
    return found


def test_settings_of_the_process_come_back(backend):
    backend = xcnn.backend(backend)
    with backend.active():
        pass

    def work(seed):
        one = model(backend, seed)
        fit(one, validation_data=(X[:8], Y[:8]))
        one.predict(X[:8])
        one.evaluate(X[:8], Y[:8])

    before = settings()
    work(0)
    assert settings() == before
    beside(*(lambda seed=seed: work(seed) for seed in range(3)))
    assert settings() == before


def test_strict_flags_come_back_after_overlapping_blocks():
    strict = pytest.importorskip("array_api_strict", reason="array-api-strict is not installed")
    before = strict.get_array_api_strict_flags()
    backend = xcnn.backend("strict")
    inside, out = threading.Event(), threading.Event()

    def first():
        with backend.active():
            inside.set()
            assert out.wait(SECONDS)

    thread = threading.Thread(target=first)
    thread.start()
    assert inside.wait(SECONDS)
    with backend.active():
        out.set()
        thread.join(SECONDS)
        assert not strict.get_array_api_strict_flags()["boolean_indexing"]  # the first is gone, this goes on
    assert strict.get_array_api_strict_flags() == before


class Setting:
    """A setting of a process, and what holds it."""

    def __init__(self):
        self.now, self.writes = "user's", 0
        self.held = process.Held(lambda: self.now, self.write, self.write, "the setting")

    def write(self, value):
        self.now = value
        self.writes += 1


def test_a_setting_is_set_once_and_put_back_by_the_last():
    at = Setting()
    first, second = at.held("ours"), at.held("ours")
    first.__enter__()
    beside(lambda: second.__enter__() or (first.__exit__ and second.__exit__(None, None, None)))
    assert (at.now, at.writes) == ("ours", 1)
    first.__exit__(None, None, None)
    assert (at.now, at.writes) == ("user's", 2)


def test_a_setting_within_a_block_of_its_own_thread_changes_and_comes_back():
    at = Setting()
    with at.held("a"):
        with at.held("b"):
            assert at.now == "b"
            with at.held(None):
                assert at.now == "user's"
            assert at.now == "b"
        assert at.now == "a"
    assert at.now == "user's"


def test_what_the_user_sets_meanwhile_stays():
    at = Setting()
    with at.held("ours"):
        at.now = "later"
    assert at.now == "later"


def test_a_thread_that_wants_another_value_waits_its_turn():
    at, seen = Setting(), []

    def want(value):
        with at.held(value):
            seen.append((value, at.now))

    with at.held("a"):
        threads = []
        for value in ("b", "a", None):
            threads.append(threading.Thread(target=want, args=(value,)))
            threads[-1].start()
            while len(at.held.queue) < len(threads):
                pass
        assert not seen
    for thread in threads:
        thread.join(SECONDS)
    assert seen == [("b", "b"), ("a", "a"), (None, "user's")]
    assert at.now == "user's"


def test_a_thread_that_waits_too_long_is_told(monkeypatch):
    monkeypatch.setattr(process, "LONGEST", 0.05)
    at = Setting()

    def want():
        with pytest.raises(BackendError, match=r"X309.*the setting belongs to the whole process"), at.held("b"):
            pass

    with at.held("a"):
        beside(want)
    with at.held("b"):
        assert at.now == "b"


class OpenmpBlas:
    """A BLAS library with a number of threads for each thread that calls, as one that is built on OpenMP."""

    threading_layer = "openmp"

    def __init__(self):
        self.of = threading.local()

    def get_num_threads(self):
        return getattr(self.of, "number", 8)

    def set_num_threads(self, number):
        self.of.number = number


def test_blas_that_has_a_number_for_each_thread_is_alone_in_all_that_share(monkeypatch):
    from xcnn_numpy.plain import blas as products

    library = OpenmpBlas()
    monkeypatch.setattr(blas, "libraries", lambda: ((), (library,)))
    assert products.share(lambda first, last: library.get_num_threads(), 3, products.LEAST, 3) == [1, 1, 1]
    assert library.get_num_threads() == 8


# Forks, processes, and the end.


PRELUDE = """
    import os, signal, sys, threading, time
    before = dict(os.environ)
    import numpy as np
    import xcnn
    from xcnn.core import tree

    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((96, 1, 28, 28)).astype("float32"), rng.integers(0, 10, 96)

    class Squared:  # a layer that nothing fuses, whose products are BLAS's
        def init(self, rng, shape):
            return {}, (28, 28)
        def __call__(self, weights, x, run):
            xp = np if isinstance(x, np.ndarray) else run.backend.xp
            wide = xp.reshape(x, (-1, 784))
            more = wide @ xp.matrix_transpose(wide) @ wide
            return xp.reshape(x + 1e-6 * xp.reshape(more, x.shape), (-1, 28, 28)), lambda dy: (dy[:, None], {})

    def model(backend, seed=0, squared=False):
        layers = [Squared()] if squared else [xcnn.Conv2D(4, 3, stride=3), xcnn.ReLU()]
        net = xcnn.Sequential(*layers, xcnn.Flatten(), xcnn.Dense(300), xcnn.Dense(10))
        return xcnn.Model(net, (1, 28, 28), backend=backend, seed=seed)

    def trained(backend, seed=0, **options):
        one = model(backend, seed, **options)
        one.fit(X, Y, batch_size=48, progress="none")
        return [np.array(one.backend.to_numpy(w)) for w in tree.leaves(one.weights)]

    def same(a, b):
        return all(map(np.array_equal, a, b))

    class Going:  # a thread that trains until it is told to stop
        def __init__(self, backend, **options):
            self.steps, self.stopped = 0, False
            def go():
                one = model(backend, 1, **options)
                while not self.stopped:
                    one.step(X, Y)
                    self.steps += 1
            self.thread = threading.Thread(target=go, daemon=True)
            self.thread.start()
            self.goes_on(1)
        def goes_on(self, steps):
            wanted, last = self.steps + steps, time.monotonic() + 200
            while self.steps < wanted:
                assert time.monotonic() < last, "it stands still"
                time.sleep(0.01)
        def stop(self):
            self.stopped = True
            self.thread.join(200)
            assert not self.thread.is_alive()

    def child(work):
        one = os.fork()
        if one == 0:
            signal.alarm(200)  # rather than wait for ever
            code = 1
            try:
                code = 0 if work() else 1
            except BaseException as error:
                print(error, flush=True)
            finally:
                os._exit(code)
        return os.waitstatus_to_exitcode(os.waitpid(one, 0)[1])
"""


def run(script, *options, code=0):
    """Run a script in a process of its own, after the prelude; what it prints."""
    text = textwrap.dedent(PRELUDE) + textwrap.dedent(script)
    done = subprocess.run(
        [sys.executable, *options, "-c", text], capture_output=True, text=True, timeout=600, check=False
    )
    assert (done.returncode, done.stderr) == (code, "")
    return done.stdout


QUIET = ("-W", "ignore::DeprecationWarning", "-W", "ignore::RuntimeWarning")


@forks
@pytest.mark.parametrize("algorithm", ENGINES)
def test_a_child_forked_while_others_train_computes_and_its_parent_goes_on(algorithm):
    run(
        f"""
        backend = xcnn.backend("numpy", algorithm="{algorithm}", threads=2)
        for squared in (False, True):
            expected = trained(backend, squared=squared)
            other = Going(backend, squared=squared)
            for _ in range({draws(3)}):
                assert child(lambda: same(trained(backend, squared=squared), expected)) == 0
                other.goes_on(2)
            assert same(trained(backend, squared=squared), expected)
            other.stop()
        """,
        *QUIET,
    )


ON_ONE_THREAD = """
        expected = one.predict(X)
        def on_one_thread():
            torch.set_num_threads(1)
            return np.allclose(one.predict(X), expected, atol=1e-5)
        assert child(on_one_thread) == 0
"""


@forks
@pytest.mark.parametrize("name", ["torch", "jax"])
def test_a_child_is_told_at_once_where_a_library_does_not_survive_the_fork(name):
    """PyTorch does where the child lets it have no more than one thread."""
    pytest.importorskip(name, reason=f"{name} is not installed")
    told = run(
        f"""
        if "{name}" == "torch":
            import torch

            torch.set_num_threads(2)
        one = model("{name}")
        one.predict(X)
        for work in (lambda: one.predict(X), lambda: one.step(X, Y), lambda: model("{name}").predict(X)):
            begun = time.monotonic()
            assert child(work) == 1
            assert time.monotonic() - begun < 100
        assert child(lambda: trained("numpy")) == 0
        one.predict(X)
        {ON_ONE_THREAD if name == "torch" else ""}
        """,
        *QUIET,
    )
    assert told.count("[X308] this process was forked from one that had used") == 3
    assert told.count('multiprocessing.get_context("spawn")') == 3


class Within:
    """A block of a Crowd's."""

    def __init__(self, crowd):
        self.crowd = crowd

    def __enter__(self):
        self.mark = process.Mark()
        self.crowd.enter(self.mark)

    def __exit__(self, *error):
        self.crowd.leave(self.mark)


@forks
def test_a_fork_waits_for_others_but_not_for_ever(monkeypatch):
    at = process.Crowd()
    inside, leave, done = threading.Event(), threading.Event(), threading.Event()

    def compute():
        with Within(at), Within(at):
            inside.set()
            leave.wait(SECONDS)

    def fork():
        at.before_fork()
        done.wait(SECONDS)
        at.after_fork_in_parent()

    def begin():
        with Within(at):
            pass

    thread, forked, later = (threading.Thread(target=each) for each in (compute, fork, begin))
    thread.start()
    assert inside.wait(SECONDS)
    forked.start()
    forked.join(0.05)
    later.start()
    later.join(0.05)
    assert at.blocks
    leave.set()
    thread.join(SECONDS)
    later.join(0.05)
    assert later.is_alive()  # until the fork is done
    assert not at.blocks
    done.set()
    later.join(SECONDS)
    forked.join(SECONDS)
    assert not at.blocks
    assert not at.forking
    monkeypatch.setattr(process, "PATIENCE", 0.05)
    with Within(at):
        beside(fork)  # which waits no longer
        at.before_fork()  # nor for itself
        at.after_fork_in_parent()
    assert not at.blocks
    assert not at.forking


class Skipped(KeyboardInterrupt):
    """Where an `__exit__` begins."""


@pytest.mark.parametrize("make", [process.Computing, blas.alone, lambda: blas.blas_threads(1)])
@pytest.mark.parametrize("kept", [False, True])
def test_a_block_whose_end_an_interrupt_skips_ends_with_its_traceback(make, kept):
    """Also where its last reference goes in the midst of what it takes part in; and others go on at once."""

    def skip(frame, event, argument):
        if event == "call" and frame.f_code.co_name == "__exit__":
            sys.settrace(None)
            raise Skipped

    before, me, caught = sys.gettrace(), get_ident(), None
    quiet = np.geterr()
    try:
        with make():
            sys.settrace(skip)
    except Skipped as error:
        caught = error if kept else None
    finally:
        sys.settrace(before)
    held = process.crowd.blocks.get(me) or blas.blas_threads.holders.get(me)
    assert bool(held) == kept
    with process.crowd.lock, blas.blas_threads.lock:
        caught = None  # noqa: F841
    with make():
        pass
    assert me not in process.crowd.blocks
    assert me not in blas.blas_threads.holders
    assert np.geterr() == quiet


def test_blocks_within_each_other_whose_ends_are_skipped_leave_numpy_as_it_was():
    """Also where the inner one goes after the outer one."""
    before, blocks = np.geterr(), [process.Computing() for _ in range(3)]
    for block in blocks:
        block.__enter__()
    assert set(np.geterr().values()) == {"ignore"}
    blocks[0].__exit__()
    assert np.geterr() == before
    del blocks[:], block
    assert np.geterr() == before
    assert get_ident() not in process.crowd.blocks


def test_importing_and_training_leave_the_environment_as_it_is_and_the_process_ends_while_threads_compute():
    run(f"""
        for algorithm in {ENGINES}:
            Going(xcnn.backend("numpy", algorithm=algorithm, threads=2))
        assert dict(os.environ) == before
    """)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers")
def test_an_interrupt_beside_other_threads_ends_one_training():
    run(f"""
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        for algorithm in {ENGINES}:
            backend = xcnn.backend("numpy", algorithm=algorithm, threads=2)
            expected = trained(backend)
            other = Going(backend)
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            history = model(backend).fit(X, Y, epochs=10**6, batch_size=48, progress="none")
            assert history.stopped == "interrupted"
            assert same(trained(backend), expected)
            other.stop()
    """)


def test_spawned_processes_train():
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    one = model(xcnn.backend("numpy", algorithm="gemm", threads=2))
    with context.Pool(1) as pool:
        y = pool.apply_async(one.predict, (X,)).get(SECONDS)
    np.testing.assert_allclose(y, one.predict(X), rtol=1e-6, atol=1e-6)
