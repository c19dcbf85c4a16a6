"""The page's arithmetic, layer by layer and loss by loss, held to NumPy's: run by Node, without a browser."""

import json
import shutil
import subprocess
from functools import partial

import numpy as np
import pytest
from cases import CASES

import xcnn
from xcnn.core import tree
from xcnn.explainer.containers import CONTAINERS
from xcnn.explainer.description import ACTIVATIONS, OPERATIONS, traced_arrays
from xcnn.explainer.page import part

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(
    NODE is None, reason="Node is not installed: the page's scripts are run in a browser alone"
)

ENGINE = ("numbers.js", "correlation.js", "activations.js", "operations.js", "containers.js", "losses.js", "network.js")
PROGRAM = """
const cases = JSON.parse(require("fs").readFileSync(0, "utf8"));
const listed = (record) => Object.fromEntries(Object.entries(record).map(([name, cells]) => [name, [...cells]]));
process.stdout.write(JSON.stringify(cases.map((data) => {
  const network = new Network(data);
  const result = network.run();
  const layers = {};
  for (const [path, { y, dx, grads }] of result.layers)
    layers[path] = { ...listed({ y, dx: sideBySide(dx) }), grads: listed(grads) };
  const found = comparison(result, data.reference);
  const weight = data.probe ? network.weights.get(data.probe).cells : network.x;
  const slope = network.difference(weight, 0).slope;
  const before = result.loss;
  network.descend(result, 1e-3);
  const after = network.run().loss;
  network.reset();
  return { loss: before, after, again: network.run().loss, y: [...result.y], dx: [...result.dx], layers, found, slope };
})));
"""


