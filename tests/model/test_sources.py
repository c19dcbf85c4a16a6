"""What lies on disk, is read as it is needed or comes by and by trains to the same bits as arrays in memory."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest

import xcnn
from xcnn.core import tree
from xcnn.errors import CheckpointError, DataError, DTypeError, LabelError, OptionError, ShapeError

RNG = np.random.default_rng(3)
BYTES = RNG.integers(0, 256, (26, 1, 6, 6), np.uint8)
X = BYTES.astype(np.float32) / np.float32(255)
Y = RNG.integers(0, 3, 26)
NAMES = np.array(["eel", "ant", "cat"])[Y]
NUMBERS = np.array([2, 0, 1])[Y]
"""Of those names, sorted."""


def made(backend="numpy", outputs=3, **options):
    net = xcnn.Sequential(xcnn.Conv2D(2, 3), xcnn.ReLU(), xcnn.Flatten(), xcnn.Dropout(0.2), xcnn.Dense(outputs))
    return xcnn.Model(net, (1, 6, 6), backend=backend, **options)


def trained(*data, backend="numpy", **options):
    model = made(backend)
    model.fit(*data, **{"epochs": 2, "batch_size": 8, "progress": "none", "augment": xcnn.augment.Flip()} | options)
    return model


def bits(model):
    return [leaf.tobytes() for leaf in map(model.backend.to_numpy, tree.leaves(model.weights))]


class Sized:
    """A data set that reads a sample at a time, as PyTorch's do."""

    def __init__(self, samples):
        self.samples, self.within, self.most = samples, 0, 0

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, n):
        assert type(n) is int
        self.within += 1
        self.most = max(self.most, self.within)
        sample = self.samples[n]
        self.within -= 1
        return sample


class Unsized:
    """An array on disk, as zarr has them: slices and single numbers, no lists, and no length."""

    chunks = None

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def __getitem__(self, place):
        assert isinstance(place, int | slice)
        return self.array[place]

    def __array__(self, *args, **options):
        raise AssertionError("it was read as a whole")


class Rows(Unsized):
    """The same with a length, as h5py has them."""

    def __len__(self):
        return len(self.array)


def mapped(array, tmp_path):
    file = np.memmap(tmp_path / "x", array.dtype, "w+", shape=array.shape)
    file[:] = array
    return file


SOURCES = {
    "memory map": lambda path: (mapped(X, path), Y),
    "rows on disk": lambda path: (Rows(X), Y),
    "bytes without a length": lambda path: (Unsized(BYTES), Y),
    "pairs": lambda path: (Sized([*zip(X, Y, strict=True)]),),
    "dicts": lambda path: (Sized([{"image": x, "label": y} for x, y in zip(X, Y, strict=True)]),),
    "samples, y beside": lambda path: (Sized(X), Y),
    "a source": lambda path: (xcnn.data.source(Rows(X), Y),),
    "bytes": lambda path: (BYTES, Y),
    "bytes on disk": lambda path: (mapped(BYTES, path), Y),
    "channels last": lambda path: (xcnn.data.source(Rows(X.transpose(0, 2, 3, 1)), Y, channels_last=True),),
    "names": lambda path: (Rows(X), NAMES),
}


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("workers", [0, 1, 4])
def test_each_trains_to_the_bits_of_arrays(name, workers, tmp_path):
    whole = trained(X, NUMBERS if name == "names" else Y)
    data = SOURCES[name](tmp_path)
    model = trained(*data, workers=workers)
    assert bits(model) == bits(whole)
    assert model.history.reproducible() == whole.history.reproducible()
    assert all(seconds >= 0 for seconds in model.history["stall"])
    titles, *_, waited = str(model.history).splitlines()
    assert ("stall" in titles, len(titles) < 80, "steps waited" in waited) == (False, True, True)
    x = data[0]
    assert model.predict(x, batch_size=7).tobytes() == whole.predict(X, batch_size=7).tobytes()
    assert model.evaluate(*data, batch_size=5) == whole.evaluate(X, NUMBERS if name == "names" else Y, batch_size=5)


