"""Graph: nodes by names, forward and back, against the same written by hand; fused; and what it refuses."""

import numpy as np
import pytest

import xcnn
from xcnn.core import tree
from xcnn.errors import OptionError, ShapeError
from xcnn.layers import (
    Add,
    BatchNorm,
    Concatenate,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePool2D,
    Graph,
    MaxPool2D,
    Multiply,
    Next,
    ReLU,
    Residual,
    Run,
    Sequential,
    Sigmoid,
    Tanh,
)

NET = Graph(
    stem=Conv2D(4, 3, padding="same"),
    norm=BatchNorm(),
    act=ReLU(),
    left=(Conv2D(4, 3, padding="same"), "act"),
    left_act=ReLU(),
    right=(Dropout(0.4), "act"),
    drop=Dropout(0.4),
    both=(Add(), "left_act", "drop", "stem"),
    pool=MaxPool2D(2),
    flat=Flatten(),
    head=Dense(3),
)
"""Chains, a value that three take, and one that is taken across a chain."""
TWO = Graph(
    trunk=(Dense(4), "a"),
    act=Tanh(),
    joined=(Concatenate(), "act", "b"),
    first=(Dense(3), "joined"),
    second=(Multiply(), "act", "first_gate"),
    first_gate=(Sequential(Dense(4), Sigmoid()), "joined"),
    inputs=("a", "b"),
    outputs=("first", "second"),
)


def drawn(net, shape, backend, dtype="float64"):
    weights, output = net.init(np.random.default_rng(0), shape)
    return tree.map(lambda w: backend.asarray(w, dtype), weights), output


def on_host(backend, grads):
    values = {name: g.value if isinstance(g, Next) else g for name, g in tree.items(grads)}
    return {name: backend.to_numpy(g) for name, g in values.items()}


def test_a_chain_is_a_sequential(backend, rng):
    layers = {"one": Dense(5), "act": Tanh(), "two": Dense(2)}
    graph, chain = Graph(**layers), Sequential(**layers)
    x, dy = rng.standard_normal((4, 3)), backend.asarray(rng.standard_normal((4, 2)))
    results = []
    for net in (graph, chain):
        weights, output = drawn(net, (3,), backend)
        assert output == (2,)
        y, backward = net(weights, backend.asarray(x), Run(backend))
        dx, grads = backward(dy)
        results.append({"y": backend.to_numpy(y), "dx": backend.to_numpy(dx), **on_host(backend, grads)})
    assert results[0].keys() == results[1].keys()
    for name, value in results[0].items():
        np.testing.assert_array_equal(value, results[1][name])


