"""correlate2d, convolve2d and rot180: the article's operations on single planes."""

import numpy as np
import pytest
import scipy.signal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import xcnn
from xcnn.backends import backend_of
from xcnn.errors import BackendError, DataError, DTypeError, OptionError, ShapeError

MODES = ("valid", "full", "same")
sides = st.tuples(st.integers(1, 6), st.integers(1, 6))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["correlate2d", "convolve2d"])
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kernel=sides, beyond=sides)
def test_planes_are_scipys(backend, enough, name, mode, kernel, beyond):
    """Even and odd kernels, rows and columns that differ; in "same", a kernel may be larger than the plane."""
    if enough():
        return
    rng = np.random.default_rng(0)
    k = rng.standard_normal(kernel)
    x = rng.standard_normal(tuple(map(sum, zip(kernel, beyond, strict=True))) if mode == "valid" else beyond)
    y = getattr(xcnn, name)(backend.asarray(x), backend.asarray(k), mode)
    assert type(y) is type(backend.asarray(x))
    expected = getattr(scipy.signal, name)(x, k, mode)
    assert tuple(y.shape) == expected.shape
    np.testing.assert_allclose(backend.to_numpy(y), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["correlate2d", "convolve2d"])
def test_float32_stays(backend, name):
    x, k = (backend.asarray(np.ones(shape), "float32") for shape in ((5, 4), (2, 3)))
    y = backend.to_numpy(getattr(xcnn, name)(x, k))
    assert y.dtype == np.float32
    assert np.all(y == 6)


def test_the_articles_example(backend):
    """The article's drawing: a 3x3 plane and a 2x2 kernel."""
    x = backend.asarray(np.array([[1.0, 6, 2], [5, 3, 1], [7, 0, 4]]))
    k = backend.asarray(np.array([[1.0, 2], [-1, 0]]))
    assert backend.to_numpy(xcnn.correlate2d(x, k, "valid")).tolist() == [[8, 7], [4, 5]]
    assert backend.to_numpy(xcnn.convolve2d(x, k, "valid")).tolist() == [[7, 5], [11, 3]]


def test_convolution_is_correlation_with_the_rotated_kernel(backend, rng):
    x, k = (backend.asarray(rng.standard_normal(shape)) for shape in ((6, 5), (3, 2)))
    for mode in ("valid", "full"):
        turned = xcnn.correlate2d(x, xcnn.rot180(k), mode)
        np.testing.assert_allclose(
            backend.to_numpy(xcnn.convolve2d(x, k, mode)), backend.to_numpy(turned), rtol=0, atol=1e-13
        )


def test_rot180(backend, rng):
    for shape in ((2, 3), (4, 2, 3, 3)):
        k = rng.standard_normal(shape)
        assert np.array_equal(backend.to_numpy(xcnn.rot180(backend.asarray(k))), k[..., ::-1, ::-1])


def test_gradient_of_a_plane_is_the_full_convolution(backend, rng):
    """<correlate2d(x, k), dy> = <x, convolve2d(dy, k, "full")>"""
    x, k, dy = (rng.standard_normal(shape) for shape in ((6, 7), (3, 2), (4, 6)))
    there = backend.asarray
    y = backend.to_numpy(xcnn.correlate2d(there(x), there(k)))
    dx = backend.to_numpy(xcnn.convolve2d(there(dy), there(k), "full"))
    assert np.sum(y * dy) == pytest.approx(np.sum(x * dx), rel=1e-12)


@pytest.mark.parametrize("function", [xcnn.correlate2d, xcnn.convolve2d])
@pytest.mark.parametrize(
    ("x_shape", "k_shape", "mode", "error", "code", "words"),
    [
        ((1, 4, 4), (2, 2), "valid", ShapeError, "X101", "x has shape (1, 4, 4)"),
        ((4, 4), (2,), "full", ShapeError, "X101", "k has shape (2,)"),
        ((4, 0), (2, 2), "same", ShapeError, "X101", "x has shape (4, 0)"),
        ((4, 4), (5, 2), "valid", ShapeError, "X102", "a 5x2 kernel does not fit into a 4x4 plane"),
        ((4, 4), (2, 5), "valid", ShapeError, "X102", 'use mode "full" or "same"'),
        ((4, 4), (2, 2), "circular", OptionError, "X104", "got 'circular'"),
    ],
)
def test_errors(backend, function, x_shape, k_shape, mode, error, code, words):
    with pytest.raises(error) as raised:
        function(backend.asarray(np.ones(x_shape)), backend.asarray(np.ones(k_shape)), mode)
    assert raised.value.code == code
    assert words in str(raised.value)
    assert function.__name__ in str(raised.value)


def test_lists_are_planes_of_the_other_s_library(backend):
    """Whole numbers stay so; of two lists, the process's backend makes them."""
    x, k = [[1, 6, 2], [5, 3, 1], [7, 0, 4]], [[1, 2], [-1, 0]]
    for pair in ((backend.asarray(np.array(x)), k), (x, backend.asarray(np.array(k))), (x, k)):
        y = xcnn.correlate2d(*pair)
        assert xcnn.backend_of(y).to_numpy(y).tolist() == [[8, 7], [4, 5]]
        assert "int64" in str(y.dtype)
    y = xcnn.convolve2d(((1.5, 0),), [[2, 1]], "full")
    assert xcnn.backend_of(y).to_numpy(y).tolist() == [[3, 1.5, 0]]


