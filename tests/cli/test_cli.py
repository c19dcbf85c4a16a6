"""The command line: what it prints where, its JSON, its exit codes."""

import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.core import TyperCommand

import xcnn
from xcnn import cli
from xcnn.cli import helping
from xcnn.cli.data import AUGMENTATIONS, augmentations
from xcnn.core.names import HABITS
from xcnn.data import Dataset, Samples
from xcnn.errors import OptionError
from xcnn.model.model import Model
from xcnn.training.precision import PRECISIONS

PIL = pytest.importorskip("PIL.Image", reason="Pillow is a dependency")


pytestmark = pytest.mark.usefixtures("empty_folder")


@pytest.fixture(scope="module")
def kept():
    """The bytes of a checkpoint, once one was trained."""
    return []


@pytest.fixture
def checkpoint(kept, request):
    """What a training wrote, trained once for all tests that do not ask for its data, which lie elsewhere."""
    if not kept:
        kept.append(Path(request.getfixturevalue("trained")).read_bytes())
    Path("m.xcnn").write_bytes(kept[0])
    return "m.xcnn"


def test_train_on_a_folder_evaluate_and_predict(shapes, run):
    code, out, err = run("train", shapes, "--model", "lenet", "--epochs", 6, "--image-size", 28, "--backend", "numpy")
    assert code == 0
    assert out.startswith("test accuracy ")
    assert out.splitlines()[0].endswith("saved as lenet-shapes.xcnn")
    first = ["found", "read", "lenet", "epoch", *"123456", "steps"]
    assert [line.split()[0] for line in err.splitlines()] == first
    code, out, err = run("evaluate", "lenet-shapes.xcnn", shapes, "--min-accuracy", 0.9)
    assert (code, err) == (0, "")
    assert out.startswith("accuracy ")
    code, out, _ = run("predict", "lenet-shapes.xcnn", shapes / "upright" / "3.png", shapes / "lying" / "4.png")
    assert code == 0
    first, second = out.splitlines()
    assert ": upright (" in first
    assert ": lying (" in second


def test_sizes_and_colours_of_pictures_are_found_and_told(shapes, tmp_path, run):
    code, _, err = run("train", shapes, "--epochs", 1, "--backend", "numpy", "--validation", 0.3, "-o", "a.xcnn")
    assert code == 0
    assert "found 2 classes: lying 30, upright 30; pictures of 20x20, grey\nread as 28x28 (" in err
    assert Model.load("a.xcnn", backend="numpy").input_shape == (1, 28, 28)
    test = sum(int(line.split()[0]) for line in re.findall(r"(\d+ test) images", err))
    assert test == len(xcnn.data.folder(shapes, part="test", test_fraction=0.3))
    for file in (tmp_path / "shapes").glob("*/*.png"):
        PIL.open(file).convert("RGB").resize((50, 40)).save(file.with_suffix(".jpg"))
        file.unlink()
    code, _, err = run("train", shapes, "--epochs", 1, "--backend", "numpy", "-o", "b.xcnn")
    assert code == 0
    assert "; pictures of 40x50, in colour\nread as 40x40 (for the median of their shorter sides), RGB, whole\n" in err
    code, _, err = run(
        "train", shapes, "--epochs", 1, "--backend", "numpy", "-o", "c.xcnn", "--grey", "--image-size", 9
    )
    assert (code, "read as 9x9 (as asked), grey as asked, whole\n" in err) == (0, True)


