"""ONNX files as models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xcnn.backends.contract import Backend
from xcnn.backends.selector import backend as make_backend
from xcnn.backends.selector import get_backend
from xcnn.core import tree
from xcnn.core.checks import check_shape, check_whole
from xcnn.core.text import readable
from xcnn.core.types import LossName, OptimizerName, Shape
from xcnn.errors import ExchangeError
from xcnn.layers import Layer, LogSoftmax, Sigmoid, Softmax, Tanh
from xcnn.model import checkpoint
from xcnn.model.checkpoint import MAX_BYTES
from xcnn.model.model import Model
from xcnn.model.needs import Counter
from xcnn.model.predict import last_layer
from xcnn.training.losses import Loss
from xcnn.training.optimizers import Optimizer

if TYPE_CHECKING:
    from xcnn.exchange.onnx.read import Read


def load_onnx(
    path: str | Path,
    *,
    input_shape: Shape | None = None,
    output: str | None = None,
    loss: LossName | Loss | None = None,
    optimizer: OptimizerName | Optimizer = "adam",
    backend: str | Backend | None = None,
    seed: int = 0,
    max_bytes: int = MAX_BYTES,
) -> Model:
    """The model of an ONNX file of any exporter, which can be trained, saved and moved as any other.

    A net of operators one after another becomes a Sequential, one that branches has Residual, Add, Multiply and
    Concatenate, or is a Graph; layers have the names of the nodes. Nothing in a file is executed. It needs the package
    onnx, `pip install "xcnn[onnx]"`.

    Parameters
    ----------
    path
        of the file
    input_shape
        of one sample, where the file leaves sizes free, else None; images that the graph transposes at once, (H, W, C),
        are taken by the model as (C, H, W)
    output
        the value that the model gives: of several outputs one, or any value within the graph, by its name in the file;
        None is the only output
    loss
        a name, or a function (y, t) -> (value, dy), as of `xcnn.Model`; None is that of the last layer:
        "binary_cross_entropy" for probabilities, "nll" for their logarithms, "cross_entropy" for scores of at least two
        classes, else "mse"
    optimizer
        a name, or a value such as xcnn.SGD(0.1, momentum=0.9)
    backend
        a name or a Backend; None is the process's (xcnn.set_backend)
    seed
        of the order of samples and dropout's masks
    max_bytes
        what a sample may take on its way through the net: the arrays of its layers, counted before any is made

    Raises
    ------
    ExchangeError
        X413 for what is no ONNX file, or damaged; X414 for operators that no layer is for, all of them; X415 for a net
        that takes more than max_bytes.
    OptionError
        X104, for an input_shape or an output that the file does not have.
    MissingDependency
        X601

    Returns
    -------
    Model
        `model.info["onnx"]` has the file's metadata

    Examples
    --------
    >>> model = xcnn.Model(xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(2)), (1, 4, 4), backend="numpy")
    >>> model.to_onnx("net.onnx", verify=False)
    >>> xcnn.load_onnx("net.onnx").output_shape
    (2,)
    """
    from xcnn.data.images import DIGITS
    from xcnn.exchange.onnx.read import read_onnx

    max_bytes = check_whole("max_bytes", max_bytes)
    shape = None if input_shape is None else check_shape("input_shape", input_shape, least=1)
    read = read_onnx(path, shape, output)
    output_shape = counted_shape(path, read, max_bytes)
    there = get_backend() if backend is None else make_backend(backend)
    weights = tree.map(lambda w: there.asarray(np.array(w), "float32"), read.weights)
    model = Model(
        checkpoint.Restored(read.net, weights), read.input_shape, backend=there, optimizer=optimizer, seed=seed,
        loss=loss if loss is not None else default_loss(read.net, output_shape),
    )  # fmt: skip
    model._become(_net=read.net)
    data = {"data": read.info["data"]} if read.info.get("data") in DIGITS else {}
    model.info = {"onnx": read.info, **classes_of(read.info), **data}
    return model


def counted_shape(path: str | Path, read: Read, max_bytes: int) -> Shape:
    """The shape of the net's output; raises X415 where a sample takes too much on its way there."""
    counter = Counter(read.input_shape)
    _, output_shape = read.net.init(counter, read.input_shape)
    counter.note(read.net, read.input_shape, output_shape)
    taken = 4 * counter.cells
    if taken > max_bytes:
        raise ExchangeError(
            "X415",
            f"{Path(path).name} is not read: a single sample would take {readable(taken)} in its net, and at most "
            f"{readable(max_bytes)} are allowed.",
            hint=f"if you trust it, load_onnx(path, max_bytes={taken})." if taken < 2**50 else "",
        )
    return output_shape


def default_loss(net: Layer, output_shape: Shape) -> LossName:
    """That of what a row of numbers is, by the last layer: probabilities, their logarithms, or scores; else mse."""
    last = last_layer(net)
    if len(output_shape) != 1 or isinstance(last, Tanh):
        return "mse"
    if isinstance(last, Softmax | Sigmoid):
        return "binary_cross_entropy"
    return "mse" if output_shape[0] == 1 else "nll" if isinstance(last, LogSoftmax) else "cross_entropy"


def classes_of(info: Mapping[str, str]) -> dict[str, list[str]]:
    """The names of the classes, as `to_onnx` writes them."""
    try:
        names = json.loads(info.get("classes", ""))
    except (ValueError, RecursionError):
        return {}
    fits = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return {"classes": names} if fits else {}
