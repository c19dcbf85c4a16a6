"""The optimizers, by short names: xcnn.optimizers.Adam (training/optimizers.py)."""

from typing import TYPE_CHECKING

from xcnn.training.optimizers import *  # noqa: F403
from xcnn.training.optimizers import __all__ as __all__

if not TYPE_CHECKING:
    from xcnn.training.optimizers import __getattr__ as __getattr__
