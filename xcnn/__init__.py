"""xcnn: convolutional networks whose layers read like the mathematics they come from, on any array library."""

from importlib import import_module
from typing import TYPE_CHECKING

from xcnn import article, errors, initializers, layers, losses, metrics, nets, optimizers, schedules, types
from xcnn.backends import (
    Backend,
    available_backends,
    backend,
    backend_of,
    convolve2d,
    correlate2d,
    get_backend,
    rot180,
    set_backend,
    use_backend,
)
from xcnn.backends.algorithms import explain_algorithm
from xcnn.core.process import set_threads
from xcnn.core.pure import pure
from xcnn.core.version import __version__ as __version__
from xcnn.layers import *  # noqa: F403 - every layer is a public name
from xcnn.model.film import KernelFilm
from xcnn.model.model import Model
from xcnn.training.callbacks import Checkpoint, EarlyStopping
from xcnn.training.history import History
from xcnn.training.loggers import CSVLogger, JSONLogger, TensorBoard
from xcnn.training.optimizers import EMA, LAMB, SGD, Adagrad, Adam, AdamW, Lookahead, Muon, NAdam, RMSprop
from xcnn.training.plateau import ReduceOnPlateau

if TYPE_CHECKING:
    from xcnn import data, datasets, parallel, testing
    from xcnn.checking.parity import compare
    from xcnn.data import augment
    from xcnn.explainer import explain
    from xcnn.model.from_keras import load_keras
    from xcnn.model.onnx_in import load_onnx

__all__ = [
    "CSVLogger",
    "EMA",
    "LAMB",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Backend",
    "Checkpoint",
    "EarlyStopping",
    "History",
    "JSONLogger",
    "KernelFilm",
    "Lookahead",
    "Model",
    "Muon",
    "NAdam",
    "RMSprop",
    "ReduceOnPlateau",
    "TensorBoard",
    "article",
    "augment",
    "available_backends",
    "backend",
    "backend_of",
    "compare",
    "convolve2d",
    "correlate2d",
    "data",
    "datasets",
    "errors",
    "explain",
    "explain_algorithm",
    "get_backend",
    "initializers",
    "layers",
    "load_keras",
    "load_onnx",
    "losses",
    "metrics",
    "nets",
    "optimizers",
    "parallel",
    "pure",
    "rot180",
    "schedules",
    "set_backend",
    "set_threads",
    "testing",
    "types",
    "use_backend",
    *layers.__all__,
]


def __dir__() -> list[str]:
    """The public names: the wings, which Python enters as they are imported, are no part of them."""
    return [*__all__, "__version__"]


LATE = {
    "augment": "xcnn.data.augment",
    "compare": "xcnn.checking.parity",
    "data": "xcnn.data",
    "datasets": "xcnn.datasets",
    "explain": "xcnn.explainer",
    "load_keras": "xcnn.model.from_keras",
    "load_onnx": "xcnn.model.onnx_in",
    "parallel": "xcnn.parallel",
    "testing": "xcnn.testing",
}
"""Public names that are imported when they are first asked for, which takes time that most programs need not spend."""

if not TYPE_CHECKING:  # to whom a name that is not there would then be any object, and no error

    def __getattr__(name: str) -> object:
        """Names that come late; names of Keras and PyTorch, and slips of the pen, are told what is meant."""
        if name in LATE:
            module = import_module(LATE[name])
            found = globals()[name] = getattr(module, name, module)
            return found
        from xcnn.core.options import close_name
        from xcnn.errors import NoAttribute

        raise NoAttribute(f"module 'xcnn' has no attribute {name!r}{close_name(name, __all__)}", name=name)
