"""What the samples of every kind of picture mean, held to the light computed by hand from what was written.

Files are put together here byte by byte where Pillow can't write them, so that nothing of Pillow's is its own judge.
"""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, features

from xcnn.data.digits import mnist_like
from xcnn.data.images import read_image
from xcnn.errors import DataError

ALL = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
BYTE = 1 / 255
WHITE = 255


def packed(samples, depth):
    """Samples of so many bits one behind the other, the first in the highest bits, filled up to whole bytes."""
    bits = "".join(format(sample, f"0{depth}b") for sample in samples)
    bits = bits.ljust(-(-len(bits) // 8) * 8, "0")
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def png(samples, depth, color, *chunks):
    """One row of samples; color 0 is grey, 2 RGB, 3 a palette, 4 grey and alpha, 6 RGB and alpha."""
    width = len(samples) // {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    parts = [b"IHDR" + struct.pack(">IIBBBBB", width, 1, depth, color, 0, 0, 0), *chunks]
    parts += [b"IDAT" + zlib.compress(b"\0" + packed(samples, depth)), b"IEND"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in parts
    )


def trns(*values):
    return b"tRNS" + struct.pack(f">{len(values)}H", *values)


def tiff(data, width, bits, photometric=1, order="<", height=1, **tags):
    """An uncompressed TIFF, written out by hand: bits is one number a channel, tags are named by their numbers."""
    entries = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 0, 277: len(bits), 278: height}
    entries |= {279: len(data)} | {int(name[1:]): value for name, value in tags.items()}
    lists = [(tag, value if isinstance(value, tuple) else (value,)) for tag, value in sorted(entries.items())]
    behind = 8 + 2 + 12 * len(lists) + 4
    extra = b""
    directory = struct.pack(order + "H", len(lists))
    total = behind + sum(2 * len(values) for _, values in lists if len(values) > 2)
    for tag, values in lists:
        if tag == 273:
            directory += struct.pack(order + "HHII", tag, 4, 1, total)
        elif len(values) > 2:
            directory += struct.pack(order + "HHII", tag, 3, len(values), behind + len(extra))
            extra += struct.pack(f"{order}{len(values)}H", *values)
        elif len(values) == 1 and tag in (256, 257, 278, 279):
            directory += struct.pack(order + "HHII", tag, 4, 1, *values)
        else:
            directory += struct.pack(order + "HHI", tag, 3, len(values)) + struct.pack(
                f"{order}{len(values)}H", *values
            ).ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    return head + directory + bytes(4) + extra + data


def read(tmp_path, content, mode="L", **options):
    (tmp_path / "picture").write_bytes(content)
    return read_image(tmp_path / "picture", None, mode, ALL, **options)


def is_known(content):
    """Whether this Pillow can decode it at all: older ones know fewer kinds of TIFF."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
    except OSError:
        return False
    return True


def pixels(tmp_path, content, mode="L"):
    """The row of a picture of one: (width,) of grey, or (width, 3) of RGB."""
    x = read(tmp_path, content, mode)
    assert x.dtype == np.float32
    assert x.shape[1] == 1
    return x[0, 0] if mode == "L" else x[:, 0].T


def over(color, alpha):
    """Ink on white paper, both in 0..1: the rule of Porter and Duff."""
    color = np.asarray(color, float)
    return color * alpha + (1 - alpha)


# PNG


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_png_grey(tmp_path, depth):
    top = 2**depth - 1
    samples = [0, top, top // 2, 1, top - 1]
    light = np.asarray(samples) / top
    np.testing.assert_allclose(pixels(tmp_path, png(samples, depth, 0)), light, atol=1e-6)
    for clear in {0, 1, top // 2, top, top - 1}:
        expected = np.where(np.asarray(samples) == clear, 1, light)
        got = pixels(tmp_path, png(samples, depth, 0, trns(clear)))
        np.testing.assert_allclose(got, expected, atol=1e-6, err_msg=f"clear is {clear}")
        got = pixels(tmp_path, png(samples, depth, 0, trns(clear)), "RGB")
        np.testing.assert_allclose(got, np.stack([expected] * 3, axis=1), atol=1e-6)


def test_png_grey_of_16_bits_keeps_them(tmp_path):
    """Neighbours by one in 65,535 stay apart, and a transparent value is that value alone."""
    samples = [300, 301, 302, 0x8000, 0x80FF]
    got = pixels(tmp_path, png(samples, 16, 0, trns(301)))
    np.testing.assert_allclose(got, [300 / 65535, 1, 302 / 65535, 0x8000 / 65535, 0x80FF / 65535], atol=1e-7)


@pytest.mark.parametrize("depth", [8, 16])
def test_png_colour(tmp_path, depth):
    top = 2**depth - 1
    colors = np.asarray([[0, 0, 0], [top, 0, 0], [0, top // 3, top], [top // 5, top // 2, top - 9]])
    light = colors / top
    np.testing.assert_allclose(pixels(tmp_path, png(colors.ravel(), depth, 2), "RGB"), light, atol=BYTE)
    alphas = np.asarray([top, top // 4, top // 2, 0])
    samples = np.concatenate([colors, alphas[:, None]], axis=1)
    expected = over(light, (alphas / top)[:, None])
    np.testing.assert_allclose(pixels(tmp_path, png(samples.ravel(), depth, 6), "RGB"), expected, atol=1.5 * BYTE)
    greys = np.stack([colors[:, 2], alphas], axis=1)
    expected = over(light[:, 2], alphas / top)
    np.testing.assert_allclose(pixels(tmp_path, png(greys.ravel(), depth, 4)), expected, atol=1.5 * BYTE)


def test_png_colour_with_a_transparent_one(tmp_path):
    colors = [10, 20, 30, 10, 20, 31, 200, 20, 30]
    got = pixels(tmp_path, png(colors, 8, 2, trns(10, 20, 30)), "RGB")
    np.testing.assert_allclose(got * 255, [[255, 255, 255], [10, 20, 31], [200, 20, 30]], atol=1e-4)
    with pytest.raises(DataError, match=r"X207.*transparent colour of 16 bits .*save it with 8 bits"):
        read(tmp_path, png(colors, 16, 2, trns(10, 20, 30)))  # Pillow decodes 8 bits, and 10 would be 31 too


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("alphas", [None, [255, 0], [0], [128, 64], [0, 0], [255, 255]], ids=str)
def test_png_palette(tmp_path, depth, alphas):
    palette = np.asarray([[0, 0, 0], [200, 100, 50], [10, 20, 30], [255, 255, 255]])[: 2**depth]
    samples = [1, 0, 1, 0] if depth == 1 else [0, 1, 2, 3]
    chunks = [b"PLTE" + bytes(palette.ravel().tolist())] + ([] if alphas is None else [b"tRNS" + bytes(alphas)])
    alpha = np.asarray([*(alphas or []), 255, 255, 255, 255][: len(palette)]) / 255
    expected = over(palette / 255, alpha[:, None])[samples]
    np.testing.assert_allclose(pixels(tmp_path, png(samples, depth, 3, *chunks), "RGB"), expected, atol=1.5 * BYTE)


# TIFF

SAMPLES = {
    "uint8": (8, 1, [0, 51, 255], [0, 0.2, 1]),
    "uint16": (16, 1, [0, 13107, 65535], [0, 0.2, 1]),
    "uint32": (32, 1, [0, 858993459, 4294967295], [0, 0.2, 1]),
    "float32": (32, 3, [0, 0.2, 1], [0, 0.2, 1]),
    "int8": (8, 2, [-128, 0, 127], None),
    "int16": (16, 2, [-32768, 0, 32767], None),
    "int32": (32, 2, [-1, 0, 70000], None),
    "float64": (64, 3, [0, 0.2, 1], None),
    "float32 to 255": (32, 3, [0, 51, 255], None),
    "float32 below 0": (32, 3, [-0.1, 0.2, 1], None),
    "float32 NaN": (32, 3, [0, np.nan, 1], None),
}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("photometric", [1, 0], ids=["black is 0", "white is 0"])
@pytest.mark.parametrize("kind", SAMPLES)
def test_tiff_grey_of_every_type(tmp_path, kind, photometric, order):
    """Each sample as the light that it stands for; what Pillow can't decode or nobody can interpret is refused."""
    bits, form, samples, light = SAMPLES[kind]
    data = np.asarray(samples).astype(kind.split()[0]).astype(np.dtype(kind.split()[0]).newbyteorder(order)).tobytes()
    content = tiff(data, 3, (bits,), photometric, order, _339=form)
    unknown = (kind, photometric, order) in {("uint16", 0, ">"), ("uint32", 0, "<"), ("uint32", 0, ">"),
                                             ("uint32", 1, ">")}  # fmt: skip
    if light is None or unknown:
        with pytest.raises(DataError, match="X207") as error:
            read(tmp_path, content)
        assert (
            unknown
            or kind == "float64"
            or photometric == 0
            or "signed" in str(error.value)
            or "0..1" in str(error.value)
        )
        return
    expected = np.asarray(light) if photometric else 1 - np.asarray(light)
    np.testing.assert_allclose(pixels(tmp_path, content), expected, atol=1e-6)


@pytest.mark.parametrize("photometric", [1, 0], ids=["black is 0", "white is 0"])
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_tiff_grey_of_few_bits(tmp_path, depth, photometric):
    samples = np.asarray([0, 1, 2**depth - 1, 2 ** (depth - 1)])
    light = samples / (2**depth - 1)
    got = pixels(tmp_path, tiff(packed(samples, depth), 4, (depth,), photometric))
    np.testing.assert_allclose(got, light if photometric else 1 - light, atol=1e-6)
    mirrored = bytes(int(f"{byte:08b}"[::-1], 2) for byte in packed(samples, depth))  # the first in the lowest bits
    got = pixels(tmp_path, tiff(mirrored, 4, (depth,), photometric, _266=2))
    if depth == 1:
        np.testing.assert_allclose(got, light if photometric else 1 - light, atol=1e-6)


def test_tiff_grey_of_12_bits(tmp_path):
    samples = [0xFFF, 0, 0x800, 1]
    got = pixels(tmp_path, tiff(packed(samples, 12), 4, (12,)))
    np.testing.assert_allclose(got, np.asarray(samples) / 0xFFF, atol=1e-6)


@pytest.mark.parametrize("photometric", [1, 0])
@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
def test_tiff_compressed(tmp_path, kind, compression, photometric):
    """libtiff's way to the samples, which is another: what stands in the file is 0.2 of white, or of black."""
    top = 1 if kind == "float32" else np.iinfo(kind).max
    image = Image.fromarray(np.full((9, 7), 0.2 * top).astype(kind))
    written = {"tiffinfo": {262: 0}} if photometric == 0 else {}
    image.save(tmp_path / "picture", "TIFF", compression=compression, **written)
    inverts = kind == "uint8"  # Pillow writes its own pictures of bytes as their opposites then
    expected = 0.2 if photometric or inverts else 0.8
    x = read_image(tmp_path / "picture", None, "L", ["TIFF"])
    np.testing.assert_allclose(x, np.full((1, 9, 7), expected), atol=1e-5)


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_extra_samples(tmp_path, order):
    """0: nothing that is seen; 1: alpha, by which the colours are multiplied already; 2: alpha."""
    grey = bytes([0, 255, 100, 128, 30, 51])
    rgb = bytes([100, 50, 0, 128, 30, 20, 10, 51])
    for extra, light in ((0, [0, 100, 30]), (1, [0, 227, 234]), (2, [0, 177.2, 210])):
        content = tiff(grey, 3, (8, 8), 1, order, _338=extra)
        if not is_known(content):
            with pytest.raises(DataError, match=r"X207.*as TIFF, unknown pixel mode"):
                read(tmp_path, content)
            continue
        got = pixels(tmp_path, content)
        np.testing.assert_allclose(got * 255, light, atol=1.5)
    for extra, light in (
        (0, [[100, 50, 0], [30, 20, 10]]),
        (1, [[227, 177, 127], [234, 224, 214]]),
        (2, [[177.2, 152.1, 127], [210, 208, 206]]),
    ):
        got = pixels(tmp_path, tiff(rgb, 2, (8, 8, 8, 8), 2, order, _338=extra), "RGB")
        np.testing.assert_allclose(got * 255, light, atol=1.5)


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_colours(tmp_path, order):
    deep = np.asarray([0, 0x8000, 0xFFFF, 0x1234, 0x00FF, 0xFE00]).astype(f"{order}u2").tobytes()
    got = pixels(tmp_path, tiff(deep, 2, (16, 16, 16), 2, order), "RGB")
    np.testing.assert_allclose(got.ravel(), np.asarray([0, 0x8000, 0xFFFF, 0x1234, 0x00FF, 0xFE00]) / 65535, atol=BYTE)
    cmyk = bytes([255, 0, 0, 0, 0, 0, 0, 128, 0, 51, 102, 51])
    got = pixels(tmp_path, tiff(cmyk, 3, (8, 8, 8, 8), 5, order), "RGB")
    ink = np.frombuffer(cmyk, np.uint8).reshape(3, 4) / 255
    np.testing.assert_allclose(got, (1 - ink[:, :3]) * (1 - ink[:, 3:]), atol=BYTE)
    ycc = np.asarray([[76, 85, 255], [255, 128, 128], [100, 90, 150]])
    content = tiff(bytes(ycc.ravel().tolist()), 3, (8, 8, 8), 6, order)
    if is_known(content):
        y, b, r = ycc.T - np.asarray([[0], [128], [128]])
        expected = np.stack([y + 1.402 * r, y - 0.344136 * b - 0.714136 * r, y + 1.772 * b], axis=1)  # JFIF
        np.testing.assert_allclose(pixels(tmp_path, content, "RGB") * 255, expected.clip(0, 255), atol=1.5)
    with pytest.raises(DataError, match=r"X207.*mode is LAB; save it in RGB"):
        read(tmp_path, tiff(bytes([100, 10, 20]), 1, (8, 8, 8), 8, order))


def test_tiff_palette(tmp_path):
    palette = (0, 0xFFFF, *[0] * 254, 0, 0x8080, *[0] * 254, 0, 0, *[0] * 254)  # all reds, all greens, all blues
    got = pixels(tmp_path, tiff(bytes([1, 0]), 2, (8,), 3, _320=palette), "RGB")
    np.testing.assert_allclose(got * 255, [[255, 128, 0], [0, 0, 0]], atol=1e-4)
    got = pixels(tmp_path, tiff(bytes([1, 51, 0, 255]), 2, (8, 8), 3, _320=palette, _338=2), "RGB")
    np.testing.assert_allclose(got, [over([1, 128 / 255, 0], 0.2), [0, 0, 0]], atol=1.5 * BYTE)


# JPEG, GIF, BMP, PPM, WebP


def segments(jpeg):
    """The markers of a JPEG's segments before its pixels."""
    at, found = 2, []
    while jpeg[at + 1] != 0xDA:
        found.append(jpeg[at + 1])
        at += 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
    return found


@pytest.mark.parametrize("adobe", [True, False])
def test_jpeg_cmyk(tmp_path, adobe):
    """Stored as their opposites, as Adobe's marker APP14 says; without it browsers and ImageMagick assume the same."""
    ink = (51, 102, 0, 51)
    buffer = io.BytesIO()
    Image.new("CMYK", (16, 16), ink).save(buffer, "JPEG", quality=100)
    content = buffer.getvalue()
    assert 0xEE in segments(content)
    if not adobe:
        at = content.index(b"\xff\xee")
        content = content[:at] + content[at + 2 + int.from_bytes(content[at + 2 : at + 4], "big") :]
        assert 0xEE not in segments(content)
    x = read(tmp_path, content, "RGB")
    np.testing.assert_allclose(x[:, 8, 8], [0.8 * 0.8, 0.6 * 0.8, 1 * 0.8], atol=3 * BYTE)


def test_jpeg_grey_and_colour(tmp_path):
    for image, light in (
        (Image.new("L", (16, 16), 51), [51] * 3),
        (Image.new("RGB", (16, 16), (200, 100, 50)), [200, 100, 50]),
        (Image.new("YCbCr", (16, 16), (76, 85, 255)), [254, 0, 0]),
    ):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=100)
        np.testing.assert_allclose(read(tmp_path, buffer.getvalue(), "RGB")[:, 8, 8] * 255, light, atol=3)


