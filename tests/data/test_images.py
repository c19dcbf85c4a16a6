"""Image files as arrays, and pictures of digits prepared as MNIST's were."""

import io
import re
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from spent import assert_soon, started

from xcnn import datasets
from xcnn.data.digits import mnist_like
from xcnn.data.images import middle, read_image
from xcnn.errors import DataError, OptionError

Resampling = Image.Resampling


def png(width, height, depth=8, color=0, rows=b"", more=()):
    """The bytes of a PNG file, written out by hand, whatever its header promises."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    body = b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for chunk in (header, *more, b"IDAT" + zlib.compress(rows, 9), b"IEND")
    )
    return b"\x89PNG\r\n\x1a\n" + body


def save(path, grey, size=(4, 4), **options):
    """A sheet of one grey."""
    Image.new("L", size, grey).convert("1" if grey == 255 else "L").save(path, **options)
    return path


@pytest.fixture
def picture(rng):
    """An RGB picture (7, 5, 3)."""
    return rng.integers(0, 256, (7, 5, 3), np.uint8)


# read_image


@pytest.mark.parametrize("form", ["png", "bmp"])
def test_colours_are_kept(tmp_path, picture, form):
    path = tmp_path / f"image.{form}"
    Image.fromarray(picture).save(path)
    x = read_image(path, size=None, mode="RGB")
    np.testing.assert_array_equal(x, picture.transpose(2, 0, 1).astype(np.float32) / 255)
    assert x.dtype == np.float32
    assert x.flags.c_contiguous
    assert x.flags.writeable


def test_grey_is_luminance(tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / "image.png")
    grey = read_image(tmp_path / "image.png", size=None)
    assert grey.shape == (1, 7, 5)
    np.testing.assert_allclose(grey[0], picture @ [0.299, 0.587, 0.114] / 255, atol=0.6 / 255)  # ITU-R BT.601


def test_resizing_averages(tmp_path):
    ramp = np.tile(np.arange(256, dtype=np.uint8), (64, 1))
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    x = read_image(tmp_path / "ramp.png", size=(2, 16))
    centres = (np.arange(16) * 16 + 7.5) / 255
    np.testing.assert_allclose(x[0, :, 1:-1], np.tile(centres, (2, 1))[:, 1:-1], atol=0.6 / 255)
    checks = np.indices((64, 64)).sum(0).astype(np.uint8) % 2 * 255
    Image.fromarray(checks).save(tmp_path / "checks.png")
    np.testing.assert_allclose(read_image(tmp_path / "checks.png", size=(8, 8)), 0.5, atol=2 / 255)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    """What the camera stored is what was seen, turned or mirrored."""
    stored = np.zeros((16, 24), np.uint8)
    stored[:8, :8] = 255  # the first rows and columns
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / "photo.png", exif=exif)
    # EXIF 2.3, 4.6.4: where the stored first row and first column are seen
    row, column = {
        1: ("top", "left"),
        2: ("top", "right"),
        3: ("bottom", "right"),
        4: ("bottom", "left"),
        5: ("left", "top"),
        6: ("right", "top"),
        7: ("right", "bottom"),
        8: ("left", "bottom"),
    }[orientation]
    x = read_image(tmp_path / "photo.png", size=None)[0]
    assert x.shape == ((16, 24) if orientation < 5 else (24, 16))
    y_half = slice(None, 8) if "top" in (row, column) else slice(-8, None)
    x_half = slice(None, 8) if "left" in (row, column) else slice(-8, None)
    assert x[y_half, x_half].min() == 1
    assert x.sum() == 64


def test_transparency_is_white_paper(tmp_path):
    ink = np.zeros((2, 2, 4), np.uint8)
    ink[0, 0, 3], ink[0, 1, 3] = 255, 51
    Image.fromarray(ink).save(tmp_path / "rgba.png")
    np.testing.assert_allclose(read_image(tmp_path / "rgba.png", None)[0], [[0, 0.8], [1, 1]], atol=1 / 255)
    Image.fromarray(ink).convert("LA").save(tmp_path / "la.png")
    np.testing.assert_allclose(read_image(tmp_path / "la.png", None)[0], [[0, 0.8], [1, 1]], atol=1 / 255)
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([0, 0, 0, 10, 10, 10])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "p.gif", transparency=0)
    np.testing.assert_allclose(read_image(tmp_path / "p.gif", None)[0], [[1, 10 / 255]], atol=1e-6)
    Image.fromarray(np.asarray([[7, 8]], np.uint8)).save(tmp_path / "l.png", transparency=7)
    np.testing.assert_allclose(read_image(tmp_path / "l.png", None)[0], [[1, 8 / 255]], atol=1e-6)


def test_other_kinds_of_pixels(tmp_path):
    Image.fromarray(np.asarray([[0, 0x8000, 0xFFFF]], np.uint16)).save(tmp_path / "sixteen.png")
    np.testing.assert_allclose(read_image(tmp_path / "sixteen.png", None)[0], [[0, 0x8000 / 0xFFFF, 1]], atol=1e-6)
    Image.fromarray(np.asarray([[False, True]])).save(tmp_path / "one.png")
    np.testing.assert_array_equal(read_image(tmp_path / "one.png", None)[0], [[0, 1]])
    Image.new("CMYK", (8, 8), (0, 0, 0, 255)).save(tmp_path / "cmyk.jpg")
    assert read_image(tmp_path / "cmyk.jpg", None, "RGB").max() < 0.02


def test_of_an_animation_the_first_picture(tmp_path):
    frames = [Image.new("L", (4, 4), grey) for grey in (0, 255)]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(read_image(tmp_path / "film.gif", None), np.zeros((1, 4, 4)))


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A large picture as a JPEG and as a PNG file."""
    folder = tmp_path_factory.mktemp("photographs")
    y, x = np.indices((1200, 1600))
    waves = np.rint(127.5 + 40 * np.sin(x / 100) + 40 * np.cos(y / 100) + 40 * np.sin(x / 3)).astype(np.uint8)
    Image.fromarray(waves).save(folder / "photo.jpg", quality=95)
    Image.fromarray(waves).save(folder / "photo.png", compress_level=1)
    return folder


