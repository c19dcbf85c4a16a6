"""Checkpoints without a path: bytes and open files, and those of weights alone."""

import io
import zipfile

import numpy as np
import pytest
from checkpoints import joined, split

from xcnn.core import tree
from xcnn.errors import CheckpointError, OptionError
from xcnn.layers import BatchNorm, Conv2D, Dense, Flatten, Sequential
from xcnn.model import checkpoint_file
from xcnn.model.model import Model
from xcnn.training.optimizers import EMA, SGD, Adam, Lookahead

X = np.random.default_rng(0).normal(size=(12, 1, 6, 6)).astype("float32")
Y = np.arange(12) % 2
QUIET = {"progress": "none"}


def trained(optimizer=None, **options):
    net = Sequential(Conv2D(4, 3), BatchNorm(), Flatten(), Dense(2))
    model = Model(net, (1, 6, 6), optimizer=optimizer or Adam(0.01), backend="numpy", **options)
    model.fit(X, Y, epochs=2, batch_size=5, **QUIET)
    return model


def bytes_of(model, **options):
    room = io.BytesIO()
    model.save(room, **options)
    return room.getvalue()


@pytest.fixture(scope="module")
def model():
    return trained()


class Dribbling(io.RawIOBase):
    """Takes and gives a few bytes at a time, and can't seek: a pipe."""

    def __init__(self, content=b""):
        self.content, self.at = bytearray(content), 0

    def readable(self):
        return True

    def writable(self):
        return True

    def readinto(self, into):
        piece = self.content[self.at : self.at + min(len(into), 700)]
        into[: len(piece)] = piece
        self.at += len(piece)
        return len(piece)

    def write(self, piece):
        self.content += piece[:700]
        return min(len(piece), 700)


def test_a_file_and_bytes_are_the_same(model, tmp_path):
    model.save(tmp_path / "m.xcnn")
    whole = bytes_of(model)
    assert whole == (tmp_path / "m.xcnn").read_bytes()
    with open(tmp_path / "open.xcnn", "wb") as file:
        model.save(file)
        assert not file.closed
    assert (tmp_path / "open.xcnn").read_bytes() == whole
    pipe = Dribbling()
    model.save(pipe)
    assert pipe.content == whole


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, io.BytesIO, Dribbling], ids=lambda kind: kind.__name__)
def test_bytes_and_open_files_are_loaded(model, kind):
    again = Model.load(kind(bytes_of(model)), backend="numpy")
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    again.step(X, Y)
    assert again.state.step == model.state.step + 1


def test_what_stands_before_and_behind_is_left(model, tmp_path):
    """An open file is read from where it stands, and a checkpoint may lie in an archive."""
    room = io.BytesIO(b"before" + bytes_of(model))
    room.seek(6)
    assert Model.load(room, backend="numpy").state.step == model.state.step
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive, archive.open("m.xcnn", "w") as member:
        model.save(member)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive, archive.open("m.xcnn") as member:
        assert Model.load(member, backend="numpy").state.step == model.state.step


def test_damage_is_told_of_bytes_as_of_files(model, tmp_path, monkeypatch):
    whole = bytes_of(model)
    altered = bytearray(whole)
    altered[-1] ^= 1
    for content, code in (
        (whole[:-9], "X401"),
        (whole + b"0", "X402"),
        (altered, "X402"),
        (b"", "X403"),
        (b"{}", "X403"),
    ):
        for given in (bytes(content), io.BytesIO(content)):
            with pytest.raises(CheckpointError, match=rf"{code}\] the checkpoint "):
                Model.load(given)
    (tmp_path / "named.xcnn").write_bytes(bytes(altered))
    with open(tmp_path / "named.xcnn", "rb") as file, pytest.raises(CheckpointError, match=r"X402\] named.xcnn was"):
        Model.load(file)
    monkeypatch.setattr(checkpoint_file, "LARGEST", 1000)
    for given in (whole, io.BytesIO(whole), Dribbling(whole)):
        with pytest.raises(CheckpointError, match="X404"):
            Model.load(given)