def test_gif(tmp_path):
    """A palette, one of whose colours is clear, and a canvas that the first picture does not cover."""
    content = b"GIF89a" + struct.pack("<HHBBB", 4, 1, 0x91, 2, 0) + bytes([200, 100, 50, 0, 0, 0, 0, 0, 255, 1, 1, 1])
    control = b"\x21\xf9\x04" + struct.pack("<BHB", 1, 0, 1) + b"\0"
    # codes of 3 bits: clear (4), 0, 1, 2, end (5), the first in the lowest bits; 3 pixels of the 4
    codes = sum(code << 3 * n for n, code in enumerate((4, 0, 1, 2, 5))).to_bytes(2, "little")
    image = b"," + struct.pack("<HHHHB", 0, 0, 3, 1, 0) + b"\x02\x02" + codes + b"\0;"
    got = pixels(tmp_path, content + control + image, "RGB")
    np.testing.assert_allclose(got[:3] * 255, [[200, 100, 50], [255, 255, 255], [0, 0, 255]], atol=1e-4)
    np.testing.assert_allclose(got[3], 1)  # not covered: clear, as browsers show it
    got = pixels(tmp_path, content + image, "RGB")
    np.testing.assert_allclose(got[:3] * 255, [[200, 100, 50], [0, 0, 0], [0, 0, 255]], atol=1e-4)
    np.testing.assert_allclose(got[3], 1)


