"""The parity report: how far backends are from float64 on the reference, layer by layer, and what rounding explains.

Each layer is measured by itself. It is given what it meets in the net, so that no layer answers for those before it.
The last row is the whole net, as it really runs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache, cached_property
from math import frexp, inf, isfinite
from typing import Any, Literal, TypeAlias

import numpy as np
from array_api_compat import is_array_api_obj

from xcnn import backends as registry
from xcnn.backends.contract import Backend, is_default
from xcnn.backends.selector import with_precision
from xcnn.checking.rounding import (
    FORMATS,
    Arithmetic,
    Format,
    HostArray,
    Imitation,
    ShortFactors,
    error,
    factors_of,
    plain,
    random_rounding,
)
from xcnn.core import html, random, tree
from xcnn.core.types import Array, Backward, Rng, Shape, Weights
from xcnn.errors import (
    BackendError,
    DataError,
    DTypeError,
    OptionError,
    ShapeError,
    XcnnError,
    counted,
    printable,
    short,
    told_by,
)
from xcnn.layers import Sequential
from xcnn.layers.layer import Layer, Next, Run
from xcnn.layers.packed import Packed
from xcnn.model.host_data import inputs_of, samples_of
from xcnn.model.model import Model
from xcnn.training.precision import Cast, Precision, is_container, mixed, type_name, within

TIMES = 8.0
"""Errors of rounding are imitated so many times as large. Of this, the layers of xcnn on NumPy, array-api-strict and
PyTorch were found to need 2, but 5.7 where PyTorch sums 12,544 cells of a kernel's gradient (SUMS in rounding.py)."""
DRAWS = 3
"""How often they are; the largest error counts."""
BRANCHES = 2.0
"""How much more is explained backward in the whole net, where a small error may decide which cell is the largest of a
pooling, or on which side of zero a ReLU is. What follows from it does not grow with the error."""
NOISE = 0.1
"""How much of the largest |x| is added at random to what the whole net is given. In the blank parts of pictures cells
are equal, or zero before a ReLU while biases are zero: there nothing but rounding would decide where gradients go."""
NEARER = 4.0
"""A cause is named where a result is so many times nearer to what the cause would give than to the exact one. That is
looked into as soon as an error is larger than rounding makes it without TIMES."""
OTHER = 0.5
"""How many times as large those numbers are that are computed first."""
ALONE = "layer"
"""The name of a layer that stands by itself in a container, which gives it the key (*KEY, 0)."""
KEY = (0,)
WHOLE = "the whole net"
CAUSES = ("tf32", "bfloat16", "float16")
"""What the factors of products may have been rounded to. Where float16 would do, so do the digits of tf32."""
SWITCHES = {
    "torch": "torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False, and "
    'torch.set_float32_matmul_precision("highest")',
    "cupy": 'unset the variable CUPY_TF32, and leave precision="float32"',
    "jax": 'jax.config.update("jax_default_matmul_precision", "highest")',
}
"""How products are made as precise as their type, by the library of the backend."""

Results: TypeAlias = dict[str, HostArray]
"""What one call of a layer gave, in float64: "y", "dx", "dkernel" and so on, and a Next by its weight's name."""


@dataclass(frozen=True)
class Row:
    """One quantity of one layer on one backend.

    Parameters
    ----------
    layer
        its path in the net, or WHOLE
    quantity
        "y", "dx", "d" and a weight's name, or the name of a weight that has a Next; empty where the backend failed
    error
        the largest |difference| to float64 on the reference, by the largest |value| there; infinite where a NaN or
        infinity stands on one side only
    explained
        the largest error that rounding explains, on the same scale
    verdict
        "explained"; "not explained" where the error is larger, or has a cause; "failed" where the backend raised
    cause
        what products multiplied: "tf32", "bfloat16" or "float16"; "NaN or infinity"; the first line of a failure
    hint
        what turns the cause off
    """

    layer: str
    kind: str
    backend: str
    quantity: str
    error: float
    explained: float
    verdict: str
    cause: str = ""
    hint: str = ""

    @property
    def ok(self) -> bool:
        """Whether rounding explains it."""
        return self.verdict == "explained"

    @property
    def excess(self) -> float:
        """The error in units of what rounding explains."""
        return self.error / self.explained if self.explained else self.error

    def to_dict(self) -> dict[str, Any]:
        """The row as plain values, for JSON: an infinite error is None."""
        return {name: None if value == inf else value for name, value in vars(self).items()}


