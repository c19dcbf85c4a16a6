"""NumPy's update in one pass: the rules of xcnn/optimizers.py to the last bit, on blocks and in the library."""

import math

import numpy as np
import pytest
from optimizer_cases import OPTIMIZERS
from whole import compiled
from xcnn_native import update as kernels
from xcnn_native.library import library
from xcnn_numpy import update

import xcnn
from xcnn.core import tree
from xcnn.errors import DivergedError, OptionError
from xcnn.layers import Next
from xcnn.training.optimizers import SGD, Adam, AdamW, RMSprop, global_norm
from xcnn.training.optimizers import weight_norm as reach_of

SHAPES = {
    "conv1": {"kernel": (3, 1, 5, 5), "bias": (3,)},
    "inner": {"first": {"scale": (), "none": (0, 4)}},
    "dense1": {"kernel": (300, 251)},  # two blocks and a part
}
TYPES = ["float32", "float64"]


@pytest.fixture(params=["blocks", "kernels"])
def way(request, monkeypatch):
    """One of the two implementations, whichever is the default here."""
    if request.param == "blocks":
        chosen = update.by_blocks, update.sum_of_squares
    else:
        if library() is None:
            pytest.skip("the compiled library was not built, or is switched off")
        chosen = kernels.by_kernels, kernels.sum_of_squares
    monkeypatch.setattr(update, "implementation", lambda: chosen)
    return chosen


@pytest.fixture
def fast():
    return xcnn.backend("numpy")


def draw(rng, dtype, size=1.0):
    def leaves(shapes):
        return {
            name: leaves(shape) if isinstance(shape, dict) else np.asarray(rng.normal(size=shape) * size, dtype)
            for name, shape in shapes.items()
        }

    return leaves(SHAPES)


def assert_equal(got, expected):
    assert [name for name, _ in tree.items(got)] == [name for name, _ in tree.items(expected)]
    for (name, a), b in zip(tree.items(got), tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name, strict=isinstance(b, np.ndarray))


def norm_of(grads):
    """In long double, where nothing overflows."""
    cells = [np.ravel(g).astype(np.longdouble) for g in tree.leaves(grads) if not isinstance(g, Next)]
    return float(np.sqrt(np.sum(np.square(np.concatenate(cells)))))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_it_is_the_rule_to_the_last_bit(optimizer, dtype, way, fast, rng):
    weights = draw(rng, dtype)
    state = optimizer.init(weights)
    for _ in range(4):
        grads = draw(rng, dtype)
        expected, expected_state = optimizer.update(grads, state, weights)
        weights, state, norm, weight_norm = fast.update(optimizer, grads, state, weights)
        assert_equal(weights, expected)
        assert_equal(state, expected_state)
        assert isinstance(norm, float)  # it was this path that ran
        assert norm == pytest.approx(norm_of(grads), rel=1e-6 if dtype == "float32" else 1e-14)
        assert weight_norm == pytest.approx(norm_of(weights), rel=1e-6 if dtype == "float32" else 1e-14)


