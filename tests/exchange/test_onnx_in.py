"""ONNX files as models: what xcnn writes, what others write, ONNX's own tests, and files that mean harm."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cases import CASES

import xcnn
from xcnn.core import random, tree
from xcnn.errors import ExchangeError, OptionError, XcnnError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx_models import SHAPES, built, session  # noqa: E402
from onnx_nodes import survey  # noqa: E402


def leaves(model):
    """The weights' arrays in an order of their own, but for the counts of batches."""
    found = [w for path, w in tree.items(model.weights) if not path.endswith("running_steps")]
    return sorted(np.ascontiguousarray(w).tobytes() for w in found)


def check_round_trip(model, path):
    """What is read back computes the same with the same weights, and is written and read again."""
    x = random.generator(0).standard_normal((3, *model.input_shape), np.float32)
    expected = model.predict(x)
    for _ in range(2):
        model.to_onnx(path, verify=False)
        read = xcnn.load_onnx(path, backend="numpy")
        given = x if read.input_shape == x.shape[1:] else np.moveaxis(x, -1, 1)
        np.testing.assert_allclose(read.predict(given), expected, rtol=1e-5, atol=1e-6)
        if not isinstance(model.net, xcnn.StandardizedConv2D | xcnn.AdaptiveAveragePool2D | xcnn.LocalResponseNorm):
            assert {*leaves(model)} <= {*leaves(read)}  # an InstanceNorm without scales is read with some
        if isinstance(model.net, xcnn.Permute):
            return
        model = read


@pytest.mark.parametrize("case", range(len(CASES)))
def test_every_layer_comes_back(case, tmp_path):
    layer, shape = CASES[case]
    check_round_trip(built(layer, shape), tmp_path / "a.onnx")


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (xcnn.GroupNorm(2, epsilon=0.5), (4, 3, 5)),
        (xcnn.GroupNorm(1, epsilon=0.5), (6,)),
        (xcnn.LayerNorm(axis=1, epsilon=0.5), (4, 3, 2)),
        (xcnn.LayerNorm(axis=1, epsilon=0.5), (18, 3, 2)),
        (xcnn.LayerNorm(axis=1, epsilon=0.5), (17, 3)),
        (xcnn.LayerNorm(axis=2, epsilon=0.5), (2, 20, 3)),
        (xcnn.LayerNorm(axis=(1, 2), epsilon=0.5), (3, 16, 2)),
        (xcnn.Softsign(), (4, 3)),
        (xcnn.LocalResponseNorm(4, alpha=0.5, beta=0.5, k=2.0), (6, 5)),
        (xcnn.LocalResponseNorm(3, alpha=0.5, beta=0.5, k=2.0), (2, 3, 4)),
    ],
)
def test_layers_that_are_written_as_formulas_are_one_layer_again(layer, shape, tmp_path):
    built(layer, shape).to_onnx(tmp_path / "a.onnx", verify=False)
    assert [*xcnn.load_onnx(tmp_path / "a.onnx", backend="numpy").net] == [layer]


def test_a_variance_of_other_parts_is_no_norm(tmp_path):
    """Of parts that are all cells of a sample, which are as many as those of a channel's axis would be."""
    path = tmp_path / "a.onnx"
    built(xcnn.LayerNorm(axis=1, epsilon=0.5), (18, 2, 2)).to_onnx(path, verify=False)
    model = onnx.load(path)
    (sizes,) = (each for each in model.graph.initializer if each.name.endswith("parts"))
    assert onnx.numpy_helper.to_array(sizes).tolist() == [0, 3, 6, 2, 2]
    sizes.CopyFrom(onnx.numpy_helper.from_array(np.array([0, 9, 8, 1, 1]), sizes.name))
    onnx.save(model, path)
    assert session(path).run(None, {"input": np.ones((3, 18, 2, 2), "f4")})[0].shape == (3, 18, 2, 2)
    with pytest.raises(ExchangeError, match="mean of means of other cells"):
        xcnn.load_onnx(path, backend="numpy")


@pytest.mark.parametrize("name", xcnn.nets.RECIPES)
def test_every_net_comes_back(name, tmp_path):
    check_round_trip(built(xcnn.nets.RECIPES[name].net(10), SHAPES.get(name, (1, 28, 28))), tmp_path / "a.onnx")


