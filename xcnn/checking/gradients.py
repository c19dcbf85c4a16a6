"""Checks for layers and backends, your own as well as xcnn's: gradients, adjoints, and agreement with the reference.

A check returns the errors that it measured and raises CheckFailed where one is too large, so it is a test by itself:

    def test_my_layer():
        xcnn.testing.check_layer(MyLayer(3), (2, 8, 8))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from array_api_compat import is_jax_array

from xcnn.backends.contract import Backend
from xcnn.backends.selector import get_backend
from xcnn.core import random, tree
from xcnn.core.checks import check_flag, check_shape, check_whole
from xcnn.core.initializers import check_cells_of
from xcnn.core.types import Array, Shape, Weights
from xcnn.errors import OptionError, host_memory, short
from xcnn.layers.layer import Layer, Next, Run

HostArray = np.ndarray[Any, Any]

GRADIENT = 1e-6
"""Largest relative error of a gradient against central differences, both in float64."""
SAME = 1e-12
"""Largest relative error, in float64, between results that only differ in the order of additions."""
SINGLE = 1e-5
"""Largest relative error of float32 against float64."""
SMALL = 1.0
"""Norm from which errors are relative. What a check computes comes from arrays of size one, and rounds as they do."""
STEP = 1e-6
"""Step of the central differences: truncation is about STEP^2, rounding about ROUNDING."""
ROUNDING = 10 * float(np.finfo("float64").eps) / STEP
"""What rounding in y, a few units in the last place of it, makes of a slope, relative to y."""


class CheckFailed(AssertionError):
    """A check found an error that is too large."""


@dataclass(frozen=True, repr=False)
class ReferenceBackend(Backend):
    """NumPy arrays with the reference's primitives: what every backend is compared with.

    Parameters
    ----------
    device
        None, there being no other
    algorithm
        "auto", the only one
    fuse
        whether runs of layers may be replaced; nothing is

    Examples
    --------
    >>> xcnn.Model(xcnn.Dense(2), (3,), backend=xcnn.testing.ReferenceBackend()).backend.name
    'reference'
    """

    library: ClassVar[str] = "numpy"

    @property
    def xp(self) -> Any:
        return np

    def asarray(self, x: Any, dtype: str | None = None) -> Array:
        return np.asarray(x, dtype=dtype)

    def to_numpy(self, x: Array) -> HostArray:
        return np.asarray(x)


@dataclass(frozen=True)
class Report:
    """The largest relative errors that a check measured, by what was compared.

    Parameters
    ----------
    subject
        the layer or primitive
    errors
        the largest, relative, by name
    """

    subject: str
    errors: dict[str, float]

    def __str__(self) -> str:
        return f"{self.subject}: " + ", ".join(f"{name} {error:.1e}" for name, error in self.errors.items())


Send = Callable[[HostArray], Array]
"""Brings a host array to a backend, in some type or layout."""


@dataclass(frozen=True)
class Trial:
    """A layer on a backend, seen from the host: NumPy arrays in and out."""

    layer: Layer
    backend: Backend
    train: bool = True

    def forward(self, weights: Weights, x: HostArray) -> HostArray:
        """Y, in float64"""
        with self.backend.active():
            y, _ = self.layer(tree.map(self.backend.asarray, weights), self.backend.asarray(x), self.run)
            return self.backend.to_numpy(y)

    def both(self, weights: Weights, x: HostArray, dy: HostArray, send: Send | None = None) -> Weights:
        """Y, dx and the gradients, as one tree; `send` is by default the backend's `asarray`."""
        send, fetch = send or self.backend.asarray, self._fetch
        with self.backend.active():
            y, backward = self.layer(tree.map(send, weights), send(x), self.run)
            check_equal(f"{self.layer}: y's shape for a batch of {len(x)}", tuple(y.shape), dy.shape)
            dx, grads = backward(send(dy))
            return {"y": fetch(y), "dx": fetch(dx), "grads": tree.map(fetch, grads)}

    @property
    def run(self) -> Run:
        """The run, its key always the same, so that a random layer is a function."""
        return Run(self.backend, self.train, (7,))

    def _fetch(self, leaf: Any) -> Any:
        return Next(self.backend.to_numpy(leaf.value)) if isinstance(leaf, Next) else self.backend.to_numpy(leaf)


