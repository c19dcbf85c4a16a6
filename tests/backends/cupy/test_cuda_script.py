"""benchmarks/gpu.py where there is no GPU: its dry run, its parts on what stands in a GPU's place, its tables."""

import math
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from cuda_on_host.emulator import needs_compiler
from cuda_on_host.rehearsal import RehearsedGpu
from gpu_stand_in import Planned, StandIn, small_case

import xcnn
from xcnn.bench import comparison, gpu, timing
from xcnn.bench.cases import CorrelationCase

PATH = Path(__file__).parents[3] / "benchmarks" / "gpu.py"
PARTS = ("session", "machine", "clock", "plans", "nets", "random_nets", "speed", "plan_times", "smoke", "tables", "run")
needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch, the other side, is not installed")


@pytest.fixture(scope="module")
def script():
    """The script and the modules of its parts: names are looked up in whichever has them."""
    sys.path.insert(0, str(PATH.parent))
    try:
        names = ("gpu", *(f"on_gpu.{name}" for name in PARTS))
        yield Modules([import_module(name) for name in names])
    finally:
        sys.path.remove(str(PATH.parent))
        for name in [name for name in sys.modules if name == "gpu" or name.split(".")[0] == "on_gpu"]:
            del sys.modules[name]


class Modules:
    """Several modules as one; what is patched is patched in all that have it."""

    def __init__(self, modules):
        self.modules = modules

    def __getattr__(self, name):
        return next(vars(module)[name] for module in self.modules if name in vars(module))

    def patch(self, monkeypatch, name, value):
        having = [module for module in self.modules if name in vars(module)]
        assert having, name
        for module in having:
            monkeypatch.setattr(module, name, value)


@pytest.fixture
def run(script, tmp_path):
    """Run some parts: the report as its lines were read."""

    def run(names, session=None, minutes=20.0, dry=False):  # by the clock, on a machine that may be busy
        parts = {name: script.PARTS[name] for name in names}
        script.run(session or script.Session(StandIn()), parts, minutes, script.Log(tmp_path / "gpu.jsonl"), dry)
        return script.report(tmp_path / "gpu.jsonl")

    return run


@pytest.fixture
def quick(monkeypatch):
    """Few and short calls, on one thread, so that neither side's threads wait for the other's."""
    monkeypatch.setattr(gpu, "ON_GPU", timing.Pace(0.0, 0.0, 0.0))
    monkeypatch.setattr(gpu, "SIDE", 16)
    monkeypatch.setattr(gpu, "DATA_BYTES", 0)
    monkeypatch.setattr(gpu, "REPEATS", 1)
    with comparison.limited(1, "torch" if find_spec("torch") else None):
        yield


# The run.


def test_dry_run_says_for_each_part_what_it_would_do_and_why_it_stopped(script, tmp_path):
    if xcnn.available_backends()["cupy"].available:
        pytest.skip("there is a GPU here: the script would use it")
    command = [sys.executable, str(PATH), "--out", str(tmp_path / "new"), "--dry-run"]
    without = {name: value for name, value in os.environ.items() if name != "XCNN_DATA_DIR"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=without)
    report = script.report(tmp_path / "new" / "gpu.jsonl")
    assert report["schema"] == "xcnn.gpu.2"
    assert [*report["parts"]] == [*script.PARTS]
    for name, part in report["parts"].items():
        assert part["about"] == script.PARTS[name][0].__doc__
        assert f"{name}: {part['about']}" in done.stdout
        assert len(part["results"]) + len(part["errors"]) == 1
        assert part["undone"]
        assert part["undone"][0] in done.stdout
    stopped = {name: error["message"] for name, part in report["parts"].items() for error in part["errors"].values()}
    assert "no folder of MNIST's files was named" in stopped.pop("mnist")
    stopped.pop("machine", None)  # its first task asks for nothing but PyTorch
    assert all("X302" in message for message in stopped.values())
    assert set(stopped) == set(script.PARTS) - {"machine", "mnist"}


