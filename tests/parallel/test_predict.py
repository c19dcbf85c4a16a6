"""Predictions in shards: to the bit what one process predicts, whoever computes them and whatever is lost."""

import json
import logging
import os
import pickle
import signal
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image

import xcnn
from xcnn.errors import CheckpointError, DataError, OptionError
from xcnn.parallel.shards import written

RNG = np.random.default_rng(2)
X = RNG.standard_normal((1100, 1, 12, 12)).astype("float32")


@pytest.fixture(scope="module")
def model():
    net = xcnn.Sequential(xcnn.Conv2D(3, 3), xcnn.BatchNorm(), xcnn.ReLU(), xcnn.Flatten(), xcnn.Dense(4))
    return xcnn.Model(net, (1, 12, 12), backend="numpy", seed=5)


class Here(Executor):
    """Runs each task at once, sent as to another process; of some it loses the process, of some its word afterwards."""

    def __init__(self, loses=(), forgets=()):
        self.loses, self.forgets, self.ran = set(loses), set(forgets), []

    def submit(self, task, /):
        future = Future()
        if task.number in self.loses:
            future.set_exception(RuntimeError("the process has gone"))
        else:
            self.ran.append(task.number)
            done = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(task))()))
            if task.number in self.forgets:
                future.set_exception(TypeError("cannot unpack non-iterable Done object"))
            else:
                future.set_result(done)
        return future


def test_shards_are_the_outputs_to_the_bit(model):
    with ThreadPoolExecutor(3) as pool:
        shards = xcnn.parallel.predict(model, X, pool, shard_size=256, under_way=2)
    assert [shards.range(n) for n in (0, 4)] == [(0, 256), (1024, 1100)]
    assert not shards.failed
    np.testing.assert_array_equal(shards.outputs(), model.predict(X), strict=True)
    folder = shards.folder
    del shards
    assert not folder.exists()


def test_a_shard_whose_file_is_there_is_done_whatever_is_told_of_it(model):
    """As Dask does where a process ends that has just computed one."""
    shards = xcnn.parallel.predict(model, X, Here(loses=[1], forgets=[2, 4]), shard_size=256)
    assert [*shards.failed] == [1]
    assert all(written(shards.path(n), shards.sizes[n]) is not None for n in (0, 2, 3, 4))


def test_a_lost_process_fails_its_shards_alone_and_the_same_call_goes_on(model, tmp_path, caplog):
    first = Here(loses=[1, 3])
    with caplog.at_level(logging.WARNING, "xcnn"):
        shards = xcnn.parallel.predict(model, X, first, into=tmp_path, shard_size=256)
    assert first.ran == [0, 2, 4]
    assert [*shards.failed] == [1, 3]
    assert "shard 3, samples 768 to 1023, failed: RuntimeError: the process has gone" in caplog.text
    with pytest.raises(DataError, match="2 of 5 shards failed; samples 256 to 511: RuntimeError: the process has gone"):
        shards.outputs()
    (tmp_path / "shard-000002.npy").write_bytes(shards.path(2).read_bytes()[:-8])  # cut off by somebody
    second = Here()
    shards = xcnn.parallel.predict(model, X, second, into=tmp_path, shard_size=256)
    assert second.ran == [1, 2, 3]
    np.testing.assert_array_equal(shards.outputs(), model.predict(X), strict=True)


def test_a_shard_that_ends_its_processes_fails_alone(model, tmp_path):
    """Dask gives up all that a process had: nobody knows which of them ended it, until each has one by itself."""
    KilledWorker = type("KilledWorker", (Exception,), {})

    class Dask(Here):
        def submit(self, task, /):
            if task.number != 2 and (task.number != 3 or 3 in self.ran):
                return super().submit(task)
            self.ran.append(task.number)
            (future := Future()).set_exception(KilledWorker(repr(task)))
            return future

    shards = xcnn.parallel.predict(model, X, pool := Dask(), into=tmp_path, shard_size=256)
    assert pool.ran == [0, 1, 2, 3, 4, 2, 3]
    assert shards.failed == {2: "KilledWorker: shard 2"}


def test_a_pool_that_is_broken_fails_what_is_left_and_another_goes_on(model, tmp_path):
    """As ProcessPoolExecutor is once one of its processes was killed: it takes no more."""

    class Broken(Here):
        def submit(self, task, /):
            if task.number == 2:
                raise BrokenProcessPool("a child process terminated abruptly")
            return super().submit(task)

    shards = xcnn.parallel.predict(model, X, Broken(), into=tmp_path, shard_size=256)
    assert shards.failed == {2: "BrokenProcessPool: a child process terminated abruptly"}
    shards = xcnn.parallel.predict(model, X, again := Here(), into=tmp_path, shard_size=256)
    assert again.ran == [2]
    np.testing.assert_array_equal(shards.outputs(), model.predict(X), strict=True)


