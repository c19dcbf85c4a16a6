"""Folders of pictures are read by several threads: the same bits, order and errors as one by one, in bounded memory."""

import threading
import time

import numpy as np
import pytest
from PIL import Image

from xcnn import datasets
from xcnn.core import process
from xcnn.data.images import Room, read_image, to_array
from xcnn.errors import DataError

FORMS = ("png", "jpg", "bmp", "gif")


@pytest.fixture
def photos(tmp_path, rng):
    """Two classes of pictures of several formats, modes and sizes."""
    for n in range(24):
        folder = tmp_path / "photos" / "ab"[n % 2]
        folder.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(rng.integers(0, 256, (30 + n, 50 - n, 3), dtype=np.uint8))
        picture = picture if n % 5 else picture.convert("L")
        picture.save(folder / f"{n:02}.{FORMS[n % len(FORMS)]}")
    return tmp_path / "photos"


@pytest.fixture(params=[1, 2, 7])
def threads(request, monkeypatch):
    monkeypatch.setattr(process, "processors", lambda: request.param)
    return request.param


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("size", [(9, 7), (40, 60)])
def test_pictures_are_those_of_read_image(photos, threads, mode, size):
    data = datasets.image_folder(photos, size, mode, test_fraction=0)
    files = [file for name in "ab" for file in sorted((photos / name).iterdir())]
    expected = np.stack([read_image(file, size, mode) for file in files])
    assert np.array_equal(data.train.x, expected)
    assert data.train.y.tolist() == [0] * 12 + [1] * 12
    assert threading.active_count() == 1 or not any("beside" in thread.name for thread in threading.enumerate())


@pytest.mark.parametrize("size", [(9, 7), None])
def test_errors_are_told_in_the_order_of_the_files(photos, threads, size):
    if size is None:
        for n, file in enumerate(sorted(photos.rglob("*.*"))):
            Image.new("L", (5, 4), n).save(file)
    for name in ("a/04.png", "a/12.png", "b/01.jpg", "b/23.gif"):
        (photos / name).write_bytes(b"not a picture")
    with pytest.raises(DataError) as caught:
        datasets.image_folder(photos, size, test_fraction=0)
    lines = str(caught.value).splitlines()
    assert "4 of 24 files" in lines[0]
    assert [name in line for name, line in zip(("04.png", "12.png", "01.jpg"), lines, strict=False)] == [True] * 3
    if size is None:
        Image.new("L", (6, 4)).save(photos / "b" / "05.jpg")
        with pytest.raises(DataError, match=r"X209.*05\.jpg is 4x6, but .*00\.png is 4x5"):
            datasets.image_folder(photos, None, test_fraction=0)


def test_bytes_are_shares_of_255(rng):
    """Of each, as NumPy divides them, in either order of the axes and into memory that is given."""
    pixels = rng.permuted(np.arange(3 * 256, dtype=np.uint16) % 256).astype(np.uint8).reshape(16, 16, 3)
    expected = np.moveaxis(pixels, 2, 0) / np.float32(255)
    assert expected.dtype == np.float32
    into = np.empty((3, 16, 16), np.float32)
    assert to_array(Image.fromarray(pixels), "RGB", into) is into
    for got in (into, to_array(Image.fromarray(pixels), "RGB")):
        assert np.array_equal(got, expected)
        assert got.flags.c_contiguous
    assert np.array_equal(to_array(Image.fromarray(pixels[..., 0]), "L"), expected[:1])
    deep = Image.fromarray(expected[0])
    assert np.array_equal(to_array(deep, "RGB"), np.stack([expected[0]] * 3))


def test_a_file_of_many_bytes_is_read_by_and_by_to_the_same_image(tmp_path, rng, monkeypatch):
    Image.fromarray(rng.integers(0, 256, (70, 50, 3), np.uint8)).save(tmp_path / "photo.jpg")
    at_once = read_image(tmp_path / "photo.jpg", (20, 30), "RGB")
    monkeypatch.setattr("xcnn.data.images.AT_ONCE", 0)
    assert np.array_equal(read_image(tmp_path / "photo.jpg", (20, 30), "RGB"), at_once)


@pytest.mark.parametrize(("side", "decoded"), [(95, 95), (96, 48), (191, 96), (192, 48)])
def test_a_jpeg_is_decoded_to_no_less_than_one_and_a_half_of_what_is_asked_for(tmp_path, side, decoded, monkeypatch):
    seen = []
    resize = Image.Image.resize
    monkeypatch.setattr(Image.Image, "resize", lambda self, *given: seen.append(self.size) or resize(self, *given))
    Image.new("RGB", (side, side), "red").save(tmp_path / "photo.jpg")
    read_image(tmp_path / "photo.jpg", (32, 32), "RGB")
    assert seen == [(decoded, decoded)]


def test_results_come_in_order_and_few_wait(threads):
    taken, begun = 0, []

    def work(n):
        begun.append(n)
        assert n - taken <= (process.AHEAD + 1) * threads
        time.sleep(0.002 * (n % 3))
        return n * n

    for n, result in enumerate(process.side_by_side(work, range(40))):
        assert result == n * n
        taken = n
    assert sorted(begun) == [*range(40)]
    assert [*process.side_by_side(work, ())] == []


def test_what_work_raises_is_raised_in_its_turn(threads):
    def work(n):
        if n % 4 == 3:
            raise ValueError(n)
        return n

    results = process.side_by_side(work, range(20))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="3"):
        next(results)


def test_large_pictures_wait_for_room():
    """No more pixels are decoded at once than one picture may have, whatever the number of threads."""
    room, lock, now, most = Room(10), threading.Lock(), 0, 0

    def decode(pixels):
        nonlocal now, most
        with room.taken(pixels):
            with lock:
                now += pixels
                most = max(most, now)
                assert now <= 10 or pixels > 10
            time.sleep(0.001)
            with lock:
                now -= pixels

    sizes = [1, 4, 5, 9, 10, 25] * 5
    threads = [threading.Thread(target=decode, args=(n,)) for n in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert room.left == 10
    assert most in range(10, 26)
    with pytest.raises(KeyError), room.taken(7):
        raise KeyError
    assert room.left == 10


def test_each_picture_asks_for_room(photos, monkeypatch):
    asked = []
    taken = Room.taken
    monkeypatch.setattr(Room, "taken", lambda self, pixels: [asked.append(pixels), taken(self, pixels)][1])
    datasets.image_folder(photos, (9, 7))
    assert len(asked) == 24
    assert {(30 + n) * (50 - n) for n in range(0, 24, 4)} < {*asked}  # the PNGs; JPEGs are decoded smaller
