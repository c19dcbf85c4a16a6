"""Pictures of drawn shapes to begin from: what `pretrain_photos.py` trains on. None of them is in the tests' photos.

A shape is an outline in -1..1, or a figure of several such parts, in three colours at most. It is turned, slanted and
scaled at will, set anywhere, and filled and lit at will before a ground with other things on it: neither colour nor
place tells which it is.
"""

from math import cos, pi, sin

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

WORKED = 128
"""Cells of the square that is drawn on, before it is averaged to SIDE."""
SIDE = 64


def arc(middle, radius, begin, end, count=14):
    """Corners along an arc, in turns."""
    turns = np.linspace(begin, end, count) * 2 * pi
    return [(middle[0] + radius * cos(t), middle[1] + radius * sin(t)) for t in turns]


def wheel(teeth, inner):
    """A cogwheel's outline."""
    corners = []
    for n in range(teeth):
        for part, r in ((0.0, inner), (0.2, 1.0), (0.5, 1.0), (0.7, inner)):
            t = 2 * pi * (n + part) / teeth
            corners.append((r * cos(t), r * sin(t)))
    return corners


SHAPES = {
    "arrow": [(-1, -0.25), (0.1, -0.25), (0.1, -0.75), (1, 0), (0.1, 0.75), (0.1, 0.25), (-1, 0.25)],
    "bottle": [(-0.2, -1), (0.2, -1), (0.2, -0.4), (0.5, 0), (0.5, 1), (-0.5, 1), (-0.5, 0), (-0.2, -0.4)],
    "bowtie": [(-1, -0.7), (0, -0.12), (1, -0.7), (1, 0.7), (0, 0.12), (-1, 0.7)],
    "boot": [(-0.5, -1), (0.15, -1), (0.15, 0.3), (0.95, 0.5), (0.95, 1), (-0.5, 1)],
    "chevron": [(-1, -0.2), (0, -0.9), (1, -0.2), (1, 0.6), (0, -0.1), (-1, 0.6)],
    "comb": [(-1, -0.8), (1, -0.8), (1, 0.8), (0.7, 0.8), (0.7, -0.2), (0.15, -0.2), (0.15, 0.8), (-0.15, 0.8),
             (-0.15, -0.2), (-0.7, -0.2), (-0.7, 0.8), (-1, 0.8)],
    "dome": arc((0, 0.4), 1, 0.5, 1.0),
    "drop": [(0, -1), *arc((0, 0.4), 0.58, 0.95, 1.55)],
    "fish": [*arc((-0.2, 0.55), 1, 0.57, 0.87), (1, -0.7), (1, 0.7), *arc((-0.2, -0.55), 1, 0.13, 0.43)],
    "gear": wheel(8, 0.72),
    "hexagon": arc((0, 0), 1, 0, 5 / 6, 6),
    "hourglass": [(-0.7, -1), (0.7, -1), (0.12, 0), (0.7, 1), (-0.7, 1), (-0.12, 0)],
    "house": [(0, -1), (0.9, -0.2), (0.65, -0.2), (0.65, 0.9), (-0.65, 0.9), (-0.65, -0.2), (-0.9, -0.2)],
    "key": [*arc((-0.5, 0), 0.45, 0.06, 0.94, 18), (1, -0.14), (1, 0.5), (0.75, 0.5), (0.75, 0.14), (0.5, 0.14),
            (0.5, 0.4), (0.3, 0.4), (0.3, 0.14)],
    "leaf": [*arc((0.75, 0), 1.25, 0.35, 0.65), *arc((-0.75, 0), 1.25, 0.85, 1.15)],
    "bolt": [(0.15, -1), (-0.6, 0.15), (-0.05, 0.15), (-0.25, 1), (0.6, -0.25), (0.05, -0.25), (0.45, -1)],
    "mushroom": [*arc((0, 0), 0.95, 0.5, 1.0), (0.3, 0.05), (0.35, 0.95), (-0.35, 0.95), (-0.3, 0.05)],
    "tree": [(0, -1), (0.5, -0.35), (0.25, -0.35), (0.8, 0.45), (0.17, 0.45), (0.17, 1), (-0.17, 1), (-0.17, 0.45),
             (-0.8, 0.45), (-0.25, -0.35), (-0.5, -0.35)],
    "vase": [(-0.45, -1), (0.45, -1), (0.25, -0.5), (0.75, 0.2), (0.4, 1), (-0.4, 1), (-0.75, 0.2), (-0.25, -0.5)],
    "windmill": [p for n in range(4) for p in (*arc((0, 0), 1, n / 4, n / 4 + 0.12, 4), (0.12, 0.0))],
    "letter E": [(-0.6, -1), (0.6, -1), (0.6, -0.6), (-0.2, -0.6), (-0.2, -0.2), (0.4, -0.2), (0.4, 0.2), (-0.2, 0.2),
                 (-0.2, 0.6), (0.6, 0.6), (0.6, 1), (-0.6, 1)],
    "letter H": [(-0.75, -1), (-0.3, -1), (-0.3, -0.25), (0.3, -0.25), (0.3, -1), (0.75, -1), (0.75, 1), (0.3, 1),
                 (0.3, 0.25), (-0.3, 0.25), (-0.3, 1), (-0.75, 1)],
    "letter L": [(-0.6, -1), (-0.1, -1), (-0.1, 0.5), (0.7, 0.5), (0.7, 1), (-0.6, 1)],
    "letter T": [(-0.8, -1), (0.8, -1), (0.8, -0.5), (0.25, -0.5), (0.25, 1), (-0.25, 1), (-0.25, -0.5), (-0.8, -0.5)],
    "letter U": [(-0.8, -1), (-0.35, -1), *arc((0, 0.25), 0.35, 0.5, 0.0), (0.35, -1), (0.8, -1),
                 *arc((0, 0.25), 0.8, 0.0, 0.5)],
    "letter Z": [(-0.8, -1), (0.8, -1), (0.8, -0.6), (-0.1, 0.6), (0.8, 0.6), (0.8, 1), (-0.8, 1), (-0.8, 0.6),
                 (0.1, -0.6), (-0.8, -0.6)],
}  # fmt: skip


