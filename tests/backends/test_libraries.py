"""Array libraries without a plug-in: by their module's name, with the reference's primitives; and what they lack."""

import ast
import importlib
import pickle
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import xcnn
from xcnn.backends import libraries
from xcnn.backends.libraries import FUNCTIONS, LibraryBackend, library_backend
from xcnn.checking.backend import check_backend
from xcnn.errors import BackendError, BackendUnavailable, DTypeError
from xcnn.training.optimizer import _norm

array_api_strict = pytest.importorskip("array_api_strict")


def test_a_library_by_its_modules_name():
    backend = xcnn.backend("array_api_strict")
    assert isinstance(backend, LibraryBackend)
    assert backend.name == backend.spec == "array_api_strict"
    assert backend == xcnn.backend("array_api_strict")
    assert repr(backend) == "xcnn.backend('array_api_strict')"
    assert backend.versions() == {"array_api_strict": array_api_strict.__version__}
    x = backend.asarray([[1.0, 2.0]], "float32")
    assert type(x).__module__.startswith("array_api_strict")
    np.testing.assert_array_equal(backend.to_numpy(x), np.asarray([[1, 2]], dtype="float32"))


def test_all_of_xcnn_computes_on_it():
    failed = [(row.name, row.message) for row in check_backend(xcnn.backend("array_api_strict")) if not row.ok]
    assert failed == []


def test_it_trains_as_numpy_does():
    rng = np.random.default_rng(0)
    x, t = rng.random((20, 1, 8, 8)), rng.integers(0, 3, 20)
    net = xcnn.Sequential(xcnn.Conv2D(4, 3), xcnn.ReLU(), xcnn.Dropout(0.3), xcnn.Flatten(), xcnn.Dense(3))
    models = [xcnn.Model(net, (1, 8, 8), dtype="float64", backend=name) for name in ("numpy", "array_api_strict")]
    for model in models:
        model.fit(x, t, epochs=3, batch_size=8, progress="none")
    first, second = ([*xcnn.core.tree.leaves(m.to("numpy").weights)] for m in models)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)


def test_a_device_of_the_library():
    backend = library_backend("array_api_strict")
    other = str(array_api_strict.Device("device1"))
    there = backend(device=other)
    assert str(there.asarray(1.0).device) == other
    assert there.of(there.asarray(1.0)) == there
    assert backend.of(backend().asarray(1.0)) == backend()
    with pytest.raises(BackendUnavailable, match="names no device 'moon'"):
        xcnn.backend("array_api_strict:moon").asarray(1.0)


def test_pickled():
    backend = library_backend("array_api_strict")(fuse=False)
    assert pickle.loads(pickle.dumps(backend)) == backend


def test_arrays_of_others_are_refused():
    torch = pytest.importorskip("torch")
    with pytest.raises(DTypeError, match="no host array"):
        xcnn.backend("array_api_strict").asarray(torch.ones(2))


def test_numpy_itself_is_the_reference():
    """What the parity report compares with: NumPy's arrays, the reference's primitives, no fusion."""
    reference = library_backend("numpy")()
    assert reference.correlate is xcnn.core.reference.correlate
    x = np.ones((1, 1, 3, 3))
    assert type(reference.asarray(x)) is np.ndarray


@pytest.mark.parametrize(("name", "hint"), [("json", ""), ("xcnn", ""), ("no_such_library", "installed are")])
def test_modules_that_make_no_arrays(name, hint):
    with pytest.raises(BackendError, match=f'there is no backend "{name}"') as raised:
        xcnn.backend(name)
    assert raised.value.code == "X303"
    assert hint in raised.value.hint


@pytest.mark.filterwarnings("ignore:The chararray class is deprecated:DeprecationWarning")
@pytest.mark.parametrize(("name", "kind"), [("numpy.ma", "MaskedArray"), ("numpy.char", "chararray")])
def test_arrays_that_are_numpys_with_other_operations(name, kind):
    with pytest.raises(BackendError, match=rf'X303\] there is no backend "{name}": it makes \w*{kind}') as raised:
        xcnn.backend(name)
    assert xcnn.backend(raised.value.hint.split('"')[1]).name == "numpy"


def test_a_library_whose_arrays_lie_deeper(fake):
    """dask's are in dask.array."""
    fake("acme_arrays.array")
    with pytest.raises(BackendError) as raised:
        xcnn.backend("acme_arrays")
    assert raised.value.hint == 'its arrays are in "acme_arrays.array".'


class Array(np.ndarray):
    """Another library's array, so to say."""


class Namespace(types.ModuleType):
    """NumPy's functions as another library's, some of which may be missing or wrong."""

    def __init__(self, name, without=(), wrong=None):
        super().__init__(name)
        self.without, self.wrong = without, wrong or {}

    def __getattr__(self, name):
        if name in self.without or name.startswith("__"):
            raise AttributeError(name)
        return self.wrong.get(name) or getattr(np, name)

    def asarray(self, x, **how):
        return np.asarray(x, **how).view(Array)


@pytest.fixture
def fake(monkeypatch):
    """Installs a library of this name."""

    def install(name, **how):
        parent, _, child = name.rpartition(".")
        module = Namespace(name, **how)
        if parent:
            monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
            setattr(sys.modules[parent], child, module)
        monkeypatch.setitem(sys.modules, name, module)
        known = libraries.array_namespace
        monkeypatch.setattr(libraries, "array_namespace", lambda x: module if isinstance(x, Array) else known(x))

    caches = (libraries.library_backend, libraries.namespace_of, libraries._lacking)
    yield install
    for cache in caches:
        cache.cache_clear()
    xcnn.backends.registry._loaded.clear()


