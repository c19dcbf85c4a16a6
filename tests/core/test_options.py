"""Options are of the kind that their class says, or refused by name; habits of other frameworks are told."""

import inspect
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
import pytest

import xcnn
from xcnn import Conv2D, Dense, EarlyStopping, Model, ReLU, layers, optimizers, schedules
from xcnn.core.options import checked, kinds_of
from xcnn.errors import ArgumentError, OptionError

CLASSES = [
    thing
    for home in (layers, optimizers, schedules, xcnn)
    for name in home.__all__
    if isinstance(thing := getattr(home, name), type) and hasattr(thing, "__dataclass_fields__")
]
NEEDED = {
    "filters": 2, "kernel_size": 3, "units": 2, "rate": 0.5, "groups": 1, "target_shape": (2,), "every": 2, "steps": 3,
    "then": 0.1, "path": "m.xcnn", "folder": "runs", "pattern": "bias", "factor": 0.5, "optimizer": xcnn.SGD(),
}  # fmt: skip
OF_CLASS = {"Groups": {"groups": (xcnn.optimizers.Group("bias"),)}}
"""Those that a class takes otherwise than others."""
VALUES = {
    bool: True,
    int: 3,
    float: 0.25,
    str: "sideways",
    type(None): None,
    tuple: (1, 1),
    list: [1],
    dict: {},
    complex: 1j,
}


def options(cls):
    """The fields of a class that its call takes, with values for those that need one."""
    taken = list(inspect.signature(cls.__init__).parameters.values())[1:]
    if any(p.kind is p.VAR_POSITIONAL for p in taken) or cls.__name__ in ("Run", "Next", "Backend", "History", "Graph"):
        return {}, []
    values = {**NEEDED, **OF_CLASS.get(cls.__name__, {})}
    return {p.name: values[p.name] for p in taken if p.default is p.empty and p.name in values}, [p.name for p in taken]


CHECKED = [cls for cls in dict.fromkeys(CLASSES) if options(cls)[1] and kinds_of(cls) and cls.__name__ != "Given"]


def test_there_are_classes_to_check():
    assert {"Conv2D", "Dense", "BatchNorm", "SGD", "AdamW", "Cosine", "EarlyStopping"} <= {c.__name__ for c in CHECKED}


@pytest.mark.parametrize("cls", CHECKED)
@pytest.mark.parametrize("kind", VALUES)
def test_each_option_by_each_kind(cls, kind):
    """A value of a kind that the annotation does not name is refused by the option's name; none is taken in silence."""
    needed, names = options(cls)
    told = kinds_of(cls)
    for name in names:
        named = {*told[name]} & {bool, int, float, str, type(None), tuple}
        if not named or (object in told[name] and kind not in (bool, int, float, str, type(None))):
            continue
        fits = kind in named or (kind is int and float in named) or (kind is list and tuple in named)
        if not fits:
            with pytest.raises(OptionError, match=rf"X104.*\b{name}\b"):
                cls(**{**needed, name: VALUES[kind]})