def test_augmentations_and_the_share_of_tests_are_resumed(shapes, run):
    common = ("--backend", "numpy", "-q", "--workers")
    chosen = ("--model", "article", "--augment", "flip, translate", "--validation", 0.3, "--image-size", 12)
    assert run("train", shapes, *common, 0, *chosen, "--epochs", 3, "-o", "whole.xcnn")[0] == 0
    assert run("train", shapes, *common, 3, *chosen, "--epochs", 1, "-o", "part.xcnn")[0] == 0
    assert run("train", shapes, *common, 1, "--resume", "part.xcnn", "--epochs", 3)[0] == 0
    whole, part = Model.load("whole.xcnn", backend="numpy"), Model.load("part.xcnn", backend="numpy")
    np.testing.assert_array_equal(whole.weights["conv1"]["kernel"], part.weights["conv1"]["kernel"])
    assert part.plan["augment"] == ["Flip(horizontal=0.5, vertical=0.0)", "Translate(cells=4, mode='reflect')"]
    code, _, err = run("train", shapes, "--augment", "mirror")
    assert (code, "there is no augmentation 'mirror'" in err) == (2, True)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_an_augmentation_s_strength_is_a_number_behind_a_colon(name):
    usual = AUGMENTATIONS[name][0]
    (alone,), (same,), (other,) = map(augmentations, (name, f"{name}:{usual:g}", f"{name}:{min(2 * usual, 1):g}"))
    assert alone == same
    assert other != alone or usual == 1
    for strength, told in (("", "is a number; got ''"), ("many", "is a number; got 'many'"), ("-3", "-3")):
        with pytest.raises(OptionError, match=re.escape(told)):
            augmentations(f"flip,{name}:{strength}")


def test_augmentations_with_and_without_strengths():
    assert augmentations("flip, translate:2,cutout") == [
        xcnn.augment.Flip(),
        xcnn.augment.Translate(2, "reflect"),
        xcnn.augment.Cutout(8),
    ]
    assert augmentations("none") == augmentations(None) == []
    with pytest.raises(OptionError, match="cells"):
        augmentations("translate:1.5")


