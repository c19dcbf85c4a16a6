"""Batch normalisation folded into the convolution or the product before it: one node fewer, one rounding fewer."""

from __future__ import annotations

from collections import Counter

import numpy as np

from xcnn.exchange.onnx.graph import Graph, Node

FILTERS = {"Conv": 0, "ConvTranspose": 1, "Gemm": 1}
"""Operators that it folds into, and the axis of their kernels that the filters are on."""


def fold_batch_norms(graph: Graph) -> None:
    """Fold each batch normalisation whose input nobody else takes: a (x * K + B) + b = x * (a K) + (a B + b)."""
    made = {node.output: node for node in graph.nodes}
    uses = Counter(name for node in graph.nodes for name in node.inputs)
    for norm in [node for node in graph.nodes if node.op == "BatchNormalization"]:
        before = made.get(norm.inputs[0])
        if before and before.op in FILTERS and all(uses[name] == 1 for name in (before.output, *before.inputs[1:])):
            fold(graph, before, norm)
            graph.nodes.remove(norm)


def fold(graph: Graph, before: Node, norm: Node) -> None:
    """Give a node the kernel and the bias of itself and of the normalisation behind it."""
    scale, shift, mean, variance = (graph.constants.pop(name).astype(np.float64) for name in norm.inputs[1:])
    slope = scale / np.sqrt(variance + norm.attributes["epsilon"])
    kernel_name, bias_name = before.inputs[1], (before.inputs[2:] or [f"{before.name}/bias"])[0]
    kernel = graph.constants[kernel_name].astype(np.float64)
    bias = graph.constants.get(bias_name, np.zeros(()))
    groups = before.attributes.get("group", 1) if before.op == "ConvTranspose" else 1
    axis = FILTERS[before.op] + 1
    grouped = kernel.reshape(groups, -1, *kernel.shape[1:])  # whose filters are those of each group in turn
    wide = [groups, *(1 for _ in kernel.shape)]
    wide[axis] = -1
    graph.constants[kernel_name] = (grouped * slope.reshape(wide)).reshape(kernel.shape).astype(np.float32)
    graph.constants[bias_name] = ((bias - mean) * slope + shift).astype(np.float32)
    before.inputs[2:], before.output = [bias_name], norm.output
