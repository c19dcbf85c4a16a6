"""Selecting a backend: names, options, the process's default, and what is told."""

import logging
import os
import re
import subprocess
import sys
import types
from dataclasses import dataclass

import numpy as np
import pytest
import xcnn_cupy
import xcnn_strict
from xcnn_native import library as native
from xcnn_native.library import NAMES
from xcnn_numpy import NumpyBackend

import xcnn
from xcnn import backends
from xcnn.errors import BackendError, BackendUnavailable, DTypeError, OptionError


@pytest.fixture(autouse=True)
def untouched(monkeypatch):
    """A process that has chosen nothing yet, without XCNN_BACKEND; restored afterwards."""
    monkeypatch.delenv("XCNN_BACKEND", raising=False)
    monkeypatch.setattr(backends.selector, "_default", None)
    monkeypatch.setattr(backends.registry, "_loaded", {})
    monkeypatch.setattr(backends.registry, "_owners", {})
    monkeypatch.setattr(backends.selector, "_told", set())


@pytest.fixture
def no_cupy(monkeypatch):
    """A machine where CuPy is not installed."""
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setattr(backends.registry, "_loaded", {})


class FakeCuda:
    """Of cupy.cuda, what tells its devices and libraries. It makes no arrays: those need a device."""

    def __init__(self, count, missing):
        self.count, self.missing = count, missing
        self.runtime = types.SimpleNamespace(CUDARuntimeError=ArithmeticError, getDeviceCount=self.get_device_count)
        self.nvrtc = types.SimpleNamespace(getVersion=lambda: self.load("nvrtc", RuntimeError))

    def get_device_count(self):
        if self.count is None:
            raise self.runtime.CUDARuntimeError("cudaErrorInsufficientDriver")
        return self.count

    @property
    def cublas(self):
        return self.load("cublas", ImportError)

    def load(self, name, error):
        if name == self.missing:
            raise error(f"No lib{name}.so")


@pytest.fixture
def fake_cupy(monkeypatch):
    """Installs a CuPy that sees so many devices; None stands for a driver that is too old."""

    def install(count, missing=None):
        cupy = types.ModuleType("cupy")
        cupy.__version__, cupy.cuda = "14.2.0", FakeCuda(count, missing)
        monkeypatch.setitem(sys.modules, "cupy", cupy)
        monkeypatch.delitem(sys.modules, "xcnn_cupy.backend", raising=False)

    yield install
    sys.modules.pop("xcnn_cupy.backend", None)


# By name.


def test_a_backend_by_name(backend):
    assert xcnn.backend(backend.spec) == backend
    assert repr(backend) == f"xcnn.backend({backend.spec!r})"
    assert backend.spec == backend.name


def test_a_backend_stands_for_itself():
    numpy = xcnn.backend("numpy", algorithm="fft")
    assert xcnn.backend(numpy) == numpy
    assert xcnn.backend(numpy, algorithm="gemm") == xcnn.backend("numpy", algorithm="gemm")
    assert xcnn.backend(numpy, fuse=False) != numpy
    assert repr(xcnn.backend(numpy, fuse=False)) == "xcnn.backend('numpy', algorithm='fft', fuse=False)"


def test_a_backends_repr_makes_it():
    for made in (xcnn.backend("numpy", algorithm="gemm"), xcnn.backend("strict:device2", fuse=False)):
        assert eval(repr(made), {"xcnn": xcnn}) == made


def test_backends_are_values():
    one, other = xcnn.backend("numpy"), xcnn.backend("numpy")
    assert one == other
    assert len({one, other, xcnn.backend("numpy", algorithm="gemm")}) == 2
    with pytest.raises(AttributeError):
        one.algorithm = "gemm"


def test_unknown_name():
    with pytest.raises(BackendError) as raised:
        xcnn.backend("numpi")
    assert raised.value.code == "X303"
    assert str(raised.value) == (
        '[X303] there is no backend "numpi".\n'
        '  hint: did you mean "numpy"? Installed are cupy, jax, numpy, strict, torch; '
        'other array libraries go by their module, as "dask.array".'
    )


@pytest.mark.parametrize("name", [None, 3, np])
def test_no_name(name):
    with pytest.raises(BackendError, match=re.escape(repr(name)[:60])) as raised:
        xcnn.backend(name)
    assert raised.value.code == "X303"


