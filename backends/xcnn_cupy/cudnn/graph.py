"""A question as cuDNN's operation graph: a convolution, and behind the forward one a bias and an activation.

cuDNN calls what is here `x`, `kernel`, `y` always so, also where they are gradients: the map tells which one is
computed.
"""

from __future__ import annotations

from xcnn_cupy.cudnn.constants import (
    Attribute,
    AttributeType,
    ConvolutionMode,
    DataType,
    DescriptorType,
    NanPropagation,
    PointwiseMode,
)
from xcnn_cupy.cudnn.descriptors import Descriptor
from xcnn_cupy.cudnn.handles import Handle
from xcnn_cupy.cudnn.library import Library
from xcnn_cupy.cudnn.question import Layout, Question

UIDS = {"x": 1, "kernel": 2, "y": 3, "bias": 4}
"""The numbers by which a graph knows the arrays that it is given."""
BETWEEN = (5, 6)
"""Those of what is between two operations and never in memory."""

DATA_TYPES = {
    "float32": DataType.FLOAT,
    "float64": DataType.DOUBLE,
    "float16": DataType.HALF,
    "bfloat16": DataType.BFLOAT16,
}
ACTIVATIONS = {"relu": PointwiseMode.RELU_FWD}
"""What is asked of cuDNN: sigmoid and tanh come from engines that it compiles at run time, 20 to 240 ms each."""
OPERATIONS = {
    "forward": (
        DescriptorType.OPERATION_CONVOLUTION_FORWARD,
        Attribute.OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
        Attribute.OPERATION_CONVOLUTION_FORWARD_X,
        Attribute.OPERATION_CONVOLUTION_FORWARD_W,
        Attribute.OPERATION_CONVOLUTION_FORWARD_Y,
        Attribute.OPERATION_CONVOLUTION_FORWARD_ALPHA,
        Attribute.OPERATION_CONVOLUTION_FORWARD_BETA,
    ),
    "input": (
        DescriptorType.OPERATION_CONVOLUTION_BACKWARD_DATA,
        Attribute.OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
        Attribute.OPERATION_CONVOLUTION_BWD_DATA_DX,
        Attribute.OPERATION_CONVOLUTION_BWD_DATA_W,
        Attribute.OPERATION_CONVOLUTION_BWD_DATA_DY,
        Attribute.OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
        Attribute.OPERATION_CONVOLUTION_BWD_DATA_BETA,
    ),
    "kernel": (
        DescriptorType.OPERATION_CONVOLUTION_BACKWARD_FILTER,
        Attribute.OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
        Attribute.OPERATION_CONVOLUTION_BWD_FILTER_X,
        Attribute.OPERATION_CONVOLUTION_BWD_FILTER_DW,
        Attribute.OPERATION_CONVOLUTION_BWD_FILTER_DY,
        Attribute.OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
        Attribute.OPERATION_CONVOLUTION_BWD_FILTER_BETA,
    ),
}
"""For each map: its operation, and the attributes for the convolution, x, kernel, y and the two factors."""


def graph_of(library: Library, question: Question, handle: Handle | None = None) -> Descriptor:
    """The operation graph of a question, for the device of a handle, or for any."""
    graph = Descriptor(library, DescriptorType.OPERATIONGRAPH)
    operations = operations_of(library, question)
    graph.set(Attribute.OPERATIONGRAPH_OPS, AttributeType.BACKEND_DESCRIPTOR, operations)
    if handle is not None:
        graph.set(Attribute.OPERATIONGRAPH_HANDLE, AttributeType.HANDLE, [handle])
    return graph.finalize()


def operations_of(library: Library, question: Question) -> list[Descriptor]:
    """The convolution, then what the forward map goes on with. The last one writes y, the others to nowhere."""
    given = {"x": question.x, "kernel": question.kernel}
    tensors = {name: tensor(library, UIDS[name], layout, question) for name, layout in given.items()}
    y = tensor(library, UIDS["y"], question.y, question)
    modes = [PointwiseMode.ADD] if question.bias else []
    modes += [ACTIVATIONS[question.activation]] if question.activation else []
    results = [*(between(library, uid, question) for uid in BETWEEN[: len(modes)]), y]
    operations = [convolution(library, question, tensors["x"], tensors["kernel"], results[0])]
    for mode, before, after in zip(modes, results, results[1:], strict=False):
        operations.append(pointwise(library, question, mode, before, after))
    return operations


def tensor(library: Library, uid: int, layout: Layout, question: Question) -> Descriptor:
    """An array in memory."""
    described = Descriptor(library, DescriptorType.TENSOR)
    described.set(Attribute.TENSOR_UNIQUE_ID, AttributeType.INT64, [uid])
    described.set(Attribute.TENSOR_DATA_TYPE, AttributeType.DATA_TYPE, [DATA_TYPES[question.dtype]])
    described.set(Attribute.TENSOR_BYTE_ALIGNMENT, AttributeType.INT64, [question.alignment])
    described.set(Attribute.TENSOR_DIMENSIONS, AttributeType.INT64, layout.shape)
    described.set(Attribute.TENSOR_STRIDES, AttributeType.INT64, layout.strides)
    return described.finalize()


