"""The questions that layers ask of their input, and the errors they raise (docs/errors.md)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from inspect import signature
from math import prod
from sys import float_info
from typing import Any

from array_api_compat import device

from xcnn.core.arrays import check_array, is_floating, namespace, unmasked
from xcnn.core.tracing import behind, check_limits
from xcnn.core.types import PADDINGS, Array, Shape, Weights
from xcnn.core.windows import COUNTABLE, is_whole
from xcnn.errors import BackendError, DTypeError, OptionError, ShapeError, XcnnError, counted, short

IMAGE = ("channels", "height", "width")
SIGNAL = ("channels", "length")
VECTOR = ("features",)


def check_rank(layer: object, input_shape: Shape, axes: Sequence[str]) -> Shape:
    """The input shape, without its batch axis, if it has these axes.

    Raises
    ------
    ShapeError
        X101
    """
    return _with_axes(layer, check_shape("input_shape", input_shape), axes)


def check_shape(name: str, shape: Any, least: int = 0) -> Shape:
    """The shape as a tuple of ints; raise X104 unless it is a tuple or list of whole numbers."""
    if not isinstance(shape, tuple | list):
        raise OptionError("X104", f"{name} must be a tuple, such as (1, 28, 28); got {short(shape)}.")
    return tuple([check_whole(f"each size of {name}", n, least) for n in shape])


def _with_axes(layer: object, input_shape: Shape, axes: Sequence[str]) -> Shape:
    if len(input_shape) != len(axes):
        raise ShapeError(
            "X101",
            f"expects ({', '.join(axes)}) for each sample but got {counted(len(input_shape), 'axis', 'axes')}.",
            f"got {tuple(input_shape)} for each sample",
            hint=_rank_hint(tuple(input_shape), axes),
            layer=layer,
        )
    return tuple(input_shape)


def check_cells(layer: object, input_shape: Shape) -> None:
    """Raise X101 unless a sample has at least one channel, and one cell along each axis, as windows need them."""
    if 0 in input_shape:
        raise ShapeError(
            "X101",
            "needs at least one channel, and one cell along each axis.",
            f"got {tuple(input_shape)} for each sample",
            hint="leave out what has no cells; only the batch may be empty.",
            layer=layer,
        )


def _rank_hint(got: Shape, axes: Sequence[str]) -> str:
    if tuple(axes) == VECTOR and got:
        return "put Flatten() or GlobalAveragePool2D() before it."
    if tuple(axes) == IMAGE and len(got) == 2:
        return "images are (channels, height, width): add the channel axis, x[:, None]."
    fitting = (*got, 1, 1)[: len(axes)] if len(got) < len(axes) else (*got[: len(axes) - 1], prod(got[len(axes) - 1 :]))
    return f"put a Reshape({fitting}) before it."


def check_input(
    layer: object, weights: Weights, x: Array, axes: Sequence[str], size: int | None = None, backend: Any = None
) -> Any:
    """The namespace of x, if x is a batch with these axes, at home where the weights are, and of their type.

    `size` is what the first axis after the batch must count, where the weights fix it; `backend` as `check_home`'s.

    Raises
    ------
    BackendError
        X301
    DTypeError
        X103
    ShapeError
        X101
    """
    check_home(layer, weights, x, backend)
    _with_axes(layer, x.shape[1:], axes)
    if size is not None and x.shape[1] != size:
        noun = axes[0] if size != 1 else axes[0].removesuffix("s")
        raise ShapeError(
            "X101",
            f"expects {size} input {noun} but got {x.shape[1]}.",
            f"got x {tuple(x.shape)} = ({', '.join(('batch', *axes))})",
            hint=_size_hint(x.shape, size, axes),
            behind="its weights are for other samples: build the model with the input_shape of x, or mend the weights.",
            layer=layer,
        )
    return namespace(x)


def _size_hint(shape: Shape, size: int, axes: Sequence[str]) -> str:
    built = f"build the model with input_shape={tuple(shape[1:])}"
    if tuple(axes) == IMAGE and shape[3] == size:
        return f"arrays are (batch, channels, height, width): x.transpose(0, 3, 1, 2), or {built}."
    if tuple(axes) == IMAGE and size == 1 and shape[1] == 3:
        return f"convert the images to grayscale, or {built}."
    return f"{built}."


def check_home(layer: object, weights: Weights, x: Array, backend: Any = None) -> None:
    """Raise if x is not floating, or not of its weights' library, device and type.

    A layer without weights that asks its backend's primitives gives the backend, whose library x must be of.
    """
    for name, array in weights.items():
        other = type(array) is not type(x) and namespace(array) is not namespace(x)
        if other or device(array) != device(x):
            raise BackendError(
                "X301",
                f"has its {name} on {home(array)} but x is on {home(x)}.",
                hint="model.to(...) the backend of x, or x = model.backend.asarray(x).",
                layer=layer,
            )
        if array.dtype != x.dtype:
            raise DTypeError(
                "X103",
                f"has a {name} of {array.dtype} but x is {x.dtype}.",
                hint=conversion("x", x, array.dtype)
                if not is_floating(x)
                else f"convert x to {array.dtype}, or the weights to {x.dtype}, whichever is wrong.",
                behind=f"convert its weights to {x.dtype}." if is_floating(x) else "",
                layer=layer,
            )
        break  # the weights of a layer were made together
    else:
        if not is_floating(x):
            raise DTypeError(
                "X103",
                f"got x of {x.dtype}; layers compute in floating point.",
                hint=conversion("x", x, "float32"),
                layer=layer,
            )
        if backend is not None and library(namespace(x)) != library(backend.xp):
            raise BackendError(
                "X301",
                f"runs on {library(backend.xp)} but x is on {home(x)}.",
                hint="x = backend.asarray(x), or a Run on the backend of x.",
                layer=layer,
            )


def check_batch(layer: object, x: Array) -> None:
    """Raise X101 for an array without axes, which has no samples."""
    if not x.shape:
        raise ShapeError(
            "X101", "expects a batch but got an array without axes.", hint="x[None] is one sample.", layer=layer
        )


def conversion(name: str, x: Array, dtype: object) -> str:
    """What to do with an array that is not floating, where this floating type is wanted."""
    kind = str(x.dtype).rpartition(".")[2]
    if "complex" in kind:
        return "numbers are real here: give real and imaginary parts as channels."
    if not re.match(r"u?int|bool|object", kind):
        return f"{name} must hold numbers, or what they stand for."
    scale = {"uint8": " / 255", "uint16": " / 65535", "int8": " / 127"}.get(kind, "")
    return f'{name} = {name}.astype("{str(dtype).rpartition(".")[2]}"){scale}'


def home(x: Array) -> str:
    """Where an array is, in words: "numpy", "cupy:0", "torch:cuda:0", "array_api_strict:device1"."""
    return home_of(namespace(x), device(x))


def home_of(xp: Any, device: object) -> str:
    """The same of an array of this namespace on this device."""
    name, where = library(xp), str(device)
    named = re.search(r"CUDA Device (\d+)|Device\('(.+)'\)|^(cpu):0$", where)
    where = next((name for name in named.groups() if name), where) if named else where
    return name if where == "cpu" else f"{name}:{where}"


def library(xp: Any) -> str:
    """The library that a namespace is of: "numpy", "torch", "jax"."""
    return str(xp.__name__).removeprefix("array_api_compat.").removesuffix(".numpy")


def check_call(function: Any, count: int, what: str, takes: str) -> None:
    """Raise X104 unless it is a function that can be called with so many arguments, as far as it tells; no class."""
    if isinstance(function, type):
        name = function.__name__
        hint = f"make one of it: {name}(...), not {name}."
        raise OptionError("X104", f"{what} must be functions {takes}; {name} is a class.", hint=hint)
    if not callable(function):
        raise OptionError("X104", f"{what} must be functions {takes}; got {short(function)}.")
    try:
        if isinstance(function, partial):  # whose own signature takes options that do not fit for C's silence
            signature(function.func).bind_partial(*function.args, **function.keywords)
        signature(function).bind(*[None] * count)
    except ValueError:  # some that are written in C do not tell
        return
    except TypeError as error:
        raise OptionError("X104", f"{what} are called with {takes}: {short(function)}: {error}.") from error


def check_whole(name: str, value: object, least: int = 1, most: float = COUNTABLE) -> int:
    """The option as an int, NumPy's too; raise X104 unless it is a whole number of at least `least`, and countable."""
    number: Any = plain(value)
    if not is_whole(number) or number < least:
        raise OptionError("X104", f"{name} must be a whole number of at least {least}; got {short(value)}.")
    if number >= most:
        raise OptionError("X104", f"{name} must be below {most:.2g}; got {short(value)}.")
    return int(number)