def test_nets_come_back_as_they_were(tmp_path):
    """Containers within containers, with their names."""
    net = xcnn.Sequential(
        xcnn.Conv2D(4, 3, padding=1), xcnn.BatchNorm(), xcnn.nets.residual_block(4), xcnn.ReLU(),
        xcnn.nets.residual_block(8, stride=2), xcnn.Concatenate(xcnn.Conv2D(2, 1), xcnn.MaxPool2D(3, 1, padding=1)),
        xcnn.Multiply(xcnn.Sequential(), xcnn.Sequential(xcnn.GlobalAveragePool2D(), xcnn.Dense(10), xcnn.Sigmoid())),
        xcnn.Flatten(), head=xcnn.Dense(3),
    )  # fmt: skip
    path = tmp_path / "a.onnx"
    built(net, (3, 8, 8)).to_onnx(path)
    read = xcnn.load_onnx(path, backend="numpy").net
    assert [*read.layers] == [*net.layers]
    assert [type(layer) for layer in read] == [type(layer) for layer in net]
    assert [*read["residual2"].layers] == [*net["residual2"].layers]
    assert read["residual2"]["conv1"] == xcnn.Conv2D(8, 3, stride=2, padding=((0, 1), (0, 1)), bias=False)


def test_a_model_that_is_read_is_trained_and_saved(tmp_path):
    net = xcnn.Sequential(xcnn.Conv2D(4, 3), xcnn.BatchNorm(), xcnn.ReLU(), xcnn.Flatten(), xcnn.Dense(2))
    model = built(net, (1, 6, 6))
    model.info = {"classes": ["left", "right"]}
    model.to_onnx(tmp_path / "a.onnx")
    read = xcnn.load_onnx(tmp_path / "a.onnx", backend="numpy", optimizer=xcnn.Adam(1e-2))
    assert read.info["classes"] == ["left", "right"]
    x = random.generator(1).standard_normal((64, 1, 6, 6), np.float32)
    y = (x[:, 0, :, :3].sum((1, 2)) > x[:, 0, :, 3:].sum((1, 2))).astype(int)
    read.fit(x, y, epochs=15, progress="none")
    assert read.evaluate(x, y)["accuracy"] > 0.9
    read.save(tmp_path / "a.xcnn")
    np.testing.assert_array_equal(xcnn.Model.load(tmp_path / "a.xcnn").predict(x), read.predict(x))


def test_the_command_line_takes_onnx_files(tmp_path, monkeypatch, capsys):
    """With the classes' names, digits prepared as MNIST's, and the probabilities of a net that ends in a Softmax."""
    from PIL import Image

    from xcnn.cli import outcome

    monkeypatch.chdir(tmp_path)
    ink = np.zeros((40, 30), "uint8")
    ink[8:32, 12:16] = 255
    Image.fromarray(ink).save("one.png")
    for last in (xcnn.ReLU(), xcnn.Softmax(), xcnn.LogSoftmax()):
        net = xcnn.Sequential(xcnn.Conv2D(2, 3), xcnn.ReLU(), xcnn.Flatten(), xcnn.Dense(2), last)
        loss = {xcnn.Softmax: "binary_cross_entropy", xcnn.LogSoftmax: "nll"}.get(type(last), "cross_entropy")
        model = xcnn.Model(net, (1, 28, 28), loss=loss, backend="numpy", seed=3)
        model.info = {"classes": ["nought", "one"], "data": "mnist01"}
        model.save("a.xcnn")
        model.to_onnx("a.onnx", verify=False)
        told = []
        for file in ("a.xcnn", "a.onnx"):
            assert outcome(["predict", file, "one.png", "--json", "--backend", "numpy"]) == 0
            told.append(json.loads(capsys.readouterr().out))
        assert told[0]["class"] == told[1]["class"]
        assert told[0]["prepared"] == told[1]["prepared"]
        assert told[1]["probabilities"] == pytest.approx(told[0]["probabilities"], abs=1e-6)
        assert not told[1]["independent"]
        assert sum(told[1]["probabilities"].values()) == pytest.approx(1)
    Path("a.pth").write_bytes(b"weights")
    assert outcome(["predict", "a.pth", "one.png"]) == 4
    assert "it has weights and no net" in capsys.readouterr().err


# What others write.


