"""What a summary says of memory, beside what a process takes that does nothing but the steps that it tells of."""

import json
import os
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from xcnn_host.buffers import recycler
from xcnn_native.library import library

import xcnn
from xcnn import layers as L
from xcnn.core import memory
from xcnn.core.types import Array, Backward
from xcnn.layers.layer import Hook, Run
from xcnn.model.memory import Course, needs
from xcnn.model.model import Model

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "processes.py"
SMALL = {
    "mnist-net": ("mnist-net", (1, 28, 28), 48),
    "ResNet-18": ("resnet18", (3, 112, 112), 4),
    "ResNet-18 on small images": ("resnet18-64", (3, 32, 32), 32),
    "VGG": ("vgg", (3, 32, 32), 16),
    "U-Net": ("unet-256", (3, 128, 128), 2),
    "ConvNeXt": ("convnext", (3, 64, 64), 24),
}
ENGINE_ALONE = ("ResNet-18", "VGG", "ConvNeXt")
"""Nets that plain NumPy takes long over, and whose kinds of layers the others have."""
CHILD = """
import json, os, runpy, sys
from dataclasses import replace
script, side, *choices = sys.argv[1:]
benchmark = runpy.run_path(script, run_name="benchmark")
benchmark["peak"].__globals__["COUNT"] = 4  # the second is recorded, the third tries that out, the fourth replays it
if side == "xcnn":  # told from fewer samples than are asked for
    sys.modules["xcnn.model.memory"].CELLS = 2**22
else:  # Python's threads hold rooms at once or after each other, as the machine's load has it: one has no choice
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
for choice in choices:
    task, name, shape, batch = json.loads(choice)
    if not (child := os.fork()):  # with nothing but the imports
        case = replace(benchmark["picked"](f"{name}:{batch}"), input_shape=tuple(shape))
        print(json.dumps(benchmark["told_and_measured"](side, case, task)), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


def told_and_measured(side):
    """MiB by task and net: what a summary tells, and the peak of a process."""
    environment = {name: value for name, value in os.environ.items() if name != "XCNN_NATIVE"}
    if side == "plain":
        environment["XCNN_NATIVE"] = "0"
    names = [name for name in SMALL if side == "xcnn" or name not in ENGINE_ALONE]
    cases = [(task, name) for task in ("training", "prediction") for name in names]
    command = [sys.executable, "-c", CHILD, str(SCRIPT), side, *(json.dumps((t, *SMALL[name])) for t, name in cases)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return dict(zip(cases, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.skipif(sys.platform != "linux", reason="the system tells no peak that can begin anew")
@pytest.mark.parametrize("side", ["xcnn", "plain"])
def test_a_summary_tells_what_a_process_takes(side):
    """In training and in prediction."""
    found = told_and_measured(side)
    # 4 MiB for code that is read meanwhile
    off = {case: (told, taken) for case, (told, taken) in found.items() if abs(told - taken) > 0.15 * taken + 4}
    assert not off, found


def test_does_it_fit(monkeypatch):
    model = Model(xcnn.nets.article(), (1, 28, 28), loss="binary_cross_entropy", backend="numpy")
    monkeypatch.setattr(memory, "free", lambda: 20 * 2**20)
    small, large = model.summary(batch_size=8), model.summary(batch_size=100_000)
    assert small.fits
    assert not large.fits
    assert "it fits: 20.0 MiB are free" in str(small)
    assert "a step does not fit: 20.0 MiB are free" in str(large)
    assert (small.to_dict()["fits"], large.to_dict()["fits"]) == (True, False)
    monkeypatch.setattr(memory, "free", lambda: None)
    unknown = model.summary()
    assert unknown.fits is None
    assert "free" not in str(unknown)


def test_pytorchs_tensors_are_counted_for_as_long_as_they_are_alive():
    torch = pytest.importorskip("torch")
    with xcnn.backend("torch").metered() as meter:
        kept = torch.ones(1000)
        for _ in range(3):
            torch.ones(5000) + 1
        del _
        meter.mark()
        view, shared = kept[:10], torch.from_numpy(np.ones(10**6))
        meter.mark()
        del kept, shared
        meter.mark()
        del view
        meter.mark()
    assert meter.peaks == [4000 + 2 * 20_000, 4000, 4000, 4000]
    assert meter.left == 0


def test_a_backward_with_variables_that_are_not_set_has_its_row():
    model = Model(L.Sequential(L.UpSampling2D(2), L.Sigmoid()), (1, 4, 4), loss="mse", backend="numpy")
    up, sigmoid = model.summary(2).rows
    assert (up.kept_bytes, sigmoid.kept_bytes) == (0, 4 * 8 * 8)


def test_the_moments_of_a_model_that_was_trained_are_there_when_it_predicts():
    net, optimizer = L.Sequential(L.Flatten(), L.Dense(4)), xcnn.SGD(0.1, momentum=0.9)
    model = Model(net, (1, 64, 64), optimizer=optimizer, backend="numpy")
    before = model.summary(2)
    model.step(np.zeros((2, 1, 64, 64), "float32"), np.array([0, 1]))
    told = before.prediction_bytes + before.optimizer_bytes
    assert model.summary(2).prediction_bytes == pytest.approx(told, abs=2**12)


def test_a_trace_of_the_users_goes_on():
    tracemalloc.start()
    try:
        kept = np.ones(10**6)
        Model(L.Sequential(L.Dense(2)), (3,), backend="numpy").summary()
        assert tracemalloc.is_tracing()
        assert tracemalloc.get_traced_memory()[0] > kept.nbytes
    finally:
        tracemalloc.stop()


def test_nothing_stays_of_a_look():
    model = Model(L.Sequential(L.Conv2D(8, 3), L.ReLU(), L.Flatten(), L.Dense(2)), (1, 30, 30), backend="numpy")
    before = {path: np.array(w) for path, w in xcnn.core.tree.items(model.weights)}
    model.summary(64)
    assert not recycler.elsewhere
    assert not tracemalloc.is_tracing()
    assert model.state.step == 0
    assert all(np.array_equal(w, before[path]) for path, w in xcnn.core.tree.items(model.weights))


def alone():
    """NumPy's backend on one thread: several share rooms as it happens where they are Python's."""
    return xcnn.backend("numpy", threads=1)


def test_threads_that_look_take_turns():
    model = Model(L.Sequential(L.Conv2D(8, 3), L.ReLU(), L.Flatten(), L.Dense(2)), (1, 30, 30), backend=alone())
    expected = model.summary(64).step_bytes
    with ThreadPoolExecutor(4) as pool:
        found = [*pool.map(lambda _: model.summary(64).step_bytes, range(4))]
    assert max(abs(bytes - expected) for bytes in found) < 0.05 * expected
    assert not recycler.elsewhere
    assert not tracemalloc.is_tracing()


@pytest.mark.skipif(library() is None, reason="a hundred steps by BLAS's threads take long on a busy machine")
def test_what_is_held_is_the_same_after_four_steps_and_after_a_hundred():
    block = L.Residual(L.Conv2D(16, 3, padding=1, bias=False), L.BatchNorm(), L.ReLU(), L.Conv2D(16, 3, padding=1))
    net = L.Sequential(L.Conv2D(16, 3), block, L.ReLU(), L.MaxPool2D(2), L.Dropout(0.2), L.Flatten(), L.Dense(10))
    model = Model(net, (3, 26, 26), backend=alone())
    x, y = np.random.default_rng(0).random((4, 3, 26, 26), "float32"), np.arange(4)

    def held():
        return sum(size * len(shelf) for size, shelf in recycler.shelves.items())

    steps = [(model.step(x, y), held())[1] for _ in range(100)]
    # the second is recorded, the third tries that out, and all others are replays
    assert steps[3] > 2**20
    assert set(steps[3:]) == {steps[3]}
    told = model.summary(4).step_bytes
    assert told < 1.15 * steps[3] + 2**20


@pytest.mark.skipif(library() is None, reason="nothing is recorded without the library")
def test_what_a_recording_would_take_is_what_one_takes():
    block = L.Residual(L.Conv2D(16, 3, padding=1), L.BatchNorm(), L.ReLU(), L.Conv2D(16, 3, padding=1))
    model = Model(L.Sequential(L.Conv2D(16, 3), block, L.Flatten(), L.Dense(10)), (3, 26, 26), backend=alone())
    told = needs(model, 4).step.of_more.replayed
    x, y = np.random.default_rng(0).random((4, 3, 26, 26), "float32"), np.arange(4)
    for _ in range(3):
        model.step(x, y)
    (met,) = model.trainer.net.met.values()
    assert [*told.memories(told.sizes)] == [met.recording.bytes, met.recording.size]
    assert told.copies == x.nbytes + 4 * 4 * 10
    assert met.recording.size < 0.8 * sum(told.sizes)
    assert not told.memories([2**20 * size for size in told.sizes])  # too large to be recorded


def test_workspaces_of_a_large_batch_are_told_from_a_small_one(monkeypatch):
    """Of 16 samples at a time, which the workspace holds, whatever is measured."""
    monkeypatch.setattr(sys.modules["xcnn.model.memory"], "CELLS", 8 * 16 * 32 * 32)
    backend = xcnn.backend("numpy", algorithm="gemm", threads=1)
    model = Model(L.Sequential(L.Conv2D(8, 3, padding=1), L.Flatten(), L.Dense(2)), (8, 32, 32), backend=backend)
    told = needs(model, 64).step
    assert told.more < 8
    real = sys.modules["xcnn.model.memory"].counted(model, sys.modules["xcnn.model.memory"].train, 64)
    of_real = [size for part in real.requests for _, size in part]
    assert max(size for _, size in told.requests(64)) < 1.05 * max(of_real)
    held = real.held([memory.Round([each for part in real.requests for each in part])])
    assert told.of_more.held([memory.Round([*told.requests(64)])]) == pytest.approx(held, rel=0.05)


def counted(peaks, left=0, requests=(), held=memory.nothing_kept):
    meter = memory.Meter(lambda: (0, 0), lambda: None, held)
    meter.peaks, meter.left, meter.requests = list(peaks), left, [list(some) for some in requests] + [[]]
    return meter


def test_the_moment_of_the_peak_is_another_with_a_larger_batch():
    course = Course(1, 2, counted([100, 1000, 1000]), counted([200, 1010, 1000]))
    assert course.bytes(2) == 1010
    assert course.bytes(50) == max(5000, 990 + 50 * 10)


def test_what_a_step_leaves_is_there_in_the_next():
    course = Course(1, 2, counted([100], left=40), counted([200], left=40))
    assert course.bytes(3, rounds=1) == 300
    assert course.bytes(3) == 340


def test_requests_grow_with_the_batch_as_far_as_they_did():
    asked = []

    def held(rounds):
        asked.extend(rounds)
        return 7

    few = counted([0, 0], requests=[[(0, 100), (1, 50), (0, -1)], [(2, 10)]])
    more = counted([0, 0], requests=[[(0, 200), (1, 50), (0, -1)], [(2, 10), (3, 30)]], held=held)
    assert Course(1, 2, few, more).bytes(10, rounds=1) == 7
    assert asked == [memory.Round([(0, 1000), (1, 50), (0, -1), (2, 10), (3, 150)])]  # the last two by another way


def test_a_batch_that_goes_by_parts_takes_what_a_part_does_and_all_results():
    few, more = counted([100]), counted([200])
    assert Course(1, 2, few, more, most=5, result=7).bytes(5) == Course(1, 2, few, more).bytes(5)
    assert Course(1, 2, few, more, most=5, result=7).bytes(90) == Course(1, 2, few, more).bytes(5) + 90 * 7


@pytest.mark.skipif(library() is None, reason="the compiled library was not built, or is switched off")
def test_a_prediction_is_told_by_parts_as_it_is_computed():
    net = L.Sequential(L.Conv2D(32, 3, padding=1), L.ReLU(), L.Conv2D(32, 3, padding=1), L.SiLU(), L.Conv2D(4, 1))
    model = Model(net, (3, 90, 96), loss="mse", backend="numpy")
    x = np.ones((40, 3, 90, 96), "float32")
    told = needs(model, 40).prediction
    assert told.most < 20
    recycler.give_back()
    tracemalloc.start()
    try:
        for _ in range(4):
            model.predict(x, batch_size=40)
        measured = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert told.bytes(40) == pytest.approx(measured, rel=0.15)
    assert measured < 40 * 2 * 32 * 90 * 96 * 4 / 2  # half of what all samples at once have in two planes of filters


def test_a_layer_whose_backward_is_not_written_has_its_summary():
    class Half:
        def init(self, rng, input_shape):
            return {}, input_shape

        def __call__(self, weights, x: Array, run: Run) -> tuple[Array, Backward]:
            def backward(dy):
                raise NotImplementedError

            return x, backward

    model = Model(L.Sequential(Half(), L.Flatten(), L.Dense(2), own=Half()), (4,), backend="numpy")
    assert needs(model, 8) is None
    summary = model.summary(8)
    assert summary.prediction_bytes is None
    assert summary.step_bytes == 3 * summary.weight_bytes + 2 * summary.optimizer_bytes + summary.activation_bytes
    assert "a prediction" not in str(summary)


def test_a_prediction_whose_work_hides_what_it_makes_of_few_samples_is_told_of_more(monkeypatch):
    class Working:
        """Holds 12 samples' work at a time, and then its output twice."""

        def init(self, rng, input_shape):
            return {}, input_shape

        def __call__(self, weights, x: Array, run: Run) -> tuple[Array, Backward]:
            y = x + 0
            np.empty((12, *x.shape[1:]), x.dtype)
            return y + 0, lambda dy: (dy, {})

    cells = 2**12
    monkeypatch.setattr(sys.modules["xcnn.model.memory"], "CELLS", 20 * 3 * cells)
    model = Model(L.Sequential(Working(), L.Flatten()), (cells,), loss="mse", backend="numpy")
    told = needs(model, 200).prediction
    assert told.few > 12
    assert told.bytes(200, rounds=1) == pytest.approx(2 * 200 * 4 * cells, rel=0.03)  # the output twice; x is there


