"""Checkpoints with a true sum and hostile values: each is loaded, and can be used, or refused as what it is, soon."""

import copy
import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from checkpoints import HEAD, joined, split
from draws import draws
from spent import assert_soon, started

from xcnn import layers as L
from xcnn.core import tree
from xcnn.errors import CheckpointError, XcnnError
from xcnn.model import checkpoint_file
from xcnn.model.model import Model
from xcnn.training import losses
from xcnn.training.callbacks import best_epoch
from xcnn.training.optimizers import SGD, AdamW, RMSprop
from xcnn.training.schedules import Constant, Cosine, Exponential, OneCycle, Step, WarmUp


def model_of(which):
    """Models with many kinds of entries."""
    head = (L.GlobalAveragePool2D(), L.Dropout(0.3), L.Dense(2))
    nets = [
        (L.Conv2D(2, (3, 2), padding=((1, 0), (0, 1)), bias="untied"), L.BatchNorm(), L.GELU(), L.Flatten(), head[2]),
        (L.Residual(L.Conv2D(1, 3, padding="same"), L.ELU(0.5)), L.MaxPool2D(2, padding=1), L.LayerNorm(), *head),
        (L.Concatenate(L.Conv2D(2, 1), up=L.Sequential(L.ZeroPadding2D(0), L.SiLU())), L.GroupNorm(3), *head),
        (L.DepthwiseConv2D(3, padding="same"), L.LeakyReLU(0.1), L.UpSampling2D(2, "bilinear"), *head),
        (L.Conv2DTranspose(2, 2, stride=2), L.Softplus(), L.Reshape((2, -1)), L.Conv1D(2, 3), L.Flatten(), L.Dense(2)),
    ]  # fmt: skip
    optimizers = [
        SGD(WarmUp(2, Cosine(0.01, 40)), momentum=0.9, nesterov=True, clip_norm=1.0),
        AdamW(OneCycle(0.01, 40), weight_decay=0.1),
        RMSprop(Exponential(0.01, 10), momentum=0.5),
        SGD(Step(0.1, every=5)),
        AdamW(Constant(0.01)),
    ]
    chosen = [
        partial(losses.cross_entropy, label_smoothing=0.1),
        "binary_cross_entropy_with_logits",
        partial(losses.huber, delta=2.0),
        "mse",
        "cross_entropy",
    ]
    model = Model(
        L.Sequential(*nets[which]), (1, 6, 5), loss=chosen[which], optimizer=optimizers[which], backend="numpy"
    )
    classes = model.output_shape[0]
    x = np.random.default_rng(which).normal(size=(6, 1, 6, 5)).astype("float32")
    y = np.eye(classes, dtype="float32")[np.arange(6) % classes]
    if which < 4:
        model.fit(x, y, epochs=2, batch_size=4, validation_data=(x, y), progress="none", callbacks=[mark])
    else:
        model.fit(x, y, epochs=2, batch_size=2, progress="none", callbacks=[mark, stop_within])
    model.info |= {"classes": ["a", "ç"], "epochs": 3, "nested": {"of": [1, 2.5, None, True]}}
    return model, x, y


def mark(model, history):
    history.rows[-1]["note"] = ["a row of a user's own", 1]


def stop_within(model, history):
    """Leave the next epoch after a batch, as an interrupt would."""
    if len(history) == 1:
        rest = model.state.batch
        model.trainer = replace(model.trainer, step=Interrupting(model.compiled_step, rest + 2))


class Interrupting:
    """A compiled step that is interrupted before its n-th call."""

    def __init__(self, step, n):
        self.step, self.left = step, n

    def __call__(self, *args):
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt
        return self.step(*args)


VALUES = (
    None, True, False, 0, 1, -1, 2, 3, 7, 2**31, 2**53 + 1, 2**63, 2**64, 10**400, -(10**400), 10**4000, 0.0, -0.0, 0.5,
    1e-320, 1e-46, 1e38, 1e39, 1e300, -1e300, float("inf"), float("-inf"), float("nan"), "", "x", "0.1", "no", "same",
    "untied", "os.system", "\ud800", "\x00", "a/b", "x" * 5000, [], {}, [[]], [1], [0, 0], [3, "x"], [9] * 20,
    [[1, 1], [2, 2]], {"class": "ReLU"}, {"class": "Dense", "units": 2}, {"class": "SGD"}, {"class": "Run"}, {"a": 1},
    {"class": "Cosine", "rate": 1, "steps": 3}, {"class": "Sequential", "named": []}, {"class": ["ReLU"]},
    {"class": "Sequential", "named": [["a", {"class": "ReLU"}], ["a", {"class": "ReLU"}]]}, [["a", {"class": "Tanh"}]],
)  # fmt: skip