@pytest.mark.parametrize("limit", [1e-3, 0.7, 1e4])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", ["momentum", "adam", "adamw", "rmsprop"])
def test_clipping(name, dtype, limit, way, fast, rng):
    """The norm that clips is summed in another order, and so may round otherwise.

    In double precision, by which n additions are off by about the square root of n roundings.
    """
    optimizer = type(OPTIMIZERS[name])(clip_norm=limit)
    weights, grads = draw(rng, dtype), draw(rng, dtype)
    state = optimizer.init(weights)
    expected, expected_state = optimizer.update(grads, state, weights)
    got, got_state, norm, _ = fast.update(optimizer, grads, state, weights)
    cells = sum(np.size(g) for g in tree.leaves(grads))
    few = 8 * np.finfo(dtype).eps + math.sqrt(cells) * np.finfo("float64").eps
    for a, b in zip(tree.leaves({**got, **got_state}), tree.leaves({**expected, **expected_state}), strict=True):
        np.testing.assert_allclose(a, b, rtol=few, atol=few * np.max(np.abs(b), initial=0))
    assert norm == pytest.approx(norm_of(grads), rel=1e-6)  # before clipping


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (
            SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.02, clip_norm=5.0),
            lambda t, p: t.SGD(p, 0.1, momentum=0.9, nesterov=True, weight_decay=0.02),
        ),
        (Adam(0.01, clip_norm=5.0), lambda t, p: t.Adam(p, 0.01)),
        (AdamW(0.01, clip_norm=5.0), lambda t, p: t.AdamW(p, 0.01)),
        (
            RMSprop(0.01, momentum=0.5, weight_decay=0.1, clip_norm=5.0),
            lambda t, p: t.RMSprop(p, 0.01, momentum=0.5, weight_decay=0.1),
        ),
    ],
    ids=["sgd", "adam", "adamw", "rmsprop"],
)
def test_against_pytorch(ours, theirs, way, fast, rng):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle; it is not installed")
    weights = draw(rng, "float64")
    parameters = [torch.tensor(w, requires_grad=True) for w in tree.leaves(weights)]
    optimizer, state = theirs(torch.optim, parameters), ours.init(weights)
    for _ in range(3):
        grads = draw(rng, "float64")
        weights, state, norm, weight_norm = fast.update(ours, grads, state, weights)
        together = torch.cat([torch.tensor(g).ravel() for g in tree.leaves(grads)])
        expected = float(torch.linalg.vector_norm(together))
        for parameter, g in zip(parameters, tree.leaves(grads), strict=True):
            parameter.grad = torch.tensor(g) * (5.0 / expected)  # clip_grad_norm_ would add 1e-6 to the norm
        optimizer.step()
        total = torch.linalg.vector_norm(torch.cat([p.detach().ravel() for p in parameters]))
        assert (norm, weight_norm) == (pytest.approx(expected, rel=1e-12), pytest.approx(float(total), rel=1e-12))
    for w, parameter in zip(tree.leaves(weights), parameters, strict=True):
        np.testing.assert_allclose(w, parameter.detach().numpy(), rtol=1e-10, atol=1e-13)


def test_next_replaces_the_weight_and_counts_only_among_the_weights(way, fast, rng):
    weights = {"scale": rng.normal(size=3), "mean": rng.normal(size=(4, 5))}
    value = np.asfortranarray(rng.normal(size=(4, 5)))
    grads = {"scale": rng.normal(size=3), "mean": Next(value)}
    for optimizer in (SGD(0.1, momentum=0.9, clip_norm=1e-3), Adam(0.1)):
        state = optimizer.init(weights)
        new, new_state, norm, weight_norm = fast.update(optimizer, grads, state, weights)
        assert new["mean"] is value
        moment = optimizer.moments[0]
        assert new_state[moment]["mean"] is state[moment]["mean"]
        assert norm == pytest.approx(norm_of(grads))
        assert weight_norm == pytest.approx(norm_of(new))


def test_only_next(way, fast):
    weights, grads = {"mean": np.ones(2)}, {"mean": Next(np.full(2, 3.0))}
    new, state, norm, weight_norm = fast.update(SGD(clip_norm=1.0), grads, {"step": 0}, weights)
    assert (norm, weight_norm, state) == (0.0, pytest.approx(math.sqrt(18)), {"step": 1})
    np.testing.assert_array_equal(new["mean"], [3.0, 3.0])


def test_no_weights(way, fast):
    assert fast.update(SGD(), {"relu": {}}, {"step": 0}, {"relu": {}}) == ({"relu": {}}, {"step": 1}, 0.0, 0.0)


