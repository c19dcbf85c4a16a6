"""What `save` takes, `load` gives back: models are drawn, trained, saved and loaded, and what they hold is compared."""

import enum
import math
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import pytest
from draws import draws

from xcnn import layers as L
from xcnn.core import tree
from xcnn.errors import CheckpointError, DivergedError
from xcnn.layers.layer import Next
from xcnn.model.model import Model
from xcnn.training import losses
from xcnn.training.callbacks import Checkpoint
from xcnn.training.optimizers import SGD, Adam, AdamW, RMSprop
from xcnn.training.schedules import Constant, Cosine, Exponential, OneCycle, Schedule, Step, WarmUp


@dataclass(frozen=True)
class Scaled:
    """A layer of one's own: a weight without axes, one without cells, a branch without leaves, a count that is kept."""

    first: float = 2.0
    names: tuple[str, ...] = ("a",)
    double: float = field(init=False, default=0.0)

    def __post_init__(self):
        object.__setattr__(self, "double", 2 * self.first)

    def init(self, rng, input_shape):
        drawn = rng.standard_normal(dtype="float32")
        inner = {"v": np.zeros((2, 0)), "u": rng.normal(0, 1, 3), "nothing": {}, "seen": 0.0}
        return {"z": np.float64(self.first), "inner": inner, "nothing": {}, "a": drawn}, input_shape

    def __call__(self, weights, x, run):
        def backward(dy):
            xp, inner = run.backend.xp, weights["inner"]
            grads = {"v": inner["v"], "u": 0 * inner["u"], "nothing": {}, "seen": Next(inner["seen"] + 1)}
            return dy * weights["z"], {"z": xp.sum(dy * x), "inner": grads, "nothing": {}, "a": 0 * weights["a"]}

        return x * weights["z"], backward


@dataclass(frozen=True)
class Halved(Schedule):
    """A schedule of one's own."""

    rate: float = 0.1

    def __call__(self, step):
        return self.rate / (1 + step)


@dataclass(frozen=True)
class Slow(SGD):
    """An optimizer of one's own."""

    by: float = 0.5

    def change(self, rate, step, w, g, *moments):
        return super().change(rate * self.by, step, w, g, *moments)


def own_loss(y, t):
    """A loss of one's own."""
    return losses.mse(y, t)


OWN = {"Scaled": Scaled, "Halved": Halved, "Slow": Slow}


def one_of(rng, *options):
    return options[rng.integers(len(options))]


def net_of(rng, few):
    """A small net for images (1, 4, 4), with layers of many kinds, or of few."""
    if few:
        return L.Sequential(L.Flatten(), Scaled(), head=L.Dense(2))
    body = [
        one_of(rng, L.Conv2D(2, 3, padding="same"), L.Conv2D(2, (2, 1), padding=((1, 0), (0, 0)), bias="untied"),
               L.Residual(L.Conv2D(1, 1), shortcut=L.Conv2D(1, 1)), L.Concatenate(L.Sequential(), L.Conv2D(1, 1)),
               L.Sequential(), Scaled(float(rng.normal())), L.DepthwiseConv2D(np.int64(2), padding="same")),
        one_of(rng, L.ReLU(), L.ELU(0.5), L.GELU(approximate=True), L.LeakyReLU(negative_slope=np.float32(0.1))),
        one_of(rng, L.BatchNorm(momentum=0.5), L.LayerNorm(), L.GroupNorm(1), L.MaxPool2D(2), L.UpSampling2D(2)),
        one_of(rng, L.Flatten(), L.GlobalAveragePool2D()),
        one_of(rng, L.Dropout(0.3), L.Sequential(a=Scaled(names=("b", "ç")), b=Scaled())),
    ]  # fmt: skip
    return L.Sequential(*body, **{one_of(rng, "head", "kopf", "ß"): L.Dense(2)})


def optimizer_of(rng):
    rate = one_of(rng, 0.1, 0.0, np.float32(0.1), Constant(0.1), Cosine(0.1, 9), Exponential(0.1, 3), Step(0.1, 2),
                  OneCycle(0.1, 7), WarmUp(2, Cosine(0.1, 3)), WarmUp(2, Halved()), Halved(0.2))  # fmt: skip
    kind = one_of(rng, SGD, Adam, AdamW, RMSprop, Slow, partial(SGD, momentum=0.9, nesterov=True),
                  partial(RMSprop, momentum=0.5))  # fmt: skip
    return kind(rate, clip_norm=one_of(rng, None, 1, 0.5))


LOSSES = (
    "cross_entropy", "mse", "binary_cross_entropy_with_logits", partial(losses.cross_entropy, label_smoothing=0.1),
    partial(losses.huber, delta=np.float64(2)), own_loss,
)  # fmt: skip


