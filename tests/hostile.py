"""Hostile calls: what is public, called rightly but for one or two arguments, which are anything at all.

`python tests/hostile.py numpy 8000` runs so many on an engine, `python tests/hostile.py options 10000` options alone.
A call may give a result or one of xcnn's errors, told in bounded length. What falls short, a line a kind: another error
from inside, a call that does not end, a value that no option can have taken in silence (NaN, complex numbers, dates,
objects), an option of another type than its class says, and numbers that are not finite made of numbers that are.
"""

import datetime
import decimal
import fractions
import re
import signal
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

import xcnn
from xcnn import article
from xcnn.data.digits import mnist_like
from xcnn.data.images import read_image
from xcnn.errors import LONGEST, XcnnError
from xcnn.layers import Run

MINE = "one of the caller's own errors"
SECONDS = 120
"""No call here takes a tenth of it, but for those that JAX compiles."""


class Hostile:
    """Fails wherever it is asked for anything."""

    def __repr__(self):
        raise RuntimeError(MINE)

    __str__ = __len__ = __iter__ = __array__ = __float__ = __int__ = __bool__ = __index__ = __call__ = __repr__
    __hash__ = None

    def __eq__(self, other):
        raise RuntimeError(MINE)


class Empty:
    """An object without anything."""


def itself():
    """A list that is within itself."""
    inner = []
    inner.append(inner)
    return inner