def file(path, nodes, constants=(), shape=("N", 3, 8, 8), outputs=("y",), opset=17, **options):
    """A file with these nodes, whose input is x."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    start = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    kept = [numpy_helper.from_array(np.asarray(array), name) for name, array in dict(constants).items()]
    graph = helper.make_graph(nodes, "g", [start], ends, kept)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8, **options)
    path.write_bytes(model.SerializeToString())
    return path


def check_agrees(path, shape, sizes=(1, 3), **options):
    """The model that is read, which computes what onnxruntime does."""
    read = xcnn.load_onnx(path, backend="numpy", loss="mse", **options)
    running = session(path)
    for n in sizes:
        x = random.generator(n).standard_normal((n, *shape), np.float32)
        expected = running.run([options.get("output", running.get_outputs()[0].name)], {"x": x})[0]
        given = x if read.input_shape == shape else np.moveaxis(x, -1, 1)
        np.testing.assert_allclose(read.predict(given), expected, rtol=1e-4, atol=1e-5)
    return read


node = helper.make_node
RNG = random.generator(5)


def drawn(*shape):
    return RNG.standard_normal(shape, np.float32)


def test_channels_last_are_absorbed(tmp_path):
    """As Keras's nets are exported: transposes, a reshape before a product whose rows are (H, W, C)."""
    nodes = [
        node("Transpose", ["x"], ["a"], perm=[0, 3, 1, 2]),
        node("Conv", ["a", "k"], ["b"]),
        node("Transpose", ["b"], ["c"], perm=[0, 2, 3, 1]),
        node("Add", ["c", "bias"], ["d"]),
        node("Relu", ["d"], ["e"]),
        node("Reshape", ["e", "shape"], ["f"]),
        node("MatMul", ["f", "w"], ["g"]),
        node("Add", ["g", "v"], ["y"]),
    ]
    constants = {
        "k": drawn(4, 3, 3, 3), "bias": drawn(4), "shape": np.array([-1, 144]), "w": drawn(144, 5), "v": drawn(5)
    }  # fmt: skip
    path = file(tmp_path / "a.onnx", nodes, constants, ("N", 8, 8, 3))
    read = check_agrees(path, (8, 8, 3))
    assert read.input_shape == (3, 8, 8)
    assert [type(layer).__name__ for layer in read.net] == ["Conv2D", "ReLU", "Flatten", "Dense"]


def test_shapes_that_a_graph_computes(tmp_path):
    """Shape, Gather, Unsqueeze, Concat, Reshape; and a batch of 1 that is frozen into a Reshape."""
    nodes = [
        node("Conv", ["x", "k"], ["a"], pads=[1, 1, 1, 1]),
        node("Shape", ["a"], ["s"]),
        node("Gather", ["s", "zero"], ["n"]),
        node("Unsqueeze", ["n", "axes"], ["m"]),
        node("Concat", ["m", "rest"], ["shape"], axis=0),
        node("Reshape", ["a", "shape"], ["b"]),
        node("Reshape", ["b", "frozen"], ["y"]),
    ]
    constants = {
        "k": drawn(2, 3, 3, 3), "zero": np.array(0), "axes": np.array([0]), "rest": np.array([-1, 16]),
        "frozen": np.array([1, 16, 8]),
    }  # fmt: skip
    path = file(tmp_path / "a.onnx", nodes, constants)
    read = check_agrees(path, (3, 8, 8), sizes=(1,))
    assert read.predict(np.zeros((4, 3, 8, 8), "float32")).shape == (4, 16, 8)


def rows_of(*nodes, **constants):
    """Nodes, and constants by name."""
    return [*nodes], {name: np.asarray(value) for name, value in constants.items()}


COUNTED = [node("Shape", ["x"], ["a"]), node("Gather", ["a", "zero"], ["n"]), node("Mul", ["n", "two"], ["b"])]
ROWS = {
    "a shape": (rows_of(node("Reshape", ["x", "s"], ["y"]), s=[2, -1]), "it makes 2 rows of any number"),
    "sizes": (rows_of(node("Resize", ["x", "", "", "s"], ["y"]), s=[2, 3, 8, 12]), "it makes 2 rows of any number"),
    "one size": (rows_of(node("Resize", ["x", "", "", "s"], ["y"]), s=[1, 3, 8, 12]), "it makes 1 rows of any number"),
    "no axes": (rows_of(node("Squeeze", ["x"], ["y"])), "takes the batch's away of one sample"),
    "twice as many": (
        rows_of(*COUNTED, node("Concat", ["b", "s"], ["c"], axis=0), node("Reshape", ["x", "c"], ["y"]),
                zero=[0], two=[2], s=[-1]), "are more or fewer"),
}  # fmt: skip
"""What is right for two samples alone, for one, for more than one, and for no number of them."""