def test_train_as_json_tells_each_epoch_and_the_result(shapes, run):
    code, out, err = run("train", shapes, "--epochs", 2, "--json", "-o", "m.xcnn", "--seed", 3, "--backend", "numpy")
    lines = [json.loads(line) for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert [line["schema"] for line in lines] == ["xcnn.train.epoch.1"] * 2 + ["xcnn.train.result.1"]
    assert [line.get("epoch") for line in lines] == [1, 2, None]
    assert lines[2]["model"] == "m.xcnn"
    model = Model.load("m.xcnn", backend="numpy")
    assert model.seed == 3
    assert model.history["loss"] == [lines[0]["loss"], lines[1]["loss"]]


def test_resume_goes_on_exactly(shapes, run):
    common = ("train", shapes, "--backend", "numpy", "-q", "--learning-rate", 0.002, "--optimizer", "adamw")
    assert run(*common, "--epochs", 3, "-o", "whole.xcnn")[0] == 0
    assert run(*common, "--epochs", 1, "-o", "part.xcnn")[0] == 0
    assert run("train", shapes, "--resume", "part.xcnn", "--epochs", 3, "--backend", "numpy", "-q")[0] == 0
    whole, part = Model.load("whole.xcnn", backend="numpy"), Model.load("part.xcnn", backend="numpy")
    np.testing.assert_array_equal(whole.weights["conv1"]["kernel"], part.weights["conv1"]["kernel"])
    assert whole.history.reproducible() == part.history.reproducible()
    assert whole.optimizer == xcnn.AdamW(0.002)


def test_the_precision_of_training(shapes, run):
    common = ("train", shapes, "--model", "article", "--epochs", 1, "--image-size", 12, "--backend", "numpy")
    code, _, err = run(*common, "--precision", "float64", "-o", "m.xcnn")
    assert code == 0
    described = err.splitlines()[2]
    assert described.startswith("article with ")
    assert " parameters on numpy, computed in float64; " in described
    model = Model.load("m.xcnn", backend="numpy")
    assert (model.dtype, model.precision) == ("float64", "float64")
    code, _, err = run(*common, "--precision", "bfloat16")
    assert code == 2
    assert 'OptionError[X104]: backend "numpy" does not compute in bfloat16; it has float32, float64.' in err
    model = Model(model.net, model.input_shape, loss="binary_cross_entropy", backend="numpy")
    vars(model)["policy"] = PRECISIONS["bfloat16"]  # as trained on a GPU
    model.save("halves.xcnn")
    assert run("summary", "halves.xcnn")[0] == 2
    for command in (("summary", "halves.xcnn"), ("predict", "halves.xcnn", next(Path(shapes).rglob("*.png")))):
        assert run(*command, "--precision", "float32")[0] == 0
    code, _, err = run(*common, "--precision", "half")
    assert code == 2
    assert "OptionError[X104]: there is no precision 'half'." in err


def test_resuming_may_change_the_precision(trained, shapes, run):
    resume = ("train", shapes, "--resume", trained, "--epochs", 5, "-q", "--backend", "numpy")
    code, _, err = run(*resume, "--precision", "float64")
    assert code == 2
    assert 'precision="float64" goes with weights of float64; these are float32' in err
    assert run(*resume, "--precision", "float32")[0] == 0
    assert Model.load(trained, backend="numpy").state.epoch == 5


def test_a_second_training_does_not_overwrite_the_first(shapes, run):
    for expected in ("photos-shapes.xcnn", "photos-shapes-2.xcnn"):
        code, out, _ = run("train", shapes, "--epochs", 1, "--backend", "numpy", "-q")
        assert code == 0
        assert out.splitlines()[0].endswith(f"saved as {expected}")


def test_resume_without_a_word_goes_on_to_the_epochs_that_were_planned(shapes, run):
    assert run("train", shapes, "--epochs", 3, "-o", "m.xcnn", "--backend", "numpy", "-q", "--rgb")[0] == 0
    model = Model.load("m.xcnn", backend="numpy")
    model.state = replace(model.state, epoch=1)
    model.save("m.xcnn")
    code, out, _ = run("train", shapes, "--resume", "m.xcnn", "--backend", "numpy", "-q")
    assert code == 0
    assert "after 3 epochs" in out
    code, out, err = run("train", shapes, "--resume", "m.xcnn", "--backend", "numpy")
    assert code == 0
    assert "nothing to do: 3 of 3 epochs are done" in err


def test_resume_refuses_a_folder_that_has_other_images_by_now(shapes, run):
    command = ["train", shapes, "--resume", "m.xcnn", "--epochs", 3, "--backend", "numpy", "-q"]
    assert run("train", shapes, "--epochs", 1, "-o", "m.xcnn", "--backend", "numpy", "-q")[0] == 0
    trained = [n for n in range(30) if n not in held_out(shapes / "lying")]
    (shapes / "lying" / f"{trained[4]}.png").rename(shapes / "aside.png")
    code, _, err = run(*command)
    assert code == 4
    assert "CheckpointError[X405]: training can only be resumed on the data that it began with" in err
    assert Model.load("m.xcnn", backend="numpy").state.epoch == 1
    (shapes / "aside.png").rename(shapes / "lying" / f"{trained[4]}.png")
    assert run(*command)[0] == 0
    assert Model.load("m.xcnn", backend="numpy").state.epoch == 3


def held_out(folder):
    """The numbers of the images of a class that `xcnn train` tests on."""
    places = {n: hashlib.sha256(f"0/{folder.name}/{n}.png".encode()).hexdigest() for n in range(30)}
    return [n for n, place in places.items() if int(place[:16], 16) < 0.2 * 2**64]


def test_resume_refuses_what_the_checkpoint_has_fixed(trained, run):
    for option in (["--seed", 3], ["--model", "lenet"], ["--rgb"], ["--grey"], ["--image-size", 14]):
        code, _, err = run("train", "--resume", trained, *option)
        assert code == 2
        assert f"OptionError[X104]: {option[0]} can't be given with --resume." in err


def test_evaluate_counts_classes_by_their_names(trained, shapes, tmp_path, run):
    everything = json.loads(run("evaluate", trained, shapes, "--json")[1])["accuracy"]
    (tmp_path / "other" / "z").mkdir(parents=True)
    shutil.copytree(shapes / "upright", tmp_path / "only" / "upright")
    shutil.copytree(shapes / "upright", tmp_path / "other" / "upright")
    shutil.copy(shapes / "lying" / "1.png", tmp_path / "other" / "z" / "1.png")
    model = Model.load(trained, backend="numpy")
    images = xcnn.datasets.image_folder(tmp_path / "only", size=(12, 12), test_fraction=0).train.x
    upright = np.mean(model.predict(images).argmax(axis=1) == 1)
    result = json.loads(run("evaluate", trained, tmp_path / "only", "--json")[1])
    assert result["samples"] == 30
    assert result["accuracy"] == pytest.approx(upright)
    assert 0 <= everything <= 1
    code, _, err = run("evaluate", trained, tmp_path / "other")
    assert code == 4
    assert "DataError[X205]: the model does not know the class 'z'" in err


def test_one_class_or_no_test_image_is_no_data_set(shapes, tmp_path, run):
    shutil.copytree(shapes / "upright", tmp_path / "one" / "upright")
    for name in ("a", "b"):
        (tmp_path / "single" / name).mkdir(parents=True)
        shutil.copy(shapes / "upright" / "1.png", tmp_path / "single" / name)
    for folder in ("one", "single"):
        code, _, err = run("train", tmp_path / folder)
        assert code == 4
        assert "DataError[X209]" in err
    assert not list(tmp_path.glob("*.xcnn"))


def test_a_reader_that_leaves_is_told_by_the_code_alone(checkpoint, monkeypatch):
    monkeypatch.setenv("XCNN_BACKEND", "numpy")  # else CuPy would be looked for
    main = f"{sys.executable} -c 'from xcnn.cli import main; main()'"
    done = subprocess.run(
        ["bash", "-c", f"unset PYTHONUNBUFFERED; set -o pipefail; {main} summary {checkpoint} | true"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (141, "")  # 128 + SIGPIPE, as of any other program


def test_a_model_that_takes_no_images(run):
    Model(xcnn.Sequential(xcnn.Dense(2)), (4,), backend="numpy").save("dense.xcnn")
    for command in (["predict", "dense.xcnn", "a.png"], ["evaluate", "dense.xcnn", "."]):
        code, _, err = run(*command)
        assert code == 4
        assert "ShapeError[X101]" in err
    code, _, err = run("train", "--resume", "dense.xcnn")
    assert code == 4
    assert "CheckpointError[X405]: dense.xcnn was not written by `xcnn train`" in err


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        *(("batch_size", value) for value in ("32", "many", 0, -1, 2.5, None, True, [8], 2**60)),
        *(("epochs", value) for value in ("3", 1.5, -1, None)),
        *(("classes", value) for value in ("ab", 3, [1, 2], {"a": 1}, None)),
        *((name, value) for name in ("model", "data") for value in (3, None, ["article"])),
    ],
)
def test_what_a_checkpoint_says_of_its_training_is_held_to_its_kind(entry, value, run, checkpoint):
    model = Model.load(checkpoint, backend="numpy")
    model.info[entry] = value
    model.save("odd.xcnn")
    code, _, err = run("train", "--resume", "odd.xcnn")
    assert code == 4
    assert "CheckpointError[X405]: odd.xcnn was not written by `xcnn train`" in err
    assert f"info.{entry}" in err


def test_the_epoch_table_fits_a_terminal():
    row = dict.fromkeys(xcnn.training.history.COLUMNS, 1)
    assert len(xcnn.training.history.header(row)) <= 79


def test_resume_refuses_other_data(trained, run):
    code, _, err = run("train", "mnist01", "--resume", trained)
    assert code == 4
    assert "CheckpointError[X405]" in err
    assert "name the data that it was trained on" in err


def test_evaluate_fails_below_the_accuracy_that_was_asked_for(trained, shapes, run):
    code, out, _ = run("evaluate", trained, shapes, "--min-accuracy", 1.0, "--json")
    result = json.loads(out)
    assert result["passed"] is (result["accuracy"] == 1.0)
    assert code == (0 if result["passed"] else 1)
    model = Model.load(trained, backend="numpy")
    model.weights = xcnn.nets.article(2).init(np.random.default_rng(0), (1, 12, 12))[0]
    model.save("worse.xcnn")
    code, out, _ = run("evaluate", "worse.xcnn", shapes, "--min-accuracy", 0.99)
    assert code == 1
    assert "below the 99.00% that were asked for" in out


def test_evaluate_writes_a_page_of_what_a_model_gets_wrong(trained, shapes, run):
    code, out, _ = run("evaluate", trained, shapes, "--report", "page.html")
    assert code == 0
    assert "wrote page.html" in out
    page = Path("page.html").read_text()
    assert page.startswith("<!doctype html>")
    assert re.search(r"accuracy \d+\.\d\d%", page)
    assert {"lying", "upright"} <= set(re.findall(r"<th[^>]*>(\w+)</th>", page))
    code, _, err = run("evaluate", trained, shapes, "--report", "no/such/page.html")
    assert code == 4
    assert "no/such: No such folder" in err


def test_predict_as_json_says_how_the_image_was_prepared(trained, shapes, run):
    code, out, _ = run("predict", trained, shapes / "lying" / "1.png", "--json")
    answer = json.loads(out)
    assert code == 0
    assert answer["schema"] == "xcnn.predict.1"
    assert set(answer["probabilities"]) == {"lying", "upright"}
    assert answer["prepared"] == "grey, 12x12"


def test_summary(checkpoint, run):
    code, out, _ = run("summary", checkpoint)
    assert code == 0
    assert "conv1" in out
    code, out, _ = run("summary", checkpoint, "--json", "--batch-size", 8)
    assert json.loads(out)["batch_size"] == 8


def test_backends_lists_every_backend_with_its_reason(run, monkeypatch):
    code, out, _ = run("backends", "--json", "--timeout", 600)
    found = json.loads(out)
    assert code == 0
    assert {"numpy", "strict", "cupy"} <= set(found["backends"])
    assert found["backends"]["numpy"]["available"]
    assert found["backends"]["cupy"]["available"] or found["backends"]["cupy"]["reason"]
    assert found["blas"][0]["kernels"]
    monkeypatch.setattr(cli.backends, "probe", lambda name, timeout: found["backends"][name])
    code, out, _ = run("backends")
    assert code == 0
    assert "<- default" in out
    assert "BLAS" in out


def test_a_backend_that_hangs_is_reported(run, monkeypatch):
    monkeypatch.setattr(cli.backends, "PROBE", "import time; time.sleep(60)")
    code, out, _ = run("backends", "--timeout", 0.3)
    assert code == 0
    assert "not available: no answer within 0.3 s." in out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train", "nowhere"], 4, "DataError[X205]: there is no data set or folder 'nowhere'"),
        (["train", "--model", "vgg"], 2, "OptionError[X104]: there is no model 'vgg'"),
        (["train", "--epochs", "-1"], 2, "Invalid value"),
        (["train", "--backend", "abacus"], 3, 'BackendError[X303]: there is no backend "abacus"'),
        (["train", "mnist", "--data-dir", "."], 4, "DataError["),
        (["evaluate", "none.xcnn"], 4, "FileNotFoundError: none.xcnn: No such file or directory"),
        (["train", "-o", "none/m.xcnn"], 4, "FileNotFoundError: "),
        (["trainn"], 2, "No such command"),
    ],
)
def test_errors_go_to_stderr_with_their_exit_code(arguments, code, message, run):
    got, out, err = run(*arguments)
    assert got == code
    assert message in (err or out)  # help without a command is a result
    assert "Traceback" not in err
    assert len(err.splitlines()) <= 6