NONSENSE = {
    "complex": 1j, "nan": float("nan"), "date": datetime.date(2026, 1, 2), "time": datetime.datetime(2026, 1, 2),
    "object": Empty(), "hostile": Hostile(), "bytes": b"relu", "set": {1, 2}, "decimal": decimal.Decimal("0.5"),
    "fraction": fractions.Fraction(1, 2), "numpy nan": np.float32("nan"), "numpy complex": np.complex64(1j),
    "numpy date": np.datetime64("2026-01-02"), "objects": np.array([None, Empty()], object), "itself": itself(),
    "a class": Empty, "a module": np, "ellipsis": ..., "not implemented": NotImplemented, "a slice": slice(1),
    "dates": np.zeros((4, 1, 6, 6), "datetime64[s]"), "strings": np.full((4, 1, 6, 6), "a"),
    "complex array": np.ones((4, 1, 6, 6), complex), "nan array": np.full((4, 1, 6, 6), np.nan, "float32"),
    "a record": np.zeros((4, 1, 6, 6), [("a", "f4")]), "masked": np.ma.masked_array(np.ones((4, 1, 6, 6)), True),
}  # fmt: skip
"""What no argument of any call here can mean anything by."""
ODD = {
    "none": None, "true": True, "false": False, "zero": 0, "minus one": -1, "one": 1, "two": 2, "nine": 9, "half": 0.5,
    "minus half": -0.5, "huge": 2**40, "larger": 2**63, "beyond": 2**70, "digits": 10**400, "more digits": -(10**5000),
    "inf": float("inf"), "minus inf": float("-inf"), "1e300": 1e300, "tiny": 5e-324, "minus zero": -0.0,
    "empty string": "", "a string": "relu", "same": "same", "long": "a" * 100_000, "escape": "\x1b[31m", "null": "a\0b",
    "surrogate": "\ud800", "empty list": [], "empty tuple": (), "dict": {}, "range": range(3), "one-tuple": (1,),
    "pair": (1, 2), "triple": (1, 2, 3), "minus": (-1, -2), "words": ("a", "b"), "nones": (None, None),
    "ragged": [[1.0], [2.0, 3.0]], "floats": [0.5, 0.5], "nested": [[[[1.0]]]], "bools": (True, False),
    "huge pair": (2**40, 2**40), "numpy int": np.int64(3), "numpy bool": np.bool_(True),
    "numpy string": np.str_("adam"),
    "0-d": np.array(2), "empty array": np.zeros((0,), "float32"), "no samples": np.zeros((0, 1, 6, 6), "float32"),
    "images": np.ones((4, 1, 6, 6), "float32"), "doubles": np.ones((4, 1, 6, 6)),
    "halves": np.ones((4, 1, 6, 6), "float16"),
    "bytes array": np.ones((4, 1, 6, 6), "uint8"), "ints": np.arange(4), "columns": np.arange(4)[:, None],
    "channels last": np.ones((4, 6, 6, 1), "float32"), "no channels": np.ones((4, 0, 6, 6), "float32"),
    "many axes": np.ones((1,) * 12, "float32"), "reversed": np.ones((4, 1, 6, 6), "float32")[::-1, :, ::-1],
    "read only": np.broadcast_to(np.float32(1), (4, 1, 6, 6)), "large": np.full((4, 1, 6, 6), 1e300),
    "inf array": np.full((4, 1, 6, 6), np.inf, "float32"), "swapped": np.ones((4, 1, 6, 6), ">f4"),
    "a plane": np.ones((6, 6)), "strict array": xcnn.backend("strict").asarray(np.ones((4, 1, 6, 6), "float32")),
    "elsewhere": xcnn.backend("strict:device2").asarray(np.ones((4, 1, 6, 6), "float32")),
    "a layer": xcnn.Dense(2), "a net": xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(2)), "a layer's class": xcnn.Dense,
    "an optimizer": xcnn.SGD(0.1), "a schedule": xcnn.schedules.Constant(0.1), "a function": lambda: None,
    "any function": lambda *a, **b: None, "identity": lambda x, *rest: x, "a type": np.float32,
    "a dtype": np.dtype("f4"),
    "a path": Path("nowhere") / "at all", "a backend": xcnn.backend("numpy"), "an error": ValueError("x"),
    "a generator": (n for n in ()), "rng": np.random.default_rng(0),
}  # fmt: skip
"""What some argument somewhere can mean something by."""
HOSTILE = {**NONSENSE, **ODD}
LIKE = {
    "complex alike": lambda x: x + 1j, "dates alike": lambda x: x.astype(int).astype("datetime64[s]"),
    "texts alike": lambda x: x.astype(str), "objects alike": lambda x: np.where(x == x, Empty(), None),
    "nan alike": lambda x: x * np.nan, "records alike": lambda x: np.zeros(x.shape, [("a", "f4")]),
    "ints alike": lambda x: x.astype(int), "bools alike": lambda x: x > 0, "beyond alike": lambda x: x * 1e300,
    "inf alike": lambda x: x + np.inf, "half alike": lambda x: x.astype("float16"), "one more": lambda x: x[..., None],
    "one less": lambda x: x[0], "none of them": lambda x: x[:0], "bytes alike": lambda x: x.astype("uint8"),
    "elsewhere alike": lambda x: xcnn.backend("strict:device2").asarray(x),
    "negative alike": lambda x: -1 - np.abs(x), "a list alike": lambda x: x.tolist(), "swapped alike": lambda x: x.T,
}  # fmt: skip
"""What is made of an array that fits."""
STAYS = {"a list alike", "elsewhere alike"}
"""What no engine brings to itself."""
SENSELESS = {*NONSENSE, "complex alike", "dates alike", "texts alike", "objects alike", "nan alike", "records alike"}


@dataclass
class Target:
    """A call that is right, made anew each time; what of it may be anything."""

    name: str
    call: object
    named: dict
    free: set = field(default_factory=set)
    """Arguments that are the user's own, or that the call is free not to look at."""
    files: set = field(default_factory=set)
    """Arguments that name files: what the operating system says of them comes through."""
    numbers: set = field(default_factory=set)
    """Arguments whose numbers may be NaN: what is computed of them is NaN too."""


QUIET = {"progress": "none"}
X, Y = np.random.default_rng(1).standard_normal((4, 1, 6, 6)).astype("float32"), np.array([0, 1, 1, 0])


def small(engine, loss="cross_entropy", outputs=2):
    net = xcnn.Sequential(xcnn.Conv2D(2, 3), xcnn.ReLU(), xcnn.Flatten(), xcnn.Dense(outputs))
    return xcnn.Model(net, (1, 6, 6), loss=loss, backend=engine)


