"""Data sets: what they hold, and that damaged, altered, missing and malicious files are refused."""

import contextlib
import gzip
import hashlib
import io
import logging
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
import unicodedata
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from draws import draws
from PIL import Image
from spent import assert_soon, started

from xcnn import datasets
from xcnn.data import dataset, image_folder, load_idx, published
from xcnn.errors import DataError, OptionError

NAMES = (*published.TRAIN, *published.TEST)
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def full_mnist():
    """A folder of the whole of MNIST."""
    for folder in (os.environ.get("XCNN_DATA_DIR"), REPOSITORY.parent / "shared" / "data"):
        if folder and list(Path(folder).glob("**/train-images*")):
            return Path(folder)
    pytest.skip("the whole of MNIST is neither in XCNN_DATA_DIR nor in ../shared/data")


def idx(array, kind=0x08):
    """The bytes of an IDX file, written out independently of the reader."""
    header = struct.pack(">BBBB", 0, 0, kind, array.ndim) + b"".join(struct.pack(">I", n) for n in array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


@contextlib.contextmanager
def within(seconds=1.0, mebibytes=100):
    """Fail if the block takes more of the processor's time, or allocates more."""
    tracemalloc.start()
    start = started()
    try:
        yield
        took, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert took < seconds
    assert peak < mebibytes * 2**20


# mnist01


def test_mnist01_is_what_it_says():
    (x, y), (xt, yt) = datasets.mnist01()
    assert x.shape == (12665, 1, 28, 28)
    assert xt.shape == (2115, 1, 28, 28)
    assert x.dtype == xt.dtype == np.float32
    assert y.dtype == yt.dtype == np.int64
    assert (x.min(), x.max()) == (0, 1)
    np.testing.assert_array_equal(np.bincount(y), [5923, 6742])  # as counted in the literature
    np.testing.assert_array_equal(np.bincount(yt), [980, 1135])
    hole = x[:, 0, 12:16, 12:16].mean(axis=(1, 2))  # a nought is empty in the middle
    assert np.mean((hole > 0.3) == y) > 0.95


def test_dataset_names_its_parts():
    data = datasets.mnist01()
    assert data.classes == ("0", "1")
    train, test = data
    assert train is data.train
    assert test is data.test
    assert repr(data) == "<Dataset: 12,665 + 2,115 samples of (1, 28, 28), 2 classes: 0, 1>"
    with pytest.raises(AttributeError):
        data.classes = ()


def test_mnist01_is_selected_from_mnist_in_order(full_mnist):
    for ours, whole in zip(datasets.mnist01(), datasets.mnist(full_mnist), strict=True):
        chosen = whole.y < 2
        np.testing.assert_array_equal(ours.x, whole.x[chosen])
        np.testing.assert_array_equal(ours.y, whole.y[chosen])


def test_mnist_is_mnist(full_mnist):
    (x, y), (xt, yt) = data = datasets.mnist(full_mnist)
    assert x.shape == (60000, 1, 28, 28)
    assert xt.shape == (10000, 1, 28, 28)
    assert data.classes == tuple("0123456789")
    assert y[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert yt[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert float(x.mean(dtype=np.float64)) == pytest.approx(0.1307, abs=5e-5)  # the mean that everyone subtracts
    assert float(x.std(dtype=np.float64)) == pytest.approx(0.3081, abs=5e-5)


def test_bytes_become_floats_as_by_division():
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    scaled = dataset.scale(pixels)
    np.testing.assert_array_equal(scaled, pixels.astype(np.float32) / 255)
    assert scaled.dtype == np.float32


def test_licence_stands_beside_the_files():
    text = (Path(published.__file__).parent / "mnist01" / "LICENSE").read_text()
    for part in ("Yann LeCun", "Corinna Cortes", "https://creativecommons.org/licenses/by-sa/3.0/", "12,665", "2,115"):
        assert part in text


def test_imports_stay_light():
    code = "import sys, xcnn.datasets, xcnn.data.images; print(sorted({'PIL', 'pooch', 'requests'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# IDX files


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gz"])
@pytest.mark.parametrize(("kind", "dtype"), [(8, "u1"), (9, "i1"), (0xB, "i2"), (0xC, "i4"), (0xD, "f4"), (0xE, "f8")])
@pytest.mark.parametrize("shape", [(0,), (7,), (2, 3), (0, 4), (2, 1, 3, 2)])
def test_load_idx_reads_every_type(tmp_path, rng, compress, kind, dtype, shape):
    array = rng.integers(-100, 100, shape).astype(dtype)
    path = tmp_path / "cells"
    path.write_bytes(compress(idx(array, kind)))
    read = load_idx(path)
    np.testing.assert_array_equal(read, array)
    assert read.dtype == np.dtype(dtype)
    assert read.dtype.isnative
    assert read.flags.writeable


def test_load_idx_reads_bytes_written_by_hand(tmp_path):
    path = tmp_path / "cells"
    path.write_bytes(b"\0\0\x0b\x02\0\0\0\x02\0\0\0\x02\x00\x01\x01\x00\xff\xff\x80\x00")
    assert load_idx(str(path)).tolist() == [[1, 256], [-1, -32768]]


ARRAY = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
GOOD = idx(ARRAY)
REFUSED = {
    "empty": b"",
    "no magic": b"\0\0",
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(30),
    "unknown type": b"\0\0\x0a\x01\0\0\0\x01\0",
    "no axes": b"\0\0\x08\0\0",
    "33 axes": b"\0\0\x08\x21" + b"\0\0\0\x01" * 33 + b"\0",
    "ends in its header": GOOD[:10],
    "ends in its cells": GOOD[:-1],
    "a byte too many": GOOD + b"\0",
    "3 GiB": b"\0\0\x08\x01\xc0\0\0\0" + bytes(100),
    "8 TiB": b"\0\0\x0e\x02\0\x10\0\0\0\x10\0\0",
    "more than any memory": b"\0\0\x0e\x20" + b"\xff" * 128,
    "no cells, endless axes": b"\0\0\x0e\x04" + b"\0\0\0\0" + b"\xff" * 12,
}
REFUSED_COMPRESSED = {
    "ends in its check sum": gzip.compress(GOOD)[:-4],
    "ends in its deflated part": gzip.compress(GOOD)[:-12],
    "wrong check sum": gzip.compress(GOOD)[:-8] + bytes(8),
    "garbage after it": gzip.compress(GOOD) + b"garbage",
    "gzip's magic only": b"\x1f\x8b",
}


@pytest.mark.parametrize(
    "content",
    [*REFUSED.values(), *map(gzip.compress, REFUSED.values()), *REFUSED_COMPRESSED.values()],
    ids=[*REFUSED, *(f"{name}, compressed" for name in REFUSED), *REFUSED_COMPRESSED],
)
def test_load_idx_refuses(tmp_path, content):
    path = tmp_path / "cells"
    path.write_bytes(content)
    with within(), pytest.raises(DataError, match=r"\[X204\].*cells"):
        load_idx(path)


def test_load_idx_refuses_a_bomb(tmp_path):
    path = tmp_path / "bomb.gz"
    zeros = gzip.compress(bytes(2**26), 9)
    assert len(zeros) < 70_000
    honest = gzip.compress(struct.pack(">BBBBI", 0, 0, 8, 1, 40 * 2**26))
    path.write_bytes(honest + zeros * 40)  # 2.6 MB that hold the 2.7 GB which they promise
    with within(), pytest.raises(DataError, match="decompress it first"):
        load_idx(path)
    path.write_bytes(gzip.compress(struct.pack(">BBBBI", 0, 0, 8, 1, 10)) + zeros * 40)
    with within(), pytest.raises(DataError, match="goes on after"):
        load_idx(path)
    path.write_bytes(gzip.compress(struct.pack(">BBBBI", 0, 0, 8, 1, 2**24 - 8)))
    with within(), pytest.raises(DataError, match="ends 16,777,208 bytes before"):
        load_idx(path)


def test_load_idx_obeys_max_bytes(tmp_path):
    path = tmp_path / "cells"
    path.write_bytes(GOOD)
    assert load_idx(path, max_bytes=24).shape == (2, 3, 4)
    with pytest.raises(DataError, match="pass max_bytes"):
        load_idx(path, max_bytes=23)


def test_load_idx_refuses_what_is_not_a_file(tmp_path):
    with pytest.raises(DataError, match="is not there"):
        load_idx(tmp_path / "nothing")
    with pytest.raises(DataError, match="is not a file"):
        load_idx(tmp_path)


def test_load_idx_survives_mutations(tmp_path, rng):
    """Damaged files give the array that they spell, or a DataError."""
    path = tmp_path / "cells"
    types = {8: ">u1", 9: ">i1", 0xB: ">i2", 0xC: ">i4", 0xD: ">f4", 0xE: ">f8"}
    accepted = refused = 0
    start = started()
    for trial in range(count := draws(1000)):
        content = bytearray(gzip.compress(GOOD, mtime=0) if trial % 4 == 0 else GOOD)
        for _ in range(rng.integers(1, 4)):
            place = int(rng.integers(0, min(len(content), 20) if rng.random() < 0.7 else len(content)))
            match rng.integers(0, 4):
                case 0:
                    content[place] = int(rng.integers(0, 256))
                case 1:
                    content[place] ^= 1 << int(rng.integers(0, 8))
                case 2:
                    del content[place:]
                case 3:
                    content[place:place] = rng.bytes(int(rng.integers(1, 5)))
            content = content or bytearray(1)
        path.write_bytes(content)
        try:
            read = load_idx(path)
        except DataError:
            refused += 1
            continue
        plain = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else bytes(content)
        shape = struct.unpack(f">{plain[3]}I", plain[4 : 4 + 4 * plain[3]])
        cells = np.frombuffer(plain[4 + 4 * plain[3] :], types[plain[2]])
        np.testing.assert_array_equal(read, cells.reshape(shape))
        accepted += 1
    assert accepted > count // 20
    assert refused > count // 2
    assert_soon(start, 0.005 * count)


# Published files


@pytest.fixture
def parts(rng):
    """Four small arrays in the place of MNIST's."""
    return {
        name: rng.integers(0, 256 if "images" in name else 10, (n, 4, 3) if "images" in name else (n,), np.uint8)
        for name, n in zip(NAMES, (6, 6, 2, 2), strict=True)
    }


@pytest.fixture
def source(parts, monkeypatch):
    """MNIST, but with the small arrays' checksums."""
    small = replace(
        published.MNIST,
        contents={name: "sha256:" + hashlib.sha256(idx(array)).hexdigest() for name, array in parts.items()},
        downloads={name: "sha256:" + hashlib.sha256(packed(array)).hexdigest() for name, array in parts.items()},
        sizes={name: len(packed(array)) for name, array in parts.items()},
    )
    monkeypatch.setattr(published, "MNIST", small)
    monkeypatch.delenv("XCNN_DATA_DIR", raising=False)
    return small


def packed(array):
    """The file that a mirror serves."""
    return gzip.compress(idx(array), mtime=0)


def assert_holds(data, parts):
    for samples, (images, labels) in zip(data, (published.TRAIN, published.TEST), strict=True):
        np.testing.assert_array_equal(samples.x, parts[images][:, None].astype(np.float32) / 255)
        np.testing.assert_array_equal(samples.y, parts[labels])


@pytest.mark.parametrize("folder", ["", "mnist", "MNIST/raw"])
@pytest.mark.parametrize("dotted", [False, True])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_mnist_from_a_folder(tmp_path, parts, source, folder, dotted, suffix):
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    for name, array in parts.items():
        path = tmp_path / folder / ((name.replace("-idx", ".idx") if dotted else name) + suffix)
        path.write_bytes(gzip.compress(idx(array), 1) if suffix else idx(array))
    assert_holds(datasets.mnist(tmp_path), parts)


def test_a_folder_of_its_own_comes_first(tmp_path, parts, source):
    """One data_dir may hold several data sets, whose files have the same names."""
    (tmp_path / "mnist").mkdir()
    for name, array in parts.items():
        (tmp_path / "mnist" / name).write_bytes(idx(array))
        (tmp_path / name).write_bytes(idx(array[:-1]))
    assert_holds(datasets.mnist(tmp_path), parts)


def test_data_dir_may_come_from_the_environment(tmp_path, parts, source, monkeypatch):
    for name, array in parts.items():
        (tmp_path / name).write_bytes(idx(array))
    monkeypatch.setenv("XCNN_DATA_DIR", str(tmp_path))
    assert_holds(datasets.mnist(), parts)
    with pytest.raises(DataError, match=r"X205.*elsewhere"):
        datasets.mnist(tmp_path / "elsewhere")


def test_a_system_s_package_comes_before_a_download(tmp_path, parts, source, monkeypatch):
    """Where nothing names a folder, and all four files are there, held to the checksums as all others."""
    here, named = tmp_path / "installed", tmp_path / "named"
    for folder in (here, named):
        folder.mkdir()
        for name, array in parts.items():
            (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
    monkeypatch.setattr(published, "MNIST", replace(source, installed=(str(tmp_path / "none"), str(here)), mirrors=()))
    assert_holds(datasets.mnist(), parts)
    (here / f"{NAMES[0]}.gz").write_bytes(gzip.compress(idx(parts[NAMES[0]] ^ 1)))
    with pytest.raises(DataError, match="X206"):
        datasets.mnist()
    assert_holds(datasets.mnist(named), parts)
    (here / f"{NAMES[0]}.gz").unlink()
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / "cache")
    with pytest.raises(DataError, match="could not be downloaded"):
        datasets.mnist()


def test_fashion_mnist_is_fashion_mnist():
    if not published._installed(published.FASHION_MNIST):
        pytest.skip("Debian's package dataset-fashion-mnist is not installed")
    (x, y), (xt, yt) = data = datasets.fashion_mnist()
    assert (x.shape, xt.shape) == ((60000, 1, 28, 28), (10000, 1, 28, 28))
    np.testing.assert_array_equal(np.bincount(y), np.full(10, 6000))
    np.testing.assert_array_equal(np.bincount(yt), np.full(10, 1000))
    assert float(x.mean(dtype=np.float64)) == pytest.approx(0.2860, abs=5e-5)  # the mean that everyone subtracts
    assert data.classes[y[0]] == "Ankle boot"


def test_missing_files_are_named(tmp_path, parts, source):
    with pytest.raises(DataError, match="X205") as error:
        datasets.mnist(tmp_path)
    assert all(name in str(error.value) for name in NAMES)
    (tmp_path / "mnist").mkdir()
    for name in NAMES[:3]:
        (tmp_path / "mnist" / name).write_bytes(idx(parts[name]))
    with pytest.raises(DataError, match="not complete") as error:
        datasets.mnist(tmp_path)
    assert [name in str(error.value) for name in NAMES] == [False, False, False, True]


@pytest.mark.parametrize("name", NAMES)
def test_altered_files_are_refused(tmp_path, parts, source, name):
    for other, array in parts.items():
        (tmp_path / other).write_bytes(idx(array))
    parts[name].reshape(-1)[0] ^= 1
    (tmp_path / name).write_bytes(idx(parts[name]))
    with pytest.raises(DataError, match=rf"X206.*{name}"):
        datasets.mnist(tmp_path)


def test_the_bundled_files_are_checked_too(tmp_path):
    bundled = Path(published.__file__).parent / "mnist01"
    for name in NAMES:
        (tmp_path / f"{name}.gz").write_bytes((bundled / f"{name}.gz").read_bytes())
    assert len(published._load(published.MNIST01, tmp_path).train.x) == 12665
    content = bytearray(gzip.decompress((tmp_path / f"{NAMES[0]}.gz").read_bytes()))
    content[5000] ^= 1
    (tmp_path / f"{NAMES[0]}.gz").write_bytes(gzip.compress(content, 1))
    with pytest.raises(DataError, match="X206"):
        published._load(published.MNIST01, tmp_path)


def test_fashion_is_not_taken_for_mnist(full_mnist, monkeypatch):
    monkeypatch.setattr(published, "FASHION_MNIST", replace(published.FASHION_MNIST, folders=published.MNIST.folders))
    with pytest.raises(DataError, match=r"X206.*is not Fashion-MNIST's"):
        datasets.fashion_mnist(full_mnist)


def test_checksums_are_well_formed():
    for source in (published.MNIST, published.FASHION_MNIST):
        assert tuple(source.contents) == tuple(source.downloads) == tuple(source.sizes) == NAMES
        assert len(source.classes) == 10
        assert len(source.mirrors) == 2
        for known in (*source.contents.values(), *source.downloads.values()):
            kind, _, digest = known.partition(":")
            assert len(bytes.fromhex(digest)) == hashlib.new(kind).digest_size


def test_download_checksums_are_those_of_mnist(full_mnist):
    """The .gz files at hand, whose MD5 are the authors', have the SHA-256 and sizes that downloads are held to."""
    for name, known in published.MNIST.downloads.items():
        path = next(full_mnist.glob(f"**/{name}.gz"), None)
        if path is None:
            pytest.skip(f"{name} is not at hand as .gz")
        assert "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest() == known
        assert path.stat().st_size == published.MNIST.sizes[name]


# Downloads


def answer(handler, body, length=None, status=200, **headers):
    handler.send_response(status)
    if length is not False:
        handler.send_header("Content-Length", str(len(body) if length is None else length))
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def reset(handler, body):
    answer(handler, body[: len(body) // 2], len(body))
    handler.wfile.flush()
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def stall(handler, body):
    answer(handler, body[: len(body) // 2], len(body))
    handler.wfile.flush()
    handler.server.stalled.set()
    handler.server.done.wait(300)


def drip(handler, body, headers=b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"):
    """A byte at a time, so that no silence is long."""
    handler.wfile.write(headers)
    while not handler.server.done.wait(0.05):
        handler.wfile.write(b"x")


def pour(handler, body):
    """More than anybody asked for, until somebody hangs up."""
    answer(handler, body, False)
    while not handler.server.done.is_set():
        handler.wfile.write(bytes(2**16))
        handler.server.poured += 2**16


def raw(content):
    return lambda handler, _: handler.wfile.write(content)


FAULTS = {
    "cut short": lambda handler, body: answer(handler, body[:-7], len(body)),
    "cut short at the start": lambda handler, body: answer(handler, b"", len(body)),
    "cut short, length unsaid": lambda handler, body: answer(handler, body[:-7], False),
    "reset half-way": reset,
    "stalled half-way": stall,
    "one bit wrong": lambda handler, body: answer(handler, body[:9] + bytes([body[9] ^ 1]) + body[10:]),
    "other bytes": lambda handler, body: answer(handler, bytes(len(body))),
    "too long": lambda handler, body: answer(handler, body + b"more"),
    "empty": lambda handler, _: answer(handler, b""),
    "a page instead": lambda handler, _: answer(
        handler, b"<html>Please log in</html>", **{"Content-Type": "text/html"}
    ),
    "another .gz": lambda handler, _: answer(handler, gzip.compress(GOOD)),
    "not compressed": lambda handler, body: answer(handler, gzip.decompress(body)),
    "partial content": lambda handler, body: answer(handler, body[:20], status=206),
    "forbidden": lambda handler, _: answer(handler, b"no", status=403),
    "not found": lambda handler, _: answer(handler, b"no", status=404),
    "server error": lambda handler, _: answer(handler, b"no", status=500),
    "endless redirection": lambda handler, _: answer(handler, b"", status=302, Location=handler.path),
    "redirected nowhere": lambda handler, _: answer(handler, b"", status=302, Location="http://127.0.0.1:1/x"),
    "hung up": raw(b""),
    "not HTTP": raw(b"220 ready\r\n"),
    "bad chunks": raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"),
    "drips": drip,
    "drips its header": lambda handler, body: drip(handler, body, b"HTTP/1.1 200 OK\r\nX: "),
    "endless": pour,
    "a bomb": lambda handler, _: answer(handler, gzip.compress(bytes(2**22)), **{"Content-Encoding": "gzip"}),
    "not gzip, though it says so": raw(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nplain"),
}


NEVER_END = {stall, drip, pour, FAULTS["drips its header"]}
"""Mirrors that only a clock ends. The others may take the time that a busy machine needs."""


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        mirror, name = self.path.strip("/").split("/")
        self.server.requests.append(self.path)
        with contextlib.suppress(OSError):
            self.server.mirrors[mirror](self, self.server.bodies[name])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(source, parts, tmp_path, monkeypatch):
    """Two mirrors on this machine; `server.mirrors` says how each behaves."""
    import pooch
    import requests  # noqa: F401  (pooch does so when it begins, and it takes longer than these mirrors may)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.mirrors = {"first": answer, "second": answer}
        server.bodies = {f"{name}.gz": packed(array) for name, array in parts.items()}
        server.poured = 0
        server.requests, server.stalled, server.done = [], threading.Event(), threading.Event()
        server.cache = tmp_path / "cache"
        server.handle_error = lambda *_: None
        url = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setattr(published, "MNIST", replace(source, mirrors=(f"{url}/first/", f"{url}/second/")))
        monkeypatch.setattr(pooch, "os_cache", lambda _: server.cache)
        fetch = published.fetch

        def patient(url, size):
            monkeypatch.setattr(published, "TIMEOUT", 0.3 if server.mirrors.get(url.split("/")[3]) in NEVER_END else 30)
            return fetch(url, size)

        monkeypatch.setattr(published, "fetch", patient)
        monkeypatch.setattr(published, "SLOWEST", 2**20)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        pooch.get_logger().setLevel("ERROR")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.done.set()
        server.shutdown()
        thread.join()
    pooch.get_logger().setLevel("INFO")


def visible(server):
    return sorted(path.name for path in server.cache.glob("**/*") if path.is_file())


def test_downloads_once(server, parts):
    assert_holds(datasets.mnist(), parts)
    assert server.requests == [f"/first/{name}.gz" for name in NAMES]
    assert visible(server) == sorted(f"{name}.gz" for name in NAMES)
    assert_holds(datasets.mnist(), parts)
    assert len(server.requests) == 4


@pytest.mark.parametrize("quiet", [True, False])
def test_a_download_is_told_in_lines_of_ours_or_not_at_all(server, capsys, quiet):
    import pooch

    from xcnn.cli.data import load_data

    told, logger = io.StringIO(), pooch.get_logger()
    handler = logging.StreamHandler(told)
    logger.addHandler(handler)
    logger.setLevel("INFO")
    try:
        load_data("mnist", None, quiet=quiet)
    finally:
        logger.removeHandler(handler)
    assert (told.getvalue(), logger.level) == ("", logging.INFO)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[0] for line in lines] == ([] if quiet else ["downloading"] * 4)
    load_data("mnist", None)
    assert capsys.readouterr().err == ""


def test_a_damaged_cache_is_fetched_again(server, parts):
    datasets.mnist()
    path = next(server.cache.glob(f"**/{NAMES[1]}.gz"))
    path.write_bytes(path.read_bytes()[:-1])
    assert_holds(datasets.mnist(), parts)
    assert server.requests[4:] == [f"/first/{NAMES[1]}.gz"]


@pytest.mark.parametrize("fault", FAULTS)
def test_the_second_mirror_helps_out(server, parts, fault):
    server.mirrors["first"] = FAULTS[fault]
    assert_holds(datasets.mnist(), parts)
    assert visible(server) == sorted(f"{name}.gz" for name in NAMES)
    assert f"/second/{NAMES[0]}.gz" in server.requests


@pytest.mark.parametrize("fault", FAULTS)
def test_two_bad_mirrors_leave_nothing_behind(server, fault):
    server.mirrors = {"first": FAULTS[fault], "second": FAULTS["not found"]}
    with pytest.raises(DataError, match=r"\[X205\] MNIST could not be downloaded") as error:
        datasets.mnist()
    assert len(error.value.details) == 2
    assert "/first/: " in error.value.details[0]
    assert "404" in error.value.details[1]
    assert "data_dir" in error.value.hint
    assert visible(server) == []


def test_mirrors_that_drip_or_pour_are_soon_given_up(server):
    server.mirrors = {"first": drip, "second": pour}
    began = time.monotonic()
    with pytest.raises(DataError, match="X205") as error:
        datasets.mnist()
    assert time.monotonic() - began < 40  # to drip takes 50 seconds, and to pour never ends
    assert server.poured < 2**24  # what a socket's buffers take
    size = published.MNIST.sizes[NAMES[0]]
    assert "it was too slow" in error.value.details[0]
    assert f"it serves more than the {size} bytes" in error.value.details[1]


def test_what_was_killed_while_a_download_was_written_is_removed_by_the_next(server, parts):
    (server.cache / "mnist").mkdir(parents=True)
    (server.cache / "mnist" / f".{NAMES[0]}.gz.0123456789ab.part").write_bytes(b"half")
    assert_holds(datasets.mnist(), parts)
    assert visible(server) == sorted(f"{name}.gz" for name in NAMES)


def test_no_server_at_all(server, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        monkeypatch.setattr(published, "MNIST", replace(published.MNIST, mirrors=(url, url)))
        with pytest.raises(DataError, match="X205"):
            datasets.mnist()
    assert visible(server) == []


def test_an_interrupted_download_leaves_nothing_behind(server, monkeypatch):
    import pooch

    def interrupted(self, url, output_file, pooch):
        output_file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        datasets.mnist()
    assert visible(server) == []


def test_a_killed_download_is_never_taken_for_the_file(server, parts):
    server.mirrors["first"] = stall
    source = replace(published.MNIST)
    code = (
        "import sys, pathlib, pooch; from xcnn.data import published; from xcnn.data.published import Source\n"
        f"pooch.os_cache = lambda _: pathlib.Path({str(server.cache)!r})\n"
        f"published.MNIST = {source!r}; published.mnist()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    try:
        assert server.stalled.wait(300)
        assert not any(name in NAMES for name in (path.removesuffix(".gz") for path in visible(server)))
    finally:
        process.kill()
        process.wait()
    assert visible(server) == []
    server.mirrors["first"] = answer
    assert_holds(datasets.mnist(), parts)


# Image folders


def save(path, value, size=(5, 4), **options):
    """An image (height, width) of one colour: a grey, or an RGB triple."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L" if isinstance(value, int) else "RGB", size[::-1], value).save(path, **options)


@pytest.fixture
def pets(tmp_path):
    """path/cat holds greys 0..9, path/dog greys 100..104."""
    for value in range(10):
        save(tmp_path / "pets" / "cat" / f"{value}.png", value)
    for value in range(100, 105):
        save(tmp_path / "pets" / "dog" / f"{value}.png", value)
    return tmp_path / "pets"


def greys(samples):
    return np.rint(samples.x[:, 0, 0, 0] * 255).astype(int).tolist()


def place(name, seed=0):
    """Where "class/file" stands in 0..1, as docs say it: SHA-256's first 8 bytes."""
    return int(hashlib.sha256(f"{seed}/{name}".encode()).hexdigest()[:16], 16) / 2**64


def test_image_folder_splits_each_class(pets):
    data = image_folder(pets)
    (x, y), (xt, yt) = data
    assert data.classes == ("cat", "dog")
    assert x.shape[1:] == xt.shape[1:] == (1, 28, 28)
    assert x.dtype == xt.dtype == np.float32
    assert y.dtype == yt.dtype == np.int64
    cats, dogs = range(10), range(100, 105)
    drawn = [n for n in cats if place(f"cat/{n}.png") < 0.2] + [n for n in dogs if place(f"dog/{n}.png") < 0.2]
    assert greys(data.test) == drawn
    assert greys(data.train) == [n for n in (*cats, *dogs) if n not in drawn]
    assert [grey >= 100 for grey in greys(data.train)] == (y == 1).tolist()
    assert [grey >= 100 for grey in greys(data.test)] == (yt == 1).tolist()
    assert (y.min(), yt.min(), y.max(), yt.max()) == (0, 0, 1, 1)


def test_the_split_depends_on_the_seed_only(pets, monkeypatch):
    splits = [tuple(greys(image_folder(pets, seed=seed).test)) for seed in (0, 1, 2, 3, 0)]
    assert splits[0] == splits[4]
    assert len(set(splits)) > 1
    listed = Path.iterdir
    for order in (sorted, lambda paths: sorted(paths, reverse=True)):  # as file systems list their files
        monkeypatch.setattr(Path, "iterdir", lambda folder, order=order: iter(order(listed(folder))))
        assert tuple(greys(image_folder(pets).test)) == splits[0]


def sides(folder, **options):
    """Which images are tested on, which are trained on; each has a grey of its own."""
    data = image_folder(folder, (1, 1), **options)
    return set(greys(data.test)), set(greys(data.train))


def test_images_that_come_or_go_leave_the_others_where_they_are(tmp_path):
    """What was trained on is never tested on, and the other way around."""
    for value in range(60):
        save(tmp_path / "a" / f"image {value}.png", value)
    test, train = sides(tmp_path)
    assert len(test) > 3
    for value in range(60, 130):
        save(tmp_path / ("a" if value % 2 else "b") / f"new {value * 7 % 31} {value}.png", value)
        if value % 10 == 0 or value < 64:
            now = sides(tmp_path)
            assert test <= now[0]
            assert train <= now[1]
    gone = set(sorted(train)[::3])
    for value in gone:
        (tmp_path / "a" / f"image {value}.png").unlink()
    now = sides(tmp_path)
    assert {n for n in now[0] if n < 60} == test
    assert {n for n in now[1] if n < 60} == train - gone


@pytest.mark.parametrize("fraction", [0.01, 0.2, 0.5, 0.99])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_every_class_of_two_is_in_both_parts(tmp_path, count, fraction):
    for value in range(count):
        save(tmp_path / "a" / f"{value}.png", value)
    for seed in range(12):
        test, train = sides(tmp_path, test_fraction=fraction, seed=seed)
        assert test
        assert train
        assert test | train == set(range(count))
        places = {value: place(f"a/{value}.png", seed) for value in range(count)}
        expected = {value for value in places if places[value] < fraction}
        expected = expected or {min(places, key=places.get)}
        assert test == (expected if len(expected) < count else expected - {max(places, key=places.get)})


def test_the_share_of_test_images_is_about_what_was_asked_for(tmp_path):
    save(tmp_path / "a" / "0.png", 7, (1, 1))
    content = (tmp_path / "a" / "0.png").read_bytes()
    for n in range(1, 400):
        (tmp_path / "a" / f"{n}.png").write_bytes(content)
    for fraction in (0.1, 0.5):
        count = len(image_folder(tmp_path, (1, 1), test_fraction=fraction).test.y)
        assert abs(count - 400 * fraction) < 4 * (400 * fraction * (1 - fraction)) ** 0.5


def test_without_a_fraction_nothing_is_tested_on(pets):
    data = image_folder(pets, test_fraction=0)
    assert len(data.train.y) == 15
    assert data.test.x.shape == (0, 1, 28, 28)


NAMES_CODE = """
import sys
from xcnn.datasets import image_folder
data = image_folder(sys.argv[1], (1, 1), test_fraction=0.5)
print(ascii(data.classes), [round(float(x) * 255) for x in data.train.x.ravel()], data.train.y.tolist())
print(sys.flags.utf8_mode, sys.getfilesystemencoding())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes, and any bytes, on Linux")
def test_names_do_not_depend_on_the_locale(tmp_path):
    """An ASCII and a UTF-8 process see the same classes in the same order, with the same images to train on."""
    names = ["zoo", "Äpfel", "été", "日本", "a", "😀", unicodedata.normalize("NFD", "ñu")]
    value = 0
    for name in (*map(os.fsencode, names), b"caf\xe9", b"\xff\xfe"):
        for file in (b"1.png", b"2.png", "ü.png".encode(), b"\xe9.png", "日.png".encode()):
            save(tmp_path / "data" / "tmp.png", value)
            os.makedirs(os.path.join(os.fsencode(tmp_path / "data"), name), exist_ok=True)
            os.replace(tmp_path / "data" / "tmp.png", os.path.join(os.fsencode(tmp_path / "data"), name, file))
            value += 1
    seen = []
    for settings in (
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LC_ALL": "C.UTF-8", "PYTHONUTF8": "0"},
        {"LC_ALL": "C", "PYTHONUTF8": "1"},
    ):
        env = {name: text for name, text in os.environ.items() if not name.startswith(("LC_", "LANG"))} | settings
        done = subprocess.run(
            [sys.executable, "-c", NAMES_CODE, tmp_path / "data"], env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        seen.append(done.stdout.splitlines())
    assert seen[0][1] == "0 ascii"
    assert seen[1][1] == "0 utf-8"
    assert seen[0][0] == seen[1][0] == seen[2][0]
    known = [unicodedata.normalize("NFC", name) for name in names]
    order = sorted([*known, "caf\udce9", "\udcff\udcfe"])  # as Python reads such bytes
    classes = [{"caf\udce9": "caf\\xe9", "\udcff\udcfe": "\\xff\\xfe"}.get(name, name) for name in order]
    assert seen[0][0].startswith(ascii(tuple(classes)))


def test_names_are_the_same_in_either_form_of_unicode(tmp_path):
    """macOS takes letters apart that Linux and Windows keep in one: é is e and an accent there."""
    found = []
    for form in ("NFC", "NFD"):
        for value in range(8):
            name = unicodedata.normalize(form, f"é{value}.png")
            save(tmp_path / form / unicodedata.normalize(form, "café") / name, value)
            save(tmp_path / form / "cafz" / f"{value}.png", 100 + value)
        data = image_folder(tmp_path / form, test_fraction=0.5)
        found.append((data.classes, greys(data.train), greys(data.test)))
    assert found[0] == found[1]
    assert found[0][0] == ("cafz", "caf\u00e9")
    if sys.platform == "linux":
        save(tmp_path / "NFC" / unicodedata.normalize("NFD", "café") / "1.png", 1)
        with pytest.raises(DataError, match=r"X209.*two classes of the name caf"):
            image_folder(tmp_path / "NFC")


def test_a_class_of_one_image_is_trained_on(tmp_path):
    save(tmp_path / "a" / "1.png", 3)
    save(tmp_path / "b" / "1.png", 4)
    data = image_folder(tmp_path)
    assert greys(data.train) == [3, 4]
    assert data.test.x.shape == (0, 1, 28, 28)


def test_folders_train_and_test(tmp_path):
    for value, part in ((1, "train/a"), (2, "train/b"), (3, "test/a"), (4, "test/b"), (5, "test/b")):
        save(tmp_path / part / f"{value}.png", value)
    data = image_folder(tmp_path, test_fraction=0.5, seed=7)
    assert data.classes == ("a", "b")
    assert (greys(data.train), data.train.y.tolist()) == ([1, 2], [0, 1])
    assert (greys(data.test), data.test.y.tolist()) == ([3, 4, 5], [0, 1, 1])
    save(tmp_path / "test" / "c" / "6.png", 6)
    with pytest.raises(DataError, match=r"X209(.|\n)*in one only: c"):
        image_folder(tmp_path)


def test_colour_and_size(tmp_path):
    save(tmp_path / "red" / "1.png", (255, 0, 0))
    save(tmp_path / "blue" / "1.png", (0, 51, 255))
    data = image_folder(tmp_path, size=(3, 2), mode="RGB")
    assert data.train.x.shape == (2, 3, 3, 2)
    np.testing.assert_array_equal(data.train.x[0, :, 1, 1], np.asarray([0, 0.2, 1], np.float32))
    np.testing.assert_array_equal(data.train.x[1, :, 2, 0], [1, 0, 0])
    assert image_folder(tmp_path, size=None).train.x.shape == (2, 1, 5, 4)


def test_images_of_several_sizes_need_a_size(pets):
    save(pets / "dog" / "wide.png", 9, (5, 9))
    assert image_folder(pets).train.x.shape[2:] == (28, 28)
    with pytest.raises(DataError, match=r"X209.*wide.png is 5x9, but .*png is 5x4"):
        image_folder(pets, size=None, test_fraction=0)


def test_hidden_files_and_files_beside_the_classes_are_skipped(pets):
    (pets / "README.txt").write_text("Pets.")
    (pets / ".git").mkdir()
    (pets / "cat" / ".DS_Store").write_bytes(b"\0")
    (pets / "cat" / ".thumbnails").mkdir()
    assert len(image_folder(pets, test_fraction=0).train.y) == 15


def test_files_that_are_no_images_are_named(pets):
    (pets / "cat" / "notes.png").write_text("no image")
    (pets / "dog" / "cut.png").write_bytes((pets / "dog" / "100.png").read_bytes()[:-30])
    with pytest.raises(DataError, match=r"\[X207\] 2 of 17 files can't be used") as error:
        image_folder(pets, test_fraction=0)
    assert "notes.png" in str(error.value)
    assert "cut.png" in str(error.value)


def test_other_files_and_classes_without_images_are_left_out_and_counted(pets, caplog):
    kinds = image_folder(pets, test_fraction=0).classes
    (pets / "cat" / "notes.txt").write_text("no image")
    (pets / "fox").mkdir()
    (pets / "fox" / ".hidden").touch()
    with caplog.at_level("WARNING", "xcnn"):
        data = image_folder(pets, test_fraction=0)
    assert (data.classes, len(data.train.y)) == (kinds, 15)
    assert "left out: 1 .txt; 1 folder without pictures: fox" in caplog.text


@pytest.mark.parametrize("made", ["nothing", "no classes", "only empty classes", "a nested folder"])
def test_folders_that_are_no_data_sets(tmp_path, made):
    root = tmp_path / "data"
    if made != "nothing":
        root.mkdir()
        save(root / "loose.png", 1)
    if made == "only empty classes":
        (root / "a").mkdir()
        (root / "b").mkdir()
        (root / "b" / ".hidden").touch()
    if made == "a nested folder":
        save(root / "train" / "a" / "1.png", 1)
        save(root / "val" / "a" / "1.png", 1)
    with pytest.raises(DataError, match="X209"):
        image_folder(root)


def test_links(pets, tmp_path):
    outside = tmp_path / "outside"
    save(outside / "secret.png", 200)
    (pets / "cat" / "twin.png").symlink_to(pets / "cat" / "9.png")
    assert greys(image_folder(pets, test_fraction=0).train).count(9) == 2
    link = pets / "dog" / "link.png"
    for target, kind in ((outside / "secret.png", "X209"), (pets / "nothing", "X207"), (link, "X207")):
        link.symlink_to(target)
        with pytest.raises(DataError, match=rf"{kind}.*link.png"):
            image_folder(pets)
        link.unlink()
    (pets / "fox").symlink_to(outside)
    with pytest.raises(DataError, match=r"X209.*fox"):
        image_folder(pets)


@pytest.mark.parametrize(
    "options",
    [{"mode": "CMYK"}, {"size": 28}, {"size": (0, 28)}, {"test_fraction": 1}, {"test_fraction": -0.1}, {"seed": -1}],
    ids=repr,
)
def test_options_are_checked(pets, options):
    with pytest.raises(OptionError, match="X104"):
        image_folder(pets, **options)
