"""Nets that are drawn: random but sensible, the same for a seed everywhere, so that nobody can tune to a list."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from random import Random
from typing import Any, TypeVar

from xcnn.bench.cases import Ledger, StepCase
from xcnn.core.types import Shape
from xcnn.layers import (
    ELU,
    GELU,
    AveragePool2D,
    BatchNorm,
    Conv2D,
    Conv2DTranspose,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePool2D,
    GlobalMaxPool2D,
    GroupNorm,
    LayerNorm,
    LeakyReLU,
    MaxPool2D,
    ReLU,
    Residual,
    Sequential,
    Sigmoid,
    SiLU,
    Softplus,
    SpatialDropout2D,
    Tanh,
    UpSampling2D,
)
from xcnn.layers.container import Container
from xcnn.layers.layer import Layer
from xcnn.model.summary import count
from xcnn.training.optimizers import SGD

FASTEST, SLOWEST = 2e-3, 0.4
"""Seconds that a step may take, by `seconds`."""
RATE, MEMORY, CALL = 1e11, 1e10, 2e-5
"""What `seconds` counts with: additions and multiplications a second, bytes a second, seconds a layer."""
PASSES = 8
"""How often a step goes over each activation and each weight."""
ACTIVATIONS = (
    ReLU(), ReLU(), ReLU(), LeakyReLU(0.01), LeakyReLU(0.2), ELU(), SiLU(), GELU(), GELU(approximate=True), Tanh(),
    Sigmoid(), Softplus(),
)  # fmt: skip
SMALLEST = 8
"""Sides of less are not made smaller: normalisations have at least 16 cells."""

T = TypeVar("T")


def drawn(seed: int) -> StepCase:
    """The net of this seed, its images and batch: the first whose step takes as long as it may."""
    pen = Pen(seed)
    while True:
        case = pen.image_net(f"drawn-{seed}") if pen.chance(0.2) else pen.classifier(f"drawn-{seed}")
        if FASTEST <= seconds(case) <= SLOWEST:
            return case


def seconds(case: StepCase) -> float:
    """About how long a training step takes on two cores: arithmetic, passes over activations, calls."""
    ledger = Ledger(case.net, case.input_shape)
    cells = case.batch * sum(prod(output) for layer, _, output in ledger.rows if not isinstance(layer, Container))
    cells += count(ledger.weights)
    return case.flop / RATE + PASSES * 4 * cells / MEMORY + CALL * len(ledger.rows)


class Pen:
    """Draws nets, from `random` alone, whose numbers are the same in every version of Python."""

    random: Callable[[], float]
    kind: str
    """The norm of all blocks of a net."""
    usual: Layer
    """Their activation."""
    sides: list[int]
    channels: int

    def __init__(self, seed: int) -> None:
        self.random = Random(seed).random

    def one(self, *options: T) -> T:
        """One of these, all alike."""
        return options[int(self.random() * len(options))]

    def chance(self, p: float) -> bool:
        """True with this probability."""
        return self.random() < p

    def whole(self, least: int, most: int) -> int:
        """A number between these: its logarithm is uniform."""
        return min(most, int(least * ((most + 1) / least) ** self.random()))

    # Whole nets.

    def begin(self, multiple: int = 1) -> tuple[Shape, int]:
        """An image's shape, sides a multiple of this, and a batch; and what all blocks of the net have in common."""
        sides = [-(-self.whole(16, 128) // multiple) * multiple] * 2
        if self.chance(0.2):
            sides[1] = -(-self.whole(16, 128) // multiple) * multiple
        self.kind = self.one("batch", "batch", "group", "layer", "channels", "none")
        self.usual = self.one(*ACTIVATIONS)
        self.sides, self.channels = sides, self.one(1, 3, 3, 2)
        return (self.channels, *sides), self.whole(1, 128)

    def classifier(self, name: str) -> StepCase:
        """A stem, stages of blocks, each smaller and wider than the one before, and a head."""
        shape, batch = self.begin()
        layers = self.stem()
        for stage in range(self.one(1, 2, 3, 4)):
            if stage and min(self.sides) >= SMALLEST:
                layers += self.smaller()
            for _ in range(self.one(1, 1, 2, 3)):
                layers += self.block()
        classes = self.one(2, 10, 10, 100, 1000)
        return StepCase(name, Sequential(*layers, *self.head(classes)), shape, batch, "cross_entropy", sgd())

    def image_net(self, name: str) -> StepCase:
        """Down, and up again to an image: a class for each cell, or an image like the first."""
        shape, batch = self.begin(multiple=8)
        layers, depth = self.stem(stride=1), self.one(1, 2, 3)
        widths: list[int] = []
        while len(widths) < depth and min(self.sides) >= SMALLEST:
            widths.append(self.channels)
            layers += self.block() + self.smaller(halving=True)
        layers += self.block()
        for width in reversed(widths):
            layers += self.larger(width)
        if self.chance(0.5):
            classes = self.one(2, 4, 8)
            return StepCase(name, Sequential(*layers, Conv2D(classes, 1)), shape, batch, "cross_entropy", sgd())
        return StepCase(name, Sequential(*layers, Conv2D(shape[0], 1), Sigmoid()), shape, batch, "mse", sgd())

    # Parts of nets, as lists of layers; each knows what the one before has left: channels and sides.

    def conv(self, filters: int, kernel: int, **options: Any) -> Conv2D:
        """A convolution that keeps sides but for its stride; its bias may be left to a norm."""
        dilation, stride = options.get("dilation", 1), options.get("stride", 1)
        self.channels, self.sides = filters, [-(-n // stride) for n in self.sides]
        around = {"padding": dilation * (kernel - 1) // 2} if kernel > 1 else {}
        return Conv2D(filters, kernel, **around, bias=self.kind != "batch" or self.chance(0.3), **options)

    def groups(self, channels: int, *numbers: int) -> int:
        """One of the numbers that channels can be split into."""
        return self.one(*(g for g in numbers if channels % g == 0))

    def norm(self) -> list[Layer]:
        """The net's kind of normalisation, if it has one."""
        groups = self.groups(self.channels, 1, 2, 4, 8, self.channels)
        norms: dict[str, Layer] = {
            "batch": BatchNorm(),
            "group": GroupNorm(groups),
            "layer": LayerNorm(),
            "channels": LayerNorm(axis=1),
        }
        return [norms[self.kind]] if self.kind in norms else []

    def activation(self) -> Layer:
        """The net's usual one, now and then another."""
        return self.one(*ACTIVATIONS) if self.chance(0.1) else self.usual

    def finished(self, convolution: Layer) -> list[Layer]:
        """A convolution with its norm and activation, sometimes with a dropout behind it."""
        dropout = [self.one(Dropout(0.1), Dropout(0.3), SpatialDropout2D(0.2))] if self.chance(0.1) else []
        return [convolution, *self.norm(), self.activation(), *dropout]

    def stem(self, stride: int = 0) -> list[Layer]:
        """The first convolution, of large images perhaps with a stride and a pooling."""
        large = min(self.sides) >= 48 and not stride
        stride = stride or (self.one(1, 2, 2, 4) if large else 1)
        width = self.one(8, 12, 16, 16, 24, 32, 32, 48, 64)
        layers = self.finished(self.conv(width, 7 if stride == 4 else self.one(3, 3, 5, 7), stride=stride))
        return layers + (self.pooling() if large and self.chance(0.4) else [])

    def pooling(self, halving: bool = False) -> list[Layer]:
        """Windows of 2x2 or 3x3, two cells apart."""
        kind: Any = self.one(MaxPool2D, MaxPool2D, AveragePool2D)
        small = halving or self.chance(0.5)
        self.sides = [n // 2 if small else (n + 1) // 2 for n in self.sides]
        return [kind(2) if small else kind(3, stride=2, padding=1)]

    def smaller(self, halving: bool = False) -> list[Layer]:
        """To half the sides and to more channels, by a pooling or by a convolution's stride."""
        width = self.channels * self.one(1, 2, 2) if self.channels <= 256 else self.channels
        if self.chance(0.5):
            return self.finished(self.conv(width, 3, stride=2))
        return self.finished(self.conv(width, self.one(1, 3))) + self.pooling(halving)

    def larger(self, width: int) -> list[Layer]:
        """To twice the sides, by a transposed convolution or by repeated or interpolated cells."""
        self.sides = [2 * n for n in self.sides]
        if self.chance(0.3):
            up = UpSampling2D(2, self.one("nearest", "bilinear"))
            return [up, *self.finished(self.conv(width, 3))]
        self.channels = width
        kinds = (
            Conv2DTranspose(width, 2, stride=2),
            Conv2DTranspose(width, 4, stride=2, padding=1),
            Conv2DTranspose(width, 3, stride=2, padding=1, output_padding=1),
        )
        return self.finished(self.one(*kinds))

    def head(self, classes: int) -> list[Layer]:
        """From images to classes."""
        heads: tuple[Layer, ...] = GlobalAveragePool2D(), GlobalAveragePool2D(), GlobalMaxPool2D(), Flatten()
        layers = [self.one(*heads)]
        while isinstance(layers[-1], Flatten) and prod(self.sides) > 64:
            layers = [*self.pooling(), *layers]
        if self.chance(0.4):
            layers += [Dense(self.one(64, 128, 256)), self.activation()]
        if self.chance(0.3):
            layers.append(Dropout(self.one(0.2, 0.5)))
        return [*layers, Dense(classes)]

    # Blocks keep sides.

    def block(self) -> list[Layer]:
        """One of the kinds that are in use, at the width of now or another."""
        kinds = self.simple, self.simple, self.separable, self.residual, self.residual, self.bottleneck, self.inverted
        return self.one(*kinds, self.mixing)()

    def simple(self) -> list[Layer]:
        """One convolution: usual, dilated or of groups."""
        width = self.channels
        options: dict[str, int] = self.one({}, {}, {"dilation": 2}, {"groups": self.groups(width, 2, 4)})
        return self.finished(self.conv(width, 3 if options else self.one(1, 3, 3, 5), **options))

    def depthwise(self, *kernels: int) -> DepthwiseConv2D:
        """One kernel a channel."""
        kernel = self.one(*kernels)
        return DepthwiseConv2D(kernel, padding=kernel // 2, bias=self.kind != "batch")

    def separable(self) -> list[Layer]:
        """A depthwise and a 1x1 convolution: MobileNet's."""
        return self.finished(self.depthwise(3, 3, 5)) + self.finished(self.conv(self.channels, 1))

    def residual(self) -> list[Layer]:
        """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where the width changes."""
        before, width = self.channels, self.channels * self.one(1, 1, 2)
        body = [*self.finished(self.conv(width, 3)), self.conv(width, 3), *self.norm()]
        shortcut = Sequential(self.conv(width, 1), *self.norm()) if width != before else None
        return [Residual(*body, shortcut=shortcut), self.activation()]

    def bottleneck(self) -> list[Layer]:
        """1x1 to fewer channels, 3x3 there, perhaps in groups, and 1x1 back: ResNet's and ResNeXt's."""
        width = self.channels
        narrow = self.finished(self.conv(width // 2, 1))
        inner = self.finished(self.conv(width // 2, 3, groups=self.groups(width // 2, 1, 2, 4)))
        return [Residual(*narrow, *inner, self.conv(width, 1), *self.norm()), self.activation()]

    def inverted(self) -> list[Layer]:
        """1x1 to more channels, depthwise there, and 1x1 back, with nothing behind the sum: MobileNetV2's."""
        width = self.channels
        wide = self.finished(self.conv(width * self.one(2, 4), 1))
        return [Residual(*wide, *self.finished(self.depthwise(3, 5)), self.conv(width, 1), *self.norm())]

    def mixing(self) -> list[Layer]:
        """7x7 depthwise, a norm, and two 1x1 with an activation between: ConvNeXt's."""
        width = self.channels
        first = [self.depthwise(7), *self.norm(), self.conv(4 * width, 1), self.activation()]
        return [Residual(*first, self.conv(width, 1))]


def sgd() -> SGD:
    """At a rate at which no net diverges, however few its samples are."""
    return SGD(1e-4, momentum=0.9)