@pytest.mark.parametrize("size", [(48, 64), (300, 400), (1200, 1600), (2400, 3200)])
def test_a_large_photograph_is_read_as_its_small_decoding(photographs, size):
    """A JPEG is decoded at a fraction of its size where that is enough, which the result must not show."""
    jpeg, exact = (read_image(photographs / f"photo.{form}", size) for form in ("jpg", "png"))
    np.testing.assert_allclose(jpeg, exact, atol=0.05)


def test_damaged_exif_data_do_no_harm(tmp_path, recwarn):
    exif = b"II*\0\x08\0\0\0\x05\0\x12\x01"
    (tmp_path / "photo.png").write_bytes(png(4, 4, rows=bytes(20), more=[b"eXIf" + exif]))
    np.testing.assert_array_equal(read_image(tmp_path / "photo.png", None), np.zeros((1, 4, 4)))
    assert len(recwarn) == 0


def test_contents_decide_not_names(tmp_path):
    Image.new("L", (3, 3), 9).save(tmp_path / "image.jpg", "PNG")
    assert read_image(tmp_path / "image.jpg").shape == (1, 28, 28)
    with pytest.raises(DataError, match=r"X207.*none of the formats"):
        read_image(tmp_path / "image.jpg", formats=["JPEG"])
    Image.new("L", (3, 3), 9).save(tmp_path / "image.png", "TIFF")
    with pytest.raises(DataError, match=r"X207.*none of the formats"):
        read_image(tmp_path / "image.png")


WHOLE = png(4, 4, rows=bytes(20))


@pytest.mark.parametrize(
    "content",
    [b"", b"text", b"\x89PNG\r\n\x1a\n", WHOLE[:-30], png(4, 4, rows=bytes(7)), WHOLE[:20] + b"\xff" + WHOLE[21:]],
    ids=["empty", "text", "magic only", "cut short", "rows missing", "damaged header"],
)
def test_what_is_no_image(tmp_path, content):
    (tmp_path / "image.png").write_bytes(content)
    with pytest.raises(DataError, match=r"\[X207\] .*image.png"):
        read_image(tmp_path / "image.png")


def test_what_is_no_file(tmp_path):
    with pytest.raises(DataError, match=r"X207.*is not there"):
        read_image(tmp_path / "nothing.png")
    with pytest.raises(DataError, match=r"X207.*is not a file"):
        read_image(tmp_path)


