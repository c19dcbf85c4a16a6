"""What float32 means to PyTorch, and where tensors are made: switches of process and thread, set for a block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, TypeAlias

import torch

from xcnn.core import process

Switch: TypeAlias = tuple[Any, str, Any]
"""An object, the name of its attribute, and the value that it shall have."""

NAMED = hasattr(torch.backends.cuda.matmul, "fp32_precision")
"""Whether precisions have names, as since PyTorch 2.9; before there were only CUDA's switches, true or false."""


def reader(at: Any) -> Callable[[], str]:
    """What reads a precision: where it is there what PyTorch's own attribute calls, which takes a fifth of its time."""
    read = getattr(torch._C, "_get_fp32_precision_getter", None)
    if read is None or {*vars(at)} != {"backend", "op"}:
        return lambda: str(at.fp32_precision)
    return partial(read, at.backend, at.op)


ON_CPU: tuple[Any, ...] = (torch.backends.mkldnn.matmul, torch.backends.mkldnn.conv) if NAMED else ()  # type: ignore[attr-defined]
"""What has a precision on a CPU."""
READ_ON_CPU = tuple(map(reader, ON_CPU))
"""What reads each of them."""
EXACT = ("none", "ieee")
"""The precisions there that round nothing before it is multiplied."""
NOTHING = nullcontext()


def undisturbed(place: torch.device, block: AbstractContextManager[object]) -> AbstractContextManager[object]:
    """The block, in which autocast and a default device that this thread has set around it change nothing."""
    if not torch.is_autocast_enabled(place.type) and not torch._C._len_torch_function_stack():
        return block
    return switched_off(place, block)


@contextmanager
def switched_off(place: torch.device, block: AbstractContextManager[object]) -> Iterator[None]:
    """For a block: no autocast, and tensors are made on this device where nobody says where."""
    with torch.autocast(place.type, enabled=False), place, block:
        yield


def float32_as(device: str, tf32: bool) -> AbstractContextManager[object]:
    """For a `with` block: products and convolutions of float32 are exact on this kind of device, or TF32 on CUDA."""
    held = HELD.get("cuda" if device == "cuda" else "cpu")
    if held is None or (not held.holders and device != "cuda" and is_exact()):
        return NOTHING
    return held(tf32)  # also where others have set it so: they put it back when they are done


def is_exact() -> bool:
    """Whether nothing has to be set on a CPU."""
    return all([read() in EXACT for read in READ_ON_CPU])  # noqa: C419  a generator takes longer


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
        found = [at for at, read in zip(ON_CPU, READ_ON_CPU, strict=True) if read() not in EXACT]
    return [(at, "fp32_precision", "tf32" if tf32 else "ieee") for at in found]


def switched(device: str) -> process.Held:
    """What holds the switches of a kind of device for all threads that want them alike."""
    everything = (
        switches(device, False) if device == "cuda" or not NAMED else [(at, "fp32_precision", "") for at in ON_CPU]
    )

    def read() -> list[Any]:
        return [getattr(at, name) for at, name, _ in everything]

    def write(tf32: bool) -> None:
        for at, name, value in switches(device, tf32):
            setattr(at, name, value)

    def restore(values: list[Any]) -> None:
        for (at, name, _), value in zip(everything, values, strict=True):
            if getattr(at, name) != value:
                setattr(at, name, value)

    return process.Held(read, write, restore, f"PyTorch's float32 on {device}")


HELD = {device: switched(device) for device in ("cpu", "cuda") if NAMED or device == "cuda"}
