"""Photos of what lies about: things of several parts, near or far, before bricks, a horizon or confetti.

The fourth kind that `photos.py` measures on. None of its things and grounds is among the others, nor in what the net
for photos begins with: it was drawn after these, to see whether what helped them helps others too.
"""

from math import cos, pi, sin

import numpy as np
from drawn_things import shade
from PIL import Image, ImageDraw, ImageFilter

SIDE = 320
"""Cells of the square that a thing is drawn in."""
MIDDLE = SIDE / 2


def around(x, y, r, turn):
    """The point at this distance and turn."""
    return x + r * cos(turn), y + r * sin(turn)


def butterfly(pen, rng, one, two):
    high, low = rng.integers(70, 95), rng.integers(50, 70)
    for side in (-1, 1):
        x = MIDDLE + side * 72
        pen.ellipse((x - 66, 115 - high, x + 66, 115 + high * 0.75), fill=one)
        pen.ellipse((x - 50, 215 - low, x + 50, 215 + low), fill=shade(one, 0.8))
        for y, r in ((95, rng.integers(14, 26)), (215, rng.integers(10, 20))):
            pen.ellipse((x - r, y - r, x + r, y + r), fill=two)
        pen.line((MIDDLE, 90, MIDDLE + side * rng.integers(25, 45), 25), fill=(30, 25, 20), width=6)
    pen.rounded_rectangle((MIDDLE - 11, 75, MIDDLE + 11, 275), 11, fill=(45, 35, 30))


def clock(pen, rng, one, two):
    pen.ellipse((30, 30, 290, 290), fill=(238, 236, 225), outline=one, width=int(rng.integers(14, 28)))
    for turn in np.linspace(0, 2 * pi, 12, endpoint=False):
        pen.line((*around(MIDDLE, MIDDLE, 88, turn), *around(MIDDLE, MIDDLE, 103, turn)), fill=(40, 40, 40), width=6)
    for length, width in ((52, 12), (85, 8)):
        pen.line((MIDDLE, MIDDLE, *around(MIDDLE, MIDDLE, length, rng.uniform(0, 2 * pi))), fill=two, width=width)
    pen.ellipse((MIDDLE - 9, MIDDLE - 9, MIDDLE + 9, MIDDLE + 9), fill=two)


def envelope(pen, rng, one, two):
    top, low = 75 + rng.integers(-15, 15), 245 + rng.integers(-15, 15)
    pen.rectangle((20, top, 300, low), fill=one)
    fold = rng.uniform(0.45, 0.65)
    pen.polygon([(20, top), (300, top), (MIDDLE, top + fold * (low - top))], fill=shade(one, 0.78))
    pen.line([(20, low), (125, top + 0.5 * (low - top))], fill=shade(one, 0.65), width=5)
    pen.line([(300, low), (195, top + 0.5 * (low - top))], fill=shade(one, 0.65), width=5)
    if rng.random() < 0.6:
        pen.ellipse((142, top + 75, 178, top + 111), fill=two)


def guitar(pen, rng, one, two):
    wide = rng.integers(66, 84)
    pen.rectangle((150, 15, 170, 180), fill=shade(two, 0.6))
    pen.rectangle((143, 8, 177, 48), fill=shade(two, 0.8))
    pen.ellipse((MIDDLE - wide * 0.75, 125, MIDDLE + wide * 0.75, 220), fill=one)
    pen.ellipse((MIDDLE - wide, 185, MIDDLE + wide, 312), fill=one)
    pen.ellipse((136, 180, 184, 228), fill=(35, 25, 20))
    pen.rectangle((130, 265, 190, 277), fill=shade(two, 0.6))
    for x in (154, 160, 166):
        pen.line((x, 20, x, 270), fill=(215, 210, 190), width=2)


def icecream(pen, rng, one, two):
    brown = (200 + rng.integers(-20, 20), 150 + rng.integers(-20, 20), 85)
    pen.polygon([(98, 150), (222, 150), (MIDDLE, 312)], fill=brown)
    for shift in (-30, 0, 30):
        pen.line((MIDDLE + shift, 155, MIDDLE + 0.3 * shift, 260), fill=shade(brown, 0.75), width=4)
    scoops = int(rng.integers(1, 4))
    for n in range(scoops):
        y, r = 130 - n * 48, 66 - 7 * n
        pen.ellipse((MIDDLE - r, y - r * 0.85, MIDDLE + r, y + r * 0.7), fill=(one, two, shade(one, 1.3))[n])


def plane(pen, rng, one, two):
    pen.rounded_rectangle((35, 138, 290, 182), 22, fill=one)
    wing = rng.integers(95, 130)
    for side in (-1, 1):
        pen.polygon([(185, 160), (140, 160), (95, 160 + side * wing), (130, 160 + side * wing)], fill=shade(one, 0.8))
        pen.polygon([(70, 160), (45, 160), (22, 160 + side * 58), (45, 160 + side * 58)], fill=two)
    for x in range(120, 265, 24):
        pen.ellipse((x, 152, x + 12, 164), fill=(60, 80, 110))


def scissors(pen, rng, one, two):
    spread = rng.uniform(0.16, 0.42)
    for side in (-1, 1):
        tip, back = around(MIDDLE, 165, 150, -pi / 2 + side * spread), around(MIDDLE, 165, 95, pi / 2 + side * spread)
        near = [around(MIDDLE, 165, 14, -pi / 2 + side * (spread + turn)) for turn in (1.2, -1.2)]
        pen.polygon([tip, *near], fill=(175, 180, 188))
        pen.line((MIDDLE, 165, *back), fill=one, width=18)
        pen.ellipse((back[0] - 36, back[1] - 30, back[0] + 36, back[1] + 42), outline=one, width=15)
    pen.ellipse((MIDDLE - 8, 157, MIDDLE + 8, 173), fill=two)


