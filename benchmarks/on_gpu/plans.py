"""Is each of cuDNN's plans, each algorithm and each primitive right?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

import xcnn
from on_gpu.session import HALVES, PRECISIONS, Session, Task
from xcnn.bench import gpu
from xcnn.bench.cases import MAPS, CorrelationCase, maps
from xcnn.checking import cases as testing_cases

LIMITS = {"float32": 1e-5, "tf32": 1e-3, "bfloat16": 1e-2, "float16": 2e-3}
"""Of the relative error of a correlation, in the Euclidean norm."""
LAYERS = (
    CorrelationCase(64, 1, 28, 6, 5, padding=2),
    CorrelationCase(64, 6, 14, 16, 5),
    CorrelationCase(64, 32, 26, 64, 3),
    CorrelationCase(4, 3, 224, 64, 7, stride=2, padding=3),
    CorrelationCase(16, 64, 56, 64, 3, padding=1),
    CorrelationCase(16, 128, 28, 256, 3, stride=2, padding=1),
    CorrelationCase(16, 256, 56, 64, 1),
    CorrelationCase(16, 512, 7, 512, 3, padding=1),
)
"""From LeNet's first to one of ResNet-50's."""
ROLES = {"forward": ("forward", "y"), "input adjoint": ("input", "x"), "kernel adjoint": ("kernel", "kernel")}
"""What cuDNN's questions call each map, and the array that it computes."""


def plans(session: Session) -> Iterator[Task]:
    """Every plan of cuDNN's for eight layers, three maps and four precisions against float64, into poisoned memory."""
    for case in LAYERS:
        for precision in PRECISIONS:
            yield Task(f"{case}, {precision}", partial(plan_errors, session, case, precision))


def plan_errors(session: Session, case: CorrelationCase, precision: str) -> dict[str, Any]:
    """The error of each plan by its map; and that of what the backend itself does. All is compared on the device."""
    policy = xcnn.training.precision.PRECISIONS[precision]
    layout = "NCHW" if precision in gpu.STRICT else "channels_last"
    arrays, expected = definition(session, case, precision in HALVES)
    backend = session.made().with_precision(policy)
    with backend.active():
        there = {name: gpu.laid_out(backend, a, policy.compute, layout) for name, a in arrays.items()}
        calls = maps(case, backend, there["x"], there["kernel"], there["y"])
        found: dict[str, Any] = {}
        for name in MAPS:
            rows = [
                {**about_plan(plan), "error": relative_error(backend, written, expected[name])}
                for plan, written in executed(backend, case, name, there)
            ]
            chosen = relative_error(backend, calls[name](), expected[name])
            worst = max([chosen, *(row["error"] for row in rows)], key=lambda error: (math.isnan(error), error))
            found[name] = {"ok": worst <= LIMITS[precision], "worst": worst, "chosen": chosen, "plans": rows}
    return found


def definition(session: Session, case: CorrelationCase, halves: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Noise on the host, and what the three maps make of it in float64, on the device, by products of matrices.

    Those are held to NumPy's by the part "algorithms". The numbers are those that both halves have, or any of float32;
    for the last case they are kept: the next precision asks for them again.
    """
    key = f"{case}, {halves}"
    if key not in session.definitions:
        session.definitions.clear()
        arrays = {
            name: in_both_halves(array) if halves else array
            for name, array in zip(("x", "kernel", "y"), case.data(), strict=True)
        }
        exact = session.made(algorithm="gemm")
        with exact.active():
            there = (exact.asarray(arrays[name], "float64") for name in ("x", "kernel", "y"))
            session.definitions[key] = arrays, {name: call() for name, call in maps(case, exact, *there).items()}
    found: tuple[dict[str, Any], dict[str, Any]] = session.definitions[key]
    return found


def in_both_halves(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The nearest numbers, as float32, that bfloat16 and float16 both have."""
    short = array.astype(import_module("ml_dtypes").bfloat16).astype("float32")
    return short.astype("float16").astype("float32")


def questions(backend: Any, case: CorrelationCase, name: str, dtype: Any) -> Any:
    """What cuDNN is asked for a map of arrays of this type."""
    how = {**case.how, "dilation": (1, 1)}
    return backend.convolutions.question(ROLES[name][0], case.x_shape, case.k_shape, dtype, how)


def executed(backend: Any, case: CorrelationCase, name: str, there: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    """Each plan of a map, and what it has written over NaN."""
    role = ROLES[name][1]
    for plan in backend.gpu.plans.candidates(questions(backend, case, name, there["x"].dtype)):
        written = poisoned(backend, there[role])
        backend.gpu.execute(plan, {**there, role: written})
        yield plan, written


def poisoned(backend: xcnn.Backend, array: Any) -> Any:
    """NaN in the shape, type and order of memory of images, made on the device."""
    in_order = array.strides == np.empty(array.shape, array.dtype).strides
    axes = (0, 1, 2, 3) if in_order else (0, 2, 3, 1)
    nothing = backend.xp.full(tuple(array.shape[axis] for axis in axes), math.nan, dtype=backend.xp.float32)
    laid = nothing if in_order else backend.xp.permute_dims(nothing, (0, 3, 1, 2))
    return backend.astype(laid, str(array.dtype))


def about_plan(plan: Any) -> dict[str, Any]:
    """A plan's engine, its knobs and its workspace in bytes."""
    return {"engine": plan.choice.engine, "knobs": list(plan.choice.knobs), "workspace": plan.workspace}


def relative_error(backend: xcnn.Backend, got: Any, expected: Any) -> float:
    """||got - expected|| / ||expected|| of arrays on the device."""

    def norm(array: Any) -> float:
        return math.sqrt(float(backend.to_numpy(backend.xp.sum(array * array))))

    difference = norm(backend.astype(got, "float64") - expected)
    return difference / norm(expected)


def algorithms(session: Session) -> Iterator[Task]:
    """Each algorithm's three maps against float64, the article's by cupyx.scipy.signal among them."""
    case = CorrelationCase(2, 4, 13, 6, 3, stride=2, groups=2, padding=1)
    for algorithm in ("literal", "gemm", "cudnn", "auto"):
        for dtype, limit in (("float64", 1e-12), ("float32", 1e-5)):
            yield Task(f"{algorithm}, {dtype}", partial(algorithm_errors, session, case, algorithm, dtype, limit))


def algorithm_errors(
    session: Session, case: CorrelationCase, algorithm: str, dtype: str, limit: float
) -> dict[str, dict[str, Any]]:
    """The error of each map."""
    arrays = dict(zip(("x", "kernel", "y"), case.data(), strict=True))
    exact = xcnn.backend("numpy", algorithm="gemm")
    expected = maps(case, exact, *(array.astype("float64") for array in arrays.values()))
    backend = session.made(algorithm=algorithm)
    there = [backend.asarray(array, dtype) for array in arrays.values()]
    with backend.active():
        errors = {
            name: relative_error(backend, compute(), backend.asarray(expected[name]()))
            for name, compute in maps(case, backend, *there).items()
        }
    return {name: {"ok": error <= limit, "worst": error} for name, error in errors.items()}


def primitives(session: Session) -> Iterator[Task]:
    """Each primitive in every configuration against the reference, in float64 and in float32."""
    for name in testing_cases.CALLS:
        yield Task(name, partial(primitive_errors, session, name))


def primitive_errors(session: Session, name: str) -> dict[str, float]:
    """What `xcnn.testing` measures; it raises where an error is too large."""
    return testing_cases.check_primitive(name, testing_cases.CALLS[name], session.made()).errors
