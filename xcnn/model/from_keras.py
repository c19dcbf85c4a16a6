"""A model of Keras's as one of xcnn's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xcnn.backends.contract import Backend
from xcnn.backends.selector import backend as make_backend
from xcnn.backends.selector import get_backend
from xcnn.core import tree
from xcnn.core.checks import check_shape, check_whole
from xcnn.core.options import explained
from xcnn.core.text import readable
from xcnn.core.types import LossName, OptimizerName, Shape
from xcnn.errors import ExchangeError
from xcnn.exchange.keras import nets
from xcnn.layers.batch_norm import SETTLED
from xcnn.model import checkpoint
from xcnn.model.model import Model
from xcnn.model.needs import Counter
from xcnn.model.several import packed
from xcnn.training.losses import Loss
from xcnn.training.optimizers import Optimizer


@explained
def load_keras(
    path: str | Path,
    *,
    input_shape: Shape | Mapping[str, Shape] | None = None,
    loss: LossName | Loss | Mapping[str, Any] | None = None,
    optimizer: OptimizerName | Optimizer = "adam",
    backend: str | Backend | None = None,
    max_bytes: int = checkpoint.MAX_BYTES,
) -> Model:
    """The model of a .keras file, with its weights, ready to predict and to be trained. Needs h5py, and not Keras.

    Layers keep their names. Images are (channels, height, width) here.

    Parameters
    ----------
    path
        of the file
    input_shape
        of one sample, where the file leaves sizes open, else None; of several inputs by their names
    loss
        a name, or a function (y, t) -> (value, dy), as of `xcnn.Model`; None is "binary_cross_entropy" where the last
        layer gives probabilities, "cross_entropy" where it gives a row of numbers, else "mse"; so it is of each output,
        where there are several
    optimizer
        a name, or a value such as xcnn.SGD(0.1, momentum=0.9)
    backend
        a name or a Backend; None is the process's (xcnn.set_backend)
    max_bytes
        what a sample may take on its way through the net: the arrays of its layers, counted before any is made

    Raises
    ------
    ExchangeError
        X416, for a file that can't be read; X418, for layers and options that xcnn does not have: all are listed.
    MissingDependency
        X601, without h5py.
    OptionError
        X104, for options that can't be, and for sizes that the file leaves open.

    Returns
    -------
    Model

    Examples
    --------
    >>> model = xcnn.load_keras("model.keras")  # doctest: +SKIP
    """
    shape = checked_shape(input_shape)
    max_bytes = check_whole("max_bytes", max_bytes)
    there = get_backend() if backend is None else make_backend(backend)
    built = nets.load(path, shape)
    net, shape = packed(built.net, built.input_shape)
    counter = Counter(shape)
    planned, _ = net.init(counter, shape)
    if counter.cells * 4 > max_bytes:
        needed = readable(counter.cells * 4)
        raise ExchangeError(
            "X416", f"{Path(path).name} is not read: a single sample would take {needed} in its net.",
            hint=f"if you trust it, load_keras(path, max_bytes={counter.cells * 4}).",
        )  # fmt: skip
    found = dict(tree.items(built.weights))
    sent = {name: there.asarray(found.get(name, [SETTLED]), "float32") for name, _ in tree.items(planned)}
    losses = {name: default_loss(*output) for name, output in built.outputs.items()}
    chosen: Any = (losses if len(losses) > 1 else next(iter(losses.values()))) if loss is None else loss
    restored = checkpoint.Restored(net, tree.filled(planned, sent))
    model = Model(restored, shape, loss=chosen, optimizer=optimizer, backend=there)
    model._become(_net=net)
    return model


def checked_shape(shape: Any) -> Any:
    """A shape of a sample, or several by name."""
    if isinstance(shape, Mapping):
        return {name: check_shape("input_shape", each, least=1) for name, each in shape.items()}
    return None if shape is None else check_shape("input_shape", shape, least=1)


def default_loss(output_shape: Shape, probable: bool) -> LossName:
    """The loss of an output that nobody has named one for."""
    row = len(output_shape) == 1 and output_shape[0] > 1
    return "binary_cross_entropy" if probable else "cross_entropy" if row else "mse"