LAYERS = (
    (xcnn.Conv2D(2, 3), (1, 6, 6)), (xcnn.Conv1D(2, 3), (1, 6)), (xcnn.Conv2DTranspose(2, 3), (1, 6, 6)),
    (xcnn.DepthwiseConv2D(3), (1, 6, 6)), (xcnn.Dense(2), (6,)), (xcnn.BatchNorm(), (1, 6, 6)),
    (xcnn.LayerNorm(), (1, 6, 6)), (xcnn.GroupNorm(1), (1, 6, 6)), (xcnn.MaxPool2D(2), (1, 6, 6)),
    (xcnn.AveragePool2D(2), (1, 6, 6)), (xcnn.GlobalAveragePool2D(), (1, 6, 6)), (xcnn.GlobalMaxPool2D(), (1, 6, 6)),
    (xcnn.Dropout(0.5), (1, 6, 6)), (xcnn.SpatialDropout2D(0.5), (1, 6, 6)), (xcnn.Flatten(), (1, 6, 6)),
    (xcnn.Reshape((6, 6)), (1, 6, 6)), (xcnn.Softmax(), (1, 6, 6)), (xcnn.UpSampling2D(2), (1, 6, 6)),
    (xcnn.ZeroPadding2D(1), (1, 6, 6)), (xcnn.ReLU(), (1, 6, 6)), (xcnn.GELU(), (1, 6, 6)), (xcnn.ELU(), (1, 6, 6)),
    (xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(2)), (1, 6, 6)), (xcnn.Residual(xcnn.ReLU()), (1, 6, 6)),
    (xcnn.Concatenate(xcnn.ReLU(), xcnn.Tanh()), (1, 6, 6)),
)  # fmt: skip
BACKWARDS = (
    *LAYERS,
    (xcnn.Sequential(xcnn.Conv2D(2, 3), xcnn.ReLU(), xcnn.MaxPool2D(2), xcnn.Flatten(), xcnn.Dense(2)), (1, 6, 6)),
    (xcnn.Sequential(xcnn.BatchNorm(), xcnn.ReLU(), xcnn.GlobalAveragePool2D()), (1, 6, 6)),
    (xcnn.Sequential(xcnn.Residual(xcnn.ReLU()), xcnn.ReLU()), (1, 6, 6)), (xcnn.Sequential(), (1, 6, 6)),
)  # fmt: skip
"""Those, and nets whose layers some backends put together."""
OPTIONS = {
    xcnn.Conv2D: {"filters": 2, "kernel_size": 3, "stride": 1, "padding": "same", "dilation": 1, "groups": 1,
                  "bias": True, "kernel_initializer": "he_normal"},
    xcnn.Conv1D: {"filters": 2, "kernel_size": 3, "stride": 1, "padding": "same", "dilation": 1, "groups": 1,
                  "bias": True, "kernel_initializer": "he_normal"},
    xcnn.Conv2DTranspose: {"filters": 2, "kernel_size": 3, "stride": 2},
    xcnn.DepthwiseConv2D: {"kernel_size": 3, "depth_multiplier": 1}, xcnn.Dense: {"units": 2, "bias": True},
    xcnn.BatchNorm: {"momentum": 0.9, "epsilon": 1e-3}, xcnn.GroupNorm: {"groups": 1, "epsilon": 1e-3},
    xcnn.LayerNorm: {"axis": (1, 2), "epsilon": 1e-3}, xcnn.Dropout: {"rate": 0.5},
    xcnn.SpatialDropout2D: {"rate": 0.5}, xcnn.StochasticDepth: {"rate": 0.5},
    xcnn.MaxPool2D: {"size": 2, "stride": 2, "padding": "valid"}, xcnn.AveragePool2D: {"size": 2},
    xcnn.UpSampling2D: {"size": 2, "interpolation": "bilinear"}, xcnn.ZeroPadding2D: {"padding": 1},
    xcnn.Reshape: {"target_shape": (6, 6)}, xcnn.Softmax: {"axis": 1}, xcnn.GELU: {"approximate": True},
    xcnn.ELU: {"alpha": 1.0}, xcnn.LeakyReLU: {"negative_slope": 0.1}, xcnn.SGD: {"learning_rate": 0.1, "momentum": 0.9,
    "nesterov": True, "weight_decay": 0.1, "clip_norm": 1.0}, xcnn.Adam: {"learning_rate": 0.1, "beta1": 0.5},
    xcnn.AdamW: {"learning_rate": 0.1, "weight_decay": 0.1}, xcnn.RMSprop: {"learning_rate": 0.1, "rho": 0.5},
    xcnn.schedules.Constant: {"rate": 0.1}, xcnn.schedules.Step: {"rate": 0.1, "every": 2, "factor": 0.5},
    xcnn.schedules.Exponential: {"rate": 0.1, "every": 2},
    xcnn.schedules.Cosine: {"rate": 0.1, "steps": 9, "final": 0.0},
    xcnn.schedules.WarmUp: {"steps": 2, "then": 0.1}, xcnn.schedules.OneCycle: {"rate": 0.1, "steps": 9, "rise": 0.2},
    xcnn.EarlyStopping: {"monitor": "loss", "patience": 1, "min_delta": 0.1, "restore_best": True, "mode": "min"},
    xcnn.Checkpoint: {"path": "m.xcnn", "monitor": "loss"},
    xcnn.ReLU: {}, xcnn.Flatten: {}, xcnn.GlobalAveragePool2D: {}, xcnn.GlobalMaxPool2D: {}, xcnn.Sigmoid: {},
    xcnn.Tanh: {}, xcnn.SiLU: {}, xcnn.Softplus: {},
}  # fmt: skip