@pytest.mark.parametrize(
    ("arguments", "code", "meant"),
    [
        (["train", "--lr", "0.1"], 2, "--learning-rate"),
        (["train", "--learning_rate", "0.1"], 2, "--learning-rate"),
        (["train", "--batch_size", "8"], 2, "--batch-size"),
        (["train", "--batchSize", "8"], 2, "--batch-size"),
        (["train", "--num-epochs=3"], 2, "--epochs"),
        (["train", "--device", "cuda"], 2, "--backend"),
        (["train", "--arch", "lenet"], 2, "--model"),
        (["train", "-b", "8"], 2, "--batch-size"),
        (["evaluate", "m.xcnn", "--precison", "float32"], 2, "--precision"),
        (["fit"], 2, "train"),
        (["test"], 2, "evaluate"),
        (["trian"], 2, "train"),
        (["train", "--model", "LeNet5"], 2, "lenet"),
        (["train", "--model", "resnet18"], 2, "small-resnet"),
        (["train", "--model", "mnist_net"], 2, "mnist-net"),
        (["train", "--optimizer", "AdamX"], 2, "Adam"),
        (["train", "--precision", "mixed_bfloat16"], 2, "bfloat16"),
        (["train", "--precision", "fp16"], 2, "float16"),
        (["train", "--backend", "gpu"], 3, "cupy"),
        (["train", "--backend", "NumPy"], 3, "numpy"),
        (["train", "Fashion_MNIST"], 4, "fashion-mnist"),
    ],
)
def test_names_that_others_have(arguments, code, meant, run):
    got, out, err = run(*arguments)
    assert got == code
    assert not out
    assert re.search(rf"did you mean ['\"]?{re.escape(meant)}['\"]?\?", err)