def test_gradients_of_a_value_that_several_take_are_summed(backend, rng):
    """y = 2 h + tanh(h) h, h = x W."""
    net = Graph(
        h=(Dense(3, bias=False), "x"),
        t=(Tanh(), "h"),
        product=(Multiply(), "t", "h"),
        y=(Add(), "h", "product", "h"),
        inputs="x",
    )
    weights, _ = drawn(net, (2,), backend)
    x, dy = rng.standard_normal((4, 2)), rng.standard_normal((4, 3))
    w = backend.to_numpy(weights["h"]["kernel"])
    y, backward = net(weights, backend.asarray(x), Run(backend))
    dx, grads = backward(backend.asarray(dy))
    h = x @ w
    dh = dy * (2 + np.tanh(h) + h * (1 - np.tanh(h) ** 2))
    np.testing.assert_allclose(backend.to_numpy(y), 2 * h + np.tanh(h) * h, rtol=1e-12)
    np.testing.assert_allclose(backend.to_numpy(dx), dh @ w.T, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(backend.to_numpy(grads["h"]["kernel"]), x.T @ dh, rtol=1e-12, atol=1e-13)


def test_several_inputs_and_outputs(backend, rng):
    """Tuples in the order of their names, forward and back; gradients by central differences."""
    weights, output = drawn(TWO, ((2,), (3,)), backend)
    assert output == ((3,), (4,))
    xs = [rng.standard_normal((5, n)) for n in (2, 3)]
    dys = [rng.standard_normal((5, n)) for n in (3, 4)]

    def values(xs):
        ys, backward = TWO(weights, tuple(map(backend.asarray, xs)), Run(backend))
        return [backend.to_numpy(y) for y in ys], backward

    ys, backward = values(xs)
    assert [y.shape for y in ys] == [(5, 3), (5, 4)]
    dxs, grads = backward(tuple(map(backend.asarray, dys)))
    assert isinstance(dxs, tuple)
    assert [*grads] == ["trunk", "first", "first_gate"]
    v = [rng.standard_normal(x.shape) for x in xs]
    ahead, behind = (values([x + step * d for x, d in zip(xs, v, strict=True)])[0] for step in (1e-6, -1e-6))
    slope = sum(np.sum(dy * (a - b)) / 2e-6 for dy, a, b in zip(dys, ahead, behind, strict=True))
    assert slope == pytest.approx(sum(np.sum(backend.to_numpy(dx) * d) for dx, d in zip(dxs, v, strict=True)), rel=1e-7)


def test_nodes_may_be_written_in_any_order():
    turned = Graph(outputs="head", **{name: (NET[name], *taken) for (name, _), taken in reversed([*NET.wired_nodes()])})
    assert set(turned.layers) == set(NET.layers)
    names = [*turned.layers]
    for name, taken in zip(names, turned.takes, strict=True):
        assert all(one == "input" or names.index(one) < names.index(name) for one in taken)
    assert Graph(outputs="head", takes=NET.takes, **NET.layers) == NET


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("wants_dx", [True, False])
def test_fused_chains_give_what_the_nodes_give(train, wants_dx, backend, rng):
    """The same masks too: a node's key follows from its number in the graph."""
    fused = backend.rewrite(NET)
    if backend.name == "jax" or type(fused) is Graph:
        pytest.skip("the backend has no fused runs")
    assert sorted(fused.chains) == [n for n, _ in fused.stretches]
    assert max(end - first for first, end in fused.stretches) > 1
    weights, _ = drawn(NET, (2, 6, 6), backend, "float32")
    x = backend.asarray(rng.standard_normal((3, 2, 6, 6)), "float32")
    dy, results = backend.asarray(rng.standard_normal((3, 3)), "float32"), []
    for net in (NET, fused):
        with backend.active():
            y, backward = net(weights, x, Run(backend, train, (5,), wants_dx=wants_dx))
            dx, grads = backward(dy)
            y_alone, _ = net(weights, x, Run(backend, train, (5,), wants_backward=False))
        assert (dx is None) is not wants_dx
        dxs = {} if dx is None else {"dx": backend.to_numpy(dx)}
        assert [*grads] == ["stem", "norm", "left", "head"]
        results.append({"y": backend.to_numpy(y), "alone": backend.to_numpy(y_alone), **dxs, **on_host(backend, grads)})
    assert results[0].keys() == results[1].keys()
    for name, value in results[0].items():
        np.testing.assert_allclose(results[1][name], value, rtol=2e-5, atol=2e-6, err_msg=name)


def test_several_inputs_where_runs_are_fused(backend, rng):
    weights, _ = drawn(TWO, ((2,), (3,)), backend, "float32")
    xs = tuple(backend.asarray(rng.standard_normal((5, n)), "float32") for n in (2, 3))
    dys = tuple(backend.asarray(rng.standard_normal((5, n)), "float32") for n in (3, 4))
    found = []
    for net in (TWO, TWO if backend.name == "jax" else backend.rewrite(TWO)):
        with backend.active():
            ys, backward = net(weights, xs, Run(backend))
            dxs, grads = backward(dys)
        found.append([backend.to_numpy(a) for a in (*ys, *dxs)] + [*on_host(backend, grads).values()])
    for plain, fused in zip(*found, strict=True):
        np.testing.assert_allclose(fused, plain, rtol=1e-5, atol=1e-6)


def test_a_layer_of_a_users_own_may_take_several_values(backend, rng):
    class Difference:
        def init(self, rng, input_shape):
            assert input_shape == ((3,), (3,))
            return {}, input_shape[0]

        def __call__(self, weights, x, run):
            return x[0] - x[1], lambda dy: ((dy, -dy), {})

    net = Graph(a=(Dense(3), "x"), b=(Tanh(), "x"), y=(Difference(), "a", "b"), inputs="x")
    weights, _ = drawn(net, (3,), backend)
    x = rng.standard_normal((4, 3))
    y, backward = net(weights, backend.asarray(x), Run(backend))
    dx, _ = backward(backend.asarray(np.ones((4, 3))))
    kernel = backend.to_numpy(weights["a"]["kernel"])
    np.testing.assert_allclose(backend.to_numpy(y), x @ kernel - np.tanh(x), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(backend.to_numpy(dx), kernel.sum(1) - 1 + np.tanh(x) ** 2, rtol=1e-12, atol=1e-13)


def test_a_graph_is_a_layer_within_others(backend, rng):
    inner = Graph(one=Dense(4), two=(Add(), "one", "input"))
    weights, output = drawn(Sequential(Residual(inner), Dense(2)), (4,), backend)
    assert output == (2,)
    assert [*dict(tree.items(weights))][:2] == ["residual1/graph1/one/kernel", "residual1/graph1/one/bias"]
    nested = Graph(inner=(inner, "b"), outer=(TWO_IN, "inner", "a"), inputs=("a", "b"))
    weights, output = drawn(nested, ((4,), (4,)), backend)
    xs = tuple(backend.asarray(rng.standard_normal((2, 4))) for _ in range(2))
    y, backward = nested(weights, xs, Run(backend))
    assert tuple(y.shape) == (2, 4)
    assert [tuple(dx.shape) for dx in backward(y)[0]] == [(2, 4), (2, 4)]
    _, backward = nested(weights, xs, Run(backend, wants_dx=False))
    assert backward(y)[0] is None


TWO_IN = Graph(product=(Multiply(), "left", "right"), inputs=("left", "right"))


def test_values_are_let_go_of_when_nobody_takes_them_any_more():
    """In a prediction a long chain beside a shortcut keeps one value, not all."""
    import weakref

    kept = []

    class Watched:
        def init(self, rng, input_shape):
            return {}, input_shape

        def __call__(self, weights, x, run):
            y = x + 1
            kept.append(weakref.ref(y))
            alive.append(sum(one() is not None for one in kept))
            return y, lambda dy: (dy, {})

    alive = []
    net = Graph(**{f"n{n}": Watched() for n in range(9)}, last=(Add(), "n8", "n0"))
    net({}, np.zeros((2, 3)), Run(xcnn.backend("numpy"), wants_backward=False))
    assert max(alive) <= 3


REFUSED = {
    "a cycle": (
        {"a": (ReLU(), "b"), "b": (ReLU(), "a"), "c": (Add(), "a", "input")},
        "Graph goes round: 'a' takes 'b' takes 'a'.",
    ),
    "itself": ({"a": (Add(), "a", "input")}, "Graph goes round: 'a' takes 'a'."),
    "an unknown name": (
        {"a": (ReLU(), "inptu")},
        "'a' takes 'inptu', which is no input and no node. hint: did you mean",
    ),
    "what is no name": ({"a": (ReLU(), 3)}, "'a' takes 3, which is no input and no node."),
    "an unused node": (
        {"a": ReLU(), "b": (ReLU(), "input")},
        "Graph's node 'a' is taken by nobody. hint: leave it out, or",
    ),
    "an unused input": ({"a": ReLU(), "inputs": ("x", "y")}, "Graph's input 'y' is taken by nobody."),
    "an unknown output": ({"a": ReLU(), "outputs": "b"}, "Graph's output 'b' is no node."),
    "an input as output": ({"a": ReLU(), "outputs": ("a", "input")}, "Graph's output 'input' is no node."),
    "an output twice": (
        {"a": ReLU(), "outputs": ("a", "a")},
        "Graph's outputs must be a name or several different ones",
    ),
    "two of a name": ({"input": ReLU()}, "Graph has an input and a node of the name 'input'."),
    "two values for one": (
        {"a": (Dense(3), "input", "input")},
        "Graph's 'a': Dense takes 1 value; it is given 'input', 'input'. hint: Add(), Multiply() or Concatenate()",
    ),
    "one value for several": ({"a": (Add(), "input")}, "Add takes several values; it is given 'input'."),
    "several outputs within": (
        {"a": (TWO, "input", "input")},
        "'a' gives several values; a node gives one.",
    ),
    "no layer": ({"a": 3}, "Graph holds layers; 'a' is 3."),
    "a class": ({"a": (ReLU, "input")}, "Graph holds layers; 'a' is"),
    "no nodes": ({}, "Graph has no nodes."),
    "other takes": ({"a": ReLU(), "takes": (("input",), ("a",))}, "Graph's takes tells of 2 nodes; there are 1."),
    "nothing taken": ({"a": ReLU(), "takes": ((),)}, "Graph's 'a' takes nothing."),
}


@pytest.mark.parametrize("case", REFUSED)
def test_graphs_that_can_not_be(case):
    options, words = REFUSED[case]
    with pytest.raises(OptionError) as error:
        Graph(**options)
    assert error.value.code == "X104"
    assert words in " ".join(str(error.value).split())


def test_shapes_that_do_not_fit_are_told_by_node(backend):
    net = Graph(a=Conv2D(3, 3), b=(Conv2D(3, 5), "input"), both=(Add(), "a", "b", "input"))
    with pytest.raises(ShapeError) as error:
        net.init(np.random.default_rng(0), (3, 8, 8))
    told = " ".join(str(error.value).split())
    assert "Add 'both' adds cell by cell, but what it is given differs in shape." in told
    assert "it takes a (3, 6, 6), b (3, 4, 4), input (3, 8, 8)" in told
    deep = Sequential(deep=Graph(head=Dense(2)))
    weights, x = drawn(deep, (4,), backend)[0], backend.asarray(np.zeros((1, 5)))
    with pytest.raises(ShapeError, match=r"Dense 'deep.head' expects 4 input features but got 5."):
        deep(weights, x, Run(backend))
    for shape in ((2,), ((2,), (3,), (4,)), ((2, 3),)):
        with pytest.raises(ShapeError, match=r"Graph takes 2 inputs: a, b"):
            TWO.init(np.random.default_rng(0), shape)
    weights, _ = drawn(TWO, ((2,), (3,)), backend)
    with pytest.raises(ShapeError, match=r"Graph takes 2 inputs: a, b"):
        TWO(weights, backend.asarray(np.zeros((1, 2))), Run(backend))


def test_gradients_of_several_outputs_are_held_to_them(backend):
    weights, _ = drawn(TWO, ((2,), (3,)), backend)
    xs = tuple(backend.asarray(np.ones((4, n))) for n in (2, 3))
    (first, second), backward = TWO(weights, xs, Run(backend))
    for wrong in (first, (first,), [first, second], None):
        with pytest.raises(OptionError, match="wants a tuple of as many gradients"):
            backward(wrong)
    with pytest.raises(ShapeError, match=r"Multiply 'second' got a gradient that is not shaped like its output"):
        backward((first, first))
    with pytest.raises(ShapeError, match="a Graph of several outputs is a whole net"):
        Sequential(TWO_OUT, Dense(3)).init(np.random.default_rng(0), (2,))


TWO_OUT = Graph(a=Dense(2), b=(Dense(3), "a"), outputs=("a", "b"))


def test_a_hook_sees_each_node(backend):
    seen = []

    def look(path, layer, y, backward):
        seen.append((path, type(layer).__name__))
        return backward

    net = backend.rewrite(NET) if backend.name != "jax" else NET
    weights, _ = drawn(NET, (2, 6, 6), backend, "float32")
    x = backend.asarray(np.ones((1, 2, 6, 6)), "float32")
    with backend.active():
        net(weights, x, Run(backend, hook=xcnn.layers.layer.Hook(look)))
    assert [path for path, _ in seen] == [(name,) for name in NET.layers]


def test_reading_a_graph():
    assert repr(TWO).startswith("Graph(trunk=(Dense(")
    assert repr(TWO).endswith("outputs=('first', 'second'))")
    assert TWO["act"] == Tanh()
    assert GlobalAveragePool2D() not in TWO
    assert len(TWO) == 6
