"""The command line in hostile surroundings: streams that can't be written, files that can't be read, odd arguments.

Whatever the surroundings do, there is no traceback and no "bug in xcnn", and 0 is the exit code only where all was done
and all results were written.
"""

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer

import xcnn
from xcnn import cli
from xcnn.checking.backend import Row
from xcnn.model.model import Model

pytest.importorskip("array_api_strict", reason="the strict backend has nothing to compile, which would take long here")
PIL = pytest.importorskip("PIL.Image", reason="Pillow is a dependency")

UNWRITTEN, READER_LEFT = 74, 141
APP = typer.main.get_command(cli.app)
"""What calling `cli.app` makes anew each time, which takes longer than most commands here."""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with images of two classes and models of them."""
    folder = tmp_path_factory.mktemp("made")
    rng = np.random.default_rng(0)
    for name in "ab":
        (folder / "data" / name).mkdir(parents=True)
        for n in range(4):
            PIL.fromarray(rng.integers(0, 255, (4, 4)).astype("uint8")).save(folder / "data" / name / f"{n}.png")
    model = Model(xcnn.nets.article(2), (1, 4, 4), loss="binary_cross_entropy", backend="strict")
    model.info |= {"model": "article", "classes": ["a", "b"], "batch_size": 4, "epochs": 1}
    model.info["data"] = str(folder / "data")
    model.save(folder / "m.xcnn")
    flat = xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(2))
    Model(flat, (1, 4, 4), loss="mse", backend="strict").save(folder / "mse.xcnn")
    (folder / "empty.xcnn").touch()
    (folder / "empty.png").touch()
    (folder / "text").write_text("hello")
    return folder


@pytest.fixture(autouse=True)
def _within(made, tmp_path, monkeypatch):
    """Each test in a folder of its own; what takes long has short stand-ins."""
    shutil.copytree(made, tmp_path, copy_function=os.link, dirs_exist_ok=True)  # nobody writes into a file in place
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "app", APP)
    monkeypatch.delenv("XCNN_DATA_DIR", raising=False)
    monkeypatch.setenv("XCNN_BACKEND", "strict")
    monkeypatch.setattr(cli.backends, "probe", lambda name, timeout: {"available": False, "reason": "", "hint": ""})
    monkeypatch.setattr(cli.backends, "remedies", lambda libraries, timeout: [""] * len(libraries))
    monkeypatch.setattr("xcnn.checking.backend.check_backend", lambda chosen: map(checked, ("one", "two", "three")))


checks = []


def checked(name):
    """A row of `xcnn check`, which takes note that it was asked for."""
    checks.append(name)
    return Row(name, 1e-9, 1e-9, 1e-9, ok=name != "failing", message="")


class Broken:
    """A stream without flush, isatty or encoding, whose write raises."""

    def write(self, text):
        raise RuntimeError("the log's server is down")


@contextlib.contextmanager
def stream(kind):
    """A stream that can't be written."""
    match kind:
        case "full":
            if not Path("/dev/full").exists():
                pytest.skip("this system has no /dev/full")
            made = open("/dev/full", "w")  # noqa: SIM115
        case "left":
            reader, writer = os.pipe()
            os.close(reader)
            made = os.fdopen(writer, "w")
        case "closed":
            made = io.StringIO()
            made.close()
        case "broken":
            made = Broken()
        case "missing":
            made = None
    try:
        yield made
    finally:
        if kind in ("full", "left"):
            with contextlib.suppress(OSError):  # where it was not the command line's
                made.close()