def test_a_shard_of_bad_samples_fails_alone_and_is_named(model):
    x = X.copy()

    class Poisoned:
        """What is read as it is needed: one sample of it is not finite."""

        shape, dtype, ndim = x.shape, x.dtype, x.ndim

        def __len__(self):
            return len(x)

        def __getitem__(self, rows):
            return x[rows]

    x[600] = np.nan
    shards = xcnn.parallel.predict(model, Poisoned(), Here(), shard_size=256)
    assert [*shards.failed] == [2]
    assert "DataError[X203]" in shards.failed[2]


def test_a_folder_has_the_shards_of_one_model_and_of_the_same_samples(model, tmp_path):
    xcnn.parallel.predict(model, X, Here(), into=tmp_path, shard_size=256)
    other = xcnn.Model(model.net, (1, 12, 12), backend="numpy", seed=6)
    for changed, x, size, what in ((other, X, 256, "model"), (model, X[:-1], 256, "samples"), (model, X, 512, "shard")):
        with pytest.raises(CheckpointError, match=f"has shards of another {what}"):
            xcnn.parallel.predict(changed, x, Here(), into=tmp_path, shard_size=size)
    (tmp_path / "predictions.json").write_text("[")
    with pytest.raises(CheckpointError, match="X405"):
        xcnn.parallel.predict(model, X, Here(), into=tmp_path, shard_size=256)


def test_a_folder_of_pictures_travels_without_its_pictures(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for n in range(150):
            pixels = RNG.integers(0, 256, (6, 6)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{n}.png")
    net = xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(2))
    model = xcnn.Model(net, (1, 6, 6), backend="numpy", scaling="bytes")
    photos = xcnn.data.folder(tmp_path / "photos", size=(6, 6), mode="L")
    xcnn.parallel.predict(model, photos, here := Sizes(), into=tmp_path / "out", shard_size=256)
    assert max(here.sizes) < 2 * 256 * 40  # the names of files, not their pixels
    shards = xcnn.parallel.predict(model, photos, here, into=tmp_path / "out", shard_size=256)
    np.testing.assert_array_equal(shards.outputs(), model.predict(photos), strict=True)


class Sizes(Here):
    """Notes how many bytes each task is."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def submit(self, task, /):
        self.sizes.append(len(pickle.dumps(task)))
        return super().submit(task)


class Stream:
    """Batches that come one after another."""

    def __iter__(self):
        return iter([X[:10]])


def test_what_can_not_be_given_out_is_refused(model):
    with pytest.raises(OptionError, match="client must be an executor"):
        xcnn.parallel.predict(model, X, "tcp://elsewhere")
    with pytest.raises(OptionError, match="shard_size must be a multiple of 256"):
        xcnn.parallel.predict(model, X, Here(), shard_size=300)
    with pytest.raises(OptionError, match="one after another"):
        xcnn.parallel.predict(model, Stream(), Here())


@pytest.mark.skipif(not find_spec("distributed"), reason="no distributed: pip install distributed")
@pytest.mark.filterwarnings("ignore")  # of Dask's, on ports that are taken and workers that are gone
def test_a_killed_worker_of_dask_costs_nothing_but_time(model, tmp_path):
    from distributed import Client, LocalCluster

    def slowly(shard):
        time.sleep(0.05)
        return shard()

    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster,
        Client(cluster) as c,
    ):
        victim = c.submit(os.getpid, pure=False).result()

        class Killing:
            """The client's executor, which kills a worker on the way."""

            def get_executor(self, **options):
                self.pool, self.given = c.get_executor(**options), 0
                return self

            def submit(self, task):
                self.given += 1
                if self.given == 8:
                    os.kill(victim, signal.SIGKILL)
                return self.pool.submit(slowly, task)

        shards = xcnn.parallel.predict(model, np.tile(X, (8, 1, 1, 1)), Killing(), into=tmp_path, shard_size=256)
    assert not shards.failed
    np.testing.assert_array_equal(shards.outputs(), model.predict(np.tile(X, (8, 1, 1, 1))), strict=True)
    assert json.loads((tmp_path / "predictions.json").read_text())["shard_size"] == 256


def test_a_written_shard_is_whole_or_none(tmp_path):
    assert written(tmp_path / "none.npy", 3) is None
    np.save(tmp_path / "short.npy", np.zeros((2, 4)))
    assert written(tmp_path / "short.npy", 3) is None