BLOCKED = """
import runpy, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("pooch", "hatchling"):
            raise ModuleNotFoundError(f"{name} is blocked")
sys.meta_path.insert(0, Blocked())
script, folder, out = sys.argv[1:]
import numpy as np, xcnn
model = xcnn.Model(xcnn.nets.lenet(), (1, 28, 28), loss="cross_entropy", backend="numpy")
model.fit(np.zeros((8, 1, 28, 28), "float32"), np.arange(8) % 10, progress="none")
try:
    xcnn.datasets.mnist(folder)
except xcnn.errors.DataError as error:
    print(error.code)
sys.argv = [script, "--out", out, "--dry-run", "--data-dir", folder]
runpy.run_path(script, run_name="__main__")
"""


def test_a_machine_without_pooch_and_hatchling_will_do(script, tmp_path):
    """Nor are they where a wheel is unpacked: what was built somewhere else is not built again."""
    (tmp_path / "data").mkdir()
    command = [sys.executable, "-c", BLOCKED, str(PATH), str(tmp_path / "data"), str(tmp_path)]
    path = os.pathsep.join([str(PATH.parent), *sys.path])
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("X205\n")
    report = script.report(tmp_path / "gpu.jsonl")
    told = [error["message"] for part in report["parts"].values() for error in part["errors"].values()]
    assert [*report["parts"]] == [*script.PARTS]
    assert not any("is blocked" in message or "ModuleNotFound" in message for message in told), told


def test_no_script_hides_a_package_that_cupy_imports():
    """Imports look into a script's own folder first, where a file cuda.py would hide NVIDIA's package cuda."""
    assert not {"cuda", "cupy", "numpy", "torch", "nvidia"} & {path.stem for path in PATH.parent.glob("*.py")}


def test_a_task_that_fails_leaves_its_traceback_and_the_next_one_runs(script, run, monkeypatch):
    def part(session):
        """Two tasks."""
        yield script.Task("fails", lambda: 1 / 0)
        yield script.Task("finds", lambda: {"nan": math.nan, "list": (1, None, np.float32(2)), 3: True})

    monkeypatch.setitem(script.PARTS, "part", (part, 1))
    found = run(["part"])["parts"]["part"]
    assert found["errors"]["fails"]["message"] == "ZeroDivisionError: division by zero"
    assert "Traceback" in found["errors"]["fails"]["traceback"]
    assert found["results"]["finds"] == {"nan": "nan", "list": [1, None, "2.0"], "3": True}
    assert found["undone"] == []


