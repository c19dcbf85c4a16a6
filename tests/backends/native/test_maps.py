"""The algorithm `native`: its maps held to the reference and PyTorch; bits, layouts, types, what is not finite."""

import ctypes
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from correlations import Problem, maps, pytorch
from draws import draws
from hypothesis import given, settings
from hypothesis import strategies as st
from xcnn_native import library as native
from xcnn_numpy.native import maps as tables

import xcnn
from xcnn.checking.gradients import ReferenceBackend
from xcnn.core import reference
from xcnn.core.windows import extent

if native.library() is None:
    pytest.skip("the compiled library was not built, or is switched off", allow_module_level=True)

TYPES = ["float32", "float64"]
drawn = settings(deadline=None, max_examples=draws(60))


def backend(threads=2):
    return xcnn.backend("numpy", algorithm="native", threads=threads)


def gemm():
    return xcnn.backend("numpy", algorithm="gemm")


def scales(problem):
    """For each of the three maps its largest sum of absolute terms: what rounding is relative to."""
    x, k, dy = (np.abs(a) for a in problem.arrays())
    sums = (
        reference.correlate(x, k, **problem.how),
        reference.correlate_input_adjoint(dy, k, problem.x_shape, **problem.how),
        reference.correlate_kernel_adjoint(x, dy, problem.k_shape, **problem.how),
    )
    return [np.max(a, initial=0.0) for a in sums]


@cache
def known(problem):
    """PyTorch's maps and their scales, for problems that several tests have."""
    return pytorch(problem), scales(problem)


def errors(got, exact, problem, known_scales=None):
    """The largest absolute error of each map, relative to its scale."""
    found = []
    for a, b, scale in zip(got, exact, known_scales or scales(problem), strict=True):
        assert a.shape == b.shape
        found.append(np.max(np.abs(a - b), initial=0.0) / (scale or 1.0))
    return found


@st.composite
def problems(draw):
    """Widths around the lengths of vectors, images of one cell, padding larger than the kernel, one channel a group."""
    both = st.tuples(st.integers(1, 3), st.integers(1, 3))
    kernel, stride, dilation = draw(st.tuples(st.integers(1, 5), st.integers(1, 7))), draw(both), draw(both)
    padding = draw(st.just(((0, 0), (0, 0))) | st.tuples(*[st.tuples(st.integers(0, 9), st.integers(0, 9))] * 2))
    wanted = draw(st.tuples(st.integers(1, 9), st.sampled_from([1, 2, 5, 7, 8, 15, 16, 17, 33])))
    sizes = tuple(
        max(n, extent(k, d) - sum(around)) for n, k, d, around in zip(wanted, kernel, dilation, padding, strict=True)
    )
    channels, filters = draw(
        st.sampled_from(
            [
                (1, 1),
                (1, 2),
                (2, 3),
                (3, 1),
                (5, 9),
                (4, 17),
                (8, 16),
                (17, 40),
                (9, 6),
                (2, 2),
                (4, 4),
                (8, 8),
                (20, 8),
            ]
        )
    )
    batch, groups = draw(st.integers(0, 5)), draw(st.sampled_from([1, 1, 2, 4, 19]))
    return Problem(batch, groups, channels, filters, sizes, kernel, stride, padding, dilation)


@drawn
@given(problem=problems())
def test_float64_is_the_reference(problem):
    got = maps(backend(), problem)
    assert max(errors(got, maps(ReferenceBackend(), problem), problem)) <= 1e-14
    assert [a.dtype for a in got] == [np.float64] * 3


@settings(drawn, max_examples=draws(30))
@given(problem=problems())
def test_float64_is_pytorchs(problem):
    assert max(errors(maps(backend(), problem), pytorch(problem), problem)) <= 1e-14


