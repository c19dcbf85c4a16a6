"""Nets that are ready to be trained, by name, and how each is trained (recipes.py)."""

from xcnn.nets.recipes import *  # noqa: F403
from xcnn.nets.recipes import __all__ as __all__
