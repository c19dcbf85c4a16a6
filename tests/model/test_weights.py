"""Weights that a user sets are held to what the net declares when they are set, on every backend."""

import copy
import pickle
import re

import numpy as np
import pytest

import xcnn
from xcnn.core import tree
from xcnn.errors import DataError, DTypeError, OptionError, ShapeError
from xcnn.layers import Dense, Sequential
from xcnn.model.model import Model

X = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")


@pytest.fixture
def model(backend):
    return Model(Sequential(Dense(2)), (3,), backend=backend)


def host(model, name="kernel"):
    return np.array(model.backend.to_numpy(model.weights["dense1"][name]))


WHOLE = np.arange(6.0).reshape(3, 2)
TAKEN = {
    "float64": WHOLE,
    "float16": WHOLE.astype("float16"),
    "whole numbers": WHOLE.astype("int64"),
    "bytes": WHOLE.astype("uint8"),
    "lists": WHOLE.tolist(),
    "rows": list(WHOLE),
    "columns first": np.asfortranarray(WHOLE),
    "read-only": np.frombuffer(WHOLE.tobytes()).reshape(3, 2),
    "big-endian": WHOLE.astype(">f8"),
    "another library's": xcnn.backend("strict").asarray(WHOLE),
}
REFUSED = {
    "turned": (WHOLE.T, ShapeError, r"X101.*'dense1/kernel' differs.*\n.*got \(2, 3\), the net has \(3, 2\)"),
    "broadcast": (1.0, ShapeError, r"got \(\), the net has \(3, 2\)"),
    "flat": (WHOLE.ravel(), ShapeError, r"got \(6,\)"),
    "complex": (WHOLE + 0j, DTypeError, r"X103.*'dense1/kernel' must hold real numbers.*got complex128"),
    "texts": (WHOLE.astype(str), DTypeError, r"X103.*got <U"),
    "a text": ("ones", DTypeError, r"X103"),
    "flags": (WHOLE > 1, DTypeError, r"X103.*got bool"),
    "dates": (WHOLE.astype("int64").astype("M8[D]"), DTypeError, r"X103.*got datetime64"),
    "nothing": (None, DTypeError, r"X103.*got None"),
    "ragged": ([[1.0], [1.0, 2.0]], DataError, r"X203.*no regular array"),
    "a mask": (np.ma.ones((3, 2)), DataError, r"X203.*mask"),
    "too large": (WHOLE * 1e300, DataError, r"X203.*infinite in float32"),
    "a branch": ({"kernel": WHOLE}, ShapeError, r"X101.*'dense1/kernel/kernel' is none of its|is missing"),
}
WAYS = {
    "a leaf": lambda m, w: m.weights["dense1"].__setitem__("kernel", w),
    "a branch": lambda m, w: m.weights.__setitem__("dense1", {"bias": [1, 2], "kernel": w}),
    "all": lambda m, w: setattr(m, "weights", {"dense1": {"bias": [1, 2], "kernel": w}}),
    "update": lambda m, w: m.weights["dense1"].update({"bias": [1, 2]}, kernel=w),
    "or": lambda m, w: m.weights["dense1"].__ior__({"kernel": w, "bias": [1, 2]}),
}


