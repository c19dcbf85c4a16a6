"""Pictures that ask for too much, files that were damaged, options that are none, and what reading leaves alone."""

import io
import logging
import os
import struct
import subprocess
import sys
import threading
import time
import warnings
import zlib

import numpy as np
import pytest
from draws import draws
from PIL import Image, ImageFile, features
from spent import assert_soon, started

from xcnn import datasets
from xcnn.data import image_folder
from xcnn.data.digits import mnist_like
from xcnn.data.images import read_image
from xcnn.data.jpeg import plain
from xcnn.errors import DataError, OptionError

ALL = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "PPM", *(("WEBP",) if features.check("webp") else ()))


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def sheet(side, depth, color, byte=0, more=b""):
    """A square PNG all of whose bytes are the same, written without ever holding it."""
    line = b"\0" + bytes([byte]) * (side * depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color] // 8)
    pack = zlib.compressobj(1)
    body = b"".join(pack.compress(line) for _ in range(side)) + pack.flush()
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, depth, color, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + more + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def saved(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


# Limits


def test_the_limit_on_pixels_is_an_option(tmp_path):
    path = tmp_path / "a" / "sheet.png"
    path.parent.mkdir()
    path.write_bytes(sheet(120, 8, 0, 51))
    for read in (read_image, mnist_like):
        with pytest.raises(DataError, match=r"X207.*promises 120x120 pixels, more than 14,399(.|\n)*at most 14,399"):
            read(path, max_pixels=14399)
    assert read_image(path, max_pixels=14400).max() == np.float32(0.2)
    with pytest.raises(DataError, match=r"X207.*more than 14,399"):
        image_folder(tmp_path, max_pixels=14399)
    assert image_folder(tmp_path, max_pixels=14400).train.x.shape == (1, 1, 28, 28)
    for wrong in (0, -1, 2.5, "many"):
        with pytest.raises(OptionError, match=r"X104.*max_pixels"):
            read_image(path, max_pixels=wrong)
        with pytest.raises(OptionError, match=r"X104.*max_pixels"):
            image_folder(tmp_path, max_pixels=wrong)


def test_the_limit_may_be_above_pillows_own(tmp_path, recwarn):
    path = tmp_path / "sheet.png"
    path.write_bytes(sheet(9600, 1, 0, 0xFF))
    assert Image.MAX_IMAGE_PIXELS < 9600**2
    np.testing.assert_array_equal(read_image(path, (5, 4), max_pixels=9600**2), np.ones((1, 5, 4)))
    assert len(recwarn) == 0


def test_files_have_a_limit_on_bytes(tmp_path):
    path = tmp_path / "long.png"
    path.write_bytes(sheet(8, 8, 0))
    with path.open("r+b") as file:
        file.truncate(2**24 + 4 * 1000 + 1)
    with pytest.raises(DataError, match=r"X207.*has 16,781,217 bytes, too many"):
        read_image(path, max_pixels=1000)
    with path.open("r+b") as file:
        file.truncate(2**24 + 4 * 1000)
    assert read_image(path, max_pixels=1000).max() == 0


def scans(jpeg, count):
    """A progressive JPEG whose last scan comes so many times more."""
    last = jpeg[jpeg.rfind(b"\xff\xda") : -2]
    return jpeg[:-2] + last * count + jpeg[-2:]


def test_a_jpeg_of_many_scans_is_refused(tmp_path):
    path = tmp_path / "photo.jpg"
    photo = saved(Image.new("RGB", (3000, 2000), (200, 100, 50)), "JPEG", progressive=True)
    path.write_bytes(photo)
    light = read_image(path, (8, 8), "RGB")
    np.testing.assert_allclose(light[:, 4, 4] * 255, [200, 100, 50], atol=3)
    path.write_bytes(scans(photo, 400))
    start = started()
    with pytest.raises(DataError, match=r"X207.*over its 6,000,000 pixels in \d+ scans"):
        read_image(path, (8, 8))
    assert_soon(start, 1)
    small = saved(Image.new("RGB", (30, 20), (200, 100, 50)), "JPEG", progressive=True)
    path.write_bytes(scans(small, 400))
    np.testing.assert_allclose(read_image(path, (8, 8), "RGB")[:, 4, 4] * 255, [200, 100, 50], atol=3)


def test_scans_are_markers_not_bytes(tmp_path):
    """A comment that is full of what looks like scans, and EXIF's small picture, are none."""
    path = tmp_path / "photo.jpg"
    photo = saved(Image.new("L", (3000, 2000), 99), "JPEG")
    comment = b"\xff\xfe" + struct.pack(">H", 60002) + b"\xff\xda\0\2" * 15000
    path.write_bytes(photo[:2] + comment * 3 + photo[2:])
    np.testing.assert_allclose(read_image(path, (8, 8)) * 255, 99, atol=1)


PIECES = {
    "JPEG's segments": lambda: saved(Image.new("L", (8, 8)), "JPEG")[:2] + b"\xff\xfe\0\2" * 400_000,
    "JPEG's segments after a scan": lambda: saved(Image.new("L", (8, 8)), "JPEG")[:-2] + b"\xff\xfe\0\2" * 400_000,
    "PNG's chunks": lambda: sheet(8, 8, 0, 0, chunk(b"teSt", b"") * 400_000),
    "BMP's runs": lambda: rle(400_000),
}


def rle(count):
    """A BMP of 8 bits, a run for each of its pixels."""
    width, height = 1000, count // 1000
    data = (b"\1\0" * width + b"\0\0") * height
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(data), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 1078 + len(data), 0, 0, 1078) + head + bytes(1024) + data