def test_unknown_option():
    with pytest.raises(OptionError, match=r"no option 'speed'.*\n.*device, algorithm, fuse") as raised:
        xcnn.backend("numpy", speed=3)
    assert raised.value.code == "X104"
    with pytest.raises(OptionError, match="no option 'speed'"):
        xcnn.backend(xcnn.backend("numpy"), speed=3)


def test_unknown_algorithm():
    with pytest.raises(OptionError, match=r"no algorithm 'magic'.\n.*auto, literal, gemm, fft"):
        xcnn.backend("numpy", algorithm="magic")


def test_the_first_device_is_none(fake_cupy):
    fake_cupy(2)
    for name, first in (("numpy", "cpu"), ("strict", "device1"), ("cupy", "0")):
        assert xcnn.backend(f"{name}:{first}") == xcnn.backend(name)
        assert xcnn.backend(f"{name}:{first}").spec == name
    assert xcnn.backend("cupy", device=1) == xcnn.backend("cupy:1") != xcnn.backend("cupy")


def test_a_device_named_twice():
    assert xcnn.backend("strict", device="device2") == xcnn.backend("strict:device2")
    with pytest.raises(OptionError, match="names a device"):
        xcnn.backend("strict:device1", device="device2")


@pytest.mark.parametrize("name", ["numpy:1", "strict:nowhere"])
def test_a_device_that_is_not_there(name):
    with pytest.raises(BackendUnavailable, match=f'backend "{name}" was asked for; ') as raised:
        xcnn.backend(name)
    assert raised.value.code == "X302"
    assert repr(name.partition(":")[2]) in str(raised.value)


def test_an_explicit_name_never_falls_back(no_cupy):
    for choose in (xcnn.backend, xcnn.set_backend):
        with pytest.raises(BackendUnavailable) as raised:
            choose("cupy")
        assert raised.value.code == "X302"
        assert str(raised.value) == (
            '[X302] backend "cupy" was asked for; CuPy is not installed.\n'
            '  hint: pip install "xcnn[cuda13]", or "xcnn[cuda12]" for a driver of CUDA 12.'
        )
        assert isinstance(raised.value, ImportError)


def test_strict_without_its_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "array_api_strict", None)
    with pytest.raises(BackendUnavailable) as raised:
        xcnn.backend("strict")
    assert raised.value.hint == 'pip install "xcnn[strict]"'
    assert "array-api-strict is not installed" in str(raised.value)


@pytest.mark.parametrize("module", [xcnn_cupy, xcnn_strict])
def test_plugins_have_no_other_names(module):
    with pytest.raises(AttributeError, match="Nothing"):
        module.Nothing  # noqa: B018


# CuPy where there is no device. What needs one is tested on machines that have one.


@pytest.mark.parametrize("count", [None, 0])
def test_cupy_without_a_device(fake_cupy, count):
    fake_cupy(count)
    with pytest.raises(BackendUnavailable) as raised:
        xcnn.backend("cupy")
    assert str(raised.value) == (
        '[X302] backend "cupy" was asked for; CuPy 14.2 imports, but no CUDA device is visible.\n'
        '  hint: nvidia-smi shows whether the driver sees one; backend "numpy" needs none.'
    )


def test_real_cupy_without_a_device():
    cupy = pytest.importorskip("cupy")
    if cupy.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(BackendUnavailable, match=r"CuPy \d+\.\d+ imports, but no CUDA device is visible"):
        xcnn.backend("cupy")


@pytest.mark.parametrize("name", ["cupy:2", "cupy:-1", "cupy:first"])
def test_cupy_devices_are_counted(fake_cupy, name):
    fake_cupy(2)
    assert [xcnn.backend(spec).number for spec in ("cupy", "cupy:0", "cupy:1")] == [0, 0, 1]
    with pytest.raises(BackendUnavailable, match="sees devices 0 to 1") as raised:
        xcnn.backend(name)
    assert repr(name.partition(":")[2]) in str(raised.value)


@pytest.mark.parametrize("library", ["cublas", "nvrtc"])
def test_cupy_without_a_library(fake_cupy, library):
    fake_cupy(1, missing=library)
    with pytest.raises(BackendUnavailable, match=f"sees a CUDA device but misses a library. No lib{library}") as raised:
        xcnn.backend("cupy")
    assert "[ctk]" in raised.value.hint


# The default.


