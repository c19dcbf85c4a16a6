"""Host arrays that a user gives, checked and put into the types that a model takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import isqrt, prod
from typing import Any

import numpy as np
from array_api_compat import is_array_api_obj

from xcnn.backends.registry import backend_of
from xcnn.core import random, tree
from xcnn.core.arrays import check_texts, unmasked
from xcnn.core.checks import conversion
from xcnn.core.types import Shape
from xcnn.errors import (
    BackendError,
    DataError,
    DTypeError,
    LabelError,
    OptionError,
    ShapeError,
    XcnnError,
    counted,
    short,
    told_by,
)
from xcnn.layers.batch_norm import STEPS
from xcnn.layers.layer import Layer
from xcnn.model.few import all_finite, extremes
from xcnn.model.held import Held
from xcnn.model.taking import Taking
from xcnn.training.losses import OF_LABELS, OF_ONE_CLASS, check_target_shape, loss_name
from xcnn.training.state import HostArray

PICTURE = (
    "a picture's pixels? model.predict_images([path]) reads files, and brings them to the model's size and colours."
)
LAZY = "; or xcnn.data.source(x, ..., channels_last=True)"
INT64 = np.dtype("int64")
AXES = {3: "(batch, channels, height, width)", 2: "(batch, channels, length)", 1: "(batch, features)"}


def samples_of(
    model: Held, x: Any, y: Any, role: str = "", taking: Taking | None = None
) -> tuple[HostArray, HostArray]:
    """Samples and their targets, in the types that the model takes; `role` is "validation " for those of validation.

    `taking` is what the model is about to make of bytes and of names, where that is not its own yet.

    Raises
    ------
    DataError
        X203, for arrays that do not go together, or hold what is not finite; and what `inputs_of` raises.
    LabelError
        X201, for labels that are none of the classes.
    """
    taking = taking or model.taking
    x, y = inputs_of(model, x, f"{role}x", taking), host_array(f"{role}y", y)
    if len(x) != len(y) or not len(x):
        what = "x and y are empty." if len(x) == len(y) else f"x has {counted(len(x), 'sample')}, y {len(y)}."
        raise DataError("X203", f"{role}{what}", hint="give as many labels as images, and at least one.")
    return x, targets_of(model, taking.numbered(y, role), role)


def targets_of(model: Held, y: HostArray, role: str = "", told: Callable[[int], str] | None = None) -> HostArray:
    """Labels as int64, targets in the model's type; `told` is what errors call a sample."""
    shaped, loss = y.shape[1:] == model.output_shape, loss_name(model.loss)
    if loss in OF_LABELS:
        return check_names(y.argmax(axis=1) if shaped else y, role)
    if loss:
        check_target_shape((len(y), *model.output_shape), y.shape, model.trainer.threshold is not None, role)
    if model.trainer.threshold is not None and not (shaped and model.output_shape[0] > 1):
        ignored = model.trainer.ignore_index
        counting = y if ignored is None or shaped or y.dtype.kind not in "iufb" else np.where(y == ignored, 0, y)
        check_labels(counting, model.output_shape[0], shaped, role, told)
        if not shaped:
            return y.astype(INT64)
    with np.errstate(all="ignore"):
        targets: HostArray = y.astype(model.dtype) if y.dtype.kind in "iufb" else y
        if y.dtype.kind not in "iufb" or not np.isfinite(targets).all():
            what = f"it is {y.dtype}" if y.dtype.kind not in "iuf" or np.isfinite(y).all() else "it is not"
            whole = f"{role}y must hold finite numbers of {model.dtype}; {what}."
            raise DataError("X203", whole, hint="mend the targets.")
    if model.trainer.threshold is not None and shaped:
        check_shares(y, loss in OF_ONE_CLASS, role)
    return targets


def check_names(labels: HostArray, role: str = "") -> HostArray:
    """Labels that only tell which samples are alike, as int64: one whole number a sample; else raise X201 or X202."""
    if labels.ndim != 1:
        told = f"the {role}targets must be a label for each sample; got an array {labels.shape}."
        raise ShapeError("X202", told, hint="rows that name a class: y.argmax(axis=1).")
    whole = labels.dtype.kind in "iub" or (labels.dtype.kind == "f" and np.array_equal(labels, np.floor(labels)))
    if not whole or not np.isfinite(labels).all():
        hint = "number the classes: y = numpy.unique(y, return_inverse=True)[1]."
        raise LabelError("X201", f"{role}labels must be whole numbers; got {labels.dtype.name}.", hint=hint)
    return labels.astype("int64")


