"""Nets as ONNX files: each layer is written, checked, and computed by onnxruntime as xcnn computes it."""

import json
from pathlib import Path

import numpy as np
import pytest
from cases import CASES
from onnx_models import SHAPES, built, session

import xcnn
from xcnn.core import random
from xcnn.errors import ExchangeError
from xcnn.exchange.onnx import verify
from xcnn.exchange.onnx.write import Net, write_onnx
from xcnn.exchange.onnx.writers import LAYERS

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

EPSILON = float(np.finfo("float32").eps)
NO_LAYERS = {
    "Layer": "the protocol",
    "Next": "stands among gradients",
    "Run": "what a layer is called with",
}


def net_of(model):
    """The model as `verify.outputs` asks it."""
    return Net(model.net, dict(model.weights), model.input_shape, {})


def ran(path, x):
    running = session(path)
    return running.run(None, {running.get_inputs()[0].name: x})[0]


def differs(model, path, n):
    """The largest difference to double precision, in roundings of float32 of the largest output."""
    x = random.generator(n).standard_normal((n, *model.input_shape), np.float32)
    (expected,) = verify.outputs(net_of(model), [x])
    y = ran(path, x)
    assert y.shape == expected.shape
    assert y.dtype == np.float32
    return np.abs(y - expected).max() / max(np.abs(expected).max(), 1e-30) / EPSILON


@pytest.mark.parametrize("case", range(len(CASES)))
def test_every_layer(case, tmp_path):
    layer, shape = CASES[case]
    model, path = built(layer, shape), tmp_path / "a.onnx"
    model.to_onnx(path, verify=False)
    onnx.checker.check_model(str(path), full_check=True)
    for n in (1, 2, 7):
        assert differs(model, path, n) < 8


@pytest.mark.parametrize("name", xcnn.nets.RECIPES)
@pytest.mark.parametrize("fold", [False, True])
def test_every_net(name, fold, tmp_path):
    model, path = built(xcnn.nets.RECIPES[name].net(10), SHAPES.get(name, (1, 28, 28))), tmp_path / "a.onnx"
    model.to_onnx(path, fold_batch_norm=fold, verify=False)
    for n in (1, 5):
        assert differs(model, path, n) < 16
    nodes = onnx.load(path).graph.node
    assert not any(node.op_type == "Transpose" for node in nodes)
    norms = any(node.op_type == "BatchNormalization" for node in nodes)
    assert not (fold and norms and name == "small-resnet")  # others have poolings in between


def test_every_layer_has_an_entry_or_a_reason():
    missing = [name for name in xcnn.layers.__all__ if getattr(xcnn.layers, name) not in LAYERS]
    assert sorted(missing) == sorted(NO_LAYERS)


def test_batch_norms_fold_into_all_that_has_filters(tmp_path):
    """Groups of a transposed convolution too; and not into what somebody else takes as well."""
    net = xcnn.Sequential(
        xcnn.Conv2DTranspose(6, 3, groups=2, stride=2), xcnn.BatchNorm(), xcnn.Residual(xcnn.BatchNorm()),
        xcnn.Conv2D(4, 3, groups=2, bias=False), xcnn.BatchNorm(), xcnn.Flatten(), xcnn.Dense(5), xcnn.BatchNorm(),
    )  # fmt: skip
    model, path = built(net, (4, 5, 5)), tmp_path / "a.onnx"
    model.to_onnx(path, fold_batch_norm=True, verify=False)
    assert differs(model, path, 3) < 16
    kept = [node.name for node in onnx.load(path).graph.node if node.op_type == "BatchNormalization"]
    assert kept == ["residual1/batchnorm1"]


def test_several_inputs_and_outputs(tmp_path):
    net = xcnn.Graph(
        a=(xcnn.Conv2D(2, 3), "image"), b=(xcnn.Dense(2), "numbers"), gated=(xcnn.Multiply(), "a", "b"),
        digit=(xcnn.GlobalMaxPool2D(), "gated"), inputs=("image", "numbers"), outputs=("gated", "digit"),
    )  # fmt: skip
    shape, path = ((1, 5, 5), (3,)), tmp_path / "a.onnx"
    weights = net.init(random.Typed(0, "float32"), shape)[0]
    write_onnx(Net(net, weights, shape, {}), path, fold=False, check=True)
    graph = onnx.load(path).graph
    assert [[end.name for end in ends] for ends in (graph.input, graph.output)] == [
        ["image", "numbers"],
        ["gated", "digit"],
    ]


def test_a_model_of_several_outputs_goes_out_by_their_names(tmp_path):
    """As ONNX and in PyTorch's names; each output is what onnxruntime and the file that is read again give."""
    net = xcnn.Graph(
        stem=xcnn.Conv2D(3, 3), slope=xcnn.PReLU(), pool=xcnn.GlobalAveragePool2D(), digit=(xcnn.Dense(4), "pool"),
        angle=(xcnn.Dense(1), "pool"), inputs="image", outputs=("digit", "angle"),
    )  # fmt: skip
    losses, path = {"digit": "cross_entropy", "angle": "mse"}, tmp_path / "a.onnx"
    model = xcnn.Model(net, {"image": (2, 6, 5)}, loss=losses, backend="numpy")
    assert [*model.state_dict()][:3] == ["stem.weight", "stem.bias", "slope.weight"]
    model.to_onnx(path, verify=True)
    x = random.generator(0).standard_normal((3, 2, 6, 5), np.float32)
    expected, running = model.predict(x), session(path)
    for name, y in zip(("digit", "angle"), running.run(["digit", "angle"], {"image": x}), strict=True):
        np.testing.assert_allclose(y, expected[name], rtol=1e-5, atol=1e-6)
        read = xcnn.load_onnx(path, output=name, backend="numpy")
        np.testing.assert_allclose(read.predict(x), expected[name], rtol=1e-5, atol=1e-6)


