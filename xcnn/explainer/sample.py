"""The sample and the target that are explained, as batches of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xcnn.core.arrays import unmasked
from xcnn.core.types import Shape
from xcnn.errors import OptionError, ShapeError
from xcnn.layers.packed import Packed
from xcnn.model import several
from xcnn.model.model import Model
from xcnn.training.output_losses import OutputLosses

HostArray = np.ndarray[Any, Any]


def one_sample(model: Model, x: Any) -> HostArray:
    """A batch of the one sample; several inputs, by their names or in their order, side by side."""
    if isinstance(model.net, Packed) and len(model.net.input_shapes) > 1:
        names = model.net.graph.inputs
        x = several.by_name(x, names, "x") if isinstance(x, Mapping) else several.in_number(x, names, "x")
        shapes = model.net.input_shapes
        return np.asarray(several.inputs(model, tuple(map(batch_of_one, x, shapes, names))))
    return batch_of_one(x, model.input_shape, "x")


def batch_of_one(x: Any, shape: Sequence[int], name: str) -> HostArray:
    """The sample with the batch's axis, if it lacks it."""
    given = unmasked(x, name)
    size = tuple(getattr(given, "shape", np.shape(given)))
    if size == tuple(shape):
        return np.asarray(given)[None]
    if size[1:] == tuple(shape) and size[0] != 1:
        raise ShapeError(
            "X101", f"a page explains one sample; got {size[0]}.", hint=f"{name}[:1] is the first of them."
        )
    return np.asarray(given)


def one_target(model: Model, x: HostArray, y: Any) -> HostArray:
    """A batch of the one label or target; None is what a classifier takes the sample for."""
    if y is None:
        y = taken_for(model, x)
    if isinstance(model.loss, OutputLosses):
        names = [part.output for part in model.loss.parts]
        y = several.by_name(y, names, "y") if isinstance(y, Mapping) else several.in_number(y, names, "y")
        shapes = [part.shape for part in model.loss.parts]
        labelled = [part.threshold is not None for part in model.loss.parts]
        return np.asarray(several.targets(model, tuple(map(target_of_one, y, shapes, labelled))))
    return target_of_one(y, model.output_shape, model.trainer.threshold is not None)


def target_of_one(y: Any, shape: Shape, labelled: bool) -> HostArray:
    """The target with the batch's axis, if it lacks it; a number stands for the one number of a net that gives one.

    Where labels are meant there may be one of the sample, or one of each of its places.
    """
    given = np.asarray(unmasked(y, "y"))
    if given.shape == () and shape == (1,) and not labelled:
        return given.reshape(1, 1)
    one = [
        (),
        tuple(shape),
        *([tuple(shape[1:])] if labelled else []),
    ]
    return given[None] if given.shape in one else given


def taken_for(model: Model, x: HostArray) -> HostArray:
    """The class that a classifier takes a sample for, as a label."""
    if model.trainer.threshold is None or len(model.output_shape) != 1:
        raise OptionError(
            "X104", "y is needed: this model is no classifier of whole samples.", hint="explain(model, x, y)"
        )
    labels: HostArray = model.probabilities(x).argmax(axis=1)
    return labels
