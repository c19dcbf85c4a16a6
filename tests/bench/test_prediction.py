"""Predictions beside PyTorch's, ONNX Runtime's and OpenVINO's: one net's outputs on all sides, and what is printed."""

import json
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

import xcnn
from xcnn.bench import cases, prediction
from xcnn.bench.cases import picked
from xcnn.bench.prediction import PEERS, PredictionResult, compare_predictions
from xcnn.bench.timing import Times

needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch, which makes the peers' nets, is missing")
ON_NUMPY = "--backend", "numpy", "--algorithm", "gemm", "--threads", "1"
PRESENT = [
    pytest.param(
        peer, marks=pytest.mark.skipif(bool(prediction.missing(peer)), reason=f"{peer} or onnx is not installed")
    )
    for peer in PEERS
]
EVERY_LAYER = xcnn.Sequential(
    xcnn.Conv2D(8, 3, stride=2, padding=1, bias=False), xcnn.BatchNorm(), xcnn.ReLU(),
    xcnn.Residual(xcnn.DepthwiseConv2D(5, padding=2), xcnn.LayerNorm(axis=1), xcnn.GELU(), xcnn.Conv2D(8, 1)),
    xcnn.AveragePool2D(3, 2, padding=1), xcnn.GroupNorm(2), xcnn.SiLU(), xcnn.Dropout(0.5),
    xcnn.Concatenate(xcnn.Sequential(), xcnn.Conv2D(4, 3, padding=2, dilation=2, groups=4), xcnn.SpatialDropout2D(0.5)),
    xcnn.Conv2DTranspose(6, 3, stride=2, padding=1, output_padding=1), xcnn.LeakyReLU(0.2), xcnn.LayerNorm(),
    xcnn.GELU(approximate=True), xcnn.MaxPool2D(2), xcnn.ELU(), xcnn.UpSampling2D(2, "bilinear"), xcnn.Softplus(),
    xcnn.UpSampling2D(), xcnn.Tanh(), xcnn.GlobalMaxPool2D(), xcnn.Dense(5), xcnn.Sigmoid(), xcnn.Dense(3),
)  # fmt: skip


def numpy():
    return xcnn.backend("numpy", algorithm="gemm")


@needs_torch
@pytest.mark.parametrize("peer", PRESENT)
def test_all_sides_predict_the_same(quick, peer):
    case = replace(picked("lenet:3"), net=EVERY_LAYER, input_shape=(2, 16, 12))
    found, parameters = compare_predictions(case, numpy(), (peer,), 0, 1)
    assert found.differences[peer] < 1e-5
    assert found.differs == ""
    assert found.theirs.keys() == {peer}
    assert found.ways.keys() == ({"torch"} & {peer})
    assert parameters == xcnn.model.summary.count(case.model(numpy()).weights)


@needs_torch
def test_a_peer_that_computes_something_else_is_told(quick, monkeypatch):
    from xcnn.bench import torch_side

    right = torch_side.prediction
    monkeypatch.setattr(torch_side, "prediction", lambda *given: lambda: 1.01 * right(*given)())
    found, _ = compare_predictions(picked("lenet:2"), numpy(), ("torch",), 0, 1)
    assert found.differs.startswith("torch's y by ")
    assert found.differences["torch"] == pytest.approx(0.01, rel=1e-3)
    unlike, _ = compare_predictions(replace(picked("small-resnet:1")), numpy(), ("torch",), 0, 1)
    assert unlike.differences == {}  # its "same" padding is not PyTorch's


def test_ratios():
    def times(ms):
        return Times((ms / 1000,))

    found = PredictionResult(times(2), {"torch": times(6), "openvino": times(1)}, {"torch": "NCHW"}, 10**9, {})
    assert (found.ratio_to("torch"), found.ratio_to("openvino"), found.ratio_to("onnxruntime")) == (3, 0.5, None)
    assert found.ratio == 0.5
    values = found.to_dict(ceiling=1000)
    assert (values["ratio"], values["ratio_to_torch"], values["ratio_to_openvino"]) == (0.5, 3, 0.5)
    assert (values["torch"]["way"], values["of_ceiling"]) == ("NCHW", 0.5)
    assert PredictionResult(times(2), {}, {}, 1, {}).ratio is None
    assert replace(found, differences={"torch": np.nan, "openvino": 1e-6}).differs == "torch's y by nan"


def test_each_net_is_asked_at_each_batch_once():
    chosen = prediction.with_batches([picked(choice) for choice in cases.STEPS])
    assert [str(case) for case in chosen[:4]] == ["article:1", "article:8", "article:64", "lenet:1"]
    assert len(chosen) == 3 * 4


@needs_torch
def test_table_and_json(run, monkeypatch):
    monkeypatch.setattr(prediction, "PEERS", ("torch",))
    how = "--predict", "--net", "article:2", "--net", "article:1", *ON_NUMPY
    code, out, err = run(*how)
    *_, header, _, row, _ = out.splitlines()
    assert code == 0
    assert err.splitlines() == ["timing a matrix product", "timing article:2", "timing article:1"]
    assert " ".join(header.split()) == "net:batch xcnn, ms torch, ms / xcnn best / xcnn torch as"
    end = header.index("/ xcnn") + len("/ xcnn")
    assert row[:end].split()[-1] == row[end:].split()[0]  # one peer is the best
    assert row.split()[-1] in {"NCHW", "channels_last"}
    found = json.loads(run(*how, "--against", "torch", "--json")[1])
    assert found["versions"].keys() >= {"numpy", "torch"}
    first, second = found["predictions"]
    assert (first["net"], first["batch"], first["differs"]) == ("article", 2, "")
    assert first["ratio"] == pytest.approx(first["torch"]["median_ms"] / first["ours"]["median_ms"])
    means = found["geometric_means"]["predictions"]
    assert means["ratio"] == means["ratio_to_torch"] == pytest.approx((first["ratio"] * second["ratio"]) ** 0.5)
    assert "steps" not in found


def test_ours_alone_where_nothing_else_is_installed(run, monkeypatch):
    monkeypatch.setattr(prediction, "find_spec", lambda name: None)
    code, out, err = run("--predict", "--net", "article:1", *ON_NUMPY)
    assert code == 0
    assert out.splitlines()[-2].split() == ["net:batch", "xcnn,", "ms"]
    assert err.splitlines()[:3] == [
        "not timed beside torch: pip install torch",
        "not timed beside onnxruntime: pip install torch onnx onnxruntime",
        "not timed beside openvino: pip install torch onnx openvino",
    ]
    code, _, err = run("--predict", "--against", "openvino")
    assert code == 3
    assert "predictions beside openvino need torch" in err
    monkeypatch.setattr(prediction, "find_spec", lambda name: name == "torch" or None)
    code, _, err = run("--predict", "--against", "openvino")
    assert code == 3
    assert err.splitlines() == [
        "MissingDependency[X601]: predictions beside openvino need onnx and openvino.",
        "  hint: pip install onnx openvino",
    ]
