"""Are whole nets, their gradients and updates right, and captured steps like eager ones?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

import xcnn
from on_gpu.random_nets import random_net
from on_gpu.session import HALVES, Session, Task
from xcnn.bench.cases import picked
from xcnn.core import tree
from xcnn.layers.layer import Next
from xcnn.training.optimizers import Optimizer

NET_LIMITS = {"float64": 1e-9, "float32": 1e-3}
"""Of a net's loss and gradients. A ReLU or a pooling may choose otherwise where float32 rounds two cells alike."""
CAPTURED = 20


def nets(session: Session) -> Iterator[Task]:
    """Loss and all gradients of nets with fused layers, and weights after some updates, against NumPy's."""
    for name in ("article", "lenet", "mnist-net", "small-resnet"):
        case = picked(f"{name}:6")
        for dtype in NET_LIMITS:
            yield Task(f"{name}, {dtype}", partial(net_errors, session, case.net, case.input_shape, case.loss, dtype))
    for seed in range(6):
        for dtype in NET_LIMITS:
            net, input_shape = random_net(seed)
            yield Task(
                f"random net {seed}, {dtype}", partial(net_errors, session, net, input_shape, "cross_entropy", dtype)
            )
    for optimizer in (
        xcnn.SGD(0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
        xcnn.Adam(1e-3),
        xcnn.AdamW(1e-3, clip_norm=0.5),
        xcnn.RMSprop(1e-3, momentum=0.5),
    ):
        yield Task(f"three updates by {optimizer!r}", partial(update_errors, session, optimizer))


def noise(model: xcnn.Model, samples: int) -> tuple[Any, Any]:
    """Images and targets for a model."""
    rng, (outputs,) = np.random.default_rng(1), model.output_shape
    x = rng.standard_normal((samples, *model.input_shape)).astype(model.dtype)
    labels = rng.integers(0, outputs, samples)
    return x, labels if model.trainer.threshold is None or outputs > 2 else np.eye(outputs, dtype=model.dtype)[labels]


def net_errors(session: Session, net: Any, input_shape: Any, loss: str, dtype: str) -> dict[str, Any]:
    """The worst errors of the loss and of a gradient, relative to the size of all gradients where they are small."""
    models = [
        xcnn.Model(net, input_shape, loss=loss, dtype=dtype, backend=made, seed=3)
        for made in (session.made(), session.reference())
    ]
    (value, got), (expected_value, expected) = (gradients(model, *noise(model, 6)) for model in models)
    least = 1e-3 * math.sqrt(sum(float(np.sum(g.astype("float64") ** 2)) for g in expected.values()))
    errors = {
        name: float(np.linalg.norm(got[name] - g)) / max(float(np.linalg.norm(g)), least)
        for name, g in expected.items()
    }
    errors["loss"] = abs(value - expected_value) / abs(expected_value)
    worst = max(errors, key=lambda name: (math.isnan(errors[name]), errors[name]))
    return {"ok": errors[worst] <= NET_LIMITS[dtype], "worst": errors[worst], "at": worst}


def gradients(model: xcnn.Model, x: Any, t: Any) -> tuple[float, dict[str, Any]]:
    """The loss of a batch and its gradients on the host, as a training step computes them."""
    backend = model.trainer.backend
    with backend.active():
        run = xcnn.Run(backend, train=True, key=(model.seed, 0), wants_dx=False)
        y, backward = model.trainer.net(model.weights, backend.asarray(x), run)
        value, dy, _ = backend.loss_and_gradient(model.loss, model.trainer.threshold, y, backend.asarray(t))
        _, grads = backward(dy)
    found = {name: g.value if isinstance(g, Next) else g for name, g in tree.items(grads)}
    return float(backend.to_numpy(value)), {name: backend.to_numpy(g) for name, g in found.items()}


def update_errors(session: Session, optimizer: Optimizer) -> dict[str, Any]:
    """How far the weights are from NumPy's after three steps in float64, relative to how far they went."""
    case = picked("lenet:6")
    how: dict[str, Any] = {"loss": case.loss, "optimizer": optimizer, "dtype": "float64"}
    models = [
        xcnn.Model(case.net, case.input_shape, backend=made, **how) for made in (session.made(), session.reference())
    ]
    before = host_weights(models[0])
    for model in models:
        for _ in range(3):
            model.step(*noise(model, 6))
    error = distance(*map(host_weights, models)) / distance(before, host_weights(models[1]))
    return {"ok": error <= NET_LIMITS["float64"], "worst": error}


def host_weights(model: xcnn.Model) -> dict[str, Any]:
    """A model's weights on the host, by their paths."""
    return dict(tree.items(tree.map(model.backend.to_numpy, model.weights)))


def distance(some: dict[str, Any], others: dict[str, Any]) -> float:
    """The Euclidean norm of the difference of all weights together."""
    return math.sqrt(sum(float(np.sum((a.astype("float64") - others[name]) ** 2)) for name, a in some.items()))


def capture(session: Session) -> Iterator[Task]:
    """Weights after 20 captured steps and a smaller batch, and after the same steps one by one: are they equal?"""
    for name in ("article", "lenet", "mnist-net", "small-resnet"):
        for precision in ("float32", *HALVES):
            yield Task(f"{name}, {precision}", partial(capture_errors, session, name, precision))


def capture_errors(session: Session, name: str, precision: str) -> dict[str, Any]:
    """How far the weights are apart, relative to how far they went; and why steps were not captured."""
    case, models = picked(f"{name}:8"), []
    backend = session.made(deterministic=True)
    for compiles in (True, False):
        model = case.model(xcnn.backend(backend, compiles=compiles), precision)
        before = host_weights(model)
        x, t = case.data(*model.output_shape, batches=CAPTURED + 1)
        model.fit(x[:-1], t[:-1], batch_size=case.batch, progress="none")
        models.append(model)
    captured, eager = map(host_weights, models)
    error = distance(captured, eager) / distance(before, eager)
    reason = getattr(models[0].compiled_step, "reason", "")
    return {"ok": error == 0 and not reason, "worst": error, "not captured": reason}
