"""Learning rates that change with the step, by short names: xcnn.schedules.Cosine (training/schedules.py)."""

from typing import TYPE_CHECKING

from xcnn.training.schedules import *  # noqa: F403
from xcnn.training.schedules import __all__ as __all__

if not TYPE_CHECKING:
    from xcnn.training.schedules import __getattr__ as __getattr__