@pytest.mark.parametrize("name", ["memory map", "pairs", "bytes"])
def test_so_it_is_on_every_backend(name, backend, tmp_path):
    whole = trained(X, Y, backend=backend, epochs=1)
    assert bits(trained(*SOURCES[name](tmp_path), backend=backend, epochs=1)) == bits(whole)


def test_arrays_without_augmentation_are_cut_as_ever():
    model = trained(X, Y, augment=())
    assert "stall" not in model.history
    assert bits(model) == bits(trained(Rows(X), Y, augment=()))


def test_data_sets_of_others_are_read_by_one_thread_at_a_time():
    data = Sized([*zip(X, Y, strict=True)])
    trained(data, workers=4)
    assert data.most == 1


def test_a_split_of_a_source_has_no_sample_in_both():
    train, held = xcnn.data.split(xcnn.data.source(Rows(X), Y), share=0.3, seed=4)
    assert sorted([*train.chosen, *held.chosen]) == list(range(26))
    one = trained(Rows(X), Y, validation_split=0.3)
    other = trained(X, Y, validation_split=0.3)
    assert bits(one) == bits(other)
    assert one.history.reproducible() == other.history.reproducible()


class Anew:
    """Batches that begin anew each epoch."""

    def __init__(self, x=X):
        self.x, self.begun = x, 0

    def __iter__(self):
        self.begun += 1
        return ((self.x[first : first + 8], Y[first : first + 8]) for first in range(0, 26, 8))


def test_batches_train_as_arrays_in_their_order_do():
    whole = trained(X, Y, shuffle=False)
    assert bits(trained(Anew())) == bits(whole)
    once = ((X[first : first + 8], Y[first : first + 8]) for _ in range(2) for first in range(0, 26, 8))
    assert bits(trained(once, steps_per_epoch=4, augment=(), workers=4)) == bits(
        trained(X, Y, shuffle=False, augment=())
    )


LEFT = {
    **SOURCES,
    "batches": lambda path: (Anew(),),
    "a part": lambda path: (xcnn.data.source(Rows(X), Y).part(np.arange(26)[::-1]),),
    "arrays": lambda path: (X, Y),
}


@pytest.mark.parametrize("after", [1, 5])
@pytest.mark.parametrize("name", LEFT)
def test_a_training_that_was_left_in_an_epoch_goes_on_to_the_same_bits(name, after, tmp_path):
    data = LEFT[name](tmp_path)
    whole, left = trained(*data), made()
    steps = []

    class Stop(xcnn.training.progress.Silent):
        def advance(self, images, loss):
            steps.append(images)
            if left.state.step == after:
                raise KeyboardInterrupt

    options = {"batch_size": 8, "augment": xcnn.augment.Flip()}
    assert left.fit(*data, epochs=2, progress=Stop(), **options).stopped == "interrupted"
    assert left.state.batch == after % 4
    left.save(tmp_path / "m.xcnn")
    model = xcnn.Model.load(tmp_path / "m.xcnn", backend="numpy")
    model.fit(*data, epochs=2, progress="none", resume=True, workers=4, **options)
    assert bits(model) == bits(whole)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("xcnn-ahead")]


def test_a_generator_can_not_be_resumed_in_an_epoch():
    model = made()
    stop = SimpleNamespace(seen=0)

    def advance(images, loss):
        stop.seen += images
        if stop.seen == 8:
            raise KeyboardInterrupt

    silent = xcnn.training.progress.Silent()
    silent.advance = advance
    model.fit(iter(Anew()), steps_per_epoch=4, progress=silent)
    with pytest.raises(DataError, match=r"X203.*resumed within an epoch"):
        model.fit(iter(Anew()), steps_per_epoch=4, progress="none", resume=True)


def test_resuming_on_other_rows_is_refused():
    model = trained(Rows(X), Y)
    with pytest.raises(CheckpointError, match=r"X405"):
        model.fit(Rows(X[::-1]), Y[::-1], epochs=3, batch_size=8, progress="none", resume=True)


def wrong(cells, place, value):
    changed = cells.copy()
    changed[place] = value
    return changed


TURNED = np.moveaxis(BYTES, 1, -1)
GREY = BYTES[:, 0]


