"""Seconds to save and to load a checkpoint: python benchmarks/checkpoints.py [MEGABYTES] [ROUNDS] [FOLDER]

A net with so many megabytes of weights and Adam's two moments of them, beside torch.save and torch.load of the same
arrays, and beside safetensors where it is installed, the four in turns. All files are synchronised with the disk before
they count as saved. The digest of a checkpoint's contents is computed when it is saved and checked when it is loaded;
the others have none. Wants a quiet machine.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

import xcnn
from xcnn.core import tree

Way = tuple[Callable[[Path], object], Callable[[Path], object]]


def synchronised(path: Path) -> None:
    """Let what was written reach the disk."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def model_of(megabytes: int) -> xcnn.Model:
    """A model whose weights take so much, and whose moments are there."""
    units = int((megabytes * 1e6 / 4 / 4) ** 0.5)
    layers = [xcnn.Dense(units, bias=False) for _ in range(4)]
    model = xcnn.Model(xcnn.Sequential(*layers), (units,), optimizer=xcnn.Adam(), loss="mse", backend="numpy")
    model.step(np.ones((1, units), "float32"), np.ones((1, units), "float32"))
    return model


def ours(model: xcnn.Model) -> Way:
    """By `save` and `Model.load`."""
    return model.save, lambda path: xcnn.Model.load(path, backend="numpy")


def of_torch(arrays: dict[str, np.ndarray]) -> Way:
    """By torch.save and torch.load."""
    import torch

    tensors = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}

    def save(path: Path) -> None:
        torch.save(tensors, path)
        synchronised(path)

    return save, lambda path: torch.load(path, weights_only=True)


def of_safetensors(arrays: dict[str, np.ndarray]) -> Way:
    """By safetensors' functions for NumPy."""
    from safetensors.numpy import load_file, save_file

    def save(path: Path) -> None:
        save_file(arrays, path)
        synchronised(path)

    return save, load_file


def main() -> None:
    given = dict(enumerate(sys.argv))
    megabytes, rounds = int(given.get(1, 100)), int(given.get(2, 7))
    model = model_of(megabytes)
    state = {"weights": model.state.weights, "moments": model.state.optimizer_state}
    arrays = {path: np.array(array) for path, array in tree.items(state)}
    ways = {"xcnn": ours(model)}
    ways |= {"torch": of_torch(arrays)} if find_spec("torch") else {}
    ways |= {"safetensors": of_safetensors(arrays)} if find_spec("safetensors") else {}
    print(f"{sum(array.nbytes for array in arrays.values()) / 1e6:.0f} MB of arrays")
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    with TemporaryDirectory(dir=given.get(3)) as folder:
        for _ in range(rounds):
            for name, (save, load) in ways.items():
                path = Path(folder, f"{name}.file")
                begun = time.perf_counter()
                save(path)
                saved = time.perf_counter()
                load(path)
                seconds[name].append((saved - begun, time.perf_counter() - saved))
    print("| | save, s | load, s |\n|---|---|---|")
    for name, times in seconds.items():
        print(f"| {name} |", " | ".join(f"{statistics.median(column):.3f}" for column in zip(*times, strict=True)), "|")


if __name__ == "__main__":
    main()