def test_options_that_are_arguments_or_nothing(run):
    assert "backend is given by itself, without a name" in run("check", "--backend", "numpy")[2]
    assert "--lrr" in run("train", "--lrr", "0.1")[2]
    _, _, err = run("train", "--colour-of-the-sky", "0.1")
    assert "there are --model, --epochs" in err
    _, _, err = run("train", "--" + "a" * 100_000)
    assert len(err) < 2000


def test_habits_lead_to_options_and_commands():
    """Of train, which has all options but those of single commands."""
    group = typer.main.get_command(cli.app)
    options = {option for parameter in group.commands["train"].params for option in parameter.opts}
    assert {*HABITS["option"].values()} <= options | {"--version"}
    assert {*HABITS["command"].values()} <= {*group.commands, "--version", "--help"}


def test_a_damaged_checkpoint(checkpoint, run):
    Path("short.xcnn").write_bytes(Path(checkpoint).read_bytes()[:-10])
    code, _, err = run("evaluate", "short.xcnn")
    assert code == 4
    assert err.startswith("CheckpointError[X401]: short.xcnn is incomplete")


def test_an_image_that_is_none(checkpoint, run):
    code, _, err = run("predict", checkpoint, checkpoint)
    assert code == 4
    assert err.startswith("DataError[X207]")


