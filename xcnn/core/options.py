"""Options of layers, optimizers and the like, held to what their class says of them in one place.

Python lets `Dense(8, "relu")` take "relu" for its second option, and calls it true. `@checked`, above a dataclass,
holds each value to its field's annotation before anything is made of it, and knows the habits of other frameworks.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from functools import cache, wraps
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin

from xcnn.core.checks import plain
from xcnn.core.names import ELSEWHERE
from xcnn.errors import ArgumentError, OptionError, short

Class = TypeVar("Class", bound=type)
Function = TypeVar("Function", bound=Callable[..., Any])

WORDS: dict[type, str] = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a string",
    NoneType: "None",
    tuple: "a tuple",
}
SIMPLE = (bool, int, float, str, NoneType, complex, bytes)

ACTIVATIONS = {
    "relu": "ReLU", "sigmoid": "Sigmoid", "tanh": "Tanh", "softmax": "Softmax", "gelu": "GELU", "silu": "SiLU",
    "swish": "SiLU", "elu": "ELU", "softplus": "Softplus", "leaky_relu": "LeakyReLU", "relu6": "ClippedReLU",
    "selu": "SELU", "mish": "Mish", "hard_sigmoid": "HardSigmoid", "hardsigmoid": "HardSigmoid", "prelu": "PReLU",
    "hard_swish": "HardSwish", "hardswish": "HardSwish", "softsign": "Softsign", "log_softmax": "LogSoftmax",
}  # fmt: skip
FOLLOWS = "it follows from the input: leave it out."
OF_MODEL = "give it to xcnn.Model."
OF_OPTIMIZER = "give the optimizer weight_decay."
OTHERS = {
    "activation": "an activation is a layer of its own: put xcnn.ReLU() behind it.",
    "strides": "stride",
    "use_bias": "bias",
    "out_features": "units",
    "in_features": FOLLOWS,
    "out_channels": "filters",
    "in_channels": FOLLOWS,
    "num_features": FOLLOWS,
    "num_channels": FOLLOWS,
    "normalized_shape": FOLLOWS,
    "num_groups": "groups",
    "dilation_rate": "dilation",
    "kernel": "kernel_size",
    "p": "rate",
    "dim": "axis",
    "negative_slope": "alpha",
    "alpha": "negative_slope",
    "scale_factor": "size",
    "mode": "interpolation",
    "lr": "learning_rate",
    "learning_rate": "the optimizer has it: xcnn.Adam(1e-3), or model.learning_rate = 1e-3.",
    "X": "x",
    "eps": "epsilon",
    "betas": "give beta1 and beta2.",
    "beta_1": "beta1",
    "beta_2": "beta2",
    "clipnorm": "clip_norm",
    "global_clipnorm": "clip_norm",
    "restore_best_weights": "restore_best",
    "filepath": "path",
    "save_best_only": 'give monitor, such as "val_accuracy": then it saves after each best epoch.',
    "verbose": "progress",
    "metrics": OF_MODEL,
    "initial_epoch": "resume=True goes on where training stopped.",
    "padding_mode": "only zeros are added around an image; augment.Translate has other edges.",
    "inplace": "nothing is written in place: leave it out.",
    "noise_shape": "xcnn.SpatialDropout2D drops whole channels, xcnn.StochasticDepth whole samples.",
    "center": "scale and bias are always there; xcnn.InstanceNorm has affine=False.",
    "affine": "scale and bias are always there; xcnn.InstanceNorm has affine=False.",
    "decay": "give a schedule as the learning rate, such as xcnn.schedules.Exponential.",
    "clipvalue": "clip_norm holds all gradients together to a norm.",
    "validation_steps": "all of validation_data is measured.",
    "inputs": "xcnn.Graph has inputs and outputs: give it to Model as the net.",
    "outputs": "xcnn.Graph has inputs and outputs: give it to Model as the net.",
    "trainable": "give the model xcnn.optimizers.Groups, with Group(pattern, frozen=True).",
    "name": "layers are named by where they stand: model.summary() shows how.",
    "dtype": OF_MODEL,
    "input_shape": OF_MODEL,
    "input_dim": OF_MODEL,
    "device": 'a Model has its device: xcnn.Model(..., backend="cupy").',
    "data_format": "images are (N, C, H, W) here.",
    "kernel_regularizer": OF_OPTIMIZER,
    "bias_regularizer": OF_OPTIMIZER,
    "units": "filters",
    "filters": "units",
}
"""Names of options in Keras and PyTorch: the name here, or what to do instead, as a sentence."""


def checked(cls: Class) -> Class:
    """For a dataclass: each of its options must be of the kind that its annotation names, and NumPy's become Python's.

    A bool is no number. Whatever is wrong is told with the class, the option, what was got, and what to give instead.
    The kinds are held before the class's own `__post_init__`, which classes derived from this one inherit with it: a
    dataclass of a user's, with options of its own, is held to them as well.

    Raises
    ------
    OptionError
        X104, for a value of another kind; as ArgumentError, which is a TypeError too, for a call that does not fit.
    """
    make = cls.__init__  # type: ignore[misc]
    late = not hasattr(cls, "__post_init__")  # then the dataclass's __init__ was made without a call of it
    own = vars(cls).get("__post_init__", getattr(cls, "__post_init__", None))

    @wraps(make)
    def init(self: Any, *given: Any, **named: Any) -> None:
        try:
            signature(make).bind(self, *given, **named)
        except TypeError:
            owner = type(self) if type(self).__init__ is init else cls
            raise misfit(owner.__name__, make, given, named) from None
        make(self, *given, **named)
        if late:
            self.__post_init__()

    def post_init(self: Any) -> None:
        check_kinds(self)
        if own is not None:
            own(self)

    cls.__init__ = init  # type: ignore[misc]
    cls.__post_init__ = post_init  # type: ignore[attr-defined]
    return cls


def check_kinds(options: Any) -> None:
    """Hold each option of a dataclass's object to its annotation, NumPy's numbers and lists as Python's.

    Raises
    ------
    OptionError
        X104, for a value of another kind.
    """
    owner: Any = type(options)
    for field in fields(owner):
        given = getattr(options, field.name) if field.init else field.default
        if given is not field.default:
            value = check_kind(owner.__name__, field.name, plain(given), kinds_of(owner).get(field.name, frozenset()))
            if value is not given:
                object.__setattr__(options, field.name, value)  # also where the dataclass is frozen


@cache
def signature(function: Callable[..., Any]) -> inspect.Signature:
    """What a function takes."""
    return inspect.signature(function)


@cache
def kinds_of(cls: Any) -> Mapping[str, frozenset[Any]]:
    """Of each field of a class the kinds of values that it takes; Any where it may take any."""
    found: dict[str, frozenset[Any]] = {}
    for owner in reversed(cls.__mro__):
        names = vars(sys.modules.get(owner.__module__, sys))
        for name, annotation in vars(owner).get("__annotations__", {}).items():
            if str(annotation).startswith("ClassVar"):  # no field, and not to be evaluated
                continue
            found[name] = frozenset(_kinds(evaluated(annotation, names)))
    return found


def evaluated(annotation: Any, names: dict[str, Any]) -> Any:
    """What an annotation in text stands for; Any where it names what is imported for types alone."""
    try:
        return eval(annotation, names) if isinstance(annotation, str) else annotation
    except (NameError, AttributeError):
        return Any


def _kinds(annotation: Any) -> set[Any]:
    """Bool, int, float, str, tuple and the like, as far as it names them; `object` for what none of these is."""
    origin = get_origin(annotation) or annotation
    if origin in (Union, UnionType):
        return {kind for part in get_args(annotation) for kind in _kinds(part)}
    if origin is Literal:
        return {type(value) for value in get_args(annotation)}
    if annotation is None or annotation is NoneType:
        return {NoneType}
    if origin in (bool, int, float, str, tuple):
        return {origin}
    simple = isinstance(origin, type) and not getattr(origin, "_is_protocol", False) and issubclass(bool, origin)
    return {Any} if simple or isinstance(annotation, TypeVar) or annotation is Any else {object}


def check_kind(owner: str, name: str, value: Any, allowed: frozenset[Any]) -> Any:
    """The value, if its kind is allowed.

    Raises
    ------
    OptionError
        X104, if it is not.
    """
    kind = type(value)
    if kind is list and tuple in allowed:
        return tuples(value)
    if not allowed or Any in allowed or kind in allowed or (kind is int and float in allowed):
        return value
    if (object in allowed and kind not in SIMPLE) or (
        kind is not bool and isinstance(value, tuple(allowed - {object}))
    ):
        return value
    words = [WORDS[each] for each in (bool, int, float, tuple, str, NoneType) if each in allowed]
    words = [word for word in words if not (word == WORDS[int] and float in allowed)]
    what = " or ".join([*words, *(["a value of its kind"] if object in allowed and not words else [])])
    layer = ACTIVATIONS.get(value.lower()) if isinstance(value, str) else None
    hint = f"put xcnn.{layer}() behind it." if layer else ""
    raise OptionError("X104", f"{owner}: {name} must be {what}; got {short(value)}.", hint=hint)


def tuples(value: Any, depth: int = 64) -> Any:
    """Lists, and those within them, as tuples, which have a hash; those that are endless as they are."""
    return tuple(tuples(each, depth - 1) for each in value) if isinstance(value, list | tuple) and depth else value


def explained(function: Function) -> Function:
    """For a function or method: a call that does not fit is told as `checked` tells it."""

    @wraps(function)
    def told(*given: Any, **named: Any) -> Any:
        try:
            return function(*given, **named)
        except TypeError:
            try:
                signature(function).bind(*given, **named)
            except TypeError:
                owner = function.__qualname__.removesuffix(".__init__").rpartition(".")[2]
                raise misfit(owner, function, given[1:], named) from None
            raise

    return cast("Function", told)


def misfit(owner: str, function: Callable[..., Any], given: tuple[Any, ...], named: Mapping[str, Any]) -> ArgumentError:
    """The error for a call that does not fit: too much by position, a name that is not known, or one that lacks."""
    _, *parameters = signature(function).parameters.values()
    by_position = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    known = [p.name for p in parameters]
    unknown = [name for name in named if name not in known]
    if unknown:
        name = unknown[0]
        return ArgumentError("X104", f"{owner} has no option {name!r}.", hint=instead(name, known, owner))
    if len(given) > len(by_position):
        takes = " and ".join(by_position) + " by position" if by_position else "its options by name"
        rest = [p for p in known if p not in by_position]
        extra = given[len(by_position)]
        hint = f"name the others: {owner}({', '.join([*by_position, *(f'{name}=...' for name in rest[:2])])})."
        if isinstance(extra, str) and extra.lower() in ACTIVATIONS:
            hint = f"an activation is a layer of its own: put xcnn.{ACTIVATIONS[extra.lower()]}() behind it."
        elif {"filters", "units", "kernel_size", "momentum"} & {*known} and all(type(v) is int for v in given):
            hint += " What comes in is not told: it follows from the input."
        return ArgumentError("X104", f"{owner} takes {takes}; got {', '.join(map(short, given))}.", hint=hint)
    twice = [name for name in by_position[: len(given)] if name in named]
    if twice:
        return ArgumentError("X104", f"{owner} got {twice[0]!r} twice, by position and by name.", hint="give it once.")
    lacking = [p.name for p in parameters if p.default is p.empty and p.name not in named][len(given) :]
    return ArgumentError("X104", f"{owner} needs {' and '.join(lacking)}.", hint=f"{owner}({', '.join(by_position)})")


def instead(name: str, known: list[str], owner: str) -> str:
    """What to write in the place of a name that is not known."""
    other = OTHERS.get(name, "")
    if other.endswith("."):
        return other
    if other not in known and OTHERS.get(other, "").endswith("."):
        return OTHERS[other]
    meant = other if other in known else nearest(name, known)
    return f"did you mean {meant!r}?" if meant else f"{owner} takes {', '.join(known) or 'nothing'}."


def nearest(name: str, known: Iterable[str]) -> str:
    """The one among known names that is spelt most alike; "" where none is near."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(name, known, 1)), "")


