"""Every primitive, on every algorithm of every backend, is held to its formula, PyTorch, the reference, its adjoint."""

import inspect
import itertools
import sys
import tracemalloc
import types
import typing
from dataclasses import dataclass, replace

import numpy as np
import pytest
from correlations import Problem, maps, pytorch
from draws import draws
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from xcnn_cupy.literal import Literal
from xcnn_numpy import NumpyBackend, fft, literal
from xcnn_strict import StrictBackend
from xcnn_strided import Gemm, StridedBackend

from xcnn import Backend, Layer
from xcnn.checking.gradients import ReferenceBackend, check_adjoint
from xcnn.core import reference
from xcnn.core.windows import extent, output_size
from xcnn.layers.layer import Run

PRIMITIVES = (
    "correlate",
    "correlate_input_adjoint",
    "correlate_kernel_adjoint",
    "max_pool",
    "max_pool_adjoint",
    "sum_pool",
    "sum_pool_adjoint",
    "correlate2d",
    "convolve2d",
)
drawn = settings(deadline=None, max_examples=draws(20), suppress_health_check=[HealthCheck.function_scoped_fixture])


def near(got, expected, limit=1e-12):
    """Equal shapes, and equal but for rounding in the Euclidean norm, what they come from being of size one."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape
    assert np.linalg.norm(got - expected) <= limit * max(np.linalg.norm(expected), 0.1)


# Correlation.


@st.composite
def problems(draw):
    """Kernels from one cell to more than the image, whatever the padding leaves room for."""
    both = st.tuples(st.integers(1, 3), st.integers(1, 3))
    kernel, stride, dilation = draw(st.tuples(st.integers(1, 5), st.integers(1, 4))), draw(both), draw(both)
    padding = draw(st.tuples(*[st.tuples(st.integers(0, 5), st.integers(0, 5))] * 2))
    sizes = tuple(
        max(1, extent(k, d) - lo - hi) + draw(st.integers(0, 5))
        for k, d, (lo, hi) in zip(kernel, dilation, padding, strict=True)
    )
    counts = [draw(st.integers(1, 3)) for _ in range(3)]
    return Problem(draw(st.integers(0, 4)), *counts, sizes, kernel, stride, padding, dilation)


def formula(problem):
    """The same by the sum that defines it, a cell at a time."""
    x, k, dy = problem.arrays()
    y, dx, dk = (np.zeros(a.shape) for a in (dy, x, k))
    (top, _), (left, _) = problem.padding
    (s, t), (d, e), c, f = problem.stride, problem.dilation, problem.channels, problem.filters
    for n, o, p, q in np.ndindex(*y.shape):
        for m, i, j in np.ndindex(*k.shape[1:]):
            row, column, channel = p * s + i * d - top, q * t + j * e - left, o // f * c + m
            if 0 <= row < x.shape[2] and 0 <= column < x.shape[3]:
                y[n, o, p, q] += x[n, channel, row, column] * k[o, m, i, j]
                dx[n, channel, row, column] += dy[n, o, p, q] * k[o, m, i, j]
                dk[o, m, i, j] += dy[n, o, p, q] * x[n, channel, row, column]
    return [y, dx, dk]


FEW = [
    Problem(2, 1, 2, 3, (4, 5), (3, 2), (1, 1), ((0, 0), (0, 0)), (1, 1)),
    Problem(1, 2, 2, 1, (5, 4), (2, 2), (2, 1), ((1, 0), (0, 2)), (1, 2)),
    Problem(2, 1, 1, 2, (2, 3), (4, 3), (1, 2), ((2, 1), (1, 3)), (1, 1)),
    Problem(1, 3, 1, 2, (3, 3), (1, 1), (2, 3), ((0, 1), (1, 0)), (1, 1)),
    Problem(2, 1, 1, 1, (2, 2), (1, 1), (8, 5), ((10, 0), (0, 7)), (1, 1)),  # padding outweighs the image
    Problem(0, 1, 2, 2, (4, 4), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)),
]


@pytest.mark.parametrize("problem", FEW)
def test_correlate_is_its_formula(any_backend, problem):
    for got, expected in zip(maps(any_backend, problem), formula(problem), strict=True):
        near(got, expected)


APART = [
    Problem(2, 1, 2, 3, (8, 8), (2, 2), (1 << 20, 1 << 20), ((0, 0), (0, 0)), (1, 1)),  # no second position
    Problem(2, 2, 1, 2, (75, 9), (2, 3), (70, 2), ((0, 1), (1, 0)), (1, 2)),
    Problem(1, 1, 2, 1, (5, 140), (3, 2), (1, 66), ((1, 1), (0, 3)), (1, 3)),  # cells beyond the last window
    Problem(2, 1, 1, 2, (66, 68), (1, 1), (65, 65), ((2, 2), (1, 1)), (1, 1)),
    Problem(1, 1, 1, 2, (7, 9), (2, 1), (3, 2), ((0, 0), (0, 0)), (1, 1)),  # phases that no tap meets
]


@pytest.mark.parametrize("problem", APART)
def test_windows_far_apart_are_pytorchs(any_backend, problem):
    for got, expected in zip(maps(any_backend, problem), pytorch(problem), strict=True):
        near(got, expected)


@settings(drawn, max_examples=draws(60))
@given(problem=problems())
def test_correlate_is_pytorchs(any_backend, enough, problem):
    if enough():
        return
    for got, expected in zip(maps(any_backend, problem), pytorch(problem), strict=True):
        near(got, expected)


@settings(drawn, max_examples=draws(60))
@given(problem=problems())
def test_correlate_is_the_references(any_backend, enough, problem):
    if enough():
        return
    for got, expected in zip(maps(any_backend, problem), maps(ReferenceBackend(), problem), strict=True):
        near(got, expected)


@settings(drawn, max_examples=draws(60))
@given(problem=problems())
def test_adjoints_of_correlate(any_backend, enough, problem):
    if enough():
        return
    x, k, _ = (any_backend.asarray(a) for a in problem.arrays())
    there, back, how = any_backend.asarray, any_backend.to_numpy, problem.how
    check_adjoint(
        "input",
        lambda x: back(any_backend.correlate(there(x), k, **how)),
        lambda dy: back(any_backend.correlate_input_adjoint(there(dy), k, problem.x_shape, **how)),
        problem.x_shape,
    )
    check_adjoint(
        "kernel",
        lambda k: back(any_backend.correlate(x, there(k), **how)),
        lambda dy: back(any_backend.correlate_kernel_adjoint(x, there(dy), problem.k_shape, **how)),
        problem.k_shape,
    )


# Pooling.


@dataclass(frozen=True)
class Pool:
    """Shape of the image, and options of a pooling."""

    x_shape: tuple
    size: tuple
    stride: tuple
    padding: tuple

    @property
    def output(self):
        return output_size(self.x_shape[2:], self.size, self.stride, self.padding)

    @property
    def how(self):
        return {"stride": self.stride, "padding": self.padding}


@st.composite
def pools(draw, weight_norm=False):
    """Windows that overlap, touch, or leave cells out; some lie wholly in the padding, unless all `reach` the image."""
    both = st.tuples(st.integers(1, 4), st.integers(1, 4))
    size, stride = draw(both), draw(both)
    padding = draw(st.tuples(*[st.tuples(*[st.integers(0, min(3, m - 1) if weight_norm else 3)] * 2) for m in size]))
    sizes = (max(1, m - sum(p)) + draw(st.integers(0, 6)) for m, p in zip(size, padding, strict=True))
    return Pool((draw(st.integers(0, 3)), draw(st.integers(1, 3)), *sizes), size, stride, padding)


NUMBERS = {
    "different": lambda rng, shape: rng.standard_normal(shape),
    "with ties": lambda rng, shape: rng.integers(-1, 2, shape).astype(float),
    "all equal": lambda rng, shape: np.ones(shape),
    "not all finite": lambda rng, shape: rng.choice([np.nan, np.inf, -np.inf, 0.0, 1.0], shape),
    "masked": lambda rng, shape: rng.choice([-np.inf, 0.0], shape, p=[0.9, 0.1]),
}


def windows(pool, x):
    """For each output cell: its place, and the cells of its window in order, with None for a padded one."""
    (top, _), (left, _) = pool.padding
    for n, c, p, q in np.ndindex(*x.shape[:2], *pool.output):
        rows = range(p * pool.stride[0] - top, p * pool.stride[0] - top + pool.size[0])
        columns = range(q * pool.stride[1] - left, q * pool.stride[1] - left + pool.size[1])
        cells = [
            (n, c, i, j) if 0 <= i < x.shape[2] and 0 <= j < x.shape[3] else None
            for i, j in itertools.product(rows, columns)
        ]
        yield (n, c, p, q), cells


def largest(x, cells):
    """The number of the first NaN, else of the first largest value; padding is chosen where there is nothing else."""
    inside = [n for n, cell in enumerate(cells) if cell is not None]
    for n in inside:
        if np.isnan(x[cells[n]]):
            return n
    return max(inside, key=lambda n: x[cells[n]], default=None)


@pytest.mark.parametrize("kind", NUMBERS)
@settings(drawn, max_examples=draws(10))
@given(pool=pools())
def test_max_pool_is_its_definition(any_backend, enough, kind, pool):
    if enough():
        return
    rng = np.random.default_rng(2)
    x, dy = NUMBERS[kind](rng, pool.x_shape), rng.standard_normal((*pool.x_shape[:2], *pool.output))
    y, which, dx = np.empty(dy.shape), np.empty(dy.shape), np.zeros(x.shape)
    for at, cells in windows(pool, x):
        found = largest(x, cells)
        which[at] = -1 if found is None else found
        y[at] = -np.inf if found is None else x[cells[found]]
        if found is not None:
            dx[cells[found]] += dy[at]
    got, tap = any_backend.max_pool(any_backend.asarray(x), pool.size, **pool.how)
    back = any_backend.max_pool_adjoint(any_backend.asarray(dy), tap, pool.x_shape, pool.size, **pool.how)
    np.testing.assert_array_equal(any_backend.to_numpy(got), y)
    np.testing.assert_array_equal(np.where(which < 0, -1, any_backend.to_numpy(tap).astype(int)), which)
    near(any_backend.to_numpy(back), dx)


@drawn
@given(pool=pools())
def test_sum_pool_is_its_definition(any_backend, enough, pool):
    if enough():
        return
    rng = np.random.default_rng(3)
    x, dy = rng.standard_normal(pool.x_shape), rng.standard_normal((*pool.x_shape[:2], *pool.output))
    y, dx = np.zeros(dy.shape), np.zeros(x.shape)
    for at, cells in windows(pool, x):
        for cell in filter(None, cells):
            y[at] += x[cell]
            dx[cell] += dy[at]
    near(any_backend.to_numpy(any_backend.sum_pool(any_backend.asarray(x), pool.size, **pool.how)), y)
    back = any_backend.sum_pool_adjoint(any_backend.asarray(dy), pool.x_shape, pool.size, **pool.how)
    near(any_backend.to_numpy(back), dx)


@drawn
@given(pool=pools())
def test_pools_are_pytorchs(any_backend, enough, pool):
    if enough():
        return
    torch = pytest.importorskip("torch")
    assume(pool.x_shape[0] > 0)  # PyTorch's pooling takes no empty batch
    rng = np.random.default_rng(4)
    x, dy = rng.standard_normal(pool.x_shape), rng.standard_normal((*pool.x_shape[:2], *pool.output))
    (top, bottom), (left, right) = pool.padding
    there = any_backend.asarray(x)
    for name, fill, pooled in (
        ("max", -np.inf, torch.nn.functional.max_pool2d),
        ("sum", 0.0, lambda *a: torch.nn.functional.avg_pool2d(*a, divisor_override=1)),
    ):
        image = torch.tensor(x, requires_grad=True)
        padded = torch.nn.functional.pad(image, (left, right, top, bottom), value=fill)
        expected = pooled(padded, pool.size, pool.stride)
        expected.backward(torch.tensor(dy))
        if name == "max":
            y, which = any_backend.max_pool(there, pool.size, **pool.how)
            dx = any_backend.max_pool_adjoint(any_backend.asarray(dy), which, x.shape, pool.size, **pool.how)
        else:
            y = any_backend.sum_pool(there, pool.size, **pool.how)
            dx = any_backend.sum_pool_adjoint(any_backend.asarray(dy), x.shape, pool.size, **pool.how)
        finite = np.isfinite(expected.detach().numpy())
        near(np.where(finite, any_backend.to_numpy(y), 0), np.where(finite, expected.detach().numpy(), 0))
        near(any_backend.to_numpy(dx), image.grad.numpy())


@drawn
@given(pool=pools())
def test_adjoint_of_sum_pool(any_backend, enough, pool):
    if enough():
        return
    there, back = any_backend.asarray, any_backend.to_numpy
    check_adjoint(
        "sum_pool",
        lambda x: back(any_backend.sum_pool(there(x), pool.size, **pool.how)),
        lambda dy: back(any_backend.sum_pool_adjoint(there(dy), pool.x_shape, pool.size, **pool.how)),
        pool.x_shape,
    )


@drawn
@given(pool=pools(weight_norm=True))
def test_max_pool_gives_back_what_it_took(any_backend, enough, pool):
    """<max_pool(x), dy> = <x, dx> where no window is all padding: max_pool only selects."""
    if enough():
        return
    x = np.random.default_rng(5).standard_normal(pool.x_shape)
    y, which = any_backend.max_pool(any_backend.asarray(x), pool.size, **pool.how)
    host = any_backend.to_numpy(y)
    assert np.all(np.isfinite(host))
    dy = np.random.default_rng(6).standard_normal(host.shape)
    dx = any_backend.max_pool_adjoint(any_backend.asarray(dy), which, pool.x_shape, pool.size, **pool.how)
    assert abs(np.sum(host * dy) - np.sum(x * any_backend.to_numpy(dx))) <= 1e-12 * max(np.sum(np.abs(host * dy)), 1e-3)


@pytest.mark.parametrize("size", [2, 3, 7])
def test_windows_of_minus_infinity_are_pytorchs(any_backend, size):
    """Their gradient goes to the first cell of the image, not to the padding; beside them are ties and a NaN."""
    torch = pytest.importorskip("torch")
    rng, stride, edge = np.random.default_rng(8), max(1, size - 2), size // 2
    x = rng.integers(0, 3, (2, 2, 8, 9)).astype(float)
    x[0, 0], x[0, 1, :5, :5], x[1, 0, 3, 4] = -np.inf, -np.inf, np.nan
    image = torch.tensor(x, requires_grad=True)
    expected = torch.nn.functional.max_pool2d(image, size, stride, edge)
    dy = rng.standard_normal(expected.shape)
    expected.backward(torch.tensor(dy))
    window = {"size": (size, size), "stride": (stride, stride), "padding": ((edge, edge), (edge, edge))}
    y, which = any_backend.max_pool(any_backend.asarray(x), **window)
    dx = any_backend.max_pool_adjoint(any_backend.asarray(dy), which, x.shape, **window)
    np.testing.assert_array_equal(any_backend.to_numpy(y), expected.detach().numpy())
    np.testing.assert_allclose(any_backend.to_numpy(dx), image.grad.numpy(), rtol=1e-12, atol=1e-12)
    assert np.sum(image.grad.numpy()) == pytest.approx(np.sum(dy))  # nothing is lost


def test_infinite_gradients_stay_where_they_belong(any_backend):
    x = any_backend.asarray(np.arange(16.0).reshape(1, 1, 4, 4))
    _, which = any_backend.max_pool(x, (2, 2), stride=(2, 2))
    dy = any_backend.asarray(np.array([[[[np.inf, 1.0], [np.nan, -np.inf]]]]))
    dx = any_backend.to_numpy(any_backend.max_pool_adjoint(dy, which, (1, 1, 4, 4), (2, 2), stride=(2, 2)))
    expected = np.zeros((1, 1, 4, 4))
    expected[0, 0, 1::2, 1::2] = [[np.inf, 1], [np.nan, -np.inf]]
    np.testing.assert_array_equal(dx, expected)


def test_windows_of_more_than_256_cells(any_backend, rng):
    x = rng.standard_normal((1, 2, 20, 19))
    y, which = any_backend.max_pool(any_backend.asarray(x), (18, 17), stride=(1, 1))
    seen = np.lib.stride_tricks.sliding_window_view(x, (18, 17), axis=(2, 3)).reshape(1, 2, 3, 3, -1)
    np.testing.assert_array_equal(any_backend.to_numpy(which), seen.argmax(-1))
    np.testing.assert_array_equal(any_backend.to_numpy(y), seen.max(-1))


# Types, layouts, memory, signatures.

ONE = Problem(3, 2, 2, 3, (7, 8), (3, 2), (2, 1), ((1, 2), (0, 1)), (1, 2))
STRIDE_1 = replace(ONE, stride=(1, 1))
POOL = Pool((3, 2, 7, 8), (3, 2), (2, 2), ((1, 1), (0, 1)))


def everything(backend, problem, send):
    """All primitives that take images, on arrays brought by `send`; the results, on the host."""
    x, k, dy = (send(a) for a in problem.arrays())
    rng = np.random.default_rng(7)
    image, gradient = (send(rng.standard_normal(shape)) for shape in (POOL.x_shape, (*POOL.x_shape[:2], *POOL.output)))
    y, which = backend.max_pool(image, POOL.size, **POOL.how)
    results = (
        backend.correlate(x, k, **problem.how),
        backend.correlate_input_adjoint(dy, k, problem.x_shape, **problem.how),
        backend.correlate_kernel_adjoint(x, dy, problem.k_shape, **problem.how),
        y,
        backend.max_pool_adjoint(gradient, which, POOL.x_shape, POOL.size, **POOL.how),
        backend.sum_pool(image, POOL.size, **POOL.how),
        backend.sum_pool_adjoint(gradient, POOL.x_shape, POOL.size, **POOL.how),
    )
    return [backend.to_numpy(a) for a in results]


@pytest.mark.parametrize("problem", [ONE, STRIDE_1], ids=["strided", "dense"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_types_stay(any_backend, dtype, problem):
    expected = everything(ReferenceBackend(), problem, np.asarray)
    got = everything(any_backend, problem, lambda a: any_backend.asarray(a, dtype))
    assert [a.dtype for a in got] == [np.dtype(dtype)] * len(got)
    for a, b in zip(got, expected, strict=True):
        near(a, b, 1e-5 if dtype == "float32" else 1e-12)


LAYOUTS = {
    "every second column": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "reversed": lambda a: np.ascontiguousarray(a[..., ::-1, ::-1])[..., ::-1, ::-1],
    "columns first": np.asfortranarray,
    "channels last": lambda a: np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
}


def laid_out(backend, layout):
    """Brings arrays to the backend in a layout, not to be written where NumPy can say so."""

    def send(a):
        there = LAYOUTS[layout](backend.asarray(a)) if isinstance(backend.asarray(a), np.ndarray) else None
        if there is None:
            return backend.asarray(np.repeat(a, 2, axis=-1))[..., ::2]
        there = there.view()
        there.flags.writeable = False
        return there

    return send


@pytest.mark.parametrize("problem", [ONE, STRIDE_1], ids=["strided", "dense"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_make_no_difference(any_backend, layout, problem):
    expected = everything(any_backend, problem, any_backend.asarray)
    for a, b in zip(everything(any_backend, problem, laid_out(any_backend, layout)), expected, strict=True):
        near(a, b)


def test_broadcast_gradients(any_backend):
    """A mean's gradient is often one number seen everywhere through strides of zero."""
    problem = replace(ONE, batch=2)
    x, k, _ = (any_backend.asarray(a) for a in problem.arrays())
    one = any_backend.asarray(0.5)
    dy = any_backend.xp.broadcast_to(one, problem.y_shape)
    full = any_backend.asarray(np.full(problem.y_shape, 0.5))
    for got, expected in (
        (any_backend.correlate_input_adjoint(g, k, problem.x_shape, **problem.how) for g in (dy, full)),
        (any_backend.correlate_kernel_adjoint(x, g, problem.k_shape, **problem.how) for g in (dy, full)),
    ):
        near(any_backend.to_numpy(got), any_backend.to_numpy(expected))


