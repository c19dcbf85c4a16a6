"""Weights that a user sets are held to what the net declares when they are set, on every backend."""

import copy

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


def test_numpys_arrays_can_be_written_wherever_they_come_from(tmp_path, backend):
    """As new ones can: NumPy's own words for one that can't be would not say what to do."""
    model = Model(Sequential(Dense(2)), (3,), backend=backend)
    model.save(tmp_path / "m.xcnn")
    for one in (model.to("numpy"), Model.load(tmp_path / "m.xcnn", backend="numpy")):
        one.weights["dense1"]["kernel"][:] = WHOLE
        np.testing.assert_allclose(one.predict(X), X @ WHOLE, rtol=1e-5, atol=1e-6)


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
