"""What can be known of CuPy's part without a GPU: that its names exist, and that it passes what kernels are given."""

import ast
import types
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