def test_lists_that_are_no_planes_are_told():
    with pytest.raises(DataError, match=r"X203.*a plane of correlate2d is no regular array"):
        xcnn.correlate2d([[1, 2], [3]], [[1]])
    with pytest.raises(DTypeError, match=r"X103.*a plane of correlate2d must hold real numbers; it is"):
        xcnn.correlate2d([["a"]], [[1]])
    with pytest.raises(ShapeError, match=r"X101.*x has shape \(2,\)"):
        xcnn.correlate2d([1, 2], [[1]])


def test_arrays_of_two_libraries():
    strict = pytest.importorskip("array_api_strict")
    with pytest.raises(BackendError, match="x is on numpy but k is on array_api_strict") as raised:
        xcnn.correlate2d(np.ones((3, 3)), strict.ones((2, 2)))
    assert raised.value.code == "X301"


def test_backend_of_an_array(backend):
    x = backend.asarray(np.ones((2, 2)))
    assert backend_of(x) == backend
    assert type(backend_of(x).asarray(1.0)) is type(x)


def test_backend_of_an_array_on_another_device():
    strict = pytest.importorskip("array_api_strict")
    x = strict.ones((2, 2), device=strict.Device("device2"))
    found = backend_of(x)
    assert found.spec == "strict:device2"
    assert (found.asarray(1.0) + x).device == x.device


def test_pytorchs_planes():
    torch = pytest.importorskip("torch")
    x = torch.arange(12.0, dtype=torch.float64).reshape(3, 4)
    assert backend_of(x) == xcnn.backend("torch")
    y = xcnn.correlate2d(x, torch.ones((2, 2), dtype=torch.float64))
    assert isinstance(y, torch.Tensor)
    assert np.array_equal(y.numpy(), scipy.signal.correlate2d(x.numpy(), np.ones((2, 2)), "valid"))


# Types

KINDS = ["bool", "uint8", "int8", "int16", "uint16", "int32", "int64", "float16", "bfloat16", "float32", "float64"]


def plane(backend, values, kind):
    """An array of this type; None where the library has no halves, as the standard has none."""
    if kind == "bfloat16":
        kind = pytest.importorskip("ml_dtypes").bfloat16
    if backend.name == "strict" and np.dtype(kind).itemsize == 2 and np.dtype(kind).kind not in "iu":
        return None
    return backend.asarray(np.asarray(values).astype(kind))


def summed(x, k, turned):
    """The definition, in Python's numbers."""
    k = k[::-1, ::-1] if turned else k
    rows, columns = (n - m + 1 for n, m in zip(x.shape, k.shape, strict=True))
    return [
        [
            sum(x[p + i, q + j].item() * k[i, j].item() for i in range(k.shape[0]) for j in range(k.shape[1]))
            for q in range(columns)
        ]
        for p in range(rows)
    ]


@pytest.mark.parametrize("name", ["correlate2d", "convolve2d"])
@pytest.mark.parametrize("x_kind", KINDS)
def test_planes_of_any_real_types_have_one_rule(backend, name, x_kind, rng):
    """One floating-point type stays, whole numbers and bools are int64, other pairs float64. Nothing wraps."""
    for k_kind in KINDS:
        high = min(120, *(1 if kind == "bool" else 16 if "float" in kind else 120 for kind in (x_kind, k_kind)))
        numbers = rng.integers(0, high + 1, (5, 4)), rng.integers(0, high + 1, (2, 3))
        x, k = plane(backend, numbers[0], x_kind), plane(backend, numbers[1], k_kind)
        if x is None or k is None:
            continue
        y = getattr(xcnn, name)(x, k)
        stays = x_kind == k_kind and "float" in x_kind
        host = backend.to_numpy(y)
        whole = "float" not in x_kind + k_kind
        assert str(host.dtype) == (x_kind if stays else "int64" if whole else "float64")
        expected = np.array(summed(*numbers, name == "convolve2d"), "float64")
        assert np.array_equal(host, expected.astype(host.dtype) if stays else expected), (x_kind, k_kind)


def test_bytes_do_not_wrap(backend):
    x, k = (backend.asarray(np.array(a, "uint8")) for a in ([[200, 100], [50, 3]], [[2, 3], [1, 2]]))
    assert backend.to_numpy(xcnn.correlate2d(x, k)).tolist() == [[756]]


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_halves_are_summed_in_float32_and_rounded_once(backend, kind, rng):
    numbers = rng.standard_normal((40, 40)), rng.standard_normal((30, 30))
    x, k = (plane(backend, a, kind) for a in numbers)
    if x is None:
        pytest.skip("the standard has no halves.")
    got = backend.to_numpy(xcnn.correlate2d(x, k))
    wide = [backend.to_numpy(a).astype("float64") for a in (x, k)]
    expected = scipy.signal.correlate2d(*wide, "valid")
    digits = {"float16": 2.0**-11, "bfloat16": 2.0**-8}[kind]
    np.testing.assert_allclose(got.astype("float64"), expected, rtol=1.01 * digits, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("function", [xcnn.correlate2d, xcnn.convolve2d])
@pytest.mark.parametrize("which", ["x", "k"])
def test_complex_planes_are_refused(backend, function, which):
    planes = {"x": np.ones((3, 3)), "k": np.ones((2, 2))}
    planes[which] = planes[which].astype("complex128")
    with pytest.raises(DTypeError, match=rf"X103.*{function.__name__} takes real numbers; {which} is complex128"):
        function(*(backend.asarray(a) for a in planes.values()))
