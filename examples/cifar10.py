"""CIFAR-10 by the recipe of airbench94: python cifar10.py [DATA_DIR] [EPOCHS] [IMAGES] [BATCH]

Jordan 2024, "94 % on CIFAR-10 in 3.29 seconds on a single GPU", from its description: a first layer of whitened 2x2
patches that stays as it is, filters that begin by passing their inputs on, batch norms without scales, labels smoothed
by 0.2, mirroring in turns, Muon for filters and Nesterov's momentum for the rest, Lookahead, and six views of a test
image. Where the paper has straight lines the rate follows cosines, and filters are not normalised between steps.

DATA_DIR holds data_batch_1.bin ... data_batch_5.bin and test_batch.bin, from cifar-10-binary.tar.gz
(https://www.cs.toronto.edu/~kriz/cifar.html). Without it, or with "drawn", there are drawn rings of ten widths, of the
same shape, which say whether all of this runs and how long a step takes, and nothing about CIFAR-10.
"""

import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
from array_api_compat import array_namespace

import xcnn
from xcnn.optimizers import Group, Groups

SIDE = 32
RECORD = 1 + 3 * SIDE * SIDE


def read(folder, names):
    """Images (count, 3, 32, 32) of bytes and labels (count,), from files of records: a label, then red, green, blue."""
    parts = []
    for name in names:
        content = np.fromfile(Path(folder, name), np.uint8)
        if content.size == 0 or content.size % RECORD or content[::RECORD].max() > 9:
            sys.exit(f"{Path(folder, name)} is no file of CIFAR-10's binary version: {content.size:,} bytes")
        parts.append(content.reshape(-1, RECORD))
    records = np.concatenate(parts)
    return records[:, 1:].reshape(-1, 3, SIDE, SIDE), records[:, 0].astype(np.int64)