@pytest.mark.parametrize("name", ROWS)
def test_rows_that_are_no_samples(name, tmp_path):
    """(2, -1) is two samples where the file is for two; else a sample's two halves, and no layer is for that."""
    (nodes, constants), words = ROWS[name]
    assert words in refused(file(tmp_path / "a.onnx", nodes, constants, ("N", 3, 4, 6)), "X414")
    path = file(tmp_path / "a.onnx", nodes, constants, (2, 3, 4, 6))
    if name in ("one size", "twice as many"):
        assert words in refused(path, "X414")
    else:
        check_agrees(path, (3, 4, 6), sizes=(2,))


def test_one_row_of_several_samples(tmp_path):
    path = file(tmp_path / "a.onnx", [node("Reshape", ["x", "s"], ["y"])], {"s": np.array([1, -1])}, (3, 4, 6))
    assert "it makes 1 rows of any number of samples" in refused(path, "X414")


@pytest.mark.parametrize("step", [1, -1])
def test_cells_that_are_looked_up_in_a_row_of_all(step, tmp_path):
    """A view as PyTorch's newer exporter writes it; in another order no layer is for it."""
    nodes, constants = rows_of(
        node("Relu", ["x"], ["a"]), node("Reshape", ["a", "whole"], ["row"]), node("Shape", ["x"], ["s"]),
        node("Size", ["x"], ["count"]), node("Range", ["start", "count", "one"], ["n"]),
        node("Slice", ["s", "zero", "first"], ["batch"]), node("Concat", ["batch", "rest"], ["shape"], axis=0),
        node("Reshape", ["n", "shape"], ["places"]), node("Mul", ["places", "step"], ["wanted"]),
        node("Gather", ["row", "wanted"], ["b"]), node("Flatten", ["b"], ["y"]),
        whole=[-1], start=0, one=1, zero=[0], first=[1], rest=[12, 2], step=step,
    )  # fmt: skip
    path = file(tmp_path / "a.onnx", nodes, constants, ("N", 3, 2, 4))
    if step == 1:
        check_agrees(path, (3, 2, 4))
    else:
        assert "in an order of its own" in refused(path, "X414")


AFTER_ROWS = {
    "nothing": [node("Identity", ["row"], ["y"])],
    "a number": [node("Add", ["row", "k"], ["y"])],
    "itself": [node("Mul", ["row", "row"], ["y"])],
    "a row more": [node("Concat", ["row", "row"], ["y"], axis=0)],
    "a slope": [node("PRelu", ["row", "k"], ["y"])],
    "a mean": [node("ReduceMean", ["row"], ["y"], keepdims=1)],
    "an activation": [node("Softmax", ["row"], ["y"], axis=0)],
}


@pytest.mark.parametrize("name", AFTER_ROWS)
def test_rows_of_all_samples_are_no_value(name, tmp_path):
    nodes = [node("Reshape", ["x", "whole"], ["row"]), *AFTER_ROWS[name]]
    told = refused(file(tmp_path / "a.onnx", nodes, {"whole": np.array([-1]), "k": np.ones((), "f4")}), "X414")
    assert "cells of all samples in one row" in told


def test_sizes_that_are_bounds(tmp_path):
    """Twice the height and three times the width, of which the smaller factor counts for both."""
    nodes = [node("Resize", ["x", "", "", "s"], ["y"], keep_aspect_ratio_policy="not_larger")]
    path = file(tmp_path / "a.onnx", nodes, {"s": np.array([1, 3, 8, 12])}, (1, 3, 4, 4), opset=18)
    assert session(path).run(None, {"x": np.zeros((1, 3, 4, 4), "f4")})[0].shape != (1, 3, 8, 12)
    assert "its sizes are bounds" in refused(path, "X414")


