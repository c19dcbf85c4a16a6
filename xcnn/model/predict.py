"""`Model.predict`: the outputs of all samples, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from math import isfinite
from typing import Any

import numpy as np

from xcnn.core.checks import check_whole
from xcnn.data.source import Source
from xcnn.errors import DataError, OptionError, counted, host_memory
from xcnn.layers import Graph, Layer, Sequential, Softmax
from xcnn.layers.activations import sigmoid
from xcnn.layers.packed import Packed
from xcnn.model.held import Held
from xcnn.training.loop import in_order
from xcnn.training.losses import Loss, loss_name
from xcnn.training.state import HostArray

FEW = 8192
"""Cells whose product with themselves BLAS takes on one thread, sooner than NumPy adds them up."""


def in_views(model: Held, data: Source, views: Any, batch_size: int | None, workers: int) -> Iterator[HostArray]:
    """The outputs of all samples in each view; as they are, where no view is given."""
    if views is None:
        yield predict(model, data, batch_size, workers)
        return
    from xcnn.data.augment.views import Seen, check_views

    if not (chosen := check_views(views)):
        raise OptionError("X104", "views is empty.", hint="None alone sees the samples as they are: views=[None].")
    for place, view in enumerate(chosen):
        seen = data if view is None else Seen(data, view, (model.trainer.seed, place))
        yield predict(model, seen, batch_size, workers)


def shares_one(net: Layer, loss: Loss) -> bool:
    """Whether a classifier's probabilities add up to 1: by its loss, or because its last layer is a Softmax."""
    return loss_name(loss) in ("cross_entropy", "nll") or isinstance(last_layer(net), Softmax)


def last_layer(net: Layer) -> Layer:
    """The layer behind all others, within containers of such as follow each other."""
    while isinstance(net, Sequential | Graph) and net.named:
        net = net.layers[net.outputs[0]] if isinstance(net, Graph) else net.named[-1][1]
    return net


def as_probabilities(loss: Loss, outputs: HostArray) -> HostArray:
    """Outputs (samples, classes) as probabilities, float64, by what a classifier's loss takes them for.

    Raises
    ------
    OptionError
        X104, when the loss is not a classifier's.
    """
    y = outputs.astype("float64")
    with np.errstate(all="ignore"):
        match loss_name(loss):
            case "cross_entropy":
                p = np.exp(y - y.max(axis=1, keepdims=True))
                p = p / p.sum(axis=1, keepdims=True)
                rest = 1 - p
            case "nll":
                p = np.exp(y)
                rest = 1 - p
            case "binary_cross_entropy_with_logits" | "focal":
                p, rest = sigmoid(np, y), sigmoid(np, -y)
            case "binary_cross_entropy" | "dice":
                p, rest = y, 1 - y
            case other:
                raise OptionError("X104", f"the outputs of a net with {other or 'this loss'} are no probabilities.")
    return np.concatenate([rest, p], axis=1) if p.shape[1] == 1 else p


def mean(parts: Iterator[HostArray]) -> HostArray:
    """Of arrays of one shape, in their type."""
    total, count = next(parts), 1
    for part in parts:
        total, count = total + part, count + 1
    return total if count == 1 else total / np.asarray(count, total.dtype)


def of_one_batch(model: Held, x: Any, batch_size: Any) -> HostArray | None:
    """The outputs of samples that are as the model takes them, and one batch; None of all others.

    Their sum, or of few that of their squares, tells whether all are finite: where it is not, they are looked at one by
    one.
    """
    trainer, backend = model.trainer, model.backend
    most = trainer.at_once if batch_size is None else batch_size
    if type(x) is not np.ndarray or type(most) is not int or isinstance(model.net, Packed):
        return None
    if x.dtype != np.dtype(trainer.dtype) or x.shape[1:] != model.input_shape or not 0 < len(x) <= most < 2**31:
        return None
    net, run, weights = trainer.net, trainer.asking, trainer.asked(model.state)
    with host_memory("this batch"):
        if (y := backend.at_once(net, weights, x, run)) is not None:
            return np.array(y, order="C")  # it may be memory of others, or not be written
        with backend.active():
            flat = x.ravel()
            if not isfinite(flat @ flat if flat.size <= FEW else x.sum()):
                return None
            y, _ = net(weights, backend.asarray(x, trainer.dtype), run)
            return np.array(backend.to_numpy(y), order="C")


def predict(model: Held, data: Source, batch_size: int | None, workers: int) -> HostArray:
    """The outputs (samples, *output_shape), all by the weights of one moment.

    Raises
    ------
    DataError
        X203, where a source left samples out, or gave none: nobody could tell whose outputs they are.
    """
    trainer, weights = model.trainer, model.trainer.asked(model.state)
    size = trainer.at_once if batch_size is None else check_whole("batch_size", batch_size)
    parts: list[HostArray] = []
    y: HostArray | None = None
    seen, known = 0, data.samples
    with closing(in_order(data, size, workers)) as batches:
        for x, _, numbers in batches:
            made = trainer.backend.to_numpy(trainer.forward(weights, x))
            if y is None and known is not None:
                if known <= len(x):
                    return np.array(made, order="C")  # it may be memory of others, or not be written
                y = np.empty((known, *made.shape[1:]), made.dtype)
            if y is None:
                parts.append(np.array(made, order="C"))
            else:
                y[seen : seen + len(x)] = made
            del made  # the next batch needs its room
            if data.expected and (not len(x) or numbers[-1] != seen + len(x) - 1):
                told = f"{counted(data.expected, 'sample')} were asked for, and some of them can't be read"
                raise DataError("X203", f"{told}.", hint="leave them out before: outputs would belong to others.")
            seen += len(x)
    if y is None and not parts:
        nothing = trainer.forward(weights, np.zeros((0, *model.input_shape), model.dtype))
        return np.array(trainer.backend.to_numpy(nothing))
    return np.concatenate(parts) if y is None else y