@dataclass(frozen=True)
class Comparison:
    """What `xcnn.compare` gives; `print` it, or go through its rows."""

    rows: tuple[Row, ...]
    samples: int
    precision: str

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def ok(self) -> bool:
        """Whether anything was compared, and rounding explains every error."""
        return bool(self.rows) and all(row.ok for row in self.rows)

    @property
    def worst(self) -> Row | None:
        """The row whose error is largest, measured by what rounding explains."""
        return max(self.rows, key=lambda row: row.excess, default=None)

    def __str__(self) -> str:
        table = [_cells(rows) for rows in self._lines()]
        widths = [max(map(len, column)) for column in zip(TITLES, *table, strict=True)]
        lines = [_aligned(cells, widths) for cells in (TITLES, ["-" * width for width in widths], *table)]
        return "\n".join(map(printable, [*lines, "", *self._notes()]))

    def _repr_html_(self) -> str:
        return html.table(TITLES, [_cells(rows) for rows in self._lines()], words=3, notes=self._notes())

    def _lines(self) -> list[list[Row]]:
        """The rows of each line: a layer on a backend."""
        lines: dict[tuple[str, str], list[Row]] = {}
        for row in self.rows:
            lines.setdefault((row.layer, row.backend), []).append(row)
        return list(lines.values())

    def _notes(self) -> list[str]:
        odd = sum(not all(row.ok for row in rows) for rows in self._lines())
        told = f"{odd} of {len(self._lines())} not explained, or failed" if odd else "rounding explains all"
        hints = {f"{row.backend}, {row.cause}: {row.hint}" for row in self.rows if row.hint}
        return [
            f"{told} ({self.precision}, {counted(self.samples, 'sample')}, largest error by largest value)",
            *sorted(hints),
        ]


TITLES = ("layer", "class", "backend", "forward", "explained", "backward", "explained", "verdict")


def _aligned(cells: Sequence[str], widths: list[int]) -> str:
    """A line of the table: numbers to the right."""
    sides = ("<", "<", "<", ">", ">", ">", ">", "<")
    return "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(cells, sides, widths, strict=True)).rstrip()


def _cells(rows: list[Row]) -> tuple[str, ...]:
    """The line of a layer on a backend; of several gradients that which is explained least."""
    first = rows[0]
    where = first.layer, first.kind, first.backend
    if first.verdict == "failed":
        return *where, "", "", "", "", f"failed: {first.cause}"
    shown = []
    for parts in ([r for r in rows if r.quantity == "y"], [r for r in rows if r.quantity != "y"]):
        worst = max(parts, key=lambda row: (not row.ok, row.excess))
        name = "" if worst.ok or worst.quantity == "y" else f"{worst.quantity} "
        shown += [f"{name}{worst.error:.1e}", f"{worst.explained:.1e}"]
    odd = [row for row in rows if not row.ok]
    causes = dict.fromkeys(row.cause for row in odd if row.cause)
    return *where, *shown, ("NOT explained" if odd else "explained") + f": {', '.join(causes)}" * bool(causes)


def compare(
    model: Model, x: Any, y: Any = None, *, backends: Iterable[str | Backend] | str | Backend | None = None
) -> Comparison:
    """Measure each layer of a model on each backend, forward and backward, against float64 on the reference.

    A layer is given what it meets in the net, rounded to the type that it computes in, and its reference is computed
    from the same rounded numbers: only its own arithmetic differs. Layers run as in training. Beside each error stands
    the one that rounding explains, found by imitating rounding (rounding.py). Where an error is larger, and products
    of fewer digits would give it, these are named as its cause.

    Parameters
    ----------
    model
        the net with its weights, loss and precision
    x : (samples, *input_shape)
        floating-point numbers on the host; a few samples are enough
    y
        labels or targets as for `fit`, whose loss gives the gradients that go backward; by default they are random
    backends
        names or Backend objects; by default all that are available here and compute in the model's precision

    Raises
    ------
    DataError, ShapeError, DTypeError, LabelError
        as `predict` and `fit` do.
    BackendError
        X303, when there is no backend of a name. Whatever else a backend raises stands in its row.

    Examples
    --------
    >>> model = xcnn.Model(xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(2)), (1, 4, 4), backend="numpy")
    >>> table = xcnn.compare(model, np.ones((2, 1, 4, 4), "float32"), backends="numpy")
    >>> sorted({row.layer for row in table})
    ['dense1', 'flatten1', 'the whole net']
    """
    if not isinstance(model, Model):
        raise OptionError(
            "X104", f"compare takes a model; got {short(model)}.", hint="compare(xcnn.Model(net, ...), x)"
        )
    if not isinstance(backends, str | Backend | Iterable | None) or is_array_api_obj(backends):
        raise OptionError("X104", f"backends must be names or backends; got {short(backends)}.")
    x, t = (inputs_of(model, x), None) if y is None else samples_of(model, x, y)
    if not len(x):
        raise DataError("X203", "x is empty.", hint="give at least one sample.")
    named = [backends] if isinstance(backends, str | Backend) else backends
    there, failures = _moved(model, list(usable(model) if named is None else named))
    with np.errstate(all="ignore"):  # what is not finite is in the errors
        rows = [
            row
            for subject in subjects(model, x, t)
            for label, on in there.items()
            for row in measured(subject, label, on)
        ]
    return Comparison((*rows, *failures), len(x), model.precision)