def targets(engine, folder):
    """Every call, as makers: of each one that is right, with fresh objects."""
    backend = xcnn.backend(engine)
    send = backend.asarray
    made = small(engine)
    made.fit(X, Y, epochs=2, **QUIET)
    made.save(folder / "m.xcnn")
    history = made.history

    def layer_call(layer, shape):
        weights, _ = layer.init(np.random.default_rng(0), shape)
        x = send(np.ones((2, *shape), "float32"))
        tree = {name: sent(w) for name, w in weights.items()}
        named = {"weights": tree, "x": x, "run": Run(backend)}
        return Target(f"{type(layer).__name__}()", layer, named, {"run", "weights"}, numbers={"x"})

    def way_back(layer, shape):
        """The backward of a layer as it is, or as the backend has it."""
        named = layer_call(layer, shape).named
        y, backward = backend.rewrite(layer)(*named.values())
        return Target(f"{type(layer).__name__}.backward", backward, {"dy": backend.xp.ones_like(y)}, numbers={"dy"})

    def sent(w):
        return {name: sent(leaf) for name, leaf in w.items()} if isinstance(w, dict) else send(w, "float32")

    for cls, named in OPTIONS.items():
        yield lambda cls=cls, named=named: Target(cls.__name__, cls, dict(named), files={"path"})
    for layer, shape in LAYERS:
        yield lambda layer=layer, shape=shape: Target(
            f"{type(layer).__name__}.init", layer.init, {"rng": np.random.default_rng(0), "input_shape": shape}, {"rng"}
        )
        yield lambda layer=layer, shape=shape: layer_call(layer, shape)
    for layer, shape in BACKWARDS:
        yield lambda layer=layer, shape=shape: way_back(layer, shape)
    for cls in (xcnn.Sequential, xcnn.Residual, xcnn.Concatenate):
        yield lambda cls=cls: Target(cls.__name__, cls, {"one": xcnn.ReLU(), "two": xcnn.Tanh()})
    net = xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(2))
    yield lambda: Target(
        "Model", xcnn.Model,
        {"net": net, "input_shape": (1, 6, 6), "loss": "cross_entropy", "optimizer": "adam", "backend": engine,
         "dtype": "float32", "precision": "float32", "seed": 0},
        {"loss"},
    )  # fmt: skip
    yield lambda: Target(
        "Model.load", xcnn.Model.load, {"path": folder / "m.xcnn", "backend": engine}, {"path"}, {"path"}
    )
    fit = {"x": X, "y": Y, "epochs": 1, "batch_size": 2, "validation_data": (X, Y), "callbacks": [], "progress": "none",
           "shuffle": True, "resume": False}  # fmt: skip
    for loss, outputs, y in (("cross_entropy", 2, Y), ("mse", 1, np.ones((4, 1))), ("binary_cross_entropy", 1, Y)):
        yield lambda loss=loss, outputs=outputs, y=y: Target(
            f"fit {loss}", small(engine, loss, outputs).fit, {**fit, "y": y, "validation_data": (X, y)}, {"callbacks"}
        )
    yield lambda: Target("step", small(engine).step, {"x": X, "y": Y})
    yield lambda: Target("evaluate", made.evaluate, {"x": X, "y": Y, "batch_size": 2})
    yield lambda: Target("predict", made.predict, {"x": X, "batch_size": 2})
    yield lambda: Target("probabilities", made.probabilities, {"x": X, "batch_size": 2})
    yield lambda: Target("summary", made.summary, {"batch_size": 2})
    yield lambda: Target("save", made.save, {"path": folder / "n.xcnn"}, {"path"}, {"path"})
    made.save_weights(folder / "w.safetensors")
    state = made.state_dict()
    for what, source in (("file", folder / "w.safetensors"), ("dict", state)):
        named = {"source": source, "rename": {}, "strict": True, "without": (), "key": None}
        yield lambda what=what, named=named: Target(
            f"load_weights of a {what}", small(engine).load_weights, named, {"source"}, {"source"}
        )
    yield lambda: Target("save_weights", made.save_weights, {"path": folder / "v.safetensors"}, {"path"}, {"path"})
    keras = {
        "path": folder / "net.keras",
        "input_shape": (1, 6, 6),
        "loss": None,
        "optimizer": "adam",
        "backend": engine,
    }
    yield lambda: Target("load_keras", xcnn.load_keras, keras, {"path", "loss"}, {"path"})
    yield lambda: Target("to", small(engine).to, {"backend": engine})
    for name, value in (("optimizer", "sgd"), ("loss", "mse"), ("precision", "float32"), ("learning_rate", 0.1)):
        yield lambda name=name, value=value: Target(
            f"model.{name} =",
            lambda value: setattr(small(engine), name, value),
            {"value": value},
            {"value"} if name == "loss" else set(),
        )
    yield lambda: Target("history[]", history.__getitem__, {"column": "loss"})
    yield lambda: Target("history.to_json", history.to_json, {"path": folder / "h.json"}, {"path"}, {"path"})
    for name, loss in xcnn.losses.LOSSES.items():
        y = send(np.full((4, 2), 0.25, "float32"))
        yield lambda name=name, loss=loss, y=y: Target(
            name, loss, {"y": y, "t": send(np.eye(2, dtype="float32")[Y])}, numbers={"y", "t"}
        )
    for name, initialize in xcnn.initializers.INITIALIZERS.items():
        yield lambda name=name, initialize=initialize: Target(
            f"initializers.{name}", initialize,
            {"rng": np.random.default_rng(0), "shape": (2, 3), "fan_in": 2, "fan_out": 3}, {"rng", "fan_in", "fan_out"},
        )  # fmt: skip
    for name in ("article", "lenet", "mnist_net", "small_resnet", "resnet18", "unet", "vgg11_bn"):
        yield lambda name=name: Target(f"nets.{name}", getattr(xcnn.nets, name), {"classes": 2})
    for function in (xcnn.correlate2d, xcnn.convolve2d):
        yield lambda function=function: Target(
            function.__name__,
            function,
            {"x": send(np.ones((6, 6))), "k": send(np.ones((3, 3))), "mode": "same"},
            numbers={"x", "k"},
        )
    yield lambda: Target("rot180", xcnn.rot180, {"k": send(np.ones((3, 3)))}, {"k"})
    yield lambda: Target("backend", xcnn.backend, {"name": engine})
    yield lambda: Target("backend_of", xcnn.backend_of, {"x": send(np.ones(3))}, {"x"})
    yield lambda: Target("asarray", backend.asarray, {"x": [1.0], "dtype": "float32"}, {"x", "dtype"})
    yield lambda: Target(
        "explain", xcnn.explain_algorithm, {"layer": xcnn.Conv2D(2, 3), "shape": X.shape, "backend": engine}
    )
    yield lambda: Target("compare", xcnn.compare, {"model": made, "x": X, "y": Y, "backends": [engine]})
    yield lambda: Target("check_layer", partial(xcnn.testing.check_layer, backend=backend),
                         {"layer": xcnn.ReLU(), "input_shape": (2,), "batch": 2, "seed": 0, "train": True})  # fmt: skip
    yield lambda: Target("load_idx", xcnn.datasets.load_idx, {"path": "none", "max_bytes": 9}, set(), {"path"})
    yield lambda: Target("image_folder", xcnn.datasets.image_folder,
                         {"path": folder, "size": (6, 6), "mode": "L", "test_fraction": 0.2, "seed": 0},
                         set(), {"path"})  # fmt: skip
    yield lambda: Target("read_image", read_image, {"path": "none.png", "size": (6, 6), "mode": "L"}, set(), {"path"})
    yield lambda: Target("mnist_like", mnist_like, {"image": np.eye(9)}, set(), {"image"})
    for schedule in (xcnn.schedules.Cosine(0.1, 9), xcnn.schedules.Step(0.1, 2), xcnn.schedules.OneCycle(0.1, 9)):
        yield lambda schedule=schedule: Target(f"{type(schedule).__name__}()", schedule, {"step": 3})
    yield from article_targets(send)