def drawn(count, seed):
    """The same of rings around any place, in any two colours; the label is their width."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 10, count)
    middle = rng.uniform(8, SIDE - 8, (2, count, 1, 1))
    down, right = (at - m for at, m in zip(np.mgrid[:SIDE, :SIDE], middle, strict=True))
    rings = np.sin(np.hypot(down, right) * np.pi / (1.5 + 0.5 * y[:, None, None])) > 0
    one, other = rng.uniform(0, 256, (2, count, 3, 1, 1))
    x = np.where(rings[:, None], one, other) + 10 * rng.standard_normal((count, 3, SIDE, SIDE))
    return x.clip(0, 255).astype(np.uint8), y


def whitening(x, size=2, epsilon=5e-4):
    """Filters (6 size², 3, size, size) that make patches of x uncorrelated and equally strong, and their negatives.

    v / sqrt(lambda + epsilon) for each eigenvector v of the patches' covariance and its eigenvalue lambda.
    """
    patches = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(2, 3))
    rows = patches.transpose(0, 2, 3, 1, 4, 5).reshape(-1, 3 * size * size)
    values, vectors = np.linalg.eigh(np.cov(rows, rowvar=False))
    filters = (vectors / np.sqrt(values + epsilon)).T.reshape(-1, 3, size, size)
    return np.concatenate([filters, -filters]).astype("float32")


def passing_on(rng, shape, fan_in, fan_out):
    """Kernels (filters, channels, 3, 3) whose first filters give the channels as they are; the rest are drawn."""
    kernel = rng.uniform(-1, 1, shape) / np.sqrt(fan_in)
    for n in range(min(shape[:2])):
        kernel[n] = 0
        kernel[n, n, shape[2] // 2, shape[3] // 2] = 1
    return kernel


def net(widths=(64, 256, 256)):
    """Whitened patches, then stages of two convolutions, pooled behind the first of them."""
    conv = partial(xcnn.Conv2D, kernel_size=3, padding="same", bias=False, kernel_initializer=passing_on)
    layers = {"whiten": xcnn.Conv2D(24, 2), "gelu0": xcnn.GELU()}
    for n, filters in enumerate(widths, 1):
        layers |= {f"conv{n}a": conv(filters), f"pool{n}": xcnn.MaxPool2D(2)}
        layers |= {f"norm{n}a": xcnn.BatchNorm(momentum=0.6), f"gelu{n}a": xcnn.GELU()}
        layers |= {f"conv{n}b": conv(filters)}
        layers |= {f"norm{n}b": xcnn.BatchNorm(momentum=0.6), f"gelu{n}b": xcnn.GELU()}
    layers |= {"last": xcnn.MaxPool2D(3), "flatten": xcnn.Flatten(), "head": xcnn.Dense(10, bias=False)}
    return xcnn.Sequential(**layers, ninth=xcnn.Scale(1 / 9))


def mirrored_in_turns(x, draws):
    """Half of the images mirrored in the first epoch, drawn by lot, the others in the second, and so on in turns."""
    seed, epoch = draws.key[:2]
    turned = (xcnn.augment.Draws((seed,), draws.samples).uniform()[:, 0] < 0.5) ^ (epoch % 2 == 1)
    xp = array_namespace(x)
    return xp.where(xp.asarray(turned)[:, None, None, None], xp.flip(x, axis=3), x)


def moved(x, draws, by=1, mirrored=False):
    """Images moved by a cell down and right, or with -1 up and left, what comes in being mirrored at the edge."""
    xp = array_namespace(x)
    for axis in (2, 3):
        at = np.abs(np.arange(x.shape[axis]) - by)
        at = np.where(at >= x.shape[axis], 2 * x.shape[axis] - 2 - at, at)
        x = xp.take(x, xp.asarray(at), axis=axis)
    return xp.flip(x, axis=3) if mirrored else x


VIEWS = [None, xcnn.augment.Flip(1), *(partial(moved, by=by, mirrored=m) for by in (1, -1) for m in (False, True))]


if __name__ == "__main__":
    given = dict(enumerate(sys.argv))
    folder, epochs = given.get(1, "drawn"), int(given.get(2, 8))
    count, batch = int(given.get(3, 50_000)), int(given.get(4, 2000))
    if folder == "drawn":
        (x, y), (xt, yt) = drawn(count, seed=0), drawn(max(count // 5, 50), seed=1)
    else:
        (x, y), (xt, yt) = read(folder, [f"data_batch_{n}.bin" for n in range(1, 6)]), read(folder, ["test_batch.bin"])
    x, y = x[:count], y[:count]
    mean, deviation = ((f(x, axis=(0, 2, 3)) / 255).astype("float32")[:, None, None] for f in (np.mean, np.std))
    x, xt = ((each.astype("float32") / 255 - mean) / deviation for each in (x, xt))

    steps = epochs * -(-len(x) // batch)
    rate = xcnn.schedules.OneCycle(0.05, max(steps, 2), rise=0.23, start=5, end=3)
    groups = (
        Group(("whiten/kernel", "*/scale"), frozen=True),
        Group("conv*/kernel", optimizer=xcnn.Muon(momentum=0.6), rate=4),
        Group("head/kernel", rate=10),
    )
    optimizer = xcnn.Lookahead(Groups(xcnn.SGD(rate, momentum=0.85, nesterov=True), groups), k=5, alpha=0.5)
    smoothed = partial(xcnn.losses.cross_entropy, label_smoothing=0.2)
    model = xcnn.Model(net(), (3, SIDE, SIDE), loss=smoothed, optimizer=optimizer, seed=0)
    model.weights["whiten"]["kernel"] = whitening(x[:5000])

    begun = time.perf_counter()
    augment = [mirrored_in_turns, xcnn.augment.Translate(2, "reflect")]
    model.fit(x, y, epochs=epochs, batch_size=batch, augment=augment, accumulate=max(batch // 250, 1))
    seconds = time.perf_counter() - begun
    print(f"{steps} steps of {batch} images, {seconds / steps:.2f} s each")
    right = [np.mean(model.predict(xt, views=views).argmax(axis=1) == yt) for views in (None, VIEWS)]
    what = "drawn rings, not CIFAR-10" if folder == "drawn" else "CIFAR-10"
    print(f"test accuracy {right[0]:.2%}, in six views {right[1]:.2%}, of {len(xt):,} images: {what}")