CODES = {"full": UNWRITTEN, "left": READER_LEFT, "closed": UNWRITTEN, "broken": UNWRITTEN, "missing": 0}
TRAIN = ["train", "data", "--image-size", "4", "--epochs", "2", "-o", "t.xcnn"]
COMPARE = ["compare", "m.xcnn", "random", "--backends", "strict", "--samples", "1", "--json"]
COMMANDS = {
    "train": (TRAIN, 0),
    "train --json": ([*TRAIN, "--json"], 0),
    "train nowhere": (["train", "nowhere"], 4),
    "evaluate": (["evaluate", "m.xcnn", "data", "--min-accuracy", "0"], 0),
    "evaluate --json": (["evaluate", "m.xcnn", "data", "--json"], 0),
    "evaluate, below": (["evaluate", "m.xcnn", "data", "--min-accuracy", "1"], 1),
    "evaluate nothing": (["evaluate", "none.xcnn"], 4),
    "evaluate, no backend": (["evaluate", "m.xcnn", "--backend", "abacus"], 3),
    "predict": (["predict", "m.xcnn", "data/a/0.png", "data/a/1.png"], 0),
    "predict nothing": (["predict", "m.xcnn", "none.png"], 4),
    "summary": (["summary", "m.xcnn"], 0),
    "backends": (["backends"], 0),
    "backends --json": (["backends", "--json"], 0),
    "check": (["check"], 0),
    "check --json": (["check", "--json"], 0),
    "compare": (COMPARE, 0),
    "bench": (["bench", "--only", "neither"], 2),
    "help": (["--help"], 0),
    "help of a command": (["train", "--help"], 0),
    "version": (["--version"], 0),
    "nothing": ([], 2),
    "no command": (["trainn"], 2),
}


MEASURED = r"about [\d.,]+ \w*B|[\d.,]+ \w*B are free"
"""Memory that a summary has measured, which differs by what Python, and others on the machine, keep by then."""


@pytest.mark.parametrize("command", COMMANDS)
def test_a_lost_stderr_changes_nothing(command, run, monkeypatch):
    arguments, code = COMMANDS[command]
    expected = run(*arguments)
    assert expected[0] == code
    with stream("broken") as made, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", made)
        got, out, _ = run(*arguments)
    assert got == code
    if "train" not in command:  # which tells how long it took
        assert re.sub(MEASURED, "", out) == re.sub(MEASURED, "", expected[1])


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", ["full", "left"])
def test_a_lost_stdout_is_told_by_the_exit_code(command, kind, run, monkeypatch):
    arguments, code = COMMANDS[command]
    with stream(kind) as made, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", made)
        got, _, err = run(*arguments)
    assert got == (code or CODES[kind]), err
    assert "Traceback" not in err
    assert "bug in xcnn" not in err
    assert code or ("stdout can't be written" in err) == (kind == "full")


@pytest.mark.parametrize("kind", CODES)
def test_training_goes_on_and_is_saved_whatever_becomes_of_its_output(kind, run, monkeypatch):
    with stream(kind) as out, stream(kind) as err, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        code, _, _ = run(*TRAIN, "--json", "--progress", "plain")
    assert code == CODES[kind]
    assert Model.load("t.xcnn").state.epoch == 2


def test_what_became_of_the_results_is_told_once(run, monkeypatch):
    for arguments, told in (
        ([*TRAIN, "--json"], "the reader of stdout has gone; training goes on, and is saved as t.xcnn\n"),
        (["summary", "m.xcnn"], ""),
    ):
        with stream("left") as made, monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", made)
            assert run(*arguments) == (141, "", told)


def test_a_check_stops_when_nobody_reads_and_is_not_passed(run, monkeypatch):
    checks.clear()
    assert run("check")[0] == 0
    assert checks == ["one", "two", "three"]
    checks.clear()
    with stream("left") as made, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", made)
        assert run("check", "--json")[0] == 141
    assert checks == ["one"]