BOMBS = {
    "more than Pillow's limit": (png(10000, 10000), "promises 10000x10000 pixels, more than"),
    "more than twice that": (png(2**31 - 1, 2**31 - 1), "promises 2147483647x2147483647 pixels, more than"),
    "a line": (png(2**31 - 1, 1), "promises 2147483647x1 pixels, more than"),
    "more than ours": (png(8192, 8193, 1, rows=bytes(8193 * 1025)) + bytes(20000), "promises 8192x8193 pixels, more"),
    "more than so small a file can hold": (png(4000, 4000), "promises 4000x4000 pixels, more than"),
    "a GIF": (
        b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\2\2L\1\0;",
        "promises 65535x65535 pixels, more than",
    ),
    "a BMP": (
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 5000, 5000, 1, 24, 0, 0, 0, 0, 0, 0),
        "promises 5000x5000 pixels, more than",
    ),
    "a text": (
        png(4, 4, rows=bytes(20), more=[b"zTXta\0\0" + zlib.compress(bytes(2**26))]),
        "Decompressed data too large",
    ),
}


@pytest.mark.parametrize(("bomb", "reason"), BOMBS.values(), ids=BOMBS)
def test_bombs_are_refused(tmp_path, bomb, reason):
    (tmp_path / "bomb.png").write_bytes(bomb)
    read_image(save(tmp_path / "warm.png", 0))
    start = started()
    with pytest.raises(DataError, match=rf"(?i)X207.*{reason}"):
        read_image(tmp_path / "bomb.png")
    assert_soon(start, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss counts KiB on Linux only")
def test_bombs_cost_no_memory(tmp_path):
    save(tmp_path / "0.png", 0)
    for number, (bomb, _) in enumerate(BOMBS.values()):
        (tmp_path / f"{number + 1}.png").write_bytes(bomb)
    code = """
import contextlib, pathlib, resource, sys
from xcnn.errors import DataError
from xcnn.data.images import middle, read_image
peaks = []
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    with contextlib.suppress(DataError):
        read_image(path)
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(len(peaks), peaks[-1] - peaks[0])
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    count, growth = map(int, done.stdout.split())
    assert count == len(BOMBS) + 1
    assert growth < 10 * 1024


@pytest.mark.parametrize("form", ["PNG", "GIF", "BMP", "JPEG"])
def test_blank_sheets_are_no_bombs(tmp_path, form):
    """An image of one colour packs better than any other."""
    save(tmp_path / "sheet", 255, (3000, 3000), format=form)
    assert read_image(tmp_path / "sheet").min() > 0.99


def test_mutated_files_give_an_image_or_a_data_error(tmp_path, rng):
    originals = []
    for form in ("PNG", "JPEG", "BMP", "GIF"):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (12, 9, 3), np.uint8)).save(buffer, form)
        originals.append(buffer.getvalue())
    path = tmp_path / "image"
    read = refused = 0
    start = started()
    for trial in range(1200):
        content = bytearray(originals[trial % 4])
        for _ in range(rng.integers(1, 5)):
            content[int(rng.integers(0, len(content) if rng.random() < 0.5 else 60))] = int(rng.integers(0, 256))
        if rng.random() < 0.2:
            del content[int(rng.integers(0, len(content))) :]
        path.write_bytes(content)
        try:
            x = read_image(path, (6, 5), "RGB")
        except DataError:
            refused += 1
            continue
        assert x.shape == (3, 6, 5)
        assert 0 <= x.min() <= x.max() <= 1
        read += 1
    assert read > 100
    assert refused > 300
    assert_soon(start, 30)


@pytest.mark.parametrize(
    "options", [{"mode": "RGBA"}, {"size": 28}, {"size": (28,)}, {"size": (28, 0)}, {"size": (2.5, 3)}], ids=repr
)
def test_options_are_checked(options):
    with pytest.raises(OptionError, match="X104"):
        read_image("image.png", **options)


# mnist_like


@pytest.fixture(scope="module")
def digits():
    """60 test digits of mnist01, (60, 28, 28) in 0..1."""
    return datasets.mnist01().test.x[::30][:60, 0]


def paint(digit, rng, upscale=Resampling.BICUBIC, noise=0.0, shade=1.0):
    """The digit as dark ink on light paper, in colour, 6 to 13 times as large, anywhere on a larger sheet."""
    scale = int(rng.integers(6, 14))
    side = 28 * scale
    large = Image.fromarray(np.rint(digit * 255).astype(np.uint8)).resize((side, side), upscale)
    height, width = rng.integers(side, 2 * side, 2)
    top, left = rng.integers(0, height - side + 1), rng.integers(0, width - side + 1)
    ink = np.zeros((height, width, 1))
    ink[top : top + side, left : left + side, 0] = np.asarray(large) / 255
    paper, pen = rng.uniform(0.75, 1, 3), rng.uniform(0, 0.35, 3)
    sheet = (paper * (1 - ink) + pen * ink) * np.linspace(shade, 1, width)[:, None] + noise * rng.normal(size=ink.shape)
    return Image.fromarray(np.rint(sheet.clip(0, 1) * 255).astype(np.uint8))


def correlations(digits, path, rng, options, **how):
    found = []
    for digit in digits:
        paint(digit, rng, **how).save(path, **options)
        x, note = mnist_like(path)
        assert re.match("(inverted|ink found locally).*, cropped to ", note)
        assert note.endswith(", centred by mass")
        found.append(np.corrcoef(x.ravel(), digit.ravel())[0, 1])
    return np.asarray(found)


def test_a_painted_digit_returns_to_what_it_was(tmp_path, digits, rng):
    """Enlarged without smoothing, the digit comes back almost exactly; a few come back one pixel aside."""
    found = correlations(digits, tmp_path / "digit.png", rng, {}, upscale=Resampling.NEAREST)
    assert np.median(found) > 0.995
    assert found.mean() > 0.98


@pytest.mark.parametrize(
    ("how", "options", "name", "least"),
    [
        ({}, {}, "smooth.png", 0.95),
        ({}, {"quality": 60}, "smooth.jpg", 0.95),
        ({"noise": 0.03}, {}, "noisy.png", 0.93),
        ({"shade": 0.75}, {}, "shaded.png", 0.9),
    ],
    ids=["smooth", "jpeg", "noisy", "shaded"],
)
def test_a_painted_digit_returns_close_to_what_it_was(tmp_path, digits, rng, how, options, name, least):
    """Enlarged smoothly, its box is a little larger, so that more of them come back one pixel aside."""
    found = correlations(digits[::2], tmp_path / name, rng, options, **how)
    assert np.median(found) > 0.97
    assert found.mean() > least


@pytest.mark.parametrize("make", ["array", "plane", "bytes", "file", "picture"])
def test_mnist_is_left_as_it_is(tmp_path, digits, make):
    for digit in digits[:20]:
        pixels = np.rint(digit * 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "digit.png")
        image = {
            "array": digit[None],
            "plane": digit,
            "bytes": pixels,
            "file": tmp_path / "digit.png",
            "picture": Image.fromarray(pixels),
        }[make]
        x, note = mnist_like(image)
        assert note == "as it is"
        np.testing.assert_array_equal(x, digit[None])
        assert x.dtype == np.float32


def bar(height, width, sheet=(400, 500), paper=1.0, ink=0.0):
    """A filled rectangle on a sheet."""
    image = np.full(sheet, paper)
    image[40 : 40 + height, 90 : 90 + width] = ink
    return image


def test_the_note_says_what_was_done():
    x, note = mnist_like(bar(312, 240))
    assert note == "inverted, cropped to 312x240, scaled to 20x15, centred by mass"
    expected = np.zeros((28, 28))
    expected[4:24, 7:22] = 1  # their centre is at 13.5, 14
    np.testing.assert_allclose(x[0], expected, atol=1e-6)
    assert mnist_like(bar(100, 200, paper=0.1, ink=0.6))[1] == "cropped to 100x200, scaled to 10x20, centred by mass"
    x, note = mnist_like(bar(3000, 200, sheet=(3600, 2000)))
    assert note.startswith("reduced 3 times, inverted, cropped to 100")
    assert x.sum() == pytest.approx(20 * 1, abs=2)


def test_small_digits_are_enlarged_and_faint_ones_strengthened():
    image = np.full((28, 28), 0.5)
    image[3:13, 3:5] = 0.4
    x, note = mnist_like(image)
    assert note == "inverted, cropped to 10x2, scaled to 20x4, centred by mass"
    assert x.max() == 1
    assert np.count_nonzero(x > 0.5) == 80


def test_the_background_is_the_border():
    """Ink that covers most of the sheet is still ink, whichever of the two is lighter."""
    for paper, ink in ((0.6, 0.3), (0.3, 0.6), (0.4, 0.0), (0.6, 1.0)):
        image = np.full((60, 60), paper)
        image[4:-4, 4:-4] = ink
        x, note = mnist_like(image)
        assert ("inverted" in note) == (ink < paper)
        assert np.count_nonzero(x) == 400


def test_every_form_of_an_image_gives_the_same(tmp_path, digits, rng):
    rgb = np.asarray(paint(digits[3], rng))
    expected, note = mnist_like(rgb)
    Image.fromarray(rgb).save(tmp_path / "digit.png")
    opaque = np.concatenate([rgb, np.full_like(rgb[..., :1], 255)], axis=-1)
    read_only = rgb.copy()
    read_only.flags.writeable = False
    for image in (
        str(tmp_path / "digit.png"),
        tmp_path / "digit.png",
        Image.fromarray(rgb),
        rgb.transpose(2, 0, 1),
        rgb / 255,
        rgb.astype(np.float32),
        rgb.astype(np.int64),
        rgb.astype(np.uint16) * 257,
        opaque,
        read_only,
        np.repeat(rgb, 2, axis=1)[:, ::2],
    ):
        x, same = mnist_like(image)
        assert same == note
        np.testing.assert_allclose(x, expected, atol=0.01)


def test_transparent_paper(tmp_path):
    pixels = np.zeros((50, 50, 4), np.uint8)
    pixels[10:40, 20:30, 3] = 255  # black ink, nothing around it
    expected = mnist_like(np.where(pixels[..., 3] > 0, 0, 255))[0]
    Image.fromarray(pixels).save(tmp_path / "digit.png")
    for image in (tmp_path / "digit.png", Image.fromarray(pixels), pixels, pixels / 255):
        np.testing.assert_allclose(mnist_like(image)[0], expected, atol=1e-6)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((28, 28)),
        np.ones((1, 28, 28)),
        np.full((90, 70, 3), 128, np.uint8),
        np.full((90, 70, 4), (255, 255, 255, 0), np.uint8),
        np.zeros((30, 30, 4)),
        np.zeros((1, 1)),
        Image.new("RGBA", (40, 40)),
    ],
    ids=["black", "white", "grey", "transparent white", "transparent", "one pixel", "new picture"],
)
def test_a_blank_image_is_refused(image):
    with pytest.raises(DataError, match=r"\[X208\] the image is blank"):
        mnist_like(image)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((0, 28)),
        np.zeros(784),
        np.zeros((7, 28, 28)),
        np.zeros((1, 1, 28, 28)),
        np.full((28, 28), np.nan),
        np.full((28, 28), np.inf),
        np.full((28, 28), 1e300),
        np.full((28, 28), 300),
        np.full((28, 28), -1),
        np.full((28, 28), 1j),
        np.full((28, 28), "x"),
    ],
    ids=["empty", "flat", "7 channels", "a batch", "NaN", "inf", "huge", "300", "negative", "complex", "text"],
)
def test_arrays_that_are_no_images(image):
    with pytest.raises(DataError, match="X207"):
        mnist_like(image)


@settings(max_examples=150, deadline=None)
@given(
    arrays(
        np.uint8,
        st.tuples(st.integers(1, 40), st.integers(1, 40)),
        elements=st.sampled_from([0, 9, 90, 128, 200, 255]),
        fill=st.sampled_from([0, 128, 255]),
    )
)
def test_any_image_is_prepared_or_blank(image):
    try:
        x, note = mnist_like(image)
    except DataError as error:
        several = "digits on it" in str(error)
    else:
        several = None
    if several is not None:
        assert several or int(image.max()) - int(image.min()) < 0.05 * 255
        return
    assert x.shape == (1, 28, 28)
    assert x.dtype == np.float32
    assert 0 <= x.min() < x.max() <= 1
    if note == "as it is":
        assert image.shape == (28, 28)
        return
    assert x.max() == 1
    rows, columns = np.flatnonzero(x[0].any(1)), np.flatnonzero(x[0].any(0))
    height, width = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
    assert max(height, width) <= 20
    mass = x[0].astype(np.float64)
    for axis, (first, last) in enumerate(((rows[0], rows[-1]), (columns[0], columns[-1]))):
        mean = (mass.sum(axis=1 - axis) @ np.arange(28)) / mass.sum()
        assert abs(mean - 14) < 0.501 or first == 0 or last == 27


@pytest.mark.parametrize("size", [(56, 56), (28, 28), (48, 64)], ids=str)
def test_a_middle_lies_within_its_picture_and_has_the_shape_asked_for(size):
    for width, height in ((w, h) for w in range(1, 150) for h in range(1, 150)):
        left, top, right, bottom = middle(width, height, size)
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        assert 0 in (left, top)
        assert (right - left) * size[0] == pytest.approx((bottom - top) * size[1], rel=1e-12)


def test_pictures_whose_sides_divide_badly_are_cropped(tmp_path):
    stripes = np.repeat(np.array([[0, 200, 0]], np.uint8), (10, 58, 10), axis=1).repeat(58, axis=0)
    Image.fromarray(stripes).save(tmp_path / "a.png")
    x = read_image(tmp_path / "a.png", (56, 56), fit="crop")
    np.testing.assert_array_equal(x[0, :, 1:-1], np.full((56, 54), 200 / 255, np.float32))
    assert x.min() > 0.7  # what is beside it has a share in the outermost columns
