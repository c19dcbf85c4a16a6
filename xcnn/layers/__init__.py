"""The layers, one file each; layer.py is the protocol that all of them follow."""

from typing import TYPE_CHECKING

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
from xcnn.layers.adaptive_average_pool2d import AdaptiveAveragePool2D
from xcnn.layers.add import Add
from xcnn.layers.average_pool2d import AveragePool2D
from xcnn.layers.batch_norm import BatchNorm
from xcnn.layers.concatenate import Concatenate
from xcnn.layers.conv1d import Conv1D
from xcnn.layers.conv1d_transpose import Conv1DTranspose
from xcnn.layers.conv2d import Conv2D
from xcnn.layers.conv2d_transpose import Conv2DTranspose
from xcnn.layers.cropping2d import Cropping2D
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
from xcnn.layers.instance_norm import InstanceNorm
from xcnn.layers.layer import Layer, Next, Run
from xcnn.layers.layer_norm import LayerNorm
from xcnn.layers.local_response_norm import LocalResponseNorm
from xcnn.layers.log_softmax import LogSoftmax
from xcnn.layers.max_pool2d import MaxPool2D
from xcnn.layers.multiply import Multiply
from xcnn.layers.padding2d import Padding2D
from xcnn.layers.permute import Permute
from xcnn.layers.pixel_shuffle import PixelShuffle
from xcnn.layers.pooling1d import AveragePool1D, GlobalAveragePool1D, GlobalMaxPool1D, MaxPool1D
from xcnn.layers.prelu import PReLU
from xcnn.layers.resampling1d import Cropping1D, Padding1D, UpSampling1D, ZeroPadding1D
from xcnn.layers.reshape import Reshape
from xcnn.layers.residual import Residual
from xcnn.layers.resize import Resize
from xcnn.layers.scale import Scale
from xcnn.layers.sequential import Sequential
from xcnn.layers.slice import Slice
from xcnn.layers.softmax import Softmax
from xcnn.layers.standardized_conv2d import StandardizedConv2D
from xcnn.layers.upsampling2d import UpSampling2D
from xcnn.layers.zero_padding2d import ZeroPadding2D

__all__ = [
    "ELU",
    "GELU",
    "SELU",
    "AdaptiveAveragePool2D",
    "Add",
    "AveragePool1D",
    "AveragePool2D",
    "BatchNorm",
    "ClippedReLU",
    "Concatenate",
    "Conv1D",
    "Conv1DTranspose",
    "Conv2D",
    "Conv2DTranspose",
    "Cropping1D",
    "Cropping2D",
    "Dense",
    "DepthwiseConv2D",
    "Dropout",
    "Flatten",
    "GlobalAveragePool1D",
    "GlobalAveragePool2D",
    "GlobalMaxPool1D",
    "GlobalMaxPool2D",
    "Graph",
    "GroupNorm",
    "HardSigmoid",
    "HardSwish",
    "InstanceNorm",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "LocalResponseNorm",
    "LogSoftmax",
    "MaxPool1D",
    "MaxPool2D",
    "Mish",
    "Multiply",
    "Next",
    "PReLU",
    "Padding1D",
    "Padding2D",
    "Permute",
    "PixelShuffle",
    "ReLU",
    "Reshape",
    "Residual",
    "Resize",
    "Run",
    "Scale",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Slice",
    "Softmax",
    "Softplus",
    "Softsign",
    "SpatialDropout2D",
    "StandardizedConv2D",
    "StochasticDepth",
    "Tanh",
    "UpSampling1D",
    "UpSampling2D",
    "ZeroPadding1D",
    "ZeroPadding2D",
]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Names of layers in Keras and PyTorch, and slips of the pen, are told what is meant."""
        from xcnn.core.options import close_name
        from xcnn.errors import NoAttribute

        raise NoAttribute(f"module 'xcnn.layers' has no attribute {name!r}{close_name(name, __all__)}", name=name)
