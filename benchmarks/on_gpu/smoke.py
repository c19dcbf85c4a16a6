"""Is the rest worth its time? Each way that could fail as a whole is gone once, with little work."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

import xcnn
from on_gpu.clock import microseconds, torch_microseconds
from on_gpu.machine import about, software
from on_gpu.nets import capture_errors
from on_gpu.plans import LIMITS, definition, in_both_halves, relative_error
from on_gpu.session import HALVES, PRECISIONS, Session, Task
from xcnn.bench import gpu
from xcnn.bench.cases import CorrelationCase, maps, picked

SMALL = CorrelationCase(4, 16, 14, 32, 3, padding=1)
DENSE = (64, 9216, 128)
"""Images, features and units of mnist-net's first dense layer, whose product has few cells and long sums."""
KEPT = 2**22
"""Bytes that may be gone when a model is: the device hands out memory in pieces of 2 MiB."""


def smoke(session: Session) -> Iterator[Task]:
    """Versions, kernels, a convolution in each precision, NaN, capture, memory, and the products of a dense layer."""
    yield Task("software", software)
    yield Task("backend", lambda: about(session.made()))
    yield Task("kernels", compile_all)
    for precision in PRECISIONS:
        yield Task(f"convolution, {precision}", partial(convolution_errors, session, precision))
    for precision in PRECISIONS:
        yield Task(f"NaN, {precision}", partial(nan_kept, session, precision))
    for precision in ("float32", "bfloat16"):
        yield Task(f"capture of lenet, {precision}", partial(capture_errors, session, "lenet", precision))
    yield Task("memory", lambda: memory_kept(session))
    for precision in PRECISIONS:
        yield Task(f"products, {precision}", partial(product_errors, session, precision))
    for precision in ("float32", "tf32", "bfloat16"):
        yield Task(f"product, {precision}", partial(product_microseconds, session, precision))


def compile_all() -> dict[str, float]:
    """Seconds to compile each file of kernels, or to take them from CuPy's cache."""
    from xcnn_cupy.cuda import compiled
    from xcnn_cupy.kernels.instances import INSTANCES

    taken: dict[str, float] = {}
    for kernel in INSTANCES:
        begun = time.perf_counter()
        compiled(kernel)
        taken[kernel.file] = taken.get(kernel.file, 0.0) + time.perf_counter() - begun
    return taken


def convolution_errors(session: Session, precision: str) -> dict[str, Any]:
    """The error of each map, as the backend computes it, against float64."""
    policy = xcnn.training.precision.PRECISIONS[precision]
    arrays, expected = definition(session, SMALL, precision in HALVES)
    backend = session.made().with_precision(policy)
    layout = "NCHW" if precision in gpu.STRICT else "channels_last"
    with backend.active():
        there = (gpu.laid_out(backend, arrays[name], policy.compute, layout) for name in ("x", "kernel", "y"))
        calls = maps(SMALL, backend, *there)
        errors = {name: relative_error(backend, call(), expected[name]) for name, call in calls.items()}
    return {name: {"ok": error <= LIMITS[precision], "worst": error} for name, error in errors.items()}


def nan_kept(session: Session, precision: str) -> dict[str, Any]:
    """Are the right cells NaN after convolution, bias and each activation, where one cell of an image was?

    For ReLU it is told whether cuDNN's plan ends in it ("in the plan"). It does not where a NaN does not pass through:
    the backend tries that when it chooses a plan, and then has a kernel of its own.
    """
    found: dict[str, dict[str, Any]] = {}
    compute = xcnn.training.precision.PRECISIONS[precision].compute
    for layer in (xcnn.ReLU(), xcnn.Sigmoid(), xcnn.Tanh()):
        net = xcnn.Sequential(xcnn.Conv2D(8, 3), layer, xcnn.MaxPool2D(1))  # a last activation is computed by itself
        backend = session.made()
        model = xcnn.Model(net, (8, 10, 10), loss="mse", backend=backend, precision=precision)
        x = np.random.default_rng(0).standard_normal((4, 8, 10, 10)).astype("float32")
        x[1, 2, 5, 5] = math.nan
        run = xcnn.Run(model.backend, train=True, key=(0, 0), wants_dx=False)
        with model.trainer.backend.active():
            y, _ = model.trainer.net(model.weights, model.trainer.backend.asarray(x), run)
            got = np.isnan(model.backend.to_numpy(model.backend.astype(y, "float32")))
        wanted = np.zeros_like(got)
        wanted[1, :, 3:6, 3:6] = True
        found[type(layer).__name__] = {"ok": bool((got == wanted).all()), "worst": int((got != wanted).sum())}
        if isinstance(layer, xcnn.ReLU):
            found["ReLU"]["in the plan"] = ends_in_relu(model.trainer.backend, compute, x.shape)
    return found


