"""Runs of layers that PyTorch's backend fuses."""

from xcnn.layers import (
    ELU,
    GELU,
    AveragePool2D,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePool2D,
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
    Tanh,
    UpSampling2D,
)

IMAGE = (2, 11, 10)


RUNS = {
    "conv": (Sequential(Conv2D(3, 3)), IMAGE),
    "conv, no bias, relu": (Sequential(Conv2D(3, (2, 3), stride=2, padding="same", bias=False), ReLU()), IMAGE),
    "conv, sigmoid": (Sequential(Conv2D(4, 3, padding="full", groups=2), Sigmoid()), IMAGE),
    "conv, untied, tanh": (Sequential(Conv2D(3, 3, bias="untied"), Tanh()), IMAGE),
    "conv, untied, relu, pool": (Sequential(Conv2D(3, 3, bias="untied"), ReLU(), MaxPool2D(2)), IMAGE),
    "conv, relu, pool": (Sequential(Conv2D(3, 3), ReLU(), MaxPool2D(2)), IMAGE),
    "conv, pool": (Sequential(Conv2D(3, 3, padding="same"), MaxPool2D(3, stride=2, padding=1)), IMAGE),
    "conv, sigmoid, pool": (Sequential(Conv2D(3, 3), Sigmoid(), MaxPool2D(2)), IMAGE),
    "conv, overlapping pool": (Sequential(Conv2D(3, 3), ReLU(), MaxPool2D(3, stride=1)), IMAGE),
    "conv of six, relu, pool": (Sequential(Conv2D(6, 3, padding="same"), ReLU(), MaxPool2D(2)), IMAGE),
    "conv of five, no bias, pool": (Sequential(Conv2D(5, 3, bias=False), MaxPool2D(3, stride=2), Flatten()), IMAGE),
    "conv, dilated": (Sequential(Conv2D(3, 3, dilation=(1, 2), padding=((0, 3), (2, 1))), ReLU()), IMAGE),
    "conv of one channel": (Sequential(Conv2D(4, 3), ReLU(), Conv2D(1, 1), Tanh()), (1, 7, 6)),
    "dense, relu": (Sequential(Dense(5), ReLU(), Dense(3, bias=False), Sigmoid(), Dense(2), Tanh()), (7,)),
    "norm, relu": (Sequential(BatchNorm(momentum=0.8, epsilon=1e-5), ReLU(), BatchNorm()), IMAGE),
    "norm of lines": (Sequential(BatchNorm(), ReLU()), (3, 7)),
    "norm of vectors": (Sequential(BatchNorm()), (6,)),
    "dropout": (Sequential(Dropout(0.3), Dropout(0.6), Flatten()), (3, 5, 7)),
    "single": (Sequential(ReLU(), Sigmoid(), Tanh(), MaxPool2D(3, 2, padding=1), GlobalAveragePool2D()), IMAGE),
    "activations": (Sequential(SiLU(), GELU(), LeakyReLU(0.1), GELU(approximate=True), ELU(0.7), Softplus()), IMAGE),
    "averages": (Sequential(AveragePool2D(3, stride=2, padding=1), AveragePool2D(2, padding="same")), IMAGE),
    "group norms": (Sequential(Conv2D(6, 3), GroupNorm(3), Tanh(), GroupNorm(1), Tanh(), GroupNorm(6)), IMAGE),
    "group norms of others": (Sequential(GroupNorm(2), Flatten(), GroupNorm(4)), (4, 5)),
    "layer norms": (
        Sequential(Conv2D(6, 3), LayerNorm(), LayerNorm(axis=1), LayerNorm(axis=(1, 3), epsilon=0.1)), IMAGE,
    ),
    "larger images": (Sequential(UpSampling2D(2), UpSampling2D((2, 4), interpolation="bilinear")), IMAGE),
    "layer norms of others": (Sequential(LayerNorm(), LayerNorm(axis=-1), Flatten(), LayerNorm()), (4, 5)),
    "flatten": (Sequential(Flatten(), Dense(3)), IMAGE),
    "residual": (Sequential(Residual(Conv2D(2, 3, padding="same"), BatchNorm()), ReLU()), IMAGE),
    "residual, shortcut": (
        Sequential(
            Residual(
                Conv2D(4, 3, stride=2, padding=1, bias=False), BatchNorm(), ReLU(), Dropout(0.4),
                shortcut=Sequential(Conv2D(4, 1, stride=2), BatchNorm()),
            ),
            Residual(Conv2D(4, 1)), GlobalAveragePool2D(), Dense(2),
        ),
        IMAGE,
    ),
    "all": (
        Sequential(
            Conv2D(4, 3, padding="same"), ReLU(), MaxPool2D(2),
            Residual(Conv2D(4, 3, padding="same"), BatchNorm(), ReLU()), ReLU(), BatchNorm(), Dropout(0.3),
            Flatten(), Dense(6), Sigmoid(), head=Dense(2),
        ),
        (2, 6, 8),
    ),
}  # fmt: skip
