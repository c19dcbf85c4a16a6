"""Nets of several inputs and outputs: what a user gives by their names, side by side in one array, and back.

Batches, steps, checkpoints and backends know one x, one y and one t. What is several lies side by side in each: see
layers/packed.py and training/output_losses.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np

from xcnn.core.checks import check_shape, conversion
from xcnn.core.options import nearest
from xcnn.core.several import is_several
from xcnn.core.types import Shape
from xcnn.errors import DataError, DTypeError, OptionError, ShapeError, counted, short
from xcnn.layers.graph import Graph
from xcnn.layers.layer import Layer
from xcnn.layers.packed import Packed, apart, together
from xcnn.model.checkpoint import Restored
from xcnn.model.held import Held
from xcnn.model.host_data import check_labels, check_shares, host_array
from xcnn.training.losses import OF_ONE_CLASS, check_target_shape, loss_function
from xcnn.training.metrics.metric import Metric
from xcnn.training.metrics.outputs import AccuracyOf, LossOf, OfOutput
from xcnn.training.output_losses import LEFT_OUT, OutputLoss, OutputLosses, options_of
from xcnn.training.state import HostArray

Predict = TypeVar("Predict", bound=Callable[..., Any])


def packed(net: Layer, input_shape: Any) -> tuple[Layer, Any]:
    """A Graph of several inputs or outputs as a net of one, and the shape that it takes; all else as it is.

    Raises
    ------
    OptionError
        X104, for names that are none of the inputs.
    """
    if not isinstance(net, Graph) or len(net.inputs) + len(net.outputs) == 2:
        return net, input_shape
    if isinstance(input_shape, Mapping):
        named = by_name(dict(input_shape), net.inputs, "input_shape")
        input_shape = named if len(named) > 1 else named[0]
    shapes = tuple(net.given_shapes(tuple(input_shape) if is_several(input_shape) else input_shape))
    shapes = tuple(check_shape("input_shape", shape, least=1) for shape in shapes)
    made = Packed(net, shapes)
    return made, made.input_shape


def losses_of(net: Layer, loss: Any) -> Any:
    """A loss for each output as one; all else as it is.

    Raises
    ------
    OptionError
        X104, for names that are none of the outputs, and where a net of several outputs has another loss.
    """
    net = net.net if isinstance(net, Restored) else net
    outputs = net.graph.outputs if isinstance(net, Packed) else ()
    if len(outputs) < 2:
        if isinstance(loss, Mapping):
            raise OptionError("X104", "losses by name are for a Graph of several outputs.", hint='loss="mse"')
        return loss
    assert isinstance(net, Packed)
    if isinstance(loss, OutputLosses):
        if [(part.output, tuple(part.shape)) for part in loss.parts] != [
            *zip(outputs, net.output_shapes(), strict=True)
        ]:
            raise OptionError("X104", "these losses are of other outputs than the net's.")
        return loss
    if not isinstance(loss, Mapping | tuple | list):
        example = ", ".join(f'"{name}": "mse"' for name in outputs)
        told = f"the net has {counted(len(outputs), 'output')}, and wants a loss for each; got {short(loss)}."
        raise OptionError("X104", told, hint=f"loss={{{example}}}; with a weight it is (loss, weight).")
    given = by_name(loss, outputs, "loss") if isinstance(loss, Mapping) else in_number(loss, outputs, "loss")
    shapes = net.output_shapes()
    return OutputLosses(tuple(map(output_loss, outputs, shapes, given)))


def output_loss(name: str, shape: Shape, given: Any) -> OutputLoss:
    """The loss of an output, alone or with its weight; raises X104 where it does not fit the output."""
    loss, weight = given if isinstance(given, tuple) and len(given) == 2 else (given, 1.0)
    chosen, options = options_of(loss_function(loss))
    part = OutputLoss(name, shape, chosen, options, weight)
    least = 2 if part.loss in OF_ONE_CLASS else 1
    if part.threshold is not None and (not shape or shape[0] < least):
        raise OptionError("X104", f"{name!r}: {part.loss} can't tell classes apart by an output of shape {shape}.")
    return part


def measures(loss: Any) -> tuple[OfOutput, ...]:
    """What is measured of each output that has a loss by name: that, and of classifiers the accuracy."""
    if not isinstance(loss, OutputLosses):
        return ()
    found: list[OfOutput] = []
    for part, (start, _) in zip(loss.parts, loss.edges(), strict=True):
        if isinstance(part.loss, str):
            found += [LossOf(part, start), *([AccuracyOf(part, start)] if part.threshold is not None else [])]
    return tuple(found)


def measured(metrics: tuple[Metric, ...], loss: Any) -> tuple[Metric, ...]:
    """The metrics, and what is measured of each output."""
    return (*(metric for metric in metrics if not isinstance(metric, OfOutput)), *measures(loss))


def check_augment(model: Held, augment: Any) -> None:
    """Raise X104 for augmentations where there are several inputs: which of them is changed, nobody has told."""
    if isinstance(model.net, Packed) and not (isinstance(augment, tuple | list) and not augment):
        hint = "change the samples before they are given."
        raise OptionError("X104", "augment goes with nets of one input and one output.", hint=hint)


def both(model: Held, x: Any, y: Any) -> tuple[Any, Any]:
    """Samples and targets, each side by side."""
    return inputs(model, x), targets(model, y)


def inputs(model: Held, x: Any, role: str = "") -> Any:
    """A net's several inputs side by side, (samples, cells); what is for one input as it is.

    Raises
    ------
    OptionError, ShapeError, DTypeError, DataError
        X104, X101, X103, X203, naming the input that does not fit.
    """
    net = model.net
    if not isinstance(net, Packed) or len(net.input_shapes) < 2:
        return x
    names = net.graph.inputs
    given = by_name(x, names, f"{role}x") if isinstance(x, Mapping) else in_number(x, names, f"{role}x")
    arrays = []
    for name, shape, each in zip(names, net.input_shapes, given, strict=True):
        array = host_array(name, each)
        if array.shape[1:] != shape:
            told = f"got {role}{name} {array.shape}, expected (any, {', '.join(map(str, shape))})"
            raise ShapeError("X101", f"the model takes samples of shape {shape} for {name!r}.", told)
        if array.dtype.kind != "f":
            told = f"{role}{name} is {array.dtype.name}; layers compute in {model.dtype}."
            raise DTypeError("X103", told, hint=conversion(name, array, model.dtype))
        arrays.append(array)
    return side_by_side(arrays, names, model.dtype, role)


def targets(model: Held, y: Any, role: str = "") -> Any:
    """A net's several targets side by side, each shaped like its output; what is for one output as it is.

    Labels become one-hot rows; rows of LEFT_OUT where they are an output's `ignore_index`.

    Raises
    ------
    OptionError, ShapeError, LabelError, DataError
        X104, X202, X201, X203, naming the output that does not fit.
    """
    loss = model.loss
    if not isinstance(loss, OutputLosses):
        return y
    names = tuple(part.output for part in loss.parts)
    given = by_name(y, names, f"{role}y") if isinstance(y, Mapping) else in_number(y, names, f"{role}y")
    arrays = [target(part, host_array(part.output, each), role) for part, each in zip(loss.parts, given, strict=True)]
    return side_by_side(arrays, names, model.dtype, role)


def target(part: OutputLoss, t: HostArray, role: str) -> HostArray:
    """An output's targets, shaped like it."""
    shape, role = (len(t), *part.shape), f"{role}{part.output}: "
    classifies = part.threshold is not None
    check_target_shape(shape, t.shape, classifies, role)
    if not classifies:
        return t
    if t.shape == shape and (part.shape[0] > 1 or t.ndim > 1):
        check_labels(t, 2, soft=True, role=role)
        check_shares(t, part.loss in OF_ONE_CLASS, role)
        return t
    left_out = None if part.ignore_index is None else t == part.ignore_index
    check_labels(t if left_out is None else np.where(left_out, 0, t), part.shape[0], role=role)
    classes = np.arange(max(part.shape[0], 2)).reshape(1, -1, *(1 for _ in part.shape[1:]))
    rows: HostArray = (t[:, None] == classes)[:, -part.shape[0] :]
    return rows if left_out is None else np.where(left_out[:, None], LEFT_OUT, rows)


