"""Initial weights, by short names: xcnn.initializers.glorot_uniform (core/initializers.py)."""

from xcnn.core.initializers import *  # noqa: F403
from xcnn.core.initializers import __all__ as __all__