def check_layer(
    layer: Layer,
    input_shape: Shape,
    *,
    backend: Backend | None = None,
    train: bool = True,
    batch: int = 2,
    seed: int = 0,
) -> Report:
    """Put a layer to the whole test on a backend, by default the process's.

    Its gradients against central differences in random directions, in float64; the shape that `init` promised; a batch
    of zero; arrays that are not contiguous or can't be written, and are left as they were; float32 against float64;
    agreement with the reference's primitives.

    Parameters
    ----------
    layer
        of xcnn or your own
    input_shape
        of one sample
    backend
        where; None is the process's
    train
        whether the layer runs as in training
    batch
        samples in x
    seed
        of the weights, inputs and directions

    Raises
    ------
    CheckFailed
        names the weight or property at fault, with the numbers.

    Examples
    --------
    >>> xcnn.testing.check_layer(xcnn.Dense(2), (3,)).subject
    "Dense(units=2, bias=True, kernel_initializer='glorot_uniform')"
    """
    if not isinstance(layer, Layer) or isinstance(layer, type):
        raise OptionError("X104", f"check_layer takes a layer; got {short(layer)}.", hint="such as xcnn.Dense(3).")
    input_shape, seed = check_shape("input_shape", input_shape), random.check_seed(seed)
    check_flag("train", train)
    check_whole("batch", batch)
    check_cells_of((batch, *input_shape))
    with host_memory("this check"):
        return _whole_check(Trial(layer, backend or get_backend(), train), input_shape, batch, seed)


def _whole_check(trial: Trial, input_shape: Shape, batch: int, seed: int) -> Report:
    layer, train = trial.layer, trial.train
    rng = np.random.default_rng(seed)
    weights, output_shape = layer.init(random.generator(seed), input_shape)
    weights = tree.map(lambda w: w + 0.2 * rng.random(w.shape), weights)  # zeros and ones would hide errors
    x, dy = _normal(rng, (batch, *input_shape)), _normal(rng, (batch, *output_shape))

    result = _untouched(trial, weights, x, dy)
    check_equal(f"{layer}: dx's shape", result["dx"].shape, x.shape)
    check_equal(f"{layer}: names and shapes of the gradients", _shapes(result["grads"]), _shapes(weights))
    errors = {"gradient": _gradient_error(trial, weights, x, dy, result, rng)}
    for kind, send in layouts(trial.backend).items():
        _compare(f"{layer} with {kind} arrays", trial.both(weights, x, dy, send), result, SAME)
    empty = trial.both(weights, x[:0], dy[:0])
    expected = {**_shapes(result), "y": (0, *output_shape), "dx": (0, *input_shape)}
    check_equal(f"{layer}: shapes for a batch of zero", _shapes(empty), expected)
    plain = Trial(layer, ReferenceBackend(), train).both(weights, x, dy)
    errors["agreement"] = _compare(f"{layer} against the reference", result, plain, SAME)
    single = trial.both(weights, x, dy, lambda a: trial.backend.asarray(a, "float32"))
    check_equal(f"{layer}: types for float32", _dtypes(single), dict.fromkeys(_shapes(single), "float32"))
    errors["float32"] = _compare(f"{layer} in float32 against float64", single, result, SINGLE)
    return Report(repr(layer), errors)


def check_adjoint(
    name: str, forward: Callable[[HostArray], HostArray], adjoint: Callable[[HostArray], HostArray], x_shape: Shape
) -> Report:
    """<A x, y> = <x, A* y> for a linear map and its adjoint, both from NumPy array to NumPy array, in float64.

    Parameters
    ----------
    name
        of the map, for the report
    forward, adjoint
        from an array to an array
    x_shape
        of what `forward` takes

    Raises
    ------
    CheckFailed
        with both inner products.

    Examples
    --------
    >>> xcnn.testing.check_adjoint("twice", lambda x: 2 * x, lambda y: 2 * y, (3,)).subject
    'twice'
    """
    rng = np.random.default_rng(0)
    x = _normal(rng, x_shape)
    ax = forward(x)
    y = _normal(rng, ax.shape)
    aty = adjoint(y)
    check_equal(f"{name}: shape of the adjoint's result", aty.shape, x.shape)
    left, right = float(np.sum(ax * y)), float(np.sum(x * aty))
    error = abs(left - right) / max(float(np.sum(np.abs(ax * y))), float(np.sum(np.abs(x * aty))), SMALL)
    check_small(f"{name}: <A x, y> = {left!r} but <x, A* y> = {right!r}", error, SAME)
    return Report(name, {"adjoint": error})


