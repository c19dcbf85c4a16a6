"""cupyx.scipy.signal's own code for direct correlations, on NumPy's arrays: its one kernel is written out here.

So what it is asked is known to be asked rightly without a GPU: its arguments, the types that it takes, and which of two
arrays it exchanges. What CuPy compiles, and what it allocates, is not run.
"""

import sys
from contextlib import nullcontext
from importlib import import_module
from itertools import product
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import scipy.signal

from xcnn.core import reference
from xcnn.errors import BackendUnavailable

cupyx = pytest.importorskip("cupyx", reason="CuPy is not installed")
from xcnn_cupy import backend  # noqa: E402
from xcnn_cupy.backend import CupyBackend  # noqa: E402
from xcnn_cupy.literal import Literal  # noqa: E402

PARTS = ("signal", "fft", "ndimage", "ndimage._util", "ndimage._filters")


def a_kernel(boundary, w_shape, int_type, offsets, cval):
    """y[i] = sum of x[i - offset + n] w[n], x being `cval` around itself; a weight of 0 is passed over."""
    assert boundary == "constant"

    def run(x, w, y):
        assert w.shape == w_shape
        assert x.dtype == w.dtype == y.dtype
        y[...] = 0
        for n in product(*map(range, w_shape)):
            if w[n] != 0:
                for i in product(*map(range, y.shape)):
                    at = tuple(map(lambda a, b, c: a + b - c, i, n, offsets))
                    inside = all(0 <= a < size for a, size in zip(at, x.shape, strict=True))
                    y[i] += w[n] * (x[at] if inside else cval)

    return run


def of(x):
    return x.dtype if isinstance(x, np.ndarray) else x


@pytest.fixture(scope="module")
def signal():
    """cupyx.scipy.signal, without the parts that load CUDA's libraries."""
    parts = {name: ModuleType(name) for name in map("cupyx.scipy.{}".format, PARTS)}
    parts["cupyx.scipy.signal"].__path__ = [str(Path(cupyx.__file__).parent / "scipy" / "signal")]
    parts["cupyx.scipy.ndimage"]._util = SimpleNamespace(_get_inttype=lambda x: "int")
    parts["cupyx.scipy.ndimage"]._filters = SimpleNamespace(_get_correlate_kernel=a_kernel)
    with mock.patch.dict(sys.modules):
        for name in [name for name in sys.modules if name.startswith("cupyx.scipy.")]:
            del sys.modules[name]
        sys.modules.update(parts)
        found = import_module("cupyx.scipy.signal._signaltools")
    found._st_core.cupy = SimpleNamespace(
        ndarray=np.ndarray, array=np.array, empty=np.empty, conjugate=np.conjugate,
        ascontiguousarray=np.ascontiguousarray,
        promote_types=lambda a, b: np.promote_types(of(a), of(b)), can_cast=lambda a, b: np.can_cast(of(a), of(b)),
    )  # fmt: skip
    return found


def test_a_library_that_is_missing_is_told(monkeypatch):
    def missing(name):
        raise ImportError(f"No such file for {name}: libnvJitLink.so.13")

    monkeypatch.setattr(backend, "import_module", missing)
    backend.signal.cache_clear()
    with pytest.raises(BackendUnavailable, match=r"X302.*cupyx\.scipy\.signal.*libnvJitLink(?s:.*)\[ctk\]"):
        backend.signal()


PLANES = (((4, 5), (2, 3)), ((3, 3), (3, 3)), ((5, 4), (1, 2)), ((2, 3), (4, 5)), ((3, 5), (4, 2)), ((1, 4), (1, 1)))


@pytest.mark.parametrize("name", ["correlate2d", "convolve2d"])
@pytest.mark.parametrize("mode", ["valid", "full", "same"])
def test_planes_are_scipys(signal, monkeypatch, rng, name, mode):
    monkeypatch.setattr("xcnn_cupy.backend.signal", lambda: signal)
    monkeypatch.setattr(CupyBackend, "beside", lambda self, x: nullcontext())
    asked = getattr(CupyBackend, name)
    for shape, k_shape in PLANES:
        x, k = rng.standard_normal(shape), rng.standard_normal(k_shape)
        if mode == "valid" and any(a < b for a, b in zip(shape, k_shape, strict=True)):
            continue  # xcnn.correlate2d refuses it
        expected = getattr(scipy.signal, name)(x, k, mode)
        found = asked(object.__new__(CupyBackend), x, k, mode)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12, err_msg=f"{shape} {k_shape}")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "groups"),
    [
        ((1, 1), ((0, 0), (0, 0)), (1, 1), 1),
        ((2, 1), ((1, 0), (2, 1)), (1, 2), 1),
        ((1, 2), ((0, 1), (1, 1)), (1, 1), 2),
    ],
)
def test_maps_are_the_definitions(signal, rng, stride, padding, dilation, groups, dtype):
    how = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    x, k = rng.standard_normal((2, 4, 4, 5)).astype(dtype), rng.standard_normal((2, 4 // groups, 2, 2)).astype(dtype)
    literal, near = Literal(signal), {"rtol": 1e-5 if dtype == "float32" else 1e-12, "atol": 1e-6}
    y = reference.correlate(x, k, **how)
    dy = rng.standard_normal(y.shape).astype(dtype)
    for name, arguments in (
        ("correlate", (x, k)),
        ("correlate_input_adjoint", (dy, k, x.shape)),
        ("correlate_kernel_adjoint", (x, dy, k.shape)),
    ):
        found = getattr(literal, name)(*arguments, **how)
        assert found.dtype == dtype
        np.testing.assert_allclose(found, getattr(reference, name)(*arguments, **how), **near, err_msg=name)