def test_a_name_that_the_terminal_can_not_spell(run, monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    name = "\u732b\udcff.png"  # a cat, and a byte that is no UTF-8
    try:
        shutil.copy("data/a/0.png", name)
    except (OSError, UnicodeError):
        pytest.skip("this file system does not take such a name")
    assert run("predict", "m.xcnn", name)[0] == 0
    assert written.getvalue().startswith(b"\\u732b\\udcff.png: ")


@pytest.mark.parametrize(
    ("redirection", "code"),
    [("--version >/dev/full", 74), ("trainn 2>/dev/full", 2), ("--version >&-", 0), ("trainn 2>&- >&- <&-", 2)],
)
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_real_streams_of_a_real_process(redirection, code):
    command = (
        f"unset PYTHONUNBUFFERED; exec {sys.executable} -m xcnn {redirection}"  # what is kept back fails at the end
    )
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    told = "OutputLost: stdout can't be written: No space left on device\n" if code == 74 else ""
    assert (done.returncode, done.stdout, done.stderr) == (code, "", told)


def test_no_file_gets_the_number_of_a_closed_stream(tmp_path):
    """Else what a library prints would stand in the checkpoint."""
    code = f"""
import os, sys
sys.path[:0] = {sys.path!r}
from xcnn.core.output import process_streams
with process_streams(), open("file", "w") as file:
    os.write(1, b"printed")
    assert file.fileno() > 2, file
"""
    (tmp_path / "numbers.py").write_text(code)
    subprocess.run(["sh", "-c", f"exec {sys.executable} -S numbers.py >&- 2>&- <&-"], check=True)
    assert (tmp_path / "file").read_text() == ""


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train", ""], 2, "the argument after 'train' is empty."),
        (["train", "--backend", ""], 2, "the argument after '--backend' is empty."),
        (["train", "--data-dir="], 2, "--data-dir= is empty."),
        (["train", "data", "-o", ""], 2, "the argument after '-o' is empty."),
        (["predict", "m.xcnn", ""], 2, "is empty."),
        (["compare", "m.xcnn", "--backends", ""], 2, "is empty."),
        (["compare", "m.xcnn", "--backends", "numpy,"], 2, "--backends has an empty name: 'numpy,'."),
        (["compare", "m.xcnn", "--backends", ","], 2, "--backends has an empty name"),
        (["compare", "m.xcnn", "random", "--data-dir", "."], 2, "--data-dir can't be given with random images."),
        (["compare", "m.xcnn", "random", "--samples", "10000000000"], 2, "--samples"),
        (["train", "mnist01", "--image-size", "20"], 2, "--image-size can't be given with mnist01."),
        (["train", "--rgb"], 2, "--rgb can't be given with mnist01."),
        (["train", "mnist", "--image-size", "20", "--rgb"], 2, "--image-size can't be given with mnist."),
        (["train", "mnist01", "--data-dir", "."], 2, "--data-dir can't be given with mnist01."),
        (["train", "data", "--data-dir", "."], 2, "--data-dir can't be given with data."),
        (["train", "data", "--resume", "m.xcnn", "--data-dir", "."], 2, "--data-dir can't be given with "),
        (["evaluate", "m.xcnn", "data", "--data-dir", "."], 2, "--data-dir can't be given with "),
        (["train", "data", "-q", "--progress", "live"], 2, "--quiet and --progress live contradict each other."),
        (["train", "data", "--progress", "some"], 2, "progress must be"),
        (["train", "data", "--learning-rate", "nan"], 2, "--learning-rate"),
        (["train", "data", "--learning-rate", "inf"], 2, "--learning-rate"),
        (["evaluate", "m.xcnn", "data", "--min-accuracy", "nan"], 2, "--min-accuracy"),
        (["backends", "--timeout", "nan"], 2, "--timeout"),
        (["backends", "--timeout", "1e300"], 2, "--timeout"),
        (["bench", "--seconds", "inf"], 2, "--seconds"),
        (["train", "--resume", "none.xcnn"], 4, "none.xcnn: No such file or directory"),
        (["train", "--resume", "."], 4, "Is a folder, not a file"),
        (["train", "data", "-o", "."], 4, "Is a folder, not a file"),
        (["train", "data", "-o", "text/m.xcnn"], 4, "No such folder"),
        (["train", "text"], 4, "text holds no samples that are known"),
        (["train", "data/a"], 4, "DataError[X209]"),
        (["train", "nowhere/at/all"], 4, "there is no data set or folder"),
        (["train", "\0"], 4, "there is no data set or folder"),
        (["evaluate", "m.xcnn", "text"], 4, "text holds no samples that are known"),
        (["evaluate", "mse.xcnn", "data"], 4, "mse.xcnn is no classifier"),
        (["evaluate", "empty.xcnn"], 4, "CheckpointError["),
        (["summary", "text"], 4, "CheckpointError["),
        (["summary", "."], 4, "Is a folder, not a file"),
        (["compare", "empty.xcnn"], 4, "CheckpointError["),
        (["predict", "empty.xcnn", "data/a/0.png"], 4, "CheckpointError["),
        (["predict", "m.xcnn", "empty.png"], 4, "DataError[X207]"),
        (["predict", "m.xcnn", "."], 4, "DataError[X207]"),
        (["predict", "m.xcnn", "a" * 300], 4, "a" * 300),
        (["predict", "m.xcnn"], 2, "no picture is given"),
        (["check", "abacus"], 3, "BackendError[X303]"),
        (["check", "--algorithm", "slow"], 2, "OptionError[X104]"),
        (["check", "strict", "numpy"], 2, "unexpected extra argument"),
    ],
)
def test_odd_arguments(arguments, code, message, run):
    before = sorted(os.listdir())
    got, _, err = run(*arguments)
    assert (got, message in err) == (code, True), err
    assert "Traceback" not in err
    assert "bug in xcnn" not in err
    assert sorted(os.listdir()) == before