def between(library: Library, uid: int, question: Question) -> Descriptor:
    """What one operation hands to the next: shaped like y, in the type that sums have."""
    described = Descriptor(library, DescriptorType.TENSOR)
    described.set(Attribute.TENSOR_UNIQUE_ID, AttributeType.INT64, [uid])
    described.set(Attribute.TENSOR_IS_VIRTUAL, AttributeType.BOOLEAN, [True])
    described.set(Attribute.TENSOR_DATA_TYPE, AttributeType.DATA_TYPE, [compute_type(question)])
    described.set(Attribute.TENSOR_BYTE_ALIGNMENT, AttributeType.INT64, [question.alignment])
    described.set(Attribute.TENSOR_DIMENSIONS, AttributeType.INT64, question.y.shape)
    described.set(Attribute.TENSOR_STRIDES, AttributeType.INT64, question.y.strides)
    return described.finalize()


def compute_type(question: Question) -> DataType:
    """What products are summed in: float64 in itself, all others in float32."""
    return DataType.DOUBLE if question.dtype == "float64" else DataType.FLOAT


def convolution(library: Library, question: Question, x: Descriptor, kernel: Descriptor, y: Descriptor) -> Descriptor:
    """One of the three maps: 1 times the result, and 0 times what was there before."""
    kind, conv_desc, x_desc, kernel_desc, y_desc, alpha, beta = OPERATIONS[question.map]
    factor = AttributeType.DOUBLE if question.dtype == "float64" else AttributeType.FLOAT
    operation = Descriptor(library, kind)
    operation.set(conv_desc, AttributeType.BACKEND_DESCRIPTOR, [window(library, question)])
    operation.set(x_desc, AttributeType.BACKEND_DESCRIPTOR, [x])
    operation.set(kernel_desc, AttributeType.BACKEND_DESCRIPTOR, [kernel])
    operation.set(y_desc, AttributeType.BACKEND_DESCRIPTOR, [y])
    operation.set(alpha, factor, [1.0])
    operation.set(beta, factor, [0.0])
    return operation.finalize()


def window(library: Library, question: Question) -> Descriptor:
    """How the kernel is moved over the image."""
    (top, bottom), (left, right) = question.padding
    described = Descriptor(library, DescriptorType.CONVOLUTION)
    described.set(Attribute.CONVOLUTION_SPATIAL_DIMS, AttributeType.INT64, [2])
    described.set(Attribute.CONVOLUTION_COMP_TYPE, AttributeType.DATA_TYPE, [compute_type(question)])
    described.set(Attribute.CONVOLUTION_CONV_MODE, AttributeType.CONVOLUTION_MODE, [ConvolutionMode.CROSS_CORRELATION])
    described.set(Attribute.CONVOLUTION_PRE_PADDINGS, AttributeType.INT64, [top, left])
    described.set(Attribute.CONVOLUTION_POST_PADDINGS, AttributeType.INT64, [bottom, right])
    described.set(Attribute.CONVOLUTION_FILTER_STRIDES, AttributeType.INT64, question.stride)
    described.set(Attribute.CONVOLUTION_DILATIONS, AttributeType.INT64, question.dilation)
    return described.finalize()


def pointwise(
    library: Library, question: Question, mode: PointwiseMode, before: Descriptor, after: Descriptor
) -> Descriptor:
    """The bias, or an activation."""
    how = Descriptor(library, DescriptorType.POINTWISE)
    how.set(Attribute.POINTWISE_MODE, AttributeType.POINTWISE_MODE, [mode])
    how.set(Attribute.POINTWISE_MATH_PREC, AttributeType.DATA_TYPE, [compute_type(question)])
    if mode == PointwiseMode.RELU_FWD:  # NaN is to stay NaN: a 0 would hide what diverged
        how.set(Attribute.POINTWISE_NAN_PROPAGATION, AttributeType.NAN_PROPOGATION, [NanPropagation.PROPAGATE_NAN])
    operation = Descriptor(library, DescriptorType.OPERATION_POINTWISE)
    operation.set(Attribute.OPERATION_POINTWISE_PW_DESCRIPTOR, AttributeType.BACKEND_DESCRIPTOR, [how.finalize()])
    operation.set(Attribute.OPERATION_POINTWISE_XDESC, AttributeType.BACKEND_DESCRIPTOR, [before])
    if mode == PointwiseMode.ADD:
        filters = question.y.shape[1]
        each = Layout((1, filters, 1, 1), (filters, 1, filters, filters))
        bias = tensor(library, UIDS["bias"], each, question)
        operation.set(Attribute.OPERATION_POINTWISE_BDESC, AttributeType.BACKEND_DESCRIPTOR, [bias])
    operation.set(Attribute.OPERATION_POINTWISE_YDESC, AttributeType.BACKEND_DESCRIPTOR, [after])
    return operation.finalize()