@drawn
@given(problem=problems())
def test_float32_rounds_no_worse_than_a_matrix_product(problem):
    """At most four times gemm's error, or twice the spacing of float32 where gemm happens to be exact."""
    rounded = [a.astype("float32").astype("float64") for a in problem.arrays()]
    problem = replace(problem, given=tuple(rounded))
    exact = maps(ReferenceBackend(), problem)
    mine, products = (errors(maps(b, problem, "float32"), exact, problem) for b in (backend(), gemm()))
    for a, b in zip(mine, products, strict=True):
        assert a <= max(4 * b, 2 * np.finfo("float32").eps)


def many(batch, groups, channels, filters, sizes, kernel, stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1)):
    """A problem with enough work that several threads share it."""
    return Problem(batch, groups, channels, filters, sizes, kernel, stride, padding, dilation)


AROUND = ((1, 1), (1, 1))
LARGE = [
    many(9, 1, 16, 24, (26, 26), (3, 3)),
    many(40, 1, 24, 40, (7, 7), (3, 3), padding=AROUND),
    many(5, 1, 16, 33, (29, 31), (3, 3), (2, 2), AROUND),
    many(4, 16, 1, 2, (40, 37), (5, 5), padding=((2, 2), (2, 2))),
    many(33, 1, 64, 48, (6, 6), (1, 1)),
    many(2, 1, 128, 96, (5, 5), (3, 3), padding=AROUND),  # a large kernel, few pixels
    many(3, 1, 3, 64, (60, 50), (7, 7), (2, 2), ((3, 3), (3, 3))),
    many(3, 1, 32, 5, (30, 30), (3, 3), padding=AROUND),  # few filters
    many(3, 1, 6, 16, (12, 12), (5, 5)),  # few channels
    many(2, 1, 8, 8, (20, 33), (3, 3), padding=AROUND),  # half a vector of filters: pixels are the lanes
    many(2, 1, 3, 7, (20, 19), (5, 4)),
    many(2, 1, 16, 8, (9, 40), (1, 3), padding=((0, 0), (1, 1))),
    many(2, 19, 1, 1, (40, 37), (7, 7), (1, 1), ((3, 3), (3, 3))),
    many(2, 19, 1, 1, (41, 37), (3, 4), (2, 3), ((3, 3), (3, 3)), (2, 1)),
    many(3, 8, 4, 4, (28, 28), (3, 3), padding=AROUND),
    many(9, 7, 8, 8, (9, 9), (3, 3), (2, 2), AROUND),  # several images in a band
    many(2, 9, 2, 2, (40, 37), (5, 4), (1, 2), ((2, 2), (2, 2))),
    many(64, 40, 1, 1, (4, 4), (3, 3), (2, 2), AROUND),
    many(2, 1, 8, 16, (1, 5000), (1, 9), padding=((0, 0), (4, 4))),  # long rows, parted
    many(2, 1, 1, 4, (1, 9000), (1, 9), padding=((0, 0), (4, 4))),
    many(2, 12, 1, 1, (3, 700), (3, 3), padding=AROUND),
    many(2, 3, 1, 16, (64, 64), (3, 3), padding=AROUND),  # a band of a batch has other rows than one of an image
    many(3, 32, 1, 32, (20, 20), (3, 3), padding=AROUND),
    many(2, 16, 1, 24, (33, 33), (5, 5), (2, 2), ((2, 2), (2, 2))),
    many(2, 1, 8, 16, (3, 1), (2, 1), (2, 1)),  # a phase of dX reaches beyond dY
    many(2, 1, 24, 24, (20, 20), (3, 3), padding=((9, 9), (9, 9)), dilation=(9, 9)),  # taps have rows of their own
    many(2, 1, 48, 24, (20, 20), (3, 3), (5, 4), padding=((9, 9), (9, 9)), dilation=(3, 2)),
    many(30, 1, 16, 8, (64, 64), (1, 1)),  # so many pixels that sums go on in double precision
    many(31, 1, 8, 8, (64, 62), (3, 3)),
    many(1, 1, 32, 7, (1, 1), (1, 1)),  # products of one pixel, few filters
    many(4, 1, 24, 8, (28, 28), (1, 1)),  # half a vector of filters, whose slopes are read as they lie
    many(4, 1, 20, 40, (30, 28), (1, 1), (2, 2)),
    many(2, 1, 192, 64, (56, 56), (3, 3), padding=AROUND),  # a large kernel, and images beyond what a band takes
    many(3, 1, 20, 24, (28, 28), (5, 5), padding=((2, 2), (2, 2))),  # columns are parted within the image only
    many(3, 1, 20, 16, (28, 28), (5, 5), padding=((2, 2), (2, 2))),  # a single vector of filters: rows alone
    many(2, 32, 6, 6, (14, 14), (3, 3), padding=AROUND),  # so many groups that each is one unit
    many(2, 32, 4, 8, (9, 9), (3, 3), padding=AROUND),
    many(2, 30, 8, 4, (9, 9), (1, 1)),
    many(2, 3, 1, 8, (9, 9), (9, 9)),  # one result a group, whose filters are lanes of one map, and products no chain
    many(2, 3, 1, 2, (1, 4), (1, 4)),
    many(8, 1, 160, 48, (60, 60), (1, 1)),  # X comes from memory
    many(8, 1, 48, 160, (60, 60), (1, 1)),  # so does dY
]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("problem", LARGE)
def test_bits_know_neither_threads_nor_the_batch(problem, dtype):
    one, (exact, scale) = maps(backend(1), problem, dtype), known(problem)
    assert max(errors(one, exact, problem, scale)) <= (1e-6 if dtype == "float32" else 2e-15)
    for threads in (2, 3, 7):
        for a, b in zip(maps(backend(threads), problem, dtype), one, strict=True):
            np.testing.assert_array_equal(a, b)
    x, k, dy = problem.arrays()
    for n in (0, problem.batch - 1):
        alone = replace(problem, batch=1, given=(x[n : n + 1], k, dy[n : n + 1]))
        for a, b in zip(maps(backend(3), alone, dtype)[:2], one[:2], strict=True):
            np.testing.assert_array_equal(a[0], b[n])


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("cells", "units"), [(784, 512), (3380, 100), (700, 52), (260, 33), (2000, 1000), (900, 17), (300, 7), (16500, 40)]
)
def test_a_matrix_that_meets_few_samples_is_shared_out(cells, units, dtype):
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(shape).astype(dtype) for shape in ((2, cells), (cells, units)))
    exact = x.astype("float64") @ w.astype("float64")
    for samples in (1, 2):
        pixels = x[:samples, :, None, None]
        made = [backend(n).correlate(pixels, w.T[:, :, None, None])[:, :, 0, 0] for n in (1, 2, 3, 7)]
        assert np.abs(made[0] - exact[:samples]).max() <= 4 * np.finfo(dtype).eps * cells**0.5 * np.abs(exact).max()
        assert all(np.array_equal(made[0], other) for other in made[1:])


