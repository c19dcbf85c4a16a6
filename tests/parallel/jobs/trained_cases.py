"""What several processes train, and one: nets and options whose results depend on which samples are together."""

import numpy as np

import xcnn
from xcnn import augment, optimizers, schedules

RNG = np.random.default_rng(7)
X = RNG.standard_normal((46, 2, 8, 8))
Y = RNG.integers(0, 3, 46)
BYTES = RNG.integers(0, 256, (46, 2, 8, 8)).astype(np.uint8)
PLACES = RNG.integers(0, 3, (46, 8, 8))
PLACES[RNG.random(PLACES.shape) < 0.3] = -1


def net():
    return xcnn.Sequential(
        xcnn.Conv2D(4, 3, padding="same", bias=False), xcnn.BatchNorm(), xcnn.ReLU(), xcnn.SpatialDropout2D(0.2),
        xcnn.MaxPool2D(2),
        xcnn.Residual(
            xcnn.Conv2D(4, 3, padding="same", bias=False), xcnn.BatchNorm(), xcnn.ReLU(), xcnn.StochasticDepth(0.3)
        ),
        xcnn.Residual(xcnn.Conv2D(4, 3, padding="same", bias=False), xcnn.BatchNorm()), xcnn.ReLU(),
        xcnn.Flatten(), xcnn.Dropout(0.25), xcnn.Dense(5, bias=False), xcnn.BatchNorm(), xcnn.Dense(3),
    )  # fmt: skip


def dense():
    return xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(6), xcnn.Tanh(), xcnn.Dropout(0.5), xcnn.Dense(3))


def of_places():
    return xcnn.Sequential(xcnn.Conv2D(4, 3, padding="same"), xcnn.Tanh(), xcnn.Conv2D(3, 1))


def normed():
    """Norms of single samples, and weights that are normed."""
    return xcnn.Sequential(
        xcnn.StandardizedConv2D(4, 3, padding="same"), xcnn.GroupNorm(2), xcnn.GELU(),
        xcnn.StandardizedConv2D(4, 3, stride=2), xcnn.LayerNorm(), xcnn.PReLU(), xcnn.Flatten(), xcnn.Dropout(0.2),
        xcnn.Dense(3),
    )  # fmt: skip


def several():
    """Two inputs and two outputs, which share the net between them."""
    return xcnn.Graph(
        stem=(xcnn.Sequential(xcnn.Conv2D(4, 3), xcnn.BatchNorm(), xcnn.ReLU(), xcnn.GlobalAveragePool2D()), "image"),
        side=(xcnn.Sequential(xcnn.Dense(3), xcnn.BatchNorm(), xcnn.Dropout(0.2)), "more"),
        both=(xcnn.Concatenate(), "stem", "side"),
        kind=(xcnn.Dense(3), "both"),
        angle=(xcnn.Dense(1), "both"),
        inputs=("image", "more"),
        outputs=("kind", "angle"),
    )


def squares(y, t):
    """A loss of a user's own, which has no value where there is no sample."""
    worst = abs(y - t).max()
    return float((abs(y - t) ** 2).mean()) + 0 * worst, 2 * (y - t) / y.size


class Stream:
    """Batches that come one after another."""

    def __iter__(self):
        return ((X[first : first + 10], Y[first : first + 10]) for first in range(0, 46, 10))


