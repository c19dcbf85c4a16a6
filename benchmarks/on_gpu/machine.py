"""The machine: versions, properties, ceilings."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from functools import partial
from importlib import import_module, metadata
from typing import Any

import xcnn
from on_gpu.session import PRECISIONS, Session, Task
from xcnn.bench import gpu

COPIED, COPIES = 2**30, 20
"""Bytes of an array that is copied, and how often."""


def machine(session: Session) -> Iterator[Task]:
    """Versions, the device's properties, and two ceilings: GB/s of a copy, GFLOP/s of a matrix product."""
    yield Task("software", software)
    yield Task("PyTorch's cuDNN", torch_cudnn)
    yield Task("backend", lambda: about(session.made()))
    yield Task("properties", lambda: properties(session.made()))
    yield Task("copy, GB/s", lambda: copy_bandwidth(session.made()))
    for precision in PRECISIONS:
        yield Task(f"product, {precision}", partial(session.ceiling, precision))


def software() -> dict[str, Any]:
    """Versions of what runs on the host. PyTorch, which takes seconds to load, is not asked but looked up."""
    versions = {name: installed(name) for name in ("xcnn", "numpy", "torch", "array-api-compat")}
    return {"python": platform.python_version(), **versions, "processor": platform.processor()}


def installed(name: str) -> str | None:
    """The version of a package; None where there is none."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def torch_cudnn() -> int | None:
    """Its version, as PyTorch tells it."""
    from xcnn.bench.torch_side import torch

    version: int | None = torch.backends.cudnn.version()
    return version


def about(backend: xcnn.Backend) -> dict[str, Any]:
    """The backend with its options, its device, and versions beneath."""
    return {"backend": repr(backend), "device": backend.device_name(), **backend.versions()}


def properties(backend: xcnn.Backend) -> dict[str, int]:
    """What CUDA tells of the device."""
    told = import_module("cupy").cuda.runtime.getDeviceProperties(int(backend.device or 0))
    return {name: value for name, value in told.items() if isinstance(value, int)}


def copy_bandwidth(backend: xcnn.Backend) -> float:
    """GB/s read and written together."""
    with backend.active():
        x = backend.xp.ones(COPIED // 4, dtype=backend.xp.float32)
    copy = gpu.repeated(backend, lambda: backend.xp.asarray(x, copy=True), COPIES)
    copy()
    begun = time.perf_counter()
    copy()
    return float(2 * COPIES * x.nbytes / (time.perf_counter() - begun) / 1e9)