def bay(number):
    """An outline of no name, always the same of a number: a circle with waves, some of them deep."""
    rng, t = np.random.default_rng(number), np.linspace(0, 2 * pi, 60, endpoint=False)
    waves = rng.uniform(0.05, 0.35, 4) * np.cos(t[:, None] * rng.choice(7, 4, replace=False) + rng.uniform(0, 6, 4))
    r = 1 + waves.sum(1)
    x, y = r * np.cos(t) / r.max(), r * np.sin(t) * rng.uniform(0.5, 1) / r.max()
    return list(zip(x.tolist(), y.tolist(), strict=True))


def figure(number):
    """Parts of no name, always the same of a number: bars, discs, corners; half of the figures alike on both sides."""
    rng, parts, mirrored = np.random.default_rng(1_000 + number), [], number % 2 == 0
    for _ in range(int(rng.integers(2, 5))):
        (x, y), r, colour = rng.uniform(-0.6, 0.6, 2), rng.uniform(0.25, 0.6), int(rng.integers(3))
        match int(rng.integers(4)):
            case 0:
                part = [(x + r * cos(t), y + r * rng.uniform(0.6, 1) * sin(t)) for t in np.linspace(0, 2 * pi, 16)]
            case 1:
                turns = np.sort(rng.uniform(0, 2 * pi, int(rng.integers(3, 6))))
                part = [(x + r * cos(t), y + r * sin(t)) for t in turns]
            case 2:
                t, w = rng.uniform(0, pi), rng.uniform(0.06, 0.13)
                u, v = cos(t), sin(t)
                ends = ((1, -1), (1, 1), (-1, 1), (-1, -1))
                part = [(x + 1.6 * r * a * u - w * b * v, y + 1.6 * r * a * v + w * b * u) for a, b in ends]
            case 3:
                part = [(x - r, y - 0.5 * r), (x + r, y - 0.5 * r), (x + r, y + 0.5 * r), (x - r, y + 0.5 * r)]
        parts.append((part, colour))
        if mirrored:
            parts.append(([(-a, b) for a, b in part], colour))
    return parts


SHAPES |= {f"bay {number}": bay(number) for number in range(22)}
FIGURES = {name: [(outline, 0)] for name, outline in SHAPES.items()}
FIGURES |= {f"figure {number}": figure(number) for number in range(48)}
NAMES = tuple(sorted(FIGURES))


def uneven(rng, channels, cells):
    """Numbers that change slowly over the square, (WORKED, WORKED, channels) in 0..1."""
    rough = Image.fromarray(rng.integers(0, 256, (cells, cells, channels), np.uint8).squeeze())
    smooth = np.asarray(rough.resize((WORKED, WORKED), Image.Resampling.BICUBIC), np.float32)
    return smooth.reshape(WORKED, WORKED, channels) / 255


def placed(parts, rng):
    """Corners of the parts on the square, each part a little elsewhere than usual."""
    turn, size = rng.uniform(-0.5, 0.5), rng.uniform(0.45, 1.0) * WORKED / 2
    lean = np.array([[1, 0], [rng.uniform(-0.25, 0.25), 1]])
    turned = np.array([[cos(turn), sin(turn)], [-sin(turn), cos(turn)]])
    change = np.diag(rng.uniform(0.8, 1.2, 2)) @ lean @ turned
    loose = 0.04 if len(parts) > 1 else 0.0
    moved = [(np.array(p) + rng.normal(0, 0.025, (len(p), 2)) + rng.normal(0, loose, 2)) @ change for p, _ in parts]
    least, most = (each(np.concatenate(moved), axis=0) for each in (np.min, np.max))
    room = max(0.0, WORKED / 2 - 0.9 * size)
    at = WORKED / 2 + rng.uniform(-room, room, 2)
    return [2 * size * (corners - (least + most) / 2) / (most - least).max() + at for corners in moved]


