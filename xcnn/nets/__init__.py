"""Nets that are ready, by name: small ones with how each is trained (recipes.py), trained ones, and a zoo."""

from xcnn.nets.convnext import convnext_tiny
from xcnn.nets.efficientnet import efficientnet_b0
from xcnn.nets.mobilenet import mobilenet_v2
from xcnn.nets.pretrained import TRAINED, load_backbone, pretrained
from xcnn.nets.recipes import (
    RECIPES,
    Recipe,
    article,
    fashion,
    fast,
    lenet,
    mnist_net,
    photos,
    residual_block,
    small_resnet,
)
from xcnn.nets.resnet import resnet18, resnet34, resnet50
from xcnn.nets.unet import unet
from xcnn.nets.vgg import vgg11, vgg11_bn, vgg16, vgg16_bn

__all__ = [
    "RECIPES",
    "TRAINED",
    "Recipe",
    "article",
    "convnext_tiny",
    "efficientnet_b0",
    "fashion",
    "fast",
    "lenet",
    "load_backbone",
    "mnist_net",
    "mobilenet_v2",
    "photos",
    "pretrained",
    "residual_block",
    "resnet18",
    "resnet34",
    "resnet50",
    "small_resnet",
    "unet",
    "vgg11",
    "vgg11_bn",
    "vgg16",
    "vgg16_bn",
]