class Color(enum.StrEnum):
    """Looks like a text, and would come back as one."""

    RED = "red"


KEPT = (
    0, -1, 2**53 + 1, 10**400, True, False, None, 0.1, -0.0, 1e-320, math.inf, math.nan, "", "ç\x00\ud800", "/", [], {},
    [[1], {}], {"class": "Dense"}, np.float32(0.1), np.int64(7), np.True_, np.str_("a"), np.array(2.5), "x" * 300,
)  # fmt: skip
LOST = (
    (), (1, 2), {1: 2}, {None: 1}, {True: 1}, {2.5: 0}, {("a",): 1}, {1}, b"b", 1j, Color.RED, {Color.RED: 1},
    object(), np.arange(3), np.float16, print, range(3), np.datetime64("2026-01-01"),
)  # fmt: skip


def info_of(rng, of, depth=0):
    """A mapping of such values."""

    def value(depth):
        kind = rng.integers(4) if depth < 3 else 3
        if kind == 0:
            return [value(depth + 1) for _ in range(rng.integers(3))]
        return {f"n{n}": value(depth + 1) for n in range(rng.integers(3))} if kind == 1 else one_of(rng, *KEPT)

    found = {one_of(rng, "a", "ß", "", "class", "sha256"): value(0) for _ in range(rng.integers(4))}
    last = one_of(rng, *of)
    return {**found, "last": one_of(rng, [last], last, {"a": [1, last]})}


def model_of(rng, backend):
    """A model that was trained a little, perhaps left within an epoch, or given another optimizer.

    JAX compiles each anew: it gets small ones.
    """
    few = backend.name == "jax"
    dtype = one_of(rng, "float32", "float64")
    single = [name for name in backend.precisions_here if name not in ("float64", "tf32")]
    model = Model(
        net_of(rng, few), (1, 4, np.int64(4)), loss=one_of(rng, *LOSSES), optimizer=optimizer_of(rng), backend=backend,
        dtype=dtype, precision=one_of(rng, None, *single) if dtype == "float32" else None,
        seed=one_of(rng, 0, 2**64 - 1, np.uint64(2**63), int(rng.integers(2**40))),
    )  # fmt: skip
    x = rng.normal(size=(7, 1, 4, 4)).astype(dtype)
    t = np.eye(2, dtype=dtype)[rng.integers(0, 2, 7)]
    how = {
        "batch_size": one_of(rng, 2, np.int32(3), 100) if not few else 7,
        "shuffle": one_of(rng, True, np.False_, np.True_),
    }
    note = one_of(rng, 1, np.float32(0.5), [1, "b"], None)

    def write(model, history):
        history.rows[-1]["note"] = note

    with np.errstate(all="ignore"), suppress(DivergedError):
        model.fit(x, t, epochs=rng.integers(3), callbacks=write, progress="none", **how)
        if rng.integers(2):
            model.optimizer = optimizer_of(rng)
        if rng.integers(2):
            model.fit(x, t, progress=Leaving(rng.integers(3)), **how)
        if rng.integers(2):
            model.step(x, t)
    return model, x, t, how


class Leaving:
    """Progress that is interrupted."""

    def __init__(self, left):
        self.left = left

    def start(self, *_):
        pass

    finish = close = start

    def advance(self, *_):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt


