"""Nets that are known by name: the article's, LeNet-5, Keras's MNIST example, one for photos, small residual nets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from xcnn.core.types import LossName, Shape
from xcnn.layers import (
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePool2D,
    GlobalMaxPool2D,
    Layer,
    MaxPool2D,
    ReLU,
    Residual,
    Sequential,
    Sigmoid,
)
from xcnn.training.losses import cross_entropy
from xcnn.training.optimizers import Adam, AdamW, Optimizer
from xcnn.training.schedules import OneCycle


def article(classes: int = 2) -> Sequential:
    """The article's: five 3x3 kernels with untied biases, and a hidden layer of 100, each with sigmoids.

    Parameters
    ----------
    classes
        outputs, each a probability

    Examples
    --------
    >>> xcnn.nets.article(2).init(np.random.default_rng(0), (1, 28, 28))[1]
    (2,)
    """
    return Sequential(
        Conv2D(5, 3, bias="untied"), Sigmoid(), Flatten(), Dense(100), Sigmoid(), Dense(classes), Sigmoid()
    )  # fmt: skip


def lenet(classes: int = 10) -> Sequential:
    """LeNet-5 of LeCun et al. 1998 with ReLU and max-pooling, on 28x28 images padded to 32x32.

    Parameters
    ----------
    classes
        outputs, logits

    Examples
    --------
    >>> xcnn.nets.lenet(2).init(np.random.default_rng(0), (1, 28, 28))[1]
    (2,)
    """
    return Sequential(
        Conv2D(6, 5, padding=2), ReLU(), MaxPool2D(2),
        Conv2D(16, 5), ReLU(), MaxPool2D(2),
        Flatten(), Dense(120), ReLU(), Dense(84), ReLU(), Dense(classes),
    )  # fmt: skip


def mnist_net(classes: int = 10) -> Sequential:
    """Two convolutions, a pooling and two dense layers: the classical example for MNIST.

    Parameters
    ----------
    classes
        outputs, logits

    Examples
    --------
    >>> xcnn.nets.mnist_net(2).init(np.random.default_rng(0), (1, 28, 28))[1]
    (2,)
    """
    return Sequential(
        Conv2D(32, 3), ReLU(), Conv2D(64, 3), ReLU(), MaxPool2D(2), Dropout(0.25),
        Flatten(), Dense(128), ReLU(), Dropout(0.5), Dense(classes),
    )  # fmt: skip


def fast(classes: int = 10) -> Sequential:
    """A net that reaches 99 % on MNIST's ten digits in one epoch: pooled twice, and normalised behind each ReLU.

    Parameters
    ----------
    classes
        outputs, logits

    Examples
    --------
    >>> xcnn.nets.fast(2).init(np.random.default_rng(0), (1, 28, 28))[1]
    (2,)
    """
    return Sequential(
        Conv2D(24, 5), ReLU(), MaxPool2D(2), BatchNorm(),
        Conv2D(32, 3), ReLU(), MaxPool2D(2), BatchNorm(),
        Flatten(), Dense(256), ReLU(), BatchNorm(), Dense(classes),
    )  # fmt: skip


def small_resnet(classes: int = 10) -> Sequential:
    """Three residual stages of 16, 32 and 64 channels: He et al. 2016, section 4.2, with one block a stage.

    Parameters
    ----------
    classes
        outputs, logits

    Examples
    --------
    >>> xcnn.nets.small_resnet(2).init(np.random.default_rng(0), (1, 28, 28))[1]
    (2,)
    """
    return Sequential(
        Conv2D(16, 3, padding="same", bias=False), BatchNorm(), ReLU(),
        residual_block(16), ReLU(), residual_block(32, stride=2), ReLU(), residual_block(64, stride=2), ReLU(),
        GlobalAveragePool2D(), Dense(classes),
    )  # fmt: skip


def photos(classes: int = 10, side: int = 64) -> Sequential:
    """A net for some hundred photos: six 3x3 convolutions, two around shortcuts, and the means of what is left.

    Few weights, none of which belongs to a place, so that it learns from few pictures what stands anywhere in them; and
    each of its last cells sees 62 pixels across, so that it knows whole outlines and not their corners alone.

    Parameters
    ----------
    classes
        outputs, logits
    side
        the shorter side of a picture: it is halved while 6 pixels or more are left

    Examples
    --------
    >>> xcnn.nets.photos(3).init(np.random.default_rng(0), (3, 64, 64))[1]
    (3,)
    """
    layers: list[Layer] = []
    for filters, shortcuts in ((24, 0), (40, 0), (56, 1), (72, 1)):
        layers += [*plain(filters), *(Residual(*plain(filters)) for _ in range(shortcuts))]
        if side >= 6:
            layers.append(MaxPool2D(2))
            side //= 2
    return Sequential(*layers, GlobalAveragePool2D(), Dropout(0.2), Dense(classes))


def plain(filters: int) -> tuple[Layer, ...]:
    """A 3x3 convolution, its norm and a ReLU."""
    return Conv2D(filters, 3, padding="same", bias=False), BatchNorm(), ReLU()


def fashion(classes: int = 10) -> Sequential:
    """A net of seven 3x3 convolutions for Fashion-MNIST: two stages, each pooled, then two more around a shortcut.

    Parameters
    ----------
    classes
        outputs, logits

    Examples
    --------
    >>> xcnn.nets.fashion(5).init(np.random.default_rng(0), (1, 28, 28))[1]
    (5,)
    """
    return Sequential(
        *normalised(32), *normalised(64, MaxPool2D(2)), Residual(*normalised(64), *normalised(64)),
        *normalised(128, MaxPool2D(2)), Residual(*normalised(128), *normalised(128)),
        GlobalMaxPool2D(), Dense(classes),
    )  # fmt: skip


def normalised(filters: int, *pooling: Layer) -> tuple[Layer, ...]:
    """A 3x3 convolution, pooled if there is a pooling, its norm and a ReLU."""
    conv = Conv2D(filters, 3, padding="same", bias=False)
    return (conv, *pooling, BatchNorm(momentum=0.9, epsilon=1e-5), ReLU())


def residual_block(filters: int, stride: int = 1) -> Residual:
    """Two 3x3 convolutions around a shortcut, which is a 1x1 convolution where the shape changes.

    Parameters
    ----------
    filters
        channels of both convolutions
    stride
        of the first one, and of the shortcut

    Examples
    --------
    >>> xcnn.nets.residual_block(8, stride=2).init(np.random.default_rng(0), (4, 28, 28))[1]
    (8, 14, 14)
    """
    changes = stride > 1
    shortcut = Sequential(Conv2D(filters, 1, stride=stride, bias=False), BatchNorm()) if changes else None
    return Residual(
        Conv2D(filters, 3, stride=stride, padding="same", bias=False), BatchNorm(), ReLU(),
        Conv2D(filters, 3, padding="same", bias=False), BatchNorm(),
        shortcut=shortcut,
    )  # fmt: skip


ADAM = Adam(1e-3)


@dataclass(frozen=True)
class Recipe:
    """A net, and how it is trained unless one says otherwise.

    Parameters
    ----------
    net
        from the number of classes to the net
    loss
        a name in xcnn.losses.LOSSES, or one of these functions with its options
    optimizer
        with its learning rate; or a function that makes it of the number of steps in all, where the rate follows these
    epochs
        rounds through the data; or a function that makes it of the number of samples
    batch_size
        samples a step
    augment
        what is done to training images, as `xcnn train --augment` takes it: "flip,translate:2"
    suits
        what it is for, in a line
    sized
        whether the net is made for a picture's side too
    backbone
        whether `xcnn train` begins with the convolutions of `xcnn.nets.load_backbone`

    Examples
    --------
    >>> recipe = xcnn.nets.Recipe(xcnn.nets.lenet, epochs=5)
    >>> recipe.epochs, recipe.batch_size, recipe.loss
    (5, 64, 'cross_entropy')
    """

    net: Callable[..., Sequential]
    loss: LossName | Callable[..., Any] = "cross_entropy"
    optimizer: Optimizer | Callable[[int], Optimizer] = ADAM
    epochs: int | Callable[[int], int] = 3
    batch_size: int = 64
    augment: str = ""
    suits: str = ""
    sized: bool = False
    backbone: bool = False

    def net_for(self, classes: int, shape: Shape) -> Sequential:
        """The net for so many classes of images (channels, height, width)."""
        return self.net(classes, min(shape[1:])) if self.sized else self.net(classes)

    def epochs_for(self, samples: int) -> int:
        """The rounds through so many samples."""
        return self.epochs if isinstance(self.epochs, int) else self.epochs(samples)

    def optimizer_for(self, samples: int, epochs: int, batch_size: int) -> Optimizer:
        """The optimizer for a training of so many samples, rounds and samples a step."""
        if isinstance(self.optimizer, Optimizer):
            return self.optimizer
        return self.optimizer(max(2, epochs * -(-samples // batch_size)))


def one_cycle(steps: int) -> Optimizer:
    """Adam, its rate up to 0.01 and down again over all steps: Smith and Topin 2018."""
    return Adam(OneCycle(0.01, steps))


def one_cycle_decayed(steps: int) -> Optimizer:
    """The same, weights decaying beside the gradients' steps: Loshchilov and Hutter 2019."""
    return AdamW(OneCycle(0.01, steps, rise=0.25), weight_decay=0.05)


