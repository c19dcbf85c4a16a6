"""A hint, followed, removes the error, or leads to the next true one.

`follow` does what a hint says, as a reader would: it puts the expression, option or name into the call and calls again.
All hints in the source are read too: what they name is there.
"""

import ast
import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

import xcnn
from xcnn.backends import backend_names
from xcnn.core.names import HABITS, meant
from xcnn.core.options import CLASSES, OTHERS, kinds_of
from xcnn.errors import LONGEST, ArgumentError, OptionError, XcnnError, short

ROOT = Path(xcnn.__file__).parents[1]
CODE = r'(?:"[^"]*"|\([^()]*\)|\[[^\[\]]*\]|-?[\d.]+\b)'


def follow(hint, given):
    """The variables of the call, changed as the hint says; the first thing that it proposes counts."""
    given = dict(given)
    if found := re.search(r"did you mean (?:model\.)?['\"]?([\w:.-]+[\w])", hint):
        return {**given, "name": found[1]}
    if found := re.search(r"let the last layer have (\d+) output", hint):
        return {**given, "outputs": int(found[1])}
    if found := re.search(r"\b([xy]) = ([^;]+?)(?: \(|; |\.$|$)", hint):
        return {**given, found[1]: eval(found[2], {"numpy": np}, given)}
    if found := re.search(rf"\b(x|y)((?:\.\w+{CODE}|\[[^\]]*\])+)", hint):
        return {**given, found[1]: eval(found[1] + found[2], {"numpy": np}, given)}
    if "weights stay float32" in hint:
        given["dtype"] = "float32"
    if found := re.search(rf"\b(\w+)=({CODE})", hint):
        return {**given, found[1]: ast.literal_eval(found[2])}
    if found := re.search(r"put (?:a )?(\w+\(.*?\)\)?)(?: or \w+\(\))? before it", hint):
        return {**given, "before": (eval(found[1], vars(xcnn)),)}
    raise AssertionError(f"nobody can follow {hint!r}")


def net(outputs=2, before=(), kernel=3):
    return xcnn.Sequential(*before, xcnn.Conv2D(2, kernel), xcnn.ReLU(), xcnn.Flatten(), xcnn.Dense(outputs))


def build(input_shape=(1, 8, 8), name=None, kind="loss", outputs=2, loss="cross_entropy", dtype="float32", seed=0,
          precision=None, before=(), **named):  # fmt: skip
    options = {"loss": loss, "dtype": dtype, "precision": precision, "backend": "numpy", "seed": seed, **named}
    return xcnn.Model(net(outputs, before), input_shape, **({**options, kind: name} if name else options))


def predict(x, **options):
    return build(**options).predict(x)


def fit(x=None, y=None, **options):
    x = np.ones((4, 1, 8, 8), "float32") if x is None else x
    return build(**options).fit(x, y, progress="none")


def flat(input_shape, before=()):
    return xcnn.Model(xcnn.Sequential(*before, xcnn.Dense(2)), input_shape, backend="numpy")


def stop(monitor="val_f1", mode=None):
    def measure(model, history):
        history.rows[-1]["val_f1"] = 0.5

    model, x, y = build(), np.ones((4, 1, 8, 8), "float32"), np.array([0, 1, 0, 1])
    return model.fit(x, y, callbacks=[measure, xcnn.EarlyStopping(monitor, mode=mode)], progress="none")