def plainly(value):
    """For a comparison: NumPy's numbers as Python's, NaN equal to itself, and each value with its kind."""
    value = (
        value.item() if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and not value.ndim) else value
    )
    if isinstance(value, dict):
        return {name: plainly(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value), [plainly(item) for item in value]
    return type(value), repr(value)


def held(model):
    """All that a model holds."""
    state, loss = model.state, model.loss
    return {
        "net": (model.net, repr(model.net)), "optimizer": (model.optimizer, repr(model.optimizer)),
        "loss": (getattr(loss, "func", loss), plainly(getattr(loss, "keywords", {}))),
        "built": (model.input_shape, model.output_shape, model.seed, model.dtype, model.precision),
        "counts": (state.step, state.epoch, state.batch, state.loss, state.right, state.seen, state.rate_offset),
        "arrays": [
            (path, a if isinstance(a, int) else (a.shape, str(a.dtype), model.backend.to_numpy(a).tobytes()))
            for path, a in tree.items({"w": state.weights, "s": state.optimizer_state})
        ],
        "trees": tree.map(lambda _: 0, state.weights),
        "rows": plainly([*state.rows]), "history": plainly(model.history.rows), "plan": plainly(model.plan),
        "info": plainly(model.info), "rate": model.learning_rate,
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*:RuntimeWarning")
def test_what_save_takes_load_gives_back(backend, tmp_path):
    path, saved = tmp_path / "m.xcnn", 0
    for seed in range(draws(1 if backend.name == "jax" else 15)):
        rng = np.random.default_rng(seed)
        if backend.name == "torch":  # to record a step takes longer than all else here
            backend = replace(backend, compiles=seed % 4 == 0)
        model, x, t, how = model_of(rng, backend)
        lost = not rng.integers(4)
        model.info = info_of(rng, LOST if lost else KEPT)
        if lost:
            with pytest.raises(CheckpointError, match=r"X403.*model\.info"):
                model.check_save()
            with pytest.raises(CheckpointError, match=r"X403.*model\.info"):
                model.save(path)
            assert not path.exists()
            continue
        model.check_save()
        model.save(path)
        own = {"layers": OWN, "loss": own_loss if model.loss is own_loss else None}
        loaded = Model.load(path, backend=backend, **own)
        expected, found = held(model), held(loaded)
        for name, value in expected.items():
            assert found[name] == value, f"seed {seed}: {name}"
        for one in (model, loaded):
            with suppress(DivergedError):
                one.fit(x, t, epochs=one.state.epoch + 1, resume=True, progress="none", **how)
        assert held(model)["arrays"] == held(loaded)["arrays"], f"seed {seed}"
        saved += 1
        path.unlink()
    assert saved


@dataclass(frozen=True)
class Listed(Scaled):
    """Its list would come back as a tuple."""

    what: object = ()


@dataclass(frozen=True)
class Named(Scaled):
    """The field `named` is how containers are written."""

    named: tuple[str, ...] = ("a",)


class Keeping(SGD):
    """It keeps more than its moments."""

    def update(self, grads, state, weights):
        weights, new = super().update(grads, state, weights)
        return weights, {**new, "average": weights["dense1"]["bias"]}

    def init(self, weights):
        return {**super().init(weights), "average": weights["dense1"]["bias"]}


@dataclass(frozen=True)
class Odd(Scaled):
    """Weights with such names."""

    name: object = 1

    def init(self, rng, input_shape):
        return {self.name: np.zeros(2)}, input_shape


def same_name():
    @dataclass(frozen=True)
    class Scaled(L.ReLU):
        """Another of that name."""

    return Scaled()


def model_with(*layers, **options):
    options = {"optimizer": SGD(0.1), "backend": "numpy", **options}
    return Model(L.Sequential(*layers, L.Dense(2)), (3,), **options)


CAN_NOT_BE_KEPT = {
    "a list": lambda: model_with(Listed(what=[1, 2])),
    "a text of an enumeration": lambda: model_with(Listed(what=Color.RED)),
    "a mapping": lambda: model_with(Listed(what={"a": 1})),
    "a field of containers": lambda: model_with(Named()),
    "two classes of a name": lambda: model_with(Scaled(), same_name()),
    "a huge number": lambda: model_with(Listed(what=2**60)),
    "a number for a name": lambda: model_with(Odd(name=7)),
    "a name with a slash": lambda: model_with(Odd(name="a/b")),
    "a name that is a folder": lambda: model_with(Odd(name="..")),
    "a line end in a name": lambda: model_with(Odd(name="a\nb")),
    "more than moments": lambda: model_with(optimizer=Keeping(0.1)),
    "a huge number of steps": lambda: model_with(optimizer=SGD(Step(0.1, 2**59))),
}


@pytest.mark.parametrize("case", CAN_NOT_BE_KEPT)
def test_what_can_not_be_kept_is_refused_before_training_begins(case, tmp_path):
    model, path = CAN_NOT_BE_KEPT[case](), tmp_path / "m.xcnn"
    state = model.state
    for call in (
        lambda: model.save(path),
        model.check_save,
        lambda: model.fit(np.ones((4, 3), "float32"), [0, 1, 0, 1], callbacks=Checkpoint(path), progress="none"),
    ):
        with pytest.raises(CheckpointError, match=r"X403|X404"):
            call()
    assert (model.state.step, model.plan, [*tmp_path.iterdir()]) == (state.step, {}, [])


def test_info_is_looked_at_before_training_begins(tmp_path):
    model = model_with()
    model.info["classes"] = ("a", "b")
    with pytest.raises(CheckpointError, match=r"X403.*model.info\['classes'\].*\('a', 'b'\), a tuple, .* a list"):
        model.fit(np.ones((4, 3), "float32"), [0, 1, 0, 1], callbacks=Checkpoint(tmp_path / "m.xcnn"), progress="none")
    assert model.state.step == 0
    model.info["classes"] = ["a", "b"]
    model.fit(np.ones((4, 3), "float32"), [0, 1, 0, 1], callbacks=Checkpoint(tmp_path / "m.xcnn"), progress="none")
    assert Model.load(tmp_path / "m.xcnn", backend="numpy").info == {"classes": ["a", "b"]}
