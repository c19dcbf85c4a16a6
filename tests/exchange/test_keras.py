"""Files of Keras: nets that compute what Keras does, all that can't be expressed told at once, forged ones refused."""

import io
import json
import os
import random
import time
import tracemalloc
import zipfile

import numpy as np
import pytest
from draws import draws
from keras_models import check_agrees, drawn
from spent import assert_soon, started

import xcnn
from xcnn.errors import ExchangeError, MissingDependency, OptionError, XcnnError

h5py = pytest.importorskip("h5py", reason="the extra keras")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")
"""Of Keras's own, which saves variables so."""


@pytest.fixture(scope="module")
def keras():
    pytest.importorskip("jax", reason="what Keras computes convolutions of NumPy's arrays with")
    return pytest.importorskip("keras", reason="Keras is what is agreed with")


def convolutions(keras, L):
    return keras.Sequential([
        L.Input((13, 12, 3)),
        L.Conv2D(4, (3, 2), strides=2, padding="same", activation="relu"),
        L.DepthwiseConv2D(3, padding="same", depth_multiplier=2, activation="tanh"),
        L.SeparableConv2D(6, 3, use_bias=False),
        L.Conv2D(4, 2, groups=2, dilation_rate=2, padding="same", use_bias=False),
        L.Conv2DTranspose(3, 3, strides=2, padding="same"),
        L.Conv2DTranspose(3, 2, strides=3),
        L.Conv2DTranspose(2, 4, strides=(2, 1), use_bias=False),
        L.Dense(5),
    ])  # fmt: skip


def poolings(keras, L):
    return keras.Sequential([
        L.Input((20, 23, 2)),
        L.MaxPooling2D(3, strides=2, padding="same"), L.AveragePooling2D(2, strides=1, padding="same"),
        L.ZeroPadding2D(((1, 0), (2, 3))), L.AveragePooling2D((2, 3)), L.MaxPooling2D(2, strides=3),
        L.UpSampling2D((2, 3)), L.Cropping2D(((1, 0), (2, 3))), L.UpSampling2D(2, interpolation="bilinear"),
        L.SpatialDropout2D(0.5),
    ])  # fmt: skip


def norms(keras, L):
    return keras.Sequential([
        L.Input((3, 4, 6)), L.Rescaling(0.25, offset=-1.0), L.Normalization(),
        L.Normalization(mean=[1.0, 2, 3, 4, 5, 6], variance=[2.0, 1, 2, 1, 2, 1]),
        L.BatchNormalization(epsilon=0.01), L.BatchNormalization(scale=False),
        L.BatchNormalization(center=False, axis=3),
        L.LayerNormalization(), L.LayerNormalization(axis=[1, 2, 3]), L.GroupNormalization(3), L.GroupNormalization(-1),
        L.Flatten(), L.BatchNormalization(), L.LayerNormalization(), L.Dropout(0.5), L.Dense(4, activation="softmax"),
    ])  # fmt: skip


NAMES = (
    "elu", "gelu", "hard_sigmoid", "hard_silu", "leaky_relu", "log_softmax", "mish", "relu", "relu6", "selu", "sigmoid",
    "silu", "softmax", "softplus", "softsign", "tanh", "linear",
)  # fmt: skip


def activations(keras, L):
    given = L.Input((3, 2, 4))
    layers = [
        *map(L.Activation, NAMES), L.ReLU(max_value=0.5), L.ReLU(negative_slope=0.1), L.LeakyReLU(), L.ELU(0.5),
        L.PReLU(shared_axes=[1, 2]), L.Softmax(), L.ActivityRegularization(0.1),
    ]  # fmt: skip
    return keras.Model(given, L.Concatenate()([layer(given) for layer in layers]))


def orders(keras, L):
    """What is flattened meets what is not."""
    given = L.Input((4, 3, 5))
    x = L.Conv2D(4, 2, name="a-b c", activation="relu")(given)
    flat = L.BatchNormalization()(L.Flatten()(x))
    wide = L.Concatenate()([L.GlobalAveragePooling2D()(x), L.PReLU()(flat), L.Reshape((-1,))(given), flat])
    return keras.Model(given, L.Dense(3)(L.LayerNormalization()(wide)))