ODD = {
    "a number that brings axes": ([node("Add", ["x", "k"], ["y"])], {"k": np.ones((1, 1, 1), "f4")}, "3 axes meets"),
    "a bound that brings axes": ([node("Max", ["x", "k"], ["y"])], {"k": np.ones((1, 1, 1), "f4")}, "3 axes meets"),
    "an exponent that brings axes": ([node("Pow", ["x", "k"], ["y"])], {"k": np.full((1, 1, 1), 2, "f4")}, "3 axes"),
    "a number for each sample": (
        [node("Gemm", ["x", "w", "k"], ["y"])], {"w": np.ones((6, 2), "f4"), "k": np.ones((2, 1), "f4")}, "(2, 1)"),
}  # fmt: skip


def test_scales_that_leave_the_sizes(tmp_path):
    """ONNX's definition moves the cells by 1.3; PyTorch leaves them, and onnxruntime where both sizes stay."""
    nodes = [node("Resize", ["x", "", "s"], ["y"], mode="linear")]
    path = tmp_path / "a.onnx"
    for scales in ([1, 1, 1.3, 1], [1, 1, 1.3, 2]):
        file(path, nodes, {"s": np.float32(scales)}, ("N", 2, 3, 5))
        assert "make two things" in refused(path, "X414")
    check_agrees(file(path, nodes, {"s": np.float32([1, 1, 1.4, 2])}, ("N", 2, 3, 5)), (2, 3, 5))


@pytest.mark.parametrize("name", ODD)
def test_shapes_that_meet_the_batch(name, tmp_path):
    nodes, constants, words = ODD[name]
    assert words in refused(file(tmp_path / "a.onnx", nodes, constants, ("N", 6)), "X414")


FORMULAS = {
    "SiLU": ([node("Sigmoid", ["x"], ["s"]), node("Mul", ["s", "x"], ["y"])], {}),
    "GELU": (
        [
            node("Div", ["x", "root"], ["a"]), node("Erf", ["a"], ["b"]), node("Add", ["one", "b"], ["c"]),
            node("Mul", ["x", "half"], ["d"]), node("Mul", ["d", "c"], ["y"]),
        ],
        {"root": np.float32(2**0.5), "one": np.float32(1), "half": np.float32(0.5)},
    ),
    "HardSwish": (
        [
            node("Add", ["x", "three"], ["a"]), node("Clip", ["a", "zero", "six"], ["b"]),
            node("Mul", ["x", "b"], ["c"]), node("Div", ["c", "six"], ["y"]),
        ],
        {"three": np.float32(3), "zero": np.float32(0), "six": np.float32(6)},
    ),
    "Mish": ([node("Softplus", ["x"], ["a"]), node("Tanh", ["a"], ["b"]), node("Mul", ["x", "b"], ["y"])], {}),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMULAS)
def test_formulas_are_one_layer(name, tmp_path):
    nodes, constants = FORMULAS[name]
    read = check_agrees(file(tmp_path / "a.onnx", nodes, constants), (3, 8, 8))
    assert [type(layer).__name__ for layer in read.net] == [name]


def test_a_net_whose_branches_do_not_nest_is_a_graph(tmp_path):
    nodes = [
        node("Relu", ["x"], ["a"], name="first"),
        node("Tanh", ["a"], ["b"], name="second"),
        node("Add", ["a", "b"], ["c"], name="sum"),
        node("Mul", ["b", "c"], ["d"], name="product"),
        node("Concat", ["d", "a"], ["y"], axis=1, name="both"),
    ]
    read = check_agrees(file(tmp_path / "a.onnx", nodes), (3, 8, 8))
    assert isinstance(read.net, xcnn.Graph)
    assert [*read.net.layers] == ["first", "second", "sum", "product", "both"]