def test_names_and_metadata(tmp_path):
    net, path = xcnn.Sequential(xcnn.Flatten(), xcnn.Residual(xcnn.Dense(4)), head=xcnn.Dense(2)), tmp_path / "a.onnx"
    model = built(net, (1, 2, 2), dtype="float64")
    model.info = {"classes": ["cat", "dog"], "data": "somewhere"}
    model.to_onnx(path, info={"licence": "mine", "numbers": [1, 2]})
    written = onnx.load(path)
    assert [node.name for node in written.graph.node] == ["flatten1", "residual1/dense1", "residual1", "head"]
    assert [d.dim_param or d.dim_value for d in written.graph.input[0].type.tensor_type.shape.dim] == ["N", 1, 2, 2]
    assert written.opset_import[0].version == 20
    told = {p.key: p.value for p in written.metadata_props}
    assert json.loads(told["classes"]) == ["cat", "dog"]
    assert json.loads(told["input"])["range"] == [0, 1]
    assert (told["licence"], told["numbers"]) == ("mine", "[1, 2]")


WHOLE = [
    (xcnn.ClippedReLU(6), (3,)), (xcnn.LeakyReLU(1), (3,)), (xcnn.ELU(1), (3,)), (xcnn.HardSigmoid(1), (3,)),
    (xcnn.Dropout(0), (3,)), (xcnn.BatchNorm(epsilon=1), (3, 2, 2)), (xcnn.LayerNorm(epsilon=1), (3, 2, 2)),
    (xcnn.LayerNorm(axis=1, epsilon=1), (3, 2, 2)), (xcnn.GroupNorm(3, epsilon=1), (3, 2, 2)),
    (xcnn.InstanceNorm(epsilon=1), (3, 2, 2)), (xcnn.LocalResponseNorm(3, alpha=1, beta=1, k=1), (3, 2, 2)),
    (xcnn.Resize(factor=2), (3, 2, 2)), (xcnn.Scale(2), (3,)), (xcnn.PReLU(initial=1), (3,)),
]  # fmt: skip
"""Layers with whole numbers where they may have others."""


@pytest.mark.parametrize("row", range(len(WHOLE)))
def test_whole_numbers_are_floating_point_ones_in_the_file(row, tmp_path):
    layer, shape = WHOLE[row]
    built(layer, shape).to_onnx(tmp_path / "a.onnx", verify=True)


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest", "nearest-exact"])
@pytest.mark.parametrize("factor", [(1.1, 1.7), (2.1, 1.05), (1.15, 2.2)])
def test_a_factor_that_leaves_a_size_or_doubles_it(factor, interpolation, tmp_path):
    built(xcnn.Resize(factor=factor, interpolation=interpolation), (2, 5, 6)).to_onnx(tmp_path / "a.onnx", verify=True)


class Swish:
    def init(self, rng, input_shape):
        return {}, input_shape

    def __call__(self, weights, x, run):
        s = 1 / (1 + np.exp(-x))
        return x * s, lambda dy: (dy * (s + x * s * (1 - s)), {})


class Written(Swish):
    def to_onnx(self, weights, x, here):
        gate = here.node("Sigmoid", x, shape=x.shape, part="gate")
        return here.node("Mul", x, gate, shape=x.shape)


class Wrong(Swish):
    def to_onnx(self, weights, x, here):
        return here.node("Sigmoid", x, shape=x.shape)


def test_layers_of_others(tmp_path):
    path = tmp_path / "a.onnx"
    with pytest.raises(ExchangeError, match=r"X411.*2 layers.*Swish 'swish1', Swish 'residual1.swish1'"):
        built(xcnn.Sequential(Swish(), xcnn.Residual(Swish())), (3,)).to_onnx(path)
    assert not path.exists()
    built(Written(), (3,)).to_onnx(path, verify=True)


def test_what_differs_leaves_no_file(tmp_path):
    path = tmp_path / "a.onnx"
    path.write_bytes(b"before")
    with pytest.raises(ExchangeError, match=r"X412.*differs by"):
        built(Wrong(), (3,)).to_onnx(path)
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("a.onnx", b"before")]


def test_without_the_packages(tmp_path, monkeypatch):
    model = built(xcnn.Dense(2), (3,))
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(xcnn.errors.MissingDependency, match=r"X601.*onnxruntime"):
        model.to_onnx(tmp_path / "a.onnx", verify=True)
    model.to_onnx(tmp_path / "b.onnx")
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(xcnn.errors.MissingDependency, match=r"xcnn\[onnx\]"):
        model.to_onnx(tmp_path / "a.onnx")


def test_the_command(tmp_path, monkeypatch, capsys):
    from xcnn.cli import outcome

    monkeypatch.chdir(tmp_path)
    built(xcnn.Sequential(xcnn.Conv2D(2, 3), xcnn.ReLU()), (1, 5, 5)).save("a.xcnn")
    assert outcome(["export", "a.xcnn", "-o", "a.onnx"]) == 0
    assert "wrote a.onnx" in capsys.readouterr().out
    assert Path("a.onnx").exists()
    assert outcome(["export", "a.xcnn", "-o", "a.pb"]) == 2