def branches(keras, L):
    """Squeeze-and-excitation, a shortcut, and models within models."""
    inner = keras.Sequential([L.Input((6, 5, 4)), L.Conv2D(4, 3, padding="same"), L.ReLU()])
    within = L.Input((6, 5, 4))
    block = keras.Model(within, L.Add()([within, inner(within), L.Conv2D(4, 1)(within)]))
    given = L.Input((6, 5, 4))
    x = L.Conv2D(4, 1)(block(given))
    gate = L.Dense(4, activation="sigmoid")(L.Reshape((1, 1, 4))(L.GlobalAveragePooling2D()(x)))
    x = x * gate + 0.5 * (x + 1)
    x = L.Multiply()([x, L.Conv2D(4, 1)(gate), L.GlobalMaxPooling2D(keepdims=True)(x)])
    return keras.Model(given, L.GlobalMaxPooling2D()(x))


def signals(keras, L):
    return keras.Sequential([
        L.Input((14, 3)), L.Conv1D(4, 3, padding="causal", dilation_rate=2), L.BatchNormalization(),
        L.Conv1D(4, 3, strides=2, padding="same", activation="relu"),
        L.Conv1DTranspose(4, 3, strides=2, padding="same"),
        L.Conv1DTranspose(3, 2, strides=3), L.ZeroPadding1D((1, 2)), L.MaxPooling1D(3, strides=2, padding="same"),
        L.UpSampling1D(3), L.Cropping1D((2, 1)), L.AveragePooling1D(2), L.Dense(3), L.Flatten(), L.Dense(2),
    ])  # fmt: skip


def rearranged(keras, L):
    """What a generator begins with, axes in other orders, sizes that are asked for, and slopes of single cells."""
    given = L.Input((6,))
    x = L.Reshape((3, 4, 5))(L.Dense(60, activation="relu")(given))
    x = L.PReLU()(L.Permute((2, 1, 3))(x))
    x = L.Resizing(6, 5)(L.RandomFlip()(L.Reshape((2, -1, 3))(L.Permute((3, 2, 1))(x))))
    x = L.PReLU(shared_axes=[1])(L.Resizing(5, 3, interpolation="nearest")(x))
    return keras.Model(given, L.AdaptiveAveragePooling2D((2, 3))(x))


def merged(keras, L):
    """Means, differences, the larger and the smaller of several, and operations that are no layers."""
    ops = keras.ops
    given = L.Input((4, 3, 2))
    a, b, c = L.Conv2D(3, 1)(given), L.Conv2D(3, 1)(given), L.Conv2D(3, 1)(given)
    parts = [L.Average()([a, b, c]), L.Subtract()([a, b]), L.Maximum()([a, b, c]), L.Minimum()([b, a, c]),
             a - c, 1 - b, b - 2, a / 4, -c, ops.relu(b), ops.sigmoid(a), ops.maximum(a, b)]  # fmt: skip
    return keras.Model(given, L.Concatenate()(parts))


def separable_signals(keras, L):
    return keras.Sequential([
        L.Input((9, 4)), L.SeparableConv1D(6, 3, depth_multiplier=2, padding="same", activation="relu"),
        L.DepthwiseConv1D(3, depth_multiplier=2, strides=2), L.PReLU(), L.Permute((2, 1)), L.Flatten(), L.Dense(3),
    ])  # fmt: skip


def summits(keras, L):
    pooled = [L.GlobalMaxPooling1D(keepdims=True), L.Conv1D(2, 1), L.Flatten()]
    return keras.Sequential([L.Input((5, 3)), *pooled])


def one_channel(keras, L):
    return keras.Sequential([L.Input((5, 3)), L.Dense(1), L.GlobalAveragePooling1D(keepdims=True), L.Flatten()])


NETS = [
    convolutions, poolings, norms, activations, orders, branches, signals, rearranged, merged, separable_signals,
    summits, one_channel,
]  # fmt: skip