def places(value, at=()):
    """Where anything stands in a configuration."""
    yield at
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(item, (*at, key))


def mutated(rng, root):
    """The same with one to three changes: a value replaced, taken out, doubled, moved, wrapped or put in."""
    root = copy.deepcopy(root)
    for _ in range(rng.integers(1, 4)):
        everywhere = list(places(root))[1:]
        if not everywhere:
            break
        *path, key = everywhere[rng.integers(len(everywhere))]
        holder = root
        for step in path:
            holder = holder[step]
        value = VALUES[rng.integers(len(VALUES))]
        match rng.integers(0, 12):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, list):
                holder.insert(key, copy.deepcopy(holder[key]))
            case 2 if isinstance(holder, dict):
                holder["x" if rng.integers(2) else "class"] = value
            case 3:
                holder[key] = [holder[key]]
            case 4:
                holder[key] = {"class": "Sequential", "named": [["a", holder[key]]]}
            case 5:
                other = root
                for step in everywhere[rng.integers(len(everywhere))]:
                    other = other[step]
                holder[key] = copy.deepcopy(other)
            case 6 if isinstance(holder[key], int | float):
                holder[key] = holder[key] * [-1, 2, 1000, 0.5, 1e30][rng.integers(5)]
            case _:
                holder[key] = copy.deepcopy(value)
    return root


def outcome(path, x, y):
    """Whether it is loaded; then all that a user does with it is done, and raises nothing but what is documented."""
    begun, model, refused = started(), None, None
    try:
        model = Model.load(path, backend="numpy")
    except CheckpointError as error:
        refused = error
    assert_soon(begun, 1)
    if refused is not None:
        assert refused.code in ("X401", "X402", "X403", "X404")
        assert len(str(refused)) < 2000
    if model is not None:
        str(model.history), repr(model), model.history._repr_html_(), json.loads(model.history.to_json())
        if model.history.rows and "loss" in model.history.rows[-1]:
            best_epoch(model.history, "loss")
        with np.errstate(all="ignore"):
            for use in (lambda: model.predict(x), lambda: model.step(x, y)):
                with suppress(XcnnError):  # such as X101, where it takes other shapes
                    use()
        model.save(path)
        Model.load(path, backend="numpy")
    return model is not None


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """Files, each with what its model can be asked."""
    folder, found = tmp_path_factory.mktemp("originals"), []
    for which in range(5):
        model, x, y = model_of(which)
        model.save(folder / f"{which}.xcnn")
        found.append(((folder / f"{which}.xcnn").read_bytes(), x, y))
    return found


@pytest.mark.parametrize("true_sum", [True, False], ids=["true sum", "false sum"])
def test_mutated_values_are_loaded_or_refused(true_sum, originals, tmp_path):
    path, loaded, many = tmp_path / "m.xcnn", 0, draws(60)
    for seed in range(many):
        rng = np.random.default_rng([seed, true_sum])
        whole, x, y = originals[rng.integers(len(originals))]
        entries, config, payload = split(whole)
        if rng.integers(8):
            config = mutated(rng, config)
        else:
            entries = mutated(rng, entries)
        path.write_bytes(joined(entries, config, payload, true_sum))
        try:
            loaded += outcome(path, x, y)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {config} {entries}") from error
    assert loaded <= many if true_sum else not loaded


def test_the_originals_load(originals, tmp_path):
    path = tmp_path / "m.xcnn"
    for whole, x, y in originals:
        path.write_bytes(joined(*split(whole)))
        assert outcome(path, x, y)
    _, config, _ = split(originals[4][0])
    assert (config["standing"]["batch"], config["standing"]["seen"]) == (1, 2)  # within an epoch


def nested(levels):
    """A net of containers within each other."""
    return '{"class": "Sequential", "named": [["a", ' * levels + '{"class": "ReLU"}' + "]]}" * levels


def named(count, layer):
    return {"class": "Sequential", "named": [[f"a{n}", layer] for n in range(count)]}


def tensors(count, shape, size):
    """The entries of so many tensors one after another."""
    made = ((f"weights/a{n}/b", {"dtype": "F32", "shape": shape, "data_offsets": [n * size, n * size + size]})
            for n in range(count))  # fmt: skip
    return dict(made)


