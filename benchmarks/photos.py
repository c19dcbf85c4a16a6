"""What `xcnn train FOLDER`, without a flag, makes of a few photos: python benchmarks/photos.py things

Draws a folder of photos, 48 a class to train on as a fifth of 60 is kept back, and 200 a class to test on, where a
fifth would be too few to tell one percent; trains on it by the command, as everybody would, and shows what it says.
Photos are of two kinds: "things" (drawn_things.py) and "shapes" (tests/drawn_photos.py).
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "tests"))

import drawn_photos
import drawn_things

WAYS = {
    "shapes": (drawn_photos.KINDS, drawn_photos.draw_folder),
    "things": (tuple(drawn_things.KINDS), drawn_things.draw_folder),
}


def main() -> None:
    """Draw, train, tell."""
    asked = argparse.ArgumentParser(description="What training on a few photos reaches.")
    asked.add_argument("way", choices=WAYS)
    asked.add_argument("--classes", type=int, default=3)
    asked.add_argument("--each", type=int, default=48, help="photos of a class to train on")
    asked.add_argument("--test", type=int, default=200, help="photos of a class to test on")
    asked.add_argument("--first", type=int, default=0, help="the first class's number")
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--folder", type=Path, help="where the photos are left; else they are taken away")
    given, more = asked.parse_known_args()
    kinds, draw = WAYS[given.way]
    kinds = [kinds[(given.first + n) % len(kinds)] for n in range(given.classes)]
    with tempfile.TemporaryDirectory() as passing:
        folder = given.folder or Path(passing) / "photos"
        if not folder.exists():
            draw(folder / "train", kinds, given.each, 2 * given.seed)
            draw(folder / "test", kinds, given.test, 2 * given.seed + 1)
        command = [sys.executable, "-m", "xcnn", "train", str(folder), "-o", str(Path(passing) / "m.xcnn"), *more]
        print(" ".join(kinds), flush=True)
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