def side_by_side(arrays: Sequence[HostArray], names: Sequence[str], dtype: str, role: str) -> HostArray:
    """Arrays of as many samples as one, in this type."""
    if len({len(a) for a in arrays}) > 1:
        told = ", ".join(f"{name} has {len(a)}" for name, a in zip(names, arrays, strict=True))
        raise DataError("X203", f"{role}arrays have different numbers of samples: {told}.")
    with np.errstate(all="ignore"):
        return np.asarray(together([a.astype(dtype) for a in arrays]))


def outputs(model: Held, y: HostArray) -> Any:
    """A net's outputs by their names; of a net of one output that."""
    net = model.net
    if not isinstance(net, Packed) or len(net.graph.outputs) < 2:
        return y
    return {name: np.array(a) for name, a in zip(net.graph.outputs, apart(y, net.output_shapes()), strict=True)}


def by_names(predict: Predict) -> Predict:
    """A method that predicts: several inputs by their names or in their order, several outputs by their names."""

    @wraps(predict)
    def asked(model: Any, x: Any, *given: Any, **options: Any) -> Any:
        return outputs(model, predict(model, inputs(model, x), *given, **options))

    return cast("Predict", asked)


def pairs(model: Held, given: Any) -> Any:
    """Data of validation: (x, y), or (x, y, weights), each side by side."""
    if not isinstance(model.net, Packed) or not isinstance(given, tuple | list) or len(given) < 2:
        return given
    x, y, *rest = given
    return (inputs(model, x, "validation "), targets(model, y, "validation "), *rest)


def by_name(given: Mapping[Any, Any], names: Sequence[str], what: str) -> list[Any]:
    """What a dict gives for each of these names; raises X104 for others."""
    odd = [name for name in given if name not in names] + [name for name in names if name not in given]
    if odd:
        near = nearest(str(odd[0]), names)
        is_missing = odd[0] in names
        told = f"{what} lacks {odd[0]!r}" if is_missing else f"{what} has {short(odd[0])}, which is none"
        hint = f"did you mean {near!r}?" if near and not is_missing else f"give {', '.join(map(repr, names))}."
        raise OptionError("X104", f"{told}.", hint=hint)
    return [given[name] for name in names]


def in_number(given: Any, names: Sequence[str], what: str) -> list[Any]:
    """As many as there are names, in a tuple or list; else raise X104."""
    if not isinstance(given, tuple | list) or len(given) != len(names):
        told = f"{what} must be {counted(len(names), 'value')}, for {', '.join(map(repr, names))}; got {short(given)}."
        raise OptionError("X104", told, hint="a dict by these names, or a tuple in their order.")
    return [*given]