IMAGES = np.ones((4, 1, 8, 8), "float32")
TWO = np.array([0, 1, 1, 0])
MENDED = {
    "bytes": (predict, {"x": IMAGES.astype("uint8")}),
    "whole numbers": (predict, {"x": IMAGES.astype(int)}),
    "bools": (predict, {"x": IMAGES > 0}),
    "objects": (predict, {"x": IMAGES.astype(object)}),
    "channels last": (predict, {"x": IMAGES.reshape(4, 8, 8, 1)}),
    "no channels": (predict, {"x": IMAGES[:, 0]}),
    "one image": (predict, {"x": IMAGES[0]}),
    "rows": (predict, {"x": IMAGES.reshape(4, 64)}),
    "in colour, of that size": (predict, {"x": np.ones((4, 3, 8, 8), "float32")}),
    "in colour": (predict, {"x": np.ones((4, 3, 9, 9), "float32")}),
    "too large for float32": (predict, {"x": IMAGES.astype("float64") * 1e300}),
    "build channels last": (build, {"input_shape": (8, 8, 1)}),
    "build without channels": (build, {"input_shape": (8, 8)}),
    "build of rows": (build, {"input_shape": (64,)}),
    "dense on images": (flat, {"input_shape": (1, 8, 8)}),
    "dense on nothing": (flat, {"input_shape": ()}),
    "column of labels": (fit, {"y": TWO[:, None]}),
    "a column for one output": (fit, {"y": TWO, "outputs": 1, "loss": "mse"}),
    "one target for two outputs": (fit, {"y": np.ones((4, 1)), "loss": "mse"}),
    "one-hot of three": (fit, {"y": np.eye(3)[TWO]}),
    "labels from 1": (fit, {"y": TWO + 1}),
    "rows with the sum 2": (fit, {"y": np.ones((4, 2))}),
    "half as the weights' type": (build, {"dtype": "half", "backend": "torch"}),
    "a mixed policy": (build, {"dtype": "mixed_bfloat16", "backend": "torch"}),
    "a policy and its type": (build, {"precision": "float64"}),
    "a half type of NumPy's": (build, {"dtype": np.dtype("float16"), "backend": "torch"}),
    "a loss of Keras": (build, {"name": "sparse_categorical_crossentropy"}),
    "a loss of PyTorch": (build, {"name": "CrossEntropyLoss"}),
    "an optimizer": (build, {"name": "adamx", "kind": "optimizer"}),
    "a seed that is too long": (build, {"seed": 2**64 + 7}),
    "a column with no direction": (stop, {}),
}  # fmt: skip


def outcome(work, given):
    """The error that a call raises; None if it raises none."""
    try:
        work(**given)
    except XcnnError as error:
        return error
    return None


@pytest.mark.parametrize("case", MENDED)
def test_a_hint_that_is_followed_removes_the_error(case):
    """Or leads to another, whose hint removes it."""
    work, given = MENDED[case]
    if given.get("backend") == "torch":
        pytest.importorskip("torch", reason="PyTorch is not installed")
    error, told = outcome(work, given), []
    assert error is not None
    while error is not None:
        assert error.summary not in told
        told.append(error.summary)
        given = follow(error.hint, given)
        error = outcome(work, given)


def test_the_hint_leads_to_the_next_true_error():
    """There may be no such device here, and it is said then."""
    for name in ("gpu", "cuda", "CUDA:0", "numpy:cuda", "torch:gpu"):
        there = follow(outcome(xcnn.backend, {"name": name}).hint, {})["name"]
        error = outcome(xcnn.backend, {"name": there})
        assert error is None or (error.code == "X302" and f'"{there}" was asked for' in str(error))


@pytest.mark.parametrize("name", ["tensorflow", "keras", ""])
def test_no_guess_where_there_is_none(name):
    """No library of that name has arrays; where it is installed, importing it can fail of its own accord."""
    with pytest.raises(XcnnError, match=r"X30[23]") as told:
        xcnn.backend(name)
    assert "did you mean" not in told.value.hint


CHECKED = [
    cls
    for home in (xcnn.layers, xcnn.optimizers, xcnn)
    for name in home.__all__
    if isinstance(cls := getattr(home, name), type) and hasattr(cls, "__dataclass_fields__") and kinds_of(cls)
    if cls.__name__ not in ("Next", "Run", "Backend", "History")  # which nobody writes options of
]
VALUES = {"filters": 2, "kernel_size": 3, "units": 2, "rate": 0.5, "groups": 1, "target_shape": (2,), "path": "m.xcnn"}


