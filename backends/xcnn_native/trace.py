"""Formulas by tracing: what an activation's own `f` does with arrays, it does here with symbols, and is written down.

`f(xp, x)` and `through(dy, slope)` of a layer are called with a Symbol for x and this module's namespace for xp; what
comes back is a Symbol that knows how it was computed. program.py makes of such symbols what kernels run:

    x, dy = Symbol.of("x", dtype), Symbol.of("dy", dtype)        # arrays, cell by cell
    y, through = trace([GELU()], x)                              # of layers one after another
    forward = Program({"y": y * 2 + Symbol.of("b", dtype, CHANNEL)})
    backward = Program({"dx": through(dy)})

What has no symbol (other functions, shapes, an `if` about a cell, a matrix product) raises; `trace` says Untraceable,
and the layer itself is called with arrays instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import cache
from inspect import unwrap
from typing import Any, TypeAlias

import numpy as np

from xcnn.layers.activations import Activation
from xcnn.layers.layer import Layer
from xcnn_native.graph import CHANNEL, STREAM, digest, graph
from xcnn_native.library import KINDS, library

UNARY = {
    "abs": "ABS", "ceil": "CEIL", "cos": "COS", "exp": "EXP", "expm1": "EXPM1", "floor": "FLOOR", "log": "LOG",
    "log1p": "LOG1P", "negative": "NEGATE", "round": "ROUND", "sin": "SIN", "sqrt": "SQRT", "tanh": "TANH",
    "trunc": "TRUNC",
}  # fmt: skip
BINARY = {
    "add": "ADD", "subtract": "SUBTRACT", "multiply": "MULTIPLY", "divide": "DIVIDE", "minimum": "MINIMUM",
    "maximum": "MAXIMUM",
}  # fmt: skip
MASKS = {"LESS", "LESS_EQUAL", "EQUAL", "AND", "OR", "NOT"}
"""Operations that give true or false."""
Number: TypeAlias = "Symbol | float"


class Untraceable(Exception):
    """A layer is no formula of single cells that there are operations for."""


class Symbol:
    """A cell of an array, or what is computed of cells."""

    __slots__ = ("dtype", "operands", "operation", "value")
    __array_ufunc__ = None  # NumPy's functions refuse it, and its numbers leave operators to it
    device, ndim, shape = "cpu", 0, ()

    def __init__(self, operation: str, dtype: Any, operands: tuple[Symbol, ...] = (), value: Any = None) -> None:
        self.operation, self.dtype, self.operands, self.value = operation, dtype, operands, value

    @classmethod
    def of(cls, name: str, dtype: Any, kind: str = STREAM) -> Symbol:
        """A cell of the array with this name."""
        return cls(kind, np.dtype(dtype), (), name)

    @property
    def is_mask(self) -> bool:
        return self.operation in MASKS

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        return NAMESPACE

    def __bool__(self) -> bool:
        raise Untraceable("it asks a cell for its value.")

    def __add__(self, other: Any) -> Symbol:
        return operation("ADD", self, other)

    def __radd__(self, other: Any) -> Symbol:
        return operation("ADD", other, self)

    def __sub__(self, other: Any) -> Symbol:
        return operation("SUBTRACT", self, other)

    def __rsub__(self, other: Any) -> Symbol:
        return operation("SUBTRACT", other, self)

    def __mul__(self, other: Any) -> Symbol:
        return operation("MULTIPLY", self, other)

    def __rmul__(self, other: Any) -> Symbol:
        return operation("MULTIPLY", other, self)

    def __truediv__(self, other: Any) -> Symbol:
        return operation("DIVIDE", self, other)

    def __rtruediv__(self, other: Any) -> Symbol:
        return operation("DIVIDE", other, self)

    def __pow__(self, other: Any) -> Symbol:
        if type(other) in (int, float) and other in (1, 2, 3, 4):
            square = self * self if other > 1 else self
            return square * square if other == 4 else square * self if other == 3 else square
        raise Untraceable(f"it takes a power of {other}.")

    def __neg__(self) -> Symbol:
        return operation("NEGATE", self)

    def __pos__(self) -> Symbol:
        return self

    def __abs__(self) -> Symbol:
        return operation("ABS", self)

    def __lt__(self, other: Any) -> Symbol:
        return operation("LESS", self, other)

    def __gt__(self, other: Any) -> Symbol:
        return operation("LESS", other, self)

    def __le__(self, other: Any) -> Symbol:
        return operation("LESS_EQUAL", self, other)

    def __ge__(self, other: Any) -> Symbol:
        return operation("LESS_EQUAL", other, self)

    def __eq__(self, other: Any) -> Symbol:  # type: ignore[override]
        return operation("EQUAL", self, other)

    def __ne__(self, other: Any) -> Symbol:  # type: ignore[override]
        return operation("NOT", operation("EQUAL", self, other))

    __hash__ = None  # type: ignore[assignment]

    def __and__(self, other: Any) -> Symbol:
        return logical("AND", self, other)

    def __or__(self, other: Any) -> Symbol:
        return logical("OR", self, other)

    def __invert__(self) -> Symbol:
        return logical("NOT", self)


def operation(name: str, *operands: Any) -> Symbol:
    """What this operation gives of numbers; masks among them count as 1 and 0."""
    dtype = next(a.dtype for a in operands if isinstance(a, Symbol))
    cells = tuple(number(a, dtype) for a in operands)
    if name == "DIVIDE" and cells[1].operation == "CONSTANT" and abs(math.frexp(cells[1].value or 1)[0]) == 0.5:
        name, cells = "MULTIPLY", (cells[0], number(1 / cells[1].value, dtype))  # as exact
    return Symbol(name, dtype, cells)


def logical(name: str, *operands: Any) -> Symbol:
    """What this operation gives of masks."""
    if not all(isinstance(a, Symbol) and a.is_mask for a in operands):
        raise Untraceable(f"{name} has an operand that is no comparison.")
    return Symbol(name, operands[0].dtype, operands)


def number(value: Any, dtype: Any) -> Symbol:
    """A number as a symbol of this type; NumPy's own numbers would change the type of what they meet."""
    if isinstance(value, Symbol):
        if value.dtype != dtype:
            raise Untraceable("it mixes types.")
        return where(value, 1.0, 0.0) if value.is_mask else value
    if type(value) not in (int, float, bool):
        raise Untraceable(f"it has an operand of {type(value).__name__}.")
    return Symbol("CONSTANT", dtype, (), float(value))