WEIGHTS = {"sample_weight": RNG.uniform(0, 2, 46), "class_weight": [1.0, 0.5, 3.0]}
WARMED = schedules.WarmUp(3, schedules.Cosine(0.02, 10))
SEVERAL = {
    "net": several,
    "x": {"image": X, "more": RNG.standard_normal((46, 3))},
    "y": {"kind": Y, "angle": RNG.standard_normal((46, 1))},
    "loss": ({"kind": "cross_entropy", "angle": ("mse", 0.5)}, {}),
}
LEAVES_OUT = ("cross_entropy", {"ignore_index": -1})
CASES = {
    # 46 samples in batches of 10: the last has 6; 45 in batches of 11 leave 1
    "all": {"epochs": 6, "batch_size": 10},
    "few": {"epochs": 6, "batch_size": 11, "samples": 45},
    "augmented": {"epochs": 2, "batch_size": 10, "augment": [augment.Translate(2), augment.Flip(0.5)], "workers": 2},
    "mixed": {"epochs": 2, "batch_size": 10, "augment": [augment.Mixup(0.4)]},
    "bytes": {"epochs": 2, "batch_size": 11, "x": BYTES, "samples": 45},
    "stream": {"epochs": 2, "batch_size": 10, "stream": Stream},
    "weighted": {"epochs": 2, "batch_size": 10, **WEIGHTS},
    "left out": {"epochs": 2, "batch_size": 10, "net": of_places, "y": PLACES, "loss": LEAVES_OUT},
    "measured": {"epochs": 2, "batch_size": 10, "validated": True, "metrics": ["f1", "top2"]},
    "parts": {"epochs": 2, "batch_size": 10, "accumulate": 3},
    "clipped": {"epochs": 2, "batch_size": 10, "optimizer": optimizers.EMA(optimizers.AdamW(1e-2, clip_norm=0.1))},
    "clipped in parts": {"epochs": 2, "batch_size": 10, "optimizer": optimizers.AdamW(1e-2, clip_norm=0.1)},
    "gemm": {"epochs": 2, "batch_size": 10, "backend": {"name": "numpy", "algorithm": "gemm"}},
    "torch": {"epochs": 2, "batch_size": 10, "backend": {"name": "torch"}},
    "float32": {"epochs": 2, "batch_size": 10, "dtype": "float32"},
    "dense": {"epochs": 2, "batch_size": 10, "net": dense},
    "turns": {"epochs": 1, "batch_size": 12, "by_one": [4, 4]},
    "several": {"epochs": 2, "batch_size": 10, "accumulate": 2, "sample_weight": WEIGHTS["sample_weight"], **SEVERAL},
    "normed": {
        "epochs": 2,
        "batch_size": 10,
        "net": normed,
        "accumulate": 3,
        "optimizer": optimizers.Lookahead(optimizers.LAMB(schedules.OneCycle(0.02, 10)), k=3),
    },
    "muon": {"epochs": 2, "batch_size": 10, "optimizer": optimizers.Muon(WARMED)},
    "numbers": {
        "epochs": 2,
        "batch_size": 11,
        "samples": 45,
        "net": dense,
        "y": RNG.standard_normal((46, 3)),
        "loss": (squares, {}),
        "metrics": ["mae", "r2"],
        "validated": True,
    },
    "stopped": {
        "epochs": 9,
        "batch_size": 20,
        "validation_split": 0.25,
        "callbacks": [lambda: xcnn.ReduceOnPlateau("val_loss", patience=1), lambda: xcnn.EarlyStopping(patience=2)],
    },
}


def made(case):
    """The model of a case, and what is trained on; what is left of the case are options of `fit`."""
    kind, samples = case.pop("dtype", "float64"), case.pop("samples", 46)
    x, y = (of_each(case.pop(name, other), lambda a: a[:samples]) for name, other in (("x", X), ("y", Y)))
    loss, options = case.pop("loss", ("cross_entropy", {}))
    if options:
        from functools import partial

        loss = partial(xcnn.losses.LOSSES[loss], **options)
    model = xcnn.Model(
        case.pop("net", net)(), of_each(x, lambda a: a.shape[1:]), loss=loss, metrics=case.pop("metrics", ()),
        dtype=kind, seed=3, optimizer=case.pop("optimizer", xcnn.SGD(0.05, momentum=0.9)),
        backend=xcnn.backend(**case.pop("backend", {"name": "numpy"})),
    )  # fmt: skip
    return model, of_each(x, lambda a: a if a.dtype == np.uint8 else a.astype(kind)), y


def of_each(given, change):
    """An array, changed, or each of several by their names."""
    return {name: change(array) for name, array in given.items()} if isinstance(given, dict) else change(given)


def fitted(case, together):
    """The model of a case, trained; and its history."""
    case = dict(case)
    model, x, y = made(case)
    if case.pop("validated", False):
        case["validation_data"] = (x[:17], y[:17])
    if "stream" in case:
        x, y = case.pop("stream")(), None
        case["shuffle"] = False
    callbacks = [make() for make in case.pop("callbacks", ())]
    for batch_size in case.pop("by_one", ()):  # what was recorded by one alone is not used in a share
        model.fit(x, y, progress="none", parallel=together, **case)
        model.fit(x, y, progress="none", **{**case, "batch_size": batch_size})
    history = model.fit(x, y, progress="none", parallel=together, callbacks=callbacks, **case)
    return model, history
