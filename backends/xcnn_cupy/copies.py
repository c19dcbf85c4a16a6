"""Copies of arrays, many of them in a launch."""

from __future__ import annotations

from xcnn._typing import Array
from xcnn_cupy.device import Device, is_channels_last
from xcnn_cupy.layout import COPIES, launch


def copy(device: Device, x: Array) -> Array:
    """A dense array's copy, lying as it does."""
    y = device.empty(x.shape, x.dtype, is_channels_last(x))
    copy_all(device, [x], [y])
    return y


def copy_all(device: Device, sources: list[Array], targets: list[Array]) -> None:
    """Copy arrays into others of the same shapes and types."""
    kinds: dict[str, list[tuple[Array, Array]]] = {}
    for source, target in zip(sources, targets, strict=True):
        if source.size:
            kinds.setdefault(str(source.dtype), []).append((source, target))
    for kind, pairs in kinds.items():
        for first in range(0, len(pairs), COPIES):
            launch(device, (kind, kind), pairs[first : first + COPIES])
