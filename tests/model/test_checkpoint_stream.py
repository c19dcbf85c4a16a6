"""Checkpoints are written and read in pieces: nothing of a file's size is made, and what is saved is what is summed."""

import errno
import hashlib
import threading
import tracemalloc

import numpy as np
import pytest
from checkpoints import joined, sealed, split, sum_of

import xcnn
from xcnn import Adam, Dense, Model, Sequential
from xcnn.core import tree
from xcnn.errors import CheckpointError
from xcnn.model import checkpoint_file


def large(**options):
    """A model whose file has 27 MiB: more than is summed without a thread, and several pieces a tensor."""
    model = Model(Sequential(Dense(1024), Dense(1024), Dense(7)), (1024,), optimizer=Adam(), **options)
    model.step(np.ones((2, 1024), "float32"), np.asarray([0, 6]))
    return model


def leaves(model):
    state = {"weights": model.state.weights, **model.state.optimizer_state}
    return {path: leaf for path, leaf in tree.items(state) if not isinstance(leaf, int)}


def test_nothing_of_the_files_size_is_made(tmp_path):
    model, path = large(backend="numpy"), tmp_path / "m.xcnn"
    small = Model(Sequential(Dense(2)), (3,), optimizer=Adam(), backend="numpy")
    small.save(path)
    Model.load(path, backend="numpy")  # imports
    tracemalloc.start()
    try:
        model.save(path)
        saving = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        loaded = Model.load(path, backend="numpy")
        loading = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    size = path.stat().st_size
    assert size > checkpoint_file.FREE
    assert saving < checkpoint_file.ROOMS * checkpoint_file.PIECE + 2**20, saving
    assert loading < size + 2**20, loading / size
    for name, leaf in leaves(model).items():
        assert np.array_equal(leaf, leaves(loaded)[name]), name
    again = tmp_path / "again.xcnn"
    loaded.save(again)
    assert again.read_bytes() == path.read_bytes()


def test_the_sum_is_that_of_all_bytes(tmp_path):
    """Its own digits as zeros; and other programs read the tensors."""
    from safetensors.numpy import load_file

    model, path = large(backend="numpy"), tmp_path / "m.xcnn"
    model.info["digits"] = checkpoint_file.BLANK  # only the first zeros are those of the sum
    model.save(path)
    whole = path.read_bytes()
    _, config, _ = split(whole)
    digest = config["sha256"].encode()
    assert sum_of(whole.replace(digest, checkpoint_file.BLANK.encode(), 1)) == digest
    assert int.from_bytes(whole[:8], "little") % 8 == 0  # tensors lie at multiples of 8 bytes
    tensors = load_file(path)
    assert {name.removeprefix("state/") for name in tensors} == set(leaves(model))
    for name, tensor in tensors.items():
        assert np.array_equal(tensor, leaves(model)[name.removeprefix("state/")])
    assert Model.load(path, backend="numpy").info == {"digits": checkpoint_file.BLANK}


