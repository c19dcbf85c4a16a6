"""The table of layers: each row (a layer, the shape of one sample) is put to every check on every backend."""

from xcnn.layers import Conv2D, Dense, Flatten, ReLU, Sequential, Sigmoid

CASES = [
    (Conv2D(4, 3), (2, 6, 7)),
    (Conv2D(3, (2, 3), stride=(2, 1), padding="same", bias=False), (2, 7, 6)),
    (Conv2D(4, 3, padding="full", dilation=2, groups=2, bias="untied"), (2, 6, 6)),
    (Conv2D(2, 3, stride=2, padding=((0, 3), (2, 1)), kernel_initializer="he_normal"), (1, 8, 7)),
    (Dense(5), (4,)),
    (Dense(3, bias=False), (4,)),
    (Flatten(), (2, 3, 4)),
    (ReLU(), (2, 5, 5)),
    (Sigmoid(), (7,)),
    (Sequential(Conv2D(3, 3, bias="untied"), Sigmoid(), Flatten(), head=Dense(2)), (1, 6, 6)),
]