@pytest.mark.parametrize("kind", PIECES)
def test_a_file_of_many_small_pieces_is_refused(tmp_path, kind):
    path = tmp_path / "pieces"
    path.write_bytes(PIECES[kind]())
    read_image_start = started()
    with pytest.raises(DataError, match=r"X207.*(pieces|scans)"):
        read_image(path)
    assert_soon(read_image_start, 1.5)


KINDS = {
    "16 bits, one of them clear": (16, 0, chunk(b"tRNS", b"\0\0"), 2),
    "palette": (8, 3, chunk(b"PLTE", bytes(768)) + chunk(b"tRNS", bytes([0, 7])), 1),
    "RGBA of 16 bits": (16, 6, b"", 4),
}


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss counts KiB on Linux only")
@pytest.mark.parametrize("kind", KINDS)
def test_a_large_picture_takes_little_more_than_its_decoding(tmp_path, kind):
    depth, color, more, bytes_per_pixel = KINDS[kind]
    side = 3072
    (tmp_path / "sheet.png").write_bytes(sheet(side, depth, color, 0, more))
    code = """
import resource, sys
from xcnn.data.images import read_image
read_image(sys.argv[2])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(read_image(sys.argv[1], (28, 28), "RGB").mean(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    (tmp_path / "small.png").write_bytes(sheet(8, depth, color, 0, more))
    command = [sys.executable, "-c", code, tmp_path / "sheet.png", tmp_path / "small.png"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    light, grown = map(float, done.stdout.split())
    assert light == 1  # all of it is clear
    assert grown * 1024 < bytes_per_pixel * side**2 + 48 * 2**20  # a strip of 2^20 pixels in several modes


# Damaged files


def originals():
    """Files of each format in several of its kinds."""
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 256, (12, 9, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = Image.fromarray(rng.integers(0, 65536, (12, 9)).astype(np.uint16))
    palette, alpha = rgb.convert("P"), rgb.convert("RGBA")
    frames = {"save_all": True, "append_images": [rgb.rotate(90), rgb]}
    notes = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(3000))) + chunk(
        b"iCCP", b"a\0\0" + zlib.compress(bytes(3000))
    )
    png = saved(rgb, "PNG", exif=exif)
    real = Image.fromarray(rng.random((12, 9), np.float32))
    return {
        "PNG": [png, saved(palette, "PNG", transparency=b"\0\x80"), saved(deep, "PNG", transparency=7),
                saved(alpha, "PNG"), saved(rgb.convert("1"), "PNG"), saved(rgb, "PNG", **frames),
                png[:33] + notes + png[33:]],
        "JPEG": [saved(rgb, "JPEG", exif=exif), saved(rgb, "JPEG", progressive=True),
                 saved(rgb.convert("CMYK"), "JPEG"), saved(rgb, "JPEG", comment=b"\xff\xda" * 9),
                 saved(rgb.convert("L"), "JPEG", restart_marker_blocks=1)],
        "BMP": [saved(rgb, "BMP"), saved(palette, "BMP"), saved(alpha, "BMP"), rle(2000)],
        "GIF": [saved(rgb, "GIF"), saved(palette, "GIF", transparency=3), saved(rgb, "GIF", **frames),
                saved(palette, "GIF", interlace=True)],
        "TIFF": [saved(rgb, "TIFF"), saved(deep, "TIFF", compression="tiff_lzw"),
                 saved(rgb.convert("1"), "TIFF", compression="group4"), saved(rgb, "TIFF", compression="jpeg"),
                 saved(alpha, "TIFF", compression="tiff_adobe_deflate"), saved(real, "TIFF", tiffinfo={262: 0}),
                 saved(rgb, "TIFF", **frames), saved(palette, "TIFF", exif=exif)],
        "PPM": [saved(rgb, "PPM"), b"P5 %d %d 65535\n" % deep.size + np.asarray(deep, ">u2").tobytes(),
                b"P1 3 2\n1 0 1 1 1 0\n", b"P3 1 2 9\n1 2 3 4 5 6\n", saved(real, "PPM")],
        "WEBP": [saved(rgb, "WEBP", exif=exif), saved(alpha, "WEBP", lossless=True), saved(rgb, "WEBP", **frames)],
    }  # fmt: skip


def mutated(content, rng):
    content = bytearray(content)
    for _ in range(rng.integers(1, 6)):
        at = int(rng.integers(0, len(content) if rng.random() < 0.5 else min(100, len(content))))
        how = rng.random()
        if how < 0.6:
            content[at] = int(rng.integers(0, 256))
        elif how < 0.75:
            content[at : at + 4] = bytes(rng.choice([0, 1, 127, 128, 255], 4).tolist())
        elif how < 0.85:
            del content[at : at + int(rng.integers(1, 9))]
        else:
            content[at:at] = content[at : at + int(rng.integers(1, 30))]
        content = content or bytearray(b"x")
    if rng.random() < 0.1:
        del content[int(rng.integers(0, len(content))) :]
    form = bytes(content[:8]) == b"\x89PNG\r\n\x1a\n" and rng.random() < 0.7
    return mend(bytes(content)) if form else bytes(content)


def mend(png):
    """The PNG with checksums that hold again, so that what changed is looked at."""
    out, at = png[:8], 8
    while at + 12 <= len(png):
        length = int.from_bytes(png[at : at + 4], "big")
        part = png[at + 4 : at + 8 + length]
        out += png[at : at + 4] + part + struct.pack(">I", zlib.crc32(part))
        at += 12 + length
    return out + png[at:]


@pytest.mark.filterwarnings("ignore")  # Pillow's, of what it passes over in a damaged file
@pytest.mark.parametrize("form", ALL)
def test_mutated_files_give_a_picture_or_an_error(tmp_path, form):
    """Within a second of computing and 64 MiB for pictures of at most 2^20 pixels, whatever the file promises."""
    import resource

    rng = np.random.default_rng(ALL.index(form))
    files = originals()[form]
    path, read, refused, codes = tmp_path / "picture", 0, 0, set()
    for content in files:
        path.write_bytes(content)
        read_image(path, (6, 5), "RGB", ALL, 1 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sizes = [(6, 5), None]
    for trial in range(draws(100)):
        content = mutated(files[trial % len(files)], rng)
        path.write_bytes(content)
        start = started()
        try:
            x = read_image(path, sizes[trial % 2], "RGB", ALL, 1 << 20)
        except DataError as error:
            codes.add(error.code)
            refused += 1
        else:
            assert x.shape[0] == 3
            assert x.size <= 3 << 20
            assert 0 <= x.min() <= x.max() <= 1
            read += 1
        assert_soon(start, 1)
    assert codes == {"X207"}
    assert read > 5
    assert refused > 5
    if sys.platform == "linux":
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


def told(path, size):
    """A picture's bits, or the error."""
    try:
        return read_image(path, size, "RGB", max_pixels=1 << 20).tobytes()
    except DataError as error:
        return str(error)