ODD = {
    "transposed": lambda a: np.ascontiguousarray(a.T).T,
    "strided": lambda a: np.repeat(a, 2, axis=0)[::2],
    "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
    "unaligned": lambda a: np.frombuffer(b"x" + a.tobytes(), a.dtype, offset=1).reshape(a.shape),
    "reversed": lambda a: a[::-1].copy()[::-1],
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_memory_in_another_order(odd, way, fast, rng):
    weights, grads = (tree.map(lambda a: a, {"kernel": rng.normal(size=(7, 9))}) for _ in range(2))
    optimizer = Adam(0.1)
    expected = optimizer.update(grads, optimizer.init(weights), weights)
    oddly = [tree.map(odd, each) for each in (grads, {"first": optimizer.init(weights)["first"]}, weights)]
    got = fast.update(optimizer, oddly[0], {**optimizer.init(weights), **oddly[1]}, oddly[2])
    assert_equal(got[0], expected[0])
    assert_equal(got[1], expected[1])
    assert isinstance(got[2], float)


def test_nothing_that_went_in_is_written_and_what_came_out_stays(way, fast, rng):
    """Not even when memory is recycled: whoever holds old weights keeps them as they were."""
    optimizer = Adam(0.1)
    weights = {"kernel": np.asarray(rng.normal(size=(200, 300)), "float32")}
    state, held = optimizer.init(weights), []
    for _ in range(6):
        grads = {"kernel": np.asarray(rng.normal(size=(200, 300)), "float32")}
        held += [(a, a.copy()) for each in (weights, grads, state) for a in tree.leaves(each)[-2:] if np.ndim(a)]
        weights, state, *_ = fast.update(optimizer, grads, state, weights)
        arrays = [a for each in (weights, grads, state) for a in tree.leaves(each) if np.ndim(a)]
        assert not any(np.shares_memory(a, b) for n, a in enumerate(arrays) for b in arrays[:n])
    for array, before in held:
        np.testing.assert_array_equal(array, before)


def test_weights_that_nobody_holds_are_recycled(way, fast):
    weights, addresses = {"kernel": np.ones((300, 300))}, []
    grads, state = {"kernel": np.ones((300, 300))}, {"step": 0}
    for _ in range(6):
        weights, state, *_ = fast.update(SGD(), grads, state, weights)
        addresses.append(weights["kernel"].__array_interface__["data"][0])
    assert len(set(addresses)) == 2


@pytest.mark.parametrize("optimizer", [SGD(0.1), Adam()])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", [70_000, 5])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_cell_that_is_not_finite_shows(bad, size, dtype, optimizer, way, fast):
    ones = {"kernel": np.ones(size, dtype)}
    spoilt = {"kernel": np.ones(size, dtype)}
    spoilt["kernel"][-2] = bad
    with np.errstate(all="ignore"):
        *_, norm, weight_norm = fast.update(optimizer, spoilt, optimizer.init(ones), ones)
        assert not math.isfinite(norm)
        assert not math.isfinite(weight_norm)
        *_, norm, weight_norm = fast.update(optimizer, ones, optimizer.init(ones), spoilt)
        assert norm == pytest.approx(math.sqrt(size))
        assert not math.isfinite(weight_norm)


def test_large_gradients_have_a_norm_and_can_be_clipped(way, fast):
    """The squares of 1e25 are beyond float32, the norm is not."""
    weights, grads = {"kernel": np.zeros(50_000, "float32")}, {"kernel": np.full(50_000, 1e25, "float32")}
    with np.errstate(over="ignore"):
        assert float(global_norm(grads)) == pytest.approx(1e25 * math.sqrt(50_000), rel=1e-6)
        new, _, norm, weight_norm = fast.update(SGD(1.0, clip_norm=1.0), grads, {"step": 0}, weights)
    assert norm == pytest.approx(1e25 * math.sqrt(50_000), rel=1e-6)
    assert weight_norm == pytest.approx(1.0, rel=1e-6)
    np.testing.assert_allclose(new["kernel"], -1 / math.sqrt(50_000), rtol=1e-6)


@pytest.mark.parametrize(("dtype", "lost", "large"), [("float32", 1e20, 1e18), ("float64", 1e160, 1e150)])
def test_weights_whose_squares_overflow_are_lost_as_by_default(dtype, lost, large, way, fast):
    for value, finite in ((lost, False), (large, True)):
        weights, grads = {"kernel": np.full(9, value, dtype)}, {"kernel": np.zeros(9, dtype)}
        with np.errstate(over="ignore"):
            *_, weight_norm = fast.update(SGD(), grads, {"step": 0}, weights)
            assert math.isfinite(weight_norm) == np.isfinite(reach_of(weights, {})) == finite


def test_a_net_whose_gradients_overflow_is_still_stopped(way):
    net = xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(2))
    model = xcnn.Model(net, (1, 2, 2), optimizer=SGD(1e30), backend="numpy")
    with np.errstate(all="ignore"), pytest.raises(DivergedError, match=r"X501.*the weights became too large"):
        model.fit(np.ones((4, 1, 2, 2), "float32"), np.array([0, 1, 0, 0]), progress="none")