@contextmanager
def fitting(net: Layer, input_shape: Shape) -> Iterator[None]:
    """A block that builds a net; where the shape does not fit, the hint is one that was seen to fit."""
    try:
        yield
    except ShapeError as error:
        found = next((shape for shape in _others(input_shape) if _takes(net, shape)), None)
        if found is not None:
            error.hint = f"a sample's axes are {AXES[len(found)].replace('batch, ', '')}: give input_shape={found}."
        raise


def _others(shape: Shape) -> list[Shape]:
    """What may be meant by a shape: channels that come last, an axis of channels that lacks, an image as a row."""
    match shape:
        case (_, _, _):
            return [(shape[2], *shape[:2])]
        case (_, _):
            return [(1, *shape)]
        case (cells,) if isqrt(cells) ** 2 == cells:
            return [(1, isqrt(cells), isqrt(cells))]
    return []


def _takes(net: Layer, shape: Shape) -> bool:
    try:
        net.init(random.Planner(), shape)
    except XcnnError:
        return False
    return True


def inputs_of(
    model: Held, x: Any, name: str = "x", taking: Taking | None = None, told: Callable[[int], str] | None = None
) -> HostArray:
    """Samples, in the type that the model takes; errors call them by this name, and each sample as `told` does.

    Bytes are scaled to 0..1 where the model takes bytes.

    Raises
    ------
    ShapeError
        X101, for samples of another shape.
    DTypeError
        X103, for what are no floating-point numbers.
    DataError
        X203, for numbers that are not finite.
    """
    x = host_array(name, x)
    if x.shape == (0,) != (0, *model.input_shape):  # an empty list
        shape = f"(any, {_listed(model.input_shape)})"
        raise DataError("X203", f"{name} is empty.", hint=f"give samples, x of shape {shape}.")
    if x.shape[1:] != model.input_shape or x.ndim == 0:
        picture = x.dtype == np.uint8 and x.ndim in (2, 3) and name == "x" and len(model.input_shape) == 3
        picture = picture and (1, *x.shape[1:]) != model.input_shape
        raise ShapeError(
            "X101",
            f"the model takes samples of shape {model.input_shape}.",
            f"got {name} {x.shape}, expected {AXES.get(len(model.input_shape), 'batch first')} = (any, "
            f"{_listed(model.input_shape)})",
            hint=PICTURE if picture else _shape_hint(x.shape, model.input_shape, name),
        )
    taking = taking or model.taking
    if x.dtype == np.uint8 and taking.scaling is not None:
        scaled: HostArray = taking.scaled(x, name, model.dtype)
        return scaled
    if x.dtype.kind != "f":
        hint = conversion("x", x, model.dtype)
        if told is not None and x.dtype == np.uint8:
            hint += '; or model.scaling = "bytes", which does that.'
        raise DTypeError("X103", f"{name} is {x.dtype.name}; layers compute in {model.dtype}.", hint=hint)
    inputs: HostArray = x
    if x.dtype != model.dtype:
        with np.errstate(all="ignore"):
            inputs = x.astype(model.dtype)
    if not all_finite(inputs):
        bad = np.flatnonzero(~np.isfinite(inputs).reshape(len(x), -1).all(axis=1))
        beyond = np.isfinite(x[bad[0]]).all()  # only in the model's type it is infinite
        what = f"numbers beyond {model.dtype}" if beyond else "NaN or infinity"
        whole = "numpy.isfinite(x)" if x.dtype == inputs.dtype else f'(abs(x) <= numpy.finfo("{model.dtype}").max)'
        where = told(bad[0]) if told else f"sample {bad[0]}"
        raise DataError(
            "X203",
            f"{name} holds {what} in {where} ({counted(len(bad), 'such sample')}).",
            hint=('scale x, build the model with dtype="float64"' if beyond else "mend the data")
            + ("." if told else f", or leave those out: x[{whole}.all(axis={tuple(range(1, x.ndim))})]."),
        )
    taking.check_range(inputs, name, told)
    return inputs