def where(mask: Any, a: Any, b: Any) -> Symbol:
    """A where the mask is true, else b."""
    if not isinstance(mask, Symbol) or not mask.is_mask:
        raise Untraceable("`where` has a mask that is no comparison.")
    return Symbol("WHERE", mask.dtype, (mask, number(a, mask.dtype), number(b, mask.dtype)))


def full(shape: Any, value: Any, *, dtype: Any = None, device: Any = None) -> float:
    """A constant is a number, whatever its shape; that can only be () or the symbol's own, which is ()."""
    if shape != () or type(value) not in (int, float, bool):
        raise Untraceable("it makes an array of another shape than its own.")
    return float(value)


def filled(like: Any, value: float) -> float:
    """The constant where an array of the symbol's shape is asked for."""
    if not isinstance(like, Symbol):
        raise Untraceable("it makes an array of another shape than its own.")
    return value


class Namespace:
    """As much of an array library as formulas of single cells need; a function of numbers alone is NumPy's."""

    __name__ = __name__  # array_api_compat asks for it
    float32, float64 = np.dtype("float32"), np.dtype("float64")
    pi, e, inf, nan = math.pi, math.e, math.inf, math.nan
    full, where = staticmethod(full), staticmethod(where)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        known = UNARY.get(name) or BINARY.get(name)
        if known is None:
            raise AttributeError(f"there is no operation for {name}.")

        def function(*operands: Any) -> Any:
            return operation(known, *operands)

        return function

    def square(self, x: Symbol) -> Symbol:
        return x * x

    def reciprocal(self, x: Symbol) -> Symbol:
        return operation("DIVIDE", 1.0, x)

    def sign(self, x: Symbol) -> Symbol:
        return where(x > 0, 1.0, where(x < 0, -1.0, x))

    def clip(self, x: Symbol, min: Number | None = None, max: Number | None = None) -> Symbol:
        x = x if min is None else operation("MAXIMUM", x, min)
        return x if max is None else operation("MINIMUM", x, max)

    def pow(self, x: Symbol, exponent: Any) -> Symbol:
        return x.__pow__(exponent)

    def isnan(self, x: Symbol) -> Symbol:
        return x != x

    def isinf(self, x: Symbol) -> Symbol:
        return abs(x) == math.inf

    def isfinite(self, x: Symbol) -> Symbol:
        return abs(x) < math.inf

    def less(self, a: Symbol, b: Any) -> Symbol:
        return operation("LESS", a, b)

    def greater(self, a: Symbol, b: Any) -> Symbol:
        return operation("LESS", b, a)

    def less_equal(self, a: Symbol, b: Any) -> Symbol:
        return operation("LESS_EQUAL", a, b)

    def greater_equal(self, a: Symbol, b: Any) -> Symbol:
        return operation("LESS_EQUAL", b, a)

    def equal(self, a: Symbol, b: Any) -> Symbol:
        return operation("EQUAL", a, b)

    def not_equal(self, a: Symbol, b: Any) -> Symbol:
        return ~operation("EQUAL", a, b)

    def logical_and(self, a: Any, b: Any) -> Symbol:
        return logical("AND", a, b)

    def logical_or(self, a: Any, b: Any) -> Symbol:
        return logical("OR", a, b)

    def logical_not(self, a: Any) -> Symbol:
        return logical("NOT", a)

    def zeros_like(self, x: Any, *, dtype: Any = None, device: Any = None) -> float:
        return filled(x, 0.0)

    def ones_like(self, x: Any, *, dtype: Any = None, device: Any = None) -> float:
        return filled(x, 1.0)

    def full_like(self, x: Any, value: float, *, dtype: Any = None, device: Any = None) -> float:
        return filled(x, float(value))

    def astype(self, x: Symbol, dtype: Any, *, copy: bool = True) -> Symbol:
        if dtype != x.dtype:
            raise Untraceable("it changes the type.")
        return number(x, x.dtype)