@pytest.mark.parametrize("cls", dict.fromkeys(CHECKED))
def test_the_names_that_others_have_for_options(cls):
    """Each habit whose name here is an option of the class leads to it; the others do not lead to what is not there."""
    known = [f.name for f in fields(cls) if f.init]
    needed = {name: VALUES[name] for name in known if name in VALUES}
    for habit in OTHERS:
        if habit in known:
            continue
        with pytest.raises(XcnnError) as told:
            cls(**needed, **{habit: 1})
        if not isinstance(told.value, ArgumentError):
            continue  # a class that takes layers by any name
        if proposed := re.search(r"did you mean '(\w+)'", told.value.hint):
            assert proposed[1] in known
        if OTHERS[habit] in known:
            assert proposed[1] == OTHERS[habit]


def test_names_of_classes_lead_to_classes():
    for name, here in CLASSES.items():
        with pytest.raises(AttributeError, match=re.escape(f"did you mean {here!r}")):
            getattr(xcnn, name)
        assert hasattr(xcnn, here)
        if hasattr(xcnn.layers, here):
            with pytest.raises(AttributeError, match=re.escape(f"did you mean {here!r}")):
                getattr(xcnn.layers, name)


KNOWN = {
    "loss": lambda: xcnn.losses.LOSSES,
    "optimizer": lambda: xcnn.optimizers.OPTIMIZERS,
    "initializer": lambda: xcnn.initializers.INITIALIZERS,
    "metric": lambda: (*xcnn.metrics.METRICS, "top5"),
    "backend": backend_names,
}


@pytest.mark.parametrize("kind", KNOWN)
def test_habits_lead_to_what_there_is(kind):
    known = KNOWN[kind]()
    for habit, here in HABITS[kind].items():
        assert meant(kind, habit, known) == here
        assert here.partition(":")[0] in known
    for name in known:
        assert meant(kind, name.upper(), known) == name
        assert meant(kind, name.replace("_", "-"), known) == name


# Of weights and layers.


def test_a_weight_that_is_wrong_is_not_blamed_on_x():
    model = build()
    odd = {**model.weights, "dense1": {**model.weights["dense1"], "kernel": np.zeros((72, 2))}}
    with pytest.raises(
        XcnnError, match=r"'dense1' has a kernel of float64 but x is float32.*\n.*convert its weights to"
    ):
        model.net(odd, IMAGES, xcnn.Run(model.backend))
    odd["dense1"]["kernel"] = np.zeros((9, 2), "float32")
    with pytest.raises(XcnnError, match=r"(?s)'dense1' expects 9 .*72.*build the model with the input_shape of x"):
        model.net(odd, IMAGES, xcnn.Run(model.backend))


def test_only_a_first_layer_speaks_of_the_input():
    """98 features reach the layer; no sample has that shape."""
    model = build()
    with pytest.raises(XcnnError) as inner:
        model.net(model.weights, np.ones((2, 1, 9, 9), "float32"), xcnn.Run(model.backend))
    assert "input_shape=(98,)" not in inner.value.hint
    with pytest.raises(XcnnError) as first:
        model.net(model.weights, np.ones((2, 3, 8, 8), "float32"), xcnn.Run(model.backend))
    assert "input_shape=(3, 8, 8)" in first.value.hint


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (IMAGES[:, :, 1:], TWO, "got validation x (4, 1, 7, 8)"),
        (IMAGES * np.nan, TWO, "validation x holds NaN"),
        (IMAGES.astype(int), TWO, "validation x is int64"),
        (IMAGES, TWO + 1, "validation labels must be"),
        (IMAGES, TWO[:3], "validation x has 4 samples"),
        (IMAGES, TWO[:, None], "the validation targets do not fit"),
        (IMAGES, np.ones((4, 2)), "rows of validation targets"),
        (IMAGES, np.full((4, 2), np.nan), "validation y must hold finite"),
    ],
    ids=str,
)
def test_validation_data_are_told_as_such_before_the_first_step(x, y, words):
    model = build()
    with pytest.raises(XcnnError, match=re.escape(words)) as told:
        model.fit(IMAGES, TWO, validation_data=(x, y), progress="none")
    assert model.state.step == 0
    assert "build the model" not in told.value.hint


