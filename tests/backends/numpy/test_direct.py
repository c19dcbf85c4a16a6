"""The algorithm `direct`, compiled by Numba: its maps held to the reference and PyTorch, its inner loops to NumPy."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.special
from correlations import Problem, maps, pytorch
from hypothesis import given, settings
from hypothesis import strategies as st

import xcnn
from xcnn.checking.gradients import ReferenceBackend
from xcnn.core import reference
from xcnn.core.windows import extent

pytest.importorskip("numba", reason="Numba is not installed: there is no algorithm direct")

from xcnn_numpy.direct import blocks, lines

TYPES = ["float32", "float64"]
drawn = settings(deadline=None, max_examples=80)


def direct(threads=2):
    return xcnn.backend("numpy", algorithm="direct", threads=threads)


def gemm():
    return xcnn.backend("numpy", algorithm="gemm")


# The three maps.


def scales(problem):
    """For each of the three maps its largest sum of absolute terms: what rounding is relative to."""
    x, k, dy = (np.abs(a) for a in problem.arrays())
    sums = (
        reference.correlate(x, k, **problem.how),
        reference.correlate_input_adjoint(dy, k, problem.x_shape, **problem.how),
        reference.correlate_kernel_adjoint(x, dy, problem.k_shape, **problem.how),
    )
    return [np.max(a, initial=0.0) for a in sums]


def errors(got, exact, problem):
    """The largest absolute error of each map, relative to its scale."""
    found = []
    for a, b, scale in zip(got, exact, scales(problem), strict=True):
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
    channels, filters = draw(st.sampled_from([(1, 1), (1, 2), (2, 3), (3, 1), (5, 9), (4, 17)]))
    batch, groups = draw(st.integers(0, 5)), draw(st.integers(1, 4))
    return Problem(batch, groups, channels, filters, sizes, kernel, stride, padding, dilation)


@drawn
@given(problem=problems())
def test_float64_is_the_reference(problem):
    got = maps(direct(), problem)
    assert max(errors(got, maps(ReferenceBackend(), problem), problem)) <= 1e-14
    assert [a.dtype for a in got] == [np.float64] * 3


@settings(drawn, max_examples=40)
@given(problem=problems())
def test_float64_is_pytorchs(problem):
    assert max(errors(maps(direct(), problem), pytorch(problem), problem)) <= 1e-14


@drawn
@given(problem=problems())
def test_float32_rounds_no_worse_than_a_matrix_product(problem):
    """At most four times gemm's error, or twice the spacing of float32 where gemm happens to be exact."""
    rounded = [a.astype("float32").astype("float64") for a in problem.arrays()]
    problem = replace(problem, given=tuple(rounded))
    exact = maps(ReferenceBackend(), problem)
    mine, products = (errors(maps(b, problem, "float32"), exact, problem) for b in (direct(), gemm()))
    for a, b in zip(mine, products, strict=True):
        assert a <= max(4 * b, 2 * np.finfo("float32").eps)


