"""Trainings that are drawn: net, loss, optimizer, rate and options of one number, by xcnn and by a loop of PyTorch's.

The loop, in drawn_loop.py, has PyTorch's own modules, losses term by term, optimizers and schedulers, so that all that
`fit` adds (order, uneven batches, weights, labels that do not count, parts, groups, averages) has an oracle.
"""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import xcnn
from xcnn import optimizers as o
from xcnn import schedules as s
from xcnn.core import tree

SIDE, CLASSES, LEFT_OUT = 6, 3, -100
EPOCHS = 3
SIZES_COUNT = 0.3
"""What the loss of the second of several outputs is multiplied by."""


@dataclass
class Training:
    """One that was drawn."""

    seed: int
    kind: str
    net: Any
    x: np.ndarray
    t: np.ndarray
    loss: str
    options: dict = field(default_factory=dict)
    optimizer: Any = None
    theirs: Any = None
    """(torch, trained parameters by path) -> their optimizers."""
    rate: Any = 0.05
    scheduler: Any = None
    """(torch, optimizer) -> what has `step`; None for a rate that stays."""
    fit: dict = field(default_factory=dict)
    clip: float | None = None
    average: float | None = None
    lookahead: int | None = None
    frozen: str = ""
    plateau: bool = False
    given: str = "arrays"
    mixes: bool = False

    def __str__(self):
        names = ("kind", "net", "loss", "options", "optimizer", "fit", "given", "plateau")
        return f"{self.seed}: " + ", ".join(f"{name}={getattr(self, name)}" for name in names)


def drawn(seed):
    """The training of a number, the same everywhere."""
    rng, of = np.random.default_rng(seed), Random(seed)
    kind = of.choice(["classes", "classes", "places", "numbers", "one class", "several"])
    count = of.randint(13, 30)
    x = rng.standard_normal((count, 2, SIDE, SIDE))
    norm = of.choice([[], [xcnn.BatchNorm(momentum=0.9, epsilon=1e-3)], [xcnn.GroupNorm(2)]])
    first = [
        xcnn.Conv2D(
            4, 3, padding=1, bias=of.random() < 0.7 and not (norm and isinstance(norm[0], xcnn.BatchNorm))
        ),  # of rounding alone
        *norm,
        of.choice([xcnn.ReLU(), xcnn.Tanh(), xcnn.GELU()]),
    ]
    outputs = {"one class": 1, "numbers": 2}.get(kind, CLASSES)
    if kind == "places":
        net = xcnn.Sequential(*first, head=xcnn.Conv2D(outputs, 1))
        t = rng.integers(0, CLASSES, (count, SIDE, SIDE))
    elif kind == "several":
        body = xcnn.Sequential(*first, xcnn.MaxPool2D(2), xcnn.Flatten())
        heads = {"head": (xcnn.Dense(CLASSES), "body"), "sizes": (xcnn.Dense(2), "body")}
        net = xcnn.Graph(body=body, **heads, outputs=("head", "sizes"))
        t = np.concatenate([rng.integers(0, CLASSES, (count, 1)), rng.standard_normal((count, 2))], axis=1)
    else:
        net = xcnn.Sequential(*first, xcnn.MaxPool2D(2), xcnn.Flatten(), head=xcnn.Dense(outputs))
        t = rng.standard_normal((count, 2)) if kind == "numbers" else rng.integers(0, max(outputs, 2), count)
    made = Training(seed, kind, net, x, t, "cross_entropy")
    draw_loss(made, of, rng)
    draw_optimizer(made, of)
    draw_fit(made, of, rng)
    return made


def draw_loss(made, of, rng):
    if made.kind == "numbers":
        made.loss = of.choice(["mse", "mae", "huber"])
        made.options = {"delta": 0.7} if made.loss == "huber" else {}
    elif made.kind == "several":
        made.loss = {"head": "cross_entropy", "sizes": ("mse", SIZES_COUNT)}
    elif made.kind == "one class":
        made.loss = "binary_cross_entropy_with_logits"
    else:
        made.options = {"label_smoothing": 0.1} if of.random() < 0.4 else {}
        if of.random() < 0.5:
            made.options["ignore_index"] = LEFT_OUT
            made.t[rng.random(made.t.shape) < 0.3] = LEFT_OUT