@pytest.mark.parametrize("kind", ["complex64", "U5", "S5", "datetime64[s]", "timedelta64[s]"])
def test_no_conversion_is_advised_that_makes_no_sense(kind):
    with pytest.raises(XcnnError, match="X103") as told:
        predict(x=IMAGES.astype(int).astype(kind))
    assert "astype" not in told.value.hint


@pytest.mark.parametrize("kind", ["complex64", "U5", "datetime64[s]", "O"])
@pytest.mark.parametrize("name", xcnn.losses.LOSSES)
def test_targets_of_no_real_numbers_are_refused_by_each_loss(name, kind):
    with pytest.raises(XcnnError, match="X103"):
        xcnn.losses.LOSSES[name](np.full((4, 2), 0.5), np.zeros((4, 2), int).astype(kind))


OWN = {
    "a loss of a value": ({"loss": lambda y, t: y[0, 0]}, "the loss must give a pair"),
    "a loss of nothing": ({"loss": lambda y, t: None}, "the loss must give a pair"),
    "a loss of vectors": ({"loss": lambda y, t: (y, y)}, "the loss must give a pair"),
    "a gradient of another shape": ({"loss": lambda y, t: (y[0, 0], y[:1, ...])}, "the loss must give a pair"),
    "a loss of one": ({"loss": lambda y: y}, "losses are called with"),
    "a class for a loss": ({"loss": dict}, "dict is a class"),
}


def test_losses_of_ones_own_that_give_the_wrong_thing_on_each_backend(backend):
    options, words = OWN["a gradient of another shape"]
    with pytest.raises(OptionError, match=words):
        xcnn.Model(net(), (1, 8, 8), backend=backend, **options).fit(IMAGES, np.eye(2)[TWO], progress="none")


@pytest.mark.parametrize("case", OWN)
def test_losses_of_ones_own_that_give_the_wrong_thing(case):
    options, words = OWN[case]
    backend = "numpy"
    with pytest.raises(OptionError, match=words):
        xcnn.Model(net(), (1, 8, 8), backend=backend, **options).fit(IMAGES, np.eye(2)[TWO], progress="none")
    with pytest.raises(OptionError, match=words):
        xcnn.Model(net(), (1, 8, 8), backend=backend, **options).evaluate(IMAGES, np.eye(2)[TWO])


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng, shape, a, b: None,
        lambda rng, shape, a, b: 0.5,
        lambda rng, shape, a, b: np.ones(shape[::-1]),
        lambda rng, shape, a, b: np.full(shape, "a"),
        lambda rng, shape, a, b: np.full(shape, np.nan),
        lambda rng, shape, a, b: np.ones(shape) * 1j,
        lambda rng, shape: np.ones(shape),
        np.ndarray,
    ],
)
def test_initializers_of_ones_own_that_give_the_wrong_thing(draw):
    with pytest.raises(OptionError, match=r"X104.*initializer"):
        xcnn.Model(xcnn.Dense(2, kernel_initializer=draw), (3,), backend="numpy")


def test_progress_of_ones_own_needs_all_that_is_called():
    class Half:
        def advance(self, images, loss): ...
        def start(self, epoch, epochs, images): ...
        def finish(self, row): ...

    with pytest.raises(OptionError, match="lacks close"):
        build().fit(IMAGES, TWO, progress=Half())