@pytest.mark.parametrize("make", NETS)
def test_nets_compute_what_keras_does(keras, make, tmp_path):
    mine, x, y = check_agrees(make(keras, keras.layers), tmp_path / "net.keras")
    mine.save(tmp_path / "net.xcnn")
    assert (xcnn.Model.load(tmp_path / "net.xcnn", backend="numpy").predict(x) == y).all()


def test_several_inputs_and_outputs(keras, tmp_path):
    """By Keras's names; and they are trained, each output by a loss of its own."""
    L = keras.layers
    image, numbers = L.Input((None, 5, 2), name="image"), L.Input((3,), name="numbers")
    x = L.Concatenate()([L.GlobalAveragePooling2D()(L.Conv2D(4, 3, activation="relu")(image)), numbers])
    theirs = keras.Model([image, numbers], [L.Dense(3, name="kind")(x), L.Dense(1, "sigmoid", name="odd")(x)])
    drawn(theirs).save(tmp_path / "net.keras")
    shapes = {"image": (2, 6, 5)}
    with pytest.raises(OptionError, match=r"input_shape=\{'image'"):
        xcnn.load_keras(tmp_path / "net.keras", backend="numpy")
    with pytest.raises(OptionError, match="has the inputs 'image', 'numbers'"):
        xcnn.load_keras(tmp_path / "net.keras", backend="numpy", input_shape=(2, 6, 5))
    mine = xcnn.load_keras(tmp_path / "net.keras", backend="numpy", input_shape=shapes, optimizer=xcnn.SGD(0.1))
    rng = np.random.default_rng(2)
    x = {"image": rng.normal(size=(8, 2, 6, 5)).astype("f4"), "numbers": rng.normal(size=(8, 3)).astype("f4")}
    expected = theirs([np.moveaxis(x["image"], 1, -1), x["numbers"]], training=False)
    found = mine.predict(x)
    assert [*found] == ["kind", "odd"]
    for mine_y, y in zip(found.values(), expected, strict=True):
        np.testing.assert_allclose(mine_y, np.asarray(y), rtol=1e-5, atol=1e-6)
    y = {"kind": np.arange(8) % 3, "odd": (np.arange(8) % 2)[:, None]}
    before = mine.evaluate(x, y)["loss"]
    mine.fit(x, y, epochs=5, progress="none")
    assert mine.evaluate(x, y)["loss"] < before
    mine.save(tmp_path / "net.xcnn")
    assert [*xcnn.Model.load(tmp_path / "net.xcnn", backend="numpy").predict(x)] == [*found]


def test_a_net_that_was_loaded_is_trained(keras, tmp_path):
    L = keras.layers
    net = [L.Input((6, 6, 1)), L.Conv2D(3, 3), L.BatchNormalization(), L.Flatten(), L.Dense(2)]
    drawn(keras.Sequential(net)).save(tmp_path / "net.keras")
    mine = xcnn.load_keras(tmp_path / "net.keras", backend="numpy", optimizer=xcnn.Adam(0.05))
    assert [name for name, _ in mine.net.named][:2] == [layer.name for layer in net[1:3]]
    x = np.random.default_rng(0).normal(size=(40, 1, 6, 6)).astype("float32")
    y = (x.mean(axis=(1, 2, 3)) > 0).astype(int)
    before = mine.evaluate(x, y)["loss"]
    mine.fit(x, y, epochs=15, progress="none")
    assert mine.evaluate(x, y)["loss"] < 0.5 * before


# What can't be expressed, and what is none.


def saved(path, layers, weights=None, **records):
    """A .keras file of a Sequential with these layers, (class, options), and arrays by path."""
    listed = [{"module": "keras.layers", "class_name": kind, "config": {"name": f"l{n}", **config}}
              for n, (kind, config) in enumerate(layers)]  # fmt: skip
    model = {"module": "keras", "class_name": "Sequential", "config": {"name": "net", "layers": listed}}
    file = io.BytesIO()
    with h5py.File(file, "w") as written:
        for name, array in (weights or {}).items():
            written.create_dataset(name, data=array) if not callable(array) else array(written, name)
    with zipfile.ZipFile(path, "w") as whole:
        for name, text in {"config.json": json.dumps(model), "model.weights.h5": file.getvalue(), **records}.items():
            whole.writestr(name, text)
    return path


