"""Training goes on with the data that it began with, and says so where they are others."""

import re

import numpy as np
import pytest

import xcnn
from xcnn.core import tree
from xcnn.data.source import FINGERPRINT_BYTES, fingerprint
from xcnn.errors import CheckpointError


@pytest.fixture
def net():
    return xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(2))


def fresh(net, **options):
    return xcnn.Model(net, (1, 4, 4), loss="cross_entropy", backend="numpy", **options)


@pytest.fixture
def data(rng):
    return rng.random((24, 1, 4, 4), np.float32), rng.integers(0, 2, 24)


def changed(data, what):
    x, y = data[0].copy(), data[1].copy()
    match what:
        case "a pixel":
            x[7, 0, 2, 1] += 0.5
        case "a label":
            y[5] = 1 - y[5]
        case "the order":
            x, y = x[::-1].copy(), y[::-1].copy()
        case "one sample more":
            x, y = np.concatenate([x, x[:1]]), np.concatenate([y, y[:1]])
        case "one sample less":
            x, y = x[:-1], y[:-1]
        case "mirrored":
            x = x[..., ::-1].copy()
        case "two samples exchanged":
            x[[3, 9]], y[[3, 9]] = x[[9, 3]], y[[9, 3]]
    return x, y


@pytest.mark.parametrize(
    "what",
    ["a pixel", "a label", "the order", "one sample more", "one sample less", "mirrored", "two samples exchanged"],
)
@pytest.mark.parametrize("reload", [False, True], ids=["at once", "from a checkpoint"])
def test_resuming_with_other_data_is_refused(net, data, tmp_path, what, reload):
    model = fresh(net)
    model.fit(*data, epochs=2, batch_size=8, progress="none")
    if reload:
        model.save(tmp_path / "m.xcnn")
        model = xcnn.Model.load(tmp_path / "m.xcnn", backend="numpy")
    other, before = changed(data, what), [leaf.copy() for leaf in tree.leaves(model.weights)]
    with pytest.raises(CheckpointError, match=r"X405.*only be resumed on the data that it began with") as error:
        model.fit(*other, epochs=4, batch_size=8, progress="none", resume=True)
    assert re.search(rf"got {len(other[0])} samples of checksum \w+, were 24 of \w+", str(error.value))
    assert "without resume=True" in str(error.value)
    for old, new in zip(before, tree.leaves(model.weights), strict=True):
        np.testing.assert_array_equal(old, new)
    model.fit(*data, epochs=3, batch_size=6, progress="none", resume=True)  # the same, in other batches
    assert model.state.epoch == 3
    model.fit(*other, epochs=1, batch_size=8, progress="none")  # others, and on purpose
    assert model.state.epoch == 4
    model.fit(*other, epochs=5, batch_size=8, progress="none", resume=True)
    assert model.state.epoch == 5


def test_an_interrupted_epoch_is_not_resumed_on_other_data(net, data):
    model = fresh(net)
    model.fit(*data, epochs=1, batch_size=8, progress="none")
    state = model.state

    class Stop:
        def start(self, *_):
            self.count = 0

        def advance(self, *_):
            self.count += 1
            if self.count == 3:
                raise KeyboardInterrupt

        def finish(self, *_):
            pass

        close = finish

    model.fit(*data, epochs=1, batch_size=8, progress=Stop())
    assert model.state.batch == 2
    assert model.state.step == state.step + 2
    with pytest.raises(CheckpointError, match=r"X405.*within an epoch"):
        model.fit(*changed(data, "a pixel"), epochs=2, batch_size=8, progress="none", resume=True)
    model.fit(*data, epochs=2, batch_size=8, progress="none", resume=True)
    assert model.state.epoch == 2


def test_checkpoints_without_a_checksum_go_on(net, data):
    """As those from before there was one."""
    model = fresh(net)
    model.fit(*data, epochs=1, batch_size=8, progress="none")
    del model.plan["data"]
    model.fit(*changed(data, "a pixel"), epochs=2, batch_size=8, progress="none", resume=True)
    assert model.state.epoch == 2


def test_the_checksum_is_of_values_not_of_memory(rng):
    x, y = rng.random((50, 3, 4, 5), np.float32), rng.integers(0, 2, 50)
    expected = fingerprint(x, y)
    assert expected == fingerprint(x.copy(), y.copy())
    assert expected == fingerprint(np.asfortranarray(x), y.repeat(2)[::2])
    assert expected == fingerprint(np.repeat(x, 2, axis=3)[..., ::2], y)
    assert expected != fingerprint(x.astype(np.float64), y)
    assert expected != fingerprint(x.reshape(50, 5, 4, 3), y)
    assert fingerprint(np.zeros(4, np.float32)) != fingerprint(np.zeros(4, np.int32))
    assert fingerprint(x[:0], y[:0]) != fingerprint(x[:1], y[:1])


def test_the_checksum_is_cheap_for_large_arrays():
    """A few MiB are read of 2 TiB, which would not fit the memory: its first and its last sample are among them."""

    class Counted:
        """Samples that are made when they are asked for."""

        shape, dtype, read = (1 << 30, 512), np.dtype(np.float32), 0

        def __init__(self, odd=None):
            self.odd = odd

        def __len__(self):
            return self.shape[0]

        def __getitem__(self, key):
            rows = np.arange(*key.indices(len(self))) if isinstance(key, slice) else key
            x = np.repeat(rows[:, None].astype(np.float32), 512, axis=1)
            x[rows == self.odd] = -1
            self.read += x.nbytes
            return x

    plain = Counted()
    expected = fingerprint(plain)
    assert plain.read <= FINGERPRINT_BYTES + 2048
    assert fingerprint(Counted()) == expected
    assert fingerprint(Counted(0)) != expected
    assert fingerprint(Counted(len(plain) - 1)) != expected
