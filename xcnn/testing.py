"""Checks for layers and backends, your own as well as xcnn's: gradients, adjoints, and agreement with the reference.

A check returns the errors that it measured and raises CheckFailed where one is too large, so it is a test by itself:

    def test_my_layer():
        xcnn.testing.check_layer(MyLayer(3), (2, 8, 8))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from xcnn import random, tree
from xcnn._typing import Array, Shape, Weights
from xcnn.backends import Backend, get_backend
from xcnn.layers.layer import Layer, Next, Run

HostArray = np.ndarray[Any, Any]

GRADIENT = 1e-6
"""Largest relative error of a gradient against central differences, both in float64."""
SINGLE = 1e-4
"""Largest relative error of float32 against float64."""
STEP = 1e-6
"""Step of the central differences: truncation about STEP^2, rounding about 1e-16 / STEP."""


class CheckFailed(AssertionError):
    """A check found an error that is too large."""


@dataclass(frozen=True, repr=False)
class ReferenceBackend(Backend):
    """NumPy arrays with the reference's primitives: what every backend is compared with."""

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
    """The largest relative errors that a check measured, by what was compared."""

    subject: str
    errors: dict[str, float]

    def __str__(self) -> str:
        return f"{self.subject}: " + ", ".join(f"{name} {error:.1e}" for name, error in self.errors.items())