INPUT = ("InputLayer", {"batch_shape": [None, 4, 4, 2]})
DENSE = ("Dense", {"units": 2, "activation": "linear"})
VECTOR = ("InputLayer", {"batch_shape": [None, 3]})
ARRAYS = {"layers/dense/vars/0": np.ones((3, 2), "f4"), "layers/dense/vars/1": np.ones(2, "f4")}


def test_all_that_is_missing_is_told_at_once(keras, tmp_path):
    L = keras.layers
    given = L.Input((8, 8, 2))
    twice = L.Conv2D(2, 1)
    x = L.Lambda(lambda x: open("/planted", "w"), output_shape=(8, 8, 2), name="code")(given)  # noqa: SIM115
    y = twice(twice(L.GaussianNoise(0.1)(given)))
    z = L.Conv2D(2, 1, activation="exponential", name="odd")(given) ** 3
    keras.Model(given, [x, L.Flatten()(z), y]).save(tmp_path / "net.keras")
    with pytest.raises(ExchangeError, match="X418") as told:
        xcnn.load_keras(tmp_path / "net.keras")
    reasons = told.value.missing
    assert len(reasons) == 5
    assert "the operation Power, which xcnn has no layer for" in reasons.values()
    assert reasons[twice.name] == "Conv2D that is called 2 times, and shares its weights"
    assert reasons["code"] == "Lambda, which xcnn has no layer for"
    assert reasons["odd"] == "Conv2D with activation='exponential'"
    assert not os.path.exists("/planted")


CANT = {
    "a class of somebody's": ([INPUT, ("Mine", {})], "Mine, which xcnn has no layer for"),
    "three axes": ([("InputLayer", {"batch_shape": [None, 4, 4, 4, 2]})], "samples of 4 axes"),
    "channels first": (
        [INPUT, ("Conv2D", {"filters": 2, "kernel_size": [1, 1], "strides": [1, 1], "data_format": "channels_first"})],
        "data_format='channels_first'"),
    "an end in another order": ([INPUT, ("Flatten", {})], "in another order"),
    "another axis": ([INPUT, ("BatchNormalization", {"axis": 1})], "axis=1, which are not the channels"),
    "another order of what is flattened": (
        [INPUT, ("Flatten", {"data_format": "channels_first"})], "data_format='channels_first'"),
    "a bound of nought": ([INPUT, ("ReLU", {"max_value": 0.0})], "max_value"),
    "a kernel too large": (
        [INPUT, ("MaxPooling2D", {"pool_size": [9, 9], "strides": [1, 1], "padding": "valid"})], "9x9 kernel"),
    "options that are none": ([INPUT, ("Dropout", {"rate": "half"})], "rate must be a number"),
    "no array": ([VECTOR, DENSE], "0 arrays in the file"),
    "a shape that is none": ([INPUT, ("Reshape", {"target_shape": [3, 16]})], "Reshape: "),
    "a shape of what was flattened": (
        [INPUT, ("Flatten", {}), ("Reshape", {"target_shape": [2, 16]})], "target_shape=[2, 16] of what was flattened"),
}  # fmt: skip


@pytest.mark.parametrize("case", CANT)
def test_what_cant_be_expressed_says_why(case, tmp_path):
    layers, words = CANT[case]
    with pytest.raises(ExchangeError, match="X418") as told:
        xcnn.load_keras(saved(tmp_path / "net.keras", layers), backend="numpy")
    assert words in str(told.value)


def external(file, name):
    file[name] = h5py.ExternalLink("/etc/hosts.h5", "/x")


def elsewhere(file, name):
    file.create_dataset(name, (3, 2), "f4", external=[("/etc/hostname", 0, 24)])


