"""Augmentations timed beside torchvision's and albumentations', one thread each, alternating in one process.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python benchmarks/augmentation.py [--seconds 1] [--side 224]

Batches are float32 of 0..1: ours changes a batch, the others image after image, whose results are stacked, as their
loaders do. torchvision changes (C, H, W) tensors, albumentations (H, W, C) arrays. Ratios above 1 are in our favour.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from xcnn import augment
from xcnn.bench.timing import alternate

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from torchvision_operators import named_operators

SHAPES = [(256, 1, 28, 28), (256, 3, 32, 32), (16, 3, 224, 224)]
OURS = {
    "flip": lambda side: augment.Flip(),
    "translate, zero": lambda side: augment.Translate(4),
    "translate, reflect": lambda side: augment.Translate(4, "reflect"),
    "random resized crop": lambda side: augment.RandomResizedCrop(),
    "rotate": lambda side: augment.Rotate(15),
    "affine": lambda side: augment.Affine(10, 0.1, (0.9, 1.1), 5),
    "cutout": lambda side: augment.Cutout(side // 4),
    "brightness, contrast": lambda side: augment.ColorJitter(0.4, 0.4),
    "colour jitter": lambda side: augment.ColorJitter(0.4, 0.4, 0.4, 0.1),
    "RandAugment": lambda side: augment.RandAugment(2, 9),
}


def torchvision_side():
    """The same by name, functions of a batch."""
    kept = named_operators()
    import torch
    from torchvision.transforms import InterpolationMode, v2

    torch.set_num_threads(1)
    linear = {"interpolation": InterpolationMode.BILINEAR}
    made = {
        "flip": lambda side: v2.RandomHorizontalFlip(),
        "translate, zero": lambda side: v2.RandomCrop(side, padding=4),
        "translate, reflect": lambda side: v2.RandomCrop(side, padding=4, padding_mode="reflect"),
        "random resized crop": lambda side: v2.RandomResizedCrop(side, antialias=False),
        "rotate": lambda side: v2.RandomRotation(15, **linear),
        "affine": lambda side: v2.RandomAffine(10, (0.1, 0.1), (0.9, 1.1), 5, **linear),
        "cutout": lambda side: v2.RandomErasing(1.0, scale=(1 / 16, 1 / 16), ratio=(1, 1)),
        "brightness, contrast": lambda side: v2.ColorJitter(0.4, 0.4),
        "colour jitter": lambda side: v2.ColorJitter(0.4, 0.4, 0.4, 0.1),
        "RandAugment": lambda side: v2.RandAugment(2, 9, **linear),
    }

    def function(name, x):
        change, images = made[name](x.shape[-1]), torch.from_numpy(x)
        return lambda: torch.stack([change(image) for image in images])

    function.kept = kept  # as long as it is called
    return function


def albumentations_side():
    """The same by name, functions of a batch; it has no RandAugment."""
    import albumentations as a
    import cv2

    cv2.setNumThreads(1)
    made = {
        "flip": lambda side: a.HorizontalFlip(p=0.5),
        "translate, zero": lambda side: a.Compose([a.Pad(4), a.RandomCrop(side, side)]),
        "translate, reflect": lambda side: a.Compose(
            [a.Pad(4, border_mode=cv2.BORDER_REFLECT_101), a.RandomCrop(side, side)]
        ),
        "random resized crop": lambda side: a.RandomResizedCrop((side, side)),
        "rotate": lambda side: a.Rotate((-15, 15), p=1),
        "affine": lambda side: a.Affine(
            rotate=(-10, 10), translate_percent=(-0.1, 0.1), scale=(0.9, 1.1), shear=(-5, 5), p=1
        ),
        "cutout": lambda side: a.CoarseDropout((1, 1), (side // 4, side // 4), (side // 4, side // 4), p=1),
        "brightness, contrast": lambda side: a.RandomBrightnessContrast((-0.4, 0.4), (-0.4, 0.4), p=1),
        "colour jitter": lambda side: a.ColorJitter((0.6, 1.4), (0.6, 1.4), (0.6, 1.4), (-0.1, 0.1), p=1),
    }

    def function(name, x):
        if name not in made or ("jitter" in name and x.shape[1] == 1):
            return None
        change, images = made[name](x.shape[-1]), np.ascontiguousarray(x.transpose(0, 2, 3, 1))
        return lambda: np.stack([change(image=image)["image"] for image in images])

    return function


def sides():
    """Those that are installed."""
    for name, make in (("torchvision", torchvision_side), ("albumentations", albumentations_side)):
        try:
            yield name, make()
        except ImportError as error:
            print(f"{name} can't be imported: {error}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1, help="for each row")
    parser.add_argument("--side", type=int, help="of images: these alone")
    options, others = parser.parse_args(), dict(sides())
    print(f"| augmentation | images | us an image | {' | '.join(f'{name} / ours' for name in others)} |")
    print("|---|---|--:|" + "--:|" * len(others))
    for shape in (shape for shape in SHAPES if options.side in (None, shape[-1])):
        x, draws = np.random.default_rng(0).random(shape, dtype=np.float32), augment.Draws((0, 0), np.arange(shape[0]))
        for name, make in OURS.items():
            ours = make(shape[-1])
            theirs = {other: function(name, x) for other, function in others.items()}
            called = [function for function in theirs.values() if function]
            both = [lambda ours=ours, x=x, draws=draws: ours(x, draws), *called]
            mine, *times = (taken.median for taken in alternate(both, seconds=options.seconds))
            ratios = iter(f"{taken / mine:.2f}" for taken in times)
            cells = [next(ratios) if function else "-" for function in theirs.values()]
            size = " x ".join(map(str, shape))
            print(f"| {name} | {size} | {mine / shape[0] * 1e6:.1f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