@dataclass(frozen=True)
class Trial:
    """A layer on a backend, seen from the host: NumPy arrays in and out."""

    layer: Layer
    backend: Backend
    train: bool = True

    def forward(self, weights: Weights, x: HostArray) -> HostArray:
        """Y"""
        y, _ = self.layer(tree.map(self.backend.asarray, weights), self.backend.asarray(x), self.run)
        return self.backend.to_numpy(y)

    def both(
        self, weights: Weights, x: Any, dy: HostArray, dtype: str = "float64"
    ) -> tuple[HostArray, HostArray, Weights]:
        """Y, dx and the gradients; x may be an array of the backend already."""
        send = self.backend.asarray
        x = send(x, dtype) if isinstance(x, np.ndarray) else x
        y, backward = self.layer(tree.map(lambda w: send(w, dtype), weights), x, self.run)
        dx, grads = backward(send(dy, dtype))
        return self.backend.to_numpy(y), self.backend.to_numpy(dx), tree.map(self._fetch, grads)

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
    of zero; non-contiguous and read-only input; float32 against float64; agreement with the reference's primitives.

    Parameters
    ----------
    input_shape
        of one sample
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
    """
    trial = Trial(layer, backend or get_backend(), train)
    rng = np.random.default_rng(seed)
    weights, output_shape = layer.init(random.generator(seed), input_shape)
    weights = tree.map(lambda w: w + 0.2 * rng.random(w.shape), weights)  # zeros and ones would hide errors
    x, dy = rng.standard_normal((batch, *input_shape)), rng.standard_normal((batch, *output_shape))

    result = y, dx, grads = trial.both(weights, x, dy)
    _check_equal(f"{layer}: y's shape", y.shape, (batch, *output_shape))
    _check_equal(f"{layer}: dx's shape", dx.shape, x.shape)
    _check_equal(f"{layer}: names and shapes of the gradients", _shapes(grads), _shapes(weights))
    errors = {"gradient": _gradient_error(trial, weights, x, dy, dx, grads, rng)}
    for kind, same_x in _other_inputs(trial.backend, x):
        _compare(f"{layer} with {kind} input", trial.both(weights, same_x, dy), result, 1e-12)
    empty = trial.both(weights, x[:0], dy[:0])
    _check_equal(f"{layer}: shapes for a batch of zero", [a.shape[0] for a in empty[:2]], [0, 0])
    plain = Trial(layer, ReferenceBackend(), train).both(weights, x, dy)
    errors["agreement"] = _compare(f"{layer} against the reference", result, plain, agreement(trial.backend))
    single = trial.both(weights, x, dy, "float32")
    errors["float32"] = _compare(f"{layer} in float32 against float64", single, result, SINGLE)
    return Report(repr(layer), errors)


def check_adjoint(
    name: str, forward: Callable[[HostArray], HostArray], adjoint: Callable[[HostArray], HostArray], x_shape: Shape
) -> Report:
    """<A x, y> = <x, A* y> for a linear map and its adjoint, both from NumPy array to NumPy array, in float64.

    Raises
    ------
    CheckFailed
        with both inner products.
    """
    rng = np.random.default_rng(0)
    x = rng.standard_normal(x_shape)
    ax = forward(x)
    y = rng.standard_normal(ax.shape)
    aty = adjoint(y)
    _check_equal(f"{name}: shape of the adjoint's result", aty.shape, x.shape)
    left, right = float(np.sum(ax * y)), float(np.sum(x * aty))
    error = abs(left - right) / max(float(np.sum(np.abs(ax * y))), 1e-300)
    _check_small(f"{name}: <A x, y> = {left!r} but <x, A* y> = {right!r}", error, 1e-12)
    return Report(name, {"adjoint": error})


def agreement(backend: Backend) -> float:
    """Largest relative error against the reference in float64: 1e-12 on a CPU, 1e-10 on an accelerator."""
    return 1e-10 if any(word in backend.device_name().lower() for word in ("cuda", "nvidia", "gpu")) else 1e-12


def _gradient_error(
    trial: Trial, weights: Weights, x: HostArray, dy: HostArray, dx: HostArray, grads: Weights, rng: np.random.Generator
) -> float:
    """The worst error of <dy, J v> by central differences against <backward(dy), v>, v moving one array at a time."""
    errors = []
    for name, gradient in [("dx", dx), *tree.items(grads)]:
        if isinstance(gradient, Next) or gradient.size == 0:
            continue
        v: HostArray = rng.standard_normal(gradient.shape)

        def moved(by: float, name: str = name, v: HostArray = v) -> HostArray:
            if name == "dx":
                return trial.forward(weights, x + by * v)
            return trial.forward(
                tree.from_items({k: w + by * v if k == name else w for k, w in tree.items(weights)}), x
            )

        slope = dy * (moved(STEP) - moved(-STEP)) / (2 * STEP)
        numeric, analytic = float(np.sum(slope)), float(np.sum(gradient * v))
        error = abs(numeric - analytic) / max(float(np.sqrt(np.sum(slope**2))), abs(analytic), 1e-6)
        _check_small(f"{trial.layer}: gradient of {name}: {analytic!r}, by differences {numeric!r}", error, GRADIENT)
        errors.append(error)
    return max(errors, default=0.0)


def _moved(trial: Trial, weights: Weights, x: HostArray, name: str, by: HostArray) -> HostArray:
    """Y with x, or the weight of this name, moved."""
    if name == "dx":
        return trial.forward(weights, x + by)
    return trial.forward(tree.from_items({k: w + by if k == name else w for k, w in tree.items(weights)}), x)


def _other_inputs(backend: Backend, x: HostArray) -> Iterator[tuple[str, Array]]:
    """The same x as an array that is not contiguous, and as one that can't be written."""
    yield "non-contiguous", backend.asarray(np.repeat(x, 2, axis=-1))[..., ::2]
    frozen = backend.asarray(x.copy())
    if isinstance(frozen, np.ndarray):
        frozen.flags.writeable = False
        yield "read-only", frozen


def _shapes(weights: Weights) -> dict[str, Shape]:
    return {name: (w.value if isinstance(w, Next) else w).shape for name, w in sorted(tree.items(weights))}


def _compare(what: str, got: Any, expected: Any, limit: float) -> float:
    """The worst relative error, in the Euclidean norm, of y, dx and each gradient."""
    errors = []
    for label, a, b in [
        ("y", got[0], expected[0]),
        ("dx", got[1], expected[1]),
        *((name, g, dict(tree.items(expected[2]))[name]) for name, g in tree.items(got[2])),
    ]:
        a, b = (np.asarray(v.value if isinstance(v, Next) else v, dtype=np.float64) for v in (a, b))
        error = float(np.linalg.norm(a - b)) / max(float(np.linalg.norm(b)), 1e-3)
        _check_small(f"{what}: {label} differs", error, limit)
        errors.append(error)
    return max(errors)


def _check_small(what: str, error: float, limit: float) -> None:
    if not error <= limit:  # NaN fails too
        raise CheckFailed(f"{what} (relative error {error:.1e}, at most {limit:.0e})")


def _check_equal(what: str, got: Any, expected: Any) -> None:
    if got != expected:
        raise CheckFailed(f"{what}: got {got}, expected {expected}")