def test_plain_jpegs_are_what_pillows_own_reader_makes_of_them(tmp_path, monkeypatch, rng):
    """Headers that are taken apart here: the same numbers and the same errors, of kinds that are left to it too."""
    photo, exif = Image.fromarray(rng.integers(0, 256, (90, 130, 3), np.uint8)), Image.Exif()
    exif[0x0112] = 6
    files = originals()["JPEG"] + [
        saved(photo, "JPEG", icc_profile=bytes(300)),
        saved(photo, "JPEG", xmp=b'<x tiff:Orientation="3"/>'),
        saved(photo.convert("L"), "JPEG", exif=exif, progressive=True),
        saved(photo, "JPEG", quality=99, keep_rgb=True),
    ]
    files += [content[: len(content) * n // 9] for content in files for n in (1, 4, 8)]
    path, seen = tmp_path / "photo.jpg", []

    def watched(content):
        seen.append(plain(content))
        return seen[-1]

    for n, content in enumerate(files):
        path.write_bytes(content)
        size, found = [(6, 5), None, (20, 30)][n % 3], []
        for header in (watched, lambda content: None):
            monkeypatch.setattr("xcnn.data.images.plain", header)
            found.append(told(path, size))
        assert found[0] == found[1], content
    assert 12 < sum(header is not None for header in seen) < len(seen)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes on this system")
def test_what_is_no_file_is_told_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, reason in ((tmp_path / "pipe", "not a file"), (tmp_path, "not a file"), (tmp_path / "x", "not there")):
        with pytest.raises(DataError, match=f"X207.* is {reason}"):
            read_image(path)


# Options


@pytest.mark.parametrize(
    ("formats", "reason"),
    [
        ("PNG", r"several names; got 'PNG'(.|\n)*formats=\[\"PNG\"\]"),
        ("png", r"several names; got 'png'(.|\n)*formats=\[\"PNG\"\]"),
        ((), r"several names; got \(\)"),
        (None, "several names; got None"),
        ({"PNG"}, "several names"),
        (["PNG", "JPG"], r"'JPG', which is no format(.|\n)*JPEG is its name"),
        (["tif"], r"'tif'(.|\n)*TIFF is its name"),
        ([".png"], r"'.png'(.|\n)*PNG is its name"),
        (["PICTURE"], r"'PICTURE'(.|\n)*as PNG, JPEG"),
        ([3], "has 3, which is no format"),
        ([b"PNG"], "no format"),
    ],
    ids=repr,
)
def test_formats_that_are_none_are_refused_at_once(tmp_path, formats, reason):
    for call in (read_image, image_folder):
        with pytest.raises(OptionError, match=rf"(?s)X104.*{reason}"):
            call(tmp_path / "nothing there", formats=formats)


def test_formats_in_small_letters(tmp_path):
    (tmp_path / "picture").write_bytes(saved(Image.new("L", (4, 4), 51), "TIFF"))
    for formats in (["tiff"], ("png", "Tiff")):
        assert read_image(tmp_path / "picture", formats=formats).max() == np.float32(0.2)


def test_the_users_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "pets" / "cat").mkdir(parents=True)
    (tmp_path / "pets" / "cat" / "1.png").write_bytes(sheet(28, 8, 0, 51))
    assert image_folder("~/pets").train.x.max() == np.float32(0.2)
    assert read_image("~/pets/cat/1.png").max() == np.float32(0.2)
    (tmp_path / "digit.png").write_bytes(saved(Image.fromarray(np.eye(28, dtype=np.uint8) * 255), "PNG"))
    assert mnist_like("~/digit.png")[0].sum() == 28
    np.save(tmp_path / "x", np.zeros(3))
    (tmp_path / "cells").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 2, 5, 6]))
    assert datasets.load_idx("~/cells").tolist() == [5, 6]
    with pytest.raises(DataError, match="X209"):
        image_folder("~nobody-of-this-name/x")


