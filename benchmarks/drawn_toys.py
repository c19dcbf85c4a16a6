"""Photos that are hard to tell: things of several parts, small or large, anywhere, turned, partly behind lines.

The third kind that `photos.py` measures on. None of its things and grounds is among the others, nor in what the net for
photos begins with.
"""

from itertools import pairwise

import numpy as np
from drawn_things import shade
from PIL import Image, ImageDraw, ImageFilter

SIDE = 240
"""Cells of the square that a thing is drawn in."""
DARK, GLASS = (25, 25, 25), (200, 220, 235)


def anchor(pen, rng, one, two):
    thick = int(rng.integers(14, 22))
    pen.line((120, 60, 120, 215), fill=one, width=thick)
    pen.ellipse((100, 20, 140, 62), outline=one, width=thick - 4)
    pen.line((75, 90, 165, 90), fill=one, width=thick)
    pen.arc((40, 80, 200, 222), 20, 160, fill=one, width=thick)
    pen.polygon([(30, 175), (55, 130), (75, 180)], fill=one)
    pen.polygon([(210, 175), (185, 130), (165, 180)], fill=one)


def apple(pen, rng, one, two):
    pen.ellipse((35, 65, 145, 215), fill=one)
    pen.ellipse((95, 65, 205, 215), fill=one)
    pen.line((120, 75, 128 + rng.integers(-8, 8), 30), fill=(90, 60, 30), width=9)
    pen.ellipse((128, 25, 128 + rng.integers(40, 60), 52), fill=two)


def boat(pen, rng, one, two):
    top = rng.integers(15, 40)
    pen.polygon([(20, 150), (220, 150), (185, 205), (55, 205)], fill=one)
    pen.line((115, 150, 115, top), fill=shade(one, 0.6), width=7)
    pen.polygon([(122, top), (122, 138), (122 + rng.integers(50, 85), 138)], fill=two)
    pen.polygon([(108, top + 15), (108, 138), (108 - rng.integers(35, 65), 138)], fill=shade(two, 0.8))


def bus(pen, rng, one, two):
    top = 60 + rng.integers(-10, 15)
    pen.rounded_rectangle((12, top, 228, 185), 12, fill=one)
    edges = np.linspace(25, 215, int(rng.integers(4, 7)))
    for left, right in pairwise(edges):
        pen.rectangle((left + 4, top + 15, right - 4, top + 55), fill=GLASS)
    pen.rectangle((12, 150, 228, 158), fill=two)
    for x in (60, 180):
        pen.ellipse((x - 22, 165, x + 22, 209), fill=DARK)
        pen.ellipse((x - 9, 178, x + 9, 196), fill=(170, 170, 170))


def face(pen, rng, one, two):
    pen.ellipse((25, 25, 215, 215), fill=one)
    for x in (85, 155):
        pen.ellipse((x - 12, 80, x + 12, 80 + rng.integers(22, 40)), fill=DARK)
    if rng.random() < 0.8:
        pen.arc((70, 100, 170, 180), 20, 160, fill=DARK, width=9)


def glasses(pen, rng, one, two):
    r, thick = rng.integers(38, 50), int(rng.integers(7, 13))
    for x in (65, 175):
        pen.ellipse((x - r, 120 - r, x + r, 120 + r), outline=one, width=thick, fill=(*two, 120))
    pen.arc((95, 95, 145, 135), 180, 360, fill=one, width=thick)
    pen.line((20, 110, 5, 85), fill=one, width=thick)
    pen.line((220, 110, 235, 85), fill=one, width=thick)


def kite(pen, rng, one, two):
    wide, along = rng.integers(50, 75), np.linspace(0, 1, 20)
    pen.polygon([(120, 15), (120 + wide, 80), (120, 175), (120 - wide, 80)], fill=one)
    pen.polygon([(120, 15), (120 + wide, 80), (120, 80)], fill=two)
    pen.polygon([(120, 175), (120 - wide, 80), (120, 80)], fill=two)
    tail = np.stack([120 + 18 * np.sin(8 * along), 175 + 60 * along], 1)
    pen.line(tail.ravel().tolist(), fill=shade(one, 0.7), width=4)


def ladder(pen, rng, one, two):
    half, thick = rng.integers(35, 55), int(rng.integers(9, 15))
    pen.line((120 - half, 10, 108 - half, 230), fill=one, width=thick)
    pen.line((120 + half, 10, 132 + half, 230), fill=one, width=thick)
    for y in np.linspace(35, 205, int(rng.integers(4, 7))):
        pen.line((114 - half, y, 126 + half, y), fill=shade(one, 0.85), width=thick - 2)


def rocket(pen, rng, one, two):
    half = rng.integers(22, 36)
    pen.polygon([(120 - half, 80), (120, 10), (120 + half, 80)], fill=two)
    pen.rectangle((120 - half, 80, 120 + half, 180), fill=one)
    for side in (-1, 1):
        pen.polygon(
            [(120 + side * half, 140), (120 + side * (2 * half + 8), 200), (120 + side * half, 180)], fill=two
        )  # fmt: skip
    pen.ellipse((120 - 0.55 * half, 95, 120 + 0.55 * half, 95 + 1.1 * half), fill=GLASS)
    flame = [(120 - 0.7 * half, 182), (120, 182 + rng.integers(25, 50)), (120 + 0.7 * half, 182)]
    pen.polygon(flame, fill=(250, 170, 40))