def bmp(bits, data, width, palette=b"", masks=b"", compression=0, header=40):
    offset = 14 + header + len(palette) + (len(masks) if header == 40 else 0)
    info = struct.pack("<IiiHHIIiiII", header, width, 1, 1, bits, compression, 0, 0, 0, len(palette) // 4, 0)
    info += masks.ljust(header - 40, b"\0") if header > 40 else masks
    return b"BM" + struct.pack("<IHHI", offset + len(data), 0, 0, offset) + info + palette + data


def test_bmp(tmp_path):
    palette = bytes([50, 100, 200, 0, 255, 255, 255, 0])
    for bits, data in ((1, b"\x40\0\0\0"), (4, b"\x01\0\0\0"), (8, b"\0\1\0\0")):
        got = pixels(tmp_path, bmp(bits, data, 2, palette), "RGB")
        np.testing.assert_allclose(got * 255, [[200, 100, 50], [255, 255, 255]], atol=1e-4)
    got = pixels(tmp_path, bmp(24, bytes([50, 100, 200, 0]), 1), "RGB")
    np.testing.assert_allclose(got * 255, [[200, 100, 50]], atol=1e-4)
    got = pixels(tmp_path, bmp(32, bytes([50, 100, 200, 7]), 1), "RGB")
    np.testing.assert_allclose(got * 255, [[200, 100, 50]], atol=1e-4)  # the fourth byte is not used
    got = pixels(tmp_path, bmp(16, struct.pack("<HH", 0b0_11111_00000_10000, 0), 1), "RGB")
    np.testing.assert_allclose(got, [[1, 0, 16 / 31]], atol=BYTE)
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    got = pixels(tmp_path, bmp(32, bytes([50, 100, 200, 51]), 1, masks=masks, compression=3, header=108), "RGB")
    np.testing.assert_allclose(got, [over(np.asarray([200, 100, 50]) / 255, 0.2)], atol=1.5 * BYTE)


def test_ppm(tmp_path):
    np.testing.assert_allclose(pixels(tmp_path, b"P1 3 1\n0 1 0"), [1, 0, 1])  # 1 is black
    np.testing.assert_allclose(pixels(tmp_path, b"P4 3 1\n\x40"), [1, 0, 1])
    np.testing.assert_allclose(pixels(tmp_path, b"P5 3 1 255\n\0\x33\xff"), [0, 0.2, 1], atol=1e-6)
    np.testing.assert_allclose(pixels(tmp_path, b"P5 3 1 10\n\0\x02\x0a"), [0, 0.2, 1], atol=1e-6)
    deep = struct.pack(">3H", 0, 13107, 65535)
    np.testing.assert_allclose(pixels(tmp_path, b"P5 3 1 65535\n" + deep), [0, 0.2, 1], atol=1e-6)
    deep = struct.pack(">3H", 0, 200, 1000)
    np.testing.assert_allclose(pixels(tmp_path, b"P5 3 1 1000\n" + deep), [0, 0.2, 1], atol=1e-5)
    np.testing.assert_allclose(pixels(tmp_path, b"P6 1 1 255\n\xc8\x64\x32", "RGB") * 255, [[200, 100, 50]], atol=1e-4)
    for order, scale in (("<", -1), (">", 1)):
        real = struct.pack(f"{order}3f", 0, 0.2, 1)
        np.testing.assert_allclose(pixels(tmp_path, b"Pf\n3 1\n%d.0\n" % scale + real), [0, 0.2, 1], atol=1e-6)


@pytest.mark.skipif(not features.check("webp"), reason="this Pillow was built without WebP")
def test_webp(tmp_path):
    colors = np.asarray([[[200, 100, 50, 51], [0, 0, 0, 255], [1, 2, 3, 0]]], np.uint8)
    for mode in ("RGB", "RGBA"):
        buffer = io.BytesIO()
        Image.fromarray(colors).convert(mode).save(buffer, "WEBP", lossless=True, exact=True)
        alpha = colors[0, :, 3:] / 255 if mode == "RGBA" else 1
        expected = over(colors[0, :, :3] / 255, alpha)
        np.testing.assert_allclose(pixels(tmp_path, buffer.getvalue(), "RGB"), expected, atol=1.5 * BYTE)


# Pillow's modes


COLOR = (200, 100, 50)
MODES = {
    "1": (255, [1, 1, 1]),
    "L": (51, [0.2] * 3),
    "LA": ((51, 128), over([0.2] * 3, 128 / 255)),
    "La": ((51, 128), [(51 + 127) / 255] * 3),
    "RGB": (COLOR, np.asarray(COLOR) / 255),
    "RGBA": ((*COLOR, 51), over(np.asarray(COLOR) / 255, 0.2)),
    "RGBa": ((40, 20, 10, 51), over(np.asarray(COLOR) / 255, 0.2)),
    "RGBX": ((*COLOR, 3), np.asarray(COLOR) / 255),
    "CMYK": ((51, 102, 0, 51), [0.8 * 0.8, 0.6 * 0.8, 0.8]),
    "YCbCr": ((76, 85, 255), [254 / 255, 0, 0]),
    "HSV": ((0, 255, 200), [200 / 255, 0, 0]),
    "I;16": (13107, [0.2] * 3),
    "I;16B": (13107, [0.2] * 3),
    "I;16L": (13107, [0.2] * 3),
    "I": (51, [0.2] * 3),
    "F": (0.2, [0.2] * 3),
}


@pytest.mark.parametrize("mode", MODES)
def test_pictures_at_hand(mode):
    """A sheet of each of Pillow's modes, seen where a picture of a digit is read: a bar of it on black, or on white."""
    color, light = MODES[mode]
    grey = float(np.asarray(light) @ [0.299, 0.587, 0.114])
    image = Image.new(mode, (28, 28), color)
    seen = grey_of(image)
    np.testing.assert_allclose(seen, np.full((28, 28), grey), atol=2 * BYTE)


def grey_of(image):
    from xcnn.data.digits import _grey
    from xcnn.data.images import MAX_PIXELS

    return _grey(image, MAX_PIXELS, [], [])


def test_palettes_at_hand():
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    grey = (np.asarray(COLOR) / 255) @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(grey_of(image), np.full((4, 4), grey), atol=BYTE)
    image.info["transparency"] = 1
    np.testing.assert_allclose(grey_of(image), np.ones((4, 4)))
    np.testing.assert_allclose(grey_of(image.convert("PA")), np.ones((4, 4)))
    image.info["transparency"] = bytes([255, 51])
    np.testing.assert_allclose(grey_of(image), np.full((4, 4), over(grey, 0.2)), atol=2 * BYTE)
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 255, 200, 100, 50, 51], "RGBA")
    np.testing.assert_allclose(grey_of(image), np.full((4, 4), over(grey, 0.2)), atol=2 * BYTE)