def masks(name, rng):
    """Where each colour of the shape is, (WORKED, WORKED, 3) of 0..1; what is drawn later hides what is under it."""
    parts = FIGURES[name]
    drawn = Image.new("L", (WORKED, WORKED), 0)
    pen = ImageDraw.Draw(drawn)
    for corners, (_, colour) in zip(placed(parts, rng), parts, strict=True):
        pen.polygon([tuple(corner) for corner in corners.tolist()], fill=1 + colour)
    return (np.asarray(drawn)[..., None] == (1, 2, 3)).astype(np.float32)


def stripes(rng):
    """Stripes or waves of any width and turn, (WORKED, WORKED, 1) of -1..1."""
    steps = np.arange(WORKED)
    waves = np.sin(np.add.outer(steps * rng.uniform(-0.6, 0.6), steps * rng.uniform(-0.6, 0.6)))[..., None]
    return np.sign(waves) if rng.random() < 0.5 else waves


def ground(rng):
    """What is behind the shape: slow changes of colour, lines and spots, (WORKED, WORKED, 3) of 0..1."""
    slow = uneven(rng, 3, int(rng.integers(2, 9)))
    picture = rng.uniform(0.05, 0.95, 3) + rng.uniform(0.1, 0.7) * (slow - 0.5)
    if rng.random() < 0.3:
        picture = picture + rng.uniform(0.05, 0.2) * stripes(rng)
    if rng.random() < 0.3:
        picture = picture + rng.uniform(0.1, 0.5) * (uneven(rng, 1, int(rng.integers(16, 64))) - 0.5)
    drawn = Image.fromarray((255 * np.clip(picture, 0, 1)).astype("uint8"))
    pen = ImageDraw.Draw(drawn)
    for _ in range(int(rng.integers(0, 9))):
        x, y, u, v = rng.uniform(0, WORKED, 4)
        colour, r = tuple(rng.integers(0, 256, 3).tolist()), rng.uniform(1, 12)
        match int(rng.integers(4)):
            case 0:
                pen.line((x, y, u, v), fill=colour, width=int(rng.integers(1, 5)))
            case 1:
                pen.rectangle((x - r, y - r, x + r, y + r), fill=colour)
            case 2:
                pen.ellipse((x - r, y - r, x + r, y + r), fill=colour)
            case 3:
                pen.polygon([(x + a, y + b) for a, b in rng.uniform(-r, r, (4, 2)).tolist()], fill=colour)
    return np.asarray(drawn, np.float32) / 255


def colours(rng, under):
    """Three colours, all unlike what is under them; in half of the pictures they are one."""
    apart = sorted(rng.uniform(0, 1, (6, 3)), key=lambda each: float(np.abs(each - under).sum()))[3:]
    chosen = np.array(apart)[rng.permutation(3)]
    return chosen if rng.random() < 0.5 else np.clip(chosen[:1] * rng.uniform(0.7, 1.2, (3, 1)), 0, 1)


def picture(name, rng, way="drawn"):
    """One picture of a shape, (3, SIDE, SIDE) bytes; those of few colours and of white ink are soon learned."""
    each = masks(name, rng)
    where = each.sum(2, keepdims=True)
    behind = ground(rng) if way == "drawn" else rng.uniform(0, 1, 3) if way == "plain" else np.zeros(3)
    under = (behind * where).sum((0, 1)) / max(1.0, float(where.sum()))
    if way == "ink":
        return shrunk(np.broadcast_to(each @ np.array([[1.0], [0.7], [0.45]]), (WORKED, WORKED, 3)))
    skin = each @ colours(rng, under)
    if way != "drawn":
        return shrunk(behind * (1 - where) + skin)
    skin = skin + rng.uniform(0, 0.3) * (uneven(rng, 1, int(rng.integers(2, 12))) - 0.5)
    if rng.random() < 0.25:
        skin = skin + rng.uniform(0.05, 0.2) * stripes(rng)
    seen = behind * (1 - where) + skin * where
    seen = seen * (rng.uniform(0.4, 1) + rng.uniform(0, 0.6) * uneven(rng, 1, 2))
    if rng.random() < 0.25:
        seen = ndimage.gaussian_filter(seen, (rng.uniform(0, 1.8), rng.uniform(0, 1.8), 0))
    return shrunk(seen + rng.normal(0, rng.uniform(0, 0.06), seen.shape))


def shrunk(seen):
    """(WORKED, WORKED, 3) of 0..1 as (3, SIDE, SIDE) bytes."""
    drawn = Image.fromarray((255 * np.clip(seen, 0, 1)).astype("uint8")).reduce(WORKED // SIDE)
    return np.moveaxis(np.asarray(drawn), 2, 0)


def set_of(count, seed, way="drawn"):
    """Pictures, as many of each shape as may be, and their labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % len(NAMES)
    return np.stack([picture(NAMES[label], rng, way) for label in labels]), labels
