"""Operators with kernels: convolutions and products of matrices."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from xcnn.core.windows import extent
from xcnn.exchange.onnx.file import Op
from xcnn.exchange.onnx.flow import Args, Building, Flow, Inexpressible, Known, fixed, flow
from xcnn.exchange.onnx.operators.table import numbers, one, padding_of, reads, shortest
from xcnn.layers import Conv1D, Conv1DTranspose, Conv2D, Conv2DTranspose, Dense, DepthwiseConv2D


@reads("Conv")
def conv(op: Op, args: Args, net: Building) -> Flow:
    """A convolution along one or two axes; one with a group for each channel is depthwise."""
    x, kernel, bias = net.plain(flow(args)), fixed(args, 1), fixed(args, 2)
    rank = len(x.shape) - 1
    if rank not in (1, 2) or kernel.ndim != rank + 2:
        raise Inexpressible(f"it is a convolution along {rank} axes")
    sizes, groups = kernel.shape[2:], op.get("group", 1)
    stride, dilation = numbers(op, "strides", rank, 1), numbers(op, "dilations", rank, 1)
    pads = padding_of(op, x.shape[1:], sizes, stride, dilation)
    weights = {"kernel": kernel} | ({} if bias is None else {"bias": bias})
    filters, biased = kernel.shape[0], bias is not None
    how = {"stride": one(stride), "padding": shortest(pads), "dilation": one(dilation), "bias": biased}
    layer: Any
    if rank == 2 and groups == x.shape[0] > 1 and filters % groups == 0:
        layer = DepthwiseConv2D(one(sizes), depth_multiplier=filters // groups, **how)
    else:
        layer = (Conv1D if rank == 1 else Conv2D)(filters, one(sizes), groups=groups, **how)
    return net.add(op.name, layer, weights, x)


@reads("ConvTranspose")
def conv_transpose(op: Op, args: Args, net: Building) -> Flow:
    """A transposed convolution along one or two axes."""
    x, kernel, bias = net.plain(flow(args)), fixed(args, 1), fixed(args, 2)
    rank = len(x.shape) - 1
    if rank not in (1, 2) or kernel.ndim != rank + 2:
        raise Inexpressible(f"it is a transposed convolution along {rank} axes")
    sizes, groups = kernel.shape[2:], op.get("group", 1)
    stride, dilation = numbers(op, "strides", rank, 1), numbers(op, "dilations", rank, 1)
    extra = reached(op, x.shape[1:], sizes, stride, dilation, numbers(op, "output_padding", rank, 0))
    pads = taken_away(op, x.shape[1:], sizes, stride, dilation, extra)
    layer = (Conv1DTranspose if rank == 1 else Conv2DTranspose)(
        kernel.shape[1] * groups, one(sizes), stride=one(stride), padding=shortest(pads), output_padding=one(extra),
        dilation=one(dilation), groups=groups, bias=bias is not None,
    )  # fmt: skip
    return net.add(op.name, layer, {"kernel": kernel} | ({} if bias is None else {"bias": bias}), x)


def reached(op: Op, sizes: Any, kernel: Any, stride: Any, dilation: Any, extra: Any) -> Any:
    """Cells more that a transposed convolution gives, where `output_shape` asks for more than its windows reach."""
    if not op.get("output_shape"):
        return extra
    ends = op.get("output_shape")[-len(sizes) :]
    reach = [(n - 1) * s + extent(k, d) for n, k, s, d in zip(sizes, kernel, stride, dilation, strict=True)]
    return [max(e, m - r) for e, m, r in zip(extra, ends, reach, strict=True)]


def taken_away(op: Op, sizes: Any, kernel: Any, stride: Any, dilation: Any, extra: Any) -> Any:
    """What a transposed convolution takes away before and after, from `pads`, `output_shape` or `auto_pad`."""
    mode, asked = op.get("auto_pad", "NOTSET"), op.get("output_shape")
    if mode.startswith("SAME") and not asked:
        asked = [n * s for n, s in zip(sizes, stride, strict=True)]
    if not asked:
        return padding_of(op, sizes, kernel, stride, dilation)
    found = []
    for n, k, s, d, e, m in zip(sizes, kernel, stride, dilation, extra, asked[-len(sizes) :], strict=True):
        whole = (n - 1) * s + e + extent(k, d) - m
        whole = max(whole, 0)
        less, more = whole // 2, whole - whole // 2
        found.append((less, more) if mode == "SAME_UPPER" else (more, less))
    return found


@reads("Gemm")
def gemm(op: Op, args: Args, net: Building) -> Flow:
    """A dense layer, its kernel and bias multiplied by alpha and beta."""
    kernel, bias = fixed(args, 1), fixed(args, 2)
    if op.get("transA", 0):
        raise Inexpressible("it transposes the batch")
    if len(flow(args).shape) != 1:
        raise Inexpressible(f"it takes samples of shape {flow(args).shape}, no features")
    if op.get("transB", 0):
        kernel = kernel.T
    if op.get("alpha", 1.0) != 1:
        kernel = kernel * np.float32(op.get("alpha"))
    if bias is not None:
        if bias.size not in (1, kernel.shape[-1]) or bias.ndim > 2 or (bias.ndim == 2 and len(bias) != 1):
            raise Inexpressible(f"it adds an array of shape {bias.shape}")
        bias = np.broadcast_to(np.ravel(bias), kernel.shape[-1:]) * np.float32(op.get("beta", 1.0))
    return dense(op, flow(args), kernel, bias, net)


@reads("MatMul")
def matmul(op: Op, args: Args, net: Building) -> Flow:
    """A dense layer of features; a matrix on the left goes along the last axis but one."""
    if isinstance(args[0], Known) and len(flow(args, 1).shape) > 1:
        x = flow(args, 1)
        swapped = [*range(len(x.shape) - 2), len(x.shape) - 1, len(x.shape) - 2]
        y = dense(op, net.turned(x, swapped, op.name), fixed(args, 0).T, None, net)
        return net.turned(y, swapped, op.name)
    return dense(op, flow(args), fixed(args, 1), None, net)


def dense(op: Op, x: Flow, kernel: Any, bias: Any, net: Building) -> Flow:
    """A product with a matrix, whose rows go into the order in which the features are held.

    Along the last of several axes it is a convolution of single cells, whose channels these are.
    """
    if kernel.ndim != 2 or not 1 <= len(x.shape) <= 3 or x.shape[-1] != kernel.shape[0]:
        raise Inexpressible(f"it multiplies samples of shape {x.shape} by an array of shape {kernel.shape}")
    biased, extra = bias is not None, {} if bias is None else {"bias": bias}
    if len(x.shape) > 1:
        last = len(x.shape) - 1
        turned = net.plain(net.turned(x, [last, *range(last)], op.name))
        cells = kernel.T.reshape(*kernel.T.shape, *(1 for _ in range(last)))
        layer: Any = (Conv1D if last == 1 else Conv2D)(kernel.shape[1], 1, bias=biased)
        return net.turned(
            net.add(op.name, layer, {"kernel": cells, **extra}, turned), [*range(1, last + 1), 0], op.name
        )
    if x.order is not None:
        places = np.arange(prod(x.held)).reshape(x.held).transpose(x.order).ravel()
        kernel = kernel[np.argsort(places)]
        x = replace(x, order=None)
    return net.add(op.name, Dense(kernel.shape[1], bias=biased), {"kernel": kernel, **extra}, net.plain(x))
