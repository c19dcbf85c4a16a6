"""Adam as it comes, by ranks and by one process: mpiexec -n 2 python benchmarks/rounding.py [NETS].

Trains drawn nets in float64, 30 steps, by all ranks, by one process, and by one whose batches have their samples in
another order: those are the same sums, rounded otherwise. Tells how far the weights are apart, with Adam's epsilon and
with one that is far above what sums are rounded by, and which weights they are.
"""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

import numpy as np

import xcnn
from xcnn.core import tree

BATCH, SAMPLES, EPOCHS = 10, 50, 6
APART = 1e-11
"""What counts as apart: more than thirty steps round off."""


def drawn(rng: np.random.Generator) -> xcnn.Sequential:
    """A net whose biases before a batch norm have no gradient but what is rounded."""
    channels, layers = int(rng.integers(2, 6)), list[Any]()
    for n in range(int(rng.integers(2, 4))):
        activation = (xcnn.ReLU, xcnn.Tanh, xcnn.GELU)[int(rng.integers(3))]
        layers += [xcnn.Conv2D(channels + n, 3, padding="same"), xcnn.BatchNorm(), activation()]
    return xcnn.Sequential(*layers, xcnn.MaxPool2D(2), xcnn.Flatten(), xcnn.Dense(5), xcnn.BatchNorm(), xcnn.Dense(3))


def trained(seed: int, epsilon: float, reordered: bool = False, together: Any = None) -> dict[str, Any]:
    """The weights by their paths."""
    rng = np.random.default_rng(seed)
    net, x, y = drawn(rng), rng.standard_normal((SAMPLES, 2, 8, 8)), rng.integers(0, 3, SAMPLES)
    if reordered:
        firsts = range(0, SAMPLES, BATCH)
        order = np.concatenate([first + rng.permutation(BATCH) for first in firsts])
        x, y = x[order], y[order]
    model = xcnn.Model(net, (2, 8, 8), optimizer=xcnn.Adam(0.01, epsilon=epsilon), dtype="float64", backend="numpy")
    model.fit(x, y, epochs=EPOCHS, batch_size=BATCH, shuffle=False, progress="none", parallel=together)
    return dict(tree.items(model.weights))


def apart(a: dict[str, Any], b: dict[str, Any]) -> dict[str, float]:
    """The largest difference of each weight."""
    return {path: float(np.abs(a[path] - b[path]).max()) for path in a}


def told(what: str, found: list[dict[str, float]]) -> str:
    """Of all nets: how far, and which weights."""
    most = [max(each.values()) for each in found]
    kinds = Counter(path.rstrip("0123456789") for each in found for path, far in each.items() if far > APART)
    named = Counter[str]()
    for path, times in kinds.items():
        layer, _, name = path.partition("/")
        named[f"{layer.rstrip('0123456789')}/{name}"] += times
    which = ", ".join(sorted(named)) or "none"
    return f"{what}: median {np.median(most):.1e}, most {max(most):.1e}; apart by more than {APART:g}: {which}"


def main() -> None:
    xcnn.set_threads(1)
    together, nets = xcnn.parallel.mpi(), int(sys.argv[1]) if len(sys.argv) > 1 else 20
    for epsilon in (1e-8, 1e-3):
        of_ranks, of_order = [], []
        for seed in range(nets):
            shared = trained(seed, epsilon, together=together)
            if together.first:
                one = trained(seed, epsilon)
                of_ranks.append(apart(shared, one))
                of_order.append(apart(trained(seed, epsilon, reordered=True), one))
        if together.first:
            print(f"epsilon {epsilon:g}, {nets} nets, beside one process")
            print(told(f"  {together.size} ranks", of_ranks))
            print(told("  one, samples in another order", of_order), flush=True)


if __name__ == "__main__":
    main()