def peak(run):
    """The largest memory that Python and NumPy held during a call beyond its result, in bytes."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        result = run()
        return tracemalloc.get_traced_memory()[1] - before - result.nbytes
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("algorithm", ["gemm", "fft"])
@pytest.mark.parametrize("stride", [(1, 1), (2, 2)])
def test_workspace_is_bounded(monkeypatch, algorithm, stride):
    """Ten times the batch takes no more memory beside the result, though windows are 49 times the image."""
    monkeypatch.setattr(fft, "WORKSPACE", 2**14)
    way = Gemm(workspace=2**14) if algorithm == "gemm" else fft
    few, many = (
        held_by_maps(way, Problem(batch, 1, 4, 4, (24, 24), (7, 7), stride, ((3, 3), (3, 3)), (1, 1)))
        for batch in (8, 80)
    )
    assert all(b < 1.1 * a + 2**16 for a, b in zip(few, many, strict=True))


def held_by_maps(way, problem):
    """What each of the three maps holds beside its result."""
    x, k, dy = problem.arrays()
    return [
        peak(lambda: way.correlate(x, k, **problem.how)),
        peak(lambda: way.correlate_input_adjoint(dy, k, problem.x_shape, **problem.how)),
        peak(lambda: way.correlate_kernel_adjoint(x, dy, problem.k_shape, **problem.how)),
    ]


def test_pools_copy_no_windows():
    """A window of 25 cells takes no 25 copies of the image."""
    x = np.random.default_rng(0).standard_normal((8, 4, 64, 64))
    backend = NumpyBackend()
    assert peak(lambda: backend.max_pool(x, (5, 5), stride=(1, 1))[0]) < 2 * x.nbytes
    assert peak(lambda: backend.sum_pool(x, (5, 5), stride=(1, 1))) < 2 * x.nbytes


@pytest.mark.parametrize("workspace", [1, 700, 2000, 10**6])
@pytest.mark.parametrize("groups", [1, 3, 6])
def test_groups_are_computed_as_many_at_a_time_as_the_workspace_holds(groups, workspace):
    rng = np.random.default_rng(groups)
    x, k = rng.standard_normal((2, 6, 7, 5)), rng.standard_normal((2 * 6, 6 // groups, 3, 2))
    how = {"stride": (2, 1), "padding": ((1, 0), (1, 1)), "dilation": (1, 2), "groups": groups}
    dy = rng.standard_normal(reference.correlate(x, k, **how).shape)
    for key, arguments in (
        ("correlate", (x, k)),
        ("correlate_input_adjoint", (dy, k, x.shape)),
        ("correlate_kernel_adjoint", (x, dy, k.shape)),
    ):
        got, expected = getattr(Gemm(workspace), key)(*arguments, **how), getattr(reference, key)(*arguments, **how)
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12, err_msg=key)


def test_one_large_image_of_many_groups_takes_no_windows_of_all():
    x, k = np.ones((1, 64, 60, 60), "float32"), np.ones((64, 1, 5, 5), "float32")
    how = {"stride": (1, 1), "padding": ((2, 2), (2, 2)), "dilation": (1, 1), "groups": 64}
    gemm = Gemm(2**17)
    assert peak(lambda: gemm.correlate(x, k, **how)) < 4 * x.nbytes
    assert peak(lambda: gemm.correlate_input_adjoint(x, k, x.shape, **how)) < 4 * x.nbytes
    assert peak(lambda: gemm.correlate_kernel_adjoint(x, x, k.shape, **how)) < 4 * x.nbytes


def parameters(function):
    """Names, kinds, defaults and types of a function's parameters, without self, and of its result."""
    hints = typing.get_type_hints(function, localns={"Layer": Layer, "Run": Run})
    listed = [p for p in inspect.signature(function).parameters.values() if p.name != "self"]
    return [(p.name, p.kind, p.default, hints.get(p.name)) for p in listed], hints["return"]