NAMESPACE = Namespace()
Through: TypeAlias = Callable[[Symbol], Symbol]
"""From the symbol of dY to that of dX."""


def is_formula(layer: Layer) -> bool:
    """Whether the layer computes what its `f` says, and nothing else."""
    return isinstance(layer, Activation) and unwrap(type(layer).__call__) is Activation.__call__


def traced(layer: Any, x: Symbol, dy: Symbol) -> tuple[Symbol, Symbol]:
    """Y, and dX of dY, as the activation computes them."""
    y, back = step(layer, x)
    return y, back(dy)


def step(layer: Any, x: Symbol) -> tuple[Symbol, Through]:
    """Y of one activation, and what gives dX, as it computes them itself."""
    if not is_formula(layer):
        raise Untraceable(f"{type(layer).__name__} is no activation.")
    y, slope = tried(lambda: layer.f(NAMESPACE, x))
    y, factor = number(y, x.dtype), tried(slope)
    return y, lambda dy: number(tried(lambda: layer.through(dy, factor)), x.dtype)


def tried(call: Callable[[], Any]) -> Any:
    """What it gives; whatever goes wrong with symbols, arrays may be right for it."""
    try:
        return call()
    except Exception as error:
        raise error if isinstance(error, Untraceable) else Untraceable(str(error)) from error


def trace(layers: Iterable[Layer], x: Symbol) -> tuple[Symbol, Through]:
    """Y of these activations one after another, and what gives dX.

    Raises
    ------
    Untraceable
        where a layer does what there is no operation for, or raises an exception of its own.
    """
    steps: list[Through] = []
    for layer in layers:
        x, back = compiled(*step(layer, x), x)
        steps.append(back)

    def through(dy: Symbol) -> Symbol:
        for back in reversed(steps):
            dy = back(dy)
        return dy

    return x, through


def compiled(y: Symbol, back: Through, x: Symbol) -> tuple[Symbol, Through]:
    """The same, as one operation each where the library has the formula in C."""
    known = formulas(y.dtype.char)
    name = known.get(digest(graph({"y": y}, {"x": x})[0]))
    result = Symbol(name, y.dtype, (x,)) if name else y

    def through(dy: Symbol) -> Symbol:
        dx = back(dy)
        for kept, read in ({"y": y, "": x}, result), ({"x": x}, x):
            if name := known.get(digest(graph({"dx": dx}, {**kept, "dy": dy})[0])):
                return Symbol(name, dx.dtype, (read, dy))
        return dx

    return result, through


@cache
def formulas(char: Any) -> dict[str, str]:
    """The library's operations for whole activations, by the digests of their formulas."""
    found = library()
    told = getattr(found, f"formulas_{KINDS[char]}")().decode() if found else ""
    return {of: name for name, of in (one.split(":") for one in told.split())}


__all__ = ["CHANNEL", "STREAM", "Symbol", "Through", "Untraceable", "is_formula", "trace", "traced", "where"]
