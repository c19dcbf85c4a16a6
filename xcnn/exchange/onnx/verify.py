"""What was written is computed by onnxruntime, and held to what the net computes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xcnn.backends import backend
from xcnn.core import random, tree
from xcnn.core.several import arrays_of, shapes_of
from xcnn.errors import ExchangeError, MissingDependency, told_by
from xcnn.exchange.onnx.package import runtime
from xcnn.layers import Run

BATCHES = (1, 2, 7)
"""Sizes of batches: whose axis is frozen, or is mixed up with another, fails in one of them."""
NEAR = 1e-4
"""Of the largest number of an output: float32 rounds by a thousandth of it, and another formula by far more."""


def verify(contents: bytes, net: Any, wanted: bool | None) -> None:
    """Raise unless onnxruntime gives the net's outputs for batches of several sizes.

    Parameters
    ----------
    contents
        of the file
    net
        what was written: layer, weights, input_shape
    wanted
        None: only where onnxruntime is installed

    Raises
    ------
    ExchangeError
        X412
    MissingDependency
        X601
    """
    package = runtime() if wanted is not False else None
    if package is None:
        if wanted:
            raise MissingDependency("X601", "verify=True needs onnxruntime.", hint="pip install onnxruntime")
        return
    try:
        session = package.InferenceSession(contents, _quiet(package), providers=["CPUExecutionProvider"])
    except Exception as error:
        raise refused(f"onnxruntime does not take it: {told_by(error)}") from error
    for n in BATCHES:
        rng = random.generator(n)
        xs = [rng.standard_normal((n, *shape), np.float32) for shape in shapes_of(net.input_shape)]
        try:
            ys = session.run(None, {end.name: x for end, x in zip(session.get_inputs(), xs, strict=True)})
        except Exception as error:
            raise refused(f"onnxruntime fails on a batch of {n}: {told_by(error)}") from error
        for y, expected in zip(ys, outputs(net, xs), strict=True):
            compare(n, np.asarray(y, np.float64), expected)


def outputs(net: Any, xs: Sequence[NDArray[Any]]) -> list[NDArray[np.float64]]:
    """What the net gives in double precision, outside of training, for its one or several inputs."""
    engine = backend("numpy")

    def sent(array: Any) -> Any:
        return engine.asarray(np.asarray(array, np.float64), "float64")

    weights, given = tree.map(sent, dict(net.weights)), tuple(map(sent, xs))
    with engine.active():
        y, _ = net.layer(weights, given if len(given) > 1 else given[0], Run(engine, wants_backward=False))
    return [np.asarray(engine.to_numpy(one), np.float64) for one in arrays_of(y)]


def compare(n: int, y: NDArray[np.float64], expected: NDArray[np.float64]) -> None:
    """Raise X412 where they differ by more than rounding does."""
    if y.shape != expected.shape:
        raise refused(f"onnxruntime gives {y.shape} for a batch of {n}, the net {expected.shape}")
    largest = float(np.max(np.abs(expected), initial=0.0))
    with np.errstate(invalid="ignore"):
        apart = float(np.max(np.abs(y - expected), initial=0.0))
    if not apart <= NEAR * max(largest, 1e-30):
        raise refused(f"onnxruntime differs by {apart:.3g} from the net, whose largest output is {largest:.3g}")


def refused(why: str) -> ExchangeError:
    """X412"""
    return ExchangeError(
        "X412", f"the ONNX file is not written: {why}.", hint="verify=False writes it nevertheless; please report it."
    )


def _quiet(package: Any) -> Any:
    """Options of a session that tells errors alone, by raising them, and keeps to one thread."""
    options = package.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return options