def host_array(name: str, x: Any) -> HostArray:
    """A NumPy array of what the user gave.

    Raises
    ------
    BackendError
        X301, for an array of another library.
    DataError
        X203, for what has a mask, or is no array.
    """
    if type(x) is np.ndarray and x.ndim:
        same: HostArray = x
        return same
    unmasked(x, name)
    if is_array_api_obj(x) and not isinstance(x, np.ndarray | np.generic):
        library = type(x).__module__.partition(".")[0]
        owned = backend_of(x).library == library
        raise BackendError(
            "X301",
            f"{name} is an array of {library}; fit, evaluate and predict take host arrays and move each batch.",
            hint=f"{name} = xcnn.backend_of({name}).to_numpy({name})" if owned else f"{name} = numpy.asarray({name})",
        )
    try:
        array = np.asarray(x)
    except Exception as error:  # objects that give themselves as arrays may raise any
        told = f"{name} is no regular array: {told_by(error)}"
        raise DataError("X203", told, hint="every sample needs one shape.") from error
    check_texts(x, array, name)
    if array.ndim == 0:
        raise DataError(
            "X203",
            f"{name} must hold samples along its first axis; got {short(x)}.",
            hint="give an array." if isinstance(x, int | float) else "give an array; predict_images reads files.",
        )
    return array


def check_labels(
    labels: HostArray, outputs: int, soft: bool = False, role: str = "", told: Callable[[int], str] | None = None
) -> None:
    """Raise LabelError X201 where labels are not whole numbers 0 .. outputs - 1, or with `soft` lie between them.

    A single output tells two classes apart, 0 and 1.
    """
    if labels.dtype.kind not in "iufb":
        raise LabelError(
            "X201",
            f"{role}labels must be whole numbers; got {'text' if labels.dtype.kind in 'US' else labels.dtype.name}.",
            hint="number the classes from 0: y = numpy.unique(y, return_inverse=True)[1].",
        )
    last = max(outputs, 2) - 1
    if labels.dtype.kind != "f" and labels.size:
        least, most = extremes(labels)
        if least >= 0 and most <= last:
            return
    fits = (labels >= 0) & (labels <= last) & (soft | (labels == np.floor(labels)))
    wrong = np.argwhere(~fits)
    if len(wrong):
        at = tuple(wrong[0])
        allowed = "a single output" if outputs == 1 else f"{outputs} outputs"
        raise LabelError(
            "X201",
            f"{role}labels must be 0..{last} for {allowed}; found {labels[at]} "
            f"{f'of {told(at[0])}' if told else f'at index {_listed(at)}'} (and {len(wrong) - 1} more).",
            hint=label_hint(labels, labels[at], last),
        )


def label_hint(labels: HostArray, wrong: Any, last: int) -> str:
    """What may be done about labels, of which this is the first that is none."""
    if labels.dtype.kind == "f" and wrong != np.floor(wrong):
        return "mend those that are missing." if np.isnan(wrong) else "labels are whole numbers; mend them."
    if np.isfinite(labels).all() and np.max(labels) > last:
        begins = "count classes from 0: y - 1; or " if np.min(labels) == 1 and np.max(labels) == last + 1 else ""
        return f"{begins}let the last layer have {int(np.max(labels)) + 1} outputs, or mend the labels."
    return "count classes from 0."


def check_shares(targets: HostArray, sums: bool, role: str = "") -> None:
    """Raise LabelError X201 unless targets shaped like a classifier's output are 0..1, with the `sums` 1 over axis 1.

    Sums may be off by what rounding to float16 makes, in which shares may have been kept.
    """
    if not ((targets >= 0) & (targets <= 1)).all():
        raise LabelError(
            "X201",
            f"{role}targets shaped like a classifier's output must be 0..1.",
            hint="give one-hot rows, or labels.",
        )
    if not sums:
        return
    sums_of_rows = targets.sum(axis=1, dtype="float64")
    wrong = np.argwhere(np.abs(sums_of_rows - 1) > 2.0**-10)
    if len(wrong):
        total = sums_of_rows[tuple(wrong[0])]
        raise LabelError(
            "X201",
            f"rows of {role}targets must be distributions, with the sum 1 over the classes; found {total:g} at index "
            f"{', '.join(map(str, wrong[0]))} (and {len(wrong) - 1} more).",
            hint="y = y / y.sum(axis=1, keepdims=True); several at once want binary_cross_entropy_with_logits.",
        )