class Twice(SGD):
    """A rule of one's own, and not one for each cell by itself."""

    def change(self, rate, step, w, g, *moments):
        return (w - 2 * rate * np.mean(g),)


class Whole(SGD):
    """An update of one's own."""

    def update(self, grads, state, weights):
        return weights, {"step": state["step"] + 10}


def test_ones_own_optimizer_is_called_as_it_is(way, fast):
    weights, grads = {"kernel": np.zeros(3)}, {"kernel": np.array([0.0, 0.0, 3.0])}
    new, *_ = fast.update(Twice(0.5), grads, {"step": 0}, weights)
    np.testing.assert_array_equal(new["kernel"], [-1.0, -1.0, -1.0])
    new, state, *_ = fast.update(Whole(), grads, {"step": 0}, weights)
    assert (new, state) == (weights, {"step": 10})


@pytest.mark.parametrize("types", [("float32", "float64"), ("float16", "float16"), ("float32", ">f4")])
def test_other_types_go_the_general_way(types, way, fast):
    weights, grads = {"kernel": np.ones(3, types[0])}, {"kernel": np.full(3, 0.5, types[1])}
    expected, _ = SGD(0.1).update(grads, {"step": 0}, weights)
    new, _, norm, _ = fast.update(SGD(0.1), grads, {"step": 0}, weights)
    assert_equal(new, expected)
    assert norm == pytest.approx(math.sqrt(0.75), rel=1e-3)


def test_a_step_that_would_change_a_weights_type_is_told(way):
    def wide(y, t):
        return np.mean(y), np.ones(y.shape, "float64")

    model = xcnn.Model(xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(2)), (1, 2, 2), loss=wide, backend="numpy")
    with pytest.raises(OptionError, match=r"X104(?s:.*)gradient by the predictions(?s:.*)\(4, 2\) of float64"):
        model.step(np.ones((4, 1, 2, 2), "float32"), np.ones((4, 2), "float32"))


def test_a_gradient_of_another_shape_goes_the_general_way(way, fast):
    weights, grads = {"kernel": np.ones((2, 3))}, {"kernel": np.ones(3)}
    new, *_ = fast.update(SGD(0.5), grads, {"step": 0}, weights)
    np.testing.assert_array_equal(new["kernel"], np.full((2, 3), 0.5))


def test_a_gradient_that_is_missing_is_an_error(way, fast):
    weights = {"conv1": {"kernel": np.ones(2), "bias": np.ones(1)}}
    with pytest.raises(KeyError, match="bias"):
        fast.update(SGD(), {"conv1": {"kernel": np.ones(2)}}, {"step": 0}, weights)


