"""What float32 means to PyTorch: switches of the whole process, set for a block and put back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeAlias

import torch

Switch: TypeAlias = tuple[Any, str, Any]
"""An object, the name of its attribute, and the value that it shall have."""

NAMED = hasattr(torch.backends.cuda.matmul, "fp32_precision")
"""Whether precisions have names, as since PyTorch 2.9; before there were only CUDA's switches, true or false."""


ON_CPU: tuple[Any, ...] = (torch.backends.mkldnn.matmul, torch.backends.mkldnn.conv) if NAMED else ()  # type: ignore[attr-defined]
"""What has a precision on a CPU."""
EXACT = ("none", "ieee")
"""The precisions there that round nothing before it is multiplied."""


def float32_as(device: str, tf32: bool) -> AbstractContextManager[object]:
    """For a `with` block: products and convolutions of float32 are exact on this kind of device, or TF32 on CUDA."""
    wanted = switches(device, tf32)
    return nullcontext() if all(getattr(at, name) == value for at, name, value in wanted) else switched(wanted)


def switches(device: str, tf32: bool) -> list[Switch]:
    """What has to be set, where it is not so already.

    Convolutions are TF32 on CUDA unless one says otherwise. On a CPU torch.set_float32_matmul_precision("medium") lets
    oneDNN round to bfloat16.
    """
    if not NAMED:
        cuda = (torch.backends.cuda.matmul, torch.backends.cudnn) if device == "cuda" else ()
        return [(at, "allow_tf32", tf32) for at in cuda]
    if device == "cuda":
        backends: Any = torch.backends
        found = [backends.cuda.matmul, backends.cudnn.conv]
    else:
        found = [at for at in ON_CPU if at.fp32_precision not in EXACT]
    return [(at, "fp32_precision", "tf32" if tf32 else "ieee") for at in found]


@contextmanager
def switched(wanted: list[Switch]) -> Iterator[None]:
    """Set them for a block."""
    before = [getattr(at, name) for at, name, _ in wanted]
    try:
        for at, name, value in wanted:
            setattr(at, name, value)
        yield
    finally:
        for (at, name, _), value in zip(wanted, before, strict=True):
            setattr(at, name, value)
