"""Keras layers and models that are called several times, within each other, or with more than values."""

import json
import zipfile

import pytest
from keras_models import check_agrees
from spent import assert_soon, started

import xcnn
from xcnn.errors import ExchangeError

h5py = pytest.importorskip("h5py", reason="the extra keras")
pytest.importorskip("jax", reason="what Keras computes with here")
keras = pytest.importorskip("keras", reason="Keras is what is agreed with")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")

L = keras.layers
SHAPE = (4, 5, 3)


def given(name=None):
    return L.Input(SHAPE, name=name)


def convolved(x):
    return L.Conv2D(3, 1)(x)


def layers_without_weights():
    """What comes second in the list of layers comes first in the net; and it was called elsewhere before."""
    x, act = given(), L.ReLU()
    act(given())
    pool = L.MaxPooling2D(2, strides=1, padding="same")
    y = act(convolved(pool(x)))
    return keras.Model(x, pool(act(y)) - act(convolved(y)))


def models_without_weights():
    x, within = given(), given()
    inner = keras.Sequential([L.Input(SHAPE), L.MaxPooling2D(2, strides=1, padding="same"), L.ReLU()])
    pair = keras.Model(within, [L.Activation("tanh")(within), inner(within)])
    return keras.Model(x, inner(pair(inner(convolved(x)))[0]) - pair(x)[1])


def one_value_of_several():
    x, within = given(), given()
    inner = keras.Model(within, {"z": L.ReLU()(within), "a": convolved(within)})
    return keras.Model(x, L.Add()([inner(x)["a"], x]))


def models_with_names_for_their_inputs():
    x, z, a = given(), given("z"), given("a")
    inner = keras.Model({"z": z, "a": a}, L.Subtract()([z, a]))
    return keras.Model(x, inner({"a": convolved(x), "z": x}) + inner({"z": x, "a": x * 0.5}))


def models_with_inputs_in_order():
    x, one, two = given(), given(), given()
    return keras.Model(x, keras.Model([two, one], L.Subtract()([one, two]))([x, convolved(x)]))


def part_of_a_larger_one():
    """Calls are numbered within the model that is saved."""
    x = given()
    act = L.ReLU(name="wanted")
    return keras.Model(x, keras.Model(x, L.Dense(2)(act(convolved(x)))).get_layer("wanted").output)


NETS = [
    layers_without_weights, models_without_weights, one_value_of_several, models_with_names_for_their_inputs,
    models_with_inputs_in_order, part_of_a_larger_one,
]  # fmt: skip


@pytest.mark.parametrize("make", NETS)
def test_calls_are_those_of_keras(make, tmp_path):
    check_agrees(make(), tmp_path / "net.keras")


def refused(model, path):
    """What of it can't be expressed."""
    model.save(path)
    with pytest.raises(ExchangeError, match="X418") as told:
        xcnn.load_keras(path, backend="numpy")
    return set(told.value.missing.values())


def test_weights_that_would_be_shared(tmp_path):
    """By a model that is called several times too, at whatever depth."""
    x, path = given(), tmp_path / "net.keras"
    inner = keras.Sequential([L.Input(SHAPE), L.Conv2D(3, 1), L.ReLU()])
    assert refused(keras.Model(x, inner(inner(x))), path) == {"Conv2D that is called 2 times, and shares its weights"}
    outer = keras.Sequential([L.Input(SHAPE), inner, L.ReLU()])
    words = {"Conv2D that is called 2 times, and shares its weights"}
    assert refused(keras.Model(x, outer(x) - L.ReLU()(outer(convolved(x)))), path) == words


def test_calls_with_more_than_values(tmp_path):
    """What is random, or computed from the batch, outside of training."""
    x, path = given(), tmp_path / "net.keras"
    inner = keras.Sequential([L.Input(SHAPE), L.Dropout(0.5)])
    for y, words in (
        (L.BatchNormalization()(x, training=True), "BatchNormalization that is called with training=True"),
        (inner(x, training=True), "Dropout that is called with training=True"),
        (L.Softmax()(x, mask=x), "Softmax that is called with mask=..."),
    ):
        assert refused(keras.Model(x, y), path) == {words}
    check_agrees(keras.Model(x, L.BatchNormalization()(x, training=False)), path)


def test_values_of_other_ranks(tmp_path):
    """A layer of Keras's puts axes of one cell before those of a signal, an operation before the batch's."""
    x = L.Input((4, 4, 4))
    signal = L.Reshape((4, 4))(L.GlobalMaxPooling2D()(L.Conv2D(16, 1)(x)))
    assert refused(keras.Model(x, L.Add()([x, signal])), tmp_path / "net.keras") == {
        "Add with samples of 2 and of 3 axes"
    }
    gate = L.GlobalMaxPooling2D()(x)
    check_agrees(keras.Model(x, L.Multiply()([x, gate])), tmp_path / "net.keras")
    with_operation = keras.Model(x, keras.ops.multiply(x, gate))
    assert refused(with_operation, tmp_path / "net.keras") == {"Multiply with samples of 1 and of 3 axes"}


def test_models_that_unfold(tmp_path):
    """Each within the one around it, which calls it twice: more layers than any net has."""

    def keras_tensor(name, call):
        return {"class_name": "__keras_tensor__", "config": {"keras_history": [name, call, 0]}}

    def model(name, layer):
        calls = [{"args": [keras_tensor(*one)], "kwargs": {}} for one in (("x", 0), ("inner", 0))]
        inner = {**layer, "config": {**layer["config"], "name": "inner"}, "inbound_nodes": calls}
        start = {
            "module": "keras.layers",
            "class_name": "InputLayer",
            "config": {"name": "x", "batch_shape": [None, 3]},
        }
        last = ["inner", 1 + ("layers" in layer["config"]), 0]
        config = {"name": name, "layers": [start, inner], "input_layers": ["x", 0, 0], "output_layers": last}
        return {"module": "keras", "class_name": "Functional", "config": config}

    net = {"module": "keras.layers", "class_name": "ReLU", "config": {"name": "act"}}
    path = tmp_path / "net.keras"
    h5py.File(tmp_path / "weights", "w").close()
    for depth in range(16):
        net = model(f"m{depth}", net)
        if depth in (1, 15):
            with zipfile.ZipFile(path, "w") as whole:
                whole.writestr("config.json", json.dumps(net))
                whole.write(tmp_path / "weights", "model.weights.h5")
        if depth == 1:
            assert len(xcnn.load_keras(path, backend="numpy").net) == 4
    begin = started()
    with pytest.raises(ExchangeError, match="counted as often as they are called"):
        xcnn.load_keras(path, backend="numpy")
    assert_soon(begin, 1)