def cupy_backend(monkeypatch):
    """The class, whether or not CuPy is installed: its signatures need none."""
    try:
        import cupy  # noqa: F401
    except ImportError:
        monkeypatch.setitem(sys.modules, "cupy", types.ModuleType("cupy"))
    monkeypatch.delitem(sys.modules, "xcnn_cupy.backend", raising=False)
    from xcnn_cupy.backend import CupyBackend

    monkeypatch.delitem(sys.modules, "xcnn_cupy.backend")
    return CupyBackend


@pytest.mark.parametrize("name", ["reference", "numpy", "strict", "strided", "cupy"])
def test_overrides_have_the_contracts_signatures(name, monkeypatch):
    cls = {
        "reference": ReferenceBackend,
        "numpy": NumpyBackend,
        "strict": StrictBackend,
        "strided": StridedBackend,
    }.get(name) or cupy_backend(monkeypatch)
    public = {key for key in vars(Backend) if callable(getattr(Backend, key)) and not key.startswith("_")}
    assert public >= {*PRIMITIVES, "asarray", "to_numpy", "random_bits", "synchronize", "active", "of"}
    for key in public:
        assert parameters(getattr(cls, key)) == parameters(getattr(Backend, key)), key


@pytest.mark.parametrize("way", [literal, fft, Gemm, Literal], ids=["literal", "fft", "Gemm", "Literal"])
@pytest.mark.parametrize("key", PRIMITIVES[:3])
def test_algorithms_have_the_contracts_signatures(way, key):
    got, expected = parameters(getattr(way, key)), parameters(getattr(reference, key))
    assert got[1] == expected[1]
    assert [(name, kind, hint) for name, kind, _, hint in got[0]] == [
        (name, kind, hint) for name, kind, _, hint in expected[0]
    ]


