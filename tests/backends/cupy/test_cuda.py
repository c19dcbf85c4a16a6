"""What can be known of CuPy's part without a GPU: that its names exist, and that it passes what kernels are given."""

import ast
import types
from contextlib import nullcontext
from functools import reduce
from pathlib import Path

import numpy as np
import pytest
import xcnn_cupy
from cuda_on_host.device import HostDevice
from cuda_on_host.emulator import needs_compiler
from cuda_on_host.rehearsal import RehearsedGpu

import xcnn

FOLDER = Path(xcnn_cupy.__file__).parent
KNOW_CUPY = ("backend.py", "cuda.py", "memory.py", "timing.py")


def names_of(file):
    """What a file takes from CuPy: "cuda.runtime.memGetInfo"."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        chain = []
        while isinstance(node, ast.Attribute):
            chain, node = [node.attr, *chain], node.value
        if chain and isinstance(node, ast.Name) and node.id == "cupy":
            found.add(".".join(chain))
    return found


@pytest.mark.parametrize("file", KNOW_CUPY)
def test_every_name_of_cupy_exists(file):
    cupy = pytest.importorskip("cupy")
    names = names_of(FOLDER / file)
    assert len(names) >= 5
    for name in names - {"cuda.cublas"}:  # it is loaded when it is asked for, and is not there without a driver
        assert reduce(getattr, name.split("."), cupy) is not None, name


def test_only_these_files_know_cupy():
    for file in FOLDER.rglob("*.py"):
        if file.name not in (*KNOW_CUPY, "__init__.py"):
            assert "import cupy" not in file.read_text(encoding="utf-8"), file


@needs_compiler
def test_cupy_takes_the_arguments_of_every_launch(rng, monkeypatch):
    """CuPy turns arguments into C's before it asks the driver, which is not there: that is the only error."""
    function = pytest.importorskip("cupy.cuda.function").Function
    runtime = pytest.importorskip("cupy_backends.cuda.api.runtime")
    if runtime is None or xcnn.available_backends()["cupy"].available:
        pytest.skip("there is a CUDA device: the launches themselves are tested")
    launches = []
    launch = HostDevice.launch

    def recorded(self, kernel, blocks, threads, *arguments):
        launches.append((kernel, kernel.pack(arguments, self.address)))
        launch(self, kernel, blocks, threads, *arguments)

    monkeypatch.setattr(HostDevice, "launch", recorded)
    net = xcnn.Sequential(
        xcnn.Conv2D(2, 3), xcnn.BatchNorm(), xcnn.ReLU(), xcnn.MaxPool2D(2),
        xcnn.Dropout(0.5), xcnn.Flatten(), xcnn.Dense(3),
    )  # fmt: skip
    model = xcnn.Model(net, (1, 8, 8), backend=RehearsedGpu(), precision="float16")
    x, t = rng.standard_normal((5, 1, 8, 8)).astype("float32"), rng.integers(0, 3, 5)
    model.fit(x, t, batch_size=2, progress="none")
    assert len({kernel.name for kernel, _ in launches}) > 12
    unlaunched, nowhere = function.__new__(function), types.SimpleNamespace(ptr=0)
    for kernel, packed in launches:
        with pytest.raises(runtime.CUDARuntimeError):
            unlaunched((1,), (1,), packed, 0, nowhere)
        assert all(np.asarray(one).size == 1 for one in packed), kernel


class LazyDevice:
    """CuPy's pinned memory, and a device that reads it only when it is waited for."""

    def __init__(self):
        self.unread, self.allocated, self.pins = [], [], True

    def alloc_pinned_memory(self, size):
        if not self.pins:
            raise MemoryError
        self.allocated.append(size)
        return Bytes(size)

    def get_current_stream(self):
        return self

    def record(self):
        return self

    def synchronize(self):
        for there, here in self.unread:
            there.cells[...] = here
        self.unread.clear()


class Bytes(bytearray):
    """As long as was asked."""

    def size(self):
        return len(self)