def test_what_a_library_lacks_is_said(fake):
    fake("acme", without=("argmax", "log1p"))
    with pytest.raises(BackendUnavailable) as raised:
        xcnn.backend("acme")
    assert raised.value.code == "X302"
    assert "acme lacks what xcnn's layers call: the functions argmax, log1p." in str(raised.value)


def test_a_library_needs_no_extension_of_the_standard(fake):
    """Norms are roots of sums where there is no linalg, of numbers too whose squares the type does not have."""
    fake("acme", without=("linalg",))
    backend = xcnn.backend("acme")
    for g in ([3.0, -4.0], [3e30, 4e30], [3e-30, 4e-30], [0.0, 0.0], [np.inf, 1.0]):
        norm = _norm(backend.asarray(g, "float32"))
        np.testing.assert_allclose(float(norm), np.linalg.norm(np.asarray(g, "float64")), rtol=1e-6)
    net = xcnn.Sequential(xcnn.Conv2D(2, 3), xcnn.ReLU(), xcnn.Flatten(), xcnn.Dense(2))
    model = xcnn.Model(net, (1, 5, 5), backend=backend, optimizer=xcnn.SGD(0.1, clip_norm=1.0))
    assert model.step(np.ones((2, 1, 5, 5), "float32"), [0, 1]) > 0


class Opaque:
    """What a library calls an array, of which nobody knows the namespace or the device."""

    dtype = "float32"


@pytest.mark.parametrize("known", [False, True])
def test_arrays_that_do_not_follow_the_standard(monkeypatch, known):
    module = types.ModuleType("opaque_arrays")
    module.asarray = lambda x: Opaque()
    monkeypatch.setitem(sys.modules, "opaque_arrays", module)
    if known:  # as MLX's: there is a namespace, but arrays have no device
        monkeypatch.setattr(Opaque, "__array_namespace__", lambda self, **how: module, raising=False)
    with pytest.raises(BackendUnavailable, match="its arrays do not follow the array API standard") as raised:
        xcnn.backend("opaque_arrays")
    assert raised.value.code == "X302"
    library_backend.cache_clear()
    libraries.namespace_of.cache_clear()


def test_whole_numbers_that_can_not_be_made(fake):
    def arange(n, dtype=None, **how):
        raise NotImplementedError("no int64")

    fake("acme", wrong={"arange": arange})
    with pytest.raises(BackendUnavailable, match=r"whole numbers of 64 bits \(NotImplementedError: no int64\)"):
        xcnn.backend("acme")


@pytest.mark.parametrize("name", ["", ".", "a b", ".numpy", "numpy..ma", "os.path", "numpy:cpu:0", "no/such", "é"])
def test_no_name_is_a_raw_error(name):
    with pytest.raises((BackendError, BackendUnavailable)) as raised:
        xcnn.backend(name)
    assert raised.value.code in ("X302", "X303")


def test_functions_that_raise_or_are_wrong_are_named(fake):
    def argmax(x, axis=None):
        raise NotImplementedError("not  yet")

    fake("acme", wrong={"argmax": argmax, "flip": lambda x, axis: x})
    with pytest.raises(BackendUnavailable) as raised:
        xcnn.backend("acme")
    message = str(raised.value)
    assert "the place of the largest cell (NotImplementedError: not yet)" in message
    assert "indexing and concatenation (it gives wrong numbers)" in message
    assert "norms" not in message


def test_whole_numbers_of_32_bits_are_too_few(fake):
    fake("acme", wrong={"arange": lambda n, dtype=None, **how: np.arange(n, dtype="int32")})
    with pytest.raises(BackendUnavailable, match="whole numbers of 64 bits"):
        xcnn.backend("acme")


def test_the_list_of_functions_is_what_xcnn_calls():
    """Every `xp.name` of the modules that any library's arrays go through."""
    package = Path(xcnn.__file__).parent
    files = [*package.glob("layers/*.py"), *(package / f"{name}.py" for name in ARRAY_MODULES)]
    called = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                of = node.value
                is_xp = isinstance(of, ast.Name) and of.id == "xp"
                is_call = isinstance(of, ast.Call) and isinstance(of.func, ast.Name) and of.func.id == "namespace"
                if is_xp or is_call:
                    called.add(node.attr)
    types_and_more = {"int64", "__name__", "float32", "float64"}
    assert called - types_and_more == set(FUNCTIONS)


ARRAY_MODULES = [
    *(f"core/{name}" for name in ("arrays", "random", "reference")),
    *(f"training/{name}" for name in ("divergence", "loss_scaling", "losses", "optimizers")),
]


@pytest.mark.parametrize(("name", "why"), [("dask.array", "lazy arrays"), ("sparse", "no dense arrays")])
def test_libraries_where_they_are_installed(name, why):
    """dask.array computes all that xcnn asks; pydata/sparse is told what it lacks."""
    pytest.importorskip(name, reason=f"{name}, with its {why}, is not installed")
    if name == "sparse":
        with pytest.raises(BackendUnavailable, match=r"sparse lacks .*arange"):
            xcnn.backend(name)
        return
    backend = xcnn.backend(name)
    x, k = np.random.default_rng(0).standard_normal((2, 3, 6, 5)), np.ones((4, 3, 3, 3))
    y = backend.correlate(backend.asarray(x), backend.asarray(k), stride=(2, 1))
    np.testing.assert_allclose(backend.to_numpy(y), xcnn.core.reference.correlate(x, k, stride=(2, 1)), rtol=1e-12)
    assert importlib.import_module(name).asarray(0.0).__class__ is type(y)
