"""Progress and messages to a stderr that is missing, closed, full, left or broken, and to one that is a terminal."""

import contextlib
import fcntl
import io
import os
import pty
import select
import struct
import sys
import termios

import numpy as np
import pytest

import xcnn
from xcnn.core.output import Notes, OutputLost, Results, columns, folded, notes
from xcnn.errors import counted


def test_a_terminal_gets_lines_broken_between_words():
    line = "  hint: " + "a word " * 20 + "x" * 90 + " and/or-so: end"
    assert folded(line, io.StringIO()) == line
    reader, writer = pty.openpty()
    with open(reader, "rb"), open(writer, "w") as terminal:
        fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        assert columns(terminal) == 80
        rows = folded(f"short\n{line}", terminal).split("\n")
        fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 0, 0, 0))
        assert folded(line, terminal) == line  # a terminal that does not know how wide it is
    assert rows[0] == "short"
    assert all(row.startswith("    ") for row in rows[2:])
    assert [len(row) > 80 for row in rows] == [False, False, False, True, False]  # a word is never broken
    assert " ".join(" ".join(rows[1:]).split()) == " ".join(line.split())


class OnlyWrite:
    """What some put in stderr's place: no flush, no isatty, no encoding."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text


class Raising:
    """A stream that is a terminal and fails, with any kind of error."""

    def __init__(self, error):
        self.error, self.tries = error, 0

    def write(self, text):
        self.tries += 1
        raise self.error

    def flush(self):
        raise self.error

    def isatty(self):
        return True


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


STREAMS = {
    "missing": lambda: None,
    "closed": closed,
    "only write": OnlyWrite,
    "no reader": lambda: Raising(BrokenPipeError(32, "Broken pipe")),
    "full": lambda: Raising(OSError(28, "No space left on device")),
    "a server's": lambda: Raising(RuntimeError("the server is down")),
}


def trained(progress):
    """(weights, epochs) after training on numbers."""
    x = np.linspace(0, 1, 8 * 4, dtype="float32").reshape(8, 4)
    model = xcnn.Model(xcnn.Sequential(xcnn.Dense(2)), (4,), backend=xcnn.backend("numpy", fuse=False))
    history = model.fit(x, np.arange(8) % 2, epochs=2, batch_size=4, progress=progress)
    assert history.stopped == "finished"
    return model.weights["dense1"]["kernel"], len(history)


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("progress", ["plain", "live", "auto"])
def test_training_goes_on_whatever_stderr_is(progress, kind, monkeypatch):
    expected, _ = trained("none")
    monkeypatch.setattr(sys, "stderr", STREAMS[kind]())
    got, epochs = trained(progress)
    assert epochs == 2
    np.testing.assert_array_equal(got, expected)
    if kind == "only write" and progress != "live":
        assert [line.split()[0] for line in sys.stderr.text.splitlines()] == ["epoch", "1", "2"]


def test_a_real_pipe_whose_reader_has_gone(monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w")
    monkeypatch.setattr(sys, "stderr", stream)
    try:
        assert trained("plain")[1] == 2
    finally:
        with contextlib.suppress(BrokenPipeError):
            stream.close()


def test_after_the_first_failure_nothing_more_is_tried():
    stream = Raising(OSError(28, "No space left on device"))
    lost = Notes(stream)
    for _ in range(3):
        assert lost.write("text") == 4
        lost.flush()
    assert stream.tries == 1


def test_results_tell_the_first_failure_each_time():
    first = OSError(28, "No space left on device")
    results = Results(Raising(first))
    for call in (lambda: results.write("text"), results.flush, lambda: print(file=results)):
        with pytest.raises(OutputLost, match="stdout can't be written: No space left on device") as lost:
            call()
        assert lost.value.reason is first
        assert not lost.value.reader_left


def test_text_only():
    """What `print` would not take is a mistake of the caller's, and no failure of the stream."""
    for stream in (Results(io.StringIO()), Notes(io.StringIO())):
        with pytest.raises(TypeError):
            stream.write(b"")
        stream.write("text")
        assert stream.stream.getvalue() == "text"


@pytest.mark.parametrize("kind", [Notes, Results])
def test_what_an_encoding_does_not_have_is_escaped(kind):
    written = io.BytesIO()
    stream = kind(io.TextIOWrapper(written, encoding="latin-1"))
    stream.write("caf\xe9 \u732b \udcff")
    stream.flush()
    assert written.getvalue() == b"caf\xe9 \\u732b \\udcff"


def test_they_are_what_they_stand_for_in_all_else():
    inner = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    assert (Notes(inner).encoding, Notes(inner).isatty(), Notes(None).isatty()) == ("ascii", False, False)
    with pytest.raises(AttributeError):
        _ = Notes(None).encoding


def test_stderr_is_wrapped_once(monkeypatch):
    once = notes()
    assert once.stream is sys.stderr
    monkeypatch.setattr(sys, "stderr", once)
    assert notes() is once


def said(y, t):
    """A loss of a script that tells what it does, in the midst of an epoch."""
    print("mine")
    return xcnn.losses.mse(y, t)


def shown(terminal):
    """What a terminal was sent, which comes in parts; nothing more comes."""
    parts = []
    while select.select([terminal], [], [], 0)[0]:
        parts.append(os.read(terminal, 1 << 16))
    return b"".join(parts)


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="this system has no terminals of its own")
@pytest.mark.parametrize("stdout", ["file", "another terminal", "the same terminal"])
def test_the_bar_does_not_take_what_others_write_elsewhere(stdout, monkeypatch):
    """On its own terminal it is written above the bar; also by callbacks."""
    monkeypatch.setenv("TERM", "xterm")
    (bar, bar_end), (other, other_end) = pty.openpty(), pty.openpty()
    with os.fdopen(bar_end, "w") as terminal, os.fdopen(other_end, "w") as second, io.StringIO() as file:
        monkeypatch.setattr(sys, "stderr", terminal)
        into = {"file": file, "another terminal": second, "the same terminal": terminal}[stdout]
        monkeypatch.setattr(sys, "stdout", into)
        model = xcnn.Model(xcnn.Sequential(xcnn.Dense(2)), (4,), loss=said, backend=xcnn.backend("numpy", fuse=False))
        x = np.ones((8, 4), "float32")
        model.fit(x, x[:, :2], progress="live", callbacks=lambda *_: print("mine too"))
        assert sys.stdout is into
        into.flush()
        mine = file.getvalue().encode()
        mine += shown(other)
        screen = shown(bar)
    os.close(bar), os.close(other)
    assert b"epoch" in screen
    assert (screen if stdout == "the same terminal" else mine).count(b"mine") == 2
    assert (mine if stdout == "the same terminal" else screen).count(b"mine") == 0


def test_a_number_and_its_noun():
    told = [counted(n, "class", "classes") for n in (0, 1, 2, 12665)]
    assert told == ["0 classes", "1 class", "2 classes", "12,665 classes"]
    assert [counted(n, "image") for n in (0, 1, 2)] == ["0 images", "1 image", "2 images"]
