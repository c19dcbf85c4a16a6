"""Backends from elsewhere: found by their entry point, imported when asked for; a broken one breaks no other."""

import importlib
import sys
import textwrap

import numpy as np
import pytest

import xcnn
from xcnn import backends
from xcnn.backends.libraries import library_backend
from xcnn.checking.backend import check_backend
from xcnn.errors import BackendUnavailable

GOOD = """
    from dataclasses import dataclass
    from typing import ClassVar

    import numpy as np

    from xcnn import Backend
    from xcnn.core import reference


    class Array(np.ndarray):
        '''Another library's array, so to say.'''


    @dataclass(frozen=True, repr=False)
    class AcmeBackend(Backend):
        rounds: int = 1

        name: ClassVar[str] = "acme"
        library: ClassVar[str] = "acme_xcnn"
        algorithms: ClassVar[tuple[str, ...]] = ("auto", "careful")

        @property
        def xp(self):
            return np

        def asarray(self, x, dtype=None):
            return np.asarray(x, dtype=dtype).view(Array)

        def to_numpy(self, x):
            return np.asarray(x)

        def device_name(self):
            return "anvil"

        def versions(self):
            return {"acme": "3.1"}

        def correlate2d(self, x, k, mode="valid"):
            return (reference.correlate2d(np.asarray(x), np.asarray(k), mode) + 0.0).view(Array)
"""

WRONG = """
    from acme_xcnn import AcmeBackend


    class WrongBackend(AcmeBackend):
        def sum_pool(self, x, size, *, stride, padding=((0, 0), (0, 0))):
            return super().sum_pool(x, size, stride=stride, padding=padding) * (1 + 1e-9)
"""

BROKEN = {
    "raises": 'raise RuntimeError("no\\n   anvil here")',
    "exits": "import sys; sys.exit(3)",
    "misses": "import a_library_that_is_not_there",
    "garbled": "def (",
    "no_class": "TheBackend = 3",
    "another_class": "class TheBackend: pass",
    "nameless": "x = 1",
    "unstartable": """
        from xcnn import Backend
        class TheBackend(Backend):
            def __post_init__(self):
                raise OSError("the anvil is hot")
    """,
    "mute": """
        from xcnn import Backend
        class TheBackend(Backend):
            def versions(self):
                raise KeyError("version")
    """,
    "declining": """
        from xcnn import Backend
        from xcnn.errors import BackendUnavailable
        class TheBackend(Backend):
            def __post_init__(self):
                raise BackendUnavailable("X302", "there is no anvil.", hint="buy one.")
    """,
}
REASONS = {
    "raises": "it can't be imported: RuntimeError: no anvil here",
    "exits": "it can't be imported: SystemExit: 3",
    "misses": "it can't be imported: ModuleNotFoundError: No module named 'a_library_that_is_not_there'",
    "garbled": "it can't be imported: SyntaxError: ",
    "no_class": "broken_no_class:TheBackend is no xcnn.Backend but 3.",
    "another_class": "broken_another_class:TheBackend is no xcnn.Backend but <class ",
    "nameless": "it can't be imported: AttributeError: ",
    "unstartable": "it can't be started: OSError: the anvil is hot",
    "mute": "it can't be asked: KeyError: 'version'",
    "declining": "there is no anvil.",
}


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a module with an entry point, as pip would: a file, and a dist-info beside it."""
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("_loaded", "_owners"):
        monkeypatch.setattr(backends.registry, name, {})
    installed = []

    def put(name, module, attribute, source):
        (tmp_path / f"{module}.py").write_text(textwrap.dedent(source))
        info = tmp_path / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[xcnn.backends]\n{name} = {module}:{attribute}\n")
        importlib.invalidate_caches()
        installed.append(module)

    yield put
    for module in installed:
        sys.modules.pop(module, None)


@pytest.fixture
def acme(install):
    install("acme", "acme_xcnn", "AcmeBackend", GOOD)


def test_it_is_found_and_not_imported_before_it_is_asked_for(acme):
    assert "acme" in backends.backend_names()
    xcnn.backend("numpy")
    assert "acme_xcnn" not in sys.modules
    assert xcnn.backend("acme").name == "acme"
    assert "acme_xcnn" in sys.modules


def test_it_is_listed(acme):
    info = xcnn.available_backends()["acme"]
    assert (info.available, info.device, info.versions) == (True, "anvil", {"acme": "3.1"})
    assert "acme    anvil" in str(xcnn.available_backends())


def test_it_takes_its_own_options(acme):
    made = xcnn.backend("acme:forge", rounds=3, algorithm="careful")
    assert (made.device, made.rounds, made.algorithm) == ("forge", 3, "careful")
    assert repr(made) == "xcnn.backend('acme:forge', algorithm='careful', rounds=3)"


def test_it_computes(acme, rng):
    made = xcnn.backend("acme")
    x, k = made.asarray(rng.standard_normal((4, 5))), made.asarray(rng.standard_normal((2, 2)))
    assert backends.backend_of(x) == made
    y = xcnn.correlate2d(x, k)
    assert type(y).__module__ == "acme_xcnn"
    np.testing.assert_allclose(np.asarray(y), xcnn.correlate2d(np.asarray(x), np.asarray(k)), rtol=0, atol=1e-13)


def test_it_runs_layers(acme, rng):
    made = xcnn.backend("acme")
    net = xcnn.Sequential(xcnn.Conv2D(3, 3), xcnn.ReLU(), xcnn.Flatten(), xcnn.Dense(2))
    weights, shape = net.init(rng, (1, 6, 6))
    rows = list(check_backend(made, [(net, (1, 6, 6))]))
    assert [row.message for row in rows if not row.ok] == []
    assert shape == (2,)
    assert weights["dense1"]["kernel"].shape == (48, 2)


def test_a_wrong_one_is_caught(acme, install):
    install("wrong", "wrong_xcnn", "WrongBackend", WRONG)
    failed = {
        row.name: row.message for row in check_backend(xcnn.backend("wrong"), [(xcnn.AveragePool2D(), (1, 4, 4))])
    }
    named = [name for name, message in failed.items() if message]
    assert named[0] == "sum_pool"
    assert "differs from the reference" in failed["sum_pool"]


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_one_is_told_and_breaks_no_other(install, kind):
    install("broken", f"broken_{kind}", "TheBackend", BROKEN[kind])
    found = xcnn.available_backends()
    assert found["numpy"].available
    assert not found["broken"].available
    assert found["broken"].reason.startswith(REASONS[kind])
    assert "\n" not in found["broken"].reason
    assert xcnn.backend("numpy").name == "numpy"
    assert backends.backend_of(np.ones(2)).name == "numpy"
    if kind != "mute":
        with pytest.raises(BackendUnavailable, match='backend "broken" was asked for; ') as raised:
            xcnn.backend("broken")
        assert raised.value.code == "X302"
        assert REASONS[kind] in str(raised.value)


def test_the_plugin_of_a_librarys_own_name_owns_its_arrays(install):
    """Another may claim NumPy's arrays too, and come first in the alphabet."""
    install("acme", "acme_xcnn", "AcmeBackend", GOOD.replace('= "acme_xcnn"', '= "numpy"'))
    assert xcnn.backend("acme").library == "numpy"
    assert backends.backend_of(np.ones(2)).name == "numpy"


