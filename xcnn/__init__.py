"""xcnn: convolutional networks whose layers read like the mathematics they come from, on any array library."""

from xcnn import errors, initializers, layers
from xcnn.backends import (
    Backend,
    available_backends,
    backend,
    backend_of,
    convolve2d,
    correlate2d,
    get_backend,
    rot180,
    set_backend,
)
from xcnn.layers import *  # noqa: F403 - every layer is a public name

__version__ = "0.1.0"

__all__ = [
    "Backend",
    "available_backends",
    "backend",
    "backend_of",
    "convolve2d",
    "correlate2d",
    "errors",
    "get_backend",
    "initializers",
    "layers",
    "rot180",
    "set_backend",
    *layers.__all__,
]