ROW = {
    "epoch": 1,
    "loss": 0.1,
    "accuracy": 0.5,
    "val_loss": 0.1,
    "val_accuracy": 0.5,
    "learning_rate": 0.1,
    "seconds": 1,
}
NET = {"class": "Sequential", "named": [["a", {"class": "Dense", "units": 2}]]}
AT = {"step": 1, "epoch": 0, "batch": 0, "loss": 0.0, "right": 0, "seen": 0}
BOMBS = {  # what is put into the configuration, and with what it is refused
    "900 deep": ({"net": "@900"}, "X404"),
    "65 deep": ({"net": "@65"}, "X404"),
    "info 200 deep": ({"info": json.loads('{"a": ' + "[" * 200 + "]" * 200 + "}")}, "X404"),
    "200,000 layers": ({"net": named(200_000, {"class": "ReLU"})}, "X404"),
    "50,000 layers": ({"net": named(50_000, {"class": "ReLU"})}, "X404"),
    "millions of lists": ({"info": {"a": [[]] * 3_000_000}}, "X404"),
    "lists": ({"info": {"a": [[[]]] * 85_000}, "net": 1}, "X403"),
    "mappings": ({"info": {"a": [{"a": 7, "b": 8}] * 80_000}, "net": 1}, "X403"),
    "texts": ({"info": {"a": [f"ü{n}" for n in range(260_000)]}, "net": 1}, "X403"),
    "one text": ({"info": {"a": "x" * 15_000_000}, "net": 1}, "X403"),
    "a long class": ({"net": {"class": "x" * 15_000_000}}, "X403"),
    "a long history": ({"history": [ROW] * 30_000 + [{**ROW, "loss": "low"}]}, "X403"),
    "a longer one": ({"history": [ROW] * 60_000}, "X404"),
    "a huge loss": ({"history": [{**ROW, "loss": 10**400}]}, "X403"),
    "a huge rate": ({"optimizer": {"class": "SGD", "learning_rate": 10**400}}, "X403"),
    "a wide layer": ({"net": {"class": "Dense", "units": 2**50}}, "X403"),
    "ones": ({"net": {"class": "Dense", "units": 2**33, "kernel_initializer": "ones"}}, "X403"),
    "orthogonal": ({"net": {"class": "Dense", "units": 2**15, "kernel_initializer": "orthogonal"}}, "X403"),
    "many channels": ({"net": {"class": "BatchNorm"}, "input_shape": [2**33]}, "X403"),
    "an untied bias": ({"net": {"class": "Conv2D", "filters": 9, "kernel_size": 1, "bias": "untied"},
                        "input_shape": [1, 2**20, 2**20]}, "X403"),
    "many axes": ({"input_shape": [2**40] * 32}, "X403"),
    "more axes": ({"input_shape": [1] * 100}, "X403"),
    "digits": ({"updates": 10**4200}, "X403"),
    "infinite steps": ({"optimizer": {"class": "SGD", "learning_rate": {"class": "Cosine", "rate": 0.1,
                                                                       "steps": float("inf")}}}, "X403"),
    "a loss's odd option": ({"loss": {"name": "mse", "options": {"delta": 1.0}}}, "X403"),
    "an infinite delta": ({"loss": {"name": "huber", "options": {"delta": float("inf")}}}, "X403"),
    "smoothing beyond 1": ({"loss": {"name": "cross_entropy", "options": {"label_smoothing": 2}}}, "X403"),
    "seen before it came": ({"standing": {**AT, "seen": 9}}, "X403"),
    "right without seeing": ({"standing": {**AT, "right": 9}}, "X403"),
    "more batches than samples": ({"standing": {"step": 9, "epoch": 0, "batch": 9, "loss": 1.0, "right": 1, "seen": 6},
                                   "plan": {"samples": 6, "batch_size": 4, "shuffle": True}}, "X403"),
    "batches of no plan": ({"standing": {"step": 9, "epoch": 0, "batch": 9, "loss": 1.0, "right": 1, "seen": 6},
                            "plan": {}}, "X403"),
}  # fmt: skip
READER = """
import sys, time
from xcnn import Model
from xcnn.datasets import load_idx
from xcnn.errors import XcnnError
def memory(what):
    "In KiB; the peak is counted anew from when it was last asked for."
    found = next(line for line in open("/proc/self/status") if line.startswith(what))
    open("/proc/self/clear_refs", "w").write("5")
    return int(found.split()[1])
Model.load(sys.argv[1], backend="numpy")
for path in sys.argv[1:]:
    before, begun = memory("VmRSS"), time.process_time()
    try:
        load_idx(path) if path.endswith(".idx") else Model.load(path, backend="numpy")
        code = "loaded"
    except XcnnError as error:
        code = error.code
    print(code, time.process_time() - begun, (memory("VmHWM") - before) // 1024, flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a process's peak of memory is read from Linux's /proc")
def test_bombs_are_refused_soon_and_take_no_memory(originals, tmp_path):
    model = Model(L.Sequential(L.Dense(2)), (3,), optimizer=SGD(0.1), backend="numpy")
    model.save(tmp_path / "good.xcnn")
    entries, config, payload = split((tmp_path / "good.xcnn").read_bytes())
    expected = {"good.xcnn": "loaded"}
    for n, (change, code) in enumerate(BOMBS.values()):
        text = json.dumps({**config, **HEAD, **change}, ensure_ascii=n % 2 == 0)
        for levels in (900, 65):
            text = text.replace(f'"@{levels}"', nested(levels))
        (tmp_path / f"{n}.xcnn").write_bytes(joined(entries, text, payload))
        expected[f"{n}.xcnn"] = code
    (tmp_path / "many.xcnn").write_bytes(joined(tensors(40_000, [0], 0), config, b""))
    (tmp_path / "fewer.xcnn").write_bytes(joined(tensors(19_000, [0], 0), config, b""))
    os.mkfifo(tmp_path / "fifo.xcnn")
    os.mkfifo(tmp_path / "fifo.idx")
    (tmp_path / "device.xcnn").symlink_to("/dev/zero")
    expected |= {
        "many.xcnn": "X404",
        "fewer.xcnn": "X403",
        "fifo.xcnn": "X403",
        "fifo.idx": "X204",
        "device.xcnn": "X403",
    }
    with (tmp_path / "holes.xcnn").open("wb") as file:
        file.write(joined(tensors(1, [2**29], 2**31), config, b"", true_sum=False))
        file.truncate(file.tell() + 2**31)
    with (tmp_path / "holes.idx").open("wb") as file:
        file.write(b"\0\0\x08\x01" + (3 * 2**30).to_bytes(4, "big"))
        file.truncate(8 + 3 * 2**30)
    if (tmp_path / "holes.xcnn").stat().st_blocks < 2**20:  # else this file system has no holes
        expected |= {"holes.xcnn": "X404", "holes.idx": "X204"}
    paths = [str(tmp_path / name) for name in expected]
    told = subprocess.run([sys.executable, "-c", READER, *paths], capture_output=True, text=True, check=False)
    lines = [line.split() for line in told.stdout.splitlines()]
    cases = ["good", *BOMBS, *list(expected)[1 + len(BOMBS) :]]
    got = {case: line[0] for case, line in zip(cases, lines, strict=True)}
    assert got == dict(zip(cases, expected.values(), strict=True)), told.stderr
    assert [(case, line) for case, line in zip(cases, lines, strict=True) if float(line[1]) > 1] == []
    assert [(case, line) for case, line in zip(cases, lines, strict=True) if int(line[2]) > 64] == []


def test_a_large_file_that_was_altered_is_told_as_such(tmp_path):
    """Its configuration is checked first, its tensors are believed only with a right sum."""
    model = Model(L.Sequential(L.Dense(5000)), (1000,), loss="mse", optimizer=SGD(0.1), backend="numpy")
    path = tmp_path / "large.xcnn"
    model.save(path)
    whole = path.read_bytes()
    assert len(whole) > checkpoint_file.FREE
    loaded = Model.load(path, backend="numpy")
    np.testing.assert_array_equal(loaded.weights["dense1"]["kernel"], model.weights["dense1"]["kernel"])
    for at in (len(whole) // 2, len(whole) - 1, whole.index(b"sha256") + 20):
        altered = bytearray(whole)
        altered[at] = ord("0") if altered[at] != ord("0") else ord("1")
        path.write_bytes(altered)
        with pytest.raises(CheckpointError, match="X402"):
            Model.load(path, backend="numpy")


@pytest.mark.parametrize("initializer", ["orthogonal", "glorot_uniform"])
def test_weights_are_not_drawn_to_be_replaced(initializer, tmp_path, monkeypatch):
    layer = L.Dense(4, kernel_initializer=initializer)
    net = L.Sequential(layer, L.Residual(L.Dense(4), shortcut=L.Dense(4)), L.Dense(2))
    model = Model(net, (4,), optimizer=AdamW(), backend="numpy", seed=3)
    model.step(np.ones((2, 4), "float32"), [0, 1])
    model.save(tmp_path / "m.xcnn")
    monkeypatch.setattr("xcnn.core.random.Typed", lambda *how: object())  # nothing can be drawn of it
    loaded = Model.load(tmp_path / "m.xcnn", backend="numpy")
    for one, other in ((model.weights, loaded.weights), (model.state.optimizer_state, loaded.state.optimizer_state)):
        assert [name for name, _ in tree.items(one)] == [
            name for name, _ in tree.items(other)
        ]  # norms sum in this order
        for old, new in zip(tree.leaves(one), tree.leaves(other), strict=True):
            np.testing.assert_array_equal(old, new)
    assert loaded.net == net