def check_choice(name: str, value: object, choices: Sequence[str | None]) -> None:
    """Raise X104 unless it is one of them."""
    if value not in choices:
        known = ", ".join("None" if each is None else f'"{each}"' for each in choices)
        raise OptionError("X104", f"{name} must be one of {known}; got {short(value)}.")


def check_between(name: str, value: object, low: float, high: float) -> float:
    """The option as a number of Python's, NumPy's too; raise X104 unless low <= value < high."""
    check_limits(value, low, high)
    number: Any = plain(behind(value))
    if not is_number(number) or not low <= number < high:
        raise OptionError("X104", f"{name} must be at least {low} and below {high}; got {short(value)}.")
    return number if behind(value) is value else value  # type: ignore[return-value]


def check_rate(name: str, value: object) -> float:
    """The option, if it is a finite number of at least 0; else raise X104."""
    return check_between(name, value, 0, float("inf"))


def check_positive(name: str, value: object) -> float:
    """The option, if it is a finite number above 0; else raise X104."""
    number: Any = plain(behind(value))
    if not is_number(number) or not 0 < number < float("inf"):
        raise OptionError("X104", f"{name} must be a positive number; got {short(value)}.")
    return number if behind(value) is value else value  # type: ignore[return-value]


def is_number(value: object) -> bool:
    """True for a float, or an int that is not a bool and not beyond all floats."""
    return isinstance(value, float) or (isinstance(value, int) and is_whole(value) and abs(value) <= float_info.max)