def test_auto_takes_numpy_where_there_is_no_cupy_and_says_so_once(no_cupy, caplog):
    with caplog.at_level(logging.INFO, logger="xcnn"):
        chosen = [xcnn.backend("auto"), xcnn.get_backend(), xcnn.set_backend("auto"), xcnn.backend()]
    assert chosen == [xcnn.backend("numpy")] * 4
    assert [(record.name, record.levelname) for record in caplog.records] == [("xcnn", "INFO")]
    assert caplog.messages == ["backend numpy on cpu (cupy: CuPy is not installed.)"]


def test_auto_takes_cupy_where_a_device_answers(fake_cupy, caplog):
    fake_cupy(1)
    runtime = sys.modules["cupy"].cuda.runtime
    runtime.getDeviceProperties = lambda number: {"name": f"GPU {number}".encode()}
    with caplog.at_level(logging.INFO, logger="xcnn"):
        assert xcnn.backend("auto").spec == "cupy"
    assert caplog.messages == ["backend cupy on GPU 0"]
    with pytest.raises(OptionError, match='backend "cupy" has no algorithm'):
        xcnn.backend("auto", algorithm="fft")


def test_auto_passes_options_on(no_cupy):
    assert xcnn.backend("auto", algorithm="fft") == xcnn.backend("numpy", algorithm="fft")
    with pytest.raises(OptionError, match="no algorithm 'magic'"):
        xcnn.backend("auto", algorithm="magic")
    with pytest.raises(OptionError, match="no option 'speed'"):
        xcnn.backend("auto", speed=3)


@pytest.mark.parametrize("count", [None, 0, 1])
def test_auto_asks_whether_a_backend_is_there_before_its_options_count(fake_cupy, monkeypatch, count):
    """An option that only NumPy's backend has does not keep `auto` from it, unless there is a device."""

    @dataclass(frozen=True)
    class Threaded(NumpyBackend):
        threads: int = 1

    fake_cupy(count)
    monkeypatch.setattr(backends.registry, "_loaded", {"numpy": Threaded})
    if count:
        with pytest.raises(OptionError, match='backend "cupy" has no option'):
            xcnn.backend("auto", threads=2)
    else:
        assert xcnn.backend("auto", threads=2) == Threaded(threads=2)


def test_auto_where_nothing_works(monkeypatch):
    monkeypatch.setattr(backends.registry, "_entries", dict)
    with pytest.raises(BackendUnavailable, match="no backend can be used here") as raised:
        xcnn.backend("auto")
    assert len(raised.value.details) == 2


def test_set_backend():
    chosen = xcnn.set_backend("numpy", algorithm="literal")
    assert chosen == xcnn.backend("numpy", algorithm="literal")
    assert xcnn.get_backend() is chosen
    with pytest.raises(BackendError):
        xcnn.set_backend("nothing")
    assert xcnn.get_backend() is chosen  # what fails changes nothing


def test_the_variable(monkeypatch):
    monkeypatch.setenv("XCNN_BACKEND", "strict")
    assert xcnn.get_backend() == xcnn.backend("strict")
    monkeypatch.setenv("XCNN_BACKEND", "numpy")
    assert xcnn.get_backend() == xcnn.backend("strict")  # read once
    assert xcnn.set_backend("numpy") == xcnn.get_backend()


def test_an_empty_variable_is_none(monkeypatch, no_cupy):
    monkeypatch.setenv("XCNN_BACKEND", "")
    assert xcnn.get_backend() == xcnn.backend("numpy")


@pytest.mark.parametrize(("name", "error"), [("numpi", BackendError), ("cupy", BackendUnavailable)])
def test_a_bad_variable_is_named(monkeypatch, no_cupy, name, error):
    monkeypatch.setenv("XCNN_BACKEND", name)
    with pytest.raises(error, match=f'"{name}"') as raised:
        xcnn.get_backend()
    assert "XCNN_BACKEND" in str(raised.value)