LARGE = [
    Problem(9, 1, 16, 24, (26, 26), (3, 3), (1, 1), ((0, 0), (0, 0)), (1, 1)),
    Problem(40, 1, 24, 40, (7, 7), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)),  # images are stacked
    Problem(5, 1, 16, 33, (29, 31), (3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1)),
    Problem(4, 16, 1, 2, (40, 37), (5, 5), (1, 1), ((2, 2), (2, 2)), (1, 1)),
    Problem(33, 1, 64, 48, (6, 6), (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1)),
]
"""Enough work that several threads share it."""


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("problem", LARGE)
def test_work_that_is_shared_out(problem, dtype):
    """Two threads and three do what one does, but for the order in which the kernel's gradient is summed."""
    one, two, again, three = (maps(direct(threads), problem, dtype) for threads in (1, 2, 2, 3))
    for a, b in zip(two, again, strict=True):
        np.testing.assert_array_equal(a, b)
    exact = maps(ReferenceBackend(), problem)
    for got in (one, two, three):
        assert max(errors(got, exact, problem)) <= (1e-6 if dtype == "float32" else 1e-15)
    for shared in (two, three):
        for a, b in zip(shared[:2], one[:2], strict=True):
            np.testing.assert_array_equal(a, b)


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
    expected = maps(direct(), problem, "float32")
    sent = [LAYOUTS[layout](a).view() for a in (x, k, dy)]
    for a in sent:
        a.flags.writeable = False
    x, k, dy = sent
    got = (
        direct().correlate(x, k, **problem.how),
        direct().correlate_input_adjoint(dy, k, problem.x_shape, **problem.how),
        direct().correlate_kernel_adjoint(x, dy, problem.k_shape, **problem.how),
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
        for b in (direct(), gemm())
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
    np.testing.assert_allclose(direct().correlate(x, k, **problem.how), y, atol=1e-13)
    got = direct().correlate_input_adjoint(dy, k, problem.x_shape, **problem.how)
    if problem.stride == (1, 1):
        np.testing.assert_allclose(got, dx, atol=1e-13)
    else:
        spoilt = ~np.isfinite(got)
        assert np.any(spoilt)
        assert np.all(~np.isfinite(dx[spoilt]))
    got = direct().correlate_kernel_adjoint(x, dy, problem.k_shape, **problem.how)
    np.testing.assert_allclose(got, dk, atol=1e-13)


# The inner loops.


def around(rng, cells, dtype, margin=70):
    """An array of numbers with a margin on both sides: where cells begin and end must be seen to."""
    return rng.standard_normal(cells + 2 * margin).astype(dtype), margin


@pytest.mark.parametrize("adds", [False, True])
@pytest.mark.parametrize("dtype", TYPES)
def test_multiply_is_a_matrix_product(rng, dtype, adds):
    count, lanes = 11, blocks.VECTOR_BYTES // np.dtype(dtype).itemsize
    for rows, vectors in blocks.MULTIPLY_SIZES:
        length = vectors * lanes
        y_pitch, w_step = length + 5, rows + 2
        y, y_at = around(rng, rows * y_pitch, dtype)
        w, w_at = around(rng, count * w_step, dtype)
        x, x_at = around(rng, 200 + length, dtype)
        offsets = rng.integers(0, 200, count + 3)
        before = y.copy()
        blocks.multiply(rows, vectors, y, y_at, y_pitch, w, w_at, w_step, x, x_at, offsets, 3, count, adds)
        weights = w[w_at : w_at + count * w_step].reshape(count, w_step)[:, :rows].astype("float64")
        seen = np.stack([x[x_at + offset : x_at + offset + length] for offset in offsets[3:]]).astype("float64")
        expected = before.astype("float64")
        inside = expected[y_at : y_at + rows * y_pitch].reshape(rows, y_pitch)[:, :length]
        inside[...] = weights.T @ seen + adds * inside
        np.testing.assert_allclose(y, expected, rtol=0, atol=3e-6 if dtype == "float32" else 1e-14)
        np.testing.assert_array_equal(y[:y_at], before[:y_at])
        np.testing.assert_array_equal(y[y_at + rows * y_pitch :], before[y_at + rows * y_pitch :])


@pytest.mark.parametrize("dtype", TYPES)
def test_dot_is_a_matrix_product(rng, dtype):
    """For whole vectors and parts of one; what lies beyond the length is not read, be it NaN."""
    lanes = blocks.VECTOR_BYTES // np.dtype(dtype).itemsize
    for rows, columns in blocks.DOT_SIZES:
        for length in (1, lanes - 1, lanes, lanes + 1, 3 * lanes + 5):
            s_pitch, y_pitch = columns + 3, length + 2
            s, s_at = around(rng, rows * s_pitch, dtype)
            y, y_at = around(rng, rows * y_pitch, dtype)
            x = np.full(columns * (length + 1) + 100, np.nan, dtype)
            offsets = np.arange(columns + 2) * (length + 1) - 2 * (length + 1)
            for k in range(columns):
                x[7 + k * (length + 1) :][:length] = rng.standard_normal(length)
            y[y_at : y_at + rows * y_pitch].reshape(rows, y_pitch)[:, length:] = np.nan
            before = s.copy()
            blocks.dot(rows, columns, s, s_at, s_pitch, y, y_at, y_pitch, x, 7, offsets, 2, length)
            left = y[y_at : y_at + rows * y_pitch].reshape(rows, y_pitch)[:, :length].astype("float64")
            right = np.stack([x[7 + k * (length + 1) :][:length] for k in range(columns)]).astype("float64")
            expected = before.astype("float64")
            expected[s_at : s_at + rows * s_pitch].reshape(rows, s_pitch)[:, :columns] += left @ right.T
            changed = expected != before
            np.testing.assert_allclose(s, expected, rtol=0, atol=2e-5 if dtype == "float32" else 1e-13)
            np.testing.assert_array_equal(s[~changed], before[~changed])


LENGTHS = [0, 1, 3, 7, 8, 9, 15, 16, 17, 31, 33, 50]


def placed(cells, at, pitch, rows, columns):
    """The cells of a plane as a view (rows, columns)."""
    return np.lib.stride_tricks.as_strided(
        cells[at:], (rows, columns), (pitch * cells.itemsize, cells.itemsize), writeable=True
    )


class Planes:
    """Three arrays with a plane in each, at pitches of their own, for a function of lines."""

    def __init__(self, rng, dtype, rows, columns):
        self.rows, self.columns = rows, columns
        self.pitches = columns + 3, columns + 1, columns
        made = [around(rng, rows * pitch + 1, dtype) for pitch in self.pitches]
        (self.out, self.out_at), (self.a, self.a_at), (self.b, self.b_at) = made
        self.before = self.out.copy()

    def first(self):
        return placed(self.a, self.a_at, self.pitches[1], self.rows, self.columns)

    def second(self):
        return placed(self.b, self.b_at, self.pitches[2], self.rows, self.columns)

    def expect(self, plane, dtype, ulps=0):
        """Out holds this plane, and all around it what it held before."""
        placed(self.before, self.out_at, self.pitches[0], self.rows, self.columns)[...] = plane
        limit = ulps * np.finfo(dtype).eps
        np.testing.assert_allclose(self.out, self.before, rtol=limit, atol=0)


def planes(rng, dtype):
    for rows, columns in [(0, 5), (1, 0), *((rows, columns) for rows in (1, 3) for columns in LENGTHS)]:
        yield Planes(rng, dtype, rows, columns)


SIGMOID_SLACK = 4
"""Spacings by which the sigmoid, whose exp is a series of our own, may differ from SciPy's."""
ACTIVATIONS = {
    lines.NONE: (lambda z: z, lambda dy, y: dy),
    lines.RELU: (lambda z: np.maximum(z, 0), lambda dy, y: np.where(y > 0, dy, 0)),
    lines.SIGMOID: (scipy.special.expit, lambda dy, y: dy * (y * (1 - y))),
}


@pytest.mark.parametrize("dtype", TYPES)
def test_copy_and_sums_of_planes(rng, dtype):
    slack = 1e-6 if dtype == "float32" else 1e-14
    for p in planes(rng, dtype):
        lines.copy(p.out, p.out_at, p.pitches[0], p.a, p.a_at, p.pitches[1], p.rows, p.columns)
        p.expect(p.first(), dtype)
        where = p.a, p.a_at, p.pitches[1]
        size = 1 + p.rows * p.columns
        assert abs(lines.total(*where, p.rows, p.columns) - p.first().sum(dtype="float64")) <= slack * size

@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", TYPES)
def test_shift_add_and_slope(rng, dtype, activation):
    function, slope = ACTIVATIONS[activation]
    ulps = SIGMOID_SLACK if activation == lines.SIGMOID else 0
    for p in planes(rng, dtype):
        size, s = (p.rows, p.columns), np.dtype(dtype).type(0.3)
        p.second()[..., ::3] = 0  # where the slope of ReLU is zero
        lines.shift(p.out, p.out_at, p.pitches[0], p.a, p.a_at, p.pitches[1], s, activation, *size)
        p.expect(function(p.first() + s), dtype, ulps)
        both = p.a, p.a_at, p.pitches[1], p.b, p.b_at, p.pitches[2], activation
        lines.add(p.out, p.out_at, p.pitches[0], *both, *size)
        p.expect(function(p.first() + p.second()), dtype, ulps)
        lines.slope(p.out, p.out_at, p.pitches[0], *both, *size)
        p.expect(slope(p.first(), p.second()), dtype)


@pytest.mark.parametrize("dtype", TYPES)
def test_sigmoid_over_its_whole_range(dtype):
    """Close to the formula in every cell, exact at the ends, NaN for NaN, and never below zero or above one."""
    widest = 110.0 if dtype == "float32" else 760.0
    x = np.concatenate([np.linspace(-widest, widest, 20_001), [0.0, -0.0, np.inf, -np.inf, np.nan, 1e30, -1e30]])
    x = x.astype(dtype)
    y = np.empty_like(x)
    lines.shift(y, 0, 0, x, 0, 0, np.dtype(dtype).type(0), lines.SIGMOID, 1, x.size)
    with np.errstate(invalid="ignore", over="ignore"):
        power = np.exp(-np.abs(x.astype("float64")))
    expected = np.where(x < 0, power, 1) / (1 + power)  # SciPy's is zero from 1e-308 on
    number = np.finfo(dtype)
    np.testing.assert_allclose(y, expected, rtol=SIGMOID_SLACK * number.eps, atol=2 * number.smallest_subnormal)
    finite = y[~np.isnan(x)]
    assert np.all((finite >= 0) & (finite <= 1))


def check_plane(out, before, at, pitch, plane, slack):
    """Out holds this plane, but for rounding, and all around it what it held before."""
    inside = np.zeros(out.shape, dtype=bool)
    placed(inside, at, pitch, *plane.shape)[...] = True
    np.testing.assert_allclose(out[inside], plane.ravel(), rtol=0, atol=slack)
    np.testing.assert_array_equal(out[~inside], before[~inside])


@pytest.mark.parametrize("kind", ["different", "ties", "not finite"])
@pytest.mark.parametrize("dtype", TYPES)
def test_pool_and_unpool(rng, dtype, kind):
    """ReLU and max-pooling by two: the first of equal cells, the first NaN; what is at most zero gets no gradient."""
    draw = {
        "different": rng.standard_normal,
        "ties": lambda size: rng.integers(-2, 3, size),
        "not finite": lambda size: rng.choice([np.nan, np.inf, -np.inf, 0.0, 1.0], size),
    }[kind]
    bias = np.dtype(dtype).type(1.0 if kind != "different" else 0.3)
    for rows, columns in [(0, 3), *((rows, columns) for rows in (1, 3) for columns in LENGTHS)]:
        pitch = 2 * columns + 3
        x, at = around(rng, 2 * rows * pitch, dtype)
        image = placed(x, at, pitch, 2 * rows, 2 * columns)
        image[...] = draw(image.shape)
        y, y_at = around(rng, rows * columns, dtype)
        which = np.full(y.shape, 77, dtype=np.uint8)
        before, taps = y.copy(), which.copy()
        lines.pool(y, which, y_at, x, at, pitch, bias, rows, columns)
        cells = np.stack([image[i::2, j::2] for i in (0, 1) for j in (0, 1)], axis=-1)
        tap = np.argmax(cells, axis=-1)  # NumPy's: the first NaN, else the first of the largest
        best = np.take_along_axis(cells, tap[..., None], axis=-1)[..., 0] + bias
        dead = best <= 0  # at a NaN the gradient goes on, as PyTorch's does
        before[y_at : y_at + best.size] = np.where(np.isnan(best), best, np.maximum(best, 0)).ravel()
        taps[y_at : y_at + best.size] = np.where(dead, lines.DEAD, tap).ravel()
        np.testing.assert_array_equal(y, before)
        np.testing.assert_array_equal(which, taps)
        dx, dx_at = around(rng, 2 * rows * pitch, dtype)
        dy, _ = around(rng, rows * columns, dtype)
        expected = dx.copy()
        gradient = np.where(dead, 0, dy[y_at : y_at + best.size].reshape(best.shape))
        parted = placed(expected, dx_at, pitch, 2 * rows, 2 * columns)
        for n in range(4):
            parted[n // 2 :: 2, n % 2 :: 2] = np.where(tap == n, gradient, 0)
        lines.unpool(dx, dx_at, pitch, dy, which, y_at, rows, columns)
        np.testing.assert_array_equal(dx, expected)