def test_sizes_that_nothing_counts_and_nets_that_are_too_deep():
    for make in (
        lambda: xcnn.Dense(2**70),
        lambda: build(input_shape=(1, 2**70, 2)),
        lambda: xcnn.Model(xcnn.Sequential(*[xcnn.UpSampling2D(2**20)] * 3), (1, 8, 8), backend="numpy"),
        lambda: xcnn.Model(xcnn.Conv2D(2**40, 2**12), (1, 2**13, 2**13), backend="numpy"),
        lambda: xcnn.SGD(10**400),
        lambda: xcnn.Dense(-(10**5000)),
        lambda: build().summary(-1),
        lambda: build().predict(IMAGES, batch_size=2**70),
    ):
        with pytest.raises(OptionError, match="X104"):
            make()
    with pytest.raises(MemoryError, match=r"X304.*the net's weights"):
        xcnn.Model(xcnn.Dense(2**44), (3,), backend="numpy")
    deep = xcnn.Dense(2)
    for _ in range(64):
        deep = xcnn.Sequential(deep)
    assert xcnn.Model(deep, (3,), backend="numpy").predict(np.ones((2, 3), "float32")).shape == (2, 2)
    with pytest.raises(OptionError, match=r"X104.*more than 64 deep"):
        xcnn.Sequential(deep)


# Of all messages.


class Untold:
    def __repr__(self):
        raise RuntimeError


def test_lines_of_errors_are_bounded():
    error = XcnnError("X104", "a" * 10**6, "b" * 10**6, hint="c" * 10**6)
    for _ in range(300):
        error.inside("layer" * 9)
    error.subject = "Dense"
    assert max(map(len, str(error).split("\n"))) < LONGEST + 20
    assert len(repr(error)) < 4 * LONGEST
    endless = []
    endless.append(endless)
    for value in ("a" * 10**6, 10**5000, endless, Untold(), np.zeros((9, 9)), [0] * 10**5):
        assert len(short(value)) < 120
        assert "\n" not in short(value)
    for call in (
        lambda: predict("a" * 10**6),
        lambda: build(name="a" * 10**6),
        lambda: xcnn.Dense(2, **{"a" * 10**6: 1}),
        lambda: xcnn.backend("a" * 10**6),
        lambda: xcnn.Model("a" * 10**6, (3,)),
    ):
        with pytest.raises(XcnnError) as told:
            call()
        assert len(str(told.value)) < 4 * LONGEST


def hints():
    """Every text of a hint in the source, with its place; what is put in at run time stands as "0"."""
    for path in sorted([*ROOT.glob("xcnn/**/*.py"), *ROOT.glob("backends/**/*.py")]):
        text = path.read_text()
        for node in ast.walk(ast.parse(text)) if "hint=" in text else ():
            if isinstance(node, ast.keyword) and node.arg in ("hint", "behind"):
                for part in ast.walk(node.value):
                    if isinstance(part, ast.Constant) and isinstance(part.value, str):
                        yield f"{path.name}:{part.lineno}", part.value


OBJECTS = {"xcnn": xcnn, "model": xcnn.Model, "history": xcnn.History(), "numpy": np}


def test_all_that_hints_name_is_there():
    """Functions, methods, layers, and options of Model and its methods."""
    places = 0
    for place, text in hints():
        for owner, path in re.findall(r"\b(xcnn|model|history|numpy)((?:\.[A-Za-z_]\w*)+)", text):
            thing = OBJECTS[owner]
            for name in path[1:].split("."):
                if owner == "xcnn" and (name in ("io",) or thing is None):
                    break
                if thing is xcnn.Model and name == "backend":  # a property: what it gives is a Backend
                    thing = xcnn.Backend
                elif not hasattr(thing, name) and owner == "xcnn":
                    thing = __import__(f"xcnn.{name}", fromlist=[name])
                else:
                    assert hasattr(thing, name), f"{place} names {owner}{path}"
                    thing = getattr(thing, name)
            places += 1
        for name in re.findall(r"\b([A-Z][A-Za-z]+(?:[12]D)?)\(", text):
            assert hasattr(xcnn, name) or name in ("OptionError",), f"{place} names {name}"
            places += 1
    assert places > 20