OPTIMIZERS = {
    "sgd": (o.SGD, {}, "SGD", {}),
    "momentum": (o.SGD, {"momentum": 0.9, "weight_decay": 0.02}, "SGD", {"momentum": 0.9, "weight_decay": 0.02}),
    "nesterov": (o.SGD, {"momentum": 0.8, "nesterov": True}, "SGD", {"momentum": 0.8, "nesterov": True}),
    "adam": (o.Adam, {"beta1": 0.8, "beta2": 0.95}, "Adam", {"betas": (0.8, 0.95)}),
    "adamw": (o.AdamW, {"weight_decay": 0.1}, "AdamW", {"weight_decay": 0.1}),
    "rmsprop": (o.RMSprop, {"rho": 0.9, "momentum": 0.5}, "RMSprop", {"alpha": 0.9, "momentum": 0.5}),
    "adagrad": (o.Adagrad, {"weight_decay": 0.05}, "Adagrad", {"weight_decay": 0.05}),
    "nadam": (o.NAdam, {}, "NAdam", {}),
    "lamb": (o.LAMB, {"weight_decay": 0.2}, "LAMB", {"weight_decay": 0.2, "betas": (0.9, 0.999)}),
    "muon": (o.Muon, {"momentum": 0.8, "weight_decay": 0.1}, "Muon", {"momentum": 0.8, "weight_decay": 0.1}),
}


def optimizer_of(torch, name):
    """PyTorch's, or ours for it."""
    if name in ("LAMB", "Muon"):
        import drawn_optimizers

        return getattr(drawn_optimizers, name)
    return getattr(torch.optim, name)


def schedules(rate, last):
    """Each as it is here and as it is there."""
    return {
        "constant": (rate, None),
        "step": (s.Step(rate, every=2, factor=0.5), lambda t, p: t.StepLR(p, 2, 0.5)),
        "exponential": (s.Exponential(rate, every=3, factor=0.5), lambda t, p: t.ExponentialLR(p, 0.5 ** (1 / 3))),
        "cosine": (s.Cosine(rate, last), lambda t, p: t.CosineAnnealingLR(p, last)),
        "warm up": (s.WarmUp(4, rate), lambda t, p: t.LinearLR(p, 0.25, 1.0, 3)),
        "one cycle": (
            s.OneCycle(rate, last + 2),
            lambda t, p: t.OneCycleLR(p, [g["lr"] for g in p.param_groups], last + 2, cycle_momentum=False),
        ),
    }  # fmt: skip


