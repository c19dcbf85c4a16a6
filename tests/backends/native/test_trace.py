"""Formulas as programs: functions to a few units in the last place, what is traced and what is not, in place, in C."""

from dataclasses import dataclass

import numpy as np
import pytest
from xcnn_native import library as native

import xcnn
from xcnn.layers import ReLU, Run, Sequential, Tanh
from xcnn.layers.activations import Activation

if native.library() is None:
    pytest.skip("the compiled library was not built, or is switched off", allow_module_level=True)

from xcnn_native import formulas
from xcnn_native.program import Program, formula
from xcnn_native.trace import NAMESPACE, Symbol, Untraceable

TYPES = ["float32", "float64"]
HARD = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 88.72284, -87.4, -103.9, -104.5, 709.78, -745.1, -746.0, 5e-324]


def numbers(dtype, rng):
    """Of all sizes, and the hard ones."""
    ends = np.finfo(dtype)
    sizes = [rng.standard_normal(4000) * size for size in (1e-30, 1e-8, 1e-3, 0.1, 1, 10, 100, 1000)]
    spread = 10.0 ** rng.uniform(np.log10(ends.smallest_subnormal), np.log10(ends.max), 4000)
    return np.concatenate([*sizes, spread, -spread, HARD, [ends.tiny, ends.max, ends.smallest_subnormal]]).astype(dtype)


def run(results, arrays, cells, dtype, **options):
    """What a program computes of these arrays."""
    program = Program(results, **options)
    given = dict(zip(sorted(program.reads), arrays, strict=True))
    written = {name: np.empty(cells, dtype) for name in results}
    program.run({**given, **written}, 2, 1, cells)
    return written


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", ["exp", "expm1", "log", "log1p", "tanh", "sqrt", "sin", "cos"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_functions_to_three_units_in_the_last_place(name, dtype, rng):
    x = numbers(dtype, rng)
    y = run({"y": getattr(NAMESPACE, name)(Symbol.of("x", dtype))}, [x], len(x), dtype)["y"]
    exact = getattr(np, name)(x.astype(np.longdouble))
    rounded = exact.astype(dtype)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(rounded))
    finite = np.isfinite(rounded)
    np.testing.assert_array_equal(y[~finite], rounded[~finite])
    unit = np.spacing(np.abs(rounded[finite])).astype(np.longdouble)
    assert np.max(np.abs(y[finite].astype(np.longdouble) - exact[finite]) / unit) < 3


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_operations_are_numpys_to_the_bit(dtype, rng):
    a = numbers(dtype, rng)
    b = rng.permutation(a)
    s, t = Symbol.of("a", dtype), Symbol.of("b", dtype)
    for name in ("add", "subtract", "multiply", "divide", "minimum", "maximum"):
        got = run({"y": getattr(NAMESPACE, name)(s, t)}, [a, b], len(a), dtype)["y"]
        np.testing.assert_array_equal(got, getattr(np, name)(a, b))
    for name in ("abs", "negative", "floor", "ceil", "trunc", "round", "square", "sign", "reciprocal"):
        got = run({"y": getattr(NAMESPACE, name)(s)}, [a], len(a), dtype)["y"]
        np.testing.assert_array_equal(got, getattr(np, name)(a))
    for name in ("less", "less_equal", "greater", "greater_equal", "equal", "not_equal"):
        got = run({"y": NAMESPACE.where(getattr(NAMESPACE, name)(s, t), s, 2.0)}, [a, b], len(a), dtype)["y"]
        np.testing.assert_array_equal(got, np.where(getattr(np, name)(a, b), a, np.asarray(2, dtype)))
    for name in ("isnan", "isinf", "isfinite"):
        got = run({"y": getattr(NAMESPACE, name)(s) * t}, [a, b], len(a), dtype)["y"]
        np.testing.assert_array_equal(got, getattr(np, name)(a) * b)


@dataclass(frozen=True)
class Bent(Activation):
    """A user's: pieces, masks, powers, numbers on either side."""

    knee: float = 0.7

    def f(self, xp, x):
        inner = xp.clip(x, -self.knee, self.knee) ** 3 - 0.25 / (1 + xp.square(x))
        y = xp.where((x > 1) | ~(x >= -2), 2 - xp.abs(x) / 3, inner * xp.exp(-x * x)) + xp.astype(x != 0, x.dtype)
        return y, lambda: xp.cos(x) * y - xp.log1p(xp.abs(x)) / self.knee