def snail(pen, rng, one, two):
    pen.rounded_rectangle((25, 225, 285, 268), 20, fill=two)
    pen.ellipse((235, 165, 300, 262), fill=two)
    for x in (255, 283):
        pen.line((x, 185, x + rng.integers(-4, 16), 115), fill=shade(two, 0.8), width=7)
    r, x, y = rng.integers(78, 98), 135, 170
    pen.ellipse((x - r, y - r, x + r, y + r), fill=one)
    for n in range(3):
        inner = r * (0.75 - 0.24 * n)
        pen.arc((x - inner, y - inner, x + inner, y + inner), 70 * n, 300 + 70 * n, fill=shade(one, 0.55), width=9)


def teapot(pen, rng, one, two):
    low, high = 265, 125 + rng.integers(-15, 15)
    pen.ellipse((215, high + 10, 308, low - 35), outline=one, width=17)
    pen.polygon([(95, 220), (85, 170), (18, 120 + rng.integers(-15, 15)), (38, 108)], fill=shade(one, 0.85))
    pen.ellipse((68, high, 248, low), fill=one)
    pen.ellipse((108, high - 12, 208, high + 22), fill=shade(one, 0.7))
    pen.ellipse((144, high - 38, 172, high - 8), fill=two)
    if rng.random() < 0.6:
        pen.arc((75, high + 20, 241, low - 20), 10, 170, fill=two, width=12)


def tractor(pen, rng, one, two):
    pen.rectangle((150, 140, 300, 210), fill=one)
    pen.rectangle((70, 55 + rng.integers(-10, 15), 160, 205), fill=shade(one, 0.85))
    pen.rectangle((86, 78, 144, 130), fill=(190, 215, 230))
    pen.rectangle((255, 75, 269, 145), fill=(50, 50, 50))
    for x, r in ((110, 66 + rng.integers(-6, 8)), (262, 38 + rng.integers(-5, 5))):
        pen.ellipse((x - r, 285 - 2 * r, x + r, 285), fill=(35, 33, 32))
        pen.ellipse((x - r / 2, 285 - 1.5 * r, x + r / 2, 285 - r / 2), fill=two)


FINDS = (scissors, teapot, plane, snail, guitar, envelope, clock, butterfly, tractor, icecream)
KINDS = {each.__name__: each for each in FINDS}


def scene(rng, height, width):
    """What is behind a thing: bricks, a horizon, or confetti."""
    base, other = (tuple(rng.integers(30, 230, 3).tolist()) for _ in range(2))
    picture = Image.new("RGB", (width, height), base)
    pen = ImageDraw.Draw(picture)
    match int(rng.integers(3)):
        case 0:
            brick = max(6, int(min(height, width) * rng.uniform(0.05, 0.16)))
            for row, y in enumerate(range(0, height, brick)):
                for x in range(-(row % 2) * brick, width, 2 * brick):
                    tone = shade(other, rng.uniform(0.8, 1.1))
                    pen.rectangle((x, y, x + 2 * brick - brick // 6, y + brick - brick // 6), fill=tone)
        case 1:
            line = int(height * rng.uniform(0.3, 0.8))
            pen.rectangle((0, line, width, height), fill=other)
            for x in np.linspace(0, width, int(rng.integers(2, 7))):
                high, wide = height * rng.uniform(0.03, 0.25), width * rng.uniform(0.03, 0.2)
                pen.ellipse((x - wide, line - high, x + wide, line + high), fill=shade(other, rng.uniform(0.6, 1)))
        case 2:
            for x, y in rng.uniform(0, 1, (int(rng.integers(15, 90)), 2)) * (width, height):
                r, bit = min(height, width) * rng.uniform(0.008, 0.03), tuple(rng.integers(0, 255, 3).tolist())
                pen.ellipse((x - r, y - r, x + r, y + r * rng.uniform(0.4, 1)), fill=bit)
    return picture


def photo(kind, rng, longest=560):
    """One photo of a thing: a Pillow picture."""
    width = int(rng.integers(110, longest))
    height = int(width * rng.choice([0.5625, 0.75, 1, 1.333, 1.778]))
    picture, least = scene(rng, height, width), min(height, width)
    layer = Image.new("RGBA", (SIDE, SIDE), (0, 0, 0, 0))
    one, two = (tuple(rng.integers(15, 245, 3).tolist()) for _ in range(2))
    KINDS[kind](ImageDraw.Draw(layer), rng, one, two)
    layer = layer.rotate(rng.uniform(-25, 25), Image.Resampling.BICUBIC, expand=True)
    size = int(least * rng.uniform(0.45, 0.95))
    layer = layer.resize((size, max(1, int(size * rng.uniform(0.8, 1)))), Image.Resampling.LANCZOS)
    x, y = (int(n / 2 + rng.uniform(-0.5, 0.5) * max(0, least - size) - size / 2) for n in (width, height))
    shadow = layer.getchannel("A").point(lambda alpha: int(alpha * 0.4)).filter(ImageFilter.GaussianBlur(size / 40))
    picture.paste((0, 0, 0), (x + size // 25, y + size // 25), shadow)
    picture.paste(layer, (x, y), layer)
    steps = np.linspace(rng.uniform(-1, 1), rng.uniform(-1, 1), height)[:, None, None]
    lit = np.asarray(picture, np.float32) * (rng.uniform(0.7, 1.1) + 0.25 * steps) + rng.uniform(-20, 20, 3)
    lit = lit + rng.normal(0, rng.uniform(1, 10), lit.shape)
    seen = Image.fromarray(np.clip(lit, 0, 255).astype("uint8"))
    return seen.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.007) * width)) if rng.random() < 0.3 else seen
