"""A U-Net finds discs, squares and triangles, place by place: python segment_shapes.py [IMAGES] [EPOCHS]

Each picture shows one to four shapes of any colour and size on a ground with a colour run and noise; a later shape may
cover an earlier one. See the intersection over union of each class, on pictures that it was not trained on, and one of
these beside what was found in it.
"""

import sys

import numpy as np

import xcnn

CLASSES = ("ground", "disc", "square", "triangle")
SIDE, NOISE = 48, 0.08


def shape(kind, rng):
    """Which cells (SIDE, SIDE) a shape of this kind covers, somewhere."""
    reach = rng.uniform(6, 12)
    middle = rng.uniform(reach, SIDE - reach, 2)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    down, right = rows - middle[0], columns - middle[1]
    match kind:
        case "disc":
            return down**2 + right**2 < reach**2
        case "square":
            return np.maximum(abs(down), abs(right)) < 0.85 * reach
    return (abs(right) < (down + reach) / 2) & (abs(down) < reach)  # its tip is above


def drawn(count, seed):
    """Images (count, 3, SIDE, SIDE), and the class of each cell (count, SIDE, SIDE)."""
    rng = np.random.default_rng(seed)
    x, y = np.empty((count, 3, SIDE, SIDE), np.float32), np.zeros((count, SIDE, SIDE), np.int64)
    run = np.linspace(0, 1, SIDE)
    for image, labels in zip(x, y, strict=True):
        one, other, turned = rng.uniform(0, 1, (2, 3, 1, 1)), rng.uniform(0, 1, (3, 1, 1)), rng.random() < 0.5
        image[:] = one[0] + (other - one[0]) * (run if turned else run[:, None])
        for label in rng.integers(1, len(CLASSES), rng.integers(1, 5)):
            covered = shape(CLASSES[label], rng)
            colour = rng.uniform(0, 1, 3)
            image[:, covered], labels[covered] = colour[:, None], label
    return x + NOISE * rng.standard_normal(x.shape).astype("float32"), y


def sketch(labels):
    """A plane of classes as text: every fourth row, every second column."""
    return ["".join(".dst"[label] for label in row) for row in labels[::4, ::2].tolist()]


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    epochs = int(sys.argv[2]) if len(sys.argv) > 2 else 16

    x, y = drawn(count, seed=0)
    x_test, y_test = drawn(max(count // 4, 24), seed=1)

    steps = epochs * -(-count // 16)
    model = xcnn.Model(
        xcnn.nets.unet(classes=len(CLASSES), features=8),
        (3, SIDE, SIDE),
        metrics=["iou", xcnn.metrics.IoU("each", name="each")],
        optimizer=xcnn.AdamW(xcnn.schedules.OneCycle(0.005, steps)),
        seed=0,
    )
    model.fit(x, y, epochs=epochs, batch_size=16)

    measured = model.evaluate(x_test, y_test)
    print(f"mean IoU {measured['iou']:.3f}, {measured['accuracy']:.2%} of the cells of {len(x_test)} test images right")
    print(", ".join(f"{name} {share:.3f}" for name, share in zip(CLASSES, measured["each"], strict=True)))
    found = model.predict(x_test[:1]).argmax(axis=1)[0]
    print("\ndrawn", " " * (SIDE // 2 - 4), "found")
    print("\n".join(f"{left}  {right}" for left, right in zip(sketch(y_test[0]), sketch(found), strict=True)))
