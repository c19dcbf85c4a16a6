"""The optimizers, by short names: xcnn.optimizers.Adam (training/optimizers.py)."""

from xcnn.core.names import absent
from xcnn.training.optimizers import *  # noqa: F403
from xcnn.training.optimizers import __all__ as __all__

__getattr__ = absent(__name__, "optimizer", __all__)
