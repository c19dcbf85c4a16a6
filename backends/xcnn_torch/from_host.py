"""NumPy's arrays as PyTorch's tensors."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import torch

PLAIN = "fdlqib?B"
"""Types, by NumPy's letters, that PyTorch has too."""


def from_host(x: np.ndarray[Any, Any]) -> torch.Tensor:
    """A NumPy array as a tensor that shares its memory, or a copy where PyTorch would not: read-only, or reversed."""
    dtype, flags = x.dtype, x.flags
    if flags.carray and dtype.char in PLAIN and dtype.isnative:
        return torch.from_numpy(x)
    if dtype.kind == "V" and x.dtype.name == "bfloat16":
        return from_host(x.view(np.int16)).view(torch.bfloat16)
    if not x.dtype.isnative:
        x = x.astype(x.dtype.newbyteorder("="))
    if not x.flags.writeable or min(x.strides, default=0) < 0:
        x = x.copy()
    return torch.from_numpy(x)


def bfloat16() -> Any:
    """NumPy's bfloat16."""
    return import_module("ml_dtypes").bfloat16