def test_without_fusion_the_optimizer_updates(monkeypatch, rng):
    monkeypatch.setattr(update, "update", lambda *arguments: pytest.fail("it was not to be called"))
    weights, grads, optimizer = draw(rng, "float32"), draw(rng, "float32"), Adam(0.1)
    got = xcnn.backend("numpy", fuse=False).update(optimizer, grads, optimizer.init(weights), weights)
    expected = optimizer.update(grads, optimizer.init(weights), weights)
    assert_equal(got[0], expected[0])
    assert_equal(got[1], expected[1])
    assert (got[2], got[3]) == (global_norm(grads), reach_of(*expected))


def test_every_backend_has_the_same_update(backend, rng):
    optimizer = AdamW(0.1, clip_norm=0.5)
    weights, grads = draw(rng, "float64"), draw(rng, "float64")
    there = [tree.map(backend.asarray, each) for each in (grads, weights)]
    step = compiled(lambda grads, weights: backend.update(optimizer, grads, optimizer.init(weights), weights), backend)
    new, state, norm, weight_norm = step(*there)
    expected, expected_state = optimizer.update(grads, optimizer.init(weights), weights)
    for trees in ((new, expected), (state["second"], expected_state["second"])):
        got, right = (dict(tree.items(each)) for each in trees)
        assert got.keys() == right.keys()
        for path, a in got.items():
            np.testing.assert_allclose(backend.to_numpy(a), right[path], rtol=1e-12, atol=1e-15, err_msg=path)
    assert float(norm) == pytest.approx(norm_of(grads), rel=1e-12)
    assert float(weight_norm) == pytest.approx(norm_of(expected), rel=1e-12)


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_an_array_can_be_changed_in_parts(optimizer, way, rng):
    make_change, squares = way
    old = [np.abs(rng.normal(size=1000)) for _ in range(2 + len(optimizer.moments))]
    whole, parts = ([np.zeros(1000) for _ in old[1:]] for _ in range(2))
    change = make_change(optimizer, 0.1, 3, 0.5, 1)
    (expected,) = change([old], [whole])
    ranges = [slice(0, 137), slice(137, 900), slice(900, 1000)]
    sums = change([[a[part] for a in old] for part in ranges], [[a[part] for a in parts] for part in ranges])
    np.testing.assert_array_equal(parts, whole)
    np.testing.assert_allclose(np.sum(sums, axis=0), expected, rtol=1e-13)
    assert expected == (pytest.approx(squares(old[1])), pytest.approx(squares(whole[0])))


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_threads_change_a_large_array_as_one_does(optimizer, way, rng):
    make_change, _ = way
    old = [np.abs(rng.normal(size=200_001)) for _ in range(2 + len(optimizer.moments))]
    new = [[np.zeros_like(a) for a in old[1:]] for _ in range(2)]
    sums = [make_change(optimizer, 0.1, 3, 0.5, n)([old], [arrays]) for n, arrays in zip((1, 3), new, strict=True)]
    np.testing.assert_array_equal(new[1], new[0])
    np.testing.assert_allclose(sums[1], sums[0], rtol=1e-12)


@pytest.mark.parametrize("dtype", TYPES)
def test_sums_are_the_same_bits_for_any_number_of_threads(dtype, way, rng):
    """As units and columns follow from the number of cells alone."""
    make_change, squares = way
    old = [np.abs(rng.normal(size=150_001)).astype(dtype) for _ in range(4)]
    new = [np.zeros_like(a) for a in old[1:]]
    sums = {make_change(Adam(), 0.1, 3, 1.0, threads)([old], [new])[0] for threads in (1, 2, 7)}
    assert len(sums) == 1
    if make_change is not update.by_blocks:
        assert sums == {(squares(old[1]), squares(new[0]))}


def test_the_library_updates_where_it_is_there():
    make_change, _ = update.implementation()
    assert (make_change is update.by_blocks) == (library() is None)


def test_blocks_run_without_the_library(monkeypatch):
    monkeypatch.setattr(update, "library", lambda: None)
    assert update.implementation() == (update.by_blocks, update.sum_of_squares)
