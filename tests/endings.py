"""Real processes that run the command line and are sent real signals, forked from one that has imported it.

A request, a line of JSON on stdin, is {"arguments", "folder", "moment", "signals", "terminal"}: the child runs in the
folder and waits at the moment, a name in MOMENTS; there it gets the signals, one after the other, or its terminal is
closed ("hang up"), and goes on once all are sent. Without signals it runs to its end. The answer is {"code", "out",
"err", "screen"}.
"""

import contextlib
import importlib
import json
import os
import pty
import signal
import sys
import tempfile
import time
from pathlib import Path

import xcnn.cli
from xcnn.cli import ending, train
from xcnn.core import files
from xcnn.model.model import Model
from xcnn.training.trainer import Trainer

MARK, SENT = Path("reached"), Path("sent")
PATIENCE = 300.0
ending.SAME = PATIENCE  # on a busy machine a second may pass between two signals of one service


def wait():
    """Stand still at the moment, once, until all signals were sent."""
    if not MARK.exists():
        MARK.touch()
        deadline = time.monotonic() + PATIENCE
        while not SENT.exists() and time.monotonic() < deadline:
            time.sleep(0.005)


def before(owner, name, condition=lambda *_, **__: True):
    """Wait before a function runs."""
    function = getattr(owner, name)

    def waiting(*arguments, **options):
        if condition(*arguments, **options):
            wait()
        return function(*arguments, **options)

    setattr(owner, name, waiting)


class SlowDisk:
    """The module os, whose fsync of a file takes a while."""

    def __getattr__(self, name):
        return getattr(os, name)

    def fsync(self, handle):
        wait()
        os.fsync(handle)


def slow_write():
    files.os = SlowDisk()


def slow_write_at_the_end():
    """The write that an interrupt led to is slow: the first signal is the process's own."""
    function = Trainer.after_step

    def step(trainer, state, *arguments):
        if state.step == 2:
            slow_write()
            os.kill(os.getpid(), signal.SIGTERM)
        return function(trainer, state, *arguments)

    Trainer.after_step = step


MOMENTS = {
    "none": lambda: None,
    "loading": lambda: before(train, "load_data"),
    "first step": lambda: before(Trainer, "after_step"),
    "in an epoch": lambda: before(Trainer, "after_step", lambda trainer, state, *_: state.step == 5),
    "writing": slow_write,
    "writing at the end": slow_write_at_the_end,
    "the result": lambda: before(Model, "evaluate"),
}


def child(arguments, moment):
    """Run the command; the exit code."""
    sys.argv = ["xcnn", *arguments]
    MOMENTS[moment]()
    try:
        xcnn.cli.main()
    except SystemExit as end:
        return end.code or 0
    except BaseException as error:
        print("ESCAPED", repr(error), file=sys.stderr, flush=True)
        return 99
    return 98


def warm_up(arguments):
    """Train once here, so that all is imported which children need."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(None), contextlib.redirect_stderr(None):
        os.chdir(folder)
        child(arguments, "none")
        importlib.import_module("rich.progress")


def answer(arguments, folder, moment, signals, terminal):
    """What became of it."""
    os.chdir(folder)
    for mark in (MARK, SENT):
        mark.unlink(missing_ok=True)
    number, master = pty.fork() if terminal else (os.fork(), None)
    if number == 0:
        code = 97
        try:
            for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # whoever runs the tests may ignore some
                signal.signal(signum, signal.default_int_handler if signum == signal.SIGINT else signal.SIG_DFL)
            if not terminal:
                for handle, name in ((1, "out"), (2, "err")):
                    os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), handle)
            code = child(arguments, moment)
            sys.stdout.flush()
        finally:
            os._exit(code)
    deadline = time.monotonic() + PATIENCE
    while signals and not MARK.exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    screen = b""
    for name in signals:
        time.sleep(0.03)
        if name == "hang up":
            os.close(master)
            master = None
        else:
            os.kill(number, getattr(signal, name))
    SENT.touch()
    while (done := os.waitpid(number, os.WNOHANG))[0] == 0:
        time.sleep(0.005)
        if time.monotonic() > deadline:
            os.kill(number, signal.SIGKILL)
    while master is not None:
        try:
            screen += (got := os.read(master, 1 << 16))
        except OSError:  # all is read
            got = b""
        if not got:
            os.close(master)
            master = None
    texts = {name: Path(name).read_text() if Path(name).exists() else "" for name in ("out", "err")}
    return {"code": os.waitstatus_to_exitcode(done[1]), "screen": screen.decode(), **texts}


if __name__ == "__main__":
    for number, line in enumerate(sys.stdin):
        request = json.loads(line)
        if not number:
            warm_up(request["arguments"])
        print(json.dumps(answer(**request)), flush=True)