def draw_optimizer(made, of):
    ours, options, name, theirs = OPTIMIZERS[of.choice([*OPTIMIZERS])]
    batch = of.randint(5, 9)
    steps = EPOCHS * -(-len(made.x) // batch)
    rate = 0.05 if name in ("SGD", "Adagrad") else 0.01
    chosen = of.choice([*schedules(rate, steps)])
    schedule, made.scheduler = schedules(rate, steps)[chosen]
    made.fit["batch_size"] = batch
    optimizer = ours(schedule, **options)
    made.clip = of.choice([None, None, 0.3])
    if made.clip is not None:
        optimizer = ours(schedule, **options, clip_norm=made.clip)

    def groups(torch, parameters):
        return [{"params": [*parameters.values()]}]

    if of.random() < 0.5:
        made.frozen = of.choice(["", "*/bias"])
        decays = {"weight_decay": 0.0} if "weight_decay" in options else {}
        of_biases = {"frozen": True} if made.frozen else {"rate": 2.0, **decays}
        parts = o.Group("head/kernel", rate=0.5), o.Group("*/bias", **of_biases)
        optimizer = o.Groups(optimizer, parts)

        def groups(torch, parameters):
            def those(has):
                return [p for path, p in parameters.items() if has(path)]

            head, bias = (lambda path: path == "head/kernel"), (lambda path: path.endswith("/bias"))
            found = [
                {"params": those(lambda path: not head(path) and not bias(path))},
                {"params": those(head), "lr": rate * 0.5},
                {"params": those(bias), "lr": rate * 2, **decays},
            ]
            return [group for group in found if group["params"]]

    if of.random() < 0.3:
        made.lookahead = 3
        optimizer = o.Lookahead(optimizer, k=3, alpha=0.6)
    if of.random() < 0.4:
        made.average = 0.7
        optimizer = o.EMA(optimizer, decay=0.7)
    made.rate, made.optimizer = rate, optimizer
    made.theirs = lambda torch, parameters: optimizer_of(torch, name)(groups(torch, parameters), rate, **theirs)


def draw_fit(made, of, rng):
    fit = made.fit
    fit["accumulate"] = of.choice([1, 1, 2, 3])
    if made.kind in ("classes", "places", "one class") and of.random() < 0.5:
        fit["class_weight"] = [0.5, 2.0, 1.0][: 2 if made.kind == "one class" else 3]
    if of.random() < 0.4:
        fit["sample_weight"] = rng.uniform(0, 2, len(made.x))
    if made.kind == "classes" and "ignore_index" not in made.options and of.random() < 0.3:
        fit["augment"] = [xcnn.augment.Mixup(0.5)]
    fit["shuffle"] = of.random() < 0.8
    made.plateau = made.scheduler is None and of.random() < 0.5
    made.given = of.choice(["arrays", "arrays", "rows", "batches", "folder"])
    if made.kind == "several" or (
        made.given == "folder" and (made.kind, made.options.get("ignore_index")) != ("classes", None)
    ):
        made.given = "arrays"
    if made.given == "folder":
        made.x, made.t = drawn_bytes(rng, len(made.x)) / np.float32(255), np.sort(np.arange(len(made.x)) % CLASSES)
    if made.given == "batches":
        fit["shuffle"] = False
        fit.pop("sample_weight", None)


def drawn_bytes(rng, count):
    """Images (count, 3, SIDE, SIDE)."""
    return rng.integers(0, 256, (count, 3, SIDE, SIDE)).astype(np.uint8)


def in_folder(training, path):
    """The images as files, a folder a class, in the order of their labels."""
    from PIL import Image

    for n, (x, label) in enumerate(zip(training.x, training.t, strict=True)):
        folder = path / f"class {label}"
        folder.mkdir(exist_ok=True)
        Image.fromarray(np.rint(255 * x).astype(np.uint8).transpose(1, 2, 0)).save(folder / f"{n:03}.png")
    return xcnn.data.folder(path, (SIDE, SIDE), "RGB")


class Rows:
    """What has a length and items."""

    def __init__(self, x):
        self.x = x

    def __len__(self):
        return len(self.x)

    def __getitem__(self, n):
        return self.x[n]


class Anew:
    """Batches that begin anew each epoch."""

    def __init__(self, *given):
        self.x, self.t, self.size = given

    def __iter__(self):
        cuts = range(0, len(self.x), self.size)
        return ((self.x[n : n + self.size], self.t[n : n + self.size]) for n in cuts)


def ours(training, backend):
    """The model, trained."""
    loss = training.loss
    if isinstance(loss, str):
        loss = partial(xcnn.losses.LOSSES[loss], **training.options)
    model = xcnn.Model(
        training.net, training.x.shape[1:], loss=loss, optimizer=training.optimizer, backend=backend, dtype="float64",
        seed=training.seed,
    )  # fmt: skip
    start = tree.map(lambda w: np.array(model.backend.to_numpy(w)), model.weights)
    t = training.t
    if training.kind == "several":
        t = {"head": t[:, 0].astype(int), "sizes": t[:, 1:]}
    callbacks = [xcnn.ReduceOnPlateau("loss", patience=1, factor=0.5, min_delta=1.0)] if training.plateau else []
    with TemporaryDirectory() as path:
        given = {
            "arrays": lambda: (training.x, t),
            "rows": lambda: (Rows(training.x), t),
            "batches": lambda: (Anew(training.x, t, training.fit["batch_size"]),),
            "folder": lambda: (in_folder(training, Path(path)),),
        }[training.given]()
        model.fit(*given, epochs=EPOCHS, progress="none", callbacks=callbacks, **training.fit)
    return model, start
