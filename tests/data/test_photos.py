"""Pictures in folders and in tars, read as they are needed: as those of `image_folder`, by any number of threads."""

import bz2
import gzip
import io
import logging
import lzma
import os
import tarfile
from itertools import chain

import numpy as np
import pytest

import xcnn
from xcnn.core import tree
from xcnn.data.source import Pass
from xcnn.errors import DataError, DTypeError, LabelError, OptionError

PIL = pytest.importorskip("PIL.Image", reason="Pillow is a dependency")
EXIF_TURNED = PIL.Exif()
EXIF_TURNED[274] = 6


def saved(path, pixels, mode="RGB", **options):
    picture = PIL.fromarray(pixels)
    path.parent.mkdir(parents=True, exist_ok=True)
    (picture if picture.mode == mode else picture.convert(mode)).save(path, **options)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two classes of pictures of many sizes, formats and modes."""
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(5)
    for name, count in (("cat", 9), ("dog", 14)):
        for n in range(count):
            height, width = rng.integers(20, 120, 2)
            pixels = rng.integers(0, 256, (4, 5, 3), np.uint8).repeat(-(-height // 4), 0).repeat(-(-width // 5), 1)
            match n:
                case 0:
                    saved(root / name / "0.jpg", pixels, exif=EXIF_TURNED)
                case 1:
                    saved(root / name / "1.jpg", pixels, "CMYK")
                case 2:
                    saved(root / name / "2.png", pixels, "P", transparency=3)
                case 3:
                    saved(root / name / "3.png", pixels[..., 0].astype(np.uint16) * 257, "I;16")
                case _:
                    saved(root / name / f"{n}.jpg", pixels)
        (root / name / ".DS_Store").touch()
    (root / "Thumbs.db").touch()
    return root


@pytest.fixture
def shards(photos, tmp_path):
    """The same, in two tars, with what else may lie in them."""
    files = [*sorted((photos / "cat").glob("[0-9]*")), *sorted((photos / "dog").glob("[0-9]*"))]
    for shard in range(2):
        with tarfile.open(tmp_path / f"{shard}.tar", "w") as tar:
            for n, file in enumerate(files[shard::2]):
                label = str(["cat", "dog"].index(file.parent.name))
                for ending, content in ((file.suffix, file.read_bytes()), (".cls", label.encode()), (".json", b"{}")):
                    entry = tarfile.TarInfo(f"some/{n:04}{ending}")
                    entry.size = len(content)
                    tar.addfile(entry, io.BytesIO(content))
    return tmp_path


def made(shape, outputs=2):
    net = xcnn.Sequential(xcnn.Conv2D(2, 3), xcnn.ReLU(), xcnn.GlobalAveragePool2D(), xcnn.Dense(outputs))
    return xcnn.Model(net, shape, backend="numpy")


def trained(*data, **options):
    model = made(data[0].shape if len(data) == 1 else data[0].shape[1:])
    model.fit(*data, **{"epochs": 2, "batch_size": 6, "progress": "none", "augment": xcnn.augment.Flip()} | options)
    return model


def bits(model):
    return [leaf.tobytes() for leaf in tree.leaves(model.weights)]


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_images_are_those_of_image_folder_and_so_are_the_parts(photos, mode):
    whole = xcnn.data.image_folder(photos, (16, 18), mode)
    for part, (x, y) in (("train", whole.train), ("test", whole.test)):
        source = xcnn.data.folder(photos, (16, 18), mode, part=part)
        read = source.batch(np.arange(len(source)))
        np.testing.assert_array_equal(read.x, x)
        np.testing.assert_array_equal(read.t, y)
        assert source.classes == whole.classes
    assert len(xcnn.data.folder(photos)) == 23


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_training_is_that_on_arrays_bit_for_bit(photos, workers):
    train, test = (xcnn.data.folder(photos, (16, 18), "RGB", part=part) for part in ("train", "test"))
    arrays = xcnn.data.image_folder(photos, (16, 18), "RGB")
    model, whole = (
        trained(train, workers=workers, validation_data=test),
        trained(*arrays.train, validation_data=arrays.test),
    )
    assert bits(model) == bits(whole)
    assert model.history.reproducible() == whole.history.reproducible()
    assert (model.scaling, model.info["classes"]) == ("bytes", ["cat", "dog"])
    assert (model.predict(test) == whole.predict(arrays.test.x)).all()
    report, expected = model.report(test), whole.report(*arrays.test)
    assert (report.confusion == expected.confusion).all()
    assert (report.images == expected.images).all()
    assert report.classes == ("cat", "dog")


def test_size_and_colour_are_found(photos, tmp_path):
    source = xcnn.data.folder(photos)
    assert source.shape == xcnn.data.folder(photos, part="test").shape
    assert source.shape[0] == 3
    assert 28 <= source.shape[1] == source.shape[2] <= 64
    assert str(source.found).endswith("in colour")
    for n, side in enumerate((12, 300, 12)):
        saved(tmp_path / "a" / f"{n}.png", np.zeros((side, 40), np.uint8), "L")
    assert xcnn.data.folder(tmp_path).shape == (1, 28, 28)
    assert str(xcnn.data.folder(tmp_path).found) == "pictures of 12x40 to 300x40, grey"


def test_a_model_of_other_data_does_not_take_photos_in_silence(photos):
    source = xcnn.data.folder(photos, (16, 16), "RGB")
    model = made(source.shape)
    model.fit(np.random.default_rng(0).normal(size=(8, 3, 16, 16)).astype("f4"), np.arange(8) % 2, progress="none")
    with pytest.raises(DataError, match=r"X203.*stand for bytes"):
        model.predict(source)
    with pytest.raises(DTypeError, match=r"X103"):
        model.predict(np.zeros((2, 3, 16, 16), np.uint8))
    model.scaling = "bytes"
    assert model.predict(source).shape == (23, 2)


def test_classes_are_known_by_their_names(photos, tmp_path):
    model = trained(xcnn.data.folder(photos, (16, 16), "RGB"))
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog" / "5.jpg").write_bytes((photos / "dog" / "5.jpg").read_bytes())
    only = xcnn.data.folder(tmp_path, (16, 16), "RGB")
    x = only.batch(np.arange(1)).x
    assert model.evaluate(only) == model.evaluate(x, [1])  # class 0 there, 1 to the model
    (tmp_path / "dog").rename(tmp_path / "wolf")
    with pytest.raises(LabelError, match=r"X201.*'wolf'"):
        model.evaluate(xcnn.data.folder(tmp_path, (16, 16), "RGB"))
    with pytest.raises(LabelError, match=r"X201.*2 classes.*3 outputs"):
        made((3, 16, 16), 3).fit(xcnn.data.folder(photos, (16, 16), "RGB"), progress="none")


@pytest.fixture
def spoiled(photos, tmp_path):
    """The photos with a file that is cut off and one that is none."""
    for file in photos.glob("*/[0-9]*"):
        (tmp_path / file.parent.name).mkdir(exist_ok=True)
        (tmp_path / file.parent.name / file.name).write_bytes(file.read_bytes())
    whole = (photos / "dog" / "7.jpg").read_bytes()
    (tmp_path / "dog" / "7.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "cat" / "note.png").write_text("hello")
    return tmp_path


@pytest.mark.parametrize("workers", [0, 4])
def test_a_file_that_can_not_be_read_is_named(spoiled, workers):
    with pytest.raises(DataError, match=r"X207.*(7\.jpg|note\.txt) can't be read as an image"):
        trained(xcnn.data.folder(spoiled, (16, 16), "RGB"), workers=workers)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_named_pipe_is_told_and_nobody_waits_for_it(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        PIL.new("L", (9, 8)).save(tmp_path / name / "0.png")
    os.mkfifo(tmp_path / "a" / "1.png")
    source = xcnn.data.folder(tmp_path)
    with pytest.raises(DataError, match=r"X207.*1\.png is not a file"):
        source.batch(np.arange(len(source)))
    gone = xcnn.data.folder(tmp_path, bad="skip")
    (tmp_path / "b" / "0.png").unlink()
    trained(gone, workers=0)
    assert {*gone.skipped} == {str(tmp_path / "a" / "1.png"), str(tmp_path / "b" / "0.png")}
    os.mkfifo(tmp_path / "shard.tar")
    with pytest.raises(DataError, match=r"X209.*no tar"):
        xcnn.data.tar(str(tmp_path / "*.tar"), (8, 8))


@pytest.mark.parametrize("workers", [0, 4])
def test_or_it_is_left_out_counted_and_told_once(spoiled, workers, caplog):
    source = xcnn.data.folder(spoiled, (16, 16), "RGB", bad="skip")
    with caplog.at_level(logging.WARNING, "xcnn"):
        model = trained(source, workers=workers)
    assert sorted(name.rpartition("/")[2] for name in source.skipped) == ["7.jpg", "note.png"]
    assert len(caplog.records) == 2
    assert model.evaluate(source)["accuracy"] * 22 == pytest.approx(round(model.evaluate(source)["accuracy"] * 22))
    with pytest.raises(DataError, match=r"X203.*some of them can't be read"):
        model.predict(source)
    good = [n for n, file in enumerate(source.files) if not file.endswith((f"dog{os.sep}7.jpg", "note.png"))]
    batch = source.batch(np.arange(len(source)))
    assert (batch.numbers.tolist(), batch.t.tolist()) == (good, source.labels[good].tolist())


def test_a_training_that_skips_is_saved_and_resumed_in_an_epoch(spoiled, tmp_path_factory):
    def data():
        return xcnn.data.folder(spoiled, (16, 16), "RGB", bad="skip")

    class Stop(xcnn.training.progress.Silent):
        def advance(self, images, loss):
            if left.state.step == 2:
                raise KeyboardInterrupt

    left, options = made((3, 16, 16)), {"batch_size": 6, "augment": xcnn.augment.Flip()}
    left.fit(data(), epochs=2, progress=Stop(), **options)
    path = tmp_path_factory.mktemp("saved") / "m.xcnn"
    left.save(path)
    model = xcnn.Model.load(path, backend="numpy")
    assert model.state.batch == 2
    model.fit(data(), epochs=2, progress="none", resume=True, **options)
    assert bits(model) == bits(trained(data()))


def test_a_batch_of_which_nothing_can_be_read_is_passed_by(spoiled):
    """As the last of an epoch may be, which has but one picture: a step less, also in a training that is resumed."""

    def data():
        return xcnn.data.folder(spoiled, (16, 16), "RGB", bad="skip")

    class Stop(xcnn.training.progress.Silent):
        def advance(self, images, loss):
            if left.state.step == 23:
                raise KeyboardInterrupt

    left, options = made((3, 16, 16)), {"batch_size": 1, "augment": xcnn.augment.Flip()}
    left.fit(data(), epochs=2, progress=Stop(), **options)
    assert left.state.batch < 5  # of the second epoch
    left.fit(data(), epochs=2, progress="none", resume=True, **options)
    whole = trained(data(), **options, validation_split=None)
    assert whole.state.step == left.state.step == 2 * (len(data()) - 2)
    assert bits(left) == bits(whole)
    assert whole.evaluate(data(), batch_size=1) == pytest.approx(whole.evaluate(data()))
    with pytest.raises(DataError, match=r"X203.*some of them can't be read"):
        whole.predict(data(), batch_size=1)
    for file in (spoiled / "cat", spoiled / "dog"):
        for picture in file.iterdir():
            picture.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"X203.*no batch(.|\n)*left out stand in the log"):
        trained(data(), **options)


@pytest.mark.parametrize("wrong", [{"part": "all"}, {"bad": "ignore"}, {"mode": "CMYK"}, {"size": 3}])
def test_options_that_are_none(photos, wrong):
    with pytest.raises(OptionError, match=r"X104"):
        xcnn.data.folder(photos, **wrong)


def test_folders_train_and_test_are_no_classes(photos, tmp_path):
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
        for name in ("cat", "dog"):
            (tmp_path / part / name).mkdir()
            (tmp_path / part / name / "5.jpg").write_bytes((photos / name / "5.jpg").read_bytes())
    with pytest.raises(DataError, match=r"X209.*which is meant"):
        xcnn.data.folder(tmp_path)
    assert len(xcnn.data.folder(tmp_path, part="test")) == 2


# Tars.


def numbers(source, **way):
    return [job().numbers.tolist() for job in source.jobs(Pass(4, **way))]


def test_tars_hold_what_was_put_there(shards, photos):
    source = xcnn.data.tar(str(shards / "*.tar"), (16, 18), classes=["cat", "dog"])
    assert repr(source) == f"<Tar: {len(source.files)} files, pictures as 3x16x18>"
    whole = xcnn.data.folder(photos, (16, 18), "RGB")
    read = [job() for job in source.jobs(Pass(5))]
    x, t = (np.concatenate(part) for part in zip(*((b.x, b.t) for b in read), strict=True))
    packed_order = [*range(0, 23, 2), *range(1, 23, 2)]
    expected = whole.batch(np.array(packed_order))
    np.testing.assert_array_equal(x, expected.x)
    np.testing.assert_array_equal(t, expected.t)


@pytest.mark.parametrize("buffer", [1, 5, 1000])
def test_a_tar_s_order_follows_from_seed_and_epoch(shards, buffer):
    source = xcnn.data.tar([shards / "0.tar", shards / "1.tar"], (8, 8), buffer=buffer)
    plain, one = numbers(source), numbers(source, seed=3, epoch=1, shuffle=True)
    assert one == numbers(source, seed=3, epoch=1, shuffle=True)
    assert one != numbers(source, seed=3, epoch=2, shuffle=True) or buffer == 1
    assert sorted(chain(*one)) == [*chain(*plain)]
    assert numbers(source, seed=3, epoch=1, shuffle=True, done=2) == one[2:]


def test_tars_train_to_the_same_bits_for_any_workers_and_after_a_resume(shards, tmp_path):
    def data():
        return xcnn.data.tar(str(shards / "*.tar"), (16, 16), classes=["cat", "dog"], buffer=7)

    options = {"batch_size": 6, "augment": xcnn.augment.Flip()}
    models = [made((3, 16, 16)) for _ in range(3)]
    for model, workers in zip(models, (0, 1, 4), strict=True):
        model.fit(data(), epochs=2, progress="none", workers=workers, **options)
    assert bits(models[0]) == bits(models[1]) == bits(models[2])

    class Stop(xcnn.training.progress.Silent):
        def advance(self, images, loss):
            if left.state.step == 6:
                raise KeyboardInterrupt

    left = made((3, 16, 16))
    left.fit(data(), epochs=2, progress=Stop(), **options)
    left.save(tmp_path / "m.xcnn")
    model = xcnn.Model.load(tmp_path / "m.xcnn", backend="numpy")
    model.fit(data(), epochs=2, progress="none", resume=True, workers=4, **options)
    assert bits(model) == bits(models[0])
    assert model.predict(data()).shape == (23, 2)


def packed(path, *entries):
    with tarfile.open(path, "w") as tar:
        for name, content in entries:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def test_what_is_wrong_with_a_tar_is_told(photos, tmp_path):
    picture = (photos / "dog" / "5.jpg").read_bytes()

    def read(path, **options):
        source = xcnn.data.tar(path, (8, 8), **options)
        return [job() for job in source.jobs(Pass(2))]

    with pytest.raises(DataError, match=r"X209.*no tar"):
        read(tmp_path / "none.tar")
    with pytest.raises(DataError, match=r"X209.*sample '1' of .*it has jpg"):
        read(packed(tmp_path / "a.tar", ("1.jpg", picture), ("2.jpg", picture), ("2.cls", b"0")))
    with pytest.raises(DataError, match=r"X209.*class 'cat', which is no number(.|\n)*classes="):
        read(packed(tmp_path / "b.tar", ("1.jpg", picture), ("1.cls", b"cat")))
    assert read(tmp_path / "b.tar", classes=["cow", "cat"])[0].t.tolist() == [1]
    with pytest.raises(DataError, match=r"X207.*b\.tar/2 can't be read as an image"):
        read(packed(tmp_path / "b.tar", ("1.jpg", picture), ("1.cls", b"0"), ("2.jpg", b"hello"), ("2.cls", b"1")))
    assert [len(batch.x) for batch in read(tmp_path / "b.tar", bad="skip")] == [1]
    whole = (tmp_path / "b.tar").read_bytes()
    (tmp_path / "c.tar").write_bytes(whole[:700])
    with pytest.raises(DataError, match=r"X207.*c\.tar can't be read as a tar"):
        read(tmp_path / "c.tar")
    pairs = [(f"{n}.{ending}", c) for n in range(4) for ending, c in (("jpg", picture), ("cls", b"0"))]
    whole = packed(tmp_path / "e.tar", *pairs).read_bytes()
    middle = packed(tmp_path / "f.tar", *pairs[:4]).read_bytes().rstrip(b"\0")
    middle += bytes(-len(middle) % 512)
    assert whole.startswith(middle)
    cut = [whole[: len(middle)], whole[: len(middle) + 99], middle + b"x" * 512 + whole[len(middle) + 512 :]]
    for content in (*cut, gzip.compress(whole)[:-900], gzip.compress(cut[0])):  # where tarfile stops in silence
        (tmp_path / "e.tar").write_bytes(content)
        with pytest.raises(DataError, match=r"X207.*e\.tar can't be read as a tar: (it was cut|.*ended before)"):
            read(tmp_path / "e.tar")
    with pytest.raises(DataError, match=r"X207.*more than"):
        read(packed(tmp_path / "d.tar", ("1.jpg", bytes(17 << 20)), ("1.cls", b"0")), max_pixels=10)


@pytest.mark.parametrize(
    "compressed", [bytes, gzip.compress, bz2.compress, lzma.compress], ids=["tar", "gz", "bz2", "xz"]
)
def test_tars_one_behind_the_other_are_read_to_the_last(photos, tmp_path, compressed):
    """As `cat a.tar b.tar c.tar` makes them; equal names in two of them are two samples."""
    picture = (photos / "dog" / "5.jpg").read_bytes()
    names = (["1", "2"], ["2"], ["2", "3"])
    parts = []
    for n, listed in enumerate(names):
        pairs = [(f"{name}.{ending}", c) for name in listed for ending, c in (("jpg", picture), ("cls", b"%d" % n))]
        parts.append(compressed(packed(tmp_path / f"{n}.tar", *pairs).read_bytes()))

    def labels(content):
        (tmp_path / "all").write_bytes(content)
        return [job().t.tolist() for job in xcnn.data.tar(tmp_path / "all", (8, 8)).jobs(Pass(8))]

    assert labels(b"".join(parts)) == [[0, 0, 1, 2, 2]]
    cut = parts[1][:700] if compressed is bytes else parts[1][:-20]  # within the file, or the last stream
    for broken in (parts[0] + cut, compressed(packed(tmp_path / "0.tar").read_bytes() + b"more")):
        with pytest.raises(DataError, match=r"X207.*all can't be read as a tar"):
            labels(broken)


def test_two_files_of_one_kind_in_a_sample_are_told(photos, tmp_path):
    picture = (photos / "dog" / "5.jpg").read_bytes()
    path = packed(tmp_path / "a.tar", ("1.jpg", picture), ("1.cls", b"0"), ("1.JPG", picture))
    with pytest.raises(DataError, match=r"X209.*sample '1' of .*a\.tar has two files jpg"):
        [job() for job in xcnn.data.tar(path, (8, 8)).jobs(Pass(2))]
