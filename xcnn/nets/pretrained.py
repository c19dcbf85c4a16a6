"""Nets that come trained, small enough to lie in the package."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import as_file, files
from typing import TYPE_CHECKING

from xcnn.core.names import unknown
from xcnn.nets.recipes import RECIPES

if TYPE_CHECKING:
    from xcnn.backends.contract import Backend
    from xcnn.model.model import Model


@dataclass(frozen=True)
class Trained:
    """How a net that comes trained is built.

    Parameters
    ----------
    recipe
        its net's name in RECIPES
    input_shape
        (channels, height, width)
    classes
        the names of labels 0, 1, 2, ...
    data
        what it was trained on
    """

    recipe: str
    input_shape: tuple[int, int, int]
    classes: tuple[str, ...]
    data: str


TRAINED = {"lenet-mnist": Trained("lenet", (1, 28, 28), tuple("0123456789"), "mnist")}
"""By name; each has its file in weights/, safetensors of float16 by PyTorch's names."""


def pretrained(name: str = "lenet-mnist", *, backend: str | Backend | None = None) -> Model:
    """A model that is trained already; it can be asked, explained, saved, and trained further.

    "lenet-mnist" is LeNet on MNIST's ten digits (LeCun and Cortes, CC BY-SA 3.0, which its weights are under too),
    right on more than 99 % of the 10,000 test digits; `benchmarks/pretrain_lenet.py` made it.

    Parameters
    ----------
    name
        "lenet-mnist"
    backend
        a name or a Backend; None is the process's (xcnn.set_backend)

    Raises
    ------
    OptionError
        X104, for another name.

    Examples
    --------
    >>> model = xcnn.nets.pretrained("lenet-mnist", backend="numpy")
    >>> (x, y), (x_test, y_test) = xcnn.datasets.mnist01()
    >>> [str(name) for name in model.classify(x_test[:3])], y_test[:3].tolist()
    (['1', '0', '1'], [1, 0, 1])
    """
    from xcnn.model.model import Model

    if name not in TRAINED:
        raise unknown("pretrained net", name, TRAINED)
    kind = TRAINED[name]
    model = Model(RECIPES[kind.recipe].net(len(kind.classes)), kind.input_shape, backend=backend, scaling="bytes")
    with as_file(files("xcnn.nets") / "weights" / f"{name}.safetensors") as path:
        model.load_weights(path)
    model.info |= {"model": kind.recipe, "classes": list(kind.classes), "data": kind.data}
    return model