@pytest.mark.parametrize("cls", CHECKED)
def test_names_that_are_not_there(cls):
    needed, names = options(cls)
    with pytest.raises(ArgumentError, match="has no option 'colour'"):
        cls(**needed, colour="red")
    with pytest.raises(TypeError):  # as Python has it
        cls(**needed, colour="red")
    for name in names:
        with pytest.raises(ArgumentError, match=rf"has no option '{name}s'.*\n.*(did you mean|take|put|give|leave)"):
            cls(**{**needed, f"{name}s": 1})


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Dense(8, "relu"), r"takes units by position.*\n.*xcnn.ReLU\(\) behind it"),
        (lambda: Dense(10, 5), r"takes units by position.*\n.*follows from the input"),
        (lambda: Conv2D(3, 16, 3), r"takes filters and kernel_size by position.*\n.*follows from the input"),
        (lambda: Conv2D(8, 3, strides=2), r"has no option 'strides'.*\n.*'stride'"),
        (lambda: Conv2D(8, 3, use_bias=False), r"\n.*'bias'"),
        (lambda: Dense(out_features=3), r"\n.*'units'"),
        (lambda: Dense(8, activation="relu"), r"\n.*xcnn.ReLU\(\)"),
        (lambda: xcnn.GELU("none"), "takes its options by name"),
        (lambda: xcnn.GroupNorm(2, 8), "takes groups by position"),
        (lambda: xcnn.BatchNorm(32), r"takes its options by name.*\n.*follows from the input"),
        (lambda: xcnn.BatchNorm(eps=1e-5), r"\n.*'epsilon'"),
        (lambda: xcnn.SGD(lr=0.1), r"\n.*'learning_rate'"),
        (lambda: xcnn.RMSprop(rho=True), "rho must be a number; got True"),
        (lambda: xcnn.Dropout(p=0.5), r"\n.*'rate'"),
        (lambda: EarlyStopping(restore_best="no"), "restore_best must be True or False"),
        (lambda: xcnn.Residual(), "Residual has no layers of its own"),
        (lambda: Dense(), "Dense needs units"),
        (lambda: Dense(3, units=4), "got 'units' twice"),
        (lambda: Model(Dense(2), (3,), metrics=["accuracy"]), r"there is no metric 'accuracy'"),
        (lambda: Model(Dense(2), (3,), device="cuda"), r"\n.*backend="),
        (
            lambda: Model(Dense(2), (3,)).fit([[0.0] * 3], [0], verbose=1),
            r"option 'verbose'.*\n.*'progress'",
        ),
    ],
)
def test_habits_of_other_frameworks(make, told):
    with pytest.raises(OptionError, match=rf"(?s)X104.*{told}"):
        make()


def test_numpys_numbers_and_lists_become_pythons():
    layer = Conv2D(np.int64(4), [np.int32(3), 2], stride=[1, 2])
    assert layer == Conv2D(4, (3, 2), stride=(1, 2))
    assert hash(layer) == hash(Conv2D(4, (3, 2), stride=(1, 2)))
    assert {type(getattr(xcnn.SGD(np.float32(0.5)), f.name)) for f in fields(xcnn.SGD)} <= {float, bool, type(None)}


def test_a_class_derived_from_one_has_its_options():
    class Wide(Dense):
        pass

    assert Wide(3).units == 3
    with pytest.raises(OptionError, match="Wide: units must be a whole number"):
        Wide("3")


def test_a_dataclass_derived_from_one_is_held_to_its_options_and_its_own():
    @dataclass(frozen=True)
    class Scaled(Dense):
        scale: float = 1.0
        unit: Literal["px", 1] = "px"
        tag: object = None
        note: str = None  # a default is the class's own affair

    layer = Scaled(np.int64(3), scale=np.float32(0.5), tag=7)
    assert (type(layer.units), type(layer.scale), layer.tag, layer.note) == (int, float, 7, None)
    assert hash(layer) == hash(Scaled(3, scale=0.5, tag=7))
    for wrong in ({"bias": "relu"}, {"scale": "big"}, {"scale": True}, {"unit": None}, {"note": 3}):
        with pytest.raises(OptionError, match=rf"X104.*Scaled: {next(iter(wrong))} must be"):
            Scaled(3, **wrong)

    @dataclass(frozen=True)
    class Rectified(ReLU):  # ReLU has no options, and no __post_init__ of its own
        at: int = 0

    assert type(Rectified(np.int32(2)).at) is int
    with pytest.raises(OptionError, match="Rectified: at must be a whole number"):
        Rectified("zero")


def test_what_a_call_raises_itself_stays():
    @checked
    class Odd:
        def __init__(self, size: int = 1):
            raise TypeError("not today")

    with pytest.raises(TypeError, match="not today"):
        Odd(2)


@pytest.mark.parametrize(
    ("name", "told"),
    [("BatchNormalization", "BatchNorm"), ("Linear", "Dense"), ("Sequental", "Sequential"), ("Activation", "ReLU")],
)
def test_names_of_other_frameworks(name, told):
    with pytest.raises(AttributeError, match=told):
        getattr(xcnn, name)
    with pytest.raises(AttributeError, match=r"no attribute 'zzz'$"):
        xcnn.zzz  # noqa: B018
