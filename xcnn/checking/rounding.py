"""Rounding, imitated in float64: what the digits of a shorter type, or of products in one, do to a layer's results.

Layers are called with NumPy arrays of a class of their own, `Imitation`, which hands each operation that a layer makes
to an arithmetic. One arithmetic adds to each result a random error as large as rounding makes it: Monte Carlo
arithmetic, Parker 1997. So no layer has to say how many terms it sums, what it keeps in between, or where it subtracts
equal numbers; a layer of the user's own is understood as it is. Another arithmetic rounds what is multiplied, as tensor
cores do in TF32.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt, sqrt
from typing import Any, Protocol, TypeAlias

import numpy as np

HostArray: TypeAlias = np.ndarray[Any, Any]
Function: TypeAlias = Any
"""A NumPy ufunc, or numpy.dot or numpy.tensordot."""


@dataclass(frozen=True)
class Format:
    """Numbers of so many binary digits, the leading one counted, down to multiples of `least`."""

    name: str
    digits: int
    least: float

    @property
    def unit(self) -> float:
        """The unit roundoff: the largest relative error of rounding to the nearest."""
        return 2.0**-self.digits

    def rounded(self, x: HostArray) -> HostArray:
        """Float64 numbers rounded to the nearest of this format, ties to even; still float64. Overflow is not seen."""
        if self.digits == 53:
            return x
        _, exponent = np.frexp(x)
        spacing = np.maximum(np.ldexp(1.0, exponent - self.digits), self.least)
        return np.where(np.isfinite(x), np.rint(x / spacing) * spacing, x)


FORMATS = {
    known.name: known
    for known in (
        Format("float64", 53, 2.0**-1074),
        Format("float32", 24, 2.0**-149),
        Format("tf32", 11, 2.0**-136),
        Format("bfloat16", 8, 2.0**-133),
        Format("float16", 11, 2.0**-24),
    )
}


class Arithmetic(Protocol):
    """How an operation is computed: `arithmetic(ufunc, method, *arrays, **options)`, on and to plain NumPy arrays."""

    def __call__(self, ufunc: Function, method: str, *inputs: Any, **options: Any) -> Any:
        """The result of `getattr(ufunc, method)(*inputs, **options)` in this arithmetic."""
        ...


class Imitation(np.ndarray[Any, Any]):
    """A float64 array whose operations are those of an arithmetic; what they give is an Imitation again."""

    arithmetic: Arithmetic | None = None

    @classmethod
    def of(cls, x: HostArray, arithmetic: Arithmetic) -> Imitation:
        """The same cells under this arithmetic."""
        view = np.asarray(x).view(cls)
        view.arithmetic = arithmetic
        return view

    def __array_finalize__(self, parent: Any) -> None:
        self.arithmetic = getattr(parent, "arithmetic", None)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        arithmetic = next(a.arithmetic for a in (*inputs, self) if isinstance(a, Imitation) and a.arithmetic)
        out = options.pop("out", None)
        result = arithmetic(ufunc, method, *map(plain, inputs), **options)
        if out is None:
            return imitated(result, arithmetic)
        plain(out[0])[...] = result
        return out[0]

    def __array_function__(self, function: Any, types: Any, arguments: Any, options: Any) -> Any:
        if function in (np.dot, np.tensordot) and self.arithmetic:
            a, b, *axes = map(plain, arguments)
            result = self.arithmetic(function, "__call__", a, b, **({"axes": axes[0]} if axes else options))
        else:
            result = super().__array_function__(function, types, arguments, options)
        return imitated(result, self.arithmetic)


def plain(x: Any) -> Any:
    """An Imitation as the plain array of its cells; anything else as it is."""
    return x.view(np.ndarray) if isinstance(x, Imitation) else x


def imitated(x: Any, arithmetic: Arithmetic | None) -> Any:
    """A plain array of real numbers under this arithmetic; anything else as it is."""
    if arithmetic is None or isinstance(x, Imitation) or getattr(x, "dtype", np.dtype(bool)).kind != "f":
        return x
    return Imitation.of(x, arithmetic)


def multiplies(function: Function) -> bool:
    """Whether it is a product of matrices or vectors."""
    return not isinstance(function, np.ufunc) or function.signature is not None


EXACT: set[Function] = {
    np.absolute, np.ceil, np.copysign, np.fabs, np.floor, np.fmax, np.fmin, np.maximum, np.minimum, np.negative,
    np.positive, np.rint, np.sign, np.trunc,
}  # fmt: skip
"""Operations that need no rounding."""


SUMS = 4.0
"""How many times larger the errors of sums are than if their signs were random: where equal terms follow each other, as
those of a picture's background do, each partial sum is rounded to the same side."""