@pytest.mark.parametrize(
    "data",
    [
        lambda: xcnn.data.source(Sized([*zip(TURNED, Y, strict=True)]), channels_last=True),
        lambda: xcnn.data.source(Sized([*zip(GREY, Y, strict=True)]), channels_last=True),
        lambda: xcnn.data.source(Rows(TURNED), Y, channels_last=True),
        lambda: xcnn.data.source(Rows(GREY), Y, channels_last=True),
    ],
    ids=["turned pairs", "grey pairs", "turned rows", "grey rows"],
)
def test_channels_come_last_or_have_no_axis(data):
    assert bits(trained(data())) == bits(trained(BYTES, Y))


def test_batches_may_have_no_targets_where_none_are_wanted():
    model = trained(X, Y)

    class Bare:
        def __iter__(self):
            return iter([X[:8], X[8:9], X[9:]])

    for given in (Bare(), Anew()):
        np.testing.assert_allclose(model.predict(given), model.predict(X), rtol=1e-5, atol=1e-6)
    with pytest.raises(DataError, match=r"X203.*no pair"):
        model.fit(Bare(), progress="none")


class NAType:
    """What pandas has in the place of a missing text: it can't be compared."""

    def __ne__(self, other):
        return self

    def __bool__(self):
        raise TypeError("boolean value of NA is ambiguous")

    __hash__ = None