SINGLE = {
    "a split": ([node("Split", ["x"], ["a", "b"], axis=1), node("Sub", ["b", "a"], ["y"])], {}, (4, 5, 5)),
    "focus": (
        [
            node("Slice", ["x", "one", "huge", "axes", "two"], ["a"]),
            node("Slice", ["a", "zero", "huge", "last", "two"], ["y"]),
        ],
        {"one": np.array([1]), "zero": np.array([0]), "huge": np.array([2**63 - 1]), "axes": np.array([2]),
         "last": np.array([-1]), "two": np.array([2])}, (3, 6, 6)),
    "a bound": ([node("Clip", ["x", "low", "high"], ["y"])], {"low": np.float32(-0.5), "high": np.float32(1)}, (3, 4)),
    "a row": ([node("Mul", ["x", "row"], ["a"]), node("Add", ["a", "cells"], ["y"])],
              {"row": drawn(5), "cells": drawn(1, 3, 5)}, (3, 5)),
    "a mean of channels": ([node("ReduceMean", ["x"], ["a"], axes=[1]), node("Sub", ["x", "a"], ["y"])], {}, (4, 3, 3)),
    "a product along the last axis": ([node("MatMul", ["x", "w"], ["y"])], {"w": drawn(5, 4)}, (3, 5)),
    "a signal": (
        [node("Conv", ["x", "k"], ["a"], group=2, pads=[2, 1]), node("MaxPool", ["a"], ["y"], kernel_shape=[3])],
        {"k": drawn(4, 1, 3)}, (2, 9)),
    "windows that reach over the end": (
        [node("AveragePool", ["x"], ["y"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 0, 0], ceil_mode=1)],
        {}, (2, 7, 8)),
    "same lower": ([node("Conv", ["x", "k"], ["y"], auto_pad="SAME_LOWER", strides=[2, 2])], {"k": drawn(3, 2, 4, 4)},
                   (2, 7, 8)),
    "transposed": (
        [node("ConvTranspose", ["x", "k", "b"], ["y"], strides=[2, 3], group=2, pads=[1, 0, 0, 1],
              output_padding=[1, 0])], {"k": drawn(4, 3, 3, 3), "b": drawn(6)}, (4, 5, 4)),
    "a scale that is not that of the sizes": (
        [node("Resize", ["x", "", "s"], ["y"], mode="linear", coordinate_transformation_mode="half_pixel")],
        {"s": np.float32([1, 1, 2.3, 2])}, (2, 3, 5)),
    "such a scale of a signal": (
        [node("Resize", ["x", "", "s"], ["y"], mode="linear", coordinate_transformation_mode="half_pixel")],
        {"s": np.float32([1, 1, 2.2])}, (2, 4)),
    "twice nearest": (
        [node("Resize", ["x", "", "s"], ["y"], mode="nearest", coordinate_transformation_mode="half_pixel")],
        {"s": np.float32([1, 1, 2, 3])}, (2, 4, 5)),
}  # fmt: skip


@pytest.mark.parametrize("name", SINGLE)
def test_single_operators(name, tmp_path):
    nodes, constants, shape = SINGLE[name]
    check_agrees(file(tmp_path / "a.onnx", nodes, constants, ("N", *shape)), shape)


def test_a_bias_goes_into_its_layer_only_where_nobody_else_takes_that(tmp_path):
    nodes = [
        node("Conv", ["x", "k"], ["a"]), node("Add", ["a", "b"], ["c"]), node("Relu", ["a"], ["d"]),
        node("Add", ["c", "d"], ["y"]),
    ]  # fmt: skip
    check_agrees(file(tmp_path / "a.onnx", nodes, {"k": drawn(2, 3, 1, 1), "b": drawn(2, 1, 1)}), (3, 8, 8))
    read = check_agrees(file(tmp_path / "b.onnx", nodes[:2], {"k": drawn(2, 3, 1, 1), "b": drawn(2, 1, 1)},
                             outputs=("c",)), (3, 8, 8))  # fmt: skip
    assert [*read.net] == [xcnn.Conv2D(2, 1)]


def test_what_is_free_is_asked_for(tmp_path):
    path = file(tmp_path / "a.onnx", [node("Relu", ["x"], ["y"])], shape=("N", 3, "h", "w"))
    with pytest.raises(OptionError, match=r"X104.*takes samples of \(3, \?, \?\)"):
        xcnn.load_onnx(path)
    with pytest.raises(OptionError, match=r"not of \(1, 8, 8\)"):
        xcnn.load_onnx(path, input_shape=(1, 8, 8))
    assert xcnn.load_onnx(path, input_shape=(3, 4, 6), backend="numpy").output_shape == (3, 4, 6)
    path = file(tmp_path / "a.onnx", [node("Relu", ["x"], ["y"]), node("Tanh", ["x"], ["z"])], outputs=("y", "z"))
    with pytest.raises(OptionError, match="2 outputs: 'y', 'z'"):
        xcnn.load_onnx(path)
    assert [type(layer) for layer in xcnn.load_onnx(path, output="z", backend="numpy").net] == [xcnn.Tanh]


def test_no_hint_where_the_input_is_all_that_comes_before(tmp_path):
    with pytest.raises(ExchangeError, match=r"(?s)X414.*Det") as caught:
        xcnn.load_onnx(file(tmp_path / "a.onnx", [node("Det", ["x"], ["a"]), node("Relu", ["a"], ["y"])]))
    assert "can be had" not in str(caught.value)


