"""One case timed, on our side alone or in turns with another library, and the machine's ceiling beside it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from xcnn.backends.contract import Backend
from xcnn.backends.selector import backend as make_backend
from xcnn.backends.selector import with_precision
from xcnn.bench.cases import MAPS, Call, CorrelationCase, StepCase, correlation_calls, step_call
from xcnn.bench.rivals import rival
from xcnn.bench.timing import Times, alternate
from xcnn.core import tree
from xcnn.model.summary import count
from xcnn.training.precision import PRECISIONS, Precision

SIDE = 2048
"""Rows and columns of the matrix product that is the ceiling."""


@dataclass(frozen=True)
class Result:
    """A case's times, ours and the rival's, and its additions and multiplications; `way` is how the rival was fastest.

    `against` is the rival's name in JSON, which has none of its times where there was none.
    """

    ours: Times
    theirs: Times | None
    way: str
    flop: int
    against: str = field(default="torch", kw_only=True)

    @property
    def ratio(self) -> float | None:
        """The rival's median by ours: above 1 where ours takes less time."""
        return None if self.theirs is None else self.theirs.median / self.ours.median

    @property
    def ratio_of_bests(self) -> float | None:
        """The rival's best by ours: what would be left of the ratio on a machine that does nothing else."""
        return None if self.theirs is None else self.theirs.best / self.ours.best

    @property
    def gflops(self) -> float:
        """Ours, 1e9 additions and multiplications a second, at the median."""
        return self.flop / self.ours.median / 1e9

    def to_dict(self, ceiling: float) -> dict[str, Any]:
        """The result as plain values, for JSON; the ceiling is in GFLOP/s."""
        theirs = None if self.theirs is None else {**self.theirs.to_dict(), "way": self.way}
        ratios = {"ratio": self.ratio, "ratio_of_bests": self.ratio_of_bests}
        rates = {"gflop": self.flop / 1e9, "gflops": self.gflops, "of_ceiling": self.gflops / ceiling}
        return {"ours": self.ours.to_dict(), self.against: theirs, **ratios, **rates}


def compare_steps(
    case: StepCase, backend: Backend, against: str | None, seconds: float, precision: str | None = None
) -> tuple[Result, int]:
    """Time a training step beside this rival's, if any; the result, and how many parameters the net has.

    Raises
    ------
    OptionError
        X104, where the backend can't compute in this precision.
    """
    model = case.model(backend, precision)
    x, t = case.data(*model.output_shape, dtype=model.dtype)
    theirs = rival(against).best_step(case, tree.map(backend.to_numpy, model.weights), x, t) if against else None
    ours, flop = step_call(model, x, t), case.flop
    return compare(ours, theirs, flop, seconds, against), count(model.weights)


def compare_correlations(
    case: CorrelationCase, backend: Backend, against: str | None, seconds: float, precision: str | None = None
) -> dict[str, Result]:
    """Time the three maps beside this rival's, if any, by their names in MAPS, for so many seconds in all."""
    under, policy = computing(backend, precision)
    ours, results = correlation_calls(case, under, policy.compute), {}
    for name in MAPS:
        theirs = rival(against).best_correlation(case, name, policy.compute) if against else None
        results[name] = compare(ours[name], theirs, case.flop, seconds / len(MAPS), against)
    return results


def compare(
    ours: Call, rivals: tuple[str, Call] | None, flop: int, seconds: float, against: str | None = None
) -> Result:
    """Time a call of ours, in turns with the rival's where there is one."""
    way, theirs = rivals or ("", None)
    times = alternate([ours] if theirs is None else [ours, theirs], seconds)
    return Result(times[0], times[1] if theirs else None, way, flop, against=against or "torch")


def ceilings(backend: Backend, against: str | None, seconds: float, precision: str | None = None) -> dict[str, float]:
    """GFLOP/s of the largest matrix product that the libraries make in this type, the best call of each, by library."""
    rng, dtype = np.random.default_rng(0), computing(backend, precision)[1].compute
    a, b = (rng.standard_normal((SIDE, SIDE), dtype="float32").astype(dtype, copy=False) for _ in range(2))
    first, second = backend.asarray(a), backend.asarray(b)

    def product() -> object:
        result = backend.xp.matmul(first, second)
        backend.synchronize()
        return result

    sides: dict[str, Call] = {backend.library or backend.name: product}
    if against:
        sides[against] = rival(against).matrix_product(a, b)
    times = alternate(list(sides.values()), seconds)
    return {name: 2 * SIDE**3 / taken.best / 1e9 for name, taken in zip(sides, times, strict=True)}


def available_threads() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def limited(threads: int, against: str | None) -> Iterator[None]:
    """Let BLAS, and the rival if there is one, use so many threads within the block."""
    import numpy.linalg  # noqa: F401 - loads NumPy's BLAS
    import scipy.linalg  # noqa: F401 - loads SciPy's own

    from xcnn.core.blas import threadpoolctl

    with ExitStack() as stack:
        stack.enter_context(threadpoolctl().threadpool_limits(threads, user_api="blas"))
        if against:
            stack.enter_context(rival(against).limited(threads))
        yield


def bench_backend(name: str | Backend, algorithm: str | None, threads: int) -> Backend:
    """The backend, with this algorithm, and on so many threads where it has a pool of its own.

    Raises
    ------
    BackendError, BackendUnavailable, OptionError
        as xcnn.backend does.
    """
    made = make_backend(name, **({} if algorithm is None else {"algorithm": algorithm}))
    return make_backend(made, threads=threads) if has_option(made, "threads") else made


def has_option(backend: Backend, name: str) -> bool:
    """Whether a backend has an option of this name."""
    return any(field.name == name for field in fields(backend))


def computing(backend: Backend, precision: str | None) -> tuple[Backend, Precision]:
    """The backend as it computes in this precision, by default in float32, and what that is.

    Raises
    ------
    OptionError
        X104, where it can't.
    """
    policy = PRECISIONS[precision or "float32"]
    return with_precision(backend, policy), policy