def test_of_an_option_that_stands_twice_the_last_counts(run):
    assert run(*TRAIN, "--epochs", "1", "-q", "-q", "--seed", "1", "--seed", "2")[0] == 0
    assert (Model.load("t.xcnn").state.epoch, Model.load("t.xcnn").seed) == (1, 2)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read and write every file")
def test_files_without_permission(run):
    for name in ("m.xcnn", "data/a/0.png"):
        whole = Path(name).read_bytes()
        Path(name).unlink()
        Path(name).write_bytes(whole)
        Path(name).chmod(0)
    assert run("summary", "m.xcnn")[0] == 4
    assert run("train", "data")[0] == 4


@pytest.mark.parametrize("info", [None, 3, "ab", ["a"], ["a", "a"], {"a": 1}])
def test_a_model_whose_info_tells_nonsense_of_its_classes(info, run):
    model = Model.load("m.xcnn")
    model.info["classes"] = info
    model.save("odd.xcnn")
    code, out, err = run("predict", "odd.xcnn", "data/a/0.png", "--json")
    assert (code, err) == (0, "")
    assert set(json.loads(out)["probabilities"]) == {"0", "1"}
    assert run("evaluate", "odd.xcnn", "data")[0] in (0, 4)


def test_predict_goes_on_after_an_image_that_is_none(run):
    images = ["data/a/0.png", "none.png", "data/b/1.png", "empty.png", "data/b/2.png"]
    code, out, err = run("predict", "m.xcnn", *images)
    assert code == 4
    assert [line.partition(":")[0] for line in out.splitlines()] == images[::2]
    assert [line for line in err.splitlines() if "Error" in line] == [
        "DataError[X207]: none.png is not there.",
        "DataError[X207]: empty.png can't be read as an image: it has none of the formats that are allowed.",
    ]
    code, out, _ = run("predict", "m.xcnn", *images, "--json")
    assert [json.loads(line)["image"] for line in out.splitlines()] == images[::2]


