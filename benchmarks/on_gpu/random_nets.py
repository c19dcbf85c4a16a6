"""Nets that are drawn by chance."""

from __future__ import annotations

from typing import Any

import numpy as np

import xcnn


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