@dataclass(frozen=True)
class RandomRounding:
    """Adds to each result a random error, evenly distributed up to some times that of rounding.

    A sum of n terms is added up one after another, and each of its partial sums is rounded. If the terms have random
    signs, these partial sums are about as large as the root of the sum of their squares; if all terms have one sign, as
    large as the sum. The n errors have random signs either way, so that together they are sqrt(n) times one.

    Parameters
    ----------
    result
        of each operation, and of a whole sum
    partial
        of the partial sums. Half precision sums in float32, as tensor cores and NumPy do
    factors
        of what is multiplied in products of matrices
    times
        errors are so many times as large
    """

    result: Format
    partial: Format
    factors: Format
    times: float
    rng: np.random.Generator

    def __call__(self, ufunc: Function, method: str, *inputs: Any, **options: Any) -> Any:
        y = getattr(ufunc, method)(*inputs, **options)
        if ufunc in EXACT or getattr(y, "dtype", np.dtype(bool)).kind != "f":
            return y
        size = self.result.unit * np.abs(y) + self.result.least / 2
        if multiplies(ufunc):
            a, b = inputs
            squares = ufunc(a * a, b * b, **options)
            terms = a.shape[-1] if isinstance(ufunc, np.ufunc) else isqrt(a.size * b.size // max(y.size, 1))
            size = size + self._sum(y, squares, terms)
            if self.factors.digits < self.result.digits:
                size = size + sqrt(2) * self.factors.unit * np.sqrt(squares)
        elif ufunc is np.add and method == "reduce":
            squares = np.add.reduce(inputs[0] * inputs[0], **options)
            size = size + self._sum(y, squares, inputs[0].size // max(y.size, 1))
        return y + self.times * size * self.rng.uniform(-1, 1, y.shape)

    def _sum(self, y: HostArray, squares: HostArray, terms: int) -> HostArray:
        """The size of the error of sums of so many terms, whose squares sum to `squares`."""
        size: HostArray = SUMS * self.partial.unit * np.sqrt(terms * (squares + y * y))
        return size


@dataclass(frozen=True)
class ShortFactors:
    """Rounds what products of matrices multiply, and nothing else: sums are exact, and so are operations on cells."""

    factors: Format

    def __call__(self, ufunc: Function, method: str, *inputs: Any, **options: Any) -> Any:
        if multiplies(ufunc):
            inputs = tuple(self.factors.rounded(a) for a in inputs)
        return getattr(ufunc, method)(*inputs, **options)


def random_rounding(precision: str, compute: str, times: float, rng: np.random.Generator) -> RandomRounding:
    """The errors of layers that compute in a type under a precision: "tf32" in float32 rounds factors to TF32."""
    result = FORMATS[compute]
    partial = FORMATS["float32"] if result.digits < FORMATS["float32"].digits else result
    return RandomRounding(result, partial, factors_of(precision, compute), times, rng)


def factors_of(precision: str, compute: str) -> Format:
    """The format that is multiplied, where a model of this precision computes in this type."""
    return FORMATS["tf32" if precision == "tf32" else compute]


def error(x: HostArray, reference: HostArray) -> float:
    """The largest |difference| by the largest finite |reference|; by 1 where that is zero.

    Infinite where the shapes differ, or a number that is not finite stands where the reference has another.
    """
    if x.shape != reference.shape:
        return float("inf")
    same = (x == reference) | (np.isnan(x) & np.isnan(reference))
    if not (np.isfinite(x) & np.isfinite(reference) | same).all():
        return float("inf")
    difference = np.subtract(x, reference, out=np.zeros(x.shape), where=~same)
    largest = float(np.max(np.abs(reference), where=np.isfinite(reference), initial=0.0))
    return float(np.max(np.abs(difference), initial=0.0)) / (largest or 1.0)