def test_what_nobody_can_interpret_is_refused_by_name():
    with pytest.raises(DataError, match=r"X207.*mode is LAB"):
        mnist_like(Image.new("LAB", (28, 28)))
    with pytest.raises(DataError, match=r"X207.*not all in 0..1, or in 0..255"):
        mnist_like(Image.new("I", (28, 28), 70000))
    with pytest.raises(DataError, match=r"X207.*not all in 0..1, or in 0..255"):
        mnist_like(Image.new("F", (28, 28), -1.0))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["u1", "u2", "i4", "f4", "f8"])
def test_arrays_of_either_byte_order(kind, order, rng):
    bytes_ = rng.integers(0, 256, (28, 28), np.uint8)
    bytes_[0] = 255
    scaled = bytes_.astype(int) * (257 if kind == "u2" else 1)
    image = scaled.astype(kind).astype(np.dtype(kind).newbyteorder(order))
    np.testing.assert_allclose(grey_of(image), bytes_ / 255, atol=1e-6)


# Large pictures, in strips


@pytest.mark.parametrize("kind", ["L", "RGBA", "P", "I;16"])
def test_large_pictures_are_the_mean_of_their_pixels(tmp_path, kind, rng):
    """Each pixel of the small picture against float64 means over the blocks that it stands for."""
    small = rng.integers(0, 256, (6, 5)).astype(np.uint8)
    large = small.repeat(263, 0).repeat(331, 1)
    image = Image.fromarray(large)
    light = small / 255
    if kind == "RGBA":
        image = Image.merge("RGBA", [image, image, image, Image.new("L", image.size, 51)])
        light = over(light, 0.2)
    if kind == "P":
        image = image.convert("P", palette=Image.Palette.ADAPTIVE, colors=256)
        image.save(tmp_path / "picture", "PNG", transparency=bytes([255] * 256))
    elif kind == "I;16":
        Image.fromarray(large.astype(np.uint16) * 257).save(tmp_path / "picture", "PNG")
    else:
        image.save(tmp_path / "picture", "PNG")
    x = read_image(tmp_path / "picture", None)
    assert x.shape == (1, 6 * 263, 5 * 331)
    np.testing.assert_allclose(x[0], light.repeat(263, 0).repeat(331, 1), atol=1.5 * BYTE)
    # bilinear resampling weighs a block's own pixels 3/4 and those of each neighbour 1/8, along each axis
    weights = [np.eye(n) * 0.75 + (np.eye(n, k=1) + np.eye(n, k=-1)) * 0.125 for n in light.shape]
    weights = [w / w.sum(axis=1, keepdims=True) for w in weights]
    x = read_image(tmp_path / "picture", light.shape)
    np.testing.assert_allclose(x[0], weights[0] @ light @ weights[1].T, atol=0.012)