def test_of_equal_cells_the_first_is_pooled(any_backend, rng):
    """In the order of rows: held to NumPy's argmax, for windows side by side and for some that overlap."""
    x = rng.integers(0, 2, (2, 3, 7, 8)).astype("float64")
    for size, stride in (((2, 2), (2, 2)), ((3, 2), (1, 2)), ((3, 3), (2, 2)), ((1, 4), (2, 1))):
        how = {"stride": stride, "padding": ((0, 0), (0, 0))}
        windows = np.lib.stride_tricks.sliding_window_view(x, size, (2, 3))[:, :, :: stride[0], :: stride[1]]
        first = windows.reshape(*windows.shape[:4], -1).argmax(axis=-1)
        y, which = any_backend.max_pool(any_backend.asarray(x), size, **how)
        dy = rng.standard_normal(first.shape)
        dx = any_backend.max_pool_adjoint(any_backend.asarray(dy), which, x.shape, size, **how)
        expected = np.zeros_like(x)
        for n, c, u, v in np.ndindex(first.shape):
            i, j = divmod(int(first[n, c, u, v]), size[1])
            expected[n, c, u * stride[0] + i, v * stride[1] + j] += dy[n, c, u, v]
        np.testing.assert_array_equal(any_backend.to_numpy(y), windows.max(axis=(4, 5)))
        np.testing.assert_allclose(any_backend.to_numpy(dx), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("size", "stride", "padding"),
    [
        ((9, 8), (2, 3), ((3, 1), (0, 5))),
        ((5, 14), (3, 1), ((0, 0), (6, 2))),
        ((70, 1), (1, 2), ((60, 1), (0, 0))),
        ((1, 70), (2, 1), ((0, 0), (9, 61))),
    ],
)
def test_sums_of_large_windows(any_backend, rng, size, stride, padding):
    """Which a backend may take apart into rows and columns: held to windows of the padded image, by NumPy."""
    x = rng.standard_normal((2, 3, 12, 11))
    around = np.pad(x, ((0, 0), (0, 0), *padding))
    windows = np.lib.stride_tricks.sliding_window_view(around, size, (2, 3))[:, :, :: stride[0], :: stride[1]]
    y = any_backend.sum_pool(any_backend.asarray(x), size, stride=stride, padding=padding)
    np.testing.assert_allclose(any_backend.to_numpy(y), windows.sum(axis=(4, 5)), rtol=0, atol=1e-12)
    dy, dx = rng.standard_normal(windows.shape[:4]), np.zeros_like(around)
    for u, v in np.ndindex(dy.shape[2:]):
        rows, columns = u * stride[0], v * stride[1]
        dx[:, :, rows : rows + size[0], columns : columns + size[1]] += dy[:, :, u, v, None, None]
    (top, _), (left, _) = padding
    got = any_backend.sum_pool_adjoint(any_backend.asarray(dy), x.shape, size, stride=stride, padding=padding)
    expected = dx[:, :, top : top + 12, left : left + 11]
    np.testing.assert_allclose(any_backend.to_numpy(got), expected, rtol=0, atol=1e-12)
