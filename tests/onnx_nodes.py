"""ONNX's own tests of single operators: which of them are read as layers, and agree.

`python tests/onnx_nodes.py FILE` prints a line for each operator, and the reasons for those that are not read.
"""

import pkgutil
import sys
from collections import Counter, defaultdict
from importlib import import_module
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

import xcnn
from xcnn.errors import XcnnError

OPERATORS = [
    "Abs",
    "Add",
    "AveragePool",
    "BatchNormalization",
    "Celu",
    "Clip",
    "Concat",
    "Conv",
    "ConvTranspose",
    "Div",
    "Dropout",
    "Elu",
    "Flatten",
    "Gather",
    "Gelu",
    "Gemm",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "GroupNormalization",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "InstanceNormalization",
    "LayerNormalization",
    "LeakyRelu",
    "LogSoftmax",
    "MatMul",
    "Max",
    "MaxPool",
    "Min",
    "Mish",
    "Mul",
    "Neg",
    "PRelu",
    "Pad",
    "Pow",
    "ReduceMax",
    "ReduceMean",
    "ReduceSum",
    "Relu",
    "Reshape",
    "Resize",
    "Selu",
    "Sigmoid",
    "Slice",
    "Softmax",
    "Softplus",
    "Softsign",
    "Split",
    "Squeeze",
    "Sub",
    "Sum",
    "Swish",
    "Tanh",
    "Transpose",
    "Unsqueeze",
]
"""Operators of convolutional nets."""


JOINING = ("Add", "Sub", "Mul", "Div", "Sum", "Concat", "Max", "Min")
"""Operators whose inputs are all values."""


def module_of(name):
    """What an operator and its module have in common: releases have batchnorm as well as batch_normalization."""
    return name.lower().replace("_", "").replace("normalization", "norm")


def cases(operators):
    """ONNX's tests of these operators alone: it makes them as its modules are imported."""
    home = import_module("onnx.backend.test.case.node")
    wanted = {module_of(kind) for kind in operators}
    for module in pkgutil.iter_modules(home.__path__):
        if module_of(module.name) in wanted:
            with np.errstate(all="ignore"):
                import_module(f"{home.__name__}.{module.name}")
    for case in home._NodeTestCases:
        nodes = case.model.graph.node
        if len(nodes) == 1 and nodes[0].op_type in operators and not nodes[0].domain:
            yield case


def single(case):
    """The model with one input, and that input's value: other inputs are constants.

    Of sums, products and what is joined the inputs are values: parts of one input, which a Split takes apart.
    """
    model, arrays = onnx.ModelProto(), [np.asarray(x) for x in case.data_sets[0][0]]
    model.CopyFrom(case.model)
    graph, opset = model.graph, model.opset_import[0]
    names = [info.name for info in graph.input]
    if graph.node[0].op_type in JOINING and len({x.shape for x in arrays}) == 1 and arrays[0].ndim > 1 < len(arrays):
        joined = np.concatenate(arrays, axis=1)
        graph.initializer.append(numpy_helper.from_array(np.full(len(arrays), arrays[0].shape[1]), "sizes"))
        graph.node.insert(0, helper.make_node("Split", ["joined", "sizes"], names, axis=1))
        info = helper.make_tensor_value_info("joined", graph.input[0].type.tensor_type.elem_type, joined.shape)
        del graph.input[:]
        graph.input.append(info)
        opset.version = max(opset.version, 13)
        return model, joined
    for name, constant in zip(names[1:], arrays[1:], strict=True):
        graph.initializer.append(numpy_helper.from_array(constant, name))
    del graph.input[1:]
    return model, arrays[0]


def tried(case, path):
    """None where the operator is read, and its first output agrees, else the reason."""
    model, x = single(case)
    if x.dtype not in (np.float32, np.float64):
        return f"its input is {x.dtype}"
    if x.ndim == 0:
        return "its input has no batch axis"
    path.write_bytes(model.SerializeToString())
    expected, name = case.data_sets[0][1][0], model.graph.output[0].name
    try:
        read = xcnn.load_onnx(path, output=name, backend="numpy", loss="mse", input_shape=x.shape[1:])
        given = x if x.shape[1:] == read.input_shape else np.moveaxis(x, -1, 1)
        y = read.predict(given.astype("float32"))
    except XcnnError as error:
        return (error.details or (error.summary,))[0] if error.code == "X414" else error.summary
    agrees = y.shape == np.shape(expected) and np.allclose(y, expected, rtol=1e-4, atol=1e-5)
    return None if agrees else "it gives other numbers"


def survey(path, operators=OPERATORS):
    """Of each operator how many are read and agree, how many there are, and the others with their reasons."""
    good, whole, reasons = Counter(), Counter(), defaultdict(list)
    for case in cases(operators):
        kind = case.model.graph.node[0].op_type
        whole[kind] += 1
        why = tried(case, path)
        good[kind] += why is None
        if why:
            reasons[kind].append((case.name, why))
    return good, whole, reasons


if __name__ == "__main__":
    good, whole, reasons = survey(Path(sys.argv[1]))
    for kind in sorted(whole):
        print(f"{kind:24}{good[kind]:4} of {whole[kind]}")
        for name, why in reasons[kind]:
            print(f"    {name}: {why[:200]}")
    print(f"{sum(good.values())} of {sum(whole.values())}")