def test_sigmoids_of_several_classes_are_no_distribution(run):
    model = Model.load("m.xcnn")
    one, other = 0.7, 0.6
    head = next(name for name in reversed(model.weights) if "kernel" in model.weights[name])
    weights = {**model.weights, head: {name: w * 0 for name, w in model.weights[head].items()}}
    weights[head]["bias"] = np.log([other / (1 - other), one / (1 - one)]).astype("float32")
    model.weights = weights
    model.save("m.xcnn")
    code, out, _ = run("predict", "m.xcnn", "data/a/0.png")
    told = "b (says 70.00% to b, 60.00% to a, each by itself)"
    assert (code, out) == (0, f"data/a/0.png: {told}   prepared: grey, 4x4\n")
    answer = json.loads(run("predict", "m.xcnn", "data/a/0.png", "--json")[1])
    assert answer["independent"] is True
    assert answer["probabilities"] == pytest.approx({"b": one, "a": other}, abs=1e-6)


@pytest.mark.parametrize("units", [1, 2])
def test_other_probabilities_are_a_distribution(units, run):
    loss = "cross_entropy" if units == 2 else "binary_cross_entropy_with_logits"
    model = Model(xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(units)), (1, 4, 4), loss=loss)
    model.info["classes"] = ["a", "b"]
    model.save("m.xcnn")
    answer = json.loads(run("predict", "m.xcnn", "data/a/0.png", "--json")[1])
    assert answer["independent"] is False
    assert sum(answer["probabilities"].values()) == pytest.approx(1)
    (name, p), (other, q) = answer["probabilities"].items()
    assert f": {name} ({p:.2%}; {other} {q:.2%})   prepared" in run("predict", "m.xcnn", "data/a/0.png")[1]


def test_a_data_set_is_not_a_folder_of_its_name(run, monkeypatch):
    shutil.move("data", "mnist01")
    samples = xcnn.datasets.image_folder("mnist01", size=(4, 4))
    monkeypatch.setattr("xcnn.data.mnist01", lambda: samples)
    assert run("train", "mnist01", "--epochs", "1", "-q")[0] == 0
    assert Model.load("article-mnist01.xcnn").info["data"] == "mnist01"


def test_json_with_progress(run):
    code, out, err = run(*TRAIN, "--json", "--progress", "plain")
    assert code == 0
    assert [line.split()[0] for line in err.splitlines()] == ["epoch", "1", "2"]
    assert len([json.loads(line) for line in out.splitlines()]) == 3


def test_counts_and_their_nouns(run):
    for name in "ab":
        for n in (2, 3):
            Path(f"data/{name}/{n}.png").unlink()
    code, out, err = run("train", "data", "--image-size", "4", "--epochs", "1", "-o", "t.xcnn")
    assert code == 0
    assert "; 2 training images and 2 test images\n" in err
    assert "images) after 1 epoch and " in out
    _, _, err = run("train", "data", "--resume", "t.xcnn", "--epochs", "1")
    assert "nothing to do: 1 of 1 epoch is done; " in err
    assert run("train", "data", "--resume", "t.xcnn", "--epochs", "3", "-q")[0] == 0
    _, _, err = run("train", "data", "--resume", "t.xcnn", "--epochs", "1")
    assert "nothing to do: 3 epochs are done, and 1 was asked for in all; " in err
    shutil.rmtree("data/b")
    _, _, err = run("train", "data", "--image-size", "4")
    assert "the data has 1 class and 1 test image." in err


# What others wrote.


EVIL = "a\x1b]0;owned\x07\x1b[2J\n0.99\u202e\x9b31m"
"""A title set, a screen wiped, a line forged, the direction turned."""


@pytest.fixture
def evil(made):
    """A model and a folder whose names are control characters; within the folder of the test."""
    for name in (EVIL, "b"):
        shutil.copytree("data/a", Path("evil") / name)
    Path("evil", EVIL, f"{EVIL}.png").write_bytes(Path("data/a/0.png").read_bytes())
    model = Model.load("m.xcnn", backend="strict")
    model.info |= {"classes": [EVIL, "b"], "data": str(Path("evil", EVIL)), "model": EVIL, "epochs": EVIL}
    model.save("evil.xcnn")
    model.save(f"{EVIL}.xcnn")
    bad = Path("evil", "b", f"{EVIL}.png")
    return {"image": Path("evil", EVIL, f"{EVIL}.png"), "bad": bad, "model": f"{EVIL}.xcnn"}


