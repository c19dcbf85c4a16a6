"""Clients that mean no good: what they send is refused, what they hold is taken back, and others are answered."""

import asyncio
import re
import socket
import threading
import time
from contextlib import ExitStack, suppress

import numpy as np
import pytest
from served import model, picture

pytest.importorskip("starlette", reason="the extra serve")
uvicorn = pytest.importorskip("uvicorn", reason="the extra serve")

from xcnn.serving.connections import impatient  # noqa: E402
from xcnn.serving.service import Service, Serving, app  # noqa: E402

POST = b"POST /predict HTTP/1.1\r\nHost: x\r\n"
HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
PICTURE = picture()
MOST = 5
"""Connections that the server takes at once."""


class Running:
    """The service in a thread."""

    def __init__(self, serving, patience=30.0):
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # full soon, for who reads nothing
        config = uvicorn.Config(
            app(model(), serving), http=impatient(patience), ws="none", log_level="critical", limit_concurrency=MOST,
            timeout_keep_alive=1, timeout_graceful_shutdown=5,
        )  # fmt: skip
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=lambda: asyncio.run(self.server.serve([self.listening])))
        self.thread.start()

    def connected(self):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(20)
        client.connect(self.listening.getsockname())
        return client

    def told(self, *sent):
        """The status lines that come back until the connection is closed."""
        with self.connected() as client:
            for each in sent:
                client.sendall(each)
            return statuses(client)

    def end(self):
        self.server.should_exit = True
        self.thread.join(20)
        self.listening.close()
        assert not self.thread.is_alive()


def rest(client):
    """All that comes until the end."""
    pieces = []
    try:
        while piece := client.recv(1 << 16):
            pieces.append(piece)
    except ConnectionError:
        pass
    return b"".join(pieces)


def statuses(client):
    return [int(number) for number in re.findall(rb"HTTP/1\.1 (\d+)", rest(client))]


@pytest.fixture(scope="module")
def running():
    made = Running(Serving(max_upload=100_000))
    yield made
    made.end()


@pytest.fixture(scope="module")
def hurried():
    """Of which nothing but refusals is asked, however slow the machine is."""
    made = Running(Serving(seconds=0.2))
    yield made
    made.end()


@pytest.fixture(scope="module")
def watchful():
    """Whose connections are given up after a second."""
    made = Running(Serving(), patience=1.0)
    yield made
    made.end()


def length(body):
    return b"Content-Length: %d\r\n\r\n" % len(body) + body


