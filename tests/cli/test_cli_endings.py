"""Training that is told to end: real signals to real processes, at several moments, and closed terminals."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from xcnn import cli
from xcnn.cli.ending import Ending
from xcnn.model.model import Model

pytest.importorskip("array_api_strict", reason="the strict backend has nothing to compile, which would take long here")
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork and no terminals of its own")
PIL = pytest.importorskip("PIL.Image", reason="Pillow is a dependency")

CODES = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}
SHOWN, HIDDEN = "\x1b[?25h", "\x1b[?25l"


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """Run `xcnn train` on 8 images, 4 steps an epoch, and end it at a moment: its folder, and what became of it."""
    data = tmp_path_factory.mktemp("data") / "bars"
    rng = np.random.default_rng(0)
    for name in "ab":
        (data / name).mkdir(parents=True)
        for n in range(5):
            PIL.fromarray(rng.integers(0, 255, (4, 4)).astype("uint8")).save(data / name / f"{n}.png")
    new = ["--model", "article", "--image-size", "4", "--batch-size", "2", "--epochs", "2"]
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).parents[1] / "endings.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80"},
    ) as process:

        def end(moment, *signals, options=(), terminal=False, folder=None, new=new):
            folder = folder or tmp_path_factory.mktemp("training")
            request = {"arguments": ["train", str(data), "--backend", "strict", *new, *options], "folder": str(folder)}
            request |= {"moment": moment, "signals": signals, "terminal": terminal}
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            return folder, json.loads(process.stdout.readline())

        yield end
        process.stdin.close()


def left(folder):
    """The names of all files that a training left."""
    return sorted(path.name for path in folder.iterdir() if path.name not in ("out", "err", "reached", "sent"))


def steps(path):
    return Model.load(path, backend="strict").state.step


@pytest.mark.parametrize("name", CODES)
def test_within_an_epoch_the_last_finished_step_is_saved(ended, name):
    folder, end = ended("in an epoch", name)
    assert end["code"] == CODES[name]
    assert left(folder) == ["article-bars.xcnn"]
    assert steps(folder / "article-bars.xcnn") == 5
    told = "interrupted in epoch 2 of 2; saved as article-bars.xcnn; go on with: xcnn train "
    assert re.fullmatch(told + r"/\S+/bars --resume article-bars\.xcnn\n", end["out"])
    assert "Traceback" not in end["err"]


@pytest.mark.parametrize("name", CODES)
@pytest.mark.parametrize("moment", ["loading", "first step"])
def test_before_the_first_step_nothing_is_left(ended, moment, name):
    folder, end = ended(moment, name)
    assert (end["code"], left(folder)) == (CODES[name], [])
    assert end["out"] == ("" if moment == "loading" else "interrupted before the first step; nothing was saved\n")
    assert "Traceback" not in end["err"]


def test_the_whole_of_an_ended_training_goes_on_to_the_same_weights(ended):
    folder, end = ended("in an epoch", "SIGTERM", options=["-o", "part.xcnn", "--seed", "5"])
    assert end["code"] == 143
    assert ended("none", options=["--resume", "part.xcnn"], new=[], folder=folder)[1]["code"] == 0
    assert ended("none", options=["-o", "whole.xcnn", "--seed", "5"], folder=folder)[1]["code"] == 0
    part, whole = (Model.load(folder / name, backend="numpy") for name in ("part.xcnn", "whole.xcnn"))
    np.testing.assert_array_equal(part.weights["conv1"]["kernel"], whole.weights["conv1"]["kernel"])
    assert part.history.reproducible() == whole.history.reproducible()


@pytest.mark.parametrize("name", CODES)
def test_no_signal_cuts_a_write_in_two(ended, name):
    folder, end = ended("writing", name)  # the first epoch's
    assert (end["code"], left(folder)) == (CODES[name], ["article-bars.xcnn"])
    assert steps(folder / "article-bars.xcnn") == 4


@pytest.mark.parametrize("names", [("SIGINT", "SIGINT"), ("SIGTERM", "SIGHUP", "SIGINT")])
def test_signals_that_follow_each_other_are_one_wish(ended, names):
    folder, end = ended("in an epoch", *names)
    assert (end["code"], left(folder)) == (CODES[names[0]], ["article-bars.xcnn"])
    assert steps(folder / "article-bars.xcnn") == 5


def test_a_second_signal_waits_for_the_write_that_the_first_led_to(ended):
    folder, end = ended("writing at the end", "SIGINT")
    assert (end["code"], left(folder)) == (143, ["article-bars.xcnn"])
    assert steps(folder / "article-bars.xcnn") == 2
    assert end["out"].startswith("interrupted in epoch 1 of 2; saved as ")


def test_while_the_result_is_counted_all_is_saved(ended):
    folder, end = ended("the result", "SIGTERM", options=["--json"])
    lines = [json.loads(line) for line in end["out"].splitlines()]
    assert (end["code"], steps(folder / "article-bars.xcnn")) == (143, 8)
    assert [line["schema"] for line in lines] == ["xcnn.train.epoch.1"] * 2 + ["xcnn.train.result.1"]
    assert (lines[2]["stopped"], lines[2]["test_accuracy"]) == ("interrupted", None)
    assert lines[2]["model"] == "article-bars.xcnn"


@pytest.mark.parametrize("moment", ["in an epoch", "writing", "first step"])
def test_kill_leaves_no_empty_file(ended, moment):
    folder, end = ended(moment, "SIGKILL")
    assert end["code"] == -9
    assert [path.name for path in folder.glob("*.xcnn") if not path.stat().st_size] == []


@pytest.mark.parametrize("name", CODES)
def test_the_cursor_comes_back(ended, name):
    _, end = ended("in an epoch", name, terminal=True)
    assert end["code"] == CODES[name]
    assert HIDDEN in end["screen"]
    assert end["screen"].rindex(SHOWN) > end["screen"].rindex(HIDDEN)
    assert "go on with: xcnn train /" in end["screen"]


def test_a_terminal_that_is_closed(ended):
    folder, end = ended("in an epoch", "hang up", terminal=True)
    assert (end["code"], left(folder)) == (129, ["article-bars.xcnn"])
    assert steps(folder / "article-bars.xcnn") == 5


def test_ctrl_c_ends_other_commands_with_the_same_code(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("xcnn.cli.summary.load_model", interrupted)
    monkeypatch.setattr(sys, "argv", ["xcnn", "summary", "m.xcnn"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 130


def test_handlers_go_back_and_what_is_ignored_stays_ignored(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["xcnn", "--version"])
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        ending = Ending()
        with ending.heeded():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) == ending
        assert signal.getsignal(signal.SIGTERM) != ending
        with pytest.raises(SystemExit):
            cli.main()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_held_block_is_ended_by_a_signal_only_after_it():
    ending, done = Ending(), []
    with ending.heeded():
        with pytest.raises(KeyboardInterrupt), ending.held():  # noqa: PT012 - where it is raised is what is tested
            os.kill(os.getpid(), signal.SIGTERM)
            done.append("all of it")
        assert (done, ending.code) == (["all of it"], 143)
        with ending.held():  # it was heeded, once
            pass


def test_a_signal_soon_after_another_is_the_same_wish_and_a_later_one_is_not(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("xcnn.cli.ending.time.monotonic", lambda: now[0])
    ending, ended = Ending(), []
    for number, later in ((signal.SIGTERM, 0.0), (signal.SIGHUP, 0.9), (signal.SIGINT, 0.2)):
        now[0] += later
        try:
            ending(number, None)
        except KeyboardInterrupt:
            ended.append(number)
    assert (ended, ending.code) == ([signal.SIGTERM, signal.SIGINT], 143)
