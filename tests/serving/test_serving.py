"""The service: a real client against a real server on a free port; batches, limits, and how it ends."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from served import model, picture

import xcnn
from xcnn.data.images import read_image
from xcnn.errors import ShapeError
from xcnn.serving.batching import Batcher, FullError, Limits
from xcnn.serving.metrics import Histogram, Metrics


class Server:
    """`xcnn serve` in a process of its own."""

    def __init__(self, folder, *options):
        model().save(folder / "net.xcnn")
        command = [sys.executable, "-m", "xcnn", "serve", "net.xcnn", "--port", "0", "--backend", "numpy", *options]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        line = self.process.stdout.readline()
        self.address = re.search(r"http://127\.0\.0\.1:\d+", line)[0]

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        _, err = self.process.communicate(timeout=20)
        return self.process.returncode, err


@pytest.fixture(scope="module")
def httpx():
    pytest.importorskip("starlette", reason="the extra serve")
    pytest.importorskip("uvicorn", reason="the extra serve")
    return pytest.importorskip("httpx", reason="the client")


@pytest.fixture(scope="module")
def server(tmp_path_factory, httpx):
    made = Server(tmp_path_factory.mktemp("served"), "--max-upload", "100000", "--max-pixels", "100000")
    yield made
    assert made.end() == (0, "")


@pytest.fixture
def client(server, httpx):
    with httpx.Client(base_url=server.address, timeout=20, trust_env=False) as client:
        yield client


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_an_image_in_classes_out(client, kind, tmp_path):
    (tmp_path / "image").write_bytes(body := picture(1, kind))
    answer = client.post("/predict", content=body)
    assert answer.status_code == 200
    told = answer.json()
    p = model().probabilities(read_image(tmp_path / "image", (12, 12), "RGB")[None])[0]
    assert told["class"] == ["cat", "dog", "owl"][p.argmax()]
    assert [*told["probabilities"].values()] == sorted(p, reverse=True)
    assert told["prepared"] == "RGB, 12x12"


def test_many_at_once_go_in_batches_and_each_gets_its_own(client):
    bodies = [picture(n) for n in range(24)]
    alone = [client.post("/predict", content=body).json() for body in bodies[:6]]
    with ThreadPoolExecutor(12) as threads:
        together = [*threads.map(lambda body: client.post("/predict", content=body).json(), bodies)]
    assert together[:6] == alone
    assert len({told["probability"] for told in together}) == 24
    sizes = re.findall(
        r'xcnn_batch_size_bucket\{le="1"\} (\d+)|xcnn_batch_size_count (\d+)', client.get("/metrics").text
    )
    assert int(sizes[0][0]) < int(sizes[1][1])


def test_health_and_metrics(client):
    assert client.get("/health").json() == {
        "status": "ok", "backend": "numpy", "input": [3, 12, 12], "classes": ["cat", "dog", "owl"],
    }  # fmt: skip
    client.post("/predict", content=picture())
    client.post("/predict", content=b"no image")
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    text = answer.text
    assert int(re.search(r'xcnn_requests_total\{status="200"\} (\d+)', text)[1]) >= 1
    assert int(re.search(r'xcnn_requests_total\{status="422"\} (\d+)', text)[1]) >= 1
    assert all(re.fullmatch(r'# (HELP|TYPE) .*|\w+(\{\w+="[^"]*"\})? [\d.e+-]+', line) for line in text.splitlines())


REFUSED = {
    "nothing": (b"", {}, 400, "empty"),
    "a text": (b"hello", {}, 422, "X207"),
    "half an image": (picture()[:200], {}, 422, "X207"),
    "too large": (b"x" * 100_001, {}, 413, "size"),
    "too many pixels": (picture(size=(400, 300), kind="JPEG")[:99_000], {}, 422, "X207"),
    "a form": (b"x", {"content-type": "multipart/form-data; boundary=x"}, 415, "form"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_says_why(client, case):
    body, headers, status, code = REFUSED[case]
    answer = client.post("/predict", content=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert "/tmp" not in answer.text


def test_an_upload_without_a_length_is_cut_off(server):
    """The answer comes while the upload still goes on."""
    host, port = server.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as client:
        client.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(11):
            client.sendall(b"2710\r\n" + b"x" * 10_000 + b"\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 413")


def test_other_ways_are_none(client):
    for path, status in (("/predict", 405), ("/", 404)):
        answer = client.get(path)
        assert answer.status_code == status
        assert "POST /predict takes an image file" in answer.json()["error"]["hint"]


def test_who_hangs_up_is_counted_and_nothing_is_told_of_it(server, client):
    """That stderr stays empty the end of the server sees."""
    host, port = server.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as gone:
        gone.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\nabc")
    begin = time.monotonic()
    while 'xcnn_requests_total{status="499"} 1' not in client.get("/metrics").text:
        assert time.monotonic() - begin < 20
        time.sleep(0.02)


def test_an_upload_that_never_ends_is_given_up(tmp_path, httpx):
    server = Server(tmp_path, "--seconds", "0.3")

    def slowly():
        yield b"x"
        time.sleep(1.5)
        yield b"x"

    begin = time.monotonic()
    answer = httpx.post(f"{server.address}/predict", content=slowly(), trust_env=False, timeout=20)
    assert answer.status_code == 504
    assert time.monotonic() - begin < 15
    assert server.end()[0] == 0


def test_a_signal_ends_it_when_what_is_under_way_is_answered(tmp_path, httpx):
    """The requests wait for others for a second, in which the signal comes."""
    server = Server(tmp_path, "--wait", "1")
    with ThreadPoolExecutor(3) as threads:
        asked = [
            threads.submit(httpx.post, f"{server.address}/predict", content=picture(n), trust_env=False, timeout=20)
            for n in range(3)
        ]
        time.sleep(0.4)
        code, err = server.end()
    assert [each.result().status_code for each in asked] == [200, 200, 200]
    assert (code, err) == (0, "")


def test_a_port_that_is_taken(tmp_path, server):
    model().save(tmp_path / "net.xcnn")
    port = server.address.rpartition(":")[2]
    command = [sys.executable, "-m", "xcnn", "serve", "net.xcnn", "--port", port, "--backend", "numpy"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 4
    assert "Address already in use" in done.stderr


def test_a_model_that_is_no_classifier_of_images():
    service = pytest.importorskip("xcnn.serving.service")
    with pytest.raises(ShapeError, match="from images to classes"):
        service.Service(xcnn.Model(xcnn.Dense(2), (3,), backend="numpy"), service.Serving())
    sums = xcnn.Graph(y=(xcnn.Add(), "a", "b", "c"), inputs=("a", "b", "c"))
    with pytest.raises(ShapeError, match="from images to classes"):
        service.Service(xcnn.Model(sums, ((2,), (2,), (2,)), backend="numpy"), service.Serving())


# Batches by themselves.


def doubled(seen, slow=0.0):
    def compute(samples):
        seen.append(len(samples))
        time.sleep(slow)
        return samples * 2

    return compute


def asked(batcher, numbers):
    async def all_of_them():
        async with batcher:
            return await asyncio.gather(*(batcher.ask(np.full(2, n)) for n in numbers), return_exceptions=True)

    return asyncio.run(all_of_them())


def test_batches_are_no_larger_than_they_may_be():
    seen = []
    results = asked(Batcher(doubled(seen), Limits(batch=4, wait=0.2, waiting=50)), range(10))
    assert [int(result[0]) for result in results] == [2 * n for n in range(10)]
    assert seen == [4, 4, 2]


def test_one_alone_waits_no_longer_than_it_must():
    begin = time.monotonic()
    asked(Batcher(doubled([]), Limits(batch=4, wait=0.05)), [1])
    assert time.monotonic() - begin < 2


def test_too_many_are_refused_and_the_others_answered():
    results = asked(Batcher(doubled([], 0.05), Limits(batch=2, wait=0, waiting=3)), range(9))
    refused = [isinstance(result, FullError) for result in results]
    assert 0 < sum(refused) < 9
    assert all(int(result[0]) == 2 * n for n, result in enumerate(results) if not refused[n])


def test_what_is_raised_is_told_to_all_of_its_batch_and_no_others():
    def compute(samples):
        if (samples == 3).any():
            raise MemoryError("no room")
        return samples

    results = asked(Batcher(compute, Limits(batch=2, wait=0.1)), range(6))
    assert [isinstance(result, MemoryError) for result in results] == [False, False, True, True, False, False]


def test_what_waits_at_the_end_is_computed():
    async def ends():
        async with Batcher(doubled([]), Limits(batch=8, wait=5)) as batcher:
            waits = asyncio.create_task(batcher.ask(np.ones(2)))
            await asyncio.sleep(0.01)
        return await waits

    assert int(asyncio.run(ends())[0]) == 2


def test_who_has_left_is_passed_by():
    seen = []

    async def leaves():
        async with Batcher(doubled(seen), Limits(batch=8, wait=0.1)) as batcher:
            waits = asyncio.create_task(batcher.ask(np.zeros(2)))
            await asyncio.sleep(0.01)
            waits.cancel()
            await batcher.ask(np.ones(2))
        with pytest.raises(FullError):
            await batcher.ask(np.ones(2))

    asyncio.run(leaves())
    assert seen == [1]


def test_counts_by_bounds():
    histogram = Histogram((1.0, 2.0))
    for number in (0.5, 1.0, 1.5, 9.0):
        histogram.add(number)
    assert [*histogram.lines("x")] == [
        'x_bucket{le="1"} 2', 'x_bucket{le="2"} 3', 'x_bucket{le="+Inf"} 4', "x_sum 12", "x_count 4",
    ]  # fmt: skip
    assert "xcnn_waiting 7" in Metrics(lambda: 7).text()