PATIENCE = 60
"""Seconds that a slow machine may take for what is over in two."""
CLOSE = b"Connection: close\r\n"
REQUESTS = {
    "a length that is no number": (POST + b"Content-Length: 3x\r\n\r\nabc", [400]),
    "a length below nothing": (POST + b"Content-Length: -3\r\n\r\nabc", [400]),
    "a length of 5,000 digits": (POST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", [400]),
    "a length beyond what may be": (POST + CLOSE + b"Content-Length: 99999999999999999999\r\n\r\n", [413]),
    "two lengths": (POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", [400]),
    "more than its length": (POST + b"Content-Length: 3\r\n\r\n" + PICTURE, [422, 400]),
    "a chunk of no number": (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", [400]),
    "a chunk's endless note": (POST + b"Transfer-Encoding: chunked\r\n\r\n3;" + b"a" * 200_000, [400]),
    "an endless header": (POST + b"X: " + b"a" * 600_000, [400]),
    "a header with a null byte": (POST + b"X: a\0b\r\n\r\n", [400]),
    "a packed body": (POST + CLOSE + b"Content-Encoding: gzip\r\n" + length(b"\x1f\x8b\x08"), [422]),
    "a form in capitals": (POST + CLOSE + b"Content-Type: Multipart/Form-Data\r\n" + length(b"x"), [415]),
    "a web socket": (POST + CLOSE + b"Upgrade: websocket\r\nConnection: Upgrade\r\n" + length(PICTURE), [200]),
    "bytes": (bytes(range(256)), [400]),
    "a path of bytes": (b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n", [400]),
    "a path out of the folder": (b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n" + CLOSE + b"\r\n", [404]),
    "another version": (b"PRI * HTTP/2.0\r\nHost: x\r\n" + CLOSE + b"\r\n", [404]),
    "a hundred at once": (HEALTH * 99 + HEALTH[:-2] + CLOSE + b"\r\n", [200] * 100),
}


@pytest.mark.parametrize("case", REQUESTS)
def test_a_request_is_answered_or_refused_and_the_next_one_served(running, case):
    sent, expected = REQUESTS[case]
    assert running.told(sent)[: len(expected)] == expected
    assert running.told(POST + CLOSE + length(PICTURE)) == [200]


def test_what_begins_http_2_is_refused(running):
    """As a path that is not there, or, by older releases of uvicorn, for what comes behind a last request."""
    assert running.told(b"PRI * HTTP/2.0\r\nHost: x\r\n" + CLOSE + b"\r\nSM\r\n\r\n") in ([400], [404])
    assert running.told(POST + CLOSE + length(PICTURE)) == [200]


PROMISES = {
    "less than its length": POST + CLOSE + b"Content-Length: 5000\r\n\r\nabc",
    "a chunk that never comes": POST + CLOSE + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\nabc",
}


@pytest.mark.parametrize("case", PROMISES)
def test_what_is_promised_and_never_comes(hurried, case):
    assert hurried.told(PROMISES[case]) == [504]


def sends_nothing(client):
    pass


def sends_half_a_header(client):
    client.sendall(POST[:9])


def sends_a_byte_after_an_answer(client):
    client.sendall(HEALTH)
    client.recv(1 << 16)
    client.sendall(b"G")


def reads_nothing(client):
    client.settimeout(0.05)
    while True:
        client.sendall(HEALTH * 100)


@pytest.mark.parametrize("idles", [sends_nothing, sends_half_a_header, sends_a_byte_after_an_answer, reads_nothing])
def test_who_does_nothing_does_not_keep_others_out(watchful, idles):
    """As many as may come; others are refused until these are given up."""
    with ExitStack() as kept:
        for _ in range(MOST - 1):
            client = kept.enter_context(watchful.connected())
            with suppress(OSError):
                idles(client)
        begin = time.monotonic()
        while watchful.told(POST + CLOSE + length(PICTURE)) != [200] or watchful.server.server_state.connections:
            assert time.monotonic() - begin < PATIENCE
            time.sleep(0.05)


def test_a_byte_at_a_time_is_given_up_as_well(watchful):
    """What comes does not prolong what a header may take."""
    begin = time.monotonic()
    with watchful.connected() as client, suppress(ConnectionError):
        while time.monotonic() - begin < PATIENCE:
            client.sendall(b"P")
            time.sleep(0.02)
    assert time.monotonic() - begin < PATIENCE


def test_uploads_may_have_so_many_bytes_together():
    made = Running(Serving(max_upload=3000, seconds=2.0, uploads=5000))
    try:
        with made.connected() as first, made.connected() as second:
            for client in (first, second):
                client.sendall(POST + b"Content-Length: 3000\r\n\r\n" + b"x" * 2400)
            time.sleep(0.1)
            assert made.told(POST + CLOSE + length(b"x" * 2500)) == [503]
        while len(made.server.server_state.connections):
            time.sleep(0.02)
        assert made.told(POST + CLOSE + length(b"x" * 2500)) == [422]
    finally:
        made.end()


def test_what_fails_within_is_a_counted_500_in_json(monkeypatch):
    def fails(self, samples):
        raise MemoryError("no room")

    monkeypatch.setattr(Service, "compute", fails)
    made = Running(Serving())
    try:
        with made.connected() as client:
            client.sendall(POST + CLOSE + length(PICTURE))
            answer = rest(client)
        assert answer.startswith(b"HTTP/1.1 500")
        assert b'"code":"failed"' in answer
        with made.connected() as client:
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n" + CLOSE + b"\r\n")
            assert b'xcnn_requests_total{status="500"} 1' in rest(client)
    finally:
        made.end()


def test_a_picture_of_one_pixel_and_one_as_narrow_as_can_be(running):
    for size in ((1, 1), (1, 3000), (3000, 1)):
        assert running.told(POST + CLOSE + length(picture(size=size))) in ([200], [422])
    assert np.isfinite(model().probabilities(np.zeros((1, 3, 12, 12), "float32"))).all()