def test_the_default_holds_in_threads_and_is_read_in_a_new_process():
    """It is one plain module variable, so that notebook cells and threads see what was set."""
    code = (
        "import threading, xcnn; xcnn.set_backend('strict'); seen = [];"
        "thread = threading.Thread(target=lambda: seen.append(xcnn.get_backend().spec)); thread.start(); thread.join();"
        "print(seen)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['strict']"


# What is available.


def test_available_backends_prints_a_table(no_cupy):
    found = xcnn.available_backends()
    assert list(found) == backends.backend_names() == ["cupy", "jax", "numpy", "strict", "torch"]
    assert str(found) == repr(found)
    lines = [line for line in str(found).splitlines() if not line.startswith(("jax", "torch"))]
    assert lines[0].startswith("cupy    not available  CuPy is not installed. pip install")
    assert re.fullmatch(r"numpy   cpu            numpy \S+, scipy \S+, kernels \S+", lines[1])
    assert lines[2].startswith("strict  device1        array-api-strict ")
    assert found["numpy"].available
    assert found["numpy"].versions["numpy"] == np.__version__
    assert not found["cupy"].available
    assert found["cupy"].hint.startswith("pip install")
    assert str(found["numpy"]).startswith("numpy  cpu  numpy ")


def test_available_backends_tells_of_each(backend):
    info = xcnn.available_backends()[backend.name]
    assert info.available
    assert (info.device, info.versions, info.reason) == (backend.device_name(), backend.versions(), "")
    kernels = {"kernels"} & {*info.versions}
    assert all(re.match(r"\d+\.\d+", info.versions[library]) for library in {*info.versions} - kernels)
    assert all(info.versions[name] in {*NAMES.values(), "none"} for name in kernels)
    assert len(kernels) == (backend.name == "numpy")


# Arrays come and go.


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bool"])
def test_arrays_there_and_back(backend, dtype, rng):
    x = (rng.standard_normal((3, 4)) > 0).astype(dtype)
    there = backend.asarray(x)
    assert type(there).__module__.partition(".")[0] == backend.library
    back = backend.to_numpy(there)
    assert type(back) is np.ndarray
    assert back.dtype == x.dtype
    assert np.array_equal(back, x)
    assert backend.to_numpy(backend.asarray(x, "float32")).dtype == np.float32
    assert np.array_equal(backend.to_numpy(backend.asarray(there)), x)


@pytest.mark.parametrize("x", [1.5, [1, 2], [[True]], range(3), np.float32(2)])
def test_host_values_become_arrays(backend, x):
    assert np.array_equal(backend.to_numpy(backend.asarray(x)), np.asarray(x))


def test_views_come_back_whole(backend, rng):
    x = rng.standard_normal((4, 6))
    assert np.array_equal(backend.to_numpy(backend.asarray(x)[1:, ::2].T), x[1:, ::2].T)


@pytest.mark.parametrize("name", ["numpy", "strict"])
def test_arrays_of_other_libraries_are_refused(name):
    torch = pytest.importorskip("torch")
    with pytest.raises(DTypeError, match="a Tensor is no host array") as raised:
        xcnn.backend(name).asarray(torch.ones(3))
    assert "to_numpy" in raised.value.hint


def test_a_backend_waits_for_its_device(backend):
    assert backend.synchronize() is None


def test_nothing_is_rewritten_or_compiled_by_default():
    net, step, backend = xcnn.Dense(3), lambda x: x, xcnn.backend("strict")
    assert backend.rewrite(net) is net
    assert backend.compile(step) is step


def test_strict_is_strict_only_while_it_is_active():
    """The flags of array-api-strict are the process's: another user of it must not feel them."""
    array_api_strict = pytest.importorskip("array_api_strict")
    before = array_api_strict.get_array_api_strict_flags()
    with xcnn.backend("strict").active():
        flags = array_api_strict.get_array_api_strict_flags()
        assert not flags["boolean_indexing"]
        assert not flags["data_dependent_shapes"]
    assert array_api_strict.get_array_api_strict_flags() == before
    assert before["boolean_indexing"]


def test_the_bare_contract_says_what_is_missing():
    for call in (lambda b: b.xp, lambda b: b.asarray(1), lambda b: b.to_numpy(1)):
        with pytest.raises(NotImplementedError):
            call(xcnn.Backend())


PLAIN = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize(
    ("x_shape", "k_shape", "how", "slower"),
    [
        ((64, 32, 26, 26), (64, 32, 3, 3), {}, ()),
        ((1, 1, 28, 28), (5, 1, 3, 3), {}, ()),
        ((8, 16, 64, 64), (16, 16, 15, 15), {}, ("gemm",)),
        ((8, 16, 64, 64), (16, 16, 15, 15), {"stride": (4, 4)}, ()),
        ((8, 16, 64, 64), (16, 1, 15, 15), {"groups": 16}, ("gemm",)),
        ((8, 4, 128, 128), (4, 4, 31, 31), {}, ("gemm", "native")),
        ((32, 64, 128, 128), (64, 64, 31, 31), {}, ()),  # the kernel's transforms would take 270 MB
        ((0, 4, 64, 64), (4, 4, 31, 31), {}, ()),
    ],
)
def test_auto_takes_no_transforms(monkeypatch, x_shape, k_shape, how, slower, compiled):
    """`native` where the library is, and without it matrix products; where transforms would be faster, that is told."""
    if not compiled:
        monkeypatch.setattr("xcnn_numpy.backend.native.library", lambda: None)
    elif native.library() is None:
        pytest.skip("the compiled library was not built, or is switched off")
    other = "native" if compiled else "gemm"
    auto, named = (xcnn.backend("numpy", algorithm=name) for name in ("auto", other))
    assert auto.chosen(x_shape, k_shape, **PLAIN | how) == named.chosen(x_shape, k_shape, **PLAIN | how)
    told = auto.explain(x_shape, k_shape, **PLAIN | how)
    assert ('algorithm="fft" takes it' in told.reason) is (other in slower)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("value", [1e7, np.inf, np.nan])
def test_a_cell_has_a_part_in_what_it_meets_alone(monkeypatch, value, compiled):
    """However large the kernel, and so however much faster transforms: sums of whole numbers are exact elsewhere."""
    if not compiled:
        monkeypatch.setattr("xcnn_numpy.backend.native.library", lambda: None)
    elif native.library() is None:
        pytest.skip("the compiled library was not built, or is switched off")
    backend = xcnn.backend("numpy")
    x, k = np.ones((4, 1, 96, 96), "float32"), np.full((1, 1, 31, 31), 3, "float32")
    x[2, 0, 90, 91] = value
    y = backend.correlate(x, k, **PLAIN)
    far = np.ones(y.shape, dtype=bool)
    far[2, 0, 60:, 61:] = False
    np.testing.assert_array_equal(y[far], 3 * 31 * 31)
    assert not np.any(y[~far] == 3 * 31 * 31)
    dx = backend.correlate_input_adjoint(x, k, (4, 1, 126, 126), **PLAIN)
    met = np.zeros(dx.shape, dtype=bool)
    met[2, 0, 90:121, 91:122] = True
    inside = np.zeros(dx.shape, dtype=bool)
    inside[:, :, 30:96, 30:96] = True
    np.testing.assert_array_equal(dx[inside & ~met], 3 * 31 * 31)
    assert np.all(np.isfinite(dx[~met]))


def test_native_needs_the_library(monkeypatch):
    monkeypatch.setattr("xcnn_numpy.backend.native.library", lambda: None)
    with pytest.raises(BackendUnavailable, match=r'X302.*its algorithm "native" needs the compiled library') as raised:
        xcnn.backend("numpy", algorithm="native")
    assert 'algorithm="auto"' in raised.value.hint
    net = xcnn.Sequential(xcnn.Conv2D(3, 3), xcnn.ReLU())
    x, t = np.ones((2, 1, 5, 5), dtype="float32"), np.ones((2, 3, 3, 3), dtype="float32")
    assert xcnn.Model(net, (1, 5, 5), loss="mse", backend="numpy").step(x, t) > 0


def test_the_library_switched_off_is_plain_numpy():
    """Nothing is warned of."""
    script = """
import warnings, logging, numpy as np, xcnn
from xcnn_numpy import update
warnings.simplefilter("error")
logging.basicConfig(level="WARNING")
net = xcnn.Sequential(xcnn.Conv2D(3, 3), xcnn.BatchNorm(), xcnn.ReLU(), xcnn.Flatten(), xcnn.Dense(2))
model = xcnn.Model(net, (1, 5, 5), backend="numpy")
model.fit(np.ones((4, 1, 5, 5), "float32"), [0, 1, 0, 1], progress="none")
assert update.implementation()[0] is update.by_blocks
"""
    environment = {**os.environ, "XCNN_NATIVE": "0"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_every_backend_of_the_suite_is_here(backend_reasons):
    """The one place that says on which backends nothing was tested, and why."""
    if backend_reasons:
        pytest.skip("; ".join(f"no test ran on {name}: {reason}" for name, reason in backend_reasons.items()))
    assert {"numpy", "strict", "cupy"} <= set(backends.backend_names())
