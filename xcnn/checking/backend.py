"""A backend held to the reference, row by row, so that a program can print them as they come:

def test_my_backend():
for row in xcnn.testing.check_backend(xcnn.backend("mine")):
assert row.ok, row.message
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from xcnn.backends.contract import Backend
from xcnn.checking.cases import LAYERS, primitives
from xcnn.checking.gradients import CheckFailed, Report, check_layer
from xcnn.core.types import Shape
from xcnn.layers.layer import Layer


@dataclass(frozen=True)
class Row:
    """What `check_backend` tells of one layer or primitive; an error is None where it was not measured.

    Parameters
    ----------
    name
        of the layer, with its options, or of the primitive
    gradient
        of a layer against central differences, of an adjoint against its map; None is not measured, as of the others
    agreement
        with the reference, in float64, or None
    float32
        of float32 against float64, or None
    ok
        whether all that was measured is small enough
    message
        what failed
    """

    name: str
    gradient: float | None = None
    agreement: float | None = None
    float32: float | None = None
    ok: bool = True
    message: str = ""


def check_backend(backend: Backend, cases: Iterable[tuple[Layer, Shape]] | None = None) -> Iterator[Row]:
    """Hold each primitive and each layer on a backend to the reference, to its adjoint and to central differences.

    Nothing is raised: whatever goes wrong stands in its row.

    Parameters
    ----------
    backend
        the one to hold
    cases
        layers with the shape of one sample; by default all of xcnn's layers

    Examples
    --------
    >>> for row in xcnn.testing.check_backend(xcnn.backend("numpy")):  # doctest: +SKIP
    ...     print(row)
    """
    for name, check in primitives(backend):
        yield _row(name, check)
    for layer, input_shape in LAYERS if cases is None else cases:
        yield _row(repr(layer), partial(check_layer, layer, input_shape, backend=backend))


def _row(name: str, check: Callable[[], Report]) -> Row:
    try:
        errors = check().errors
    except CheckFailed as failure:
        return Row(name, ok=False, message=str(failure))
    except Exception as error:
        return Row(name, ok=False, message=f"{type(error).__name__}: {error}")
    gradient = errors.get("gradient", errors.get("adjoint"))
    return Row(name, gradient, errors.get("agreement"), errors.get("float32"))