def test_divergence_has_its_own_code(shapes, run):
    with np.errstate(all="ignore"):
        code, _, err = run("train", shapes, "--learning-rate", 1e38, "--optimizer", "sgd", "--model", "lenet", "-q")
    assert code == 5, err
    assert "DivergedError[X501]" in err


def test_traceback_is_shown_when_it_is_asked_for(run):
    for arguments in (["--traceback", "train", "nowhere"], ["train", "nowhere", "--traceback"]):
        code, _, err = run(*arguments)
        assert code == 4
        assert "Traceback (most recent call last)" in err


def test_a_bug_is_called_one(run, monkeypatch):
    monkeypatch.setattr("xcnn.cli.train.load_data", lambda *_: 1 / 0)
    code, _, err = run("train")
    assert code == 70
    assert "ZeroDivisionError: division by zero" in err
    assert "this is a bug in xcnn" in err


def test_no_release_of_typer_marks_help_up(monkeypatch):
    monkeypatch.setattr(TyperCommand, "get_help", lambda self, ctx: r"--epochs  Passes.  \[x>=0]")  # as before 0.21
    assert helping.Plain("train").get_help(None) == "--epochs  Passes.  [x>=0]"
    assert all(type(each) is helping.Plain for each in typer.main.get_command(cli.app).commands.values())


