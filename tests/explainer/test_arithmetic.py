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
from xcnn.explainer.description import ACTIVATIONS, CONTAINERS, OPERATIONS, traced_arrays
from xcnn.explainer.page import part

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(
    NODE is None, reason="Node is not installed: the page's scripts are run in a browser alone"
)

REFUSED = ("Graph", "LocalResponseNorm", "Multiply", "StandardizedConv2D")
"""Layers that the page has no arithmetic for."""
APART = (*REFUSED, "count_include_pad=True")
"""Words of such layers, or of options that it has none for."""
ENGINE = ("numbers.js", "correlation.js", "activations.js", "operations.js", "losses.js", "network.js")
PROGRAM = """
const cases = JSON.parse(require("fs").readFileSync(0, "utf8"));
const listed = (record) => Object.fromEntries(Object.entries(record).map(([name, cells]) => [name, [...cells]]));
process.stdout.write(JSON.stringify(cases.map((data) => {
  const network = new Network(data);
  const result = network.run();
  const layers = {};
  for (const [path, { y, dx, grads }] of result.layers) layers[path] = { ...listed({ y, dx }), grads: listed(grads) };
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
    followed = [(layer, shape) for layer, shape in CASES if not any(name in repr(layer) for name in APART)]
    pages = [of_layer(layer, shape) for layer, shape in followed]
    for page, made, (layer, _) in zip(pages, computed(pages), followed, strict=True):
        assert_same(made, page.trace)
        assert made["found"]["worst"] < 1e-10, layer
        assert made["found"]["count"] > 5
        name, _, weight = probe(page).rpartition("/")
        first = page.trace[name].grads[weight] if name else page.trace.dx
        assert made["slope"] == pytest.approx(first.ravel()[0], rel=1e-5, abs=1e-8)
        assert made["again"] == made["loss"]
        if tree.leaves(page.trace.grads):
            assert made["after"] < made["loss"]


def test_a_layer_that_can_t_be_followed_is_refused():
    refused = [(layer, shape) for layer, shape in CASES if type(layer).__name__ in REFUSED]
    assert {type(layer).__name__ for layer, _ in refused} == {*REFUSED}
    for layer, shape in refused:
        with pytest.raises(xcnn.errors.XcnnError, match="no arithmetic"):
            of_layer(layer, shape)

    class Own(xcnn.ReLU):
        """May compute something else."""

    with pytest.raises(xcnn.errors.OptionError, match="no arithmetic for Own 'own1'"):
        of_layer(xcnn.Sequential(Own()), (3,))


def test_the_table_has_every_layer_of_xcnn():
    """But for those that are refused: a new one is entered there, or here."""
    known = {*OPERATIONS, *CONTAINERS, xcnn.Add, xcnn.Residual, *(getattr(xcnn, name) for name in REFUSED)}
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


def test_the_comparison_finds_a_number_that_is_off():
    page = of_layer(xcnn.Conv2D(2, 3), (1, 5, 5))
    data = json.loads(json.dumps(page.data))
    data["reference"]["net/y"]["norm"] += 1e-3
    (made,) = computed([type(page)(page.model, page.trace, data, "")])
    assert made["found"]["worst"] == pytest.approx(1e-3)
    assert made["found"]["where"] == "net/y"
