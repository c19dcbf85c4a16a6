"""Train on a folder of drawn photos, and read it beside torchvision: python benchmarks/folder.py [--images N].

It draws JPEGs of many sizes, trains a small ResNet on them for an epoch in a process of its own, and tells what that
took beside what the net takes on a single batch (VmHWM, the most memory that a process had), how long steps waited for
images, and how many images a second are read, in turn with torchvision's ImageFolder and its DataLoader of 2 workers.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

import xcnn
from xcnn.core.ahead import ahead
from xcnn.data.source import Pass

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from torchvision_operators import named_operators

CLASSES = ("disc", "ring", "square", "stripes")
SIDE, BATCH, WORKERS = 64, 64, 2
SMALLEST, LARGEST = 96, 352
"""Sides of the photos: their mean is 150 kB decoded, 3 GB for 20,000."""


def draw(folder: Path, images: int) -> None:
    """Write the photos, each class in turn."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for name in CLASSES:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for n in range(images):
        height, width = rng.integers(SMALLEST, LARGEST, 2)
        y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        radius, name = np.hypot(y, x), CLASSES[n % len(CLASSES)]
        shape = {
            "disc": radius < 0.6,
            "ring": (radius > 0.4) & (radius < 0.7),
            "square": np.maximum(abs(y), abs(x)) < 0.5,
            "stripes": np.sin(9 * (x + y)) > 0,
        }[name]
        colours = rng.integers(0, 256, (2, 3))
        coarse = rng.normal(0, 30, (height // 8 + 1, width // 8 + 1, 3)).repeat(8, 0).repeat(8, 1)[:height, :width]
        pixels = np.where(shape[..., None], *colours) + coarse
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name / f"{n:06}.jpg", quality=88)


def peak() -> float:
    """The most memory that this process had, MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024


def model() -> xcnn.Model:
    """The net that is trained."""
    return xcnn.Model(xcnn.nets.small_resnet(len(CLASSES)), (3, SIDE, SIDE), optimizer="adam", backend="numpy")


def train_alone() -> dict[str, float]:
    """What the net takes by itself: some steps on one batch in memory."""
    x, t = np.zeros((BATCH, 3, SIDE, SIDE), np.float32), np.arange(BATCH) % len(CLASSES)
    model().fit(x, t, epochs=3, batch_size=BATCH, progress="none")
    return {"peak": peak()}


def train_on(folder: Path) -> dict[str, float]:
    """An epoch on the folder."""
    data = xcnn.data.folder(folder, (SIDE, SIDE), "RGB")
    row = model().fit(data, batch_size=BATCH, progress="none", augment=xcnn.augment.Flip()).rows[-1]
    return {"peak": peak(), **{name: row[name] for name in ("seconds", "stall", "images_per_second", "loss")}}


def by_xcnn(folder: Path) -> Iterator[int]:
    """Images of each batch that xcnn reads."""
    data, epoch = xcnn.data.folder(folder, (SIDE, SIDE), "RGB"), 0
    while True:
        for batch in ahead(data.jobs(Pass(BATCH, 0, epoch, True)), WORKERS):
            yield len(batch.x)
        epoch += 1


def by_torchvision(folder: Path) -> Iterator[int]:
    """Images of each batch that torchvision reads."""
    kept = named_operators()  # noqa: F841  (as long as it reads)
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms

    change = transforms.Compose([transforms.Resize((SIDE, SIDE)), transforms.ToTensor()])
    loader = DataLoader(
        datasets.ImageFolder(str(folder), change), BATCH, shuffle=True, num_workers=WORKERS, persistent_workers=True
    )
    while True:
        for x, _ in loader:
            yield len(x)


def rates(folder: Path, rounds: int, batches: int) -> dict[str, list[float]]:
    """Images a second of each way, round by round: each is stopped while another runs, its readers at rest."""
    ways: dict[str, Callable[[], Iterator[int]]] = {
        "xcnn": lambda: by_xcnn(folder),
        "torchvision": lambda: by_torchvision(folder),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    running = {name: way() for name, way in ways.items()}
    for images in running.values():
        next(images)
    for _ in range(rounds):
        for name, images in running.items():
            for _ in islice(images, WORKERS + 4):
                pass  # what was read while it rested
            begun = time.perf_counter()
            count = sum(islice(images, batches))
            found[name].append(count / (time.perf_counter() - begun))
    return found


def child(*arguments: str) -> Any:
    """What a process of its own finds."""
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def report(folder: Path, options: argparse.Namespace) -> None:
    """Measure all, and print it."""
    alone, whole = child("--child", "alone"), child("--child", "train", "--keep", str(folder))
    more, share = whole["peak"] - alone["peak"], whole["stall"] / whole["seconds"]
    print(f"the net alone: {alone['peak']:,.0f} MiB; trained on the folder: {more:,.0f} MiB more")
    speed = f"{whole['images_per_second']:,.0f} images/s in training"
    print(f"{speed}; steps waited {share:.1%} of {whole['seconds']:.0f} s for images")
    if options.rounds:
        found = rates(folder, options.rounds, options.batches)
        for name, each in found.items():
            ratio = np.median(np.array(each) / np.array(found["torchvision"]))
            print(f"{name}: {np.median(each):,.0f} images/s, {ratio:.2f} of torchvision's (medians of rounds)")


def main() -> None:
    """Draw the photos unless they are there, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--keep", type=Path, help="where the photos are drawn, or lie already")
    parser.add_argument("--rounds", type=int, default=9, help="of reading beside torchvision; 0 leaves it out")
    parser.add_argument("--batches", type=int, default=30, help="of a round")
    parser.add_argument("--child", choices=("alone", "train"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(train_alone() if options.child == "alone" else train_on(options.keep)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        if not any(folder.glob("*/*.jpg")):
            draw(folder, options.images)
        report(folder, options)


if __name__ == "__main__":
    main()
