"""Checkpoints: what was saved is what is loaded, and nothing that is damaged, hostile or half written ever is."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest
from checkpoints import joined, sealed, split, write
from half_numpy import HalfNumpy
from spent import assert_soon, started

from xcnn import layers as L
from xcnn.core import tree
from xcnn.errors import BackendError, CheckpointError, OptionError
from xcnn.layers import BatchNorm, Conv2D, Dense, Flatten, ReLU, Residual, Sequential
from xcnn.model import checkpoint_file
from xcnn.model.model import Model
from xcnn.training import losses
from xcnn.training.callbacks import Checkpoint
from xcnn.training.optimizers import SGD, Adam, AdamW
from xcnn.training.schedules import Cosine, WarmUp


def tiny(**options):
    return Model(Sequential(Dense(2)), (3,), **{"backend": "numpy", "optimizer": SGD(0.1, momentum=0.5), **options})


@pytest.fixture
def scaled(tmp_path):
    """A model in float16, six steps after its loss's scale has fallen, and where it is saved."""
    model = tiny(backend=HalfNumpy(), precision="float16")
    model.state.optimizer_state["loss_scale"] = model.backend.asarray(512.0, "float32")
    for _ in range(6):
        model.step(np.ones((2, 3), "float32"), [0, 1])
    model.save(tmp_path / "half.xcnn")
    return model, tmp_path / "half.xcnn"


@pytest.fixture
def saved(tmp_path):
    model = tiny()
    model.step(np.ones((2, 3), "float32"), [0, 1])
    model.save(tmp_path / "m.xcnn")
    return tmp_path / "m.xcnn"


def test_everything_comes_back_on_any_backend(backend, tmp_path, rng):
    net = Sequential(
        Conv2D(4, (3, 2), padding=((1, 0), (0, 1)), bias="untied", kernel_initializer="he_normal"),
        BatchNorm(),
        ReLU(),
        stage=Residual(Conv2D(4, 3, padding="same"), shortcut=Conv2D(4, 1)),
        flat=Flatten(),
        head=Dense(3),
    )
    model = Model(
        net,
        (1, 6, 5),
        loss=partial(losses.cross_entropy, label_smoothing=0.1),
        optimizer=AdamW(WarmUp(3, Cosine(0.01, 40)), weight_decay=0.1, clip_norm=1.0),
        backend="numpy",
        seed=9,
    )
    model.info["classes"] = ["a", "b", "ç"]
    x, y = rng.normal(size=(20, 1, 6, 5)).astype("float32"), rng.integers(0, 3, 20)
    model.fit(x, y, epochs=2, validation_data=(x, y), progress="none")
    model.save(tmp_path / "m.xcnn")
    loaded = Model.load(tmp_path / "m.xcnn", backend=backend)
    assert loaded.net == net
    assert loaded.optimizer == model.optimizer
    assert (loaded.seed, loaded.dtype, loaded.info, loaded.plan) == (9, "float32", model.info, model.plan)
    assert loaded.history.rows == model.history.rows
    for name, w in tree.items({"w": model.weights, **model.state.optimizer_state}):
        other = dict(tree.items({"w": loaded.weights, **loaded.state.optimizer_state}))[name]
        np.testing.assert_array_equal(w, other if isinstance(other, int) else backend.to_numpy(other))
    assert loaded.evaluate(x, y)["loss"] == pytest.approx(model.evaluate(x, y)["loss"], rel=1e-5)
    assert loaded.step(x, y) == pytest.approx(model.step(x, y), rel=1e-5)


def test_an_optimizer_that_came_later_goes_on_where_it_stood(tmp_path):
    x, y = np.ones((2, 3), "float32"), [0, 1]
    model = tiny()
    for _ in range(3):
        model.step(x, y)
    model.optimizer = Adam(WarmUp(5, 0.1))
    model.step(x, y)
    assert (model.state.step, model.state.optimizer_state["step"]) == (4, 1)
    model.save(tmp_path / "m.xcnn")
    loaded = Model.load(tmp_path / "m.xcnn", backend="numpy")
    for each in (model, loaded):
        each.step(x, y)
    np.testing.assert_array_equal(loaded.weights["dense1"]["kernel"], model.weights["dense1"]["kernel"])