@pytest.mark.parametrize(
    "name", [name for names in native.SETS.values() for name in names if "v4" in names or "neon" in names]
)
def test_every_instruction_set(name, monkeypatch, request):
    loaded = ctypes.CDLL(str(native.PATH))
    if name not in native.SETS[loaded.instruction_set()]:
        pytest.skip(f"this processor has no {native.NAMES[name]}")
    kernels = native.Library(loaded, name)
    monkeypatch.setattr(tables, "library", lambda: kernels)
    for made in (tables.way, tables.table):
        request.addfinalizer(made.cache_clear)  # also where PyTorch is not installed: no other test may meet these
        made.cache_clear()
    for problem in LARGE[::3]:
        exact, scale = known(problem)
        for dtype, limit in (("float32", 1e-6), ("float64", 2e-15)):
            assert max(errors(maps(backend(), problem, dtype), exact, problem, scale)) <= limit


LAYOUTS = {
    "reversed": lambda a: np.ascontiguousarray(a[..., ::-1, ::-1])[..., ::-1, ::-1],
    "every second": lambda a: np.repeat(np.repeat(a, 2, axis=0), 2, axis=-1)[::2, :, :, ::2],
    "channels last": lambda a: np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
    "not aligned": lambda a: np.frombuffer(b"x" + a.tobytes(), dtype=a.dtype, offset=1, count=a.size).reshape(a.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("problem", [LARGE[0], LARGE[2], replace(LARGE[1], batch=3)])
def test_layouts_make_no_difference(problem, layout):
    x, k, dy = (a.astype("float32") for a in problem.arrays())
    expected = maps(backend(), problem, "float32")
    sent = [LAYOUTS[layout](a).view() for a in (x, k, dy)]
    for a in sent:
        a.flags.writeable = False
    x, k, dy = sent
    got = (
        backend().correlate(x, k, **problem.how),
        backend().correlate_input_adjoint(dy, k, problem.x_shape, **problem.how),
        backend().correlate_kernel_adjoint(x, dy, problem.k_shape, **problem.how),
    )
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a, b)


KINDS = [
    ("float16", "float16"),
    ("float32", "float16"),
    ("float32", "float64"),
    ("float64", "float32"),
    ("int64", "int64"),
    ("uint8", "float32"),
    ("int32", "float32"),
]


@pytest.mark.parametrize(("x_type", "other_type"), KINDS)
def test_types_are_those_of_gemm(x_type, other_type):
    problem = replace(LARGE[3], batch=2, sizes=(9, 8))
    x, k, dy = (np.round(3 * np.abs(a)) for a in problem.arrays())
    x, k, dy = x.astype(x_type), k.astype(other_type), dy.astype(other_type)
    mine, products = (
        (
            b.correlate(x, k, **problem.how),
            b.correlate_input_adjoint(dy, k, problem.x_shape, **problem.how),
            b.correlate_kernel_adjoint(x, dy, problem.k_shape, **problem.how),
        )
        for b in (backend(), gemm())
    )
    for a, b in zip(mine, products, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)  # sums of small whole numbers are exact


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "problem",
    [
        Problem(2, 1, 2, 3, (9, 20), (3, 3), (1, 1), ((0, 0), (0, 0)), (1, 1)),
        Problem(3, 1, 2, 3, (6, 7), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)),
        Problem(2, 2, 1, 2, (9, 20), (3, 2), (2, 3), ((2, 0), (0, 1)), (1, 2)),
    ],
)
def test_what_is_not_finite_comes_out(problem, value):
    """Y has NaN and infinity just where the reference has; and so has dX, but for strides.

    There the reference multiplies the kernel with zeros that it puts between the cells of dY, and has NaN at more
    places. DK has it just where the reference has: a tap that does not meet a cell knows nothing of it.
    """
    x, k, dy = problem.arrays()
    x[0, 0, 4, 3] = dy[1, 1, 2, 3] = value
    with np.errstate(invalid="ignore"):
        y = reference.correlate(x, k, **problem.how)
        dx = reference.correlate_input_adjoint(dy, k, problem.x_shape, **problem.how)
        dk = reference.correlate_kernel_adjoint(x, dy, problem.k_shape, **problem.how)
    assert not any(np.all(np.isfinite(a)) for a in (y, dx, dk))
    np.testing.assert_allclose(backend().correlate(x, k, **problem.how), y, atol=1e-13)
    got = backend().correlate_input_adjoint(dy, k, problem.x_shape, **problem.how)
    if problem.stride == (1, 1):
        np.testing.assert_allclose(got, dx, atol=1e-13)
    else:
        spoilt = ~np.isfinite(got)
        assert np.any(spoilt)
        assert np.all(~np.isfinite(dx[spoilt]))
    got = backend().correlate_kernel_adjoint(x, dy, problem.k_shape, **problem.how)
    np.testing.assert_allclose(got, dk, atol=1e-13)
