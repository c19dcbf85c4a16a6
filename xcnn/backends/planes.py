"""The article's operations on single planes, by the library that made the arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import is_array_api_obj

from xcnn.backends.registry import backend_of
from xcnn.backends.selector import get_backend
from xcnn.core.arrays import is_floating, namespace, unmasked
from xcnn.core.checks import check_planes, conversion
from xcnn.core.reference import rot180 as rot180
from xcnn.core.types import Array, PaddingName
from xcnn.errors import DataError, DTypeError, short, told_by
from xcnn.training.precision import type_name


def correlate2d(x: Any, k: Any, mode: PaddingName = "valid") -> Array:
    """The article's X * K: one plane (H, W) correlated with one kernel (h, w), by the array's own library.

    scipy.signal runs it for NumPy arrays, cupyx.scipy.signal for CuPy arrays, `correlate` of their backend for others.
    The result has the type of x and k where both have one floating-point type; halves are summed in float32. All else
    that is real is computed in float64: two types give that, whole numbers and bools int64, exact up to 2^53.

    Parameters
    ----------
    x, k
        arrays (H, W) and (h, w) of one library, or lists of rows as one types them
    mode
        "valid" keeps the kernel inside: (H - h + 1, W - w + 1). "full" takes every overlap: (H + h - 1, W + w - 1).
        "same" is the centre of "full": (H, W).

    Raises
    ------
    ShapeError
        X101 when an array is no plane, X102 when the kernel does not fit into a "valid" correlation.
    BackendError
        X301 when the arrays are of different libraries.
    DTypeError
        X103 for complex numbers, whose correlation has a conjugate or none, and for what are no numbers.
    DataError
        X203 for rows of different lengths.

    Examples
    --------
    >>> xcnn.correlate2d([[1, 6, 2], [5, 3, 1], [7, 0, 4]], [[1, 2], [-1, 0]])
    array([[8, 7],
           [4, 5]])
    """
    return _of_planes("correlate2d", x, k, mode)


def convolve2d(x: Any, k: Any, mode: PaddingName = "valid") -> Array:
    """One plane convolved with one kernel: `correlate2d` with the kernel rotated by 180 degrees.

    Parameters
    ----------
    x, k
        arrays (H, W) and (h, w) of one library, or lists of rows as one types them
    mode
        "valid" gives (H - h + 1, W - w + 1), "full" every overlap, (H + h - 1, W + w - 1), "same" its centre, (H, W)

    Raises
    ------
    ShapeError, BackendError, DTypeError
        as `correlate2d` does.

    Examples
    --------
    >>> xcnn.convolve2d(np.asarray([[1, 2], [3, 4]]), np.asarray([[1, 0]]), "full").tolist()
    [[1, 2, 0], [3, 4, 0]]
    """
    return _of_planes("convolve2d", x, k, mode)


def _of_planes(name: str, x: Any, k: Any, mode: PaddingName) -> Array:
    x, k = _listed(name, x, k), _listed(name, k, x)
    check_planes(name, x, k, mode)
    backend, wide = backend_of(x), _plane_type(name, x, k)
    with backend.active():
        if not wide:
            return getattr(backend, name)(x, k, mode)
        xp = namespace(x)
        y = getattr(backend, name)(*(xp.astype(array, getattr(xp, wide)) for array in (x, k)), mode)
        if not (is_floating(x) or is_floating(k)):
            return xp.astype(y, xp.int64)
        return xp.astype(y, x.dtype) if wide == "float32" else y


def _listed(name: str, plane: Any, other: Any) -> Any:
    """Lists of numbers as an array of the other's library, or of the process's backend; anything else as it is."""
    if not isinstance(plane, list | tuple):
        return plane
    host = host_numbers(f"a plane of {name}", plane)
    return (backend_of(other) if is_array_api_obj(other) else get_backend()).asarray(host)


def host_numbers(name: str, x: Any) -> np.ndarray[Any, Any]:
    """Real numbers that a user typed, or a host array of them, as an array of NumPy's.

    Raises
    ------
    DataError
        X203, for what has a mask, or rows of several lengths.
    DTypeError
        X103, for what are no real numbers.
    """
    try:
        host = np.asarray(unmasked(x, name))
    except (TypeError, ValueError) as error:
        raise DataError("X203", f"{name} is no regular array: {told_by(error)}") from error
    if host.dtype.kind not in "biuf":
        hint = "" if host.dtype.kind == "O" else conversion("it", host, "float64")
        raise DTypeError("X103", f"{name} must hold real numbers; it is {short(x)}.", hint=hint)
    return host


def _plane_type(name: str, x: Array, k: Array) -> str:
    """The type to compute two planes in; "" where it is that of both."""
    for label, array in (("x", x), ("k", k)):
        if not (is_floating(array) or namespace(array).isdtype(array.dtype, ("bool", "integral"))):
            hint = "give real and imaginary parts by themselves." if "complex" in str(array.dtype) else ""
            raise DTypeError("X103", f"{name} takes real numbers; {label} is {type_name(array)}.", hint=hint)
    if x.dtype != k.dtype or not is_floating(x):
        return "float64"
    return "float32" if type_name(x) in ("float16", "bfloat16") else ""