CLASSES = {
    "BatchNormalization": "BatchNorm", "BatchNorm1d": "BatchNorm", "BatchNorm2d": "BatchNorm", "Linear": "Dense",
    "Conv1d": "Conv1D", "Conv2d": "Conv2D", "ConvTranspose2d": "Conv2DTranspose", "MaxPooling2D": "MaxPool2D",
    "MaxPool2d": "MaxPool2D", "AveragePooling2D": "AveragePool2D", "AvgPool2d": "AveragePool2D",
    "AdaptiveAvgPool2d": "AdaptiveAveragePool2D", "GlobalAveragePooling2D": "GlobalAveragePool2D",
    "GlobalMaxPooling2D": "GlobalMaxPool2D", "LayerNormalization": "LayerNorm", "GroupNormalization": "GroupNorm",
    "Dropout2d": "SpatialDropout2D", "DropPath": "StochasticDepth", "Upsample": "UpSampling2D",
    "ZeroPad2d": "ZeroPadding2D", "ReflectionPad2d": "Padding2D", "ReplicationPad2d": "Padding2D",
    "CircularPad2d": "Padding2D", "Swish": "SiLU", "Module": "Model", "ModelCheckpoint": "Checkpoint",
    "RMSProp": "RMSprop", "Nadam": "NAdam", "AveragedModel": "EMA", "ReduceLROnPlateau": "ReduceOnPlateau",
    "SummaryWriter": "TensorBoard",
}  # fmt: skip
"""Names of classes in Keras and PyTorch, and the name here."""


def close_name(name: str, known: list[str]) -> str:
    """The end of a sentence on a name that is not known: which is meant, if one can be guessed."""
    if name in ELSEWHERE:
        return f"; {ELSEWHERE[name]}"
    meant = CLASSES.get(name) or nearest(name, known)
    return f"; did you mean {meant!r}?" if meant else ""
