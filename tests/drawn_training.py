"""Trainings that are drawn: net, loss, optimizer, rate and options of one number, by xcnn and by a loop of PyTorch's.

The loop is what a user of PyTorch would write: its own modules, losses term by term, optimizers and schedulers, so that
all that `fit` adds (order, uneven batches, weights, labels that do not count, parts, groups, averages) has an oracle.
"""

from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from random import Random
from typing import Any

import numpy as np

import xcnn
from xcnn import optimizers as o
from xcnn import schedules as s
from xcnn.core import tree
from xcnn.data.augment import augmented
from xcnn.data.source import Pass, order_of

SIDE, CLASSES, LEFT_OUT = 6, 3, -100
EPOCHS = 3


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
    kind = of.choice(["classes", "classes", "places", "numbers", "one class"])
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
    outputs = {"classes": CLASSES, "places": CLASSES, "numbers": 2, "one class": 1}[kind]
    if kind == "places":
        net = xcnn.Sequential(*first, head=xcnn.Conv2D(outputs, 1))
        t = rng.integers(0, CLASSES, (count, SIDE, SIDE))
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
}


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
    made.theirs = lambda torch, parameters: getattr(torch.optim, name)(groups(torch, parameters), rate, **theirs)


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
    made.given = of.choice(["arrays", "arrays", "rows", "batches"])
    if made.given == "batches":
        fit["shuffle"] = False
        fit.pop("sample_weight", None)


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
    loss = partial(xcnn.losses.LOSSES[training.loss], **training.options)
    model = xcnn.Model(
        training.net, training.x.shape[1:], loss=loss, optimizer=training.optimizer, backend=backend, dtype="float64",
        seed=training.seed,
    )  # fmt: skip
    start = tree.map(lambda w: np.array(model.backend.to_numpy(w)), model.weights)
    given = {
        "arrays": (training.x, training.t),
        "rows": (Rows(training.x), training.t),
        "batches": (Anew(training.x, training.t, training.fit["batch_size"]),),
    }[training.given]
    callbacks = [xcnn.ReduceOnPlateau("loss", patience=1, factor=0.5, min_delta=1.0)] if training.plateau else []
    model.fit(*given, epochs=EPOCHS, progress="none", callbacks=callbacks, **training.fit)
    return model, start


class Loop:
    """The same by PyTorch."""

    def __init__(self, training, start):
        import torch

        from xcnn.bench.torch_side import name_of, twin

        self.torch, self.training = torch, training
        self.net = twin(training.net, start).double()
        named = dict(self.net.named_parameters())
        self.parameters = {path: named[name_of(path)] for path, _ in tree.items(start) if name_of(path) in named}
        self.trained = {path: p for path, p in self.parameters.items() if not self.is_frozen(path)}
        self.optimizer = training.theirs(torch, self.trained)
        make = training.scheduler
        self.scheduler = make(torch.optim.lr_scheduler, self.optimizer) if make else None
        self.slow = {path: p.detach().clone() for path, p in self.trained.items()}
        self.averages = None
        if training.average is not None:
            decays = torch.optim.swa_utils.get_ema_multi_avg_fn(training.average)
            self.averages = torch.optim.swa_utils.AveragedModel(self.net, multi_avg_fn=decays)
        self.steps = 0
        self.losses = []

    def is_frozen(self, path):
        return bool(self.training.frozen) and path.endswith("/bias") and path != "head/kernel"

    def terms(self, y, t):
        """The loss of each sample, or place."""
        f, options, loss = self.torch.nn.functional, self.training.options, self.training.loss
        if loss == "cross_entropy":
            return f.cross_entropy(y, t, reduction="none", **options)
        if loss == "binary_cross_entropy_with_logits":
            return f.binary_cross_entropy_with_logits(y[:, 0], t.double(), reduction="none")
        each = {"mse": f.mse_loss, "mae": f.l1_loss, "huber": partial(f.huber_loss, delta=0.7)}[loss]
        return each(y, t, reduction="none").mean(dim=1)

    def shares(self, t, chosen):
        """What each sample or place weighs."""
        torch, fit = self.torch, self.training.fit
        samples = torch.tensor(fit.get("sample_weight", np.ones(len(self.training.x)))[chosen])
        if t.is_floating_point() and t.shape[1:] == (CLASSES,):  # mixed
            weights = torch.tensor(fit.get("class_weight", [1.0] * CLASSES), dtype=torch.float64)
            return samples * (t * weights).sum(dim=1)
        if t.is_floating_point():
            return samples
        weights = torch.tensor(fit.get("class_weight", [1.0] * CLASSES), dtype=torch.float64)
        counts = t != LEFT_OUT
        of_places = weights[torch.where(counts, t, 0)] * counts
        return samples.reshape(-1, *[1] * (t.ndim - 1)) * of_places

    def batch(self, chosen, epoch):
        training = self.training
        x, t = training.x[chosen], training.t[chosen]
        if "augment" in training.fit:
            x, t = augmented(tuple(training.fit["augment"]), x, t, chosen, (training.seed, epoch), (CLASSES,))
        return self.torch.tensor(x), self.torch.tensor(t)

    def step(self, chosen, epoch):
        """One batch, in parts, and all that follows from it; the sum of its weighted terms, and of its weights."""
        torch, (x, t) = self.torch, self.batch(chosen, epoch)
        shares, parts = self.shares(t, chosen), self.training.fit["accumulate"]
        cuts, summed, whole = [len(x) * n // parts for n in range(parts + 1)], 0.0, shares.sum().clamp(min=1e-30)
        self.net.train()
        self.optimizer.zero_grad()
        for a, b in pairwise(cuts):
            if a < b:
                loss = (shares[a:b] * self.terms(self.net(x[a:b]), t[a:b])).sum() / whole
                loss.backward()
                summed += float(loss.detach() * whole)
        if self.training.clip is not None:
            norm = float(torch.cat([p.grad.ravel() for p in self.trained.values()]).norm())
            for p in self.trained.values():
                p.grad *= min(1.0, self.training.clip / max(norm, 1e-30))
        self.optimizer.step()
        self.steps += 1
        if self.scheduler:
            self.scheduler.step()
        with torch.no_grad():
            if self.training.lookahead and self.steps % self.training.lookahead == 0:
                for path, p in self.trained.items():
                    self.slow[path] += 0.6 * (p - self.slow[path])
                    p.copy_(self.slow[path])
        if self.averages is not None:
            self.averages.update_parameters(self.net)
        return summed, float(shares.sum())

    def run(self):
        training, reduce = self.training, None
        if training.plateau:
            reduce = Reduced(self)
        for epoch in range(EPOCHS):
            way = Pass(training.fit["batch_size"], training.seed, epoch, training.fit["shuffle"])
            order = order_of(len(training.x), way)
            cuts = range(0, len(order), way.batch_size)
            sums = np.array([self.step(order[n : n + way.batch_size], epoch) for n in cuts]).sum(axis=0)
            self.losses.append(sums[0] / sums[1])
            if reduce:
                reduce(self.losses[-1])
        return self

    def predicted(self, x):
        """The outputs of the net that is asked: the average, if there is one."""
        net = (self.averages.module if self.averages is not None else self.net).eval()
        with self.torch.no_grad():
            return net(self.torch.tensor(x)).numpy()


class Reduced:
    """Halves all rates after each epoch that brought no loss lower by 1."""

    def __init__(self, loop):
        self.loop, self.best = loop, None

    def __call__(self, loss):
        if self.best is None or loss < self.best - 1.0:
            self.best = loss
            return
        for group in self.loop.optimizer.param_groups:
            group["lr"] *= 0.5
