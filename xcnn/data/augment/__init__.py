"""Augmentations: what may be done to a training image without changing what it shows.

Each is a value, like a layer, and a list of them is put to every batch of `fit`:

    model.fit(x, y, augment=[augment.Flip(), augment.Translate(4, "reflect"), augment.Cutout(8)])

What is drawn follows from the model's seed, the epoch and the sample's number, so that it is the same on every backend,
and after a training that was left is resumed: `fit` makes batches in NumPy, before they are moved. Called with arrays
of another library, they draw the same and give the same bits.

Your own is a function `(x, draws) -> x` of a batch (N, C, H, W) and a `Draws`; one that mixes samples has a method
`mix(x, t, draws) -> (x, t)`, t being shares of classes.
"""

from xcnn.data.augment.batches import Augmentation, augmented, check_augment
from xcnn.data.augment.colour import ColorJitter
from xcnn.data.augment.draws import Draws
from xcnn.data.augment.geometry import Affine, Cutout, RandomResizedCrop, Rotate, Translate
from xcnn.data.augment.mirror import Flip
from xcnn.data.augment.mixing import CutMix, Mixup
from xcnn.data.augment.preview import preview
from xcnn.data.augment.rand_augment import RandAugment

__all__ = [
    "Affine", "Augmentation", "ColorJitter", "CutMix", "Cutout", "Draws", "Flip", "Mixup", "RandAugment",
    "RandomResizedCrop", "Rotate", "Translate", "augmented", "check_augment", "preview",
]  # fmt: skip