@pytest.mark.parametrize("package", ["aaa", "zzz"])
def test_xcnns_own_names_are_no_others_to_take(package, install, caplog):
    ours = backends.registry._entries()["numpy"].value
    backends.registry._tell_once.cache_clear()
    install("numpy", package, "Evil\x1b[2J", "raise SystemExit")
    for _ in range(2):
        assert xcnn.backend("numpy").name == "numpy"
        assert backends.registry._entries()["numpy"].value == ours
    (record,) = caplog.records
    assert f'the package {package} brings a backend "numpy" too' in record.getMessage()
    assert "left out: that of xcnn goes by this name" in record.getMessage()


def test_of_two_others_the_first_by_its_packages_name_stays(install, caplog):
    install("acme", "zzz_xcnn", "AcmeBackend", "raise SystemExit")
    install("acme", "acme_xcnn", "AcmeBackend", GOOD)
    assert xcnn.backend("acme").device_name() == "anvil"
    assert 'the package zzz_xcnn brings a backend "acme" too' in caplog.text


def test_arrays_that_no_working_plugin_claims(install, monkeypatch):
    """A broken plug-in is passed by when the owner of an array is looked for; then the library's own name serves."""
    torch = pytest.importorskip("torch")
    install("broken", "broken_raises", "TheBackend", BROKEN["raises"])
    others = {name: entry for name, entry in backends.registry._entries().items() if name != "torch"}
    monkeypatch.setattr(backends.registry, "_entries", lambda: others)
    assert type(backends.backend_of(torch.ones(2))) is library_backend("torch")


def test_installed_while_the_process_runs(install):
    """A name that was unknown is looked for again: a notebook may have installed it meanwhile."""
    with pytest.raises(xcnn.errors.BackendError):
        xcnn.backend("acme")
    install("acme", "acme_xcnn", "AcmeBackend", GOOD)
    assert xcnn.backend("acme").name == "acme"