REFUSED = {
    "channels that come last": ((Rows(TURNED), Y), ShapeError, r"X101(.|\n)*channels_last=True"),
    "grey images": ((Rows(GREY), Y), ShapeError, r"X101(.|\n)*channels_last=True"),
    "samples instead of batches": ((iter(zip(X, Y, strict=True)),), DataError, r"X203(.|\n)*DataLoader"),
    "a NaN": ((Rows(wrong(X, (17, 0, 2, 2), np.nan)), Y), DataError, r"X203.*NaN or infinity in sample 17 \("),
    "a label that is no whole number": ((X, Y + 0.5), LabelError, r"X201(.|\n)*whole numbers"),
    "a list of pairs": ((list(zip(X, Y, strict=True)),), OptionError, r"X104(.|\n)*data.source"),
    "a label": ((Rows(X), wrong(Y, 9, 3)), LabelError, r"X201.*found 3 of sample 9 "),
    "one of another shape": ((Sized([*X[:5], X[5, :, 1:], *X[6:]]), Y), DataError, r"X203.*sample 5 has x of shape"),
    "all of another shape": ((Rows(X[:, :, 1:]), Y), ShapeError, r"X101.*\n.*\(26|8, 1, 5, 6\)"),
    "whole numbers": ((Rows(BYTES.astype("int16")), Y), DTypeError, "X103.*x is int16"),
    "fewer labels": ((Rows(X), Y[1:]), DataError, "X203.*26 samples, y 25"),
    "a mask": ((Rows(np.ma.array(X, mask=X > 2)), Y), DataError, "X203.*mask"),
    "no pairs": ((Sized(X),), DataError, "X203.*is no pair"),
    "strange dicts": ((Sized([{"a": 1, "b": 2}] * 3),), DataError, "X203.*'a', 'b'"),
    "a generator without an end": ((iter(Anew()),), OptionError, r"X104(.|\n)*steps_per_epoch"),
    "a word": (("photos",), OptionError, "X104"),
    "a missing name": ((Rows(X), np.array([None, *NAMES[1:]], object)), LabelError, "X201.*index 0 is missing"),
    "a missing name of pandas": ((Rows(X), np.array([NAType(), *NAMES[1:]], object)), LabelError, "X201.*is missing"),
    "numbers among objects": ((X, Y.astype(object)), LabelError, r"X201(.|\n)*y.astype\(\"int64\"\)"),
    "labels from 1 on": ((X, Y + 1), LabelError, r"X201(.|\n)*y - 1; or let the last layer have 4 outputs"),
    "more names than outputs": ((X, np.array([*"abcd"] * 6 + ["a"] * 2)), LabelError, "X201.*4 classes.*3 outputs"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_told_with_the_sample_s_number(name):
    data, error, message = REFUSED[name]
    model, steps = made(), {"steps_per_epoch": 2} if name == "samples instead of batches" else {}
    with pytest.raises(error, match=message):
        model.fit(*data, batch_size=8, shuffle=False, progress="none", **steps)
    assert model.scaling is None or model.state.step
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("xcnn-ahead")]


def test_an_error_of_the_data_set_is_raised_with_a_note_of_the_sample():
    class Broken(Sized):
        def __getitem__(self, n):
            if n == 13:
                raise OSError("the disk is gone")
            return super().__getitem__(n)

    with pytest.raises(OSError, match="the disk is gone") as error:
        trained(Broken([*zip(X, Y, strict=True)]), shuffle=False)
    assert "sample 13" in error.value.__notes__[0]


@pytest.mark.parametrize("steps", [3, 9])
def test_batches_that_end_early_are_told(steps):
    with pytest.raises(DataError, match=r"X203.*ended after 2 batches, and steps_per_epoch is"):
        made().fit([*Anew()][:2].__iter__(), steps_per_epoch=steps, progress="none")


# Bytes and their scale.


def test_a_model_keeps_what_it_was_trained_on(tmp_path):
    model = trained(BYTES, Y)
    assert model.scaling == "bytes"
    model.save(tmp_path / "m.xcnn")
    loaded = xcnn.Model.load(tmp_path / "m.xcnn", backend="numpy")
    assert loaded.scaling == "bytes"
    assert (loaded.predict(BYTES) == model.predict(X)).all()
    assert loaded.step(BYTES[:4], Y[:4]) == model.step(X[:4], Y[:4])
    assert loaded.report(BYTES, Y).loss == model.report(X, Y).loss


@pytest.mark.parametrize("ask", ["predict", "classify", "evaluate", "fit"])
def test_a_model_of_bytes_refuses_numbers_of_another_scale(ask):
    model, strange = trained(BYTES, Y), BYTES.astype(np.float32)
    data = (strange,) if ask in ("predict", "classify") else (strange, Y)
    with pytest.raises(DataError, match=r"X203.*trained on bytes scaled to 0\.\.1, and x has 0?.* in sample 0"):
        getattr(model, ask)(*data)
    with pytest.raises(DataError, match=r"X203.*in sample 3"):
        model.predict(wrong(X, (3, 0, 0, 0), -0.1))
    model.scaling = "floats"
    getattr(model, ask)(*data, **({"progress": "none"} if ask == "fit" else {}))


@pytest.mark.parametrize("ask", ["predict", "classify", "evaluate", "fit", "step"])
def test_a_model_of_numbers_refuses_bytes(ask):
    model = trained((X - 0.5) / 0.25, Y)
    assert model.scaling == "floats"
    data = (BYTES,) if ask in ("predict", "classify") else (BYTES, Y)
    with pytest.raises(DTypeError, match=r"X103.*uint8"):
        getattr(model, ask)(*data)
    assert model.scaling == "floats"
    model.scaling = "bytes"
    getattr(model, ask)(*data, **({"progress": "none"} if ask == "fit" else {}))


def test_bytes_are_refused_where_nothing_is_decided():
    with pytest.raises(DTypeError, match=r"X103.*uint8"):
        made().predict(BYTES)
    assert made(scaling="bytes").predict(BYTES).shape == (26, 3)
    with pytest.raises(DTypeError, match=r"X103.*uint8"):
        made(scaling="floats").fit(BYTES, Y)
    with pytest.raises(OptionError, match=r"X104.*scaling"):
        made(scaling="pixels")


@pytest.mark.parametrize("workers", [0, 2])
def test_the_first_batch_tells_whether_batches_are_of_bytes(workers):
    options = {"augment": (), "workers": workers}
    whole, anew = trained(BYTES, Y, shuffle=False, augment=()), Anew(BYTES)
    model = trained(anew, **options)
    assert (model.scaling, anew.begun) == ("bytes", 2)  # once an epoch: what was looked at was trained on
    assert bits(model) == bits(whole)
    once = (batch for _ in range(2) for batch in Anew(BYTES))
    assert bits(trained(once, steps_per_epoch=4, **options)) == bits(whole)
    assert trained(Anew(), **options).scaling == "floats"
    with pytest.raises(DTypeError, match=r"X103.*takes floating-point numbers"):
        trained(Anew()).fit(Anew(BYTES), progress="none")
    with pytest.raises(DataError, match=r"X203.*the iterable ended after 0 batches"):
        made().fit(iter([]), steps_per_epoch=1, progress="none")


def test_what_fit_refuses_decides_nothing():
    model = made()
    with pytest.raises(LabelError):
        model.fit(BYTES, Y + 1, batch_size=26, progress="none")
    assert (model.scaling, model.info) == (None, {})


# Names of classes.


@pytest.mark.parametrize("kind", ["array", "list", "bytes", "pandas", "categorical"])
def test_names_are_numbered_in_their_order_and_given_back(kind, tmp_path):
    match kind:
        case "bytes":
            names = NAMES.astype("S")
        case "pandas" | "categorical":
            pandas = pytest.importorskip("pandas", reason="pandas is not installed")
            names = pandas.Series(NAMES) if kind == "pandas" else pandas.Categorical(NAMES)
        case _:
            names = NAMES if kind == "array" else NAMES.tolist()
    model = trained(X, names, validation_split=0.2)
    assert bits(model) == bits(trained(X, NUMBERS, validation_split=0.2))
    assert model.info["classes"] == ["ant", "cat", "eel"]
    model.save(tmp_path / "m.xcnn")
    loaded = xcnn.Model.load(tmp_path / "m.xcnn", backend="numpy")
    assert loaded.classify(X).tolist() == np.array(["ant", "cat", "eel"])[model.predict(X).argmax(1)].tolist()
    assert loaded.evaluate(X, names) == loaded.evaluate(X, NUMBERS)
    with pytest.raises(LabelError, match=r"X201.*'dog'.*classes are 'ant', 'cat', 'eel'"):
        loaded.evaluate(X[:2], ["dog", "ant"])
    with pytest.raises(LabelError, match=r"X201.*knows no names"):
        made().evaluate(X[:2], ["dog", "ant"])


MIXED = [1, "ant"] * 13
"""NumPy makes texts of all of them."""
TAKERS = {
    "list": lambda: trained(X, MIXED),
    "source": lambda: xcnn.data.source(X, MIXED),
    "split": lambda: xcnn.data.split(X, MIXED),
    "pairs": lambda: trained(Sized([*zip(X, MIXED, strict=True)])),
}


@pytest.mark.parametrize("name", TAKERS)
def test_numbers_among_names_are_told_and_not_made_names(name):
    with pytest.raises(DataError, match=r"X203.*(y has texts, and 1 at index 0|for y, and sample \d+ has)"):
        TAKERS[name]()


def test_classes_of_numbers_are_numbers():
    model = trained(X, Y)
    assert model.classify(X[:5]).tolist() == model.predict(X[:5]).argmax(1).tolist()


# Of other libraries.


def test_hdf5(tmp_path):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"], file["y"] = BYTES, Y
        model = trained(file["x"], file["y"], workers=4)
    assert bits(model) == bits(trained(BYTES, Y))


def test_zarr(tmp_path):
    zarr = pytest.importorskip("zarr", reason="zarr is not installed")
    array = zarr.create_array(tmp_path / "x.zarr", shape=X.shape, dtype="uint8", chunks=(5, 1, 6, 6))
    array[:] = BYTES
    model, whole = trained(array, Y), trained(BYTES, Y)
    assert bits(model) == bits(whole)
    assert model.predict(array).tobytes() == whole.predict(BYTES).tobytes()
    assert model.evaluate(array, Y) == whole.evaluate(BYTES, Y)


def test_torch_s_data_sets_and_loaders():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    data = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    assert bits(trained(data)) == bits(trained(X, Y))
    loader = torch.utils.data.DataLoader(data, batch_size=8)
    assert bits(trained(loader)) == bits(trained(X, Y, shuffle=False))


def test_hugging_face_s_data_sets():
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    data = datasets.Dataset.from_dict({"image": X, "label": Y}).with_format("numpy")
    assert bits(trained(data)) == bits(trained(X, Y))