def test_the_precision_and_the_scale_come_back(scaled):
    model, path = scaled
    loaded = Model.load(path, backend=HalfNumpy())
    assert loaded.precision == "float16"
    assert {
        name: (leaf.dtype, leaf.item()) for name, leaf in loaded.state.optimizer_state.items() if name.endswith("e")
    } == {"loss_scale": (np.dtype("float32"), 512.0)}
    assert (loaded.state.optimizer_state["good_steps"], loaded.state.optimizer_state["step"]) == (6, 6)
    for each in (model, loaded):
        each.step(np.ones((2, 3), "float32"), [0, 1])
    for (name, leaf), other in zip(
        tree.items(model.state.optimizer_state), tree.leaves(loaded.state.optimizer_state), strict=True
    ):
        np.testing.assert_array_equal(leaf, other, err_msg=name)
    np.testing.assert_array_equal(loaded.weights["dense1"]["kernel"], model.weights["dense1"]["kernel"])


def test_a_precision_that_is_missing_here_is_not_blamed_on_the_file(scaled):
    model, path = scaled
    with pytest.raises(OptionError, match=r'X104.*"numpy" does not compute in float16.*\n.*precision="float32"'):
        Model.load(path, backend="numpy")
    loaded = Model.load(path, backend="numpy", precision="float32")
    assert loaded.precision == "float32"
    assert set(loaded.state.optimizer_state) == {"step", "velocity"}
    x = np.ones((2, 3), "float32")
    np.testing.assert_allclose(loaded.predict(x), model.predict(x), rtol=1e-2)
    for wrong in ("half", "float64"):
        with pytest.raises(OptionError, match="X104"):
            Model.load(path, backend="numpy", precision=wrong)


def test_a_float32_model_goes_on_in_float16(saved):
    loaded = Model.load(saved, backend=HalfNumpy(), precision="float16")
    loaded.step(np.ones((2, 3), "float32"), [0, 1])
    assert (
        loaded.state.optimizer_state["loss_scale"],
        loaded.state.optimizer_state["good_steps"],
        loaded.state.step,
    ) == (2.0**16, 1, 2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_file_from_before_there_were_precisions(dtype, tmp_path):
    tiny(dtype=dtype).save(tmp_path / "old.xcnn")
    tensors, config = checkpoint_file.read(tmp_path / "old.xcnn")
    assert config.pop("precision") == dtype
    assert config.pop("scaling") == {}
    write(tmp_path / "old.xcnn", tensors, config)
    assert Model.load(tmp_path / "old.xcnn", backend="numpy").precision == dtype


@pytest.mark.parametrize(
    "scaling",
    [
        {"loss_scale": 0.5, "good_steps": 0},
        {"loss_scale": 2.0**25, "good_steps": 0},
        {"loss_scale": float("nan"), "good_steps": 0},
        {"loss_scale": 2.0, "good_steps": -1},
        {"loss_scale": 2.0, "good_steps": 2000},
        {"loss_scale": "large", "good_steps": 0},
        {"loss_scale": 2.0},
        [1],
    ],
)
def test_a_scale_that_can_not_be_is_refused(scaling, scaled):
    _, path = scaled
    tensors, config = checkpoint_file.read(path)
    with pytest.raises(CheckpointError, match="X403"):
        write(path, tensors, {**config, "scaling": scaling})
    forge(path, tensors, json.dumps({"sha256": checkpoint_file.BLANK, **config, "scaling": scaling}))
    with pytest.raises(CheckpointError, match="X403"):
        Model.load(path, backend=HalfNumpy())


def test_every_layer_can_be_written_and_read():
    from cases import CASES

    from xcnn.model.config import from_config, to_config

    for layer, *_ in CASES:
        assert from_config(json.loads(json.dumps(to_config(layer)))) == layer
    assert {type(layer).__name__ for layer, *_ in CASES} | {"Layer", "Next", "Run"} >= set(L.__all__)


def test_any_safetensors_reader_reads_the_weights(saved):
    from safetensors.numpy import load_file

    tensors = load_file(saved)
    assert set(tensors) == {
        "weights/dense1/kernel",
        "weights/dense1/bias",
        "state/velocity/dense1/kernel",
        "state/velocity/dense1/bias",
    }
    np.testing.assert_array_equal(tensors["weights/dense1/kernel"], Model.load(saved).weights["dense1"]["kernel"])


def test_the_configuration_says_what_ran(saved):
    _, config = checkpoint_file.read(saved)
    assert config["backend"] == "numpy"
    assert config["versions"]["numpy"] == np.__version__
    assert config["standing"]["step"] == 1
    assert (config["dtype"], config["precision"]) == ("float32", "float32")


def test_every_flipped_byte_is_detected(saved):
    whole = saved.read_bytes()
    for at in range(len(whole)):
        saved.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :])
        with pytest.raises(CheckpointError):
            checkpoint_file.read(saved)
    saved.write_bytes(whole)
    checkpoint_file.read(saved)