def test_what_no_layer_is_for_is_listed_whole(tmp_path):
    nodes = [
        node("Det", ["x"], ["a"], name="one"), node("Frobnicate", ["a"], ["b"], name="two", domain="mine"),
        node("Relu", ["b"], ["c"], name="fine"), node("Transpose", ["x"], ["d"], perm=[1, 0, 2, 3], name="three"),
        node("Add", ["c", "d"], ["y"], name="sum"),
    ]  # fmt: skip
    with pytest.raises(ExchangeError, match="X414") as caught:
        xcnn.load_onnx(file(tmp_path / "a.onnx", nodes))
    told = str(caught.value)
    assert "3 operators" in told
    for words in ("Det (no layer is for it): 'one'", "mine::Frobnicate", "'two'", "batch's axis): 'three'"):
        assert words in told
    assert "fine" not in told


READ = {
    "Add": 1, "AveragePool": 12, "BatchNormalization": 2, "Clip": 6, "Concat": 6, "Conv": 6, "ConvTranspose": 10,
    "Gemm": 8, "GlobalAveragePool": 2, "GlobalMaxPool": 2, "GroupNormalization": 2, "InstanceNormalization": 2,
    "LayerNormalization": 13, "MaxPool": 13, "Mul": 2, "PRelu": 1, "Pad": 3, "ReduceMax": 6,
    "ReduceMean": 6, "Relu": 1, "Resize": 6, "Softmax": 6, "Softsign": 2, "Split": 5, "Unsqueeze": 6,
}  # fmt: skip
"""How many of ONNX's own tests of an operator are read and agree, at least."""


def test_onnx_own_tests_of_operators(tmp_path):
    """None that is read gives other numbers; `python tests/onnx_nodes.py FILE` lists the rest with their reasons."""
    good, _, reasons = survey(tmp_path / "a.onnx", READ)
    wrong = [name for found in reasons.values() for name, why in found if "other numbers" in why or "do not fit" in why]
    assert wrong == []
    assert {kind: good[kind] for kind in READ if good[kind] < READ[kind]} == {}
    assert all(why for found in reasons.values() for _, why in found)


# Files that mean harm.


def refused(path, code="X413", **options):
    with pytest.raises(XcnnError, match=code) as caught:
        xcnn.load_onnx(path, **options)
    return str(caught.value)


@pytest.mark.parametrize("where", ["../secret.bin", "/etc/hostname", "link.bin", "a/../../secret.bin", "nul\0", ""])
def test_external_data_stay_in_the_folder(where, tmp_path):
    (tmp_path / "secret.bin").write_bytes(b"\0" * 16)
    folder = tmp_path / "model"
    folder.mkdir()
    os.symlink(tmp_path / "secret.bin", folder / "link.bin")
    tensor = TensorProto(name="k", data_type=1, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=where)
    path = file(folder / "a.onnx", [node("Add", ["x", "k"], ["y"])])
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer.append(tensor)
    path.write_bytes(model.SerializeToString())
    assert "outside of its folder" in refused(path)


def test_external_data_are_read(tmp_path):
    (tmp_path / "k.bin").write_bytes(b"ab" + np.float32([1, 2, 3]).tobytes() + b"c")
    tensor = TensorProto(name="k", data_type=1, dims=[3, 1, 1], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "k.bin"), ("offset", "2"), ("length", "12")):
        tensor.external_data.add(key=key, value=value)
    model = onnx.load(file(tmp_path / "a.onnx", [node("Add", ["x", "k"], ["y"])]))
    model.graph.initializer.append(tensor)
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    y = xcnn.load_onnx(tmp_path / "a.onnx", backend="numpy").predict(np.zeros((1, 3, 8, 8), "float32"))
    assert y[0, :, 0, 0].tolist() == [1, 2, 3]
    model.graph.initializer[0].external_data[2].value = "99"
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    assert "does not fit" in refused(tmp_path / "a.onnx")


def huge_constant(path):
    model = onnx.load(file(path, [node("Add", ["x", "k"], ["y"])]))
    model.graph.initializer.append(TensorProto(name="k", data_type=1, dims=[1 << 40, 1 << 40], raw_data=b"abcd"))
    path.write_bytes(model.SerializeToString())


