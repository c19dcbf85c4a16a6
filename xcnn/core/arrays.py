"""Small operations on arrays in the pure standard that several modules need."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from types import ModuleType
from typing import Any, ParamSpec, TypeVar

from array_api_compat import array_namespace, device, is_array_api_obj, is_numpy_array

from xcnn.core.types import Array, Pads, Pair, Shape
from xcnn.errors import BackendError, DataError, DTypeError, short

_namespaces: dict[tuple[type, ...], Any] = {}
P = ParamSpec("P")
R = TypeVar("R")


def namespace(*arrays: Array) -> Any:
    """The array API namespace of the arrays, which follows from their types.

    Raises
    ------
    DataError
        X203, for arrays with a mask, and NumPy's matrices, whose `*` is another.
    """
    types = tuple(map(type, arrays))
    found = _namespaces.get(types)
    if found is None:
        for x in arrays:
            if type(unmasked(x)).__name__ == "matrix":
                raise DataError("X203", "an array is a numpy.matrix, whose products are others.", hint="np.asarray(x)")
        try:
            found = _namespaces[types] = native(*arrays) or array_namespace(*arrays)
        except TypeError as error:
            for x in arrays:
                check_array(x)
            told = "arrays of several libraries meet: " + ", ".join(sorted({kind.__module__ for kind in types}))
            raise BackendError("X301", f"{told}.", hint="bring them to one.") from error
    return found


def native(*arrays: Array) -> Any:
    """NumPy itself for its own arrays, from 2.1 on, which has all of the standard that layers ask for; None for others.

    array-api-compat's clone of it imports all of NumPy's packages, f2py and testing among them: 6 MiB.
    """
    if not all(map(is_numpy_array, arrays)) or not arrays:
        return None
    found = array_namespace(*arrays, use_compat=False)
    return found if hasattr(found, "cumulative_sum") else None


def check_texts(given: Any, array: Any, name: str) -> None:
    """Raise X203 where numbers among a list's texts have become texts, as NumPy makes them without a word."""
    if array.dtype.kind not in "US" or not isinstance(given, list | tuple):
        return
    strange = next((n for n, each in enumerate(given) if not isinstance(each, str | bytes | list | tuple)), None)
    if strange is not None:
        told = f"{name} has texts, and {short(given[strange])} at index {strange}"
        raise DataError("X203", f"{told}.", hint="give texts alone, or numbers alone.")


def known_namespace(kind: type) -> Any:
    """The namespace of arrays of this type, if any was asked for its own; else None."""
    return _namespaces.get((kind,))


def together(*arrays: Array) -> Any:
    """The namespace of arrays that are computed with together: of one library, on one device.

    Raises
    ------
    BackendError
        X301
    """
    xp = namespace(*arrays)
    first, *others = (getattr(x, "device", None) for x in arrays)
    if any(other != first for other in others):
        told = "arrays on several devices meet: " + ", ".join(sorted({str(device(x)) for x in arrays}))
        raise BackendError("X301", f"{told}.", hint="bring them to one.")
    return xp


def check_array(x: Any, name: str = "x") -> None:
    """Raise X103 unless it is an array, as array_api_compat knows them, or one that tells its namespace."""
    if not is_array_api_obj(x) or isinstance(x, type):
        raise DTypeError("X103", f"{name} must be an array; it is {short(x)}.", hint="model.backend.asarray(x)")


def unmasked(x: Any, name: str = "an array") -> Any:
    """What was given, if it has no mask: neither an array of numpy.ma's nor a list of such, or of lists of them.

    Raises
    ------
    DataError
        X203: as a plain array it would show what the mask hides.
    """
    if type(x) in _without_masks:
        return x
    if isinstance(x, list | tuple):
        kinds = {type(value) for row in (x, *(row for row in x if isinstance(row, list | tuple))) for value in row}
    else:
        kinds = {type(x)}
    if any(map(_has_mask, kinds)):
        raise DataError(
            "X203",
            f"{name} is a masked array, and its mask would be ignored.",
            hint="leave the masked samples out, or say what stands in their place: x.filled(0).",
        )
    if not isinstance(x, list | tuple):
        _without_masks.add(type(x))
    return x


_without_masks: set[type] = set()


def _has_mask(kind: type) -> bool:
    return any(cls.__name__ == "MaskedArray" and cls.__module__.startswith("numpy") for cls in kind.__mro__)


def zeros(like: Array, shape: Shape) -> Array:
    """Zeros of this shape, of the same type and on the same device as `like`."""
    return full(like, shape, 0)


def zeros_like(x: Array) -> Array:
    """Zeros in x's shape, of its type, on its device and, where the library has one, in its order of memory.

    NumPy's in C's order are memory that the system has not given yet: it takes none until somebody writes there.
    """
    xp = namespace(x)
    lazy = is_numpy_array(x) and x.flags.c_contiguous
    return xp.zeros(x.shape, dtype=x.dtype) if lazy else xp.zeros_like(x)


