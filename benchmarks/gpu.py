"""All that is to be known of the CuPy backend on a GPU, in one run of minutes: is it right, and how fast is it?

    python benchmarks/gpu.py --out FOLDER [--minutes 9] [--parts machine,steps] [--data-dir FOLDER] [--dry-run]

FOLDER/gpu.json is written whole after every part, so that a run that is ended early keeps what it had; the tables come
last. A part is a list of tasks: one that fails leaves its traceback and the next one runs, and a part whose time is up
leaves its rest undone. What a part did not need is left to those after it. With --dry-run only the first task of each
part is done, which on a machine without a GPU ends where it would first use one.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import xcnn
from xcnn.bench import gpu
from xcnn.bench.cases import MAPS, RESNET18, CorrelationCase, maps, picked
from xcnn.bench.comparison import computing
from xcnn.bench.timing import geometric_mean
from xcnn.checking import cases as testing_cases
from xcnn.core import tree
from xcnn.core.files import write_whole
from xcnn.errors import DataError
from xcnn.layers.layer import Next
from xcnn.training.optimizers import Optimizer

NETS = ("lenet:64", "mnist-net:64", "resnet18:64", "lenet:128", "mnist-net:256", "small-resnet:64")
"""What must be known first: the time may not suffice for all."""
HALVES = ("bfloat16", "float16")
PRECISIONS = ("float32", "tf32", *HALVES)
LIMITS = {"float32": 1e-5, "tf32": 1e-3, "bfloat16": 1e-2, "float16": 2e-3}
"""Of the relative error of a correlation, in the Euclidean norm."""
NET_LIMITS = {"float64": 1e-9, "float32": 1e-3}
"""Of a net's loss and gradients. A ReLU or a pooling may choose otherwise where float32 rounds two cells alike."""
LAYERS = (
    CorrelationCase(64, 1, 28, 6, 5, padding=2),
    CorrelationCase(64, 6, 14, 16, 5),
    CorrelationCase(64, 32, 26, 64, 3),
    CorrelationCase(4, 3, 224, 64, 7, stride=2, padding=3),
    CorrelationCase(16, 64, 56, 64, 3, padding=1),
    CorrelationCase(16, 128, 28, 256, 3, stride=2, padding=1),
    CorrelationCase(16, 256, 56, 64, 1),
    CorrelationCase(16, 512, 7, 512, 3, padding=1),
)
"""From LeNet's first to one of ResNet-50's."""
ROLES = {"forward": ("forward", "y"), "input adjoint": ("input", "x"), "kernel adjoint": ("kernel", "kernel")}
"""What cuDNN's questions call each map, and the array that it computes."""
TIMED = 20
"""Runs of a plan whose median counts."""
CACHE = 2**27
"""Bytes of inputs that go through a plan in turn, more than a GPU's cache holds."""
HOST_CALLS = 200
CAPTURED = 20
"""Steps whose weights are compared, and a smaller batch after them."""
ACCURACY = 0.99


@dataclass
class Session:
    """What the parts are given.

    Parameters
    ----------
    backend
        that is examined
    against
        what its nets are compared with
    seconds
        to time each of PyTorch's and our steps, beside what their warm-ups take
    nets
        whose steps are timed, as NAME:BATCH
    """

    backend: str | xcnn.Backend = "cupy"
    against: str = "numpy"
    data_dir: Path | None = None
    seconds: float = 0.5
    nets: tuple[str, ...] = NETS
    ceilings: dict[str, dict[str, float]] = field(default_factory=dict)

    def made(self, **options: Any) -> xcnn.Backend:
        """The backend with these options."""
        return xcnn.backend(self.backend, **options)

    def ceiling(self, precision: str) -> dict[str, float]:
        """GFLOP/s of a large matrix product by both libraries, measured once."""
        if precision not in self.ceilings:
            self.ceilings[precision] = gpu.ceilings(self.made(), True, 0.1, precision)
        return self.ceilings[precision]


@dataclass(frozen=True)
class Task:
    """A piece of a part: its name, and what it finds, as plain values."""

    name: str
    find: Callable[[], Any]