def ends_in_relu(backend: Any, dtype: str, x_shape: Any) -> bool:
    """Whether cuDNN has a plan for convolution, bias and ReLU."""
    how = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}
    with backend.active():
        convolutions, fused = backend.convolutions, {"bias": True, "activation": "relu"}
        asked = convolutions.question("forward", x_shape, (8, 8, 3, 3), dtype, how, **fused)
        return bool(backend.gpu.has_plan(asked))


def memory_kept(session: Session) -> dict[str, Any]:
    """Bytes that are free before a model trains in captured steps, while it is there, and when it is gone."""
    runtime = import_module("cupy").cuda.runtime
    backend = session.made()

    def free() -> int:
        gpu.release(backend)
        bytes_free: int = runtime.memGetInfo()[0]
        return bytes_free

    def trained() -> xcnn.Model:
        case = picked("lenet:64")
        model = case.model(backend)
        x, t = case.data(*model.output_shape, batches=4)
        model.fit(x, t, batch_size=case.batch, progress="none")
        return model

    with backend.active():
        trained()  # kernels and plans are loaded by now, and stay
        gc.collect()
        before = free()
        model = trained()
        there = free()
        del model
        after = free()
    gone = before - after
    return {"free": before, "with a model": there, "without it": after, "ok": gone <= KEPT, "worst": gone}


def product_ways(session: Session) -> dict[str, xcnn.Backend]:
    """Backends by who computes a dense layer's products on them: cuDNN, cublasLt, or the one of both that is taken."""
    asked = {"cuDNN": {"algorithm": "cudnn"}, "cublasLt": {"algorithm": "gemm"}, "taken": {}}
    ways: dict[str, xcnn.Backend] = {name: session.made(**options) for name, options in asked.items()}
    tuned = {f"{name}, {how}": one for name, way in ways.items() for how, one in gpu.tuned_too(way).items()}
    return ways | tuned


def product_errors(session: Session, precision: str) -> dict[str, Any]:
    """The error of each product of a dense layer, by who computes it, against float64."""
    policy = xcnn.training.precision.PRECISIONS[precision]
    x, w, dy = dense_arrays(precision in HALVES)
    expected = {"X W": wide(x) @ wide(w), "dY Wt": wide(dy) @ wide(w).T, "Xt dY": wide(x).T @ wide(dy)}
    found = {}
    for name, made in product_ways(session).items():
        backend: Any = made.with_precision(policy)
        with backend.active():
            x_there, w_there, dy_there = (backend.astype(backend.asarray(a), policy.compute) for a in (x, w, dy))
            rows = backend.rows
            got = {
                "X W": rows.forward(x_there, w_there),
                "dY Wt": rows.input_adjoint(dy_there, w_there),
                "Xt dY": rows.kernel_adjoint(x_there, dy_there),
            }
            for product, y in got.items():
                error = relative_error(backend, y, backend.asarray(expected[product]))
                found[f"{name}, {product}"] = {"ok": error <= LIMITS[precision], "worst": error}
    return found


def dense_arrays(halves: bool) -> tuple[Any, Any, Any]:
    """Images, weights and gradients: noise, that both halves have, or any."""
    rng, (images, features, units) = np.random.default_rng(0), DENSE
    shapes = (images, features), (features, units), (images, units)
    drawn = (rng.standard_normal(shape, dtype="float32") for shape in shapes)
    x, w, dy = (in_both_halves(array) if halves else array for array in drawn)
    return x, w, dy


def wide(x: Any) -> Any:
    """In float64."""
    return x.astype("float64")


def product_microseconds(session: Session, precision: str) -> dict[str, float]:
    """Of Y = X W by cuDNN's first plan and by its fastest, by cublasLt's, by what is taken, and by PyTorch."""
    policy = xcnn.training.precision.PRECISIONS[precision]
    x, w, _ = dense_arrays(precision in HALVES)
    found = {
        name: dense_microseconds(backend.with_precision(policy), policy.compute, x, w)
        for name, backend in product_ways(session).items()
    }
    from xcnn.bench.torch_gpu import check_device, switches  # it takes seconds: nothing waits for them but this
    from xcnn.bench.torch_side import torch

    device = gpu.torch_device(session.made())
    check_device(device)
    dtype = getattr(torch, policy.compute)
    x_there, w_there = (torch.tensor(array, dtype=dtype, device=device) for array in (x, w))
    with switches(precision == "tf32", benchmark=True):
        found["torch.mm"] = torch_microseconds(torch, lambda: torch.mm(x_there, w_there))
    return found


def dense_microseconds(backend: Any, dtype: str, x: Any, w: Any) -> float:
    """Of the product as a dense layer has it computed."""
    with backend.active():
        x, w = (backend.astype(backend.asarray(array), dtype) for array in (x, w))
    return microseconds(backend, lambda n: backend.rows.forward(x, w))