def full(like: Array, shape: Shape, value: float) -> Array:
    """A constant array of this shape, of the same type and on the same device as `like`."""
    xp = namespace(like)
    return xp.full(shape, value, dtype=like.dtype, device=device(like))


def pad(x: Array, padding: Pads, value: float = 0.0) -> Array:
    """Add cells of `value` around the last two axes; then negative numbers take cells away, added ones too."""
    xp = namespace(x)
    for axis, (before, after) in zip((x.ndim - 2, x.ndim - 1), padding, strict=True):
        edges = [full(x, (*x.shape[:axis], n, *x.shape[axis + 1 :]), value) if n > 0 else None for n in (before, after)]
        parts = [part for part in (edges[0], x, edges[1]) if part is not None]
        x = xp.concat(parts, axis=axis) if len(parts) > 1 else x
        if before < 0 or after < 0:
            keep = [slice(None)] * x.ndim
            keep[axis] = slice(max(-before, 0), x.shape[axis] - max(-after, 0))
            x = x[tuple(keep)]
    return x


def dilate(x: Array, stride: Pair) -> Array:
    """Put stride - 1 zeros between the cells of the last two axes: the adjoint of x[..., ::s, ::t]."""
    xp = namespace(x)
    for axis, s in zip((x.ndim - 2, x.ndim - 1), stride, strict=True):
        if s == 1:
            continue
        n = x.shape[axis]
        spread = xp.expand_dims(x, axis=axis + 1)
        gaps = zeros(x, (*x.shape[: axis + 1], s - 1, *x.shape[axis + 1 :]))
        spread = xp.reshape(xp.concat([spread, gaps], axis=axis + 1), (*x.shape[:axis], n * s, *x.shape[axis + 1 :]))
        keep = [slice(None)] * x.ndim
        keep[axis] = slice(0, (n - 1) * s + 1)
        x = spread[tuple(keep)]
    return x


def is_floating(x: Array, xp: ModuleType | None = None) -> bool:
    """True for real floating-point arrays."""
    try:
        kind = type(x), x.dtype
    except AttributeError:
        check_array(x)
        raise
    found = _floating.get(kind)
    if found is None:
        found = _floating[kind] = _is_floating_type(xp or namespace(x), x.dtype)
    return found


_floating: dict[tuple[type, Any], bool] = {}


def _is_floating_type(xp: Any, dtype: Any) -> bool:
    # bfloat16 NumPy and CuPy have from ml_dtypes, and do not know themselves
    return _is_dtype(xp, dtype, "real floating") or str(dtype) == "bfloat16"


def _is_dtype(xp: Any, dtype: Any, kinds: str | tuple[str, ...]) -> bool:
    try:
        return bool(xp.isdtype(dtype, kinds))
    except TypeError:
        return False


def is_real(x: Array) -> bool:
    """True for arrays of real numbers, and of bools: not of complex ones, texts, dates or objects."""
    if is_floating(x):
        return True
    kind = type(x), x.dtype
    found = _real.get(kind)
    if found is None:
        found = _real[kind] = _is_dtype(namespace(x), x.dtype, ("bool", "integral"))
    return found


_real: dict[tuple[type, Any], bool] = {}


# Half precision: a type of 16 bits counts to 2048 (float16) or 256 (bfloat16), and float16 ends at 65504.


def is_half(x: object) -> bool:
    """True for arrays of float16 and bfloat16."""
    dtype = getattr(x, "dtype", None)
    return dtype is not None and _is_half_type(type(dtype).__module__, dtype)


@cache
def _is_half_type(library: str, dtype: Any) -> bool:  # array-api-strict's types warn where they meet NumPy's
    return str(dtype).rpartition(".")[2] in ("float16", "bfloat16")


def widened(x: Array) -> Array:
    """An array of a half type in float32; all else as it is."""
    if not is_half(x):
        return x
    xp = namespace(x)
    return xp.astype(x, xp.float32)


def total(x: Array, axis: int | tuple[int, ...] | None) -> Array:
    """The sum over these axes, None being all, in x's type; of a half type it is taken in float32 and rounded once."""
    xp = namespace(x)
    return xp.astype(xp.sum(widened(x), axis=axis), x.dtype) if is_half(x) else xp.sum(x, axis=axis)


def rounded_once(function: Callable[P, R]) -> Callable[P, R]:
    """The function, computed in float32 where its first array is of a half type, its results rounded to that type.

    So its sums and counts are as good as in float32, and overflow where the result does.
    """

    @wraps(function)
    def rounded(*args: P.args, **options: P.kwargs) -> R:
        first: Any = args[0] if args else None
        if not hasattr(first, "dtype"):
            first = next((a for a in (*args, *options.values()) if hasattr(a, "dtype")), None)
        if not is_half(first):
            return function(*args, **options)
        xp, dtype = namespace(first), first.dtype
        wide: Any = function(*map(widened, args), **{name: widened(a) for name, a in options.items()})
        narrow: Any = tuple(xp.astype(a, dtype) for a in wide) if isinstance(wide, tuple) else xp.astype(wide, dtype)
        return narrow  # type: ignore[no-any-return]

    return rounded
