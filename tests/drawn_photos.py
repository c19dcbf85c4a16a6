"""Photos that are drawn: things of some kinds, in any colour, size, place and light, before a cluttered background.

Neither colour nor place tells the kind; pictures are of many sizes and shapes, PNG and JPEG, some turned by their EXIF
data, as a telephone writes them.
"""

from math import cos, pi, sin

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

KINDS = ("ball", "box", "cross", "crescent", "flower", "heart", "moonring", "star", "tent", "wave")
SIDE = 200
"""Cells of the square that a thing is drawn in, before it is put into a photo."""


def polygon(radii, n, turn=0.0):
    """Corners on circles of these radii, in turn."""
    places = [(radii[k % len(radii)], turn + 2 * pi * k / n) for k in range(n)]
    return [(SIDE / 2 + r * SIDE * cos(a), SIDE / 2 + r * SIDE * sin(a)) for r, a in places]


def outline(kind, rng):
    """A thing's shape, (SIDE, SIDE) of 0 and 255, as no two are quite alike."""
    mask = Image.new("L", (SIDE, SIDE), 0)
    pen, low, high = ImageDraw.Draw(mask), SIDE * 0.08, SIDE * 0.92
    match kind:
        case "ball":
            squeeze = rng.uniform(0, 0.1) * SIDE
            pen.ellipse((low, low + squeeze, high, high - squeeze), fill=255)
        case "box":
            squeeze = rng.uniform(0, 0.15) * SIDE
            pen.rectangle((low, low + squeeze, high, high - squeeze), fill=255)
        case "cross":
            width = rng.uniform(0.1, 0.16) * SIDE
            pen.rectangle((SIDE / 2 - width, low, SIDE / 2 + width, high), fill=255)
            pen.rectangle((low, SIDE / 2 - width, high, SIDE / 2 + width), fill=255)
        case "crescent":
            pen.ellipse((low, low, high, high), fill=255)
            shift = rng.uniform(0.25, 0.38) * SIDE
            pen.ellipse((low + shift, low, high + shift, high), fill=0)
        case "flower":
            for corner in polygon((0.27,), 5 + int(rng.integers(2)), rng.uniform(0, 1)):
                r = SIDE * 0.16
                pen.ellipse((corner[0] - r, corner[1] - r, corner[0] + r, corner[1] + r), fill=255)
        case "heart":
            t = np.linspace(0, 2 * pi, 80)
            x, y = 16 * np.sin(t) ** 3, -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
            scale = SIDE * 0.027
            pen.polygon(list(zip(SIDE / 2 + scale * x, SIDE * 0.46 + scale * y, strict=True)), fill=255)
        case "moonring":
            width = rng.uniform(0.14, 0.2) * SIDE
            pen.ellipse((low, low, high, high), fill=255)
            pen.ellipse((low + width, low + width, high - width, high - width), fill=0)
        case "star":
            pen.polygon(polygon((0.46, rng.uniform(0.17, 0.22)), 10, -pi / 2), fill=255)
        case "tent":
            pen.polygon(polygon((0.48,), 3, -pi / 2), fill=255)
        case "wave":
            x, width = np.linspace(low, high, 40), rng.uniform(0.1, 0.14) * SIDE
            y = SIDE / 2 + SIDE * 0.22 * np.sin((x - low) / (high - low) * 2 * pi * 1.5)
            pen.polygon([*zip(x, y - width, strict=True), *zip(x[::-1], y[::-1] + width, strict=True)], fill=255)
    return mask


def smooth(rng, height, width, cells, low=0.0, high=1.0):
    """Numbers that change slowly over a picture."""
    rough = Image.fromarray(rng.uniform(low, high, (cells, cells)).astype("float32"))
    return np.asarray(rough.resize((width, height), Image.Resampling.BICUBIC))


def photo(kind, rng, longest=480):
    """One photo of a thing of this kind: a Pillow picture."""
    width = int(rng.integers(90, longest))
    height = int(width * rng.choice([0.5625, 0.75, 1.0, 1.333]))
    ground = np.stack([smooth(rng, height, width, int(rng.integers(2, 7))) for _ in range(3)], 2)
    ground = rng.uniform(0.1, 0.9, 3) + rng.uniform(0.1, 0.5) * (ground - 0.5)
    picture = Image.fromarray((255 * np.clip(ground, 0, 1)).astype("uint8"))
    pen = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(2, 8))):  # clutter
        ends = [(rng.uniform(0, width), rng.uniform(0, height)) for _ in range(2)]
        pen.line(ends, fill=tuple(map(int, rng.integers(0, 255, 3))), width=max(1, int(width * rng.uniform(0, 0.02))))
        x, y, r = rng.uniform(0, width), rng.uniform(0, height), width * rng.uniform(0.01, 0.04)
        pen.rectangle((x - r, y - r, x + r, y + r), fill=tuple(map(int, rng.integers(0, 255, 3))))
    size = int(min(height, width) * rng.uniform(0.55, 0.9))
    shape = outline(kind, rng).rotate(rng.uniform(-20, 20), Image.Resampling.BILINEAR).resize((size, size))
    x, y = (int(rng.uniform(0.3, 0.7) * (n - size)) for n in (width, height))
    under = np.asarray(picture.crop((x, y, x + size, y + size)), np.float32).mean((0, 1))
    colour = max(rng.uniform(0, 255, (3, 3)), key=lambda each: np.abs(each - under).sum())
    skin = (
        colour + rng.uniform(5, 40) * (smooth(rng, size, size, 5) - 0.5)[..., None] + rng.normal(0, 4, (size, size, 3))
    )
    picture.paste(Image.fromarray(np.clip(skin, 0, 255).astype("uint8")), (x, y), shape)
    light = smooth(rng, height, width, 2, 0.55, 1.15)[..., None]
    lit = np.asarray(picture, np.float32) * light + rng.normal(0, rng.uniform(1, 8), (height, width, 3))
    lit = Image.fromarray(np.clip(lit, 0, 255).astype("uint8"))
    return lit.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.006) * width)) if rng.random() < 0.3 else lit


def draw_folder(folder, kinds, each, seed=0, longest=480):
    """A folder of photos, one folder a kind."""
    rng = np.random.default_rng(seed)
    for kind in kinds:
        (folder / kind).mkdir(parents=True)
        for n in range(each):
            picture, turned = photo(kind, rng, longest), rng.random() < 0.15
            if turned:
                exif = Image.Exif()
                exif[274] = 6  # to be seen turned by a quarter to the right
                picture.rotate(90, expand=True).save(folder / kind / f"IMG_{n:04}.jpg", exif=exif, quality=85)
            elif n % 3:
                picture.save(folder / kind / f"IMG_{n:04}.jpg", quality=int(rng.integers(55, 95)))
            else:
                picture.save(folder / kind / f"IMG_{n:04}.png")
    return folder