@pytest.mark.parametrize("size", ["small", "large"])
def test_the_first_versions_files_are_read(size, tmp_path):
    """Their sum is the SHA-256 of the whole file."""
    small = Model(Sequential(Dense(2)), (3,), backend="numpy")
    model, path = small if size == "small" else large(backend="numpy"), tmp_path / "m.xcnn"
    model.save(path)
    entries, config, payload = split(path.read_bytes())
    blank = joined(entries, {**config, "format": "xcnn.checkpoint.1", "sha256": checkpoint_file.BLANK}, payload, False)
    assert (len(blank) > checkpoint_file.FREE) == (size == "large")
    first = sealed(blank, lambda whole: hashlib.sha256(whole).hexdigest().encode())
    path.write_bytes(first)
    for name, leaf in leaves(Model.load(path, backend="numpy")).items():
        assert np.array_equal(leaf, leaves(model)[name]), name
    for at in (-1, -len(payload), -len(payload) // 2):
        altered = bytearray(first)
        altered[at] ^= 1
        path.write_bytes(altered)
        with pytest.raises(CheckpointError, match="X402"):
            Model.load(path, backend="numpy")
    path.write_bytes(sealed(blank))  # the sum of the other version
    with pytest.raises(CheckpointError, match="X402"):
        Model.load(path, backend="numpy")


def test_other_memory_layouts_and_sizes(tmp_path):
    """Tensors without cells, of one, at the edges of a piece, not contiguous, and read-only."""
    cells = checkpoint_file.PIECE // 4
    tensors = {
        f"weights/{n}": array
        for n, array in enumerate(
            [
                np.zeros((0, 3), "float32"),
                np.asarray(2.5, "float32"),
                *(np.arange(count, dtype="float32") for count in (1, cells - 1, cells, cells + 1, 2 * cells)),
                np.arange(24, dtype="float32").reshape(2, 3, 4).transpose(2, 0, 1),
                np.broadcast_to(np.float32(3), (5, 2)),
                np.arange(10, dtype="float64")[::-2],
            ]
        )
    }
    path = tmp_path / "m.xcnn"
    checkpoint_file.put(path, tensors, checkpoint_file.written({"format": checkpoint_file.FORMAT}))
    from safetensors.numpy import load_file

    read = load_file(path)
    for name, tensor in tensors.items():
        assert read[name].shape == tensor.shape
        assert read[name].dtype == tensor.dtype
        assert np.array_equal(read[name], tensor), name


def test_what_is_changed_meanwhile_is_summed_as_it_is_written(tmp_path):
    """Somebody who writes into the weights while they are saved gets a mixture, but a whole file."""
    model, path = large(backend="numpy"), tmp_path / "m.xcnn"
    kernel, over = model.state.weights["dense1"]["kernel"], threading.Event()

    def write():
        while not over.is_set():
            kernel[...] += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(3):
            model.save(path)
            Model.load(path, backend="numpy")
    finally:
        over.set()
        writer.join()


def test_tensors_go_to_the_backend_one_by_one(backend, tmp_path, monkeypatch):
    """On every backend each is brought to the host, or sent from it, once; none is drawn or begun to be replaced."""
    path = tmp_path / "m.xcnn"
    net = Sequential(Dense(4), xcnn.BatchNorm(), Dense(2))
    model = Model(net, (3,), optimizer=Adam(), backend=backend)
    model.step(np.ones((2, 3), "float32"), np.asarray([0, 1]))
    fetched, sent, kind = [], [], type(backend)
    to_numpy, adopted = kind.to_numpy, kind.adopted
    monkeypatch.setattr(kind, "to_numpy", lambda self, x: [fetched.append(tuple(x.shape)), to_numpy(self, x)][1])
    monkeypatch.setattr(kind, "adopted", lambda self, x: [sent.append(x.shape), adopted(self, x)][1])
    model.save(path)
    shapes = [tuple(leaf.shape) for leaf in leaves(model).values()]
    assert sorted(fetched) == sorted(shapes)
    monkeypatch.setattr(xcnn.training.optimizers.Optimizer, "init", lambda self, weights: {"step": 0})
    sent.clear()
    loaded = Model.load(path, backend=backend)
    assert sorted(sent) == sorted(shapes)
    monkeypatch.undo()
    assert loaded.optimizer == model.optimizer
    for name, leaf in leaves(model).items():
        assert np.array_equal(backend.to_numpy(leaf), backend.to_numpy(leaves(loaded)[name])), name


def test_jax_takes_over_what_is_read(tmp_path):
    pytest.importorskip("jax")
    path = tmp_path / "m.xcnn"
    large(backend="numpy").save(path)
    read, aligned = [], checkpoint_file.aligned
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint_file, "aligned", lambda *how: read.append(aligned(*how)) or read[-1])
        model = Model.load(path, backend="jax")
    there = {leaf.unsafe_buffer_pointer() for leaf in leaves(model).values()}
    assert {array.__array_interface__["data"][0] for array in read if array.nbytes > 2**16} <= there


def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "m.xcnn"
    large(backend="numpy").save(path)
    check = checkpoint_file.check_config

    def cut(*args):
        check(*args)
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size // 2)

    monkeypatch.setattr(checkpoint_file, "check_config", cut)
    with pytest.raises(CheckpointError, match="X402"):
        Model.load(path, backend="numpy")


def test_a_model_is_saved_and_read_while_the_interpreter_ends(tmp_path, monkeypatch):
    """Then no thread can be started any more."""

    def refuse(*args):
        raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    model, path = large(backend="numpy"), tmp_path / "m.xcnn"
    monkeypatch.setattr(checkpoint_file.ThreadPoolExecutor, "submit", refuse)
    model.save(path)
    kernel = Model.load(path, backend="numpy").weights["dense2"]["kernel"]
    assert np.array_equal(kernel, model.weights["dense2"]["kernel"])


def test_an_error_of_a_tensor_leaves_the_old_file(tmp_path):
    path = tmp_path / "m.xcnn"
    path.write_bytes(b"old")
    tensors = {"weights/a": np.zeros(5_000_000, "float32"), "weights/b": np.zeros(3, "float32")}
    text = checkpoint_file.written({"format": checkpoint_file.FORMAT})

    def fetch(tensor):
        if len(tensor) == 3:
            raise MemoryError("the device is gone")
        return tensor

    before = threading.active_count()
    with pytest.raises(MemoryError, match="the device is gone"):
        checkpoint_file.put(path, tensors, text, fetch)
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["m.xcnn"]
    assert threading.active_count() == before


@pytest.mark.parametrize("when", ["first", "last"])
def test_what_the_disk_refuses_meanwhile_is_told(when, tmp_path, monkeypatch):
    """A system may tell an error once, and not again when the whole file is brought to the disk."""
    path, told = tmp_path / "m.xcnn", []
    path.write_bytes(b"old")
    monkeypatch.setattr(checkpoint_file, "SYNCED", 2**20 if when == "first" else 2**24)

    def refuse(handle):
        if not told:
            told.append(handle)
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(checkpoint_file, "sync", refuse)
    with pytest.raises(OSError, match="Input/output error"):
        large(backend="numpy").save(path)
    assert told
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["m.xcnn"]
