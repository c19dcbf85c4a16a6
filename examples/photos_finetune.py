"""A ResNet-18 made to tell your own photos apart: python photos_finetune.py [FOLDER] [WEIGHTS] [EPOCHS]

FOLDER has one folder of photos a class. WEIGHTS is torchvision's file for resnet18, resnet18-f37072fd.pth, which is
read without PyTorch; with "none", or nothing, weights are drawn at random. First the new head alone is trained, over a
net that stands still, then the whole of it, at a tenth of the head's rate what the file has given. Without a FOLDER, or
with "drawn", it draws some pictures. See what each stage makes of the accuracy on a fifth of them, not trained on: over
weights that were drawn a head alone finds little.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import xcnn
from xcnn.optimizers import Group, Groups

SIDE, BATCH = 64, 16
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the photos that torchvision's weights were trained on, channel by channel."""


def draw_folder(path, count=100, side=80):
    """Stripes, rings and checks, `count` pictures of each, as PNG files in path/<class>."""
    rng = np.random.default_rng(0)
    for kind in ("checks", "rings", "stripes"):
        (path / kind).mkdir()
        for n in range(count):
            down, right = np.mgrid[:side, :side] - rng.uniform(20, side - 20, (2, 1, 1))
            angle, width = rng.uniform(0, np.pi), rng.uniform(4, 8)
            along, across = (right * np.cos(a) + down * np.sin(a) for a in (angle, angle + np.pi / 2))
            match kind:
                case "rings":
                    pattern = np.sin(np.hypot(down, right) * np.pi / width)
                case "stripes":
                    pattern = np.sin(along * np.pi / width)
                case "checks":
                    pattern = np.sin(along * np.pi / width) * np.sin(across * np.pi / width)
            dark, light = rng.uniform(0, 120, 3), rng.uniform(130, 255, 3)
            picture = np.where(pattern[..., None] > 0, light, dark) + rng.normal(0, 12, (side, side, 3))
            Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(path / kind / f"{n:03}.png")


def built(classes):
    """A ResNet-18 with torchvision's names behind a layer that takes off the mean, and divides by the deviation."""
    net = xcnn.Sequential(normalise=xcnn.Scale(bias=True), **dict(xcnn.nets.resnet18(classes).named))
    model = xcnn.Model(net, (3, SIDE, SIDE), seed=0)
    scale = 1 / np.array(STD, "float32")
    model.weights["normalise"]["scale"], model.weights["normalise"]["bias"] = scale, -scale * MEAN
    return model


def stage(model, groups, rate):
    """Train with these groups, the rate going up to `rate` and down again, and see the accuracy."""
    steps = max(epochs * -(-len(train) // BATCH), 2)
    model.optimizer = Groups(xcnn.AdamW(xcnn.schedules.OneCycle(rate, steps)), groups)
    augment = [xcnn.augment.Flip(), xcnn.augment.Translate(4, "edge")]
    model.fit(train, epochs=epochs, batch_size=BATCH, augment=augment)
    return model.evaluate(test)["accuracy"]


if __name__ == "__main__":
    given = dict(enumerate(sys.argv))
    path, weights, epochs = given.get(1, "drawn"), given.get(2, "none"), int(given.get(3, 6))
    with tempfile.TemporaryDirectory() as drawn:
        if path == "drawn":
            draw_folder(Path(drawn))
            path = drawn
        train, test = (xcnn.data.folder(path, (SIDE, SIDE), "RGB", part=part) for part in ("train", "test"))
        print(f"{len(train)} photos to train on, {len(test)} to test on: {', '.join(train.classes)}")

        model = built(len(train.classes))
        if weights != "none":
            print(model.load_weights(weights, without=("fc", "normalise")))

        head, still = Group("fc/*"), Group("normalise/*", frozen=True)
        accuracy = stage(model, (head, Group("*", frozen=True)), 0.01)
        print(f"the head alone: accuracy {accuracy:.1%}")
        accuracy = stage(model, (still, head, Group("*", rate=1.0 if weights == "none" else 0.1)), 0.003)
        print(f"the whole net:  accuracy {accuracy:.1%}")
