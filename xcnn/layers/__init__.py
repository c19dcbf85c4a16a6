"""The layers, one file each; layer.py is the protocol that all of them follow."""

from xcnn.layers.activations import (
    ELU,
    SELU,
    ClippedReLU,
    HardSigmoid,
    HardSwish,
    LeakyReLU,
    Mish,
    ReLU,
    Sigmoid,
    SiLU,
    Softplus,
    Softsign,
    Tanh,
)
from xcnn.layers.add import Add
from xcnn.layers.average_pool2d import AveragePool2D
from xcnn.layers.batch_norm import BatchNorm
from xcnn.layers.concatenate import Concatenate
from xcnn.layers.conv1d import Conv1D
from xcnn.layers.conv2d import Conv2D
from xcnn.layers.conv2d_transpose import Conv2DTranspose
from xcnn.layers.dense import Dense
from xcnn.layers.depthwise_conv2d import DepthwiseConv2D
from xcnn.layers.dropout import Dropout, SpatialDropout2D, StochasticDepth
from xcnn.layers.flatten import Flatten
from xcnn.layers.gelu import GELU
from xcnn.layers.global_average_pool2d import GlobalAveragePool2D
from xcnn.layers.global_max_pool2d import GlobalMaxPool2D
from xcnn.layers.graph import Graph
from xcnn.layers.group_norm import GroupNorm
from xcnn.layers.half import computes_in_half as computes_in_half
from xcnn.layers.layer import Layer, Next, Run
from xcnn.layers.layer_norm import LayerNorm
from xcnn.layers.log_softmax import LogSoftmax
from xcnn.layers.max_pool2d import MaxPool2D
from xcnn.layers.multiply import Multiply
from xcnn.layers.prelu import PReLU
from xcnn.layers.reshape import Reshape
from xcnn.layers.residual import Residual
from xcnn.layers.scale import Scale
from xcnn.layers.sequential import Sequential
from xcnn.layers.softmax import Softmax
from xcnn.layers.upsampling2d import UpSampling2D
from xcnn.layers.zero_padding2d import ZeroPadding2D

__all__ = [
    "ELU",
    "GELU",
    "SELU",
    "Add",
    "AveragePool2D",
    "BatchNorm",
    "ClippedReLU",
    "Concatenate",
    "Conv1D",
    "Conv2D",
    "Conv2DTranspose",
    "Dense",
    "DepthwiseConv2D",
    "Dropout",
    "Flatten",
    "GlobalAveragePool2D",
    "GlobalMaxPool2D",
    "Graph",
    "GroupNorm",
    "HardSigmoid",
    "HardSwish",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "LogSoftmax",
    "MaxPool2D",
    "Mish",
    "Multiply",
    "Next",
    "PReLU",
    "ReLU",
    "Reshape",
    "Residual",
    "Run",
    "Scale",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Softsign",
    "SpatialDropout2D",
    "StochasticDepth",
    "Tanh",
    "UpSampling2D",
    "ZeroPadding2D",
]


def __getattr__(name: str) -> object:
    """Names of layers in Keras and PyTorch, and slips of the pen, are told what is meant."""
    from xcnn.core.options import close_name

    raise AttributeError(f"module 'xcnn.layers' has no attribute {name!r}{close_name(name, __all__)}", name=name)
