"""How fast are steps, convolutions, a training to 99 % and single calls?"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

import xcnn
from on_gpu.session import PRECISIONS, Session, Task
from xcnn.bench import gpu
from xcnn.bench.cases import RESNET18, CorrelationCase, maps, picked
from xcnn.errors import DataError

HOST_CALLS = 200
ACCURACY = 0.99


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