Part = Callable[[Session], Iterator[Task]]


# The machine.


def machine(session: Session) -> Iterator[Task]:
    """Versions, the device's properties, and two ceilings: GB/s of a copy, GFLOP/s of a matrix product."""
    yield Task("software", software)
    yield Task("backend", lambda: about(session.made()))
    yield Task("properties", lambda: properties(session.made()))
    yield Task("copy, GB/s", lambda: copy_bandwidth(session.made()))
    for precision in PRECISIONS:
        yield Task(f"product, {precision}", partial(session.ceiling, precision))


def software() -> dict[str, Any]:
    """Versions of what runs on the host, and of PyTorch."""
    from xcnn.bench.torch_side import torch

    theirs = {"torch": torch.__version__, "torch's cudnn": torch.backends.cudnn.version()}
    return {"python": platform.python_version(), "numpy": np.__version__, **theirs, "processor": platform.processor()}


def about(backend: xcnn.Backend) -> dict[str, Any]:
    """The backend with its options, its device, and versions beneath."""
    return {"backend": repr(backend), "device": backend.device_name(), **backend.versions()}


def properties(backend: xcnn.Backend) -> dict[str, int]:
    """What CUDA tells of the device."""
    told = import_module("cupy").cuda.runtime.getDeviceProperties(int(backend.device or 0))
    return {name: value for name, value in told.items() if isinstance(value, int)}


def copy_bandwidth(backend: xcnn.Backend) -> float:
    """GB/s read and written together."""
    x = backend.asarray(np.random.default_rng(0).random(2**28, dtype="float32"))
    copy = gpu.repeated(backend, lambda: backend.xp.asarray(x, copy=True), TIMED)
    copy()
    begun = time.perf_counter()
    copy()
    return float(2 * TIMED * x.nbytes / (time.perf_counter() - begun) / 1e9)


# Is it right?


def plans(session: Session) -> Iterator[Task]:
    """Every plan of cuDNN's for eight layers, three maps and four precisions against float64, into poisoned memory."""
    for case in LAYERS:
        for precision in PRECISIONS:
            yield Task(f"{case}, {precision}", partial(plan_errors, session, case, precision))


def plan_errors(session: Session, case: CorrelationCase, precision: str) -> dict[str, Any]:
    """The error of each plan by its map; and that of what the backend itself does."""
    policy = xcnn.training.precision.PRECISIONS[precision]
    layout = "NCHW" if precision in gpu.STRICT else "channels_last"
    rounded = {name: rounded_to(a, policy.compute) for name, a in zip(("x", "kernel", "y"), case.data(), strict=True)}
    expected = definition(case, rounded)
    backend = session.made().with_precision(policy)
    with backend.active():
        there = {name: gpu.laid_out(backend, a, policy.compute, layout) for name, a in rounded.items()}
        calls = maps(case, backend, there["x"], there["kernel"], there["y"])
        found: dict[str, Any] = {}
        for name in MAPS:
            rows = [
                {**about_plan(plan), "error": relative_error(on_host(backend, written), expected[name])}
                for plan, written in executed(backend, case, name, there)
            ]
            chosen = relative_error(on_host(backend, calls[name]()), expected[name])
            worst = max([chosen, *(row["error"] for row in rows)], key=lambda error: (math.isnan(error), error))
            found[name] = {"ok": worst <= LIMITS[precision], "worst": worst, "chosen": chosen, "plans": rows}
    return found


def rounded_to(array: np.ndarray[Any, Any], dtype: str) -> np.ndarray[Any, Any]:
    """The numbers, as float32, that an array has in this type."""
    if dtype == "bfloat16":
        return array.astype(import_module("ml_dtypes").bfloat16).astype("float32")
    return array.astype(dtype).astype("float32")


def definition(case: CorrelationCase, arrays: dict[str, Any]) -> dict[str, Any]:
    """The three maps in float64 on the host."""
    host = xcnn.backend("numpy", algorithm="gemm")
    x, k, dy = (arrays[name].astype("float64") for name in ("x", "kernel", "y"))
    return {name: compute() for name, compute in maps(case, host, x, k, dy).items()}