def usable(model: Model) -> Iterator[str]:
    """The backends that are available here and compute in the model's precision."""
    for name, info in registry.available_backends().items():
        if info.available:
            try:
                with_precision(registry.backend(name), model.policy)
            except OptionError:
                continue
            yield name


def _moved(model: Model, names: list[str | Backend]) -> tuple[dict[str, Model], list[Row]]:
    """A copy of the model on each backend, by what the backend is called; rows for those that can't take it."""
    there, failures = {}, []
    for name in names:
        try:
            moved = copy.copy(model).to(name)
        except BackendError:  # there is no backend of this name
            raise
        except Exception as failure:
            label = label_of(name) if isinstance(name, Backend) else name
            failures.append(failed(WHOLE, type(model.net).__name__, label, failure))
        else:
            there[label_of(moved.backend)] = moved
    return there, failures


def label_of(backend: Backend) -> str:
    """What tells two backends apart: "numpy", "numpy (algorithm=fft)"."""
    changed = [f"{f.name}={getattr(backend, f.name)}" for f in fields(backend)[1:] if not is_default(backend, f.name)]
    return f"{backend.spec} ({', '.join(changed)})" if changed else backend.spec


def measured(subject: Subject, label: str, there: Model) -> Iterator[Row]:
    """The rows of one subject on one backend."""
    backend = there.trainer.backend
    try:
        runs = list(subject.runs(backend, there.trainer.net))
        for results in runs:
            if results.keys() != subject.exact.keys():
                told = f"gives {', '.join(results)} for {', '.join(subject.exact)}."
                raise ShapeError("X101", told, layer=subject.layer)
    except Exception as failure:
        yield failed(subject.path, subject.kind, label, failure)
        return
    for quantity, exact in subject.exact.items():
        found, worst = max(((error(r[quantity], exact), r[quantity]) for r in runs), key=lambda pair: pair[0])
        explained = subject.explained[quantity]
        row = Row(subject.path, subject.kind, label, quantity, found, explained, "explained")
        suspicious = explained if subject.path == WHOLE else explained / TIMES
        cause = subject.cause(quantity, worst) if found > suspicious else ""
        if cause or found > explained:
            hint = SWITCHES.get(backend.library, "") if cause in CAUSES else ""
            row = replace(row, verdict="not explained", cause=cause, hint=hint)
        yield row


def failed(path: str, kind: str, label: str, failure: Exception) -> Row:
    """The row of a backend that raised."""
    what = failure.summary if isinstance(failure, XcnnError) else told_by(failure)
    return Row(path, kind, label, "", inf, 0.0, "failed", what)


# What is measured.