def check_flag(name: str, value: object) -> bool:
    """The option as a bool, NumPy's too; raise X104 for all else, since any text, "no" as well, would count as true."""
    flag = plain(value)
    if not isinstance(flag, bool):
        raise OptionError("X104", f"{name} must be True or False; got {short(value)}.")
    return flag


def plain(value: Any, depth: int = 64) -> Any:
    """A number of NumPy's as Python's, also within tuples and lists that are not endless; all else as it is."""
    if type(value) in (tuple, list) and depth:
        return type(value)(plain(each, depth - 1) for each in value)
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else value


def check_groups(layer: object, groups: int, count: int, noun: str) -> None:
    """Raise X104 unless the groups are a whole number that divides this count of channels or filters."""
    check_whole("groups", groups)
    if count % groups:
        raise OptionError("X104", f"has {groups} groups, which do not divide {count} {noun}.", layer=layer)


def check_axes(layer: object, axes: object) -> None:
    """Raise X104 unless these are whole numbers, at least one, none twice and none that of the batch, which is 0."""
    asked = axes if isinstance(axes, tuple) else (axes,)
    if 0 in asked:
        raise OptionError("X104", "has axis 0, which is the batch's.", layer=layer)
    if not asked or not all(map(is_whole, asked)) or len({*asked}) < len(asked):
        raise OptionError(
            "X104",
            f"must have one axis or several different ones; got {short(axes)}.",
            layer=layer,
        )


def check_axis(layer: object, axis: object, rank: int) -> int:
    """The axis counted from the front, if an array of this rank has it beside its batch's; else raise X104."""
    if is_whole(axis):
        found: int = axis + rank if axis < 0 else axis  # type: ignore[operator, assignment]
        if 0 < found < rank:
            return found
    raise OptionError(
        "X104", f"has axis {short(axis)}, but the axes are 1 to {rank - 1} (0 is the batch's).", layer=layer
    )


@contextmanager
def on_behalf_of(layer: object) -> Iterator[None]:
    """Let errors from this block name this layer, for which another does the work."""
    try:
        yield
    except XcnnError as error:
        error.subject = type(layer).__name__
        raise


def check_planes(name: str, x: Array, k: Array, mode: str) -> None:
    """Raise unless x and k are planes of one library and device and, for "valid", the kernel fits."""
    if not isinstance(mode, str) or mode not in PADDINGS:
        raise OptionError("X104", f'{name}: mode must be "valid", "full" or "same"; got {short(mode)}.')
    for label, array in (("x", x), ("k", k)):
        unmasked(array, f"{name}: {label}")
        check_array(array, f"{name}: {label}")
        if array.ndim != 2 or min(array.shape) < 1:
            raise ShapeError("X101", f"{name} takes planes (height, width); {label} has shape {tuple(array.shape)}.")
    if type(x) is not type(k) or device(x) != device(k):
        raise BackendError("X301", f"{name}: x is on {home(x)} but k is on {home(k)}.", hint="bring both to one.")
    if mode == "valid" and any(n < m for n, m in zip(x.shape, k.shape, strict=True)):
        raise ShapeError(
            "X102",
            f"{name}: a {k.shape[0]}x{k.shape[1]} kernel does not fit into a {x.shape[0]}x{x.shape[1]} plane.",
            hint='use mode "full" or "same", or a smaller kernel.',
        )