def questions(backend: Any, case: CorrelationCase, name: str, dtype: Any) -> Any:
    """What cuDNN is asked for a map of arrays of this type."""
    how = {**case.how, "dilation": (1, 1)}
    return backend.convolutions.question(ROLES[name][0], case.x_shape, case.k_shape, dtype, how)


def executed(backend: Any, case: CorrelationCase, name: str, there: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    """Each plan of a map, and what it has written over NaN."""
    role = ROLES[name][1]
    for plan in backend.gpu.plans.candidates(questions(backend, case, name, there["x"].dtype)):
        written = poisoned(backend, there[role])
        backend.gpu.execute(plan, {**there, role: written})
        yield plan, written


def poisoned(backend: xcnn.Backend, array: Any) -> Any:
    """NaN in the shape, type and order of memory of images."""
    layout = "NCHW" if array.strides == np.empty(array.shape, array.dtype).strides else "channels_last"
    nothing = np.full(array.shape, math.nan, "float32")
    return gpu.laid_out(backend, nothing, str(array.dtype), layout)


def on_host(backend: xcnn.Backend, array: Any) -> Any:
    """An array of any floating type on the host, half precision as float32."""
    halves = str(array.dtype) in HALVES
    return backend.to_numpy(backend.astype(array, "float32") if halves else array)


def about_plan(plan: Any) -> dict[str, Any]:
    """A plan's engine, its knobs and its workspace in bytes."""
    return {"engine": plan.choice.engine, "knobs": list(plan.choice.knobs), "workspace": plan.workspace}


def relative_error(got: Any, expected: np.ndarray[Any, Any]) -> float:
    """||got - expected|| / ||expected||"""
    difference = np.linalg.norm(np.asarray(got, "float64") - expected)
    return float(difference / np.linalg.norm(expected))


def algorithms(session: Session) -> Iterator[Task]:
    """Each algorithm's three maps against float64, the article's by cupyx.scipy.signal among them."""
    case = CorrelationCase(2, 4, 13, 6, 3, stride=2, groups=2, padding=1)
    for algorithm in ("literal", "gemm", "cudnn", "auto"):
        for dtype, limit in (("float64", 1e-12), ("float32", 1e-5)):
            yield Task(f"{algorithm}, {dtype}", partial(algorithm_errors, session, case, algorithm, dtype, limit))


def algorithm_errors(
    session: Session, case: CorrelationCase, algorithm: str, dtype: str, limit: float
) -> dict[str, dict[str, Any]]:
    """The error of each map."""
    arrays = dict(zip(("x", "kernel", "y"), case.data(), strict=True))
    expected = definition(case, arrays)
    backend = session.made(algorithm=algorithm)
    there = [backend.asarray(array, dtype) for array in arrays.values()]
    with backend.active():
        got = {name: compute() for name, compute in maps(case, backend, *there).items()}
    errors = {name: relative_error(backend.to_numpy(y), expected[name]) for name, y in got.items()}
    return {name: {"ok": error <= limit, "worst": error} for name, error in errors.items()}


def primitives(session: Session) -> Iterator[Task]:
    """Each primitive in every configuration against the reference, in float64 and in float32."""
    for name in testing_cases.CALLS:
        yield Task(name, partial(primitive_errors, session, name))


def primitive_errors(session: Session, name: str) -> dict[str, float]:
    """What `xcnn.testing` measures; it raises where an error is too large."""
    return testing_cases.check_primitive(name, testing_cases.CALLS[name], session.made()).errors


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


def random_net(seed: int) -> tuple[xcnn.Sequential, tuple[int, int, int]]:
    """A net of layers drawn by chance, for ten classes, and the shape of its images."""
    rng = np.random.default_rng(seed)
    channels = int(rng.integers(1, 5))
    input_shape = (channels, int(rng.integers(17, 30)), int(rng.integers(17, 30)))
    layers: list[Any] = []
    for _ in range(int(rng.integers(1, 4))):
        layers += random_block(rng)
    if rng.random() < 0.5:
        layers += [xcnn.GlobalAveragePool2D()]
    else:
        layers += [xcnn.Flatten(), xcnn.Dropout(0.3), xcnn.Dense(int(rng.integers(9, 40))), xcnn.ReLU()]
    return xcnn.Sequential(*layers, xcnn.Dense(10)), input_shape


def random_block(rng: np.random.Generator) -> list[Any]:
    """A convolution and what may follow it."""
    filters, size = int(rng.integers(3, 20)), int(rng.integers(1, 6))
    bias = (True, False, "untied")[int(rng.integers(3))]
    block: list[Any] = [xcnn.Conv2D(filters, size, stride=int(rng.integers(1, 3)), padding="same", bias=bias)]
    if rng.random() < 0.5:
        block.append(xcnn.BatchNorm())
    block.append((xcnn.ReLU(), xcnn.Sigmoid(), xcnn.Tanh(), xcnn.LeakyReLU())[int(rng.integers(4))])
    if rng.random() < 0.5:
        pool = xcnn.MaxPool2D if rng.random() < 0.5 else xcnn.AveragePool2D
        block.append(pool(int(rng.integers(2, 4)), stride=int(rng.integers(1, 3)), padding="same"))
    if rng.random() < 0.5:
        inner = xcnn.Conv2D(filters, 3, padding="same", bias=False), xcnn.BatchNorm()
        block += [xcnn.Residual(*inner), xcnn.ReLU()]
    if rng.random() < 0.5:
        block.append(xcnn.Dropout(0.25))
    return block


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
        for made in (session.made(), xcnn.backend(session.against))
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
        xcnn.Model(case.net, case.input_shape, backend=made, **how)
        for made in (session.made(), xcnn.backend(session.against))
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


# How fast is it?


def steps(session: Session) -> Iterator[Task]:
    """Whole training steps, captured and one by one, beside PyTorch's: eager, channels_last, CUDA-graphed."""
    for choice in session.nets:
        for precision in PRECISIONS:
            yield Task(f"{choice}, {precision}", partial(timed_steps, session, choice, precision))


def timed_steps(session: Session, choice: str, precision: str) -> dict[str, Any]:
    """As `xcnn bench` has it."""
    result, _ = gpu.compare_steps(picked(choice), session.made(), True, session.seconds, precision)
    return result.to_dict(max(session.ceiling(precision).values()))


def correlations(session: Session) -> Iterator[Task]:
    """The convolutions of ResNet-18, one by one, beside PyTorch's in both orders of memory."""
    for case in RESNET18:
        for precision in PRECISIONS:
            yield Task(f"{case}, {precision}", partial(timed_correlations, session, case, precision))


def timed_correlations(session: Session, case: CorrelationCase, precision: str) -> dict[str, Any]:
    """As `xcnn bench` has it."""
    results = gpu.compare_correlations(case, session.made(), True, 0.0, precision)
    ceiling = max(session.ceiling(precision).values())
    return {name: result.to_dict(ceiling) for name, result in results.items()}


def mnist(session: Session) -> Iterator[Task]:
    """Seconds by the wall clock until mnist-net recognises 99 % of MNIST's test images."""
    for precision in ("tf32", "bfloat16", "float32"):
        yield Task(precision, partial(seconds_to_accuracy, session, precision))


def seconds_to_accuracy(session: Session, precision: str) -> dict[str, Any]:
    """From the making of the model to the end of the epoch that got there, whatever is compiled in between."""
    (x, t), test = digits(session.data_dir)
    backend = session.made()
    options: dict[str, Any] = {"optimizer": xcnn.AdamW(2e-3), "backend": backend, "precision": precision}
    begun = time.perf_counter()
    model = xcnn.Model(xcnn.nets.mnist_net(), (1, 28, 28), **options)
    history = model.fit(x, t, epochs=15, batch_size=128, validation_data=test, callbacks=[is_accurate], progress="none")
    seconds = time.perf_counter() - begun
    epochs = [row["seconds"] for row in history]
    return {"seconds": seconds, "epochs": epochs, "accuracy": [row["val_accuracy"] for row in history]}


def is_accurate(model: xcnn.Model, history: xcnn.History) -> bool:
    """A callback that ends training."""
    return bool(history.rows[-1]["val_accuracy"] >= ACCURACY)


@cache
def digits(folder: Path | None) -> Any:
    """MNIST, from a folder alone: nothing is downloaded here."""
    if folder is None and not os.environ.get("XCNN_DATA_DIR"):
        raise DataError("X205", "no folder of MNIST's files was named.", hint="give --data-dir, or XCNN_DATA_DIR.")
    return xcnn.datasets.mnist(folder)


def host(session: Session) -> Iterator[Task]:
    """Microseconds of the processor's time for a call, while the GPU does what it was given before."""
    case = CorrelationCase(8, 16, 8, 16, 3, padding=1)
    yield Task("convolution", lambda: host_microseconds(session.made(), case))
    yield Task("pooling, one launch", lambda: pooling_microseconds(session.made()))
    yield Task("PyTorch's convolution", lambda: torch_microseconds(session, case))
    yield Task("eager step of lenet:1", lambda: step_microseconds(session))


def host_microseconds(backend: xcnn.Backend, case: CorrelationCase) -> float:
    """Of a small convolution."""
    x, k, dy = map(backend.asarray, case.data())
    return per_call(backend, maps(case, backend, x, k, dy)["forward"])


def pooling_microseconds(backend: xcnn.Backend) -> float:
    """Of a pooling, which is one launch of an own kernel."""
    x = backend.asarray(np.ones((8, 16, 8, 8), "float32"))
    return per_call(backend, lambda: backend.max_pool(x, (2, 2), stride=(2, 2)))


def per_call(backend: xcnn.Backend, call: Callable[[], object]) -> float:
    """Microseconds until a call returns."""
    with backend.active():
        for _ in range(HOST_CALLS):
            call()
        backend.synchronize()
        begun = time.perf_counter()
        for _ in range(HOST_CALLS):
            call()
        taken = time.perf_counter() - begun
        backend.synchronize()
    return 1e6 * taken / HOST_CALLS


def torch_microseconds(session: Session, case: CorrelationCase) -> float:
    """The same convolution by PyTorch."""
    from xcnn.bench import torch_gpu
    from xcnn.bench.torch_side import torch

    backend = session.made()
    device = gpu.torch_device(backend)
    torch_gpu.check_device(device)
    x, k, _ = (torch.tensor(array, device=device) for array in case.data())
    return per_call(backend, partial(torch.nn.functional.conv2d, x, k, padding=case.padding))


def step_microseconds(session: Session) -> float:
    """Of a step of one image, taken by itself."""
    case = picked("lenet:1")
    model = case.model(session.made())
    data = case.data(*model.output_shape)
    return per_call(model.backend, lambda: model.step(*data))


def plan_times(session: Session) -> Iterator[Task]:
    """Each of cuDNN's plans for ResNet-18's and LeNet's convolutions: microseconds on the device."""
    for case in (*RESNET18, *LAYERS[:3]):
        for precision in PRECISIONS:
            yield Task(f"{case}, {precision}", partial(timed_plans, session, case, precision))


def timed_plans(session: Session, case: CorrelationCase, precision: str) -> dict[str, list[dict[str, Any]]]:
    """By map, in the order of cuDNN's guess."""
    made, policy = computing(session.made(), precision)
    backend: Any = made
    layout = "NCHW" if precision in gpu.STRICT else "channels_last"
    bytes_of_one = sum(array.nbytes for array in case.data())
    with backend.active():
        inputs = [
            {
                name: gpu.laid_out(backend, array, policy.compute, layout)
                for name, array in zip(("x", "kernel", "y"), case.data(), strict=True)
            }
            for _ in range(min(max(CACHE // bytes_of_one, 1), 8))
        ]
        return {
            name: [
                {**about_plan(plan), "microseconds": plan_microseconds(backend, plan, inputs)}
                for plan in backend.gpu.plans.candidates(questions(backend, case, name, inputs[0]["x"].dtype))
            ]
            for name in MAPS
        }


def plan_microseconds(backend: Any, plan: Any, inputs: list[dict[str, Any]]) -> float:
    """The median over runs on these inputs in turn, between two events each."""
    cuda = import_module("cupy").cuda
    events = [(cuda.Event(), cuda.Event()) for _ in range(TIMED)]
    for n in range(-2, TIMED):
        if n >= 0:
            events[n][0].record()
        backend.gpu.execute(plan, inputs[n % len(inputs)])
        if n >= 0:
            events[n][1].record()
    events[-1][1].synchronize()
    return float(median(1e3 * cuda.get_elapsed_time(*pair) for pair in events))


PARTS: dict[str, tuple[Part, float]] = {
    "machine": (machine, 30),
    "primitives": (primitives, 20),
    "algorithms": (algorithms, 15),
    "nets": (nets, 45),
    "capture": (capture, 35),
    "plans": (plans, 50),
    "steps": (steps, 180),
    "mnist": (mnist, 25),
    "correlations": (correlations, 110),
    "host": (host, 5),
    "plan-times": (plan_times, 25),
}
"""Each part by its name, and its share of the time."""


# The run.


def run(session: Session, names: list[str], minutes: float, out: Path, dry: bool) -> dict[str, Any]:
    """Do the parts, each until its share of the time is over; the report, which is also written to out."""
    report: dict[str, Any] = {"schema": "xcnn.gpu.1", "parts": {}}
    shares = [PARTS[name][1] for name in names]
    begun = time.perf_counter()
    for n, name in enumerate(names):
        until = begun + 60 * minutes * sum(shares[: n + 1]) / sum(shares)
        report["parts"][name] = run_part(session, name, until, dry)
        report["seconds"] = time.perf_counter() - begun
        write_whole(out, (json.dumps(plain(report), indent=1) + "\n").encode())
    return report


def run_part(session: Session, name: str, until: float, dry: bool) -> dict[str, Any]:
    """What a part's tasks found, what failed and why, and which were left undone."""
    part, _ = PARTS[name]
    begun, tasks = time.perf_counter(), list(part(session))
    found: dict[str, Any] = {"about": part.__doc__, "results": {}, "errors": {}, "undone": []}
    print(f"{name}: {part.__doc__}", flush=True)
    for n, task in enumerate(tasks):
        if time.perf_counter() > until or (dry and n):
            found["undone"] = [task.name for task in tasks[n:]]
            print(f"  left undone, {len(tasks) - n}: {shortened('; '.join(found['undone']))}", flush=True)
            break
        try:
            found["results"][task.name] = task.find()
            print(f"  {task.name}: {told(found['results'][task.name])}", flush=True)
        except Exception as error:
            message = " ".join(f"{type(error).__name__}: {error}".split())
            found["errors"][task.name] = {"message": message, "traceback": traceback.format_exc()}
            print(f"  {task.name}: {shortened(message)}", flush=True)
    found["seconds"] = time.perf_counter() - begun
    return found


def told(result: Any) -> str:
    """What is printed of a result while the run goes on."""
    if isinstance(result, float):
        return f"{result:.4g}"
    wrong = [f"{label} {check['worst']}" for label, check in checked({"": result}) if not check["ok"]]
    return f"WRONG{', '.join(wrong)}" if wrong else "done"


def shortened(text: str) -> str:
    """At most as much of a text as fits into a few lines."""
    return text if len(text) <= 300 else f"{text[:300]} ..."


def plain(value: Any) -> Any:
    """A value as JSON has it: numbers that are not finite by their names."""
    match value:
        case dict():
            return {str(name): plain(one) for name, one in value.items()}
        case list() | tuple():
            return [plain(one) for one in value]
        case bool() | int() | str() | None:
            return value
        case float() if math.isfinite(value):
            return value
    return str(value)


# The tables.


def summary(report: dict[str, Any]) -> str:
    """What was right and what not, then how fast, in Markdown."""
    parts = report["parts"]
    written = [*correctness(parts)]
    if parts.get("steps", {}).get("results"):
        written += ["", *step_table(parts["steps"]["results"])]
    if parts.get("correlations", {}).get("results"):
        written += ["", *correlation_table(parts["correlations"]["results"])]
    for precision, found in parts.get("mnist", {}).get("results", {}).items():
        reached = f"{found['accuracy'][-1]:.2%} after {len(found['epochs'])} epochs"
        written.append(f"MNIST, {precision}: {found['seconds']:.1f} s by the wall clock, {reached}")
    return "\n".join(written)


def correctness(parts: dict[str, Any]) -> Iterator[str]:
    """A line for each part: how many results are right, how many tasks failed; and a line for each of those."""
    for name, part in parts.items():
        checks = dict(checked(part["results"]))
        wrong = [label for label, check in checks.items() if not check["ok"]]
        counts = f"{len(part['results'])} tasks done, {len(part['errors'])} failed, {len(part['undone'])} left"
        yield f"{name}: {counts}" + (f"; {len(checks) - len(wrong)} of {len(checks)} are right" if checks else "")
        yield from (f"  WRONG {label}: {checks[label]['worst']}" for label in wrong)
        yield from (f"  FAILED {task}: {shortened(error['message'])}" for task, error in part["errors"].items())


def checked(results: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """The results, however deep, that say whether they are right."""
    for name, result in results.items():
        if isinstance(result, dict):
            label = f"{path}{name}"
            if "ok" in result:
                yield label, result
            yield from checked(result, f"{label}, ")


def step_table(results: dict[str, Any]) -> Iterator[str]:
    """A row for each net and precision."""
    yield "| net:batch, precision | xcnn, ms | as | torch, ms | as | torch / xcnn | eager | graphed | MiB | torch |"
    yield "|---" * 10 + "|"
    for name, row in results.items():
        ours, theirs, memory = row["ours"], row["torch"], row["memory_bytes"] or {}
        taken = (f"{memory[side] / 2**20:.0f}" if side in memory else "" for side in ("xcnn", "torch"))
        ratios = (row["ratio"], row["ratio_to_eager"], row["ratio_to_graphed"])
        cells = (
            name, f"{ours['median_ms']:.4g}", ours["way"], f"{theirs['median_ms']:.4g}", theirs["way"],
            *("" if ratio is None else f"{ratio:.2f}" for ratio in ratios), *taken,
        )  # fmt: skip
        yield f"| {' | '.join(cells)} |"


def correlation_table(results: dict[str, Any]) -> Iterator[str]:
    """A row for each precision: the mean ratio of each map, and the worst of all with its name."""
    yield f"| convolutions of ResNet-18, torch / xcnn | {' | '.join(MAPS)} | worst |"
    yield "|---" * (len(MAPS) + 2) + "|"
    for precision in PRECISIONS:
        rows = {name: row for name, row in results.items() if name.endswith(f", {precision}")}
        if rows:
            mean = (f"{geometric_mean([row[name]['ratio'] for row in rows.values()]):.2f}" for name in MAPS)
            ratios = {f"{label}, {name}": row[name]["ratio"] for label, row in rows.items() for name in MAPS}
            worst = min(ratios, key=lambda label: ratios[label])
            yield f"| {precision} | {' | '.join(mean)} | {ratios[worst]:.2f}: {worst} |"


def main() -> None:
    """Run the parts that are asked for, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--minutes", type=float, default=9.0, help="that all parts may take together")
    parser.add_argument("--parts", default=",".join(PARTS), help="some of them, by commas")
    parser.add_argument("--data-dir", type=Path, metavar="FOLDER", help="where MNIST's files lie, or XCNN_DATA_DIR")
    parser.add_argument("--backend", default="cupy")
    parser.add_argument("--dry-run", action="store_true", help="the first task of each part, no more")
    options = parser.parse_args()
    names = options.parts.split(",")
    if not set(names) <= set(PARTS):
        parser.error(f"there are the parts {', '.join(PARTS)}")
    options.out.mkdir(parents=True, exist_ok=True)
    session = replace(Session(options.backend), data_dir=options.data_dir)
    file = options.out / "gpu.json"
    report = run(session, names, options.minutes, file, options.dry_run)
    print("\n" + summary(report))
    print(file, file=sys.stderr)


if __name__ == "__main__":
    main()