@dataclass(frozen=True)
class Branching(Activation):
    def f(self, xp, x):
        return (x if xp.max(x) > 0 else -x), lambda: xp.ones_like(x)


@dataclass(frozen=True)
class Widening(Activation):
    def f(self, xp, x):
        return x * np.float64(2.0), lambda: 2 * xp.ones_like(x)


class Counting(Activation):
    """Not pure: what it computes changes from call to call."""

    def __init__(self):
        self.calls = 0

    def f(self, xp, x):
        self.calls += 1
        return x * float(self.calls), lambda: xp.full(x.shape, float(self.calls), dtype=x.dtype)


def both(layer, x, dy):
    """Y and dx of the fused net and of the layer."""
    backend = xcnn.backend("numpy", algorithm="gemm")
    found = []
    for net in (backend.rewrite(Sequential(layer)), layer):
        y, backward = net({}, x, Run(backend))
        found.append((y, backward(dy.astype(y.dtype))[0]))
    return found


@pytest.mark.parametrize("dtype", TYPES)
def test_a_users_activation_is_traced(dtype, rng):
    x, dy = 2 * rng.standard_normal((3, 7, 41)).astype(dtype), rng.standard_normal((3, 7, 41)).astype(dtype)
    made = formula([Bent()], dtype)
    assert made.keeps == "x"
    assert len(made.forward.steps) > 10
    for got, expected in zip(*both(Bent(), x, dy), strict=True):
        assert got.dtype == dtype
        np.testing.assert_allclose(got, expected, rtol=20 * np.finfo(dtype).eps, atol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("layer", [Branching(), Widening()], ids=repr)
def test_what_has_no_symbol_is_called_with_arrays(layer, rng):
    with pytest.raises(Untraceable):
        formula([layer], "float32")
    x, dy = rng.standard_normal((2, 5)).astype("float32"), np.ones((2, 5), "float32")
    for got, expected in zip(*both(layer, x, dy), strict=True):
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)


def test_what_may_change_is_asked_in_each_call():
    backend, layer = xcnn.backend("numpy"), Counting()
    net = backend.rewrite(Sequential(layer))
    seen = []
    for _ in range(3):
        before = layer.calls
        y, backward = net({}, np.ones(4, "float32"), Run(backend))
        assert layer.calls > before
        seen.append(y[0])
        np.testing.assert_array_equal(backward(np.ones(4, "float32"))[0], y)
    assert seen[0] < seen[1] < seen[2]


def test_an_array_may_be_overwritten(rng):
    """Whoever reads it later has read it before."""
    x = rng.standard_normal(5003).astype("float32")
    s = Symbol.of("x", "float32")
    program = Program({"y": s * 2, "z": (s * 2 + 1) * s}, None, ("x",))
    mine, z = x.copy(), np.empty_like(x)
    program.run({"x": mine, "y": mine, "z": z}, 1, 1, x.size)
    np.testing.assert_array_equal(mine, x * 2)
    np.testing.assert_allclose(z, (x * 2 + 1) * x, rtol=1e-5, atol=1e-6)


def test_equal_and_signed_zeros_are_different_numbers():
    s = Symbol.of("x", "float64")
    y = run({"y": NAMESPACE.where(s > 0, 0.0, -0.0)}, [np.asarray([1.0, -1.0])], 2, "float64")["y"]
    np.testing.assert_array_equal(np.signbit(y), [False, True])


def test_the_formulas_in_c_are_the_layers():
    """If not: python -m xcnn_native.formulas, and build."""
    assert (formulas.KERNELS / "formulas.h").read_text() == formulas.source()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", formulas.LAYERS)
def test_an_activation_of_ours_is_one_step(name, dtype):
    made = formula([formulas.LAYERS[name]], dtype)
    assert len(made.forward.steps) == len(made.backward.steps) == 1
    assert made.keeps == ("y" if name in ("RELU", "SIGMOID", "TANH") else "x")


def test_a_chain_is_one_program():
    made = formula([Tanh(), ReLU()], "float32")
    assert len(made.forward.steps) == 2
    assert len(made.backward.steps) == 4  # tanh and ReLU of x again, then both gradients
