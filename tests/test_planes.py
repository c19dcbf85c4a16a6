"""correlate2d, convolve2d and rot180: the article's operations on single planes."""

import numpy as np
import pytest
import scipy.signal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import xcnn
from xcnn.backends import backend_of
from xcnn.errors import BackendError, DTypeError, OptionError, ShapeError

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


def test_lists_are_no_arrays():
    with pytest.raises(DTypeError, match="k is a list"):
        xcnn.correlate2d(np.ones((3, 3)), [[1.0]])


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
