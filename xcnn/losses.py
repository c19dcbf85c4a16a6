"""The losses, by short names: xcnn.losses.mse (training/losses.py)."""

from typing import TYPE_CHECKING

from xcnn.training.losses import *  # noqa: F403
from xcnn.training.losses import __all__ as __all__

if not TYPE_CHECKING:
    from xcnn.training.losses import __getattr__ as __getattr__
