"""The losses, by short names: xcnn.losses.mse (training/losses.py)."""

from xcnn.core.names import absent
from xcnn.training.losses import *  # noqa: F403
from xcnn.training.losses import __all__ as __all__

__getattr__ = absent(__name__, "loss", __all__)