def weights_of(shapes: Mapping[str, Shape], new: Any, dtype: str, within: str | None = None) -> dict[str, HostArray]:
    """What a user sets of a net's weights, copied to the host in the net's type: all of them, or some `within`.

    Steps that BatchNorm counts may lack: other libraries have none.

    Raises
    ------
    OptionError
        X104, for what is no dict.
    ShapeError
        X101, for other names or shapes than those that the net declares.
    DTypeError
        X103, for what are no real numbers.
    DataError
        X203, for numbers that are finite, and are not so in the net's type.
    """
    if not isinstance(new, Mapping):
        hint = 'set one as model.weights["conv1"]["kernel"] = kernel.'
        raise OptionError("X104", f"a tree of weights must be a dict; got {short(new)}.", hint=hint)
    if within is not None:
        there = tuple(f"{within}{name}" for name in new)
        shapes = {
            path: s for path, s in shapes.items() if path in there or path.startswith(tuple(f"{t}/" for t in there))
        }
    given = dict(tree.items(dict(new), within or ""))
    odd = [path for path in shapes if path not in given and not path.endswith(STEPS)]
    odd += [path for path in given if path not in shapes]
    if odd:
        what = "is missing" if odd[0] in shapes else "is none of its"
        has = f"the net has {', '.join(f'{path} {shape}' for path, shape in shapes.items()) or 'no such'}"
        raise ShapeError("X101", f"these weights are not the net's: {odd[0]!r} {what}.", has)
    return {path: weight_of(path, given[path], shape, dtype) for path, shape in shapes.items() if path in given}


def weight_of(path: str, given: Any, shape: Shape, dtype: str) -> HostArray:
    """One of them."""
    unmasked(given, path)
    if is_array_api_obj(given) and not isinstance(given, np.ndarray | np.generic):
        given = backend_of(given).to_numpy(given)
    try:
        array = np.asarray(given)
    except ValueError as error:
        raise DataError("X203", f"{path!r} is no regular array: {error}", hint="every row needs one length.") from error
    if array.dtype.kind not in "iuf" and array.dtype.name != "bfloat16":
        found = array.dtype if array.dtype.kind != "O" else short(given)
        what = f"{path!r} must hold real numbers, as they are kept in {dtype}; got {found}."
        raise DTypeError("X103", what, hint=f"give an array of shape {shape}.")
    if array.shape != shape:
        raise ShapeError(
            "X101",
            f"these weights are not the net's: {path!r} differs.",
            f"got {array.shape}, the net has {shape}",
            hint="kernels are (in, out) where all is joined with all, (out, in, height, width) in convolutions.",
        )
    with np.errstate(all="ignore"):
        weight = np.array(array, dtype, order="C")
        if not np.array_equal(np.isfinite(weight), np.isfinite(array.astype("float64"))):
            raise DataError("X203", f"{path!r} holds numbers that are infinite in {dtype}.", hint="give smaller ones.")
    return weight


def _listed(shape: Shape) -> str:
    return ", ".join(map(str, shape))


def _shape_hint(shape: Shape, input_shape: Shape, name: str) -> str:
    if shape == input_shape:
        return "a single sample is a batch of one: x[None]."
    if len(input_shape) == 3 and len(shape) == 3 and input_shape[0] == 1 and shape[1:] == input_shape[1:]:
        return f"add the channel axis: x[:, None]{LAZY}."
    if len(input_shape) == 3 and len(shape) == 4 and (shape[3], *shape[1:3]) == input_shape:
        return f"the channels come first: x.transpose(0, 3, 1, 2){LAZY}."
    if name != "x":
        return "these samples must have the shape of those that the model is trained on."
    if shape and prod(input_shape) in (prod(shape), prod(shape[1:])):
        return f"x.reshape(-1, {_listed(input_shape)}), if its cells are in that order."
    return f"build the model with input_shape={tuple(shape[1:])}." if shape[1:] else "give each sample its axes."