def article_targets(send):
    """The article's own classes."""
    column = np.ones((3, 1))
    yield lambda: Target("article.Dense", article.Dense, {"input_size": 3, "output_size": 2, "rng": 0}, {"rng"})
    yield lambda: Target("article.Convolutional", article.Convolutional,
                         {"input_shape": (1, 6, 6), "kernel_size": 3, "depth": 2, "rng": 0}, {"rng"})  # fmt: skip
    yield lambda: Target("article.Reshape", article.Reshape, {"input_shape": (3, 1), "output_shape": (1, 3)})
    yield lambda: Target(
        "article.Activation",
        article.Activation,
        {"activation": abs, "activation_prime": abs},
        {"activation", "activation_prime"},
    )
    for make, x in (
        (lambda: article.Dense(3, 2), column), (lambda: article.Convolutional((1, 6, 6), 3, 2), X[0].astype("float64")),
        (lambda: article.Reshape((3, 1), (1, 3)), column), (article.Tanh, column), (article.Sigmoid, column),
    ):  # fmt: skip
        name = type(make()).__name__
        yield lambda make=make, x=x, name=name: Target(
            f"article.{name}.forward", make().forward, {"input": send(x)}, numbers={"input"}
        )

        def way_back(make=make, x=x, name=name):
            layer = make()
            dy = layer.forward(send(x))
            return Target(
                f"article.{name}.backward",
                layer.backward,
                {"output_gradient": dy, "learning_rate": 0.1},
                numbers={"output_gradient"},
            )

        yield way_back
    for name in ("mse", "mse_prime", "binary_cross_entropy", "binary_cross_entropy_prime"):
        yield lambda name=name: Target(
            f"article.{name}",
            getattr(article, name),
            {"y_true": send(column * 0.5), "y_pred": send(column * 0.25)},
            numbers={"y_true", "y_pred"},
        )
    network = [article.Dense(3, 2), article.Tanh()]
    yield lambda: Target("article.predict", article.predict, {"network": network, "input": column}, numbers={"input"})
    yield lambda: Target(
        "article.train", article.train,
        {"network": network, "loss": article.mse, "loss_prime": article.mse_prime, "x_train": [column],
         "y_train": [np.ones((2, 1))], "epochs": 1, "learning_rate": 0.1, "verbose": False}, {"loss", "loss_prime"},
    )  # fmt: skip