def test_a_loss_of_somebodys_own_is_not_called():
    def mine(y, t):
        raise AssertionError("what targets does it take?")

    model = Model(L.Sequential(L.Dense(2)), (4,), loss=mine, backend="numpy")
    assert needs(model, 8) is not None


@pytest.mark.parametrize("of_runs", [False, True])
def test_a_hook_sees_layers_or_runs_of_them(of_runs):
    net = L.Sequential(L.Conv2D(8, 3), L.ReLU(), L.Residual(L.Conv2D(8, 1), L.ReLU()), L.Flatten(), L.Dense(2))
    model = Model(net, (1, 8, 8), backend="numpy")
    seen, back = [], []

    def look(path, layer, y, backward):
        seen.append(".".join(path))
        return lambda *given: back.append(".".join(path)) or backward(*given)

    run = Run(model.trainer.backend, train=True, hook=Hook(look, of_runs=of_runs))
    x = np.ones((2, 1, 8, 8), "float32")
    y, backward = model.trainer.net(model.state.weights, x, run)
    dx, grads = backward(y)
    plain_y, plain_backward = model.trainer.net(model.state.weights, x, replace(run, hook=None))
    plain_dx, plain_grads = plain_backward(y)
    np.testing.assert_allclose(y, plain_y, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(dx, plain_dx, rtol=1e-5, atol=1e-5)
    assert [*dict(xcnn.core.tree.items(grads))] == [*dict(xcnn.core.tree.items(plain_grads))]
    assert sorted(back) == sorted(seen)
    if of_runs and type(model.trainer.net) is not L.Sequential:
        assert seen == ["relu1", "residual1.relu1", "residual1", "flatten1", "dense1"]
    else:
        assert seen == ["conv1", "relu1", "residual1.conv1", "residual1.relu1", "residual1", "flatten1", "dense1"]


def test_free_memory_of_a_container_is_what_its_limit_leaves(tmp_path):
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("400\n")
    assert [*memory.left_to_group(tmp_path)] == [600]
    (tmp_path / "memory.max").write_text("max\n")
    assert [*memory.left_to_group(tmp_path)] == []


@pytest.mark.skipif(sys.platform != "linux", reason="other systems may not tell")
def test_free_memory_is_less_than_there_is():
    assert 0 < memory.free() < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
