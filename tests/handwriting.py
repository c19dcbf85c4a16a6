"""Photos of digits on paper, drawn from MNIST's test digits: evenly lit, or as they are taken by hand at a desk."""

import numpy as np
from PIL import Image, ImageFilter
from scipy import ndimage

PENS = ((20, 20, 30), (20, 40, 140), (150, 20, 30), (10, 90, 40))


def smooth(rng, shape, cells, low, high):
    """Numbers that change slowly."""
    rough = Image.fromarray(rng.uniform(low, high, (cells, cells)).astype("float32"))
    return np.asarray(rough.resize(shape[::-1], Image.Resampling.BICUBIC))


def stroke(digit, size, rng, width):
    """A digit (28, 28) as strokes of a pen, (size, size) in 0..1; `width` grows and shrinks them."""
    large = np.asarray(Image.fromarray(digit.astype("float32")).resize((size, size), Image.Resampling.BICUBIC))
    return 1 / (1 + np.exp(-(ndimage.gaussian_filter(large, size / 60) - width) * 14))


def paper(shape, rng, lines):
    """A sheet, (height, width) in 0..1: plain, ruled or squared, a little turned."""
    sheet = smooth(rng, shape, 4, 0.82, 0.95)
    if lines is None:
        return sheet
    step, dark = rng.uniform(0.04, 0.075) * max(shape), rng.uniform(0.1, 0.25)
    turn, wide = np.deg2rad(rng.uniform(-4, 4)), rng.uniform(0.8, 1.6)
    y, x = np.mgrid[: shape[0], : shape[1]]
    for across in (0, 1) if lines == "squared" else (0,):
        place = (y * np.cos(turn) + x * np.sin(turn)) if across == 0 else (x * np.cos(turn) - y * np.sin(turn))
        far = np.abs((place + step / 2) % step - step / 2)
        sheet = sheet * (1 - dark * np.clip(1.5 * wide - far, 0, 1))
    return sheet


def shadow(shape, rng):
    """Light with the edge of a hand's shadow across it: (height, width) factors."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    turn, size = rng.uniform(0, 2 * np.pi), max(shape)
    far = (x - shape[1] * rng.uniform(0.25, 0.75)) * np.cos(turn) + (y - shape[0] * rng.uniform(0.25, 0.75)) * np.sin(
        turn
    )
    along = -x * np.sin(turn) + y * np.cos(turn)
    far = far + size * rng.uniform(0.02, 0.08) * np.sin(along / size * rng.uniform(4, 12) + rng.uniform(0, 6))
    return 1 - rng.uniform(0.3, 0.55) / (1 + np.exp(-far / (size * rng.uniform(0.004, 0.03))))


def photo(digit, rng, hard):
    """A photo of a digit, a Pillow picture in colour."""
    height, width = (int(n) for n in rng.integers(320, 640, 2))
    shape = height, width
    size = int(min(shape) * rng.uniform(0.35, 0.8))
    top, left = (int(rng.integers(0, n - size + 1)) for n in shape)
    page = np.zeros(shape)
    page[top : top + size, left : left + size] = stroke(digit, size, rng, rng.uniform(0.35, 0.55))
    if hard:
        lit = paper(shape, rng, "squared") * shadow(shape, rng)
        grain = np.clip(0.75 + 0.5 * ndimage.gaussian_filter(rng.normal(0, 1, shape), 1), 0.3, 1)
        pen, dark = (70, 70, 75), rng.uniform(0.3, 0.5) * grain  # a faint pencil
    else:
        lines = None if rng.random() < 0.5 else "ruled"
        lit = paper(shape, rng, lines) * smooth(rng, shape, 2, 0.7, 1)
        pen, dark = PENS[int(rng.integers(len(PENS)))], rng.uniform(0.75, 1)
    share = (page * dark)[..., None]
    seen = (1 - share) * lit[..., None] * 255 + share * np.array(pen) * (lit[..., None] if hard else 1)
    seen = seen + rng.normal(0, rng.uniform(1, 5), (*shape, 3))
    picture = Image.fromarray(np.clip(seen, 0, 255).astype("uint8"))
    return picture.filter(ImageFilter.GaussianBlur(rng.uniform(0, 1)))


def several(digits, rng):
    """A photo of digits beside each other."""
    size, picture = 220, Image.new("RGB", (260 * len(digits) + 60, 340), (235, 233, 228))
    for n, digit in enumerate(digits):
        ink = Image.fromarray((stroke(digit, size, rng, 0.45) * 255).astype("uint8"))
        picture.paste((30, 30, 60), (40 + 260 * n, 60), ink)
    return picture


def set_of(x, y, count, seed, hard):
    """Photos of so many test digits, as many of each as may be, and their labels."""
    rng = np.random.default_rng(seed)
    chosen = [int(rng.choice(np.flatnonzero(y == n % 10))) for n in range(count)]
    return [photo(x[n, 0], rng, hard) for n in chosen], [int(y[n]) for n in chosen]