def test_every_truncation_and_addition_is_detected(saved):
    whole = saved.read_bytes()
    for length in range(len(whole)):
        saved.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"X401|X403"):
            checkpoint_file.read(saved)
    saved.write_bytes(whole + b"\0")
    with pytest.raises(CheckpointError, match="X402"):
        checkpoint_file.read(saved)
    saved.write_bytes(whole[:-5])
    with pytest.raises(CheckpointError, match=rf"X401.*its header promises {len(whole):,} bytes, the file has"):
        checkpoint_file.read(saved)


HOSTILE = {
    "import by name": lambda t, c: c["net"].update({"class": "os.system"}),
    "builtin": lambda t, c: c["net"].update({"class": "eval"}),
    "a class that is no layer": lambda t, c: c.update(net={"class": "Run", "backend": "x"}),
    "no net": lambda t, c: c.pop("net") and None,
    "net is a list": lambda t, c: c.update(net=[1, 2]),
    "options of the wrong type": lambda t, c: c["net"]["named"][0][1].update(units="many"),
    "unknown option": lambda t, c: c["net"]["named"][0][1].update(command="rm"),
    "huge layer": lambda t, c: c["net"]["named"][0][1].update(units=10**12),
    "huge input": lambda t, c: c.update(input_shape=[2**60]),
    "negative input": lambda t, c: c.update(input_shape=[-3]),
    "other shape": lambda t, c: t.update({"weights/dense1/bias": np.zeros(5, "float32")}),
    "missing weight": lambda t, c: t.pop("weights/dense1/bias") is None,
    "missing moment": lambda t, c: t.pop("state/velocity/dense1/bias") is None,
    "one tensor more": lambda t, c: t.update({"weights/dense2/bias": np.zeros(5, "float32")}),
    "path traversal": lambda t, c: t.update({"weights/../../etc/passwd": np.zeros(1, "float32")}),
    "other dtype": lambda t, c: t.update({"weights/dense1/bias": np.zeros(2, "float64")}),
    "optimizer is a layer": lambda t, c: c.update(optimizer=c["net"]),
    "loss by import": lambda t, c: c.update(loss={"name": "os.system", "options": {}}),
    "loss with odd options": lambda t, c: c.update(loss={"name": "huber", "options": {"delta": "x"}}),
    "precision of a class": lambda t, c: c.update(precision={"class": "Dense"}),
    "precision of other weights": lambda t, c: c.update(precision="float64"),
    "dtype of half": lambda t, c: c.update(dtype="float16"),
    "standing of text": lambda t, c: c.update(standing={"step": "now"}),
    "history of numbers": lambda t, c: c.update(history=[1]),
    "another format": lambda t, c: c.update(format="xcnn.checkpoint.99"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_file_with_a_right_sum_is_refused(case, saved):
    tensors, config = checkpoint_file.read(saved)
    tensors = dict(tensors)
    HOSTILE[case](tensors, config)
    forge(saved, tensors, json.dumps({"sha256": checkpoint_file.BLANK, **config}))
    refuses(saved)


@pytest.mark.parametrize("levels", [200, 3000, 100_000])
def test_a_net_nested_without_end_is_refused(levels, saved):
    tensors, config = checkpoint_file.read(saved)
    text = json.dumps({"sha256": checkpoint_file.BLANK, **config, "net": "here"})
    opening, closing = '{"class": "Sequential", "named": [["a", ', "]]}"
    forge(saved, tensors, text.replace('"here"', opening * levels + "null" + closing * levels))
    refuses(saved)


def forge(path, tensors, text):
    """Write a file with this configuration and a right sum: what an attacker would do."""
    from safetensors.numpy import save

    whole = save({name: np.ascontiguousarray(t) for name, t in tensors.items()}, {"xcnn": text})
    assert whole.count(checkpoint_file.BLANK.encode()) == 1
    path.write_bytes(sealed(whole))


def refuses(path):
    """Loading raises CheckpointError, and soon."""
    begun = started()
    with pytest.raises(CheckpointError, match=r"X40[1234]"):
        Model.load(path, backend="numpy")
    assert_soon(begun, 2)


def test_bombs_are_refused_before_they_are_read(tmp_path):
    path = tmp_path / "bomb.xcnn"
    for text, code in [
        ((2**40).to_bytes(8, "little") + b"{}", "X403"),
        (b"", "X403"),
        (b"\x50\x4b\x03\x04" * 10, "X403"),
        ((2).to_bytes(8, "little") + b"{}", "X403"),
        ((4).to_bytes(8, "little") + b"null", "X403"),
        ((200_000).to_bytes(8, "little") + b"[" * 200_000, "X403"),
        ((300_000).to_bytes(8, "little") + b"[" * 300_000, "X404"),
    ]:
        path.write_bytes(text)
        with pytest.raises(CheckpointError, match=code):
            Model.load(path)
    header = {"weights/a": {"dtype": "F32", "shape": [2**36], "data_offsets": [0, 2**38]}}
    header["__metadata__"] = {"xcnn": json.dumps({"format": checkpoint_file.FORMAT, "sha256": "0" * 64})}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(CheckpointError, match="X401"):
        Model.load(path)
    with path.open("r+b") as file:
        file.truncate(checkpoint_file.LARGEST + 1)  # a sparse file
    with pytest.raises(CheckpointError, match=r"X404.*at most"):
        Model.load(path)


def test_mutated_headers_never_give_another_error(saved, rng):
    whole = bytearray(saved.read_bytes())
    length = int.from_bytes(whole[:8], "little")
    for _ in range(1500):
        text = bytearray(whole)
        for _ in range(rng.integers(1, 6)):
            text[rng.integers(0, 8 + length)] = rng.choice(list(b'0123456789{}[]",:-eE.ntf\\u\0 \xff'))
        saved.write_bytes(text)
        try:
            checkpoint_file.read(saved)
        except CheckpointError:
            continue
        assert text == whole


def test_a_missing_file_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        Model.load(tmp_path / "none.xcnn")


@pytest.mark.parametrize("fault", ["write", "fsync", "replace", "fchmod"])
def test_a_fault_while_saving_leaves_the_old_file_whole(fault, saved, monkeypatch):
    before = saved.read_bytes()
    model = Model.load(saved, backend="numpy")
    model.step(np.ones((2, 3), "float32"), [0, 1])

    def fail(*args):
        raise OSError(28, "No space left on device")

    if fault == "write":
        monkeypatch.setattr("os.fdopen", lambda handle, mode: (os.close(handle), fail()))
    else:
        monkeypatch.setattr(f"os.{fault}", fail)
    with pytest.raises(OSError, match="No space left"):
        model.save(saved)
    monkeypatch.undo()
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]
    model.save(saved)
    assert saved.read_bytes() != before


WRITER = """
import os, sys, numpy as np, xcnn
from xcnn import Model
model = Model(xcnn.Sequential(xcnn.Dense(300)), (300,), backend="strict", optimizer="adam")  # has nothing to compile
x = np.ones((1, 300), "float32")
for line in sys.stdin:  # each asks for a process that writes
    child = os.fork()
    while not child:
        model.step(x, [0])
        model.save(sys.argv[1])
    print(child, flush=True)
    os.waitpid(child, 0)
    print("ended", flush=True)
"""


def test_a_killed_writer_leaves_a_whole_file(tmp_path):
    pytest.importorskip("array_api_strict", reason="the writer runs on the strict backend")
    path = tmp_path / "m.xcnn"
    rng = np.random.default_rng(1)
    command, pipe = [sys.executable, "-c", WRITER, str(path)], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as starter:
        for _ in range(6):
            path.unlink(missing_ok=True)
            starter.stdin.write("\n")
            starter.stdin.flush()
            writer = int(starter.stdout.readline())
            try:
                deadline = time.monotonic() + 300
                while not path.exists() and time.monotonic() < deadline:
                    time.sleep(0.01)
                time.sleep(rng.uniform(0, 0.3))
            finally:
                os.kill(writer, signal.SIGKILL)
            assert starter.stdout.readline() == "ended\n"
            assert Model.load(path, backend="numpy").state.step >= 1
        starter.stdin.close()


@pytest.mark.parametrize(
    "name", ["exec", "Popen(['sh'])", "x\x1b[2J", "import", "print", "a" * 99, 'a": b, "c', "Twice"]
)
def test_hints_call_nothing_that_a_file_names(name, tmp_path):
    """Only what may be a class of the user's own is quoted, and nothing but such a class is called."""
    path, called = tmp_path / "m.xcnn", []
    Model(Sequential(Twice(), Dense(2)), (3,), loss="mse", backend="numpy").save(path)
    entries, config, payload = split(path.read_bytes())
    config["net"]["named"][0][1]["class"] = name
    path.write_bytes(joined(entries, config, payload))
    quoted = name if name == "Twice" else "Name"
    with pytest.raises(CheckpointError) as raised:
        Model.load(path, backend="numpy")
    assert raised.value.hint.startswith(f'Model.load(path, layers={{"{quoted}": {quoted}}}), ')
    assert str(raised.value).replace("\n", "").isprintable()
    for no_layer in (lambda **options: called.append(options), dict, print):
        with pytest.raises(CheckpointError, match="xcnn does not know"):
            Model.load(path, backend="numpy", layers={name: no_layer})
    assert called == []


def test_own_layers_and_losses_are_given_by_the_user(tmp_path):
    model = Model(Sequential(Twice(), Dense(2)), (3,), loss=own_loss, backend="numpy")
    model.save(tmp_path / "own.xcnn")
    with pytest.raises(CheckpointError, match=r"X403.*'Twice', which xcnn does not know.*\n.*layers="):
        Model.load(tmp_path / "own.xcnn")
    with pytest.raises(CheckpointError, match=r"X403.*a loss of its user's own.*\n.*loss="):
        Model.load(tmp_path / "own.xcnn", layers={"Twice": Twice})
    loaded = Model.load(tmp_path / "own.xcnn", layers={"Twice": Twice}, loss=own_loss)
    assert loaded.net == model.net


def test_what_can_not_be_written_is_refused_and_no_file_is_left(tmp_path):
    class Odd:
        def init(self, rng, input_shape):
            return {}, input_shape

        def __call__(self, weights, x, run):
            return x, lambda dy: (dy, {})

    model = Model(Sequential(Odd()), (3,), loss="mse", backend="numpy")
    with pytest.raises(CheckpointError, match=r"X403.*can't be written.*\n.*frozen dataclasses"):
        model.save(tmp_path / "odd.xcnn")
    assert list(tmp_path.iterdir()) == []


def test_an_own_initializer_is_left_out(tmp_path):
    layer = Dense(2, kernel_initializer=lambda rng, shape, fan_in, fan_out: np.full(shape, 0.5))
    model = Model(Sequential(layer), (3,), backend="numpy", optimizer=Adam())
    model.save(tmp_path / "m.xcnn")
    np.testing.assert_array_equal(Model.load(tmp_path / "m.xcnn").weights["dense1"]["kernel"], np.full((3, 2), 0.5))


@dataclass(frozen=True)
class Twice:
    """y = 2 x"""

    def init(self, rng, input_shape):
        return {}, input_shape

    def __call__(self, weights, x, run):
        return 2 * x, lambda dy: (2 * dy, {})


def own_loss(y, t):
    return losses.mse(y, losses.targets(y, t))


def test_a_new_file_follows_the_umask_and_an_old_one_keeps_its_permissions(saved):
    umask = os.umask(0o027)
    try:
        tiny().save(saved.parent / "new.xcnn")
    finally:
        os.umask(umask)
    assert (saved.parent / "new.xcnn").stat().st_mode & 0o777 == 0o640
    saved.chmod(0o600)
    tiny().save(saved)
    assert saved.stat().st_mode & 0o777 == 0o600


def test_a_link_is_followed(saved):
    link = saved.parent / "latest.xcnn"
    link.symlink_to(saved)
    before = saved.read_bytes()
    tiny(seed=5).save(link)
    assert link.is_symlink()
    assert saved.read_bytes() != before


def test_where_nothing_can_be_written_it_is_said_before_training(tmp_path):
    for path, error in [(tmp_path / "none" / "m.xcnn", FileNotFoundError), (tmp_path, IsADirectoryError)]:
        with pytest.raises(error):
            Checkpoint(path)
        with pytest.raises(error):
            tiny().save(path)
    assert list(tmp_path.iterdir()) == []


def test_what_could_not_be_read_again_is_not_written(saved):
    before = saved.read_bytes()
    model = tiny()
    for info in ({"a": np.zeros(3)}, {"a": "x" * 2**24}):
        model.info = info
        with pytest.raises(CheckpointError, match=r"X40[34]"):
            model.save(saved)
    odd = Model(Sequential(OddNames()), (3,), loss="mse", backend="numpy")
    with pytest.raises(CheckpointError, match="X403"):
        odd.save(saved)
    assert saved.read_bytes() == before


def test_nets_without_weights_and_names_in_any_script(tmp_path):
    for net in (ReLU(), Sequential(), Sequential(Flatten(), größe=Dense(2))):
        model = Model(net, (3,), loss="mse", backend="numpy")
        model.save(tmp_path / "m.xcnn")
        assert Model.load(tmp_path / "m.xcnn", backend="numpy").net == net


def test_an_own_class_is_not_taken_for_one_of_the_same_name(tmp_path):
    own = type("ReLU", (Twice,), {"__module__": "mine"})
    model = Model(Sequential(dataclass(frozen=True)(own)(), Dense(2)), (3,), backend="numpy")
    model.save(tmp_path / "m.xcnn")
    with pytest.raises(CheckpointError, match=r"X403.*'ReLU', which xcnn does not know"):
        Model.load(tmp_path / "m.xcnn")
    loaded = Model.load(tmp_path / "m.xcnn", layers={"ReLU": type(model.net["relu1"])})
    x = np.ones((1, 3), "float32")
    np.testing.assert_array_equal(loaded.predict(x), model.predict(x))


def test_a_missing_backend_is_not_blamed_on_the_file(saved):
    with pytest.raises(BackendError, match="X303"):
        Model.load(saved, backend="abacus")


@dataclass(frozen=True)
class OddNames:
    """A layer whose weights have names that a checkpoint can't tell apart."""

    def init(self, rng, input_shape):
        return {"a/b": np.ones(1)}, input_shape

    def __call__(self, weights, x, run):
        return x, lambda dy: (dy, {"a/b": 0 * weights["a/b"]})


def test_an_epoch_that_is_open_goes_on_with_its_sums(tmp_path):
    """What it has seen, lost and got right so far comes back, so that its row is that of a training in one go."""
    rng = np.random.default_rng(4)
    x, t = rng.random((24, 1, 3, 3)).astype("float32"), rng.integers(0, 2, 24)
    net = Sequential(Flatten(), Dense(2))

    def made():
        return Model(net, (1, 3, 3), backend="numpy", seed=5)

    whole = made()
    whole.fit(x, t, batch_size=4, progress="none")
    cut = made()
    step, calls = cut.compiled_step, []

    def interrupted(*arguments):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(1)
        return step(*arguments)

    cut.trainer = replace(cut.trainer, step=interrupted)
    with contextlib.suppress(KeyboardInterrupt):
        cut.fit(x, t, batch_size=4, progress="none")
    assert (cut.state.epoch, cut.state.batch, cut.state.seen) == (0, 3, 12)
    assert cut.state.loss > 0
    cut.save(tmp_path / "open.xcnn")
    loaded = Model.load(tmp_path / "open.xcnn", backend="numpy")
    names = ("step", "epoch", "batch", "loss", "right", "seen")
    assert [getattr(loaded.state, name) for name in names] == [getattr(cut.state, name) for name in names]
    loaded.fit(x, t, batch_size=4, resume=True, progress="none")
    (row,), (expected,) = loaded.history.rows, whole.history.rows
    assert row["loss"] == expected["loss"]
    assert row["accuracy"] == expected["accuracy"]
