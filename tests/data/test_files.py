"""Files of samples that people have: known by what is in them, their samples as they were written, pickles refused."""

import gzip
import pickle

import numpy as np
import pytest

from xcnn.data.files import load_files
from xcnn.errors import DataError

RNG = np.random.default_rng(0)
X, Y = RNG.integers(0, 256, (40, 9, 9), np.uint8), np.arange(40) % 4
XT, YT = RNG.integers(0, 256, (8, 9, 9), np.uint8), np.arange(8) % 4
NAMES = {
    "keras": ("x_train", "y_train", "x_test", "y_test"),
    "medmnist": ("train_images", "train_labels", "test_images", "test_labels"),
}


def same(data, x=X, y=Y, xt=XT, yt=YT):
    np.testing.assert_array_equal(np.rint(data.train.x[:, 0] * 255), x)
    np.testing.assert_array_equal(data.train.y, y)
    np.testing.assert_array_equal(np.rint(data.test.x[:, 0] * 255), xt)
    np.testing.assert_array_equal(data.test.y, yt)
    assert data.train.x.dtype == np.float32
    assert data.train.x.max() <= 1
    return True


@pytest.mark.parametrize("kind", NAMES)
def test_arrays_by_their_names(kind, tmp_path):
    labels = [y[:, None] if kind == "medmnist" else y for y in (Y, YT)]
    np.savez(tmp_path / "data.npz", **dict(zip(NAMES[kind], (X, labels[0], XT, labels[1]), strict=True)))
    data, said = load_files(tmp_path / "data.npz")
    assert same(data)
    assert data.classes == ("0", "1", "2", "3")
    assert NAMES[kind][0] in said
    assert "40 images to train on, 8 to test on, 1x9x9, 4 classes" in said


@pytest.mark.parametrize("layout", ["last", "first", "one-hot", "floats"])
def test_layouts(layout, tmp_path):
    colours = RNG.integers(0, 256, (30, 3, 8, 8), np.uint8)
    x, y = colours.transpose(0, 2, 3, 1) if layout == "last" else colours, np.arange(30) % 3
    x = x / 255 if layout == "floats" else x
    np.savez(tmp_path / "data.npz", x=x, y=np.eye(3)[y] if layout == "one-hot" else y)
    data, said = load_files(tmp_path / "data.npz", 0.5)
    assert "held back" in said
    assert data.train.x.shape == data.test.x.shape == (15, 3, 8, 8)
    every = np.rint(np.concatenate([data.train.x, data.test.x]) * 255).astype(int)
    wanted = {image.tobytes(): label for image, label in zip(colours, y, strict=True)}
    for image, label in zip(every, np.concatenate([data.train.y, data.test.y]), strict=True):
        assert wanted[image.astype(np.uint8).tobytes()] == label


@pytest.mark.parametrize("titles", [True, False])
def test_a_table_of_labels_and_pixels(titles, tmp_path):
    rows = [",".join(map(str, [y, *x.ravel()])) for x, y in zip(X, Y, strict=True)]
    first = [",".join(["label", *(f"pixel{n}" for n in range(81))])] if titles else []
    (tmp_path / "train.csv").write_text("\n".join([*first, *rows]) + "\n")
    data, said = load_files(tmp_path / "train.csv", 0.25)
    assert "40 rows" in said
    assert (len(data.train.x), len(data.test.x)) == (30, 10)
    known = {x.tobytes(): y for x, y in zip(X, Y, strict=True)}
    for image, label in zip(data.train.x, data.train.y, strict=True):
        assert known[np.rint(image[0] * 255).astype(np.uint8).tobytes()] == label


@pytest.mark.parametrize(("size", "name"), [(1, "CIFAR-10"), (2, "CIFAR-100")])
def test_cifars_binary_batches(size, name, tmp_path):
    x, y = RNG.integers(0, 256, (7, 3072), np.uint8), RNG.integers(0, 10, (7, size), np.uint8)
    for n, part in enumerate((slice(0, 3), slice(3, 5))):
        np.hstack([y[part], x[part]]).tofile(tmp_path / f"data_batch_{n}.bin")
    np.hstack([y[5:], x[5:]]).tofile(tmp_path / "test_batch.bin")
    data, said = load_files(tmp_path)
    assert name in said
    np.testing.assert_array_equal(np.rint(data.train.x * 255).reshape(5, 3072), x[:5])
    np.testing.assert_array_equal(data.train.y, y[:5, -1])
    np.testing.assert_array_equal(data.test.y, y[5:, -1])
    assert len(data.classes) == (10 if size == 1 else 100)


def idx(path, array):
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    content = header + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def test_pairs_of_idx_files_of_any_name(tmp_path):
    for name, array in (("mine-pics", X), ("mine-tags.gz", Y), ("probe-pics.gz", XT), ("probe-tags", YT)):
        idx(tmp_path / name, array)
    data, said = load_files(tmp_path)
    assert same(data)
    assert "2 pairs of IDX files" in said


def test_pickles_are_refused_with_the_reason(tmp_path):
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps({"data": [1]}))
    np.savez(tmp_path / "objects.npz", x=np.array([{}, []], dtype=object), y=np.arange(2))
    for name in ("data_batch_1", "objects.npz"):
        with pytest.raises(DataError, match="pickle, which can run any program") as told:
            load_files(tmp_path / name)
        assert told.value.code == "X205"


BAD = {
    "names": ({"pictures": X, "tags": Y}, "has no images and labels by a known name: it has pictures, tags"),
    "lengths": ({"x": X, "y": Y[:5]}, "40 images and 5 labels"),
    "range": ({"x": X.astype(int) * 9, "y": Y}, "must be in 0..1 or in 0..255"),
    "labels": ({"x": X, "y": Y + 0.5}, "labels are whole numbers or names"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_told(case, tmp_path):
    arrays, words = BAD[case]
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(DataError, match=words):
        load_files(tmp_path / "data.npz")