ENDLESS = {"epochs"}
"""Arguments that may be as large as one likes, and then take as long."""


def draw(rng, target, backend):
    """The call with one or two arguments spoilt: the arguments by name, what is spoilt, and how."""
    named, spoilt = dict(target.named), {}
    names = list(named)
    if not names or rng.random() < 0.05:
        return {**named, str(rng.choice(["lr", "colour", "a" * 9999])): 1}, {"?": "unknown"}
    if rng.random() < 0.05:
        gone = str(rng.choice(names))
        del named[gone]
        return named, {gone: "left out"}
    for name in rng.choice(names, min(len(names), 1 if rng.random() < 0.8 else 2), replace=False):
        name, value = str(name), named[str(name)]
        if hasattr(value, "shape") and rng.random() < 0.4:
            kind = str(rng.choice([*LIKE]))
            host = backend.to_numpy(value) if not isinstance(value, np.ndarray) else value
            made = LIKE[kind](host)
            with suppress(Exception):  # what the engine has no type for stays on the host
                made = made if host is value or kind in STAYS else backend.asarray(made)
            named[name], spoilt[name] = made, kind
            continue
        kind = str(rng.choice([*HOSTILE]))
        if name in ENDLESS and isinstance(HOSTILE[kind], int) and HOSTILE[kind] > 9:
            continue
        named[name], spoilt[name] = HOSTILE[kind], kind
    return named, spoilt


