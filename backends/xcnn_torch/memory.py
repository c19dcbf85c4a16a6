"""How tensors lie in memory: which axis runs fastest, and where memory for new ones comes from."""

from __future__ import annotations

from math import prod

import numpy as np
import torch
from xcnn_host import buffers

from xcnn.core.types import Array, Shape
from xcnn_torch.recording import at_once

LARGE = 2**22
"""Bytes from which on memory is kept for later. Below, the system's allocator has its own free lists."""
LONG = 2**16
"""Terms up to which a sum is left to libraries that add one term after another, in float32 or shorter."""
HALVES = (torch.float16, torch.bfloat16)
PLAIN = {torch.Tensor}
"""What kernels take: subclasses may see to their operations themselves."""


def prefers_channels_last(device: torch.device, dtype: torch.dtype, tf32: bool) -> bool:
    """Whether convolutions are faster with the channels last.

    Tensor cores want them so. On the CPU oneDNN computes in that order without rearranging; it has no float64.
    """
    if device.type == "cuda":
        return dtype in HALVES or (tf32 and dtype == torch.float32)
    return device.type == "cpu" and dtype != torch.float64


def arranged(x: Array, last: bool) -> Array:
    """Images (N, C, H, W) with their channels last, or as they are indexed; x itself if they are."""
    return x.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def empty(like: Array, shape: Shape, last: bool = False, dtype: torch.dtype | None = None) -> Array:
    """A tensor of any content, of the type and on the device of another unless a type is given, channels last or not.

    Large ones are, on the CPU, memory that nobody holds any more: fresh memory costs a page fault for every 4 KiB.
    """
    dtype = dtype or like.dtype
    size = prod(shape) * dtype.itemsize
    if size < LARGE or not like.is_cpu:
        order = torch.channels_last if last else torch.contiguous_format
        return torch.empty(shape, dtype=dtype, device=like.device, memory_format=order)
    return used_again(shape, last, dtype)


@at_once
def used_again(shape: Shape, last: bool, dtype: torch.dtype) -> Array:
    """A tensor on the CPU whose memory goes back to those that wait for the next."""
    stored = (shape[0], *shape[2:], shape[1]) if last else shape
    made = torch.from_numpy(buffers.empty((prod(shape) * dtype.itemsize,), np.uint8)).view(dtype).view(stored)
    return made.movedim(-1, 1) if last else made


def is_last(x: Array) -> bool:
    """Whether images have their channels last in memory, and do not lie as they are indexed too."""
    return bool(x.ndim == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last))


def lying_as(x: Array, other: Array) -> Array:
    """A tensor in the order of memory of another of its shape, which is dense; x itself if it lies so."""
    return x if x.stride() == other.stride() else torch.empty_like(other).copy_(x)


def empty_like(x: Array) -> Array:
    """A tensor of any content that lies in memory as another does."""
    if x.nbytes < LARGE or not x.is_cpu:
        return torch.empty_like(x)
    return empty(x, x.shape, is_last(x))


def typed(x: Array, dtype: torch.dtype) -> Array:
    """A tensor in this type; x itself where it has that, which PyTorch takes a microsecond to see."""
    return x if x.dtype is dtype else x.to(dtype)
