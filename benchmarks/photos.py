"""What `xcnn train FOLDER`, without a flag, makes of a few photos: python benchmarks/photos.py things

Draws a folder of photos, 60 a class, of which the command keeps about a fifth back; trains on it by the command, as
everybody would, and shows what it says. Then it asks the model for 200 photos more of each class, since a fifth of 60
is too few to tell one percent, and tells the processor's seconds of the command: two minutes on two cores are 240. One
run tells little, since seeds differ by percents: `--runs 3` takes other photos and another seed each time.
Photos are of four kinds: "shapes" (tests/drawn_photos.py), "things" (drawn_things.py), "toys" (drawn_toys.py) and
"finds" (drawn_finds.py).
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent.parent / "tests"))

import drawn_finds
import drawn_photos
import drawn_things
import drawn_toys
import numpy as np

import xcnn


def draw_folder(photo: Callable[..., Any], folder: Path, kinds: list[str], each: int, seed: int) -> None:
    """A folder of photos, one folder a kind."""
    rng = np.random.default_rng(seed)
    for kind in kinds:
        (folder / kind).mkdir(parents=True)
        for n in range(each):
            photo(kind, rng).save(folder / kind / f"DSC{n:05}.jpg", quality=int(rng.integers(60, 95)))


WAYS = {
    "shapes": (drawn_photos.KINDS, drawn_photos.draw_folder),
    "things": (tuple(drawn_things.KINDS), partial(draw_folder, drawn_things.photo)),
    "finds": (tuple(drawn_finds.KINDS), partial(draw_folder, drawn_finds.photo)),
    "toys": (tuple(drawn_toys.KINDS), partial(draw_folder, drawn_toys.photo)),
}


def right(model: xcnn.Model, folder: Path) -> float:
    """The share of photos in one folder a class that are told to be of their class."""
    found = [
        name == kind.name for kind in sorted(folder.iterdir()) for name in model.predict_images(sorted(kind.iterdir()))
    ]
    return sum(found) / len(found)


def spent() -> float:
    """The processor's seconds of all commands so far."""
    times = os.times()
    return times.children_user + times.children_system


def measured(given: argparse.Namespace, more: list[str], run: int) -> tuple[float, float]:
    """Draw, train and test once: the share of the others that is told right, and the processor's seconds."""
    names, draw = WAYS[given.way]
    kinds = [names[(given.first + n) % len(names)] for n in range(given.classes)]
    seed = given.photos + run
    with tempfile.TemporaryDirectory() as passing:
        photos, others, file = (Path(passing) / name for name in ("photos", "others", "model.xcnn"))
        draw(photos, kinds, given.each, 2 * seed)
        draw(others, kinds, given.more, 2 * seed + 1)
        print(" ".join(kinds), flush=True)
        before = spent()
        command = [sys.executable, "-m", "xcnn", "train", str(photos), "-o", str(file)]
        subprocess.run([*command, *(["--seed", str(run)] if run else []), *more], check=True)
        seconds = spent() - before
        return right(xcnn.Model.load(file), others), seconds


def main() -> None:
    """Draw, train, tell; as often as is asked for, each time on other photos and by another seed."""
    asked = argparse.ArgumentParser(
        description="What training on a few photos reaches; other options are those of `xcnn train`."
    )
    asked.add_argument("way", choices=WAYS)
    asked.add_argument("--classes", type=int, default=3)
    asked.add_argument("--each", type=int, default=60, help="photos of a class in the folder")
    asked.add_argument("--more", type=int, default=200, help="photos of a class to test on besides")
    asked.add_argument("--first", type=int, default=0, help="the first class's number")
    asked.add_argument("--photos", type=int, default=0, help="the seed of the photos; --seed is that of the training")
    asked.add_argument("--runs", type=int, default=1, help="of seeds one above another, of photos and of training")
    given, more = asked.parse_known_args()
    shares = []
    for run in range(given.runs):
        share, seconds = measured(given, more, run)
        shares.append(share)
        asked_for = " ".join(sys.argv[1:])
        print(f"{asked_for}: {share:.2%} of {given.more * given.classes} others; {seconds:.0f} s of CPU", flush=True)
    if given.runs > 1:
        print(f"mean {sum(shares) / len(shares):.2%}, least {min(shares):.2%}")


if __name__ == "__main__":
    main()
