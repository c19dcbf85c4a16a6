"""Nets that are ready, by name: small ones with how each is trained (recipes.py), and a zoo of well-known ones."""

from xcnn.nets.recipes import RECIPES, Recipe, article, fast, lenet, mnist_net, residual_block, small_resnet
from xcnn.nets.resnet import resnet18, resnet34, resnet50

__all__ = [
    "RECIPES",
    "Recipe",
    "article",
    "fast",
    "lenet",
    "mnist_net",
    "residual_block",
    "resnet18",
    "resnet34",
    "resnet50",
    "small_resnet",
]
