"""Train the beginning that `xcnn train PHOTOS` fine-tunes, and write its file.

python benchmarks/pretrain_photos.py

The convolutions of `xcnn.nets.photos` learn 96 drawn shapes (`drawn_shapes.py`), first white on black, then in few
colours, then of any colour and light, anywhere before a cluttered ground: what an outline is, and how parts stand to
each other. Neither the tests' photos nor those of `photos.py` show any of these. What they learned is measured on 1,056
pictures of another seed, with the weights as the file has them. One seed gives the same file on one engine.
"""

import argparse
from pathlib import Path

import drawn_shapes
import numpy as np
from safetensors.numpy import save_file

import xcnn

FILE = Path(__file__).parent.parent / "xcnn" / "nets" / "weights" / "photos-shapes.safetensors"
STAGES = (("ink", 4_992, 3, 3), ("plain", 6_144, 3, 4), ("drawn", 15_360, 5, 2))
"""Ways of drawing, each harder than the one before; pictures, rounds, and the seed that they are drawn by."""
BATCH_SIZE, RATE = 32, 4e-3


def bytes_to_floats(x: np.ndarray) -> np.ndarray:
    """0..255 as 0..1."""
    return x.astype(np.float32) / 255


def write(model: xcnn.Model, path: Path) -> dict[str, np.ndarray]:
    """Write the convolutions as float16, after each round, so that a training that is ended left something."""
    rounded = {name: np.asarray(weight, np.float16) for name, weight in model.state_dict().items()}
    head = str(len(model.net.layers) - 1)
    save_file({name: weight for name, weight in rounded.items() if name.split(".")[0] != head}, path)
    return rounded


def main() -> None:
    """Draw, train, round, measure, write."""
    asked = argparse.ArgumentParser(description="Train the convolutions of the net for photos on drawn shapes.")
    asked.add_argument("--output", type=Path, default=FILE)
    given = asked.parse_args()
    net = xcnn.nets.photos(len(drawn_shapes.NAMES))
    model = xcnn.Model(net, (3, 64, 64), backend="numpy", seed=0)
    varied = [xcnn.augment.Affine(10, translate=0.08, scale=(0.85, 1.15)), xcnn.augment.ColorJitter(0.3, 0.3, 0.4, 0.3)]
    for way, count, epochs, seed in STAGES:
        x, y = drawn_shapes.set_of(count, seed, way)
        steps = epochs * -(-len(x) // BATCH_SIZE)
        model.optimizer = xcnn.AdamW(xcnn.schedules.OneCycle(RATE, steps), weight_decay=0.02)
        augment = varied if way == "drawn" else None
        model.fit(
            bytes_to_floats(x),
            y,
            epochs=epochs,
            batch_size=BATCH_SIZE,
            augment=augment,
            progress="plain",
            callbacks=[lambda model, history: write(model, given.output)],
        )
    x, y = drawn_shapes.set_of(1_056, 1)
    rounded = write(model, given.output)
    model.load_weights({name: np.asarray(weight, np.float32) for name, weight in rounded.items()})
    print(model.report(bytes_to_floats(x), y).accuracy)
    print(f"{given.output}: {given.output.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