def layouts(backend: Backend) -> dict[str, Send]:
    """Ways to lay out the same array: not contiguous and, on the host, columns first and not to be written.

    JAX's arrays lie in one way only: a slice of one is another one.
    """
    if is_jax_array(backend.asarray(0.0)):
        return {}

    def non_contiguous(a: HostArray) -> Array:
        return backend.asarray(np.repeat(a, 2, axis=-1))[..., ::2] if a.ndim else backend.asarray(a)

    def frozen(a: HostArray) -> Array:
        array = backend.asarray(np.array(a, order="F"))
        array.flags.writeable = False
        return array

    on_host = isinstance(backend.asarray(0.0), np.ndarray)
    return {"non-contiguous": non_contiguous, **({"read-only, columns-first": frozen} if on_host else {})}


def _untouched(trial: Trial, weights: Weights, x: HostArray, dy: HostArray) -> Weights:
    """Y, dx and the gradients, if the layer leaves all arrays that it was given as they were."""
    given: list[tuple[HostArray, Array]] = []

    def send(a: HostArray) -> Array:
        given.append((a, trial.backend.asarray(a.copy())))
        return given[-1][1]

    results = trial.both(weights, x, dy, send)
    if not all(np.array_equal(a, trial.backend.to_numpy(array)) for a, array in given):
        raise CheckFailed(f"{trial.layer} writes into an array that it was given.")
    return results


def _gradient_error(
    trial: Trial, weights: Weights, x: HostArray, dy: HostArray, result: Weights, rng: np.random.Generator
) -> float:
    """The worst error of <dy, J v> by central differences against <backward(dy), v>, v moving one array at a time.

    Relative to the size of the sum's terms, since they may cancel: a bias before a BatchNorm has the gradient zero.
    Slopes smaller than what rounding in y makes of them can't be seen; the limit does not ask for more.
    """
    errors = []
    blur = ROUNDING / GRADIENT * float(np.linalg.norm(dy * result["y"]))
    for name, gradient in [("", result["dx"]), *tree.items(result["grads"])]:
        if isinstance(gradient, Next) or gradient.size == 0:
            continue
        v = _normal(rng, gradient.shape)
        ahead, behind = (_moved(trial, weights, x, name, step * v) for step in (STEP, -STEP))
        with np.errstate(all="ignore"):  # a layer with a mistake may give anything
            slope = dy * (ahead - behind) / (2 * STEP)
            numeric, analytic = float(np.sum(slope)), float(np.sum(gradient * v))
            error = abs(numeric - analytic) / max(float(np.linalg.norm(slope)), abs(analytic), blur, 1e-300)
        what = f"{trial.layer}: gradient of {name or 'x'}: {analytic!r}, by differences {numeric!r}"
        check_small(what, error, GRADIENT)
        errors.append(error)
    return max(errors, default=0.0)


def _moved(trial: Trial, weights: Weights, x: HostArray, name: str, by: HostArray) -> HostArray:
    """Y with the weight of this name moved, or with x where there is no name."""
    if not name:
        return trial.forward(weights, x + by)
    return trial.forward(tree.filled(weights, {k: w + by if k == name else w for k, w in tree.items(weights)}), x)


def _normal(rng: np.random.Generator, shape: Shape) -> HostArray:
    return rng.standard_normal(shape)


def _arrays(results: Weights) -> dict[str, HostArray]:
    return {name: a.value if isinstance(a, Next) else a for name, a in sorted(tree.items(results))}


def _shapes(results: Weights) -> dict[str, Shape]:
    return {name: tuple(a.shape) for name, a in _arrays(results).items()}


def _dtypes(results: Weights) -> dict[str, str]:
    return {name: str(a.dtype) for name, a in _arrays(results).items()}


def _compare(what: str, got: Weights, expected: Weights, limit: float) -> float:
    """The worst relative error, in the Euclidean norm, of y, dx and each gradient."""
    errors = []
    there = _arrays(expected)
    check_equal(f"{what}: names and shapes", _shapes(got), _shapes(expected))
    for name, a in _arrays(got).items():
        difference = np.linalg.norm(a.astype("float64") - there[name])
        error = float(difference) / max(float(np.linalg.norm(there[name])), SMALL)
        check_small(f"{what}: {name.removeprefix('grads/')} differs", error, limit)
        errors.append(error)
    return max(errors)


def check_small(what: str, error: float, limit: float) -> None:
    """Raise CheckFailed unless error <= limit."""
    if not error <= limit:  # NaN fails too
        raise CheckFailed(f"{what} (relative error {error:.1e}, at most {limit:.0e})")


def check_equal(what: str, got: Any, expected: Any) -> None:
    """Raise CheckFailed unless both are equal."""
    if got != expected:
        raise CheckFailed(f"{what}: got {got}, expected {expected}")