def test_a_part_ends_with_its_share_and_the_next_has_what_it_left(script, run, monkeypatch):
    clock = SimpleNamespace(now=0.0)
    script.patch(monkeypatch, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    script.patch(monkeypatch, "cut_after", lambda seconds: nullcontext())

    def part(count, seconds):
        def takes():
            clock.now += seconds

        return lambda session: (script.Task(str(n), takes) for n in range(count))

    monkeypatch.setitem(script.PARTS, "short", (part(2, 1), 30))
    monkeypatch.setitem(script.PARTS, "long", (part(100, 10), 30))
    parts = run(["short", "long"], minutes=1.0)["parts"]
    assert len(parts["long"]["results"]) == 6  # from 2 to 62 s, when 60 have passed
    assert parts["long"]["undone"][0] == "6"


def test_each_task_is_written_as_soon_as_it_is_done(script, tmp_path, monkeypatch):
    def part(session):
        """Two tasks, and one that is killed."""
        yield script.Task("task", lambda: 1)
        yield script.Task("fails", lambda: 1 / 0)
        yield script.Task("killed", killed)

    def killed():
        raise KeyboardInterrupt

    log = script.Log(tmp_path / "gpu.jsonl")
    with pytest.raises(KeyboardInterrupt):
        script.run(script.Session(), {"part": (part, 1.0)}, 1.0, log)
    with log.path.open("a") as file:
        file.write('{"part": "part", "task": "torn", "resu')
    found = script.report(log.path)["parts"]["part"]
    assert found["results"] == {"task": 1}
    assert [*found["errors"]] == ["fails"]
    assert found["about"] == "Two tasks, and one that is killed."
    tables = [sys.executable, str(PATH.with_name("gpu_tables.py")), str(tmp_path)]
    told = subprocess.run(tables, capture_output=True, text=True, check=True).stdout
    assert told.startswith("part: 1 tasks done, 1 failed, 0 left, 0 s\n  FAILED fails: ZeroDivisionError")


def test_a_task_is_cut_when_its_time_is_up(script, tmp_path):
    """Whatever it catches. The part's share is over too; the next part has its own."""

    def stubborn():
        while True:
            with suppress(Exception):
                time.sleep(10)

    def long(session):
        yield script.Task("stubborn", stubborn)
        yield script.Task("never", lambda: 2)

    def short(session):
        yield script.Task("quick", lambda: 3)

    begun = time.perf_counter()
    handler = signal.getsignal(signal.SIGALRM)
    script.run_part(script.Session(), "long", long, begun + 0.2, begun + 0.3, script.Log(tmp_path / "a"))
    assert time.perf_counter() - begun < 5
    assert script.run_part(script.Session(), "short", short, begun + 60, begun + 70, script.Log(tmp_path / "a"))
    parts = script.report(tmp_path / "a")["parts"]
    assert "TimeUp: cut after" in parts["long"]["errors"]["stubborn"]["message"]
    assert parts["long"]["undone"] == ["never"]
    assert parts["short"]["results"] == {"quick": 3}
    assert signal.getsignal(signal.SIGALRM) == handler
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_minutes_are_minutes_though_a_call_does_not_return(tmp_path):
    code = (
        "import sys, threading; sys.path.insert(0, sys.argv[1]); import on_gpu.run as r; r.HUNG = 0.0\n"
        "with r.ended_after(0.005): threading.Lock().acquire() and threading.Event().wait(60)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(PATH.parent)], capture_output=True, text=True, timeout=50)
    assert done.returncode == 1
    assert "Timeout" in done.stderr


def test_unknown_parts_are_refused(tmp_path):
    command = [sys.executable, str(PATH), "--out", str(tmp_path), "--parts", "steps,magic"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "there are the parts machine, " in done.stderr


# Is it right?


def test_nets_and_updates_are_compared(script, run):
    found = run(["nets"])["parts"]["nets"]
    assert found["errors"] == {}
    assert len(found["results"]) == 4 * 2 + 6 * 2 + 4
    assert all(result["ok"] for result in found["results"].values())


@dataclass(frozen=True, repr=False)
class Mistaken(StandIn):
    """Its poolings give their gradient to the wrong cells, and its updates go too far."""

    def rewrite(self, net):
        return net

    def max_pool_adjoint(self, dy, which, x_shape, size, **how):
        return super().max_pool_adjoint(dy, which, x_shape, size, **how)[..., ::-1]

    def update(self, optimizer, grads, state, weights):
        return super().update(optimizer.with_rate(1.01 * optimizer.learning_rate), grads, state, weights)


def test_mistakes_are_found(script, run, monkeypatch):
    """Of the nets those are put to it that are asked for below."""
    asked, (nets, minutes) = ("lenet, float64", "article, float64", "three updates"), script.PARTS["nets"]

    def some(session):
        yield from (task for task in nets(session) if task.name.startswith(asked))

    some.__doc__ = nets.__doc__
    monkeypatch.setitem(script.PARTS, "nets", (some, minutes))
    parts = run(["nets", "primitives"], script.Session(Mistaken()))["parts"]
    results = parts["nets"]["results"]
    assert not results["lenet, float64"]["ok"]
    assert results["lenet, float64"]["worst"] > 0.1
    assert results["article, float64"]["ok"]  # it has no poolings
    assert not any(result["ok"] for name, result in results.items() if name.startswith("three updates"))
    assert [*parts["primitives"]["errors"]] == ["max_pool_adjoint"]
    lines = [*script.correctness(parts)]
    assert any(line.startswith("  WRONG lenet, float64: ") for line in lines)
    assert any(line.startswith("  FAILED max_pool_adjoint: CheckFailed: ") for line in lines)


def test_random_nets_are_all_kinds_of_nets(script):
    kinds = set()
    for seed in range(6):
        net, input_shape = script.random_net(seed)
        _, output_shape = net.init(xcnn.core.random.generator(0), input_shape)
        assert output_shape == (10,)
        kinds |= {type(layer).__name__ for layer in net}
    assert kinds >= {"BatchNorm", "Dropout", "Residual", "MaxPool2D", "AveragePool2D", "ReLU", "Sigmoid", "Flatten"}


def test_algorithms_against_float64(script, run):
    found = run(["algorithms"])["parts"]["algorithms"]
    assert [*found["errors"]] == ["cudnn, float64", "cudnn, float32"]  # NumPy has none
    for result in found["results"].values():
        assert all(result[name]["ok"] for name in ("forward", "input adjoint", "kernel adjoint"))


@needs_compiler
def test_captured_steps_of_the_rehearsed_backend_equal_eager_ones(script, monkeypatch):
    """All of the CuPy backend's own code, its kernels on the host."""
    script.patch(monkeypatch, "picked", lambda choice: small_case("small:2"))
    script.patch(monkeypatch, "CAPTURED", 3)
    found = script.capture_errors(script.Session(RehearsedGpu()), "small", "float32")
    assert found == {"ok": True, "worst": 0.0, "not captured": ""}


def test_steps_that_are_not_captured_are_no_success(script, run, monkeypatch):
    script.patch(monkeypatch, "picked", small_case)
    found = run(["capture"])["parts"]["capture"]
    assert found["results"]["lenet, float32"] == {"ok": False, "worst": 0.0, "not captured": StandIn.reason}
    assert "does not compute in float16" in found["errors"]["lenet, float16"]["message"]


@needs_compiler
@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16", "float16"])
def test_each_plan_is_held_to_float64(script, precision):
    pytest.importorskip("ml_dtypes", reason="NumPy has bfloat16 from ml_dtypes")

    @dataclass(frozen=True, repr=False)
    class Backend(RehearsedGpu):
        careless: bool = False

        @property
        def gpu(self):
            return Planned(super().gpu, self.careless)

    case = CorrelationCase(2, 3, 6, 4, 3, stride=2, padding=1)
    for careless in (False, True):
        found = script.plan_errors(script.Session(Backend(careless=careless)), case, precision)
        for name in ("forward", "input adjoint", "kernel adjoint"):
            first, *others = found[name]["plans"]
            assert first["error"] <= script.LIMITS[precision]
            assert (first["engine"], first["workspace"]) == (0, 7)
            assert found[name]["chosen"] <= script.LIMITS[precision]
            assert found[name]["ok"] is not careless
            assert [math.isnan(other["error"]) for other in others] == [True] * careless
            assert math.isnan(found[name]["worst"]) == careless
            if precision in ("bfloat16", "float16"):
                assert first["error"] > 1e-5  # y is rounded


# How fast is it?


@needs_torch
def test_steps_beside_pytorch(script, run, quick):
    session = script.Session(StandIn(threads=1), seconds=0.0, nets=("lenet:2",))
    parts = run(["steps"], session)["parts"]
    assert [*parts["steps"]["results"]] == ["lenet:2, float32", "lenet:2, tf32"]
    assert [*parts["steps"]["errors"]] == ["lenet:2, bfloat16", "lenet:2, float16"]
    header, rule, *rows = script.step_table(parts["steps"]["results"])
    assert header.count("|") == rule.count("|") == rows[0].count("|")
    assert rows[0].startswith("| lenet:2, float32 | ")
    assert len(rows) == 2


@needs_torch
def test_correlations_beside_pytorch(script, run, quick, monkeypatch):
    script.patch(monkeypatch, "RESNET18", (CorrelationCase(2, 3, 6, 4, 3), CorrelationCase(2, 4, 6, 4, 1)))
    results = run(["correlations"], script.Session(StandIn(threads=1)))["parts"]["correlations"]["results"]
    assert len(results) == 2 * 2
    header, rule, *rows = script.correlation_table(results)
    assert header.count("|") == rule.count("|") == rows[0].count("|")
    assert [row.split(" | ")[0] for row in rows] == ["| float32", "| tf32"]


def test_ratios_in_the_tables(script):
    def row(ours, theirs):
        return {"ratio": theirs / ours}

    maps = ("forward", "input adjoint", "kernel adjoint")
    results = {
        "a, float32": dict(zip(maps, (row(1, 2), row(1, 1), row(1, 1)), strict=True)),
        "b, float32": dict(zip(maps, (row(1, 8), row(1, 0.5), row(1, 1)), strict=True)),
    }
    *_, line = script.correlation_table(results)
    assert line == "| float32 | 4.00 | 0.71 | 1.00 | 0.50: b, float32, input adjoint |"
    step = {
        "ours": {"median_ms": 0.123456, "way": "captured"},
        "torch": {"median_ms": 0.5, "way": "graphed NCHW, benchmark"},
        "ratio": 4.05, "ratio_to_eager": 9.0, "ratio_to_graphed": None,
        "memory_bytes": {"xcnn": 2**20, "torch": 3 * 2**20},
    }  # fmt: skip
    *_, line = script.step_table({"lenet:64, tf32": step})
    assert line == ("| lenet:64, tf32 | 0.1235 | captured | 0.5 | graphed NCHW, benchmark | 4.05 | 9.00 |  | 1 | 3 |")


def test_seconds_until_the_accuracy_is_reached(script, run, monkeypatch):
    data = xcnn.datasets.mnist01()
    script.patch(monkeypatch, "digits", lambda folder: ((data.train.x[:1500], data.train.y[:1500]), data.test))
    monkeypatch.setattr(xcnn.nets, "mnist_net", xcnn.nets.lenet)
    report = run(["mnist"])
    found = report["parts"]["mnist"]["results"]["float32"]
    assert found["accuracy"][-1] >= 0.99 > max([0.0, *found["accuracy"][:-1]])
    assert len(found["epochs"]) == len(found["accuracy"]) < 15
    assert sum(found["epochs"]) < found["seconds"]
    assert f"MNIST, float32: {found['seconds']:.1f} s by the wall clock" in script.summary(report)


def test_digits_come_from_a_folder_alone(script, tmp_path, monkeypatch):
    monkeypatch.delenv("XCNN_DATA_DIR", raising=False)
    with pytest.raises(xcnn.errors.DataError, match="no folder"):
        script.digits(None)
    with pytest.raises(xcnn.errors.DataError, match="X205"):
        script.digits(tmp_path)


@needs_torch
def test_host_microseconds(script, run, monkeypatch):
    script.patch(monkeypatch, "HOST_CALLS", 2)
    found = run(["host"])["parts"]["host"]
    assert found["errors"] == {}
    assert len(found["results"]) == 4
    assert all(0 < value < 1e6 for value in found["results"].values())


class Slow:
    """A device on which the n-th plan takes n + 1 ms, the first time 100 ms more."""

    def __init__(self, clock):
        self.clock, self.loaded, self.runs = clock, set(), []

    def capture(self, work):
        work()
        return SimpleNamespace(launch=work)

    def execute(self, plan, inputs):
        self.clock.now += plan.n + 1.0 + 100.0 * (plan.n not in self.loaded)
        self.loaded.add(plan.n)
        self.runs.append((plan.n, inputs["n"]))


def test_plans_are_timed_exactly_where_a_glance_finds_them_promising(script, monkeypatch):
    clock = SimpleNamespace(now=0.0)
    script.patch(monkeypatch, "time", SimpleNamespace(perf_counter=lambda: 1e-3 * clock.now))
    choice = SimpleNamespace(engine=1, knobs=())
    plans = [SimpleNamespace(n=n, choice=choice, workspace=0) for n in range(20)]
    device = Slow(clock)
    device.plans = SimpleNamespace(candidates=lambda question: iter(plans))
    backend = SimpleNamespace(gpu=device, active=nullcontext, synchronize=lambda: None)
    rows = script.times_of(backend, None, [{"n": n} for n in range(3)])
    assert [row["glance"] for row in rows] == pytest.approx([1e3 * (n + 1) for n in range(20)])
    exact = {n: row["microseconds"] for n, row in enumerate(rows) if "microseconds" in row}
    assert exact == pytest.approx({0: 1000, 1: 2000, 2: 3000})  # the others take over 3 times as long as the first
    assert [inputs for n, inputs in device.runs if n == 2][-20:] == [n % 3 for n in range(20)]


def test_what_is_printed_while_the_run_goes_on(script):
    right, wrong = {"ok": True, "worst": 0.1}, {"ok": False, "worst": 0.2}
    assert script.told(2345.678) == "2346"
    assert script.told({"forward": right}) == "done"
    assert script.told({"forward": right, "kernel adjoint": wrong}) == "WRONG, kernel adjoint 0.2"
    assert script.told(wrong) == "WRONG 0.2"


def test_a_summary_without_results(script):
    nothing = {"results": {}, "errors": {"a": {"message": "no GPU"}}, "undone": ["b"]}
    text = script.summary({"parts": dict.fromkeys(("steps", "correlations", "mnist"), nothing)})
    assert text.splitlines()[:2] == ["steps: 0 tasks done, 1 failed, 1 left, 0 s", "  FAILED a: no GPU"]
    assert "|" not in text


def test_sessions_make_backends_with_options(script):
    made = script.Session(replace(StandIn(), compiles=False)).made(deterministic=True)
    assert (made.compiles, made.deterministic) == (False, True)


# The smoke test.


@needs_compiler
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_smoke_test_finds_convolutions_right_and_nan_kept(script, precision):
    session = script.Session(RehearsedGpu())
    for found in (script.convolution_errors(session, precision), script.nan_kept(session, precision)):
        assert len(found) == 3
        assert all(one["ok"] for one in found.values()), found


@needs_compiler
def test_the_smoke_test_finds_lost_nan(script):
    class Careless:
        def __init__(self, device):
            self.device = device

        def __getattr__(self, name):
            return getattr(self.device, name)

        def convolve(self, question, x, kernel, y, bias=None):
            self.device.convolve(question, x, kernel, y, bias)
            if question.activation == "relu":
                y[...] = np.nan_to_num(y, nan=0.0)

    @dataclass(frozen=True, repr=False)
    class Backend(RehearsedGpu):
        @property
        def gpu(self):
            return Careless(super().gpu)

    found = script.nan_kept(script.Session(Backend()), "float32")
    assert {name: one["ok"] for name, one in found.items()} == {"ReLU": False, "Sigmoid": True, "Tanh": True}


@needs_compiler
def test_the_smoke_test_holds_a_dense_layers_products_to_float64_and_times_them(script, monkeypatch):
    script.patch(monkeypatch, "DENSE", (4, 48, 8))
    session = script.Session(RehearsedGpu())
    for precision in ("float32", "bfloat16"):
        found = script.product_errors(session, precision)
        assert len(found) == 3 * 3
        assert all(one["ok"] for one in found.values()), found
    device = session.made().gpu
    device.asked.clear()
    device.multiplied.clear()
    x, w, _ = script.dense_arrays(False)
    taken = {
        name: script.dense_microseconds(way, "float32", x, w) for name, way in script.product_ways(session).items()
    }
    assert all(0 < value < 1e6 for value in taken.values())
    assert [*taken] == ["cuDNN", "cublasLt", "taken"]
    runs = 2 + 1  # before the capture and for it
    assert (len(device.asked), len(device.multiplied)) == (runs * script.PIECES, 2 * runs * script.PIECES)


@needs_compiler
def test_the_smoke_test_finds_wrong_products(script, monkeypatch):
    script.patch(monkeypatch, "DENSE", (4, 48, 8))

    class Careless:
        def __init__(self, device):
            self.device = device

        def __getattr__(self, name):
            return getattr(self.device, name)

        def multiply(self, product, a, b, c):
            self.device.multiply(product, a, b, c)
            c[0, 0] *= 1 if product.a_turned else 2

    @dataclass(frozen=True, repr=False)
    class Backend(RehearsedGpu):
        @property
        def gpu(self):
            return Careless(super().gpu)

    found = script.product_errors(script.Session(Backend()), "float32")
    wrong = {name for name, one in found.items() if not one["ok"]}
    assert wrong == {f"{way}, {product}" for way in ("cublasLt", "taken") for product in ("X W", "dY Wt")}


WATCHED = """
import runpy, sys
from pathlib import Path
sys.argv = sys.argv[1:]
sys.path.insert(0, str(Path(sys.argv[0]).parent))
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print("torch" in sys.modules)
"""
"""Runs a script, and tells whether it has loaded PyTorch."""


def test_a_smoke_test_that_fails_has_status_1_and_does_not_wait_for_pytorch(script, tmp_path):
    if xcnn.available_backends()["cupy"].available:
        pytest.skip("there is a GPU here: the script would use it")
    command = [sys.executable, "-c", WATCHED, str(PATH), "--out", str(tmp_path), "--smoke"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "False"
    found = script.report(tmp_path / "smoke.jsonl")["parts"]["smoke"]
    assert {"backend", "kernels", "convolution, float32", "NaN, float16", "memory"} <= set(found["errors"])
