"""Photos of things that are drawn of many parts and colours, before walls, grass, wood and lights.

`photos.py` measures on them. Nothing of it is shared with the tests' photos (one shape of one colour) or with what the
net for photos begins with.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIDE = 300
"""Cells of the square that a thing is drawn in."""


def shade(colour, by):
    """A colour, lighter or darker."""
    return tuple(int(np.clip(c * by, 0, 255)) for c in colour)


def mug(pen, rng, one, two):
    left, right, top, low = 70, 200 + rng.integers(-15, 15), 80 + rng.integers(-25, 15), 240
    pen.ellipse((right - 30, top + 35, right + 55, low - 35), outline=one, width=int(rng.integers(14, 22)))
    pen.rectangle((left, top, right, low), fill=one)
    pen.ellipse((left, low - 15, right, low + 18), fill=one)
    pen.ellipse((left, top - 18, right, top + 18), fill=shade(one, 0.55), outline=shade(one, 1.2), width=4)
    if rng.random() < 0.7:
        pen.rectangle((left, top + 60, right, top + 60 + rng.integers(15, 50)), fill=two)


def lamp(pen, rng, one, two):
    top, wide = 40 + rng.integers(0, 20), rng.integers(70, 105)
    pen.rectangle((143, 130, 157, 255), fill=two)
    pen.ellipse((90, 240, 210, 275), fill=shade(two, 0.8))
    narrow = wide * rng.uniform(0.35, 0.7)
    pen.polygon([(150 - narrow, top), (150 + narrow, top), (150 + wide, 145), (150 - wide, 145)], fill=one)
    pen.polygon([(150 - narrow / 3, top), (150, top), (150, 145), (150 - wide / 3, 145)], fill=shade(one, 1.3))


def car(pen, rng, one, two):
    y, high = 150 + rng.integers(-10, 10), rng.integers(45, 65)
    roof = [(80, y), (110 + rng.integers(-12, 12), y - high), (200 + rng.integers(-15, 15), y - high), (240, y)]
    pen.polygon(roof, fill=shade(one, 0.9))
    pen.polygon([(95, y), (118, y - high + 12), (150, y - high + 12), (150, y)], fill=(190, 215, 230))
    pen.polygon([(160, y), (160, y - high + 12), (195, y - high + 12), (222, y)], fill=(190, 215, 230))
    pen.rounded_rectangle((25, y, 280, y + 60), 18, fill=one)
    pen.rectangle((28, y + 32, 277, y + 38), fill=two)
    for x in (80, 225):
        x, r = x + rng.integers(-6, 6), 30 + rng.integers(-4, 5)
        pen.ellipse((x - r, y + 60 - r, x + r, y + 60 + r), fill=(30, 30, 32))
        pen.ellipse((x - r / 2, y + 60 - r / 2, x + r / 2, y + 60 + r / 2), fill=(170, 170, 175))


def bird(pen, rng, one, two):
    pen.polygon([(70, 150), (15, 120 + rng.integers(-20, 30)), (25, 175)], fill=shade(one, 0.7))
    pen.ellipse((50, 100, 220, 205 + rng.integers(-10, 15)), fill=one)
    pen.ellipse((180, 65, 255, 140), fill=one)
    pen.polygon([(250, 95), (290, 105 + rng.integers(-5, 8)), (250, 115)], fill=(240, 160, 40))
    pen.ellipse((215, 85, 228, 98), fill=(15, 15, 15))
    pen.polygon([(90, 140), (170, 135), (110 + rng.integers(-25, 20), 195 - rng.integers(0, 120))], fill=two)
    for x in (125, 150):
        pen.line((x, 200, x + rng.integers(-8, 8), 260), fill=(120, 80, 40), width=6)


def chair(pen, rng, one, two):
    seat, wide, thick = 160 + rng.integers(-12, 12), rng.integers(60, 80), int(rng.integers(10, 18))
    for x in (150 - wide, 150 + wide):
        pen.line((x, seat, x + (x - 150) * 0.1, 280), fill=shade(one, 0.8), width=thick)
    pen.line((150 - wide, 30, 150 - wide, seat), fill=one, width=thick)
    pen.line((150 + wide, 30, 150 + wide, seat), fill=one, width=thick)
    for y in np.linspace(40, seat - 50, int(rng.integers(2, 5))):
        pen.line((150 - wide, y, 150 + wide, y), fill=one, width=thick)
    pen.polygon(
        [(150 - wide, seat - 10), (150 + wide, seat - 10), (165 + wide, seat + 18), (135 - wide, seat + 18)], fill=two
    )


def umbrella(pen, rng, one, two):
    wide = rng.integers(105, 130)
    pen.line((150, 60, 150, 250), fill=(90, 60, 40), width=9)
    pen.arc((150, 225, 190, 275), 0, 180, fill=(90, 60, 40), width=9)
    pen.pieslice((150 - wide, 50, 150 + wide, 260), 180, 360, fill=one)
    pen.pieslice((150 - wide / 3, 50, 150 + wide / 3, 260), 180, 360, fill=two)
    for x in np.linspace(150 - wide, 150 + wide, 7)[:-1]:
        pen.ellipse((x, 145, x + wide / 3, 170), fill=(0, 0, 0, 0))


def cactus(pen, rng, one, two):
    green = (40 + rng.integers(0, 50), 110 + rng.integers(0, 80), 50 + rng.integers(0, 50))
    pen.rounded_rectangle((125, 30, 175, 225), 25, fill=green)
    for side, y in ((-1, 120 + rng.integers(-30, 25)), (1, 120 + rng.integers(-30, 25))):
        x = 150 + side * rng.integers(65, 90)
        pen.line((150, y + 30, x, y + 30), fill=green, width=26)
        pen.rounded_rectangle((x - 14, y - 45, x + 14, y + 43), 14, fill=green)
    for _ in range(25):
        x, y = 130 + rng.integers(0, 40), rng.integers(45, 215)
        pen.line((x, y, x + 4, y - 5), fill=(230, 230, 200), width=2)
    pen.polygon([(95, 215), (205, 215), (190, 285), (110, 285)], fill=two)


def bicycle(pen, rng, one, two):
    r, thick = 58 + rng.integers(-8, 8), int(rng.integers(6, 11))
    for x in (80, 220):
        pen.ellipse((x - r, 190 - r, x + r, 190 + r), outline=(35, 35, 40), width=thick)
        for turn in np.linspace(0, np.pi, 5)[:-1] + rng.uniform(0, 1):
            pen.line(
                (x - r * np.cos(turn), 190 - r * np.sin(turn), x + r * np.cos(turn), 190 + r * np.sin(turn)),
                fill=(120, 120, 125),
                width=2,
            )
    frame = [(80, 190), (120, 105), (195, 105), (145, 190), (80, 190)]
    pen.line(frame, fill=one, width=thick)
    pen.line([(145, 190), (112, 85)], fill=one, width=thick)
    pen.line([(220, 190), (190, 75), (215, 68)], fill=one, width=thick)
    pen.rounded_rectangle((90, 76, 135, 90), 6, fill=two)


def snowman(pen, rng, one, two):
    white = tuple(int(c) for c in rng.integers(215, 250, 3))
    for y, r in ((215, 65 + rng.integers(-6, 8)), (130, 48), (68, 34 + rng.integers(-4, 5))):
        pen.ellipse((150 - r, y - r, 150 + r, y + r), fill=white, outline=shade(white, 0.8), width=4)
    pen.polygon([(150, 66), (150, 78), (195, 75)], fill=(240, 130, 40))
    pen.rectangle((115, 98, 185, 112), fill=one)
    pen.rectangle((120, 10, 180, 40), fill=two)
    pen.rectangle((100, 36, 200, 46), fill=two)
    for y in (130, 155, 200):
        pen.ellipse((145, y - 5, 155, y + 5), fill=(25, 25, 25))


def cat(pen, rng, one, two):
    ear = rng.integers(0, 25)
    pen.polygon([(60, 130), (65, 30 + ear), (140, 80)], fill=one)
    pen.polygon([(240, 130), (235, 30 + ear), (160, 80)], fill=one)
    pen.ellipse((45, 65, 255, 265), fill=one)
    for _ in range(int(rng.integers(0, 4))):
        x = rng.integers(110, 190)
        pen.line((x, 75, x + rng.integers(-8, 8), 115), fill=two, width=10)
    for x in (105, 195):
        pen.ellipse((x - 22, 130, x + 22, 168), fill=(200, 220, 90))
        pen.ellipse((x - 7, 130, x + 7, 168), fill=(10, 10, 10))
    pen.polygon([(138, 190), (162, 190), (150, 206)], fill=(235, 130, 140))
    for side in (-1, 1):
        for y in (200, 212, 224):
            pen.line((150 + side * 30, 205, 150 + side * 125, y - 10), fill=(245, 245, 245), width=3)


THINGS = (bicycle, bird, cactus, car, cat, chair, lamp, mug, snowman, umbrella)
KINDS = {each.__name__: each for each in THINGS}


def scene(rng, height, width):
    """What is behind a thing."""
    base = rng.integers(30, 220, 3)
    picture = Image.new("RGB", (width, height), tuple(base.tolist()))
    pen = ImageDraw.Draw(picture)
    match int(rng.integers(6)):
        case 0:  # bricks
            high, wide = rng.integers(15, 40), rng.integers(40, 90)
            for row in range(height // high + 1):
                for x in range(-wide, width, wide):
                    x += (row % 2) * wide // 2
                    pen.rectangle(
                        (x + 2, row * high + 2, x + wide - 2, (row + 1) * high - 2),
                        fill=shade(base, rng.uniform(0.7, 1.2)),
                    )
        case 1:  # wood
            grain = np.sin(
                np.arange(height)[:, None] / rng.uniform(2, 9) + 2 * np.sin(np.arange(width) / rng.uniform(40, 150))
            )
            picture = Image.fromarray(np.clip(base * (1 + 0.2 * grain[..., None]), 0, 255).astype("uint8"))
        case 2:  # grass
            for _ in range(1200):
                x, y = rng.uniform(0, width), rng.uniform(0, height)
                pen.line(
                    (x, y, x + rng.uniform(-8, 8), y - rng.uniform(5, 25)),
                    fill=shade(base, rng.uniform(0.5, 1.5)),
                    width=2,
                )
        case 3:  # lights, out of focus
            for _ in range(40):
                x, y, r = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(5, 40)
                pen.ellipse((x - r, y - r, x + r, y + r), fill=tuple(rng.integers(0, 255, 3).tolist()))
            picture = picture.filter(ImageFilter.GaussianBlur(6))
        case 4:  # a room: floor, wall, a frame, a shelf
            far = int(height * rng.uniform(0.55, 0.8))
            pen.rectangle((0, far, width, height), fill=tuple(rng.integers(30, 220, 3).tolist()))
            for _ in range(3):
                x, y, u, v = (rng.uniform(0, n) for n in (width, far, width / 3, height / 4))
                pen.rectangle(
                    (x, y, x + u, y + v), fill=tuple(rng.integers(0, 255, 3).tolist()), outline=(30, 25, 20), width=4
                )
        case 5:  # checked cloth
            step = int(rng.integers(14, 50))
            for n, x in enumerate(range(0, width, step)):
                for m, y in enumerate(range(0, height, step)):
                    if (n + m) % 2:
                        pen.rectangle((x, y, x + step, y + step), fill=shade(base, 1.35))
    return picture


def photo(kind, rng):
    """One photo of a thing: a Pillow picture."""
    height, width = (int(n) for n in rng.integers(220, 560, 2))
    height, width = (max(n, int(0.6 * max(height, width))) for n in (height, width))
    picture = scene(rng, height, width)
    layer = Image.new("RGBA", (SIDE, SIDE), (0, 0, 0, 0))
    one, two = (tuple(rng.integers(20, 250, 3).tolist()) for _ in range(2))
    KINDS[kind](ImageDraw.Draw(layer), rng, one, two)
    if rng.random() < 0.5:
        layer = layer.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    corners = np.array([(0, 0), (0, SIDE), (SIDE, SIDE), (SIDE, 0)]) + rng.uniform(-25, 25, (4, 2))  # seen from aside
    layer = layer.transform((SIDE, SIDE), Image.Transform.QUAD, corners.ravel().tolist(), Image.Resampling.BILINEAR)
    layer = layer.rotate(rng.uniform(-15, 15), Image.Resampling.BILINEAR)
    size = int(min(height, width) * rng.uniform(0.6, 0.95))
    layer = layer.resize((size, size))
    x, y = (int((n - size) * rng.uniform(0.3, 0.7)) for n in (width, height))
    away = int(size * rng.uniform(-0.06, 0.06))
    shadow = layer.getchannel("A").filter(ImageFilter.GaussianBlur(size / 40)).point(lambda a: a // 2)
    picture.paste((0, 0, 0), (x + away, y + abs(away)), shadow)
    picture.paste(layer, (x, y), layer)
    light = np.linspace(rng.uniform(0.5, 1.1), rng.uniform(0.7, 1.2), width)[:, None] * rng.uniform(0.85, 1.1, 3)
    seen = np.asarray(picture, np.float32) * light + rng.normal(0, rng.uniform(1, 10), (height, width, 3))
    return Image.fromarray(np.clip(seen, 0, 255).astype("uint8"))