def huge(file, name):
    file.create_dataset(name, (2**20, 2**20), "f4", chunks=(1024, 1024), compression="gzip")


def soft(file, name):
    file["other"] = np.ones((3, 2), "f4")
    file[name] = h5py.SoftLink("/other")


def functional(*layers):
    """The net of a model whose layers take each other: (name, what it takes)."""

    def call(name):
        return {"class_name": "__keras_tensor__", "config": {"keras_history": [name, 0, 0]}}

    listed = [{"module": "keras.layers", "class_name": "ReLU", "config": {"name": name},
               "inbound_nodes": [{"args": [call(taken)], "kwargs": {}}]} for name, taken in layers]  # fmt: skip
    given = {"module": "keras.layers", "class_name": INPUT[0], "config": {"name": "x", **INPUT[1]}}
    config = {"name": "net", "layers": [given, *listed], "input_layers": ["x", 0, 0], "output_layers": ["a", 0, 0]}
    return json.dumps({"module": "keras", "class_name": "Functional", "config": config})


DENSE_0 = "layers/dense/vars/0"
FORGED = {
    "a link to another file": ({**ARRAYS, DENSE_0: external}, {}),
    "numbers of another file": ({**ARRAYS, DENSE_0: elsewhere}, {}),
    "a soft link": ({**ARRAYS, DENSE_0: soft}, {}),
    "an array that is not there": ({**ARRAYS, DENSE_0: huge}, {}),
    "an array of another shape": ({**ARRAYS, DENSE_0: np.ones((2, 3), "f4")}, {}),
    "a circle": (ARRAYS, {"config.json": functional(("a", "b"), ("b", "a"))}),
    "a layer that takes itself": (ARRAYS, {"config.json": functional(("a", "a"))}),
    "two layers of one name": (ARRAYS, {"config.json": functional(("a", "x"), ("a", "x"))}),
    "no net": (ARRAYS, {"config.json": "{}"}),
    "no JSON": (ARRAYS, {"config.json": "{"}),
    "JSON too deep": (ARRAYS, {"config.json": "[" * 100_000}),
    "JSON too long": (ARRAYS, {"config.json": "[" + "1," * 2_000_000 + "1]"}),
    "no HDF5": (ARRAYS, {"model.weights.h5": b"x" * 1000}),
}


@pytest.mark.parametrize("case", FORGED)
def test_what_is_forged_is_refused(case, tmp_path):
    weights, records = FORGED[case]
    path = saved(tmp_path / "net.keras", [VECTOR, DENSE], weights, **records)
    tracemalloc.start()
    begin = started()
    with pytest.raises(ExchangeError, match="X416"):
        xcnn.load_keras(path, backend="numpy")
    took, (_, peak) = time.process_time() - begin, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert took < 1
    assert peak < (64 << 20) + path.stat().st_size


def test_a_graph_is_read_if_nothing_is_wrong_with_it(tmp_path):
    net = functional(("b", "x"), ("a", "b"))
    assert len(xcnn.load_keras(saved(tmp_path / "net.keras", [], **{"config.json": net}), backend="numpy").net) == 2


def test_halves_of_float32(tmp_path):
    """HDF5 has no bfloat16: Keras writes bytes, and says beside them what they are. Whole numbers are not weights."""

    def bfloat16(file, name):
        halves = (np.float32([[1.5, -2], [0, 3], [0.25, -1]]).view(np.uint32) >> 16).astype(np.uint16)
        file.create_dataset(name, data=halves.view("V2")).attrs["dtype"] = "bfloat16"

    mine = xcnn.load_keras(
        saved(tmp_path / "net.keras", [VECTOR, DENSE], {**ARRAYS, DENSE_0: bfloat16}), backend="numpy"
    )
    assert mine.predict(np.ones((1, 3), "f4")).tolist() == [[2.75, 1.0]]
    whole = {**ARRAYS, DENSE_0: np.ones((3, 2), "i1")}
    with pytest.raises(ExchangeError, match=r"X416.*int8"):
        xcnn.load_keras(saved(tmp_path / "net.keras", [VECTOR, DENSE], whole), backend="numpy")