@pytest.mark.parametrize(
    ("form", "orientation"), [*((form, n) for form in ("PNG", "JPEG", "TIFF") for n in range(1, 9)), ("WEBP", 6)]
)
def test_large_pictures_are_turned(tmp_path, form, orientation):
    """As the same picture is that was turned pixel by pixel before it was saved."""
    if form == "WEBP" and not features.check("webp"):
        pytest.skip("this Pillow was built without WebP")
    rows, columns = np.indices((24, 32))
    seen = ((rows * 7 + columns * 3) % 256).astype(np.uint8).repeat(40, 0).repeat(40, 1)
    stored = {
        1: lambda y: y,
        2: lambda y: y[:, ::-1],
        3: lambda y: y[::-1, ::-1],
        4: lambda y: y[::-1],
        5: lambda y: y.T,
        6: lambda y: y.T[::-1],
        7: lambda y: y[::-1, ::-1].T,
        8: lambda y: y.T[:, ::-1],
    }[orientation](seen)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.ascontiguousarray(stored))
    options = {"lossless": True} if form == "WEBP" else {"quality": 95} if form == "JPEG" else {}
    image.save(tmp_path / "picture", form, exif=exif, **options)
    Image.fromarray(seen).save(tmp_path / "plain", "PNG")
    for size in ((7, 30), None):
        got, expected = (read_image(tmp_path / name, size, "L", ALL) for name in ("picture", "plain"))
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, atol=0.03 if form == "JPEG" else 0.01)


@pytest.mark.parametrize("order", ["<", ">"])
def test_orientation_in_either_byte_order_and_type(tmp_path, order):
    for kind in ("H", "I"):
        code = {"H": 3, "I": 4}[kind]
        entry = struct.pack(f"{order}HHI{kind}", 0x0112, code, 1, 3).ljust(12, b"\0")
        exif = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, 1) + entry + bytes(4)
        got = pixels(tmp_path, png([10, 20, 30], 8, 0, b"eXIf" + exif))
        np.testing.assert_allclose(got * 255, [30, 20, 10], atol=1e-4)
        for cut in range(len(exif)):
            assert pixels(tmp_path, png([10, 20, 30], 8, 0, b"eXIf" + exif[:cut])).shape == (3,)