class Away:
    """An array of the device."""

    def __init__(self, device, like):
        self.device, self.cells = device, np.zeros_like(like)

    def set(self, here):
        if isinstance(here.base, np.ndarray):
            self.device.unread.append((self, here))
        else:  # not pinned: CUDA has read it when this returns
            self.cells[...] = here


@pytest.fixture
def lazy(monkeypatch):
    """CuPy's names for it."""
    memory = pytest.importorskip("xcnn_cupy.memory")
    device = LazyDevice()
    runtime = types.SimpleNamespace(CUDARuntimeError=MemoryError)
    monkeypatch.setattr(memory.cupy, "cuda", types.SimpleNamespace(
        alloc_pinned_memory=device.alloc_pinned_memory, get_current_stream=device.get_current_stream, runtime=runtime,
    ))  # fmt: skip
    return memory.Pinned(), device


def test_pinned_memory_is_kept_and_not_changed_before_it_was_read(lazy, rng):
    pinned, device = lazy
    sent = [rng.standard_normal(shape).astype(dtype) for shape, dtype in (
        ((5, 3), "float32"), ((4,), "int64"), ((5, 3), "float32"), ((9, 2), "float64"), ((2,), "uint8"),
    )]  # fmt: skip
    arrived = [Away(device, one) for one in sent]
    for there, here in zip(arrived, sent, strict=True):
        pinned.put(there, here.copy())
        assert len(device.unread) == 1  # nobody has waited for this one
    device.synchronize()
    for there, here in zip(arrived, sent, strict=True):
        np.testing.assert_array_equal(there.cells, here)
    assert device.allocated == [60, 144]  # one buffer, and a larger one


def test_a_host_that_can_not_pin_copies_as_it_is(lazy):
    pinned, device = lazy
    device.pins = False
    there = Away(device, np.ones(3))
    pinned.put(there, np.arange(3.0))
    assert device.allocated == device.unread == []
    assert list(there.cells) == [0, 1, 2]


class Stream:
    """CuPy's, where nothing runs."""

    def __init__(self, non_blocking=False):
        self.calls = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False

    def synchronize(self):
        self.calls.append("synchronize")

    def begin_capture(self):
        self.calls.append("begin")

    def end_capture(self):
        self.calls.append("end")
        return self


class Chunks:
    """A pool of CuPy's."""

    made = ()

    def __init__(self):
        self.freed = 0
        Chunks.made = (*Chunks.made, self)

    def malloc(self, size):
        raise AssertionError

    def free_all_blocks(self):
        self.freed += 1


@pytest.fixture
def device(monkeypatch):
    """A Cuda that captures without CUDA, and its module."""
    module = pytest.importorskip("xcnn_cupy.cuda")
    monkeypatch.setattr(Chunks, "made", ())
    cuda = types.SimpleNamespace(
        Stream=Stream, MemoryPool=Chunks, get_current_stream=Stream, using_allocator=lambda _: nullcontext()
    )
    monkeypatch.setattr(module, "cupy", types.SimpleNamespace(cuda=cuda))
    return module.Cuda(0), module


def test_memory_of_graphs_that_measured_plans_is_free_before_the_capture(device):
    cuda, module = device
    freed, pools = [], []

    def work():
        pools.append(Chunks())
        module.Graph(None, None, pools[-1])  # and gone
        freed.append(pools[-1].freed)

    graph = cuda.capture(work)
    assert freed == [1, 1, 0]  # two runs, and the capture, in which nothing may be freed
    assert pools[-1].freed == 1
    assert graph.stream.calls == ["synchronize", "begin", "end"]
    assert graph.pool.freed == 0
    pool = graph.pool
    del graph
    assert pool.freed == 1


@pytest.mark.parametrize("failing", [1, 3])
def test_a_capture_that_fails_keeps_no_memory(failing, device):
    cuda, module = device
    calls = []

    def work():
        calls.append(1)
        if len(calls) == failing:
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        cuda.capture(work)
    (pool,) = Chunks.made
    assert pool.freed == 1
    assert module.POOLS.captures == 0