def test_the_forgery_is_a_model_if_nothing_is_wrong_with_it(tmp_path):
    mine = xcnn.load_keras(saved(tmp_path / "net.keras", [VECTOR, DENSE], ARRAYS), backend="numpy")
    assert (mine.predict(np.ones((1, 3), "f4")) == 4).all()


def test_layers_larger_than_memory_are_refused_before_they_are_made(tmp_path):
    layers = [INPUT, ("UpSampling2D", {"size": [30_000, 30_000]})]
    with pytest.raises(ExchangeError, match="X416"):
        xcnn.load_keras(saved(tmp_path / "net.keras", layers), backend="numpy")
    many = ("InputLayer", {"batch_shape": [None, 2**15, 2**15, 2]})
    with pytest.raises(ExchangeError, match=r"X418.*\n.*more than 4,194,304 features"):
        xcnn.load_keras(saved(tmp_path / "net.keras", [many, ("Flatten", {})]), backend="numpy")
    layers = [VECTOR, ("Dense", {"units": 10**9})]
    with pytest.raises(ExchangeError, match="X416"):
        xcnn.load_keras(saved(tmp_path / "net.keras", layers, ARRAYS), backend="numpy")


def test_sizes_that_are_left_open_are_asked_for(tmp_path):
    path = saved(tmp_path / "net.keras", [("InputLayer", {"batch_shape": [None, None, None, 2]}), ("ReLU", {})])
    with pytest.raises(OptionError, match="leaves its input's sizes open"):
        xcnn.load_keras(path, backend="numpy")
    assert xcnn.load_keras(path, input_shape=(2, 5, 6), backend="numpy").output_shape == (2, 5, 6)


def test_other_files_and_no_h5py(tmp_path, monkeypatch):
    (tmp_path / "net.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(ExchangeError, match="Keras 2 wrote HDF5"):
        xcnn.load_keras(tmp_path / "net.h5")
    with pytest.raises(FileNotFoundError):
        xcnn.load_keras(tmp_path / "none.keras")
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(MissingDependency, match="X601"):
        xcnn.load_keras(tmp_path / "net.h5")


def test_files_that_are_damaged(tmp_path):
    """The file's bytes, and texts within it: errors that are documented, within a second."""
    path, draw, told = tmp_path / "net.keras", random.Random(3), 0
    layers = [INPUT, ("Conv2D", {"filters": 2, "kernel_size": [1, 1], "strides": [1, 1]}), ("Flatten", {}), DENSE]
    arrays = {
        "layers/conv2d/vars/0": np.ones((1, 1, 2, 2), "f4"), "layers/conv2d/vars/1": np.ones(2, "f4"),
        "layers/dense/vars/0": np.ones((32, 2), "f4"), "layers/dense/vars/1": np.ones(2, "f4"),
    }  # fmt: skip
    whole = saved(path, layers, arrays).read_bytes()
    with zipfile.ZipFile(path) as opened:
        config = opened.read("config.json")
    for n in range(draws(120)):
        if n % 2:
            saved(path, layers, arrays, **{"config.json": damaged(config, draw)})
        else:
            path.write_bytes(damaged(whole, draw))
        begin = started()
        try:
            xcnn.load_keras(path, backend="numpy")
        except XcnnError:
            told += 1
        assert_soon(begin, 1)
    assert told > 40


def damaged(text, draw):
    """A byte changed, some taken out, or a number in place of a number."""
    text = bytearray(text)
    for _ in range(draw.choice([1, 1, 2])):
        at = draw.randrange(len(text))
        match draw.randrange(4):
            case 0:
                text[at] = draw.randrange(32, 127)
            case 1:
                del text[at : at + draw.choice([1, 5, 50])]
            case 2:
                text[at:at] = text[at : at + draw.choice([1, 5, 50])]
            case 3:
                numbers = [i for i, c in enumerate(text) if chr(c).isdigit()]
                if numbers:
                    text[draw.choice(numbers)] = draw.choice(b"0123456789-")
    return bytes(text)