@pytest.mark.parametrize(
    "command",
    [
        ["predict", "{model}", "{image}"],
        ["predict", "evil.xcnn", "{bad}"],
        ["evaluate", "evil.xcnn", "evil"],
        ["evaluate", "evil.xcnn", "data"],
        ["evaluate", "{model}"],
        ["compare", "{model}", "--backends", "strict"],
        ["compare", "evil.xcnn", "evil", "--backends", "strict", "--samples", "1"],
        ["train", "evil", "--resume", "evil.xcnn"],
        ["train", "--resume", "{model}"],
        ["train", "evil", "--epochs", "1", "--image-size", "4", "-o", "{model}"],
        ["train", "{bad}"],
        ["summary", "{bad}"],
        ["summary", "{model}"],
        ["backends"],
        ["check", "{model}"],
    ],
    ids=" ".join,
)
def test_no_control_character_of_others_reaches_the_terminal(command, evil, run, monkeypatch):
    unavailable = {"available": False, "reason": EVIL, "hint": EVIL}
    monkeypatch.setattr(cli.backends, "probe", lambda name, timeout: unavailable)
    _, out, err = run(*(argument.format(**evil) for argument in command))
    assert out or err
    told = (out + err).replace("\n", "")
    assert told.isprintable(), repr(told)
    assert "\n0.99" not in out + err


@pytest.mark.parametrize("command", [["evaluate", "m.xcnn"], ["compare", "m.xcnn"], ["train", "--resume", "m.xcnn"]])
@pytest.mark.parametrize("answer", [None, "n", "y"])
def test_a_folder_that_a_file_names_is_shown_and_asked_for(command, answer, run, monkeypatch):
    read, asked = [], []
    monkeypatch.setattr("xcnn.data.folder", lambda name, *_, **__: read.append(name) or 1 / 0)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: answer is not None, raising=False)
    monkeypatch.setattr("xcnn.core.output.Notes.isatty", lambda self: answer is not None)
    monkeypatch.setattr(typer, "confirm", lambda text, err: asked.append(text) or answer == "y")
    code, _, err = run(*command)
    folder = Model.load("m.xcnn", backend="strict").info["data"]
    assert asked == ([] if answer is None else [f"the model's file names the folder {folder!r} as its data; read it?"])
    assert read == ([folder] if answer == "y" else [])
    if answer != "y":
        assert code == 4
        assert f"no data are given, and the model's file names the folder {folder!r}" in err


def test_the_limits_of_images_and_models_are_options(run):
    Path("data/a/0.png").unlink()
    PIL.fromarray(np.zeros((4, 4), "uint8")).save("data/a/0.tiff")
    image = "data/a/0.tiff"
    assert run("predict", "m.xcnn", image)[0] == 4
    assert run("predict", "m.xcnn", image, "--formats", "tiff")[0] == 0
    assert run("predict", "m.xcnn", image, "--formats", "tiff", "--max-pixels", "15")[0] == 4
    code, _, err = run(*TRAIN)
    assert (code, "left out: 1 .tiff; --formats png,jpeg,bmp,gif,tiff reads TIFF too" in err) == (0, True)
    assert run("evaluate", "m.xcnn", "data", "--formats", "png, tiff")[0] == 0
    assert run("evaluate", "m.xcnn", "data", "--formats", "png,tiff", "--max-pixels", "15")[0] == 4
    assert run(*TRAIN, "--formats", "png,tiff")[0] == 0
    assert run(*TRAIN, "--formats", "ttf")[0] == 2
    code, _, err = run("train", "mnist01", "--formats", "png")
    assert (code, "--max-pixels and --formats can't be given with mnist01" in err) == (2, True)
    code, _, err = run("summary", "m.xcnn", "--max-bytes", "100")
    assert (code, "X404" in err) == (4, True)