@pytest.mark.parametrize("way", WAYS)
def test_numbers_in_the_nets_shape_are_taken_in_its_type(way, model):
    kind, order = model.weights["dense1"]["kernel"].dtype, list(model.state.weights["dense1"])
    for name, given in TAKEN.items():
        model.weights = {"dense1": {"kernel": np.zeros((3, 2)), "bias": np.zeros(2)}}
        WAYS[way](model, given)
        np.testing.assert_array_equal(host(model), WHOLE, err_msg=name)
        np.testing.assert_array_equal(host(model, "bias"), [0, 0] if way == "a leaf" else [1, 2])
        assert model.state.weights["dense1"]["kernel"].dtype == kind
        assert [*model.weights["dense1"]] == order  # norms are summed in it
    np.testing.assert_allclose(model.predict(X), X @ WHOLE + host(model, "bias"), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("way", WAYS)
def test_all_else_is_refused_when_it_is_set_and_changes_nothing(way, model):
    state = model.state
    for given, error, message in REFUSED.values():
        with pytest.raises(error, match=message):
            WAYS[way](model, given)
    assert model.state is state


def test_names_are_the_nets(model):
    state, bias = model.state, np.zeros(2)
    for change, error, told in [
        (lambda w: w.update(dense2={"bias": bias}), ShapeError, "'dense2/bias' is none of its"),
        (lambda w: w["dense1"].update(gamma=bias, bias=bias), ShapeError, "'dense1/gamma' is none of its"),
        (lambda w: w.update(dense1={"bias": bias}), ShapeError, "'dense1/kernel' is missing"),
        (lambda w: w.update(dense1=bias), ShapeError, "'dense1/kernel' is missing"),
        (lambda w: w["dense1"].setdefault("gamma", bias), ShapeError, "is none of its"),
        (lambda w: w.pop("dense1"), OptionError, "none can be taken out"),
        (lambda w: w["dense1"].popitem(), OptionError, "none can be taken out"),
        (lambda w: w["dense1"].clear(), OptionError, "none can be taken out"),
        (lambda w: w["dense1"].__delitem__("bias"), OptionError, "none can be taken out"),
        (lambda w: setattr(model, "weights", None), OptionError, "must be a dict"),
        (lambda w: setattr(model, "weights", [bias]), OptionError, "must be a dict"),
        (lambda w: setattr(model, "weights", {}), ShapeError, "'dense1/kernel' is missing"),
    ]:  # fmt: skip
        with pytest.raises(error, match=told):
            change(model.weights)
    assert model.state is state


def test_what_was_asked_for_shows_its_moment_and_sets_nothing_later(model):
    weights, kernel = model.weights, host(model)
    weights["dense1"]["bias"] = [3, 4]
    weights["dense1"]["kernel"] = WHOLE  # still the model's
    np.testing.assert_array_equal(host(model), WHOLE)
    np.testing.assert_array_equal(model.backend.to_numpy(weights["dense1"]["bias"]), [3, 4])
    before = model.weights
    model.step(X, [0, 1, 0, 1])
    np.testing.assert_array_equal(model.backend.to_numpy(before["dense1"]["kernel"]), WHOLE)
    with pytest.raises(OptionError, match=r"earlier moment.*\n.*model.weights\['dense1'\]"):
        before["dense1"]["kernel"] = kernel
    arrays = {id(a): a for _, a in tree.items(before)}  # array-api-strict's oldest can't be copied
    for mine in (copy.deepcopy(before, arrays), dict(before["dense1"])):  # a dict of one's own
        assert type(mine) is dict
        mine["bias"] = None
    assert type(copy.deepcopy(before, arrays)["dense1"]) is dict


def test_cells_are_set_on_every_backend(model):
    kernel = host(model)
    with model.edit("dense1/kernel") as k:
        k[1, 0] = 7
        k[2] *= 2
    kernel[1, 0], kernel[2] = 7, 2 * kernel[2]
    np.testing.assert_array_equal(host(model), kernel)
    with pytest.raises(ZeroDivisionError), model.edit("dense1/kernel") as k:
        k[0, 0] = 1 / 0
    with pytest.raises(OptionError, match="earlier moment"), model.edit("dense1/bias") as k:
        model.step(X, [0, 1, 0, 1])
    with pytest.raises(OptionError, match=r"no weight 'dense1/kernl'.*\n.*did you mean 'dense1/kernel'"):
        model.edit("dense1/kernl").__enter__()
    np.testing.assert_allclose(host(model).shape, (3, 2))


class Watching:
    """Keeps the weights that it sees when training begins and after each epoch."""

    def __init__(self):
        self.seen = []

    def __call__(self, model, history):
        self.seen.append(model.weights)

    start = lambda self, model: self(model, None)  # noqa: E731


def ways_into_a_model(folder, backend):
    """Models whose weights came into being in every way there is, by names."""
    made = Model(Sequential(Dense(2)), (3,), backend=backend)
    yield "drawn", made
    made.step(X, [0, 1, 0, 1])
    yield "stepped", made
    made.fit(X, [0, 1, 0, 1], epochs=2, batch_size=2, progress="none")
    yield "trained", made
    made.save(folder / "m.xcnn")
    yield "loaded", Model.load(folder / "m.xcnn", backend=backend)
    yield "moved", copy.copy(made).to(backend)
    yield "frozen", made.frozen()
    yield "copied", copy.copy(made)
    if backend.name != "strict":  # whose oldest arrays can't be copied
        yield "copied whole", pickle.loads(pickle.dumps(made))
    made.weights = {"dense1": {"kernel": WHOLE, "bias": [0, 0]}}
    yield "set whole", made
    made.weights["dense1"]["kernel"] = np.ones((3, 2))
    yield "set", made
    with made.edit("dense1/kernel") as kernel:
        kernel[:] = 1
    yield "edited", made
    made.fit(X, [0, 1, 0, 1], epochs=3, progress="none",
             callbacks=xcnn.EarlyStopping("loss", patience=1, restore_best=True))  # fmt: skip
    yield "restored", made
    made.fit(X, [0, 1, 0, 1], epochs=8, progress="none", resume=True)
    yield "resumed", made
    made.precision, made.optimizer = "float32", "sgd"
    yield "of another optimizer", made


IN_PLACE = {
    "a cell": lambda w: w.__setitem__((0, 0), 7.0),
    "a row": lambda w: w.__setitem__((0, ...), 7.0),
    "all": lambda w: w.__setitem__(..., 7.0),
    "twice": lambda w: w.__imul__(2.0),
    "more": lambda w: w.__iadd__(1.0),
}
NUMPYS = {
    "a view's": lambda w: w.T.__setitem__(0, 7),
    "a row's": lambda w: w[0].fill(7),
    "cells in a row": lambda w: w.reshape(-1).__setitem__(0, 7),
    "filled": lambda w: w.fill(7),
    "sorted": lambda w: w.sort(),
    "put": lambda w: w.put([0], 7),
    "copied into": lambda w: np.copyto(w, 7),
    "put by NumPy": lambda w: np.put(w, [0], 7),
    "out": lambda w: np.multiply(w, 2, out=w),
    "at": lambda w: np.add.at(w, (0, 0), 7),
    "a flag": lambda w: w.setflags(write=True),
    "the flag": lambda w: setattr(w.flags, "writeable", True),
}
AROUND = {
    "as NumPy's": lambda w: np.asarray(w).__setitem__(0, 7),
    "its flag": lambda w: np.asarray(w).setflags(write=True),
    "by NumPy's class": lambda w: w.view(np.ndarray).setflags(write=True),
    "its base": lambda w: w.base.setflags(write=True),
    "cell by cell": lambda w: w.flat.__setitem__(0, 7),
    "shuffled": lambda w: np.random.default_rng(0).shuffle(w),
    "its memory": lambda w: memoryview(w).cast("B").__setitem__(0, 7),
}
"""What NumPy says itself."""


def test_what_is_written_in_place_is_refused_wherever_weights_come_from(tmp_path, backend):
    if backend.name in ("torch", "cupy"):
        pytest.skip("its arrays can be written")
    for name, one in ways_into_a_model(tmp_path, backend):
        before, weight = host(one), one.weights["dense1"]["kernel"]
        for what, write in {**IN_PLACE, **(NUMPYS if backend.name == "numpy" else {})}.items():
            if backend.name == "jax" and what in ("twice", "more"):
                continue  # it has no such methods: w *= 2 makes another array
            with pytest.raises((OptionError, TypeError)) as told:
                write(weight)
            if backend.name != "jax":
                assert told.type is OptionError, (name, what)
                assert re.search(
                    r"X104.*'dense1/kernel' is read-only.*\n.*model\.edit\(\"dense1/kernel", str(told.value)
                )
        for write in AROUND.values() if backend.name == "numpy" else ():
            with pytest.raises((ValueError, TypeError), match=r"read-only|WRITEABLE"):
                write(weight)
        np.testing.assert_array_equal(host(one), before, err_msg=name)


def test_callbacks_see_them_so(backend):
    if backend.name in ("torch", "cupy", "jax"):
        pytest.skip("its arrays can be written, or are never")
    watching = Watching()
    model = Model(Sequential(Dense(2)), (3,), backend=backend)
    model.fit(X, [0, 1, 0, 1], epochs=2, progress="none", callbacks=watching)
    assert len(watching.seen) == 3
    for weights in watching.seen:
        with pytest.raises(OptionError, match="read-only"):
            weights["dense1"]["bias"][0] = 1.0


def test_copies_and_what_is_computed_are_numpys_own():
    weight = Model(Sequential(Dense(2)), (3,), backend="numpy").weights["dense1"]["kernel"]
    own = np.array(weight)
    made = {
        "copy": weight.copy(), "copy.copy": copy.copy(weight), "deepcopy": copy.deepcopy(weight), "twice": weight * 2,
        "pickle": pickle.loads(pickle.dumps(weight)), "astype": weight.astype("float64"), "array": np.array(weight),
        "zeros": np.zeros_like(weight), "joined": np.concatenate([weight, weight]), "product": weight @ weight.T,
        "mean": np.mean(weight, axis=0), "sum": weight.sum(axis=0), "where": np.where(weight > 0, weight, 0),
        "exp": np.exp(weight), "dot": np.dot(weight.T, weight), "stack": np.stack([weight, weight]),
    }  # fmt: skip
    for name, array in made.items():
        assert type(array) is np.ndarray, name
        assert array.flags.writeable, name
    for name in ("copy", "copy.copy", "deepcopy", "pickle", "array"):
        np.testing.assert_array_equal(made[name], own)
    assert repr(weight) == repr(own)
    np.testing.assert_array_equal(np.multiply(weight, 2, out=own), 2 * weight)
    assert np.shares_memory(weight, weight.T)


def test_good_weights_can_always_be_set_over_broken_ones(model):
    for broken in (None, np.zeros((9, 9)), "x"):
        model.state.weights["dense1"]["kernel"] = broken  # by the back door
        model.weights["dense1"]["kernel"] = WHOLE
        np.testing.assert_array_equal(host(model), WHOLE)
        model.state.weights["dense1"]["kernel"] = broken
        model.weights = {"dense1": {"kernel": WHOLE, "bias": [0, 0]}}
        np.testing.assert_allclose(model.predict(X), X @ WHOLE, rtol=1e-5, atol=1e-6)


def test_a_tree_that_was_asked_for_is_a_tree_to_its_library(model):
    """Forward passes, compiled ones too, take it as they take the model's own."""
    expected = model.predict(X)
    np.testing.assert_array_equal(model.backend.to_numpy(model.forward(X, model.weights)), expected)
    assert [path for path, _ in tree.items(tree.map(lambda w: w, model.weights))] == ["dense1/kernel", "dense1/bias"]
    if model.backend.name == "jax":
        import jax

        assert len(jax.tree.leaves(model.weights)) == 2
