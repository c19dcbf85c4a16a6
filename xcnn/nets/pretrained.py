"""Nets that come trained, small enough to lie in the package."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import as_file, files
from typing import TYPE_CHECKING

from xcnn.core.names import unknown
from xcnn.errors import OptionError
from xcnn.nets.recipes import RECIPES, photos

if TYPE_CHECKING:
    from xcnn.backends.contract import Backend
    from xcnn.model.model import Model

SHAPES = "photos-shapes"
"""The weights that a net for photos may begin with."""


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


def load_backbone(model: Model) -> Model:
    """Give a net that `xcnn.nets.photos` made the convolutions that know drawn shapes, to begin a training with.

    They learned 96 shapes, such as arrows, bottles, keys, letters and figures of several parts, of any colour and
    light, before a cluttered ground: `benchmarks/pretrain_photos.py` made them. A few dozen photos a class do not teach
    what an outline is; they need not, then. The dense layer at the end stays as it was drawn.

    Parameters
    ----------
    model
        its net is xcnn.nets.photos(...), of one channel or three

    Raises
    ------
    OptionError
        X104, for another net.

    Returns
    -------
    Model
        the same one

    Examples
    --------
    >>> model = xcnn.Model(xcnn.nets.photos(3), (3, 64, 64), backend="numpy")
    >>> xcnn.nets.load_backbone(model).weights["conv1"]["kernel"].shape
    (24, 3, 3, 3)
    """
    from xcnn.model.model import Model

    donor = Model(photos(2), (3, 64, 64), backend="numpy")
    with as_file(files("xcnn.nets") / "weights" / f"{SHAPES}.safetensors") as path:
        donor.load_weights(path, without=last(donor))
    known = [weight for name, weight in donor.state_dict().items() if name.partition(".")[0] != last(donor)]
    own = model.state_dict()
    names = [name for name in own if name.partition(".")[0] != last(model)]
    if len(names) == len(known) and own[names[0]].shape[1:2] == (1,):
        known[0] = known[0].sum(1, keepdims=True)  # grey is a picture whose colours are alike
    if [own[name].shape for name in names] != [weight.shape for weight in known]:
        hint = "model = xcnn.Model(xcnn.nets.photos(classes), (3, 64, 64))"
        raise OptionError("X104", "this net is not xcnn.nets.photos, for pictures in grey or RGB.", hint=hint)
    model.load_weights(dict(zip(names, known, strict=True)), without=last(model))
    return model


def last(model: Model) -> str:
    """The name that PyTorch gives the last layer that has weights."""
    return next(reversed(model.state_dict()), "").partition(".")[0]