def test_without_a_command_it_shows_its_help(run):
    code, _, err = run()
    assert code == 2
    assert "Usage: xcnn" in err
    for command in ("train", "evaluate", "predict", "summary", "backends", "check"):
        assert command in err


def test_version(run):
    assert run("--version")[:2] == (0, f"{xcnn.__version__}\n")


def test_no_colours_off_a_terminal(shapes, run):
    _, out, err = run("train", shapes, "--epochs", 1, "--backend", "numpy")
    assert "\x1b" not in out + err
    assert "\r" not in out + err


def test_the_real_command_ends_cleanly_on_ctrl_c(shapes, tmp_path):
    # what a shell starts in the background has Ctrl-C ignored
    heeds = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    main = [sys.executable, "-c", f"{heeds}; from xcnn.cli import main; main()"]
    options = ["--epochs", "1000000", "--batch-size", "7", "-o", "m.xcnn", "--backend", "numpy"]
    process = subprocess.Popen(
        [*main, "train", str(shapes), *options],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 300
        while not (tmp_path / "m.xcnn").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert out.startswith("interrupted in epoch ")
    assert "Traceback" not in err
    model = Model.load(tmp_path / "m.xcnn", backend="numpy")
    trained_on = 60 - len(held_out(shapes / "lying")) - len(held_out(shapes / "upright"))
    batches = -(-trained_on // 7)
    assert model.state.step == model.state.batch + model.state.epoch * batches > 0
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".part"] == []


@pytest.fixture
def few(monkeypatch):
    """The data that are taken unasked, but for most of them."""
    (x, y), _ = xcnn.datasets.mnist01()
    few = Dataset(Samples(x[:60], y[:60]), Samples(x[60:70], y[60:70]), ("0", "1"))
    monkeypatch.setattr("xcnn.data.mnist01", lambda: few)


def test_a_recipe_s_rate_follows_the_steps_that_are_asked_for(run, tmp_path, few):
    """The one cycle of `fast` ends with the training, and begins and tops where Smith and Topin have it."""
    path = tmp_path / "fast.xcnn"
    code, _, _ = run("train", "--model", "fast", "--epochs", "1", "--batch-size", "5", "-q", "-o", path)
    assert code == 0
    model = xcnn.Model.load(path)
    assert model.state.step == 12
    assert model.optimizer == xcnn.Adam(xcnn.schedules.OneCycle(0.01, model.state.step))
    assert model.learning_rate < 1e-6
    recipe = xcnn.nets.RECIPES["fast"]
    assert recipe.optimizer_for(60_000, 2, 128).learning_rate.steps == 2 * 469
    assert recipe.optimizer_for(1, 1, 128).learning_rate.steps == 2  # the fewest that a cycle has
    assert xcnn.nets.RECIPES["lenet"].optimizer_for(10, 1, 1) == xcnn.Adam(1e-3)


def test_a_recipe_has_its_augmentations_and_loss_unless_one_says_otherwise(tmp_path, run, few):
    for given, kept in (((), "flip,translate:2"), (("--augment", "flip"), "flip"), (("--augment", "none"), "none")):
        path = tmp_path / f"{len(kept)}.xcnn"
        code, _, err = run("train", "--model", "fashion", "--epochs", 1, "--batch-size", 30, "-q", *given, "-o", path)
        assert (code, err) == (0, "")
        model = xcnn.Model.load(path)
        assert model.info["augment"] == kept
        assert model.loss.keywords == {"label_smoothing": 0.1}
        assert model.optimizer.learning_rate.steps == 2
