"""The layers, one file each; layer.py is the protocol that all of them follow."""

from xcnn.layers.activations import ReLU, Sigmoid
from xcnn.layers.conv2d import Conv2D
from xcnn.layers.dense import Dense
from xcnn.layers.flatten import Flatten
from xcnn.layers.layer import Layer, Next, Run
from xcnn.layers.sequential import Sequential

__all__ = ["Conv2D", "Dense", "Flatten", "Layer", "Next", "ReLU", "Run", "Sequential", "Sigmoid"]