def computed(explanations):
    """What the page's scripts make of each page's data."""
    script = "\n".join(['"use strict";', *map(part, ENGINE), PROGRAM])
    data = json.dumps([{**each.data, "probe": probe(each)} for each in explanations])
    done = subprocess.run([NODE, "-e", script], input=data, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def probe(page):
    """A weight whose difference is asked for; "" where there is none."""
    return next((path for path in page.data["weights"] if "running" not in path), "")


def of_layer(layer, shape):
    """The page of a net that is this layer, with random weights, and statistics that are none of a start."""
    rng = np.random.default_rng(7)
    model = xcnn.Model(layer, shape, loss="mse", backend="numpy", dtype="float64", seed=2)
    model.weights = {name: randomised(rng, name, leaf) for name, leaf in model.weights.items()}
    return xcnn.explain(model, rng.normal(size=shape), rng.normal(size=(1, *model.output_shape)))


def randomised(rng, name, leaf):
    if isinstance(leaf, dict):
        return {inner: randomised(rng, inner, each) for inner, each in leaf.items()}
    drawn = rng.normal(size=leaf.shape)
    return drawn**2 + 0.5 if name in ("running_variance", "running_steps") else drawn


def assert_same(made, trace):
    """Every cell of every array of the trace."""
    assert made["loss"] == pytest.approx(trace.loss, rel=1e-12)
    np.testing.assert_allclose(made["y"], trace.y[0].ravel(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(made["dx"], trace.dx[0].ravel(), rtol=1e-10, atol=1e-12)
    for path, array in traced_arrays(trace).items():
        layer, _, name = path.rpartition("/")
        if layer:
            mine = made["layers"][layer]
            cells = mine[name] if name in ("y", "dx") else mine["grads"][name[1:]]
            np.testing.assert_allclose(cells, array.ravel(), rtol=1e-10, atol=1e-12, err_msg=path)


def test_every_layer_computes_as_numpy_does():
    """All of the table, containers and graphs too."""
    pages = [of_layer(layer, shape) for layer, shape in CASES]
    for page, made, (layer, _) in zip(pages, computed(pages), CASES, strict=True):
        assert_same(made, page.trace)
        assert made["found"]["worst"] < 1e-12, layer
        assert made["found"]["count"] > 5
        name, _, weight = probe(page).rpartition("/")
        first = page.trace[name].grads[weight] if name else page.trace.dx
        assert made["slope"] == pytest.approx(first.ravel()[0], rel=1e-5, abs=1e-8)
        assert made["again"] == made["loss"]
        if tree.leaves(page.trace.grads):
            assert made["after"] < made["loss"]


def test_a_layer_that_can_t_be_followed_is_refused():
    class Own(xcnn.ReLU):
        """May compute something else."""

    class OwnChain(xcnn.Sequential):
        """So may this."""

    with pytest.raises(xcnn.errors.OptionError, match="no arithmetic for Own 'own1'"):
        of_layer(xcnn.Sequential(Own()), (3,))
    with pytest.raises(xcnn.errors.OptionError, match="no arithmetic for OwnChain 'ownchain1'"):
        of_layer(xcnn.Sequential(OwnChain(xcnn.ReLU())), (3,))


def test_the_table_has_every_layer_of_xcnn():
    known = {*OPERATIONS, *CONTAINERS}
    offered = {thing for name in xcnn.layers.__all__ if isinstance(thing := getattr(xcnn.layers, name), type)}
    concrete = {c for c in offered if hasattr(c, "init") and callable(c) and c is not xcnn.Layer}
    assert concrete - known == set()
    assert {*ACTIVATIONS} <= {*OPERATIONS}


LOSSES = [
    ("cross_entropy", np.array([1])),
    (partial(xcnn.losses.cross_entropy, label_smoothing=0.1), np.array([2])),
    ("cross_entropy", np.array([[0.2, 0.5, 0.3]])),
    ("binary_cross_entropy", np.array([1])),
    ("binary_cross_entropy_with_logits", np.array([[0.0, 0.25, 1.0]])),
    ("mse", np.array([[1.0, -2.0, 0.5]])),
    ("mae", np.array([[1.0, -2.0, 0.5]])),
    (partial(xcnn.losses.huber, delta=0.3), np.array([[1.0, -2.0, 0.5]])),
]


def test_every_loss_computes_as_numpy_does():
    pages = []
    for loss, y in LOSSES:
        last = [xcnn.Sigmoid()] if loss == "binary_cross_entropy" else []
        net = xcnn.Sequential(xcnn.Dense(3), *last)
        model = xcnn.Model(net, (4,), loss=loss, backend="numpy", dtype="float64", seed=1)
        pages.append(xcnn.explain(model, np.array([0.5, -1.0, 2.0, 0.1]), y))
    map_net = xcnn.Sequential(xcnn.Conv2D(3, 2))
    segmenter = xcnn.Model(map_net, (1, 3, 4), loss="cross_entropy", backend="numpy", dtype="float64")
    pages.append(xcnn.explain(segmenter, np.ones((1, 3, 4)), np.array([[[0, 1, 2], [2, 1, 0]]])))
    for page, made in zip(pages, computed(pages), strict=True):
        assert_same(made, page.trace)
        assert made["found"]["worst"] < 1e-12


TOLD = [
    ("cross_entropy", {}, 3, ["E = −Σₖ tₖ log pₖ,  p = softmax(y)", "∂E/∂yₖ = pₖ − tₖ"]),
    ("cross_entropy", {"label_smoothing": 0.3}, 4, ["∂E/∂yₖ = pₖ − qₖ", "qₖ = (1 − s) tₖ + s / 4,  s = 0.3"]),
    ("cross_entropy", {"places": 6}, 18, ["of each of n = 6 places", "∂E/∂yₖ = ( pₖ − tₖ ) / n"]),
    ("mse", {}, 5, ["∂E/∂yₖ = 2 (yₖ − tₖ) / n", "n = 5"]),
    ("huber", {"delta": 0.2}, 2, ["n = 2", "δ = 0.2"]),
    ("huber", {}, 2, ["δ = 1"]),
]


def test_a_loss_is_told_with_its_options():
    """What stands in a formula is said: n, δ, smoothed labels, places; and nothing that doesn't."""
    asked = json.dumps([[{"name": name, "options": options}, count] for name, options, count, _ in TOLD])
    script = "\n".join(['"use strict";', part("numbers.js"), part("losses.js")])
    script += f"process.stdout.write(JSON.stringify({asked}.map(([loss, count]) => formulasOf(loss, count))))"
    done = subprocess.run([NODE, "-e", script], capture_output=True, text=True, timeout=60, check=True)
    for formulas, (_, _, _, expected) in zip(json.loads(done.stdout), TOLD, strict=True):
        told = "\n".join(formulas)
        assert all(each in told for each in expected), told
        assert ("/ n" in told or "1/n" in told) == ("n = " in told)


def test_a_graph_of_several_inputs_and_outputs_computes_as_numpy_does():
    """Each output with a loss of its own, and of its own weight; inputs by name or place, with or without batch."""
    net = xcnn.Graph(
        stem=(xcnn.Conv2D(2, 3, padding="same"), "image"),
        gate=(xcnn.Dense(2), "kind"),
        constructor=(xcnn.Multiply(), "stem", "gate"),
        inner=(xcnn.Graph(sum=(xcnn.Add(), "a", "b"), inputs=("a", "b")), "stem", "constructor"),
        pool=(xcnn.GlobalAveragePool2D(), "inner"),
        class_=(xcnn.Dense(3), "pool"),
        mask=(xcnn.Sequential(xcnn.Conv2D(1, 1), xcnn.Sigmoid()), "constructor"),
        inputs=("image", "kind"),
        outputs=("class_", "mask"),
    )
    losses = {"class_": partial(xcnn.losses.cross_entropy, label_smoothing=0.1), "mask": ("binary_cross_entropy", 0.3)}
    shapes = {"image": (1, 4, 5), "kind": (3,)}
    model = xcnn.Model(net, shapes, loss=losses, backend="numpy", dtype="float64", seed=3)
    rng = np.random.default_rng(5)
    x, y = {name: rng.normal(size=shape) for name, shape in shapes.items()}, (2, rng.integers(0, 2, (1, 4, 5)))
    pages = [
        xcnn.explain(model, x, y),
        xcnn.explain(model, {name: each[None] for name, each in x.items()}, {"class_": [2], "mask": y[1][None]}),
        xcnn.explain(model, [*x.values()], y),
    ]
    assert len({page.html for page in pages}) == 1
    assert pages[0].data["classes"][2:4] == ["class_[2]", "mask[0]"]
    (made,) = computed(pages[:1])
    assert_same(made, pages[0].trace)
    assert made["loss"] == pytest.approx(
        model.evaluate({n: a[None] for n, a in x.items()}, ([2], y[1][None]))["loss"], rel=1e-12
    )
    assert made["found"]["worst"] < 1e-12
    assert made["after"] < made["loss"] == made["again"]
    for wrong, words in (({**x, "imag": 1}, "imag"), (x["image"], "2 values"), ({**x, "kind": np.ones(4)}, "kind")):
        with pytest.raises(xcnn.errors.XcnnError, match=words):
            xcnn.explain(model, wrong, y)
    with pytest.raises(xcnn.errors.OptionError, match="y is needed"):
        xcnn.explain(model, x)


def test_the_comparison_finds_a_number_that_is_off():
    page = of_layer(xcnn.Conv2D(2, 3), (1, 5, 5))
    data = json.loads(json.dumps(page.data))
    off = 1e-3 * data["reference"]["net/y"]["norm"]
    data["reference"]["net/y"]["norm"] += off
    (made,) = computed([type(page)(page.model, page.trace, data, "")])
    assert made["found"]["worst"] == pytest.approx(1e-3 / 1.001)
    assert made["found"]["where"] == "net/y"