# What reading leaves alone


def settings():
    return {
        "warnings' filters": list(warnings.filters),
        "how warnings are shown": warnings.showwarning,
        "Pillow's pixels": Image.MAX_IMAGE_PIXELS,
        "Pillow's truncated images": ImageFile.LOAD_TRUNCATED_IMAGES,
        "logging": logging.root.manager.disable,
        "Pillow's logger": logging.getLogger("PIL").level,
        "pooch's logger": logging.getLogger("pooch").level,
        "NumPy's errors": np.geterr(),
    }


def test_threads_leave_the_processs_settings_alone(tmp_path, recwarn):
    """Eight threads that read good, damaged and too large pictures, and data sets, while others watch and warn."""
    damaged = b"II*\0\x08\0\0\0\x05\0\x12\x01"
    good = saved(Image.new("RGB", (40, 30), 9), "JPEG")
    exif = b"\xff\xe1" + struct.pack(">H", 2 + 6 + len(damaged)) + b"Exif\0\0" + damaged
    (tmp_path / "exif.jpg").write_bytes(good[:2] + exif + good[2:])
    (tmp_path / "exif.png").write_bytes(sheet(8, 8, 0, 0, chunk(b"eXIf", damaged)))
    (tmp_path / "bomb.png").write_bytes(
        sheet(8, 8, 0).replace(struct.pack(">II", 8, 8), struct.pack(">II", 9999, 9999))
    )
    (tmp_path / "palette.png").write_bytes(saved(Image.new("P", (9, 9)), "PNG", transparency=bytes([0, 9])))
    (tmp_path / "text.png").write_text("text")
    (tmp_path / "cells").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 2, 5, 6]))
    before = settings()
    wrong, ready, done = [], threading.Event(), threading.Event()

    def read():
        try:
            for _ in range(20):
                for name in sorted(os.listdir(tmp_path)):
                    try:
                        if name == "cells":
                            datasets.load_idx(tmp_path / name)
                        else:
                            read_image(tmp_path / name, (4, 4))
                    except DataError:
                        pass
        except BaseException as error:
            wrong.append(error)

    def watch():
        first = settings()  # how NumPy treats errors is each thread's own
        ready.set()
        while not done.is_set():
            now = settings()
            if now != first:
                wrong.append({name: (first[name], now[name]) for name in first if first[name] != now[name]})
                return
            time.sleep(0.0005)

    threads = [threading.Thread(target=read) for _ in range(8)]
    watcher = threading.Thread(target=watch)
    watcher.start()
    assert ready.wait(60)
    for thread in threads:
        thread.start()
    for n in range(5):
        warnings.warn(f"another's warning {n}", UserWarning, stacklevel=1)
        time.sleep(0.01)
    for thread in threads:
        thread.join()
    done.set()
    watcher.join()
    assert wrong == []
    assert settings() == before
    assert [str(warning.message) for warning in recwarn] == [f"another's warning {n}" for n in range(5)]