SMOOTHED = partial(cross_entropy, label_smoothing=0.1)
"""Labels a tenth of which is spread over all classes: Szegedy et al. 2016, "Rethinking the Inception architecture"."""


def warm_cycle(steps: int) -> Optimizer:
    """AdamW, its rate up to 0.003 and down again over all steps, with a little weight decay."""
    return AdamW(OneCycle(0.003, steps), weight_decay=0.02)


LOOKS = 48_000
"""At how many pictures in all a net for photos looks: few pictures are looked at more often."""


def rounds(samples: int) -> int:
    """3 to 200 rounds, 20 at least through a few thousand, so that about LOOKS pictures are looked at."""
    return min(200, max(20 if samples <= 4000 else 3, LOOKS // max(1, samples)))


RECIPES = {
    "article": Recipe(article, loss="binary_cross_entropy", batch_size=32, suits="two digits, as in the article"),
    "fast": Recipe(fast, optimizer=one_cycle, epochs=1, batch_size=64, suits="MNIST: 99 % in some seconds"),
    "fashion": Recipe(
        fashion,
        loss=SMOOTHED,
        optimizer=one_cycle_decayed,
        epochs=12,
        batch_size=128,
        augment="flip,translate:2",
        suits="Fashion-MNIST, 28x28",
    ),
    "lenet": Recipe(lenet, suits="small grey pictures, 28x28"),
    "mnist-net": Recipe(mnist_net, suits="MNIST: 99 % and more, slower"),
    "photos": Recipe(
        photos,
        optimizer=warm_cycle,
        epochs=rounds,
        batch_size=16,
        suits="a folder of some hundred photos",
        sized=True,
        backbone=True,
    ),
    "small-resnet": Recipe(small_resnet, suits="thousands of small colour pictures"),
}


__all__ = [
    "RECIPES",
    "Recipe",
    "article",
    "fashion",
    "fast",
    "lenet",
    "mnist_net",
    "photos",
    "residual_block",
    "small_resnet",
]