def misfit(error):
    """Whether Python itself says that the call does not fit, by the names in it."""
    words = r"required (positional|keyword-only) argument|positional arguments? but|unexpected keyword|multiple values"
    return isinstance(error, TypeError) and re.search(words, str(error))


def finite(result):
    """Whether no number of a result is NaN or infinite, as far as it is looked at."""
    if isinstance(result, dict | list | tuple):
        return all(map(finite, result.values() if isinstance(result, dict) else result))
    if isinstance(result, np.ndarray) and result.dtype.kind == "f":
        return bool(np.isfinite(result).all())
    return not isinstance(result, float) or np.isfinite(result)


INFINITE = {
    "inf alike",
    "beyond alike",
    "inf",
    "minus inf",
    "inf array",
    "1e300",
    "large",
    "tiny",
    "digits",
    "more digits",
}


def judge(target, named, spoilt):
    """What of this call falls short, "" if nothing does."""
    try:
        result = target.call(**named)
    except XcnnError as error:
        text = str(error)
        longest = max(map(len, text.split("\n")))
        if longest > LONGEST + 40 or not error.code or len(repr(error)) > 20 * LONGEST:
            return f"a line of {longest} characters"
        return ""
    except TimeoutError:
        raise
    except Exception as error:
        own = MINE in str(error) or (target.free & {*spoilt})
        of_files = (isinstance(error, OSError) and target.files & {*spoilt}) or isinstance(error, FileNotFoundError)
        if misfit(error) or own or (of_files and target.files):
            return ""
        frames = [
            f for f in traceback.extract_tb(error.__traceback__) if "xcnn" in f.filename and "hostile" not in f.filename
        ]
        place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "the call"
        return f"{type(error).__name__} at {place}: {' '.join(str(error).split())[:90]}"
    taken = {
        name: kind
        for name, kind in spoilt.items()
        if kind in SENSELESS and name not in target.free and not ("nan" in kind and name in target.numbers)
    }
    if taken:
        return f"took {taken}"
    if not finite(result) and not INFINITE & {*spoilt.values()} and not (target.free | target.numbers) & {*spoilt}:
        return "gave numbers that are not finite"
    if target.call in OPTIONS:
        strange = [name for name in spoilt if not fits(annotations(target.call).get(name, Any), named.get(name))]
        if strange and "left out" not in spoilt.values():
            return f"took {strange[0]} of another type than is said of it: {spoilt[strange[0]]}"
        return used(result)
    return ""