@dataclass(frozen=True)
class Subject:
    """A layer, or the whole net, with what it is given: numbers that its type has, as float64 arrays.

    Parameters
    ----------
    dtype
        of the arrays that it takes and gives
    compute
        the shortest type that it computes in
    """

    path: str
    layer: Layer
    dtype: str
    compute: str
    precision: Precision
    weights: Weights
    x: HostArray
    dy: HostArray
    key: random.Key

    @property
    def kind(self) -> str:
        """The layer's class."""
        return type(self.layer).__name__

    def runs(self, backend: Backend, net: Layer) -> Iterator[Results]:
        """The results on a backend in all ways in which it may come to compute them, `net` being what it runs.

        A layer is called by itself, and as the backend rewrites it; each with x and dy that lie in memory as they are
        indexed, and the other way round. What it is to write may lie where something else was before: so that this is
        not the right result, other numbers are computed first.
        """
        for form in (net,) if self.path == WHOLE else self.forms(backend):
            for order in ("C", "F"):
                self.on(backend, form, order, OTHER)
                yield self.on(backend, form, order)

    def forms(self, backend: Backend) -> Iterator[Layer]:
        """The layer itself, and what the backend makes of it."""
        yield self.layer
        alone = Sequential(**{ALONE: self.layer})
        rewritten = backend.rewrite(alone)
        if rewritten is not alone:
            yield Alone(rewritten)

    def on(self, backend: Backend, layer: Layer, order: Literal["C", "F"] = "C", times: float = 1.0) -> Results:
        """The results of a layer on a backend, what it is given being so many times as large and lying in this order.

        Raises
        ------
        DTypeError
            X103, where they have another type.
        """
        wide = "float64" if self.dtype == "float64" else "float32"

        def send(a: HostArray) -> Array:
            return backend.astype(backend.asarray(np.asarray(times * a, order=order), wide), self.dtype)

        def fetch(a: Array) -> HostArray:
            if type_name(a) != self.dtype:
                raise DTypeError("X103", f"gives {type_name(a)} for {self.dtype}.", layer=self.layer)
            return backend.to_numpy(backend.astype(a, wide)).astype("float64")

        with backend.active():
            return self._called(layer, backend, send, fetch)

    @cached_property
    def exact(self) -> Results:
        """The results in float64 on the reference."""
        return self._called(self.layer, reference(), np.asarray, np.asarray)

    @cached_property
    def explained(self) -> dict[str, float]:
        """The largest error of each result that rounding explains; at least what rounding the result itself makes."""
        largest = dict.fromkeys(self.exact, 2 * FORMATS[self.compute].unit)
        for draw in range(DRAWS):
            results = self._drawn(draw)
            for name, exact in self.exact.items():
                found = error(results[name], exact) * (BRANCHES if self.path == WHOLE and name != "y" else 1.0)
                largest[name] = max(largest[name], found if isfinite(found) else 0.0)
        return largest

    def cause(self, quantity: str, result: HostArray) -> str:
        """The format of the factors of products that would give this result; empty where none is known to."""
        found = error(result, self.exact[quantity])
        if found == inf:
            return "NaN or infinity"
        rounding, exact = 2 * FORMATS[self.compute].unit, self.exact[quantity]
        for name, of in self._suspects.items():  # one that differs by rounding alone made no products of this
            if error(result, of[quantity]) <= found / NEARER and error(of[quantity], exact) > rounding:
                return name
        return ""

    @cached_property
    def _suspects(self) -> dict[str, Results]:
        """The results of products of fewer digits than the model's, by the name of their format."""
        digits = factors_of(self.precision.name, self.compute).digits
        shorter = [FORMATS[name] for name in CAUSES if FORMATS[name].digits < digits]
        return {factors.name: self._with(factors) for factors in shorter}

    def _drawn(self, draw: int) -> Results:
        """Results with random errors of rounding, TIMES as large."""
        rng = random.generator(*KEY, draw)
        return self._imitated(lambda compute: random_rounding(self.precision.name, compute, TIMES, rng))

    def _with(self, factors: Format) -> Results:
        """Results whose products multiply numbers of this format."""
        return self._imitated(lambda compute: ShortFactors(factors))

    def _imitated(self, arithmetic: Callable[[str], Arithmetic]) -> Results:
        """The results on the reference, each layer under the arithmetic that there is for the type it computes in."""

        def imitating(path: tuple[str, ...], layer: Layer) -> Layer:
            compute = computes_in(layer, self.dtype)
            handed = layer.result if isinstance(layer, Cast) else compute
            return Imitated(within(layer), compute, handed, arithmetic(compute))

        net = mixed(self.layer, self.precision) if self.path == WHOLE else self.layer
        return self._called(leafwise(net, imitating), reference(), np.asarray, plain)

    def _called(
        self, layer: Layer, backend: Backend, send: Callable[[HostArray], Array], fetch: Callable[[Array], HostArray]
    ) -> Results:
        y, backward = layer(tree.map(send, self.weights), send(self.x), Run(backend, True, self.key))
        dx, grads = backward(send(self.dy))
        named = {"y": y, "dx": dx}
        for name, leaf in tree.items(grads):
            named |= {name: leaf.value} if isinstance(leaf, Next) else {f"d{name}": leaf}
        return {name: fetch(array) for name, array in named.items()}