def doubling(path):
    """Sixty times joined with itself."""
    nodes = [node("Concat", ["k" if n == 0 else f"k{n}"] * 2, [f"k{n + 1}"], axis=0) for n in range(60)]
    file(path, [*nodes, node("Reshape", ["x", "k60"], ["y"])], {"k": np.array([1, 2])})


HOSTILE = {
    "a huge constant": (huge_constant, "X413"),
    "a constant of shape": (
        lambda p: file(p, [node("ConstantOfShape", ["s"], ["k"]), node("Add", ["x", "k"], ["y"])],
                       {"s": np.array([1 << 20, 1 << 20])}), "X414"),
    "a shape expanded": (
        lambda p: file(p, [node("Expand", ["k", "s"], ["w"]), node("Mul", ["x", "w"], ["y"])],
                       {"k": np.float32([1]), "s": np.array([1 << 30, 8, 8])}), "X414"),
    "numbers without end": (
        lambda p: file(p, [node("Range", ["a", "b", "c"], ["k"]), node("Reshape", ["x", "k"], ["y"])],
                       {"a": np.array(0), "b": np.array(1 << 50), "c": np.array(1)}), "X414"),
    "doubling": (doubling, "X414"),
    "padding": (
        lambda p: file(p, [node("Pad", ["x", "k"], ["y"])], {"k": np.array([0, 0, 1 << 30, 0, 0, 0, 0, 1 << 30])}),
        "X415|X104|X414|X304"),
    "a formula over very many cells": (
        lambda p: file(p, [node("ReduceMean", ["x"], ["m"], axes=[2, 3]), node("Sub", ["x", "m"], ["c"]),
                           node("Mul", ["c", "c"], ["s"]), node("ReduceMean", ["s"], ["v"], axes=[2, 3]),
                           node("Add", ["v", "e"], ["a"]), node("Sqrt", ["a"], ["r"]), node("Div", ["c", "r"], ["y"])],
                       {"e": np.float32(1e-5)}, shape=("N", 3, 1 << 15, 1 << 15)), "X414"),
    "resizing": (
        lambda p: file(p, [node("Resize", ["x", "", "k"], ["y"])], {"k": np.float32([1, 1, 1 << 20, 1 << 20])}),
        "X415|X414"),
    "a deep chain": (
        lambda p: file(p, [node("Relu", ["x" if n == 0 else f"v{n}"], ["y" if n == 8999 else f"v{n + 1}"])
                           for n in range(9000)]), "X414"),
    "a tower of branches": (
        lambda p: file(p, [node("Add", ["x" if n == 0 else f"v{n}"] * 2, ["y" if n == 2999 else f"v{n + 1}"])
                           for n in range(3000)], shape=("N", 2)), ""),
    "branches back to the first": (
        lambda p: file(p, [node("Relu", ["x"], ["v0"])] + [
            node("Add", ["v0", f"v{n}"], ["y" if n == 2999 else f"v{n + 1}"]) for n in range(3000)],
            shape=("N", 2)), ""),
    "what nobody gives": (lambda p: file(p, [node("Relu", ["nothing"], ["y"])]), "X413"),
    "given twice": (lambda p: file(p, [node("Relu", ["x"], ["y"]), node("Tanh", ["x"], ["y"])]), "X413"),
    "no output": (lambda p: file(p, [node("Relu", ["x"], ["z"])]), "X413"),
    "a later opset": (lambda p: file(p, [node("Relu", ["x"], ["y"])], opset=999), "X413"),
    "nothing": (lambda p: p.write_bytes(b""), "X413"),
    "text": (lambda p: p.write_bytes(b"hello, this is text"), "X413"),
    "a folder": (lambda p: p.mkdir(), "Is a folder"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(name, tmp_path):
    make, code = HOSTILE[name]
    path = tmp_path / "a.onnx"
    make(path)
    if not code:
        assert xcnn.load_onnx(path, backend="numpy").output_shape == (2,)
        return
    with pytest.raises((XcnnError, OSError), match=code):
        xcnn.load_onnx(path, backend="numpy")


def test_mutated_files_are_told(tmp_path):
    """In a process of its own, whose memory is looked at: 64 MiB at most beyond what a whole file takes."""
    script = Path(__file__).parents[1] / "onnx_mutations.py"
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), os.environ.get("XCNN_TEST_DRAWS", "60")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
