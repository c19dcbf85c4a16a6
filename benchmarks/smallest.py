"""Microseconds of the smallest step and prediction, which are overhead alone: python benchmarks/smallest.py [SECONDS]

Dense(2) on 4 samples of 8 numbers, on NumPy and on PyTorch's arrays, beside PyTorch: its bare step, and one that gives
what ours gives, the loss and the gradient's norm as numbers and how many were right. All in turns, medians.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

import xcnn
from xcnn.bench.timing import alternate

rng = np.random.default_rng(0)
X, T = rng.random((4, 8), dtype=np.float32), np.array([0, 1, 0, 1])


def ours(backend: str) -> dict[str, Callable[[], Any]]:
    """A step and a prediction of one sample."""
    net, loss = xcnn.Sequential(xcnn.Dense(2)), "cross_entropy"
    model = xcnn.Model(net, (8,), optimizer=xcnn.SGD(0.01), loss=loss, backend=backend)
    return {"step": lambda: model.step(X, T), "predict": lambda: model.predict(X[:1])}


def of_torch(same: bool, **options: bool) -> dict[str, Callable[[], Any]]:
    """The same by PyTorch; with `same` its step gives what ours gives."""
    net = nn.Linear(8, 2)
    sgd = torch.optim.SGD(net.parameters(), 0.01, **options)
    x, t = torch.from_numpy(X), torch.from_numpy(T)

    def bare() -> Any:
        sgd.zero_grad()
        loss = nn.functional.cross_entropy(net(x), t)
        loss.backward()
        sgd.step()
        return loss.item()

    def giving() -> Any:
        x, t = torch.from_numpy(X), torch.from_numpy(T)
        sgd.zero_grad()
        y = net(x)
        loss = nn.functional.cross_entropy(y, t)
        loss.backward()
        norm = nn.utils.get_total_norm([weight.grad for weight in net.parameters() if weight.grad is not None])
        sgd.step()
        return loss.item(), norm.item(), (y.detach().argmax(1) == t).sum()

    def predict() -> Any:
        with torch.inference_mode():
            return net(torch.from_numpy(X[:1])).numpy()

    return {"step": giving if same else bare, "predict": predict}


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 5.0
    ways = {
        "xcnn": ours("numpy"),
        "xcnn on PyTorch's arrays": ours("torch"),
        "PyTorch, bare": of_torch(same=False),
        "PyTorch, the same results": of_torch(same=True),
        "PyTorch, the same, fused": of_torch(same=True, fused=True),
    }
    print("| us | step | predict |\n|---|---|---|")
    steps, predictions = (alternate([does[what] for does in ways.values()], seconds) for what in ("step", "predict"))
    for name, step, prediction in zip(ways, steps, predictions, strict=True):
        print(f"| {name} | {step.median * 1e6:.1f} | {prediction.median * 1e6:.1f} |")


if __name__ == "__main__":
    main()