def subjects(model: Model, x: HostArray, t: HostArray | None) -> Iterator[Subject]:
    """The layers of a model by their names' order, then the whole net, with what they meet of this batch."""
    weights = tree.map(lambda w: model.backend.to_numpy(w).astype("float64"), model.weights)
    x = x.astype("float64")
    recorders: dict[str, Recorder] = {}

    def recording(path: tuple[str, ...], layer: Layer) -> Layer:
        return recorders.setdefault(".".join(path) or "net", Recorder(layer))

    net = leafwise(mixed(model.net, model.policy), recording)
    with np.errstate(all="ignore"):
        y, backward = net(weights, x, Run(reference(), True, KEY))
        dy = random.generator(*KEY, DRAWS).standard_normal(y.shape) if t is None else model.loss(y, t)[1]
        dy = FORMATS[model.dtype].rounded(sized(dy))
        backward(dy)
    for path, met in recorders.items():
        compute = computes_in(met.layer, model.dtype)
        rounded = FORMATS[compute].rounded
        given = tree.map(rounded, met.weights), rounded(met.x), rounded(sized(met.dy)), (*KEY, 0)
        yield Subject(path, within(met.layer), compute, compute, model.policy, *given)
    noise = NOISE * np.max(np.abs(x)) * random.generator(*KEY, DRAWS + 1).standard_normal(x.shape)
    noisy = FORMATS[model.dtype].rounded(x + noise)
    yield Subject(WHOLE, model.net, model.dtype, model.policy.compute, model.policy, weights, noisy, dy, KEY)


def leafwise(net: Layer, wrapped: Callable[[tuple[str, ...], Layer], Layer], path: tuple[str, ...] = ()) -> Layer:
    """The net with `wrapped(path, layer)` in the place of each layer that holds no others."""
    if is_container(net):
        made: Layer = net.with_layers({name: leafwise(layer, wrapped, (*path, name)) for name, layer in net.named})
        return made
    if isinstance(net, Packed):
        return replace(net, graph=leafwise(net.graph, wrapped, path))  # type: ignore[arg-type]
    return wrapped(path, net)


def computes_in(layer: Layer, dtype: str) -> str:
    """The type that a layer computes in, in a model whose weights have this one."""
    return layer.compute if isinstance(layer, Cast) else dtype


def sized(dy: HostArray) -> HostArray:
    """By a power of two, so that the largest number is 0.5 to 1: float16 has few small ones, and backward is linear."""
    largest = float(np.max(np.abs(dy), initial=0.0))
    return np.ldexp(dy, -frexp(largest)[1]) if isfinite(largest) else dy


@cache
def reference() -> Backend:
    """NumPy arrays with the reference's primitives."""
    from xcnn.backends.libraries import library_backend

    return library_backend("numpy")()


@dataclass
class Recorder:
    """A layer, or one in a Cast, that computes without the Cast, and notes what it is given."""

    layer: Layer

    def init(self, rng: Rng, input_shape: Shape) -> tuple[Weights, Shape]:
        return self.layer.init(rng, input_shape)

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        self.weights: Weights = weights
        self.x: Array = x
        y, inner_backward = within(self.layer)(weights, x, run)

        def backward(dy: Array) -> tuple[Array, Weights]:
            self.dy = dy
            return inner_backward(dy)

        return y, backward


@dataclass(frozen=True)
class Imitated:
    """A layer under an arithmetic: it is given numbers that its type has, and rounds what it computes from them.

    Parameters
    ----------
    handed
        the type of y, and of dy, as layers hand them to each other
    """

    layer: Layer
    compute: str
    handed: str
    arithmetic: Arithmetic

    def init(self, rng: Rng, input_shape: Shape) -> tuple[Weights, Shape]:
        return self.layer.init(rng, input_shape)

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        y, inner_backward = self.layer(tree.map(self._given, weights), self._given(x), run)
        return self._given(y, self.handed), lambda dy: inner_backward(self._given(self._given(dy, self.handed)))

    def _given(self, a: HostArray, dtype: str = "") -> HostArray:
        return Imitation.of(FORMATS[dtype or self.compute].rounded(plain(a)), self.arithmetic)


@dataclass(frozen=True)
class Alone:
    """A container of one layer, with the weights and gradients of the layer."""

    net: Layer

    def init(self, rng: Rng, input_shape: Shape) -> tuple[Weights, Shape]:
        weights, shape = self.net.init(rng, input_shape)
        return weights.get(ALONE, {}), shape

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        y, net_backward = self.net({ALONE: weights}, x, replace(run, key=run.key[:-1]))

        def backward(dy: Array) -> tuple[Array, Weights]:
            dx, grads = net_backward(dy)
            return dx, grads.get(ALONE, {})

        return y, backward


__all__ = ["Comparison", "Row", "compare"]