@cache
def annotations(cls):
    """What a class says of its options, as Python's own typing reads it."""
    return get_type_hints(cls, localns={"np": np})


def fits(hint, value):
    """Whether a value is of this type, NumPy's numbers being Python's, whole ones real, and lists tuples."""
    value = value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else value
    origin, parts = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, UnionType):
        return any(fits(part, value) for part in parts)
    if origin is tuple:
        each = [parts[0]] * len(value) if isinstance(value, tuple | list) and parts[1:] == (...,) else parts
        return isinstance(value, tuple | list) and len(value) == len(each) and all(map(fits, each, value))
    if origin is Callable or hint is Callable:
        return callable(value)
    if origin is Literal:
        return isinstance(value, str | int) and value in parts
    if isinstance(value, bool):
        return hint is bool
    if origin is not None:  # of what is within nothing is asked
        return isinstance(value, origin)
    return isinstance(value, int | float if hint is float else hint)


def used(thing):
    """What falls short where these options are used: a layer draws its weights, a schedule gives its rates."""
    try:
        if isinstance(thing, xcnn.schedules.Schedule):
            rates = [float(thing(step)) for step in (0, 1, 5, 10**6)]
            right = rates[0] < np.inf and all(rate >= 0 for rate in rates)  # one that grows may be infinite at last
            return "" if right else f"gives rates {rates}"
        if isinstance(thing, xcnn.Layer):
            for shape in ((1, 6, 6), (1, 6), (6,)):
                with suppress(XcnnError):
                    thing.init(np.random.default_rng(0), shape)
            return ""
        if isinstance(thing, xcnn.optimizers.Optimizer):
            w = {"w": np.ones(3, "float32")}
            thing.update(w, thing.init(w), w)
        return "" if hash(thing) is not None else "has no hash"
    except (XcnnError, MemoryError):
        return ""
    except TypeError as error:
        return "" if "EarlyStopping" in str(error) or "Checkpoint" in str(error) else f"{error} in use"
    except Exception as error:
        return f"{type(error).__name__} in use: {error}"[:150]


def run(engine, count, seed=0, options=False):
    """So many calls on an engine, or of `options` alone; of each way to fall short how often, and an example."""
    rng, found, examples = np.random.default_rng(seed), Counter(), {}

    def late(*_):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    default = xcnn.get_backend()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            xcnn.set_backend(engine)
            makers = list(targets(engine, Path(folder)))[: len(OPTIONS) if options else None]
            for n in range(count):
                target = makers[n % len(makers)]()
                named, spoilt = draw(rng, target, xcnn.get_backend())
                try:
                    signal.alarm(SECONDS)
                    short = judge(target, named, spoilt)
                except TimeoutError:
                    short = "does not end"
                finally:
                    signal.alarm(0)
                if short:
                    found[f"{target.name}: {short}"] += 1
                    examples.setdefault(f"{target.name}: {short}", spoilt)
        finally:
            signal.signal(signal.SIGALRM, before)
            xcnn.set_backend(default)
    return found, examples


if __name__ == "__main__":
    import os
    import resource

    resource.setrlimit(resource.RLIMIT_DATA, (6 << 30, 6 << 30))  # what is too large fails at once
    os.chdir(tempfile.mkdtemp())
    name, count, *seed = sys.argv[1:]
    fallen, cases = run("numpy" if name == "options" else name, int(count), *map(int, seed), options=name == "options")
    for what, times in fallen.most_common():
        print(f"{times:4}  {what}   by {cases[what]}")
    print(f"{sys.argv[1]}: {sys.argv[2]} calls, {sum(fallen.values())} fall short, in {len(fallen)} ways")
    sys.exit(bool(fallen))