def test_files_of_text_and_what_is_no_file_are_told(model, tmp_path):
    with (
        open(tmp_path / "m.txt", "w", encoding="utf-8") as file,
        pytest.raises(OptionError, match=r'open for text.*\n.*"wb"'),
    ):
        model.save(file)
    (tmp_path / "m.txt").write_text("words", "utf-8")
    with (
        open(tmp_path / "m.txt", encoding="utf-8") as file,
        pytest.raises(OptionError, match=r'open for text.*\n.*"rb"'),
    ):
        Model.load(file)
    for given in (3, None, ["m.xcnn"]):
        with pytest.raises(OptionError, match="X104"):
            model.save(given)
        with pytest.raises(OptionError, match="X104"):
            Model.load(given)


def test_a_file_that_can_not_be_given_back_leaves_an_open_file_as_it_was(tmp_path):
    model, room = trained(), io.BytesIO(b"before")
    model.info["object"] = object()
    with pytest.raises(CheckpointError, match="X403"):
        model.save(room)
    assert room.getvalue() == b"before"


# Weights alone.


def test_weights_alone_take_a_third_of_adam_s_file(model):
    assert len(bytes_of(model, optimizer=False)) < len(bytes_of(model)) * 0.6
    tensors, config = checkpoint_file.read(bytes_of(model, optimizer=False))
    assert {name.partition("/")[0] for name in tensors} == {"weights"}
    assert config["weights_alone"] is True
    assert "weights_alone" not in checkpoint_file.read(bytes_of(model))[1]


@pytest.mark.parametrize(
    "optimizer", [Adam(0.01), SGD(0.1, momentum=0.9), EMA(Adam(0.01), decay=0.9), Lookahead(SGD(0.1), k=2)], ids=repr
)
def test_weights_alone_predict_the_same_and_are_trained_from_there(optimizer):
    """Of an average it is that which is kept, which predictions are made with."""
    model = trained(optimizer)
    again = Model.load(bytes_of(model, optimizer=False), backend="numpy")
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    assert again.evaluate(X, Y) == model.evaluate(X, Y)
    assert again.optimizer == optimizer
    assert again.history.rows == model.history.rows
    fresh = optimizer.init(again.weights)
    for name in optimizer.moments:
        for path, leaf in tree.items(again.state.optimizer_state[name]):
            np.testing.assert_array_equal(leaf, dict(tree.items(fresh[name]))[path])
    assert again.fit(X, Y, epochs=1, **QUIET)["epoch"] == [1, 2, 3]


def test_a_training_does_not_go_on_from_weights_alone(model):
    again = Model.load(bytes_of(model, optimizer=False), backend="numpy")
    with pytest.raises(CheckpointError, match=r"X405.*weights alone"):
        again.fit(X, Y, epochs=4, resume=True, **QUIET)
    again.fit(X, Y, **QUIET)
    assert len(again.fit(X, Y, epochs=5, resume=True, **QUIET)) == 5


def test_weights_alone_keep_what_is_made_of_bytes_and_the_loss_s_scale(tmp_path):
    model = trained(scaling="floats")
    model.info["classes"] = ["left", "right"]
    again = Model.load(bytes_of(model, optimizer=False), backend="numpy")
    assert (again.scaling, again.info) == ("floats", {"classes": ["left", "right"]})


def test_a_file_that_says_weights_alone_and_has_more_is_refused(model):
    entries, config, payload = split(bytes_of(model))
    for changed in ({"weights_alone": True}, {"weights_alone": True, "plan": {}}):
        with pytest.raises(CheckpointError, match=r"X403.*weights alone, and has more"):
            Model.load(joined(entries, {**config, **changed}, payload))
    entries, config, payload = split(bytes_of(model, optimizer=False))
    with pytest.raises(CheckpointError, match=r"X403.*state is not that of its optimizer"):
        Model.load(joined(entries, {name: value for name, value in config.items() if name != "weights_alone"}, payload))
    with pytest.raises(CheckpointError, match="X403"):
        Model.load(joined(entries, {**config, "weights_alone": 1}, payload))


def test_the_option_is_true_or_false(model):
    with pytest.raises(OptionError, match=r"X104.*optimizer"):
        model.save(io.BytesIO(), optimizer="no")
