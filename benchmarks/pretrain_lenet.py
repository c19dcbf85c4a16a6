"""Train the small net that lies in the package, `xcnn.nets.pretrained("lenet-mnist")`, and write its file.

python benchmarks/pretrain_lenet.py --data-dir FOLDER          # the folder of MNIST's files; without it, a download

LeNet of `xcnn.nets.lenet` on the 60,000 training digits, each turned, moved, scaled and slanted a little anew in every
epoch, as handwriting is; the test digits are looked at once, at the end, with the weights as the file has them. One
seed gives the same file on one engine.
"""

import argparse
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

import xcnn

FILE = Path(__file__).parent.parent / "xcnn" / "nets" / "weights" / "lenet-mnist.safetensors"
EPOCHS, BATCH_SIZE, RATE = 24, 100, 4e-3


def main() -> None:
    """Train, round, measure, write."""
    asked = argparse.ArgumentParser(description="Train LeNet on MNIST for the package.")
    asked.add_argument("--data-dir", type=Path, default=None)
    asked.add_argument("--output", type=Path, default=FILE)
    asked.add_argument("--epochs", type=int, default=EPOCHS)
    given = asked.parse_args()
    (x, y), (x_test, y_test) = xcnn.datasets.mnist(given.data_dir)
    steps = given.epochs * len(x) // BATCH_SIZE
    optimizer = xcnn.AdamW(xcnn.schedules.OneCycle(RATE, steps), weight_decay=0.01)
    model = xcnn.Model(xcnn.nets.lenet(), (1, 28, 28), optimizer=optimizer, backend="numpy", seed=0)
    varied = [xcnn.augment.Affine(12, translate=0.06, scale=(0.85, 1.1), shear=12)]
    model.fit(x, y, epochs=given.epochs, batch_size=BATCH_SIZE, augment=varied, progress="plain")
    rounded = {name: np.asarray(weight, np.float16) for name, weight in model.state_dict().items()}
    model.load_weights({name: np.asarray(weight, np.float32) for name, weight in rounded.items()})
    save_file(rounded, given.output)
    print(model.report(x_test, y_test))
    print(f"{given.output}: {given.output.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