def spoon(pen, rng, one, two):
    half = rng.integers(28, 42)
    pen.ellipse((120 - half, 10, 120 + half, 110), fill=one)
    pen.ellipse((120 - 0.6 * half, 25, 120 + 0.6 * half, 90), fill=shade(one, 0.8))
    pen.line((120, 105, 120, 232), fill=one, width=int(rng.integers(10, 18)))


TOYS = (boat, bus, kite, anchor, spoon, ladder, rocket, apple, face, glasses)
KINDS = {each.__name__: each for each in TOYS}


def smooth(rng, height, width, cells):
    """Numbers that change slowly over a picture, (height, width) about 0."""
    rough = Image.fromarray(rng.uniform(-0.5, 0.5, (cells, cells)).astype("float32"))
    return np.asarray(rough.resize((width, height), Image.Resampling.BICUBIC))


def pattern(rng, height, width):
    """What a ground looks like without the things on it, (height, width) about 0."""
    y, x = np.mgrid[:height, :width]
    slow = smooth(rng, height, width, int(rng.integers(2, 6)))
    match int(rng.integers(5)):
        case 0:
            return 0.5 * slow + 0.35 * np.sin((x * rng.uniform(-1, 1) + y * rng.uniform(-1, 1)) / rng.uniform(2, 12))
        case 1:
            return smooth(rng, height, width, int(rng.integers(20, 70)))
        case 2:
            return 0.4 * slow + 0.4 * ((x // rng.integers(10, 60) + y // rng.integers(10, 60)) % 2)
    return slow


def scene(rng, height, width):
    """What is behind a thing: a pattern in some colour, and up to six things of no kind."""
    base, tint = rng.uniform(20, 230, 3), np.stack([smooth(rng, height, width, 3) for _ in range(3)], 2)
    ground = base * (1 + rng.uniform(0.3, 1) * pattern(rng, height, width)[..., None]) + rng.uniform(0, 80) * tint
    picture = Image.fromarray(np.clip(ground, 0, 255).astype("uint8"))
    pen = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(0, 7))):
        x, y, r = rng.uniform(0, width), rng.uniform(0, height), min(height, width) * rng.uniform(0.03, 0.15)
        colour = tuple(rng.integers(0, 255, 3).tolist())
        match int(rng.integers(4)):
            case 0:
                pen.ellipse((x - r, y - r, x + r, y + r * rng.uniform(0.3, 1)), fill=colour)
            case 1:
                pen.polygon([(x + a, y + b) for a, b in rng.uniform(-r, r, (5, 2)).tolist()], fill=colour)
            case 2:
                end = (rng.uniform(0, width), rng.uniform(0, height))
                pen.line((x, y, *end), fill=colour, width=max(1, int(r / 8)))
            case 3:
                pen.rectangle((x - r, y - r, x + r / 2, y + r / 3), fill=colour)
    return picture


def thing(kind, rng):
    """A thing, mirrored or not, seen from aside and turned: a Pillow picture with its alpha."""
    layer = Image.new("RGBA", (SIDE, SIDE), (0, 0, 0, 0))
    one, two = (tuple(rng.integers(10, 250, 3).tolist()) for _ in range(2))
    KINDS[kind](ImageDraw.Draw(layer), rng, one, two)
    if rng.random() < 0.5:
        layer = layer.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    corners = np.array([(0, 0), (0, SIDE), (SIDE, SIDE), (SIDE, 0)]) + rng.uniform(-22, 22, (4, 2))
    layer = layer.transform((SIDE, SIDE), Image.Transform.QUAD, corners.ravel().tolist(), Image.Resampling.BILINEAR)
    return layer.rotate(rng.uniform(-30, 30), Image.Resampling.BICUBIC, expand=True)


def photo(kind, rng, longest=640):
    """One photo of a thing, which is within the middle square: a Pillow picture."""
    width = int(rng.integers(120, longest))
    height = int(width * rng.choice([0.5625, 0.667, 0.75, 1, 1.333, 1.5]))
    picture, least = scene(rng, height, width), min(height, width)
    size = int(least * rng.uniform(0.4, 0.95))
    layer = thing(kind, rng).resize((size, size))
    x, y = (int((n - least) / 2 + rng.uniform(0, least - size)) for n in (width, height))
    picture.paste(layer, (x, y), layer)
    if rng.random() < 0.3:
        pen = ImageDraw.Draw(picture)
        for _ in range(int(rng.integers(1, 4))):
            blade = (rng.uniform(0, width), height, rng.uniform(0, width), rng.uniform(0, 0.6 * height))
            pen.line(blade, fill=tuple(rng.integers(0, 255, 3).tolist()), width=max(1, int(0.012 * width)))
    light = np.linspace(rng.uniform(0.4, 1.1), rng.uniform(0.6, 1.2), width)[:, None] * rng.uniform(0.8, 1.15, 3)
    seen = np.asarray(picture, np.float32) * light + rng.normal(0, rng.uniform(1, 14), (height, width, 3))
    photo = Image.fromarray(np.clip(seen, 0, 255).astype("uint8"))
    return photo.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.008) * width)) if rng.random() < 0.3 else photo
